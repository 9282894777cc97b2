"""What happens during a run, as a stream of events and as the file ``events.jsonl`` in the output.

While the run works, the file is in ``<out>.partial``: one JSON object a line, see ``docs/events.md``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from threading import RLock
from typing import IO, Any, Literal, Self
from uuid import uuid4

from eoap_dask.errors import OtherRunError
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
    "unit-writing",  # all its blocks are there: its files are finished
    "paused",  # no more blocks are sent; those under way are finished
    "resumed",
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
    units_total: int = 0
    """With `run`: units of the run, finished ones too; 0 where it isn't known beforehand, and with other events."""
    time: datetime = field(default_factory=lambda: datetime.now(UTC))
    run: str = ""
    """Id of the run; `EventFile` gives it."""
    seq: int = 0
    """1 for the first event of the run, 2 for the second, without gaps; `EventFile` gives it."""

    def to_json(self) -> str:
        """Return the event as a line of ``events.jsonl``; no secret gets into it."""
        values = {**vars(self), "message": redact(self.message), "time": self.time.isoformat(timespec="milliseconds")}
        return json.dumps({k: v for k, v in values.items() if v != "" and (k, v) not in _UNSAID})


_UNSAID = {("seq", 0), ("units_total", 0)}

Listener = Callable[[Event], None]


def ignore(event: Event) -> None:
    """Listen to nothing."""


def tell_both(first: Listener, second: Listener) -> Listener:
    """Return a listener that tells one, then another."""

    def tell(event: Event) -> None:
        first(event)
        second(event)

    return tell


class EventFile:
    """Numbers the events of a run, writes each to a file, then passes it on to `also`. A context manager."""

    def __init__(self, path: Path, also: Listener = ignore, run: str | None = None) -> None:
        self._path, self._also = path, also
        self._run, self._seq, self._lock = run or uuid4().hex, 0, RLock()
        self._file: IO[str] | None = None
        self.latest: Event | None = None  # the last one that it took
        self.has_begun = False  # whether it was told what is left to do

    def __enter__(self) -> Self:
        self._file = self._path.open("a", encoding="utf-8")
        return self

    def __exit__(self, *_: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def __call__(self, event: Event) -> None:
        """Take an event."""
        with self._lock:  # any thread of the run may tell something
            self._seq += 1
            event = replace(event, run=self._run, seq=self._seq)
            if self._file is not None:
                self._file.write(event.to_json() + "\n")
                self._file.flush()  # somebody may be watching
            self.latest = event
            self.has_begun = self.has_begun or event.kind == "todo"
            self._also(event)  # one at a time, and in the order of the file


class EventReader(Iterator[dict[str, Any]]):
    """The whole lines of a file of events, oldest first; it is over where the file ends. Made by `read_events`."""

    def __init__(self, path: Path, offset: int, run: str) -> None:
        self.offset = offset
        """Where the line begins that comes next, in bytes: what to go on from later."""
        self._events = self._read(path, run)

    def __next__(self) -> dict[str, Any]:
        return next(self._events)

    def _read(self, path: Path, run: str) -> Iterator[dict[str, Any]]:
        with path.open("rb") as file:
            self._refuse_other(file, run)
            file.seek(self.offset)
            for line in file:
                if not line.endswith(b"\n"):
                    return
                self.offset += len(line)
                event = _parsed(line)
                if event is not None:
                    yield event

    def _refuse_other(self, file: IO[bytes], run: str) -> None:
        """Raise where the file isn't the one that the offset and the run are of."""
        if run:
            whole = (_parsed(line) for line in file if line.endswith(b"\n"))
            found = next((event.get("run", "") for event in whole if event), run)
            if found != run:
                raise _other(file.name, f"holds events of another run than {run}")
        if self.offset:
            file.seek(self.offset - 1)
            if file.read(1) != b"\n":
                raise _other(file.name, f"has no line that begins at byte {self.offset}")


def read_events(path: Path, offset: int = 0, run: str = "") -> EventReader:
    """Yield the events of a file, oldest first; a last line that is still being written is left for the next time.

    Parameters
    ----------
    path
        The file. Its run renames the directory when it publishes, see `status.events_file`.
    offset
        Where to begin, in bytes: 0, or the `offset` of what an earlier call returned.
    run
        Id of the run that is expected; any by default.

    Returns
    -------
    EventReader
        An iterator of JSON objects. Its `offset` says where to go on.

    Raises
    ------
    FileNotFoundError
        At the first event, where there is no such file (any more).
    OtherRunError
        At the first event, when the file is that of another run, or has no line that begins at `offset`.
    """
    return EventReader(path, offset, run)


def _parsed(line: bytes) -> dict[str, Any] | None:
    try:
        event = json.loads(line)
    except ValueError:
        return None  # a run was killed while it wrote this line
    return event if isinstance(event, dict) and "kind" in event else None


def _other(name: str, what: str) -> OtherRunError:
    return OtherRunError(
        f"{name} {what}.",
        "Expected the file that was read before.",
        "Another run has begun there: read its events from the beginning.",
    )
