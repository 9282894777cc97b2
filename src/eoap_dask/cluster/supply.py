"""Files for workers, such as a model: brought once to each, in pieces, by way of the scheduler."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.errors import ClusterError, EoapError, ResourceError
from eoap_dask.redact import redact
from eoap_dask.render.resources import STORE, Resource
from eoap_dask.text import plural, show_bytes

if TYPE_CHECKING:
    from distributed import Client

PIECE_BYTES = 16 << 20
"""What travels at once: it is in memory here, on the scheduler, and on each worker."""


def supply(client: Client, resources: Sequence[Resource]) -> None:
    """Bring resources to all workers that lack them.

    Raises
    ------
    ClusterError
        when a worker can't take one
    ResourceError
        when a file has changed since it was named
    """
    for resource in resources:
        answers = _run(client, _has, resource)
        lacking = [worker for worker, has in answers.items() if has is not True]
        if not lacking:
            continue
        logger.info("{} ({}) goes to {}", resource.name, show_bytes(resource.size), plural(len(lacking), "worker"))
        offset = 0
        with resource.path.open("rb") as file:
            while piece := file.read(min(PIECE_BYTES, resource.size - offset)):
                for worker, fault in _run(client, _take, resource, offset, piece, workers=lacking).items():
                    _check(client, worker, resource, fault)
                offset += len(piece)
        if offset < resource.size:
            raise ResourceError(
                f"{resource.path} has {offset} bytes, where it had {resource.size}.",
                "Expected a file that doesn't change during a run.",
                "Run the same command again.",
            )


def _run(client: Client, function: Any, *arguments: Any, workers: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = client.run(function, *arguments, workers=workers, on_error="return")
    return found


def _check(client: Client, worker: str, resource: Resource, fault: Any) -> None:
    if fault is None or worker not in client.scheduler_info(n_workers=-1)["workers"]:
        return  # a worker that has gone needs nothing
    if isinstance(fault, EoapError):
        raise fault
    raise ClusterError(
        f"The worker {worker} can't take {resource.name}: {redact(fault) or type(fault).__name__}.",
        f"Expected {show_bytes(resource.size)} of free disk in its directory.",
        "Give the workers more disk.",
    )


def _has(resource: Resource) -> bool:
    return STORE.find(resource) is not None


def _take(resource: Resource, offset: int, piece: bytes, dask_worker: Any = None) -> None:
    STORE.add(resource, offset, piece, Path(dask_worker.local_directory))
