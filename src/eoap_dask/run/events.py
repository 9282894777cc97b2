"""What happens during a run, as a stream of events and as the file ``events.jsonl`` in the output.

While the run works, the file is in ``<out>.partial``: one JSON object a line, see ``docs/events.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any, Literal, Self

from eoap_dask.redact import redact

EVENTS_FILE = "events.jsonl"

EventKind = Literal[
    "run",  # a run begins: message says how large the whole product is
    "unit-checking",  # what an earlier run left of it is compared with its checksums
    "unit-skipped",  # it was finished before
    "todo",  # what is left to do is known: blocks_total blocks
    "cluster",  # the cluster is there, or has grown or shrunk: message says how large it is
    "unit-started",
    "unit-retried",  # it begins again, without a scene that stayed bad
    "block-retried",  # workers died while they had it: it is tried again when nothing else runs beside it
    "block-done",
    "unit-done",
    "unit-failed",
    "end",  # the run is over: message is "complete", or what stopped it
]
"""What happens, in this order; docs/events.md says more."""


@dataclass(frozen=True)
class Event:
    """Something that happened during a run."""

    kind: EventKind
    unit: str = ""
    """Key of the unit that it is about."""
    blocks_done: int = 0
    """Blocks of this run that are done, of all units; up to `todo` those of units that were looked at."""
    blocks_total: int = 0
    """Blocks that this run renders, without those of units that were finished before; up to `todo` with them."""
    message: str = ""
    """For people."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))

    def to_json(self) -> str:
        """Return the event as a line of ``events.jsonl``; no secret gets into it."""
        values = {**vars(self), "message": redact(self.message), "time": self.time.isoformat(timespec="milliseconds")}
        return json.dumps({k: v for k, v in values.items() if v != ""})


Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


class EventFile:
    """Writes every event to a file, then passes it on to `also`. A context manager."""

    def __init__(self, path: Path, also: Listener = ignore) -> None:
        self._path, self._also = path, also
        self._file: IO[str] | None = None
        self.latest: Event | None = None  # the last one that it took

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if self._file is not None:
            self._file.write(event.to_json() + "\n")
            self._file.flush()  # somebody may be watching
        self.latest = event
        self._also(event)


def read_events(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the events of a file, oldest first; a last line that is still being written is left out."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if not line.endswith("\n"):
                return
            try:
                event = json.loads(line)
            except ValueError:
                continue  # a run was killed while it wrote this line
            if isinstance(event, dict) and "kind" in event:
                yield event
