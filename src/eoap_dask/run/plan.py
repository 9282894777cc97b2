"""What a run would do, before a pixel is read: units, grid, blocks, tasks, bytes, memory."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from eoap_dask.cluster.size import Size
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.window import Window, window_bounds
from eoap_dask.readers.limits import READS
from eoap_dask.render.recipe import FEWEST_ROWS, Recipe, strip_height
from eoap_dask.run.sizing import (
    COMPRESSED,
    PROCESS_BYTES,
    choose_reads,
    choose_sizes,
    image_bytes_of,
    needed_bytes,
    shared_bytes,
    with_reads,
)
from eoap_dask.run.unit import Unit, digest, digest_parts
from eoap_dask.scenes.model import Source
from eoap_dask.text import plural, show_bytes

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.publish.holdings import UnitState
    from eoap_dask.run.options import RunOptions


@dataclass(frozen=True)
class UnitPlan:
    """A unit and how it will be rendered."""

    unit: Unit
    recipe: Recipe
    digest: str
    resampled: int
    """Scenes whose pixels don't coincide with the grid's."""
    reprojected: int
    """Scenes in another CRS than the grid's."""
    parts: Mapping[str, Any] = field(default_factory=dict)
    """Parts of the digest, see `unit.digest_parts`."""
    left_out: tuple[str, ...] = ()
    """Ids of scenes that stayed bad, and are allowed to be missing."""

    @classmethod
    def of(cls, unit: Unit, recipe: Recipe, pixel_params: Mapping[str, Any], algorithm: Mapping[str, int]) -> Self:
        """Return the plan of a whole unit; `pixel_params` and `algorithm` decide its pixels, see `unit.digest`."""
        geobox = recipe.stack.geobox
        return cls(
            unit=unit,
            recipe=recipe,
            digest=digest(unit.key, geobox, pixel_params, unit.scenes, algorithm),
            parts=digest_parts(geobox, pixel_params, unit.scenes, algorithm),
            resampled=sum(not is_aligned(s.bands[0], geobox) for s in unit.scenes),
            reprojected=sum(s.bands[0].crs != crs_name(geobox) for s in unit.scenes),
        )

    def without(self, scene_id: str) -> UnitPlan:
        """Return the plan of the whole unit without a scene. Its digest stays: it is still the same unit."""
        unit = self.unit.without(scene_id)
        recipe = replace(self.recipe, stack=replace(self.recipe.stack, passes=unit.passes))
        return replace(self, unit=unit, recipe=recipe, left_out=(*self.left_out, scene_id))

    def _repr_html_(self) -> str:
        blocks = len(self.recipe.windows())
        height, width = self.recipe.shape
        rows = {
            "grid": f"{crs_name(self.recipe.stack.geobox)}, {width} × {height} px",
            "blocks": f"{blocks} of {self.recipe.block} px",
            "resampled": f"{plural(self.resampled, 'scene')}, {self.reprojected} from another CRS",
            "digest": self.digest,
            **({"left out": ", ".join(self.left_out)} if self.left_out else {}),
        }
        table = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
        return f"{self.unit._repr_html_()}<table>{table}</table>"


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. Building it reads no pixels."""

    application: str
    params: Mapping[str, Any]
    """As given, JSON-like."""
    geobox: GeoBox
    units: tuple[UnitPlan, ...]
    empty: tuple[str, ...]
    """Periods for which nothing was found."""
    size: Size = Size(1, 1, 4 << 30)
    """Size of the cluster that it was planned for, see `sized`."""
    states: Mapping[str, UnitState] = field(default_factory=dict)
    """What becomes of each unit, where somebody has looked: new, skip or recompute, and why."""

    @property
    def blocks(self) -> int:
        """Blocks of all units."""
        return sum(len(u.recipe.windows()) for u in self.units)

    @property
    def tasks(self) -> int:
        """Tasks of all units: one per block, and one that holds the recipe."""
        return self.blocks + len(self.units)

    def only(self, keys: Collection[str]) -> Plan:
        """Return the plan of some of the units."""
        return replace(self, units=tuple(u for u in self.units if u.unit.key in keys))

    @property
    def rest(self) -> Plan:
        """The plan of what isn't finished yet, as far as somebody has looked."""
        skipped = {key for key, state in self.states.items() if state.kind == "skip"}
        return self.only([u.unit.key for u in self.units if u.unit.key not in skipped])

    def sized(self, size: Size, options: RunOptions) -> Plan:
        """Return the plan with blocks and strips that suit a cluster. Pixels don't depend on them."""
        if not self.units:
            return replace(self, size=size)
        recipe, count = self.units[0].recipe, len(self.units)
        passes = max(len(u.recipe.stack.passes) for u in self.units)
        reads = options.reads or choose_reads(recipe, count, size, passes, options)
        block, budget = choose_sizes(with_reads(recipe, reads), count, size)
        block, budget = options.block or block, options.budget or budget
        units = (
            replace(u, recipe=replace(with_reads(u.recipe, reads), block=block, budget=budget)) for u in self.units
        )
        return replace(self, size=size, units=tuple(units))

    @property
    def reads(self) -> int:
        """Files that a worker reads at once."""
        return self.units[0].recipe.stack.reads if self.units else READS

    @property
    def strip_rows(self) -> int | None:
        """Rows that a task works on at once, the fewest of all units; None without units."""
        heights = []
        for recipe in (u.recipe for u in self.units):
            window = Window(0, min(recipe.block, recipe.shape[0]), 0, min(recipe.block, recipe.shape[1]))
            heights.append(strip_height(recipe, window, len(recipe.stack.passes)))
        return min(heights, default=None)

    @property
    def headline(self) -> str:
        """One line that says how much there is to do."""
        return f"{plural(len(self.units), 'unit')}, {plural(self.blocks, 'block')}"

    @property
    def grid(self) -> dict[str, Any]:
        """The grid as JSON-like values."""
        return {
            "crs": crs_name(self.geobox),
            "shape": [int(n) for n in self.geobox.shape],
            "transform": [float(v) for v in tuple(self.geobox.transform)[:6]],
        }

    def estimates(self) -> dict[str, int]:
        """Return estimated bytes: read, a worker's peak, the output, and on the output's disk while the run works."""
        read = peak = 0
        for planned in self.units:
            recipe = planned.recipe
            for window in recipe.windows():
                touching = recipe.stack.touching(window)
                bounds = window_bounds(self.geobox, window)
                for _, scenes in touching:
                    for scene in scenes:
                        read += sum(needed_bytes(s, self.geobox, bounds, 2) for s in scene.bands)
                        if scene.mask is not None:
                            read += needed_bytes(scene.mask, self.geobox, bounds, 1)
                rows = strip_height(recipe, window, len(touching))
                strip = rows * recipe.strip_bytes_per_row(window, len(touching))
                peak = max(peak, strip + recipe.image_bytes(window.shape[0] * window.shape[1]))
        return {
            "read_bytes": int(read * COMPRESSED),
            # what readers keep and have in flight is never more than a few times what there is to be read
            "worker_bytes": min(shared_bytes(self.reads), PROCESS_BYTES + 4 * read)
            + peak * self.size.threads_per_worker,
            "output_bytes": self.output_bytes,
            "spool_bytes": self.spool_bytes,
        }

    @property
    def output_bytes(self) -> int:
        """Bytes of the units' images in their files, estimated."""
        return sum(image_bytes_of(u.recipe) for u in self.units)

    @property
    def spool_bytes(self) -> int:
        """Bytes beside the output while the run works, estimated: tiles of units that are open or being written."""
        if not self.units:
            return 0
        blocks = len(self.units[0].recipe.windows())
        at_once = min(len(self.units), 2 + 2 * self.size.slots // blocks)
        return max(image_bytes_of(u.recipe) for u in self.units) * at_once

    @property
    def worker_bytes_at_most(self) -> int:
        """An upper limit of the estimated ``worker_bytes``, without looking at every block."""
        peak = 0
        for recipe in (u.recipe for u in self.units):
            side = Window(0, min(recipe.block, recipe.shape[0]), 0, min(recipe.block, recipe.shape[1]))
            row = recipe.strip_bytes_per_row(side, len(recipe.stack.passes))
            strip = min(max(recipe.budget, FEWEST_ROWS * row), side.shape[0] * row)
            peak = max(peak, strip + recipe.image_bytes(side.shape[0] * side.shape[1]))
        return shared_bytes(self.reads) + peak * self.size.threads_per_worker

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values; ``to_do`` is what is left of the totals without finished units."""
        rest, estimates = self.rest, self.estimates()
        return {
            "application": self.application,
            "params": dict(self.params),
            "grid": self.grid,
            "units": [
                {
                    "key": u.unit.key,
                    "start": u.unit.start.isoformat(),
                    "end": u.unit.end.isoformat(),
                    "scenes": len(u.unit.scenes),
                    "passes": len(u.unit.passes),
                    "resampled_scenes": u.resampled,
                    "reprojected_scenes": u.reprojected,
                    "blocks": len(u.recipe.windows()),
                    "digest": u.digest,
                    **({"state": s.kind, "reason": s.reason} if (s := self.states.get(u.unit.key)) else {}),
                }
                for u in self.units
            ],
            "empty_periods": list(self.empty),
            "block_px": self.units[0].recipe.block if self.units else None,
            "strip_rows": self.strip_rows,
            "blocks": self.blocks,
            "tasks": self.tasks,
            "cluster": {
                "workers": self.size.workers,
                "threads_per_worker": self.size.threads_per_worker,
                "memory_per_worker": self.size.memory_per_worker,
                "reads_per_worker": self.reads,
            },
            "estimates": estimates,
            "to_do": {
                "units": len(rest.units),
                "blocks": rest.blocks,
                "tasks": rest.tasks,
                "estimates": rest.estimates() if len(rest.units) < len(self.units) else estimates,
            },
        }

    def __str__(self) -> str:
        plan = self.to_dict()
        height, width = plan["grid"]["shape"]
        rest = self.rest
        is_partly = len(rest.units) < len(self.units)
        left = f"{rest.headline}, {plural(rest.tasks, 'task')}" if rest.units else "nothing"
        lines = [
            f"{self.application}: {self.headline}, {plural(self.tasks, 'task')}"
            + (f"; to do: {left}" if is_partly else ""),
            f"  grid      {plan['grid']['crs']}, {width} × {height} px of {self.geobox.transform.a:g}",
        ]
        for unit in plan["units"]:
            lines.append(
                f"  {unit['key']}  {plural(unit['scenes'], 'scene')} of {plural(unit['passes'], 'pass', 'passes')}, "
                f"{unit['resampled_scenes']} resampled ({unit['reprojected_scenes']} from another CRS)"
                + (f"; {unit['state']}: {unit['reason']}" if unit.get("reason") else "")
            )
        for key in self.empty:
            lines.append(f"  {key}  nothing found")
        estimates, to_do = plan["estimates"], plan["to_do"]["estimates"]

        def both(name: str) -> str:
            rest_bytes = show_bytes(to_do[name]) if rest.units else "nothing"
            return f"about {show_bytes(estimates[name])}" + (f" in all, {rest_bytes} to do" if is_partly else "")

        lines += [
            f"  blocks    {plan['block_px']} px, worked on in strips of {plan['strip_rows']} rows; a worker reads "
            f"{plural(self.reads, 'file')} at once",
            f"  reads     {both('read_bytes')}",
            f"  writes    {both('output_bytes')}"
            + (f"; and {show_bytes(to_do['spool_bytes'])} beside it while it works" if rest.units else ""),
            f"  cluster   {plural(self.size.workers, 'worker')} × {plural(self.size.threads_per_worker, 'thread')}, "
            f"each up to about {show_bytes(estimates['worker_bytes'])} of {show_bytes(self.size.memory_per_worker)}",
        ]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def is_aligned(source: Source, geobox: GeoBox) -> bool:
    """Tell whether a source's pixels coincide with the grid's."""
    a, b, c, d, e, f = source.transform
    ga, _, gc, _, ge, gf = (float(v) for v in tuple(geobox.transform)[:6])
    if source.crs != crs_name(geobox) or b or d or a != ga or e != ge:
        return False
    return ((c - gc) / a) % 1 == 0 and ((f - gf) / e) % 1 == 0
