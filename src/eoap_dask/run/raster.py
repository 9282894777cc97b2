"""Rasters as `Work`: blocks of pixels are rendered on workers and become COGs."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eoap_dask.__about__ import __version__
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.window import Window, window_bounds
from eoap_dask.output.cog import Cog
from eoap_dask.output.layout import LAYOUT
from eoap_dask.render.block import Rendered, Surveyed, render_block
from eoap_dask.render.needed import UnitStack, cut_part
from eoap_dask.render.recipe import FEWEST_ROWS, Recipe, strip_height
from eoap_dask.run.sizing import (
    COMPRESSED,
    choose_reads,
    choose_sizes,
    image_bytes_of,
    needed_bytes,
    with_reads,
)
from eoap_dask.run.work import Estimate
from eoap_dask.scenes.model import Contradictions, Scene, Source
from eoap_dask.stac.attribution import file_tags
from eoap_dask.text import plural

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.cluster.size import Size
    from eoap_dask.errors import ContradictionError
    from eoap_dask.kernels.pixels import Sums
    from eoap_dask.render.images import ImageSpec
    from eoap_dask.render.resources import Resource
    from eoap_dask.run.options import RunOptions
    from eoap_dask.run.plan import UnitPlan
    from eoap_dask.scenes.model import Pass

SHOWN_PASSES = 20
"""Passes of a unit that a notebook shows, at most."""


@dataclass(frozen=True)
class WrittenImage:
    """A file of a unit, as it was written."""

    spec: ImageSpec
    path: Path
    size: int
    sha256: str
    sums: Sums
    geobox: GeoBox
    smallest: Any = None
    """Its coarsest level, (band, y, x); None for cutouts."""


@dataclass(frozen=True)
class WrittenRaster:
    """What there is of a unit of pixels before its item."""

    images: dict[str, WrittenImage] = field(default_factory=dict)
    """By name."""
    cutouts: dict[str, dict[str, WrittenImage]] = field(default_factory=dict)
    """Images by name, of each cutout by its name, without those that the science left out."""
    levels: dict[str, list[float]] = field(default_factory=dict)
    """Side of the pixels that were read, for ``data`` and ``mask``."""
    notes: tuple[Any, ...] = ()
    """What the science said of each row of tiles of the blocks, in their order."""
    cutout_notes: dict[str, tuple[Any, ...]] = field(default_factory=dict)
    """The same of each cutout, also of those left out."""
    state: Any = None
    """What the surveys came to."""


@dataclass(frozen=True)
class RasterWork:
    """Renders a recipe into COGs. A `Work`."""

    recipe: Recipe
    contradictions: tuple[tuple[str, str], ...] = ()
    """Item and asset of each source whose file lies elsewhere than its item says."""

    @classmethod
    def of(cls, recipe: Recipe, found: Contradictions = ()) -> Self:
        """Return the first round of a recipe; `found` are contradictions that its scenes may have, see `settle`."""
        known = {scene.id for scene in recipe.stack.scenes}
        return cls(first_round(recipe), tuple(sorted({(item, asset) for item, asset, *_ in found if item in known})))

    @cached_property
    def windows(self) -> tuple[Window, ...]:
        """Its blocks or cutouts, one for each task."""
        return self.recipe.windows()

    @property
    def tasks(self) -> int:
        """One for each block or cutout."""
        return len(self.windows)

    @property
    def task(self) -> Callable[..., Any]:
        """`render_block`."""
        return render_block

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Those of the science."""
        return self.recipe.science.resources

    @property
    def modules(self) -> tuple[str, ...]:
        """Those of the science."""
        return self.recipe.science.modules

    @property
    def worker_check(self) -> Callable[[], str] | None:
        """That of the science, where it needs further packages."""
        return self.recipe.science.check_worker if self.modules else None

    @property
    def is_local(self) -> bool:
        """Cutouts of a unit lie beside each other, and share tiles of its scenes."""
        return self.recipe.cutouts is not None

    @property
    def needs(self) -> tuple[str, ...]:
        """The units whose images are its layers."""
        stack = self.recipe.stack
        return stack.units if isinstance(stack, UnitStack) else ()

    @property
    def reads(self) -> int:
        """Files that a worker reads at once."""
        return self.recipe.stack.reads

    @property
    def geobox(self) -> GeoBox:
        """The unit's grid."""
        return self.recipe.stack.geobox

    @property
    def resampled(self) -> int:
        """Scenes whose pixels don't coincide with the grid's."""
        return sum(not is_aligned(s.bands[0], self.geobox) for s in self.recipe.stack.scenes)

    @property
    def reprojected(self) -> int:
        """Scenes in another CRS than the grid's."""
        return sum(s.bands[0].crs != crs_name(self.geobox) for s in self.recipe.stack.scenes)

    def file_tags(self, spec: ImageSpec, cutout: str = "") -> dict[str, str]:
        """Return what the file of an image, perhaps of a cutout, says by itself of how it came about."""
        title = f"{spec.title or spec.name}."
        tags = self._file_tags if not cutout else file_tags(self.passes_of(cutout), __version__)
        about = tags.get("TIFFTAG_IMAGEDESCRIPTION", "")
        return tags | {"TIFFTAG_IMAGEDESCRIPTION": f"{title} {about}".rstrip()}

    @cached_property
    def _file_tags(self) -> dict[str, str]:
        stack = self.recipe.stack
        return file_tags(() if isinstance(stack, UnitStack) else stack.passes, __version__)

    def passes_of(self, cutout: str) -> tuple[Pass, ...]:
        """Return the passes that a cutout is made of, once surveys are over."""
        stack, science = self.recipe.stack, self.recipe.science
        if isinstance(stack, UnitStack):
            return ()
        numbers = science.passes_of(cutout, self.recipe.state)
        return stack.passes if numbers is None else tuple(stack.passes[number] for number in numbers)

    def identity(self) -> Mapping[str, Any]:
        """Return grid, params, scenes and algorithm."""
        return self.recipe.identity()

    def pack(self) -> bytes:
        """Return the packed recipe."""
        return self.recipe.pack()

    def parts(self, number: int, file: Callable[[str, str], Path], *, shared: bool) -> tuple[Any, ...]:
        """Return the paths of needed images, or what a block needs of each."""
        stack = self.recipe.stack
        if not isinstance(stack, UnitStack):
            return ()
        paths = [file(unit, stack.file(LAYOUT.name(unit))) for unit in stack.units]
        window = self.windows[number].grown(self.recipe.science.halo, self.recipe.shape)
        return tuple(paths) if shared else tuple(cut_part(path, window, stack) for path in paths)

    def task_bytes(self, number: int) -> int:
        """Return the bytes of a block's images, and of the layers that go with it."""
        recipe, stack = self.recipe, self.recipe.stack
        height, width = self.windows[number].shape
        pixels = recipe.block**2 if recipe.cutouts is None else height * width
        wide = self.windows[number].grown(recipe.science.halo, recipe.shape).shape
        return pixels * sum(spec.pixel_bytes for spec in recipe.images) + wide[0] * wide[1] * stack.held_bytes

    def collect(self, folder: Path, scratch: Path) -> RasterCollector:
        """Return a collector that writes COGs."""
        return RasterCollector(self, folder, scratch)

    def without(self, source: str) -> RasterWork | None:
        """Return the work without a scene, from the first survey on; None where too few passes would be left."""
        recipe = self.recipe
        if isinstance(recipe.stack, UnitStack):
            return None
        stack = recipe.stack.without(source)
        if len(stack.passes) < recipe.science.fewest_passes:
            return None
        return replace(self, recipe=first_round(replace(recipe, stack=stack)))

    def corrected(self, fault: ContradictionError) -> RasterWork | None:
        """Return the work with the grids that files really have."""
        recipe = self.recipe
        if isinstance(recipe.stack, UnitStack):
            return None
        stack = recipe.stack.corrected(fault.found)
        if stack == recipe.stack:
            return None
        names = {(item, asset) for item, asset, *_ in fault.found}
        return RasterWork(first_round(replace(recipe, stack=stack)), tuple(sorted({*self.contradictions, *names})))

    def sized(self, size: Size, options: RunOptions, units: int) -> RasterWork:
        """Return the work with blocks, strips and reads that suit a cluster."""
        recipe = self.recipe
        reads = options.reads or choose_reads(recipe, units, size, recipe.stack.depth, options)
        recipe = with_reads(recipe, reads)
        block, budget = choose_sizes(recipe, units, size)
        recipe = replace(recipe, block=options.block or block, budget=options.budget or budget)
        return replace(self, recipe=recipe)

    def estimate(self) -> Estimate:
        """Return what it is estimated to take; looks at every block."""
        recipe, geobox = self.recipe, self.geobox
        read = peak = 0
        for window in self.windows:
            touching = recipe.stack.touching(window)
            bounds = window_bounds(geobox, window)
            for _, scenes in touching:
                for scene in scenes:
                    read += sum(needed_bytes(s, geobox, bounds, 2) for s in scene.bands)
                    if scene.mask is not None:
                        read += needed_bytes(scene.mask, geobox, bounds, 1)
            rows = strip_height(recipe, window, len(touching))
            strip = recipe.strip_bytes(rows, window, len(touching))
            peak = max(peak, strip + recipe.image_bytes(window.shape[0] * window.shape[1]))
        return Estimate(int(read * COMPRESSED), peak + recipe.science.task_bytes)

    @property
    def output_bytes(self) -> int:
        """Bytes of its images in their files, estimated."""
        return image_bytes_of(self.recipe)

    def task_bytes_at_most(self) -> int:
        """Return an upper limit of a task's memory."""
        recipe = self.recipe
        side = _largest(recipe)
        least, whole = (recipe.strip_bytes(rows, side, recipe.stack.depth) for rows in (FEWEST_ROWS, side.shape[0]))
        strip = min(max(recipe.budget, least), whole)
        return strip + recipe.image_bytes(side.shape[0] * side.shape[1]) + recipe.science.task_bytes

    @property
    def worker_bytes(self) -> int:
        """What the science is set up with."""
        return self.recipe.science.worker_bytes

    @property
    def strip_rows(self) -> int:
        """Rows that a task works on at once."""
        return strip_height(self.recipe, _largest(self.recipe), self.recipe.stack.depth)

    def to_dict(self) -> Mapping[str, Any]:
        """Return its grid, blocks, and how many scenes there are of which kind."""
        recipe, geobox = self.recipe, self.geobox
        return {
            "scenes": len(recipe.stack.scenes),
            "passes": len(recipe.stack.passes),
            "resampled_scenes": self.resampled,
            "reprojected_scenes": self.reprojected,
            **({"corrected_assets": len(self.contradictions)} if self.contradictions else {}),
            "blocks": self.tasks,
            "block_px": recipe.block,
            "strip_rows": self.strip_rows,
            "grid": {
                "crs": crs_name(geobox),
                "shape": [int(n) for n in geobox.shape],
                "transform": [float(v) for v in tuple(geobox.transform)[:6]],
            },
        }

    def __str__(self) -> str:
        stack = self.recipe.stack
        if isinstance(stack, UnitStack):
            return f"from {', '.join(stack.units)}"
        righted = f", {plural(len(self.contradictions), 'asset')} put right by the files" if self.contradictions else ""
        return (
            f"{plural(len(stack.scenes), 'scene')} of {plural(len(stack.passes), 'pass', 'passes')}, "
            f"{self.resampled} resampled ({self.reprojected} from another CRS){righted}"
        )

    def _repr_html_(self) -> str:
        recipe = self.recipe
        shown = [(p.datetime, ", ".join(s.id for s in p.scenes)) for p in recipe.stack.passes[:SHOWN_PASSES]]
        rows = "".join(f"<tr><td>{when:%Y-%m-%d %H:%M}</td><td>{html.escape(ids)}</td></tr>" for when, ids in shown)
        more = len(recipe.stack.passes) - SHOWN_PASSES
        rest = f"<p>… and {more} more</p>" if more > 0 else ""
        height, width = recipe.shape
        facts = {
            "grid": f"{crs_name(self.geobox)}, {width} × {height} px",
            "blocks": f"{self.tasks} of {recipe.block} px",
            "resampled": f"{plural(self.resampled, 'scene')}, {self.reprojected} from another CRS",
        }
        table = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in facts.items())
        return f"<table><tr><th>pass</th><th>scenes</th></tr>{rows}</table>{rest}<table>{table}</table>"


