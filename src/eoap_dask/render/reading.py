"""Reading a window of the grid: scenes become layers of stored pixels, one per pass.

A few threads read files ahead of the one that places pixels, so that waiting for the network and working overlap; how
much is in flight is limited.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack, closing
from functools import cache
from itertools import chain
from typing import TYPE_CHECKING, Any, NamedTuple, Self

import numpy as np
import numpy.typing as npt

from eoap_dask.errors import AssetError, ContradictionError
from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import Transform, Window, window_bounds
from eoap_dask.kernels.mask import NODATA, dropped_nearest, dropped_share
from eoap_dask.kernels.pixels import fill_layer, to_stored
from eoap_dask.readers.faults import contradiction
from eoap_dask.readers.limits import READS
from eoap_dask.render.buffers import Buffer, Buffers
from eoap_dask.render.resample import IndexMap, data_level, index_map, mask_level, needed_of
from eoap_dask.render.stack import _MAP_SIDE, Stack, pixel_side
from eoap_dask.scenes.model import Scene, Source, footprint_touches

if TYPE_CHECKING:
    from eoap_dask.readers.reader import Raster, Reader


PIECE_BYTES = 4 << 20
"""Source pixels that a read may have at least. A read that needs more than that, and more than `_READ_BYTES` per output
pixel, is done in pieces: a file without overviews may need a hundred pixels for one of the output.
"""

KEPT_BYTES = 64 << 20
"""Buffers that are kept for the next read, per process."""


MAP_BYTES = 9
"""Bytes of an index map per point: a position (intp), and whether it is outside."""

_READ_BYTES = 3
"""Source bytes per output pixel that a read is budgeted with: uint16, and the corners of a tilted window."""
_buffers = Buffers(KEPT_BYTES)

_WAITING = 2
"""Bands of scenes that are queued behind those that are being read."""

_POINTS = 1 << 19
"""Points whose classes are looked up together: they and their flags fit the processor's cache."""


class _Job(NamedTuple):
    """A raster to be read."""

    scene: Scene
    source: Source
    is_mask: bool
    layer: npt.NDArray[np.uint16] | None
    """Where its pixels end up for certain, so that they are read straight into it; else None."""


class _Read(NamedTuple):
    """Pixels of a raster, each in its place in the strip."""

    pixels: npt.NDArray[Any]
    """(y, x): stored pixels, uint16; for a mask flags, True where dropped."""
    buffer: Buffer | None
    """To be given back; None for a mask, and for pixels that are in their layer already."""


