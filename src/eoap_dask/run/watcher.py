"""What an application writes of a run beside its product while that is made, such as reports of its own stages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

from eoap_dask.run.events import Event


class Watcher(Protocol):
    """Hears of a run, and reports. What it has written is never read to decide what is done."""

    @property
    def is_stale(self) -> bool:
        """Whether what the product has of it is wrong, so that it must be published anew."""
        ...

    def begin(self, root: Path) -> None:
        """Take the directory of the run, which becomes the product; nothing of an earlier run is in it but units."""
        ...

    def __call__(self, event: Event) -> None:
        """Take an event."""
        ...

    def conclude(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Take the items of the product, before it is published."""
        ...

    def close(self) -> None:
        """Write what is left, however the run ends."""
        ...


class NoWatcher:
    """Writes nothing. A `Watcher`."""

    is_stale = False

    def begin(self, root: Path) -> None:
        """Do nothing."""

    def __call__(self, event: Event) -> None:
        """Do nothing."""

    def conclude(self, items: Sequence[Mapping[str, Any]]) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""
