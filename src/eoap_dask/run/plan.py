"""What a run would do, before a pixel is read: units, grids, blocks, tasks, bytes, memory."""

from __future__ import annotations

import html
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Self

from eoap_dask.cluster.size import Size
from eoap_dask.items.item import OddItem
from eoap_dask.items.odd import odd_items_said
from eoap_dask.readers.limits import READS
from eoap_dask.render.identity import hash_of
from eoap_dask.run.sizing import PROCESS_BYTES, shared_bytes
from eoap_dask.run.unit import Unit
from eoap_dask.run.work import Work
from eoap_dask.text import few, figure_name, plural, show_bytes, show_figure

if TYPE_CHECKING:
    from eoap_dask.errors import ContradictionError
    from eoap_dask.publish.holdings import UnitState
    from eoap_dask.run.options import RunOptions

_SHOWN_ODD = 10


@dataclass(frozen=True)
class UnitPlan:
    """A unit and what will be done for it."""

    unit: Unit
    work: Work
    parts: Mapping[str, str | list[str]] = field(default_factory=dict)
    """A short hash of each thing that decides the result, so that a change can be named."""
    digest: str = ""
    """What identifies the result, as 32 hexadecimal digits; empty until what the unit needs is known."""
    left_out: tuple[str, ...] = ()
    """Ids of sources that stayed bad, and are allowed to be missing."""

    @classmethod
    def of(cls, unit: Unit, work: Work) -> Self:
        """Return the plan of a whole unit; ValueError where its work needs units that it doesn't name."""
        if not set(work.needs) <= set(unit.needs):
            raise ValueError(f"{unit.key} must name what its work needs: {work.needs}, got {unit.needs}.")
        parts = digest_parts(work.identity())
        return cls(unit, work, parts, "" if unit.needs else digest(unit.key, parts))

    def with_needs(self, checksums: Mapping[str, str]) -> UnitPlan:
        """Return the plan with its digest, from what identifies the content of each unit that it needs, by key."""
        needs = [hash_of([key, checksums[key]])[:16] for key in self.unit.needs]
        parts = {**self.parts, "needs": needs}
        return replace(self, parts=parts, digest=digest(self.unit.key, parts))

    def without(self, source: str) -> UnitPlan | None:
        """Return the plan without a source, None where it can't do without. Its digest stays: it is the same unit."""
        work = self.work.without(source)
        return None if work is None else replace(self, work=work, left_out=(*self.left_out, source))

    def correct(self, fault: ContradictionError) -> UnitPlan | None:
        """Return the plan with what sources really are, None where that changes nothing. Its digest stays."""
        work = self.work.corrected(fault)
        return None if work is None else replace(self, work=work)

    def _repr_html_(self) -> str:
        rows = {
            "digest": self.digest,
            **({"needs": ", ".join(self.unit.needs)} if self.unit.needs else {}),
            **({"left out": ", ".join(self.left_out)} if self.left_out else {}),
        }
        table = "".join(f"<tr><th>{name}</th><td>{html.escape(value)}</td></tr>" for name, value in rows.items())
        shown = getattr(self.work, "_repr_html_", lambda: f"<p>{html.escape(str(self.work))}</p>")
        return f"<p>{html.escape(f'{self.unit}, {self.work}')}</p>{shown()}<table>{table}</table>"


def digest_parts(identity: Mapping[str, Any]) -> dict[str, str | list[str]]:
    """Return a short hash of each part of an identity; of each of its items for a list of scenes."""
    return {
        name: [hash_of(one)[:16] for one in part] if name == "scenes" else hash_of(part)[:16]
        for name, part in identity.items()
    }


def digest(key: str, parts: Mapping[str, str | list[str]]) -> str:
    """Return what identifies a unit's result, as 32 hexadecimal digits."""
    return hash_of([key, dict(parts)])[:32]