class RasterCollector:
    """Writes the blocks of a unit into COGs. A `Collector`."""

    def __init__(self, work: RasterWork, folder: Path, scratch: Path) -> None:
        self._folder, self._scratch = folder, scratch
        self._levels: dict[str, set[float]] = {}
        self._cogs: dict[str, Cog] = {}
        self._cutouts: dict[int, dict[str, WrittenImage]] = {}
        self._notes: dict[int, tuple[Any, ...]] = {}
        self._surveyed: dict[int, dict[tuple[int, int], Any]] = {}
        self._missing: dict[int, int] = {}
        self._note: Any = None
        self._begin(work)

    def _begin(self, work: RasterWork) -> None:
        self._work = work
        self._surveyed, self._note = {}, None
        self._missing = dict(Counter(map(self._group, range(work.tasks))))
        if work.recipe.cutouts is None and not work.recipe.is_survey:
            self._cogs = {
                one.name: Cog(one, work.geobox, self._scratch, work.file_tags(one)) for one in work.recipe.images
            }

    def add(self, number: int, result: Rendered | Surveyed) -> None:
        """Take a block."""
        for kind, sides in result.levels.items():
            self._levels.setdefault(kind, set()).update(sides)
        recipe = self._work.recipe
        if isinstance(result, Surveyed):
            self._surveyed.setdefault(self._group(number), {}).update(result.notes)
            self._missing[self._group(number)] -= 1
            self._merge()
            return
        self._notes[number] = result.notes
        if recipe.cutouts is not None:
            if recipe.science.is_kept(result.notes):
                self._cutouts[number] = self._write_cutout(number, result)
            return
        for name, image in result.images.items():
            self._cogs[name].add(image, self._work.windows[number])

    def _group(self, number: int) -> int:
        """Return the row of blocks, or the cutout, of a task: tiles of one come before those of the next."""
        recipe = self._work.recipe
        return number if recipe.cutouts is not None else self._work.windows[number].row // recipe.block

    def _merge(self) -> None:
        """Merge notes in the order of their tiles, the same for all blocks, as far as there is no gap."""
        merge = self._work.recipe.science.merge
        while self._missing and not self._missing[group := min(self._missing)]:
            del self._missing[group]
            notes = self._surveyed.pop(group, {})
            for tile in sorted(notes):
                self._note = notes[tile] if self._note is None else merge(self._note, notes[tile])

    def _write_cutout(self, number: int, result: Rendered) -> dict[str, WrittenImage]:
        recipe, window = self._work.recipe, self._work.windows[number]
        geobox = recipe.stack.geobox[window.row : window.row_stop, window.col : window.col_stop]
        assert recipe.cutouts is not None  # noqa: S101 - add() has seen to it
        found = {}
        for spec in recipe.images:
            cog = Cog(spec, geobox, self._scratch, self._work.file_tags(spec, recipe.cutouts[number].name))
            cog.add(result.images[spec.name], Window(0, window.shape[0], 0, window.shape[1]))
            path = self._folder / LAYOUT.image(spec.name, recipe.cutouts[number].name, spec.suffix)
            path.parent.mkdir(exist_ok=True)
            size, sha256 = cog.write(path, has_thumbnail=False)
            found[spec.name] = WrittenImage(spec, path, size, sha256, cog.sums, geobox)
        return found

    def next_round(self) -> RasterWork | None:
        """Return the next survey, or the composition after the last one."""
        recipe = self._work.recipe
        if not recipe.is_survey:
            return None
        state, again = recipe.science.reduce(self._note, recipe.state)
        self._begin(replace(self._work, recipe=replace(recipe, state=state, is_survey=again)))
        return self._work

    def write(self) -> WrittenRaster:
        """Write the COGs."""
        images = {}
        for name, cog in self._cogs.items():
            path = self._folder / LAYOUT.image(name, suffix=cog.spec.suffix)
            size, sha256 = cog.write(path)
            images[name] = WrittenImage(cog.spec, path, size, sha256, cog.sums, cog.geobox, cog.smallest)
        cutouts = self._work.recipe.cutouts or ()
        return WrittenRaster(
            images,
            {one.name: self._cutouts[number] for number, one in enumerate(cutouts) if number in self._cutouts},
            {kind: sorted(sides) for kind, sides in sorted(self._levels.items())},
            tuple(note for number in sorted(self._notes) for note in self._notes[number]),
            {one.name: self._notes[number] for number, one in enumerate(cutouts)},
            self._work.recipe.state,
        )

    def close(self) -> None:
        """Remove spools and levels."""
        for cog in self._cogs.values():
            with suppress(OSError):  # a full disk, perhaps; what remains goes with the directory
                cog.close()


