"""Reports of the stages download, store and change: what became of each cell in each year.

They are written for people and their scripts, while the run works and in the end. What is finished is told by items
alone: a report that says otherwise is explained, and written anew.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

from loguru import logger

from eoap_dask.applications.change_detection.names import cell_and_year, is_change
from eoap_dask.files import dump_json
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.holdings import units_in
from eoap_dask.run.events import Event
from eoap_dask.run.plan import Plan
from eoap_dask.text import few, plural

CHECKPOINTS, LOGS = "checkpoints", "logs"
"""Directories in the product."""
EVERY_S, SHARE = 1.0, 0.05
"""A report is written at most so often while the run works, and in at most such a share of the time."""
_IMAGE, _CHANGE = ("download", "store"), ("change",)
"""Stages of an image, and of a change."""


def stages_of(key: str) -> tuple[str, ...]:
    """Return the stages of a unit."""
    return _CHANGE if is_change(key) else _IMAGE


@dataclass
class _Report:
    """One stage in one year."""

    stage: str
    year: str
    tasks: dict[str, dict[str, Any]] = field(default_factory=dict)
    is_new: bool = True
    """Whether it has something that isn't in its file."""
    due: float = 0.0
    """When it may be written again."""

    @property
    def name(self) -> str:
        return f"{self.stage}_{self.year}.json"

    def to_dict(self) -> dict[str, Any]:
        states = [task["status"] for task in self.tasks.values()]
        return {
            "stage_name": self.stage,
            "year": int(self.year),
            "total_tasks": len(states),
            "completed_tasks": states.count("completed"),
            "failed_tasks": states.count("failed"),
            "skipped_tasks": states.count("skipped"),
            "tasks": dict(sorted(self.tasks.items())),
        }