@dataclass(frozen=True)
class Plan:
    """Everything that a run will do. Building it reads no pixels."""

    application: str
    params: Mapping[str, Any]
    """As given, JSON-like."""
    units: tuple[UnitPlan, ...]
    empty: tuple[str, ...] = ()
    """Periods for which nothing was found."""
    odd_items: tuple[OddItem, ...] = ()
    """Items that were set aside, and why."""
    scene_params: frozenset[str] = frozenset()
    """Parameters that say which scenes there are, and nothing of what is made of them."""
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What an application tells of it beside units, as JSON-like values: numbers, or numbers by name."""
    size: Size = Size(1, 1, 4 << 30)
    """Size of the cluster that it was planned for, see `sized`."""
    states: Mapping[str, UnitState] = field(default_factory=dict)
    """What becomes of each unit, where somebody has looked: new, skip or recompute, and why."""

    def __post_init__(self) -> None:
        known: set[str] = set()
        for one in self.units:
            missing = [key for key in one.unit.needs if key not in known]
            if missing or one.unit.key in known:
                raise ValueError(f"{one.unit.key} is there twice, or needs {missing} after it.")
            known.add(one.unit.key)

    @property
    def blocks(self) -> int:
        """Tasks of all units in their first round, beside those that hold the recipes."""
        return sum(u.work.tasks for u in self.units)

    @property
    def tasks(self) -> int:
        """Tasks of all units: one per block, and one that holds the recipe."""
        return self.blocks + len(self.units)

    def only(self, keys: Collection[str]) -> Plan:
        """Return the plan of some of the units; what they need must be finished, or among them."""
        keys = set(keys)
        units = [u for u in self.units if u.unit.key in keys]
        found = {u.unit.key for u in units}
        kept = [replace(u, unit=replace(u.unit, needs=tuple(n for n in u.unit.needs if n in found))) for u in units]
        return replace(self, units=tuple(kept))

    @property
    def rest(self) -> Plan:
        """The plan of what isn't finished yet, as far as somebody has looked."""
        skipped = {key for key, state in self.states.items() if state.kind == "skip"}
        return self.only([u.unit.key for u in self.units if u.unit.key not in skipped])

    def sized(self, size: Size, options: RunOptions) -> Plan:
        """Return the plan in tasks that suit a cluster. Results don't depend on them."""
        return replace(self, size=size, units=sized(self.units, size, options, len(self.units)))

    @property
    def reads(self) -> int:
        """Files that a worker reads at once."""
        return max((u.work.reads for u in self.units), default=READS)

    @property
    def strip_rows(self) -> int | None:
        """Rows that a task works on at once, the fewest of all units; None without any."""
        return min((rows for u in self.units if (rows := u.work.to_dict().get("strip_rows"))), default=None)

    @property
    def headline(self) -> str:
        """One line that says how much there is to do."""
        return f"{plural(len(self.units), 'unit')}, {plural(self.blocks, 'block')}"

    @property
    def grid(self) -> Mapping[str, Any] | None:
        """The grid as JSON-like values, where all units have the same one."""
        grids = [u.work.to_dict().get("grid") for u in self.units]
        return grids[0] if grids and all(grid == grids[0] for grid in grids) else None

    def estimates(self) -> dict[str, int]:
        """Return estimated bytes: read, a worker's peak, the output, and on the output's disk while the run works."""
        units = [u.work.estimate() for u in self.units]
        read, peak = sum(e.read for e in units), max((e.task for e in units), default=0)
        return {
            "read_bytes": read,
            # what readers keep and have in flight is never more than a few times what there is to be read
            "worker_bytes": self._set_up_bytes
            + min(shared_bytes(self.reads), PROCESS_BYTES + 4 * read)
            + peak * self.size.threads_per_worker,
            "output_bytes": self.output_bytes,
            "spool_bytes": self.spool_bytes,
        }

    @property
    def output_bytes(self) -> int:
        """Bytes of the units' files, estimated."""
        return sum(u.work.output_bytes for u in self.units)

    @property
    def spool_bytes(self) -> int:
        """Bytes beside the output while the run works, estimated: results of units that are open or being written."""
        if not self.units:
            return 0
        slots = 2 * self.size.slots
        most = max(u.work.output_bytes * (2 + slots // max(u.work.tasks, 1)) for u in self.units)
        return min(most, self.output_bytes)

    @property
    def worker_bytes_at_most(self) -> int:
        """An upper limit of the estimated ``worker_bytes``, without looking at every block."""
        peak = max((u.work.task_bytes_at_most() for u in self.units), default=0)
        return self._set_up_bytes + shared_bytes(self.reads) + peak * self.size.threads_per_worker

    @property
    def _set_up_bytes(self) -> int:
        """Memory of a worker for models and the like, of the units that have the largest."""
        return max((u.work.worker_bytes for u in self.units), default=0)

    @property
    def modules(self) -> tuple[str, ...]:
        """Packages that workers need beside ours."""
        return tuple(sorted({name for u in self.units for name in u.work.modules}))

    def to_dict(self) -> dict[str, Any]:
        """Return the plan as JSON-like values; ``to_do`` is what is left of the totals without finished units."""
        rest, estimates = self.rest, self.estimates()
        grid, works = self.grid, [dict(u.work.to_dict()) for u in self.units]
        blocks = [one for one in (w.pop("block_px", None) for w in works) if one]
        for work in works:
            work.pop("strip_rows", None)
        if grid is not None:
            for work in works:
                del work["grid"]
        return {
            "application": self.application,
            "params": dict(self.params),
            "grid": grid,
            "units": [
                {
                    "key": u.unit.key,
                    "start": u.unit.start.isoformat(),
                    "end": u.unit.end.isoformat(),
                    **work,
                    **({"needs": list(u.unit.needs)} if u.unit.needs else {}),
                    "digest": u.digest,
                    **({"state": s.kind, "reason": s.reason} if (s := self.states.get(u.unit.key)) else {}),
                }
                for u, work in zip(self.units, works, strict=True)
            ],
            "empty_periods": list(self.empty),
            "odd_items": [one.to_dict() for one in self.odd_items],
            **({"facts": dict(self.facts)} if self.facts else {}),
            "block_px": max(blocks, default=None),
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
        rest = self.rest
        is_partly = len(rest.units) < len(self.units)
        left = f"{rest.headline}, {plural(rest.tasks, 'task')}" if rest.units else "nothing"
        lines = [
            f"{self.application}: {self.headline}, {plural(self.tasks, 'task')}"
            + (f"; to do: {left}" if is_partly else ""),
            *_grid_lines(plan),
            *(f"  {figure_name(name):<9} {show_figure(name, value)}" for name, value in self.facts.items()),
        ]
        for unit, planned in zip(plan["units"], self.units, strict=True):
            reason = f"; {unit['state']}: {unit['reason']}" if unit.get("reason") else ""
            lines.append(f"  {unit['key']}  {planned.work}{reason}")
        for key in self.empty:
            lines.append(f"  {key}  nothing found")
        if self.odd_items:
            lines.append(f"  odd       {odd_items_said(self.odd_items, _SHOWN_ODD)}")
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


def sized(units: Sequence[UnitPlan], size: Size, options: RunOptions, count: int) -> tuple[UnitPlan, ...]:
    """Return units in tasks that suit a cluster, which has `count` of them to do; all read as many files at once."""
    if options.reads is None and units:
        reads = min(u.work.sized(size, options, count).reads for u in units)
        options = options.replace(reads=reads)
    return tuple(replace(u, work=u.work.sized(size, options, count)) for u in units)


def _grid_lines(plan: Mapping[str, Any]) -> list[str]:
    grid = plan["grid"]
    if grid is not None:
        height, width = grid["shape"]
        return [f"  grid      {grid['crs']}, {width} × {height} px of {grid['transform'][0]:g}"]
    grids = [unit["grid"] for unit in plan["units"] if unit.get("grid")]
    if not grids:
        return []
    crss = sorted({one["crs"] for one in grids})
    return [f"  grids     one for each unit, in {few(crss, 4)}"]
