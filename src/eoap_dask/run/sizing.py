"""Blocks, strips and reads that suit a cluster, and what a plan is estimated to take."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from eoap_dask.cluster.size import Size
from eoap_dask.geo.crs import crs_name, project_bounds
from eoap_dask.geo.window import TILE, Window
from eoap_dask.readers import tiles as tile_reader
from eoap_dask.readers.limits import READS
from eoap_dask.render import reading as stack
from eoap_dask.render.recipe import Recipe
from eoap_dask.render.resample import data_level, mask_level, pixel_size_in
from eoap_dask.render.stack import pixel_side
from eoap_dask.scenes.model import Source, source_bounds

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.run.options import RunOptions

MAX_BUDGET = 1024 << 20
"""Twenty-nine passes of three bands over a whole block; more than that goes in strips."""
EAGER_READS = 24
"""Files that a worker reads at once where blocks are small."""
EAGER_PX = 1024**2
"""Pixels of a block up to which waiting for a file may take longer than decoding what is needed of it."""
EAGER_READS_OF_ALL = 192
"""Files that all workers read at once, if that is more than `READS` of each: servers have limits."""
# finished blocks wait in the workers' memory, and on a Gateway all pass through the scheduler
IN_FLIGHT_BYTES = 1 << 30
"""Bytes of pixels of the blocks that are under way at once."""
PROCESS_BYTES = 220 << 20
"""Memory of a worker process with its libraries, before any pixels."""

FEWEST_BYTES = 32 << 20
"""Memory of a slot, at least, for planning."""

_USABLE = 0.7
"""Share of a worker's memory limit that is planned with: Dask pauses a worker at 80 %."""

COMPRESSED = 0.6
"""Bytes of a Sentinel-2 tile in DEFLATE with predictor against its pixels; only for the estimate."""

_OVERVIEWS = 4 / 3
"""Pixels of an image with all its overviews against those of its full level."""


def choose_sizes(recipe: Recipe, units: int, size: Size) -> tuple[int, int]:
    """Return the side of a block in pixels, and the bytes that the strips of a task may take.

    Blocks shrink when slots would stay without work, outputs would fill a third of a slot, or all slots' blocks would
    pass `IN_FLIGHT_BYTES`. Strips get the rest of the slot, at most `MAX_BUDGET`.
    """
    height, width = recipe.extent
    slot = max(_slot_bytes(size, recipe), FEWEST_BYTES)
    block = recipe.largest
    while block > TILE and (
        units * -(-height // block) * -(-width // block) < size.slots
        or recipe.image_bytes(block**2) > slot // 3
        or recipe.block_bytes(block) * size.slots > IN_FLIGHT_BYTES
    ):
        block //= 2
    return block, max(min(slot - recipe.image_bytes(block**2), MAX_BUDGET), 16 << 20)


def choose_reads(recipe: Recipe, units: int, size: Size, passes: int, options: RunOptions) -> int:
    """Return how many files a worker reads at once: `READS`, up to `EAGER_READS` where blocks are small.

    Small is at most `EAGER_PX`, if a block with so many reads still fits its slot whole.
    """
    reads = min(EAGER_READS, EAGER_READS_OF_ALL // max(size.workers, options.workers or 1))
    eager = with_reads(recipe, reads)
    if reads <= READS or _slot_bytes(size, eager) < FEWEST_BYTES:
        return READS
    block, budget = choose_sizes(eager, units, size)
    height, width = recipe.extent
    if recipe.cutouts is None:
        height, width = (min(n, options.block or block) for n in recipe.extent)
    # more reads aren't to be what makes blocks small
    is_small = height * width <= EAGER_PX and block == choose_sizes(with_reads(recipe, READS), units, size)[0]
    needed = height * eager.strip_bytes_per_row(Window(0, height, 0, width), passes)
    return reads if is_small and needed <= min(options.budget or budget, budget) else READS


def with_reads(recipe: Recipe, reads: int) -> Recipe:
    """Return the recipe with so many files read at once."""
    return replace(recipe, stack=replace(recipe.stack, reads=reads))


def _slot_bytes(size: Size, recipe: Recipe) -> int:
    """Return the memory that a slot has for its block; negative for a very small worker."""
    shared = shared_bytes(recipe.stack.reads) + recipe.science.worker_bytes
    slot = (int(size.memory_per_worker * _USABLE) - shared) // size.threads_per_worker
    return slot - recipe.science.task_bytes


def shared_bytes(reads: int) -> int:
    """Return the memory that a worker takes however many threads it has: its process, and what readers share."""
    return PROCESS_BYTES + tile_reader.memory_bytes(reads) + stack.memory_bytes(reads)


def may_send(running: int, running_bytes: int, task_bytes: int, slots: int) -> bool:
    """Tell whether one more task may be under way: two per slot as far as `IN_FLIGHT_BYTES` allow, at least one.

    More than `IN_FLIGHT_BYTES` only if the smallest blocks are too large, the caller chose them, or the cluster grew.
    """
    # one for each slot in any case: a slot without work saves nothing, and `choose_sizes` sees to their size
    return running < max(slots, 1) or (running < 2 * slots and running_bytes + task_bytes <= IN_FLIGHT_BYTES)


def needed_bytes(source: Source, geobox: GeoBox, bounds: tuple[float, float, float, float], itemsize: int) -> int:
    """Return the bytes of a source's pixels that some bounds of a grid need, before compression."""
    projected = project_bounds(bounds, crs_name(geobox), source.crs)
    if projected is None:
        return 0
    left, bottom, right, top = source_bounds(source)
    across = min(projected[2], right) - max(projected[0], left)
    down = min(projected[3], top) - max(projected[1], bottom)
    if across <= 0 or down <= 0:
        return 0
    side = pixel_side(source)
    sizes = tuple(side * 2**i for i in range(5))
    pixel = pixel_size_in(geobox, source.crs)
    level = data_level(pixel, sizes) if itemsize == 2 else mask_level(pixel, sizes)
    return int(across * down / sizes[level] ** 2) * itemsize


def image_bytes_of(recipe: Recipe) -> int:
    """Return the estimated bytes of a unit's files.

    Nothing outside the area's shape takes any; pixels finer than the source's repeat themselves and compress away.
    """
    stack = recipe.stack
    pixels: float = sum(window.shape[0] * window.shape[1] for window in recipe.windows())
    a, _, _, _, e, _ = (float(v) for v in tuple(stack.geobox.transform)[:6])
    if stack.clip is not None:
        pixels = min(pixels, stack.clip.area / abs(a * e))
    bands = stack.passes[0].scenes[0].bands if stack.passes else ()
    finer = [min(pixel_size_in(stack.geobox, s.crs) / pixel_side(s), 1.0) for s in bands]
    pixels *= sum(finer) / len(finer) if finer else 1.0
    return int(pixels * sum(spec.pixel_bytes for spec in recipe.images) * _OVERVIEWS * COMPRESSED)