class Checkpoints:
    """Writes a report per stage and year, and a log per stage. A `Watcher`."""

    def __init__(self, plan: Plan, out: Path) -> None:
        self._earlier = _earlier_reports(out)
        self._there = _earlier_units(out)
        self._is_whole = not out.with_name(f"{out.name}.partial").is_dir()
        self.is_stale = False
        """Whether what the product has of reports is wrong."""
        self._root: Path | None = None
        self._reports: dict[tuple[str, str], _Report] = {}
        self._logs: dict[str, IO[str]] = {}
        self._stage: dict[str, str] = {}
        self._finished: set[str] = set()
        for one in plan.units:
            self._set(one.unit.key, "pending")
        for key in plan.empty:
            self._set(key, "skipped", reason="no data")

    def begin(self, root: Path) -> None:
        """Make the directories of reports and logs."""
        self._root = root
        for name in (CHECKPOINTS, LOGS):
            (root / name).mkdir(exist_ok=True)
        for stage in (*_IMAGE, *_CHANGE):
            self._logs[stage] = (root / LOGS / f"{stage}.log").open("a", encoding="utf-8")
        self._flush(at_once=True)

    def __call__(self, event: Event) -> None:
        """Take note of what became of a unit."""
        key, when = event.unit, event.time
        if event.kind == "todo":
            self._explain()
        if not key or not event.kind.startswith("unit-"):
            self._flush()
            return
        if event.kind == "unit-skipped":
            self._finished.add(key)
            self._completed_before(key)
        elif event.kind in ("unit-started", "unit-retried"):
            self._stage[key] = stages_of(key)[0]
            self._set(key, "pending")
            self._set(key, "in_progress", self._stage[key], started=when)
        elif event.kind == "unit-writing" and not is_change(key):
            self._set(key, "completed", "download", completed=when)
            self._stage[key] = "store"
            self._set(key, "in_progress", "store", started=when)
        elif event.kind == "unit-done":
            self._finished.add(key)
            self._set(key, "completed", stages_of(key)[-1], completed=when)
        elif event.kind == "unit-failed":
            self._set(key, "failed", self._stage.get(key, stages_of(key)[0]), completed=when, reason=event.message)
        if event.kind != "unit-checking":
            self._log(event)
        self._flush()

    def conclude(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Report of all units of the product, also those that the run didn't make."""
        for item in items:
            key = LAYOUT.unit_of_item(item)
            if key not in self._finished:
                self._finished.add(key)
                self._completed(key, item)

    def close(self) -> None:
        """Write all reports."""
        self._flush(at_once=True, is_last=True)
        for file in self._logs.values():
            with suppress(OSError):
                file.close()

    # ------------------------------------------------------------------------------------------------

    def _report(self, stage: str, key: str) -> tuple[_Report, str]:
        """Return the report of a unit's stage, and the name of its task."""
        cell, year = cell_and_year(key)
        report = self._reports.setdefault((stage, year), _Report(stage, year))
        return report, f"{stage}_{cell}_{year}"

    def _set(
        self,
        key: str,
        status: str,
        stage: str = "",
        *,
        started: datetime | None = None,
        completed: datetime | None = None,
        reason: str = "",
    ) -> None:
        for one in (stage,) if stage else stages_of(key):
            report, name = self._report(one, key)
            before = report.tasks.get(name, {})
            task: dict[str, Any] = {
                "status": status,
                "started_at": _text(started) or (None if status == "pending" else before.get("started_at")),
                "completed_at": _text(completed),
            }
            if reason:
                task["reason"] = reason
            report.tasks[name] = task
            report.is_new = True

    def _completed_before(self, key: str) -> None:
        item: Mapping[str, Any] = {}
        if self._root is not None:
            with suppress(OSError, ValueError):
                item = json.loads((self._root / LAYOUT.item_of(key)).read_bytes())
        self._completed(key, item)

    def _completed(self, key: str, item: Mapping[str, Any]) -> None:
        when = item.get("properties", {}).get("processing:datetime")
        for stage in stages_of(key):
            report, name = self._report(stage, key)
            report.tasks[name] = {"status": "completed", "started_at": None, "completed_at": when}
            report.is_new = True

    def _log(self, event: Event) -> None:
        stage = self._stage.get(event.unit, stages_of(event.unit)[-1])
        cell, year = cell_and_year(event.unit)
        what = event.kind.removeprefix("unit-")
        words = f" {event.message}" if event.message else ""
        file = self._logs.get(stage)
        if file is not None:
            file.write(f"{_text(event.time)} cell {cell}, {year}: {what}{words}\n")
            file.flush()

    def _flush(self, *, at_once: bool = False, is_last: bool = False) -> None:
        if self._root is None:
            return
        for report in self._reports.values():
            now = time.monotonic()
            if report.is_new and (at_once or now >= report.due):
                try:
                    _replace(self._root / CHECKPOINTS / report.name, dump_json(report.to_dict()))
                except OSError:
                    if not is_last:  # a full disk isn't to hide what stopped us
                        raise
                end = time.monotonic()
                report.is_new, report.due = False, end + max(EVERY_S, (end - now) / SHARE)

    # ------------------------------------------------------------------------------------------------

    def _explain(self) -> None:
        """Say where reports of an earlier run tell otherwise than the items, which count."""
        if self._earlier is None:
            return
        for path, document in self._earlier:
            if isinstance(document, str):
                self.is_stale = True
                logger.warning("{} {}: it is written anew, and the items count.", path, document)
            elif wrong := [f"{name} is {what}" for name, what in self._wrong(document)]:
                self.is_stale = True
                logger.warning("{} says otherwise than the items: {}. The items count.", path, few(wrong, 3))
        there = {path.name for path, _ in self._earlier}
        done = [report for report in self._reports.values() if _any(report, "completed")]
        if gone := [report.name for report in done if report.name not in there]:
            self.is_stale = True
            missing = plural(len(gone), "checkpoint is", "checkpoints are")
            logger.warning("{} missing: {}. The items count.", missing, few(gone))
        self._earlier = None

    def _wrong(self, document: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
        """Yield the tasks of an earlier report that aren't as it says, and what it says.

        What is downloaded and not stored leaves nothing that could be looked at.
        """
        tasks = document.get("tasks")
        for name, task in tasks.items() if isinstance(tasks, Mapping) else ():
            status = task.get("status") if isinstance(task, Mapping) else None
            stage, _, place = str(name).partition("_")
            is_there = (stage == "change", place) in self._there
            is_claim = status == "failed" or self._is_whole  # of a run that was killed, others are what was under way
            if is_there and is_claim and status != "completed":
                yield str(name), str(status)
            elif status == "completed" and not is_there and stage != "download":
                yield str(name), "completed"


def _any(report: _Report, status: str) -> bool:
    return any(task["status"] == status for task in report.tasks.values())


def _earlier_units(out: Path) -> set[tuple[bool, str]]:
    """Return which units there are: whether each is a change, and its cell and year, as tasks are named."""
    found = set()
    for place in (out.with_name(f"{out.name}.partial"), out):
        for key in units_in(place):
            with suppress(ValueError):
                found.add((is_change(key), "_".join(cell_and_year(key))))
    return found


def _earlier_reports(out: Path) -> list[tuple[Path, dict[str, Any] | str]] | None:
    """Return what the reports of an interrupted run say, or else those of the product; None where there is neither."""
    for place in (out.with_name(f"{out.name}.partial"), out):
        folder = place / CHECKPOINTS
        if folder.is_dir() and not folder.is_symlink():
            return [(path, _read(path)) for path in sorted(folder.glob("*.json"))]
        if (place / "run.json").is_file():
            return []
    return None


def _read(path: Path) -> dict[str, Any] | str:
    """Return a report, or a phrase that says what is wrong with it."""
    try:
        document = json.loads(path.read_bytes())
    except OSError as error:
        return f"can't be read ({error.strerror or error})"
    except (ValueError, RecursionError):
        return "isn't JSON"
    return document if isinstance(document, dict) else "isn't a JSON object"


def _text(when: datetime | None) -> str | None:
    return None if when is None else when.astimezone(UTC).isoformat(timespec="seconds")


def _replace(path: Path, text: str) -> None:
    """Replace a report: it is there whole, the one or the other, though perhaps not after a power cut."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        draft.write_text(text, encoding="utf-8")
        draft.replace(path)
    except BaseException:
        with suppress(OSError):
            draft.unlink()
        raise
