"""Files for workers, such as a model: brought once to each, in pieces, by way of the scheduler."""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from loguru import logger

from eoap_dask.errors import ClusterError, EoapError, ResourceError
from eoap_dask.redact import redact
from eoap_dask.render.resources import STORE, Resource
from eoap_dask.text import plural, show_bytes

if TYPE_CHECKING:
    from distributed import Client

PIECE_BYTES = 16 << 20
"""What travels at once: it is in memory here, on the scheduler, and on each worker."""

_DISK = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EIO, errno.EFBIG}
"""Errors of a worker's disk; others are of the way there."""


def supply(client: Client, resources: Sequence[Resource], check: Callable[[], None] = lambda: None) -> None:
    """Bring resources to all workers that lack them; one that is lost meanwhile is left out.

    `check` is called before each piece, and may raise.

    Raises
    ------
    ClusterError
        when a worker's disk can't take one
    ResourceError
        when a file can't be read, or has changed since it was named
    """
    for resource in resources:
        answers = _run(client, _has, resource)
        lacking = [worker for worker, has in answers.items() if has is not True]
        if not lacking:
            continue
        logger.info("{} ({}) goes to {}", resource.name, show_bytes(resource.size), plural(len(lacking), "worker"))
        try:
            _send(client, resource, lacking, check)
        except OSError as exc:
            raise ResourceError(
                f"{resource.path} can't be read: {exc.strerror or exc}.",
                "Every worker needs it.",
                "Run the same command again.",
            ) from exc


def _send(client: Client, resource: Resource, lacking: list[str], check: Callable[[], None]) -> None:
    offset, sender = 0, uuid4().hex[:8]
    with resource.path.open("rb") as file:
        while lacking and (piece := file.read(min(PIECE_BYTES, resource.size - offset))):
            check()
            # those that have gone would be waited for
            there = client.scheduler_info(n_workers=-1)["workers"]
            lacking = [worker for worker in lacking if worker in there]
            answers = _run(client, _take, resource, offset, piece, sender, workers=lacking) if lacking else {}
            lacking = [worker for worker, fault in answers.items() if _has_taken(worker, resource, fault)]
            offset += len(piece)
    if lacking and offset < resource.size:
        raise ResourceError(
            f"{resource.path} has {offset} bytes, where it had {resource.size}.",
            "Expected a file that doesn't change during a run.",
            "Run the same command again.",
        )


def _run(client: Client, function: Any, *arguments: Any, workers: list[str] | None = None) -> dict[str, Any]:
    found: dict[str, Any] = client.run(function, *arguments, workers=workers, on_error="return")
    return found


def _has_taken(worker: str, resource: Resource, fault: Any) -> bool:
    """Tell whether a worker has taken a piece; False where it was lost, and raise for what will not pass."""
    if fault is None:
        return True
    if isinstance(fault, EoapError):
        raise fault
    if isinstance(fault, OSError) and fault.errno in _DISK:
        raise ClusterError(
            f"The worker {worker} can't take {resource.name}: {redact(fault)}.",
            f"Expected {show_bytes(resource.size)} of free disk in its directory.",
            "Give the workers more disk.",
        )
    logger.debug("{} didn't take {}: {}", worker, resource.name, redact(fault) or type(fault).__name__)
    return False


def _has(resource: Resource) -> bool:
    return STORE.find(resource) is not None


def _take(resource: Resource, offset: int, piece: bytes, sender: str, dask_worker: Any = None) -> None:
    STORE.add(resource, offset, piece, Path(dask_worker.local_directory), sender)