def raster_of(planned: UnitPlan) -> RasterWork:
    """Return the work of a unit that is a raster; TypeError for another kind."""
    if not isinstance(planned.work, RasterWork):
        raise TypeError(f"{planned.unit.key} isn't a raster, but {type(planned.work).__name__}.")
    return planned.work


def first_round(recipe: Recipe) -> Recipe:
    """Return a recipe from its beginning: a survey, where the science asks for one."""
    return replace(recipe, state=None, is_survey=recipe.science.surveys)


def _largest(recipe: Recipe) -> Window:
    """Return a window as large as any of a recipe."""
    height, width = recipe.extent
    if recipe.cutouts is None:
        height, width = min(recipe.block, height), min(recipe.block, width)
    return Window(0, height, 0, width)


def finest_pixel(scenes: Iterable[Scene]) -> float | None:
    """Return the side of the smallest pixels of some scenes, of those in a projected CRS; None where there are none."""
    sources = {(one.crs, one.transform[:5]) for scene in scenes for one in scene.bands}
    projected = {crs for crs in {crs for crs, _ in sources} if parse_crs(crs).is_projected}
    sides = [math.hypot(a, d) for crs, (a, _, _, d, _) in sources if crs in projected]
    return min(sides, default=None)


def is_aligned(source: Source, geobox: GeoBox) -> bool:
    """Tell whether a source's pixels coincide with the grid's."""
    a, b, c, d, e, f = source.transform
    ga, _, gc, _, ge, gf = (float(v) for v in tuple(geobox.transform)[:6])
    if source.crs != crs_name(geobox) or b or d or a != ga or e != ge:
        return False
    return ((c - gc) / a) % 1 == 0 and ((f - gf) / e) % 1 == 0
