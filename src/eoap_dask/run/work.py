"""The interface between the engine and what it makes: a `Work` says what is done for a unit, and what that becomes.

Rasters that become COGs are one kind, see `raster`. The engine knows no other fact about a unit than these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from eoap_dask.cluster.size import Size
    from eoap_dask.errors import ContradictionError
    from eoap_dask.render.resources import Resource
    from eoap_dask.run.options import RunOptions


@dataclass(frozen=True)
class Estimate:
    """What a unit is estimated to take, in bytes."""

    read: int
    """Fetched from sources, compressed."""
    task: int
    """Memory of the largest task, without what a worker's tasks share."""


class Work(Protocol):
    """What is done for a unit: tasks in one round or several, and a collector of their results. Immutable.

    A round is a number of tasks that know nothing of each other. Their results, and nothing else, decide the next one.
    """

    @property
    def tasks(self) -> int:
        """Number of tasks of this round; may be 0."""
        ...

    @property
    def task(self) -> Callable[..., Any]:
        """What a worker runs, a function of a module: ``task(packed, number, folder, parts)``.

        `packed` is from `pack`; `folder`, a directory that client and worker see under one path, or None, is for large
        results; `parts` are from `parts`. Without both it is called as ``task(packed, number)``. Raises AssetError for
        a source that stays bad, ContradictionError for one that is other than was planned with, TilesError and
        ResourceError.
        """
        ...

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Files that every worker needs."""
        ...

    @property
    def reads(self) -> int:
        """Files that a worker reads at once."""
        ...

    @property
    def modules(self) -> tuple[str, ...]:
        """Packages that workers need beside ours, in the client's version where it has them."""
        ...

    @property
    def worker_check(self) -> Callable[[], str] | None:
        """What every worker calls before any work, to raise where it lacks something; None for nothing.

        It returns with what the worker computes, where that decides the last digits.
        """
        ...

    @property
    def is_local(self) -> bool:
        """Whether its tasks need much of the same, so that one worker had best do them all."""
        ...

    @property
    def needs(self) -> tuple[str, ...]:
        """Keys of the units that `parts` takes from; they must be among `Unit.needs`."""
        ...

    @property
    def contradictions(self) -> tuple[tuple[str, str], ...]:
        """Item and asset of each source that is other than the catalogue says; the work goes by what it is."""
        ...

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the result, as JSON-like parts by name, so that a change can be named.

        Sizes, workers and readers have no part in it. What `Unit.needs` made is added by the engine.
        """
        ...

    def pack(self) -> bytes:
        """Return what travels once to every worker."""
        ...

    def parts(self, number: int, file: Callable[[str, str], Path], *, shared: bool) -> tuple[Any, ...]:
        """Return what a task needs of other units, to travel with it.

        Parameters
        ----------
        number
            That of the task.
        file
            Returns the path of a file of a finished unit, from its key and the file's name.
        shared
            Whether workers see these paths too.
        """
        ...

    def task_bytes(self, number: int) -> int:
        """Return the bytes of a task's result and parts, at most: what is under way at once is limited."""
        ...

    def collect(self, folder: Path, scratch: Path) -> Collector:
        """Return what takes the results of this round and all that follow.

        Parameters
        ----------
        folder
            The unit's directory, for its files.
        scratch
            A directory for all else, where tasks leave large results as well.
        """
        ...

    def without(self, source: str) -> Work | None:
        """Return the work without a source that stays bad, from its beginning; None where it can't do without it."""
        ...

    def corrected(self, fault: ContradictionError) -> Work | None:
        """Return the work with what sources really are, from its beginning; None where that changes nothing."""
        ...

    def sized(self, size: Size, options: RunOptions, units: int) -> Work:
        """Return the work in tasks that suit a cluster, which has so many units to do. Results don't depend on it."""
        ...

    @property
    def output_bytes(self) -> int:
        """Bytes of its files, estimated."""
        ...

    def estimate(self) -> Estimate:
        """Return what it is estimated to take while it is done; may look at every task."""
        ...

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker for what tasks share, such as a model, however many threads it has."""
        ...

    def task_bytes_at_most(self) -> int:
        """Return an upper limit of `Estimate.task`, without looking at every task."""
        ...

    def to_dict(self) -> Mapping[str, Any]:
        """Return what a plan tells of it, as JSON-like values: ``blocks``, and where they apply ``grid`` and counts."""
        ...

    def __str__(self) -> str: ...


class Collector(Protocol):
    """Takes the results of a unit's tasks, in any order, and makes its files. One thread at a time uses it."""

    def add(self, number: int, result: Any) -> None:
        """Take the result of a task; OSError when the disk refuses."""
        ...

    def next_round(self) -> Work | None:
        """Return the work of the next round, once all results of this one were taken; None when there is none."""
        ...

    def write(self) -> Any:
        """Write the unit's files, but for its item, and return what the application needs to know of them."""
        ...

    def close(self) -> None:
        """Remove scratch files; may be called at any time."""
        ...
