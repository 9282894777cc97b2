"""How large a cluster is."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from eoap_dask.errors import ClusterError

if TYPE_CHECKING:
    from distributed import Client

MIN_WORKER_BYTES = 256 << 20
"""A worker process needs most of this before it has read a pixel."""


@dataclass(frozen=True)
class Size:
    """Workers of a cluster, and what each has."""

    workers: int
    threads_per_worker: int
    memory_per_worker: int
    """Bytes."""

    @property
    def slots(self) -> int:
        """Tasks that run at once."""
        return self.workers * self.threads_per_worker


def local_size(
    workers: int | None = None,
    memory_per_worker: int | None = None,
    tasks: int | None = None,
    cores: int | None = None,
    memory: int | None = None,
) -> Size:
    """Return a sensible use of this machine, within the limits of its control group.

    By default one process per four cores (kernels release the GIL), 80 % of the memory, and no more slots than `tasks`.
    `cores` and `memory` (bytes) are limits of all workers together.
    """
    from dask.system import CPU_COUNT
    from distributed.system import MEMORY_LIMIT

    most = CPU_COUNT if cores is None else min(CPU_COUNT, cores)
    slots = max(1, min(most, tasks or most))
    processes = workers or max(1, -(-slots // 4))
    threads = max(1, -(-slots // processes)) if workers is None else max(1, most // processes)
    whole = int(MEMORY_LIMIT * 0.8)
    share = (whole if memory is None else min(whole, memory)) // processes
    return Size(processes, threads, memory_per_worker or share)


def size_of(client: Client) -> Size:
    """Return the size of a running cluster, as its smallest worker has it."""
    workers = client.scheduler_info(n_workers=-1)["workers"].values()
    if not workers:
        raise ClusterError("The cluster has no workers.", "Expected at least one.", "Try to scale it up.")
    return Size(len(workers), min(w["nthreads"] for w in workers), min(w["memory_limit"] or 2**62 for w in workers))