class StackReader:
    """Reads strips of a window (the block); files stay open from strip to strip. A context manager.

    With `is_shared`, more windows than the grid's need the same tiles, such as those of chips of cells beside it.
    """

    def __init__(self, stack: Stack, window: Window, *, is_shared: bool = False) -> None:
        self.stack, self._is_shared = stack, is_shared
        self.passes = stack.touching(window)
        self.levels: dict[str, set[float]] = {"data": set(), "mask": set()}
        self._rasters: dict[tuple[str, str, int], Raster] = {}
        self._maps: dict[tuple[object, ...], IndexMap | None] = {}
        self._rests: dict[tuple[object, ...], Window | None] = {}
        self._lock = threading.Lock()
        self._exit = ExitStack()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def read(self, strip: Window, layers: npt.NDArray[np.uint16], dropped: npt.NDArray[np.bool_] | None = None) -> None:
        """Fill `layers`, (band, pass, y, x), uint16, 0 = no data: a layer per entry of `passes`; may raise AssetError.

        `dropped`, (pass, y, x), becomes True where the scene class says that the ground isn't seen; without it such
        pixels become 0.
        """
        self._maps.clear()
        outside = rasterize_window(self.stack.clip, self.stack.geobox, strip)
        outside = None if outside is None else ~outside
        own = np.empty(strip.shape, bool)
        reads = self._reads(strip, layers)
        try:
            for layer, (_, scenes) in enumerate(self.passes):
                view = layers[:, layer]
                bad = own if dropped is None else dropped[layer]
                untouched = True
                for scene in scenes:
                    bands = [next(reads) for _ in scene.bands]
                    scene_bad = None
                    if self._mask(scene):
                        unseen = next(reads)
                        # without classes no pixel counts as clear
                        scene_bad = np.ones(strip.shape, bool) if unseen is None else unseen.pixels
                    found = [band for band in bands if band is not None]
                    if len(found) == len(bands):
                        fill_layer(view, bad, [band.pixels for band in found], scene_bad, untouched)
                        untouched = False
                    for band in found:
                        _buffers.give(band.buffer)
                if untouched:
                    view[...] = 0
                    bad[...] = False
                if outside is not None:
                    view[:, outside] = 0
                if dropped is None and bad.any():
                    np.multiply(view, ~bad, out=view)
        finally:
            reads.close()

    def _mask(self, scene: Scene) -> Source | None:
        """Return a scene's classes, if a mask applies."""
        return None if self.stack.dropped_classes is None else scene.mask

    def _dropped(
        self, mask: Source, found: IndexMap, pixels: npt.NDArray[np.generic], shape: tuple[int, int]
    ) -> npt.NDArray[np.bool_]:
        """Flag the dropped pixels of a window."""
        table = self.stack.class_table
        if not self.stack.coarse(mask):
            classes = np.empty(shape, np.uint8)
            found.gather(pixels, classes)
            return dropped_nearest(classes, table)
        n = found.shape[0] // shape[0]
        bad = np.ones(shape, bool)  # without classes no pixel counts as clear
        left, right = found.inside.col // n, -(-found.inside.col_stop // n)
        stop = -(-found.inside.row_stop // n)
        step = max(_POINTS // (n * n * (right - left)), 1)  # some rows at a time: points are many
        for row in range(found.inside.row // n, stop, step):
            part = Window(row, min(row + step, stop), left, right)
            points = Window(part.row * n, part.row_stop * n, part.col * n, part.col_stop * n)
            classes = np.empty(points.shape, np.uint8)
            found.gather(pixels, classes, points)
            bad[part.row : part.row_stop, left:right] = dropped_share(classes, table, n)
        return bad

    def _reads(self, strip: Window, layers: npt.NDArray[np.uint16]) -> Generator[_Read | None]:
        """Yield the read rasters in the order of scenes and their bands, reading ahead."""
        jobs: list[_Job] = []
        for number, (_, scenes) in enumerate(self.passes):
            for scene in scenes:
                for band, source in enumerate(scene.bands):
                    # the first scene of a pass finds its layer untouched
                    layer = layers[band, number] if scene is scenes[0] else None
                    jobs.append(_Job(scene, source, False, layer))
                if mask := self._mask(scene):
                    jobs.append(_Job(scene, mask, True, None))
        pool = _pool(self.stack.reads)
        pending: deque[Future[_Read | None]] = deque()
        queue = iter(jobs)
        try:
            for job in queue:
                pending.append(pool.submit(self._fetch, job, strip))
                if len(pending) >= self.stack.reads + _WAITING:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
        finally:
            for future in pending:
                future.cancel()
            for future in pending:
                if not future.cancelled():
                    future.exception()  # a file must not be closed under a thread that reads it

    def _fetch(self, job: _Job, strip: Window) -> _Read | None:
        source, is_mask = job.source, job.is_mask
        if not footprint_touches(source, self.stack.crs, window_bounds(self.stack.geobox, strip)):
            return None  # not even opened
        raster = self._raster(job.scene, source)
        shapes = raster.shapes
        if (fault := contradiction(source, job.scene.id, raster.grid)) is not None:
            raise fault
        sizes = tuple(pixel_side(source) * source.shape[1] / width for _, width in shapes)
        pixel = self.stack.pixel_size(source.crs)
        samples = 1
        if is_mask and self.stack.coarse(source):
            level = mask_level(pixel, sizes)
            samples = max(1, round(pixel / sizes[level]))
        else:
            level = 0 if is_mask else data_level(pixel, sizes)
        # source bytes per output pixel, about
        density = (1 if is_mask else 2) * max(pixel / sizes[level], 1.0) ** 2
        budget = max(_READ_BYTES * strip.shape[0] * strip.shape[1], PIECE_BYTES)
        pieces = self._pieces(source, shapes[level], strip, samples, density, budget)
        first = next(pieces, None)
        if first is None:
            return None
        with self._lock:
            self.levels["mask" if is_mask else "data"].add(round(sizes[level], 3))
        rest = self._rest(source, shapes[level])
        missing = _missing(source, raster, np.uint8 if is_mask else np.uint16)
        if is_mask:
            bad = np.ones(strip.shape, bool)  # without classes no pixel counts as clear
            for piece, found in chain((first,), pieces):
                pixels, buffer = _buffers.take(found.source.shape, np.uint8)
                raster.read(level, found.source, pixels, rest, is_shared=self._is_shared)
                for number in missing:
                    pixels[pixels == number] = NODATA
                bad[strip.slices(piece)] = self._dropped(source, found, pixels, piece.shape)
                _buffers.give(buffer)
            return _Read(bad, None)
        out, whole = (job.layer, None) if job.layer is not None else _buffers.take(strip.shape, np.uint16)
        window, found = first
        if window == strip and found.copies:
            raster.read(level, found.source, found.clear_outside(out), rest, is_shared=self._is_shared)
        else:
            if window != strip:
                out[...] = 0  # some parts aren't covered
            for piece, found in chain((first,), pieces):
                pixels, buffer = _buffers.take(found.source.shape, np.uint16)
                raster.read(level, found.source, pixels, rest, is_shared=self._is_shared)
                found.gather(pixels, out[strip.slices(piece)])
                _buffers.give(buffer)
        for number in missing[1:]:
            out[out == number] = 0
        to_stored(out, source.offset, missing[0] if missing else 0)
        return _Read(out, whole)

    def _pieces(
        self, source: Source, shape: tuple[int, int], window: Window, samples: int, density: float, most: int
    ) -> Iterator[tuple[Window, IndexMap]]:
        """Yield a window, or else its parts that a source covers, each of which needs at most `most` of its bytes."""
        size = window.shape[0] * window.shape[1]
        # maps that aren't kept aren't counted either
        needed = size * max(density, MAP_BYTES * samples**2 if samples > _MAP_SIDE else 0)
        if needed <= most or size == 1:
            found = self._map(source, shape, window, samples)
            if found is None:
                return
            # a tilted window has corners
            if found.source.shape[0] * found.source.shape[1] * (1 if samples > 1 else 2) <= most or size == 1:
                yield window, found
                return
        for half in _halves(window):
            yield from self._pieces(source, shape, half, samples, density, min(most, PIECE_BYTES))

    def _rest(self, source: Source, shape: tuple[int, int]) -> Window | None:
        """Return which part of a level the whole grid may need; None where that is unknown."""
        transform = level_transform(source, shape)
        key = (source.crs, transform, shape)
        with self._lock:
            if key not in self._rests:
                self._rests[key] = needed_of(self.stack.geobox, source.crs, transform, shape)
            return self._rests[key]

    def _raster(self, scene: Scene, source: Source) -> Raster:
        key = (scene.id, source.asset, source.band)
        with self._lock:
            if key not in self._rasters:
                self._rasters[key] = self._exit.enter_context(closing(self.stack.reader.open(source, scene.id)))
            return self._rasters[key]

    def _map(self, source: Source, shape: tuple[int, int], strip: Window, samples: int) -> IndexMap | None:
        transform = level_transform(source, shape)
        if samples > _MAP_SIDE:
            return index_map(self.stack.geobox, strip, source.crs, transform, shape, samples)
        key = (source.crs, transform, shape, samples, strip)
        with self._lock:
            if key not in self._maps:
                self._maps[key] = index_map(self.stack.geobox, strip, source.crs, transform, shape, samples)
            return self._maps[key]


def all_contradictions(stack: Stack, first: ContradictionError) -> ContradictionError:
    """Return a fault with every source of a stack whose file lies elsewhere than its item says; reads their headers."""
    found = contradictions_of(stack.reader, stack.scenes, stack.reads)
    everything = tuple(one.found[0] for one in found) or first.found
    return ContradictionError(
        first.what, first.expected, first.hint, first.item_id, first.asset, first.href, first.attempts, everything
    )


def contradictions_of(reader: Reader, scenes: Iterable[Scene], reads: int = READS) -> list[ContradictionError]:
    """Return a fault for each source of scenes whose file lies elsewhere than its item says; reads their headers."""

    def look(scene: Scene, source: Source) -> ContradictionError | None:
        try:
            with closing(reader.open(source, scene.id)) as raster:
                return contradiction(source, scene.id, raster.grid)
        except AssetError:  # a task that needs it says so
            return None

    sources = [(scene, one) for scene in scenes for one in (*scene.bands, *((scene.mask,) if scene.mask else ()))]
    looks = [_pool(reads).submit(look, scene, source) for scene, source in sources]
    return [fault for future in looks if (fault := future.result()) is not None]


def level_transform(source: Source, shape: tuple[int, int]) -> Transform:
    """Return the affine of a level, which covers the same ground with fewer pixels."""
    a, b, c, d, e, f = source.transform
    along, down = source.shape[1] / shape[1], source.shape[0] / shape[0]
    return a * along, b * down, c, d * along, e * down, f


def strip_bytes_per_row(bands: int, passes: int, width: int, map_points: int = 0, reads: int = READS) -> int:
    """Return the bytes of one row of a strip: layers, one more scene, masks, index maps, reads ahead."""
    ahead = _READ_BYTES * reads + 2 * (reads + _WAITING)  # source pixels, and what they become
    return width * (2 * bands * passes + 2 * bands + 3 + 24 + MAP_BYTES * map_points + ahead)


def memory_bytes(reads: int = READS) -> int:
    """Return the memory of reads in a process beside `strip_bytes_per_row`."""
    return reads * PIECE_BYTES + KEPT_BYTES


def _missing(source: Source, raster: Raster, dtype: type[np.unsignedinteger[Any]]) -> tuple[int, ...]:
    """Return the numbers of missing pixels as they are read, but for 0: what the item tells, and what the file does.

    A negative number is read as 0, and one beyond the dtype occurs nowhere.
    """
    told = {0 if source.nodata_by_file else source.nodata, raster.nodata or 0}
    return tuple(sorted(number for number in told if 0 < number <= np.iinfo(dtype).max))


def _halves(window: Window) -> tuple[Window, Window]:
    """Return the halves of a window, cut across its longer side."""
    row, row_stop, col, col_stop = window.row, window.row_stop, window.col, window.col_stop
    if window.shape[0] > window.shape[1]:
        middle = (row + row_stop) // 2
        return Window(row, middle, col, col_stop), Window(middle, row_stop, col, col_stop)
    middle = (col + col_stop) // 2
    return Window(row, row_stop, col, middle), Window(row, row_stop, middle, col_stop)


@cache
def _pool(reads: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(reads, thread_name_prefix="read")


os.register_at_fork(after_in_child=_pool.cache_clear)
