"""The interface between a run and what publishes its product."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol, Self


class Publisher(Protocol):
    """Takes the units of a run and makes them a product: a context manager that holds the output for this run.

    The *snapshot* kind (`Publication`) makes the whole product appear, or replaces it, in one step at the end. The
    *per-unit* kind (`UnitPublication`) publishes each unit when its item is there, and the catalog at the end.
    """

    keeps_others: ClassVar[bool]
    """Whether units that a run doesn't make stay in the product."""
    out: Path
    """The product."""
    root: Path
    """Directory for what belongs to the run as a whole: catalog, log, events, ledger."""
    keep_partial: bool
    """Set it to keep what is in `root` when the run fails."""

    def __init__(self, out: Path, application: str, *, resume: bool = False, update: bool = False) -> None: ...

    def __enter__(self) -> Self: ...

    def __exit__(self, *exception: Any) -> None: ...

    @property
    def ledger(self) -> Path:
        """Directory of ``failures.json`` when a run has failed."""
        ...

    @property
    def scratch(self) -> Path:
        """A directory for files that aren't part of the product; removed in the end, however the run ends."""
        ...

    def unit_dir(self, key: str) -> Path:
        """Create the directory of a unit, empty, and return it."""
        ...

    def unit_done(self, key: str) -> None:
        """Take a unit whose directory is complete, its item included: from here on it is kept."""
        ...

    def file_of(self, key: str, name: str) -> Path:
        """Return the path of a file of a unit that is done or adopted."""
        ...

    def holds(self, key: str) -> bool:
        """Tell whether `adopt` has something to check, which takes a while for large files."""
        ...

    def adopt(self, key: str, digest: str) -> dict[str, Any] | None:
        """Take over a unit that is finished already, and return its item; None when it isn't."""
        ...

    def renew(self, item: dict[str, Any]) -> None:
        """Replace the item of an adopted unit; its assets are the same."""
        ...

    def forget(self, key: str) -> None:
        """Drop an adopted unit: it has to be made after all."""
        ...

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove what an interrupted run left of other units."""
        ...

    def all_items(self, finished: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the items that the catalog lists, from those of this run."""
        ...

    def discard(self) -> None:
        """Leave the product as it is, for a run that finds it published already."""
        ...

    def commit(self) -> Path:
        """Publish the product, or what is left to be published of it."""
        ...
