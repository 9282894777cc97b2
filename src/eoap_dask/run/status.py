"""How far a run is, or how it ended, from its files alone: any terminal can ask."""

from __future__ import annotations

import html
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from eoap_dask.errors import NoRunError, OtherRunError
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.holdings import units_in
from eoap_dask.publish.lock import is_held
from eoap_dask.run.events import EVENTS_FILE, read_events
from eoap_dask.run.unit import COUNTS
from eoap_dask.text import figure_name, option, plural, show_figure

RunState = Literal["running", "complete", "stopped"]


@dataclass
class Status:
    """What is known of a run."""

    output: Path
    run: str = ""
    """Id of the run; empty for one of an earlier version."""
    state: RunState = "running"
    """``stopped`` is whatever didn't end complete: failed, interrupted, killed."""
    is_paused: bool = False
    """Whether it runs, and sends no blocks until it is told to go on."""
    message: str = ""
    """What stopped it, where it says so."""
    cluster: str = ""
    units: dict[str, str] = field(default_factory=dict)
    """Unit → checking, started, retried, skipped, done or failed; units that nobody has begun aren't here."""
    units_total: int = 0
    """Units of the run; 0 where that isn't known."""
    blocks_done: int = 0
    blocks_total: int = 0
    retried_blocks: int = 0
    """Blocks that were tried again by themselves, because workers had died on them."""
    started: datetime | None = None
    working: datetime | None = None
    """Since when it renders: before, it may have checked what an earlier run finished."""
    latest: datetime | None = None
    """Time of the last event."""
    failures: dict[str, str] = field(default_factory=dict)
    """Unit → reason."""
    counts: dict[str, Any] = field(default_factory=dict)
    """What finished units hold so far, where their application counts it, such as chips."""

    @property
    def blocks_per_second(self) -> float | None:
        """Blocks a second since the rendering began; None before the first."""
        if not (self.blocks_done and self.working):
            return None
        end = datetime.now(UTC) if self.state == "running" else self.latest or self.working
        seconds = (end - self.working).total_seconds()
        return self.blocks_done / seconds if seconds > 0 else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds until it is done, at the present rate."""
        rate = self.blocks_per_second
        if self.state != "running" or not rate:
            return None
        return (self.blocks_total - self.blocks_done) / rate

    def to_dict(self) -> dict[str, Any]:
        """Return the status as JSON-like values."""
        return {
            "output": str(self.output),
            "run": self.run,
            "state": self.state,
            **({"paused": True} if self.is_paused else {}),
            "message": self.message,
            "cluster": self.cluster,
            "units": dict(self.units),
            "units_total": self.units_total,
            "blocks_done": self.blocks_done,
            "blocks_total": self.blocks_total,
            "retried_blocks": self.retried_blocks,
            "blocks_per_second": self.blocks_per_second,
            "seconds_left": self.seconds_left,
            "started": self.started and self.started.isoformat(),
            "latest": self.latest and self.latest.isoformat(),
            "failures": dict(self.failures),
            **({"counts": self.counts} if self.counts else {}),
        }

    def __str__(self) -> str:
        counts = {kind: list(self.units.values()).count(kind) for kind in ("done", "skipped", "failed")}
        total = f" of {self.units_total}" if self.units_total else ""
        more = f" ({self.message})" if self.message and self.state == "stopped" else ""
        lines = [
            f"{self.output}: {self.state}{', paused' if self.is_paused else ''}{more}",
            f"  units     {counts['done']} done, {counts['skipped']} finished before, {counts['failed']} failed{total}",
            f"  blocks    {self.blocks_done} of {self.blocks_total}",
        ]
        if self.blocks_per_second:
            left = self.seconds_left
            lines.append(
                f"  rate      {self.blocks_per_second:.2f} blocks/s"
                + (f", about {left:.0f} s left" if left is not None else "")
            )
        checking = [unit for unit, state in self.units.items() if state == "checking"]
        lines += [f"  checking  {unit}, which an earlier run made" for unit in checking]
        if self.cluster:
            lines.append(f"  cluster   {self.cluster}")
        if self.retried_blocks:
            lines.append(f"  retried   {plural(self.retried_blocks, 'block')} whose workers died")
        lines += [f"  {figure_name(name):<9} {show_figure(name, value)}" for name, value in self.counts.items()]
        lines += _by_folder(self.units)
        lines += [f"  {unit}  {reason}" for unit, reason in self.failures.items()]
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        return f"<pre>{html.escape(str(self))}</pre>"


def read_status(output: Path) -> Status:
    """Return how far the run that makes an output is, or how the last one ended; `NoRunError` where none has begun."""
    partial, lock = _beside(output, "partial"), _beside(output, "lock")
    running = is_held(lock)  # before the file: a run that ends writes that first, and lets go then
    # a run that updates an output writes beside it: what is unfinished is what a watcher means
    for place in (partial, output, partial):  # the last one for a run that begins as we look
        status = Status(output)
        try:
            for event in read_events(place / EVENTS_FILE):
                _take(status, event)
        except (FileNotFoundError, NotADirectoryError):  # perhaps renamed in this moment
            continue
        status.counts = _counts(place, status)
        break
    else:
        raise _no_run(output)
    # looked at again: the file may be that of a run which began after the first look
    if status.state == "running" and not running and not is_held(lock):
        status.state, status.is_paused, status.message = "stopped", False, status.message or "killed"
    return status


def _counts(place: Path, status: Status) -> dict[str, Any]:
    """Return the sums of what the items of finished units count."""
    found: dict[str, Any] = {}
    for unit in (name for name, state in status.units.items() if state in ("done", "skipped")):
        try:
            item = json.loads((place / LAYOUT.item_of(unit)).read_text())
        except (OSError, ValueError):  # renamed in this moment, or a unit that is left out in the end
            continue
        for name, count in item.get("properties", {}).get(COUNTS, {}).items():
            if isinstance(count, dict):
                sums = found.setdefault(name, {})
                for one, number in count.items():
                    sums[one] = sums.get(one, 0) + number
            else:
                found[name] = found.get(name, 0) + count
    return found


def events_file(output: Path, run: str = "") -> Path | None:
    """Return where the events of a run lie now, by its id; by default those of the newest. None where they are gone."""
    for place in (_beside(output, "partial"), output):
        path = place / EVENTS_FILE
        try:
            if path.is_file() and (not run or next(read_events(path), {}).get("run") == run):
                return path
        except OSError:  # renamed in this moment
            continue
    return None


def follow(output: Path, run: str = "", after: int = 0, *, every_s: float = 0.5) -> Iterator[dict[str, Any]]:
    """Yield the events of a run as they come, until it is over.

    Parameters
    ----------
    output
        The output directory of the run.
    run
        Id of the run; by default the newest of the output.
    after
        `seq` of the last event that is known already.
    every_s
        How often to look for more, in seconds.

    Yields
    ------
    dict
        An event. The last one is `end`, unless the run was killed, or its file is gone: a run that had nothing to do
        leaves none, and the next run of the output replaces it.

    Raises
    ------
    NoRunError
        When the output has no such run.
    """
    offset = seq = 0
    while True:
        is_running = is_held(_beside(output, "lock"))  # before the file, as above
        path = events_file(output, run)
        if path is None:
            if not offset:
                raise _no_run(output)
            return
        events = read_events(path, offset, run)
        try:
            for event in events:
                run, seq = str(event.get("run", run)), int(event.get("seq", seq + 1))
                if seq > after:
                    yield event
                if event["kind"] == "end":
                    return
        except (FileNotFoundError, NotADirectoryError, OtherRunError):  # renamed, or replaced, in this moment
            continue
        finally:
            offset = events.offset
        if not is_running:
            return
        time.sleep(every_s)


def kept_by_stop(output: Path, *, resume: bool = True) -> str:
    """Return in sentences what a run that was stopped has left, and how to go on; `resume` is that of its options."""
    partial = _beside(output, "partial")
    count = len(units_in(partial)) if partial.is_dir() else 0
    before = f"{output} is as it was. " if output.is_dir() else ""
    if not count:
        return f"{before}No unit was finished, and nothing is kept: the same command begins anew."
    kept = f"{plural(count, 'finished unit')} {'is' if count == 1 else 'are'} kept in {partial}."
    again = "the same command again" if resume else f"the same command without {option('resume', False)}"
    return f"{before}{kept} Run {again} to go on."


def _by_folder(units: Mapping[str, str]) -> list[str]:
    """Return a line for each directory that units share: how many of it are finished, failed, and under way."""
    folders: dict[str, list[str]] = {}
    for key, state in units.items():
        if LAYOUT.is_shared(key):
            folders.setdefault(LAYOUT.folder(key), []).append(state)
    lines = []
    for folder, states in sorted(folders.items()):
        finished = states.count("done") + states.count("skipped")
        failed, rest = states.count("failed"), len(states) - finished - states.count("failed")
        more = (f", {failed} failed" if failed else "") + (f", {rest} under way" if rest else "")
        lines.append(f"  {folder:<13} {finished} finished{more}")
    return lines


def _beside(output: Path, what: str) -> Path:
    return output.parent / f"{output.name}.{what}"


def _no_run(output: Path) -> NoRunError:
    return NoRunError(
        f"No run has written to {output}.",
        f"Expected the {option('output_dir')} of a run that has begun.",
        "Check the path.",
    )


def _take(status: Status, event: dict[str, Any]) -> None:
    kind, unit, message = event["kind"], event.get("unit", ""), str(event.get("message", ""))
    when = datetime.fromisoformat(event["time"])
    if kind == "run":  # the newest run of this file counts
        status.__init__(status.output)  # type: ignore[misc]
        status.started, status.run = when, str(event.get("run", ""))
        status.units_total = int(event.get("units_total", 0))
    if kind in ("paused", "resumed"):
        status.is_paused = kind == "paused"
    status.latest = when
    if kind == "todo":
        status.working = when
        status.units = {unit: state for unit, state in status.units.items() if state != "checking"}
    elif status.working is None and kind not in {"run", "unit-checking", "unit-skipped"}:
        status.working = status.started  # a file of 0.1, which doesn't tell the two apart
    status.blocks_done = int(event.get("blocks_done", 0)) if status.working else 0
    status.blocks_total = int(event.get("blocks_total", 0))
    if kind == "cluster":
        status.cluster = message
    elif kind == "unit-failed":
        status.units[unit], status.failures[unit] = "failed", message
    elif kind == "block-retried":
        status.retried_blocks += 1
    elif kind.startswith("unit-"):
        status.units[unit] = kind.removeprefix("unit-")
    elif kind == "end":
        status.is_paused = False
        status.state = "complete" if message == "complete" else "stopped"
        status.message = message
