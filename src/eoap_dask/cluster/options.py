"""Which cluster the work runs on: the options that all commands of clusters share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from eoap_dask.errors import UsageError
from eoap_dask.params import Declared, param
from eoap_dask.text import must_be, option, parse_memory

DEFAULT_WORKERS = 2
"""Of a cluster that is started on a Gateway."""


@dataclass(frozen=True)
class ClusterOptions(Declared):
    """Which cluster to work on, or how large one to start."""

    HEADING: ClassVar = "Cluster"

    cluster: str = param(
        "auto",
        "Where the work runs: embedded on this machine, on a Dask Gateway, or on a running scheduler; auto is the "
        "Gateway's cluster that DASK_CLUSTER names, else this machine.",
        metavar="auto|local|gateway|tcp://…",
    )
    workers: int | None = param(
        None,
        "Workers to start, or of a joined cluster to wait for. [default: from the machine; 2 on a Gateway]",
        metavar="N",
    )
    worker_cores: float | None = param(
        None, "Cores of each worker that a Gateway starts. [default: the Gateway's]", metavar="NUMBER"
    )
    worker_memory: str | None = param(
        None,
        "Memory of each worker, such as 4G. [default: from the machine, or the Gateway's]",
        metavar="SIZE",
    )
    image: str | None = param(None, "Container image of the workers that a Gateway starts.", metavar="IMAGE")
    cluster_options: tuple[tuple[str, str], ...] = param(
        (),
        "Further option of the Gateway's clusters. Repeat for more.",
        metavar="NAME=VALUE",
        multiple=True,
        flag="cluster-option",
    )
    cluster_timeout: float = param(300.0, "How long to wait for a cluster and its workers.", metavar="SECONDS")
    allow_version_mismatch: bool = param(
        False,
        "Only warn when client, scheduler and workers have different software.",
        negative="no-allow-version-mismatch",
    )

    cores: int | None = None
    """Of all workers together, of a cluster that is started. By default those of the machine, or the Gateway's."""
    memory: int | None = None
    """Bytes of all workers together, of a cluster that is started."""

    @property
    def gateway_workers(self) -> int | None:
        """Workers of a cluster that is started on a Gateway: as many as fit into `cores` and `memory`."""
        if self.workers is not None or (self.cores is None and self.memory is None):
            return self.workers
        fits = [] if self.cores is None else [self.cores // max(1, int(self.worker_cores or 1))]
        if self.memory is not None and (each := self.worker_bytes()) is not None:
            fits.append(self.memory // each)
        return max(1, min(fits, default=DEFAULT_WORKERS))

    def worker_bytes(self) -> int | None:
        """Return `worker_memory` in bytes."""
        if self.worker_memory is None:
            return None
        try:
            size = parse_memory(self.worker_memory)
        except UsageError as exc:
            raise UsageError(f"{option('worker_memory')}: {exc.what}", exc.expected, exc.hint) from None
        if size < 256 << 20:
            raise must_be("worker_memory", "at least 256M", self.worker_memory, "2G")
        return size

    def check(self) -> None:
        """Raise `UsageError` for values that make no sense."""
        self.worker_bytes()
        if self.cluster not in {"auto", "local", "gateway"} and not self.cluster.startswith(("tcp://", "tls://")):
            raise UsageError(
                f"{option('cluster')} must be auto, local, gateway or a scheduler's address, got {self.cluster!r}.",
                "",
                f"Try {option('cluster', 'local')}, or {option('cluster', 'tcp://127.0.0.1:8786')}.",
            )
        if self.workers is not None and self.workers < 1:
            raise must_be("workers", "1 or more", self.workers, 1)
        if self.worker_cores is not None and not 0 < self.worker_cores < math.inf:
            raise must_be("worker_cores", "more than 0", self.worker_cores, 1)
        if not 0 < self.cluster_timeout < math.inf:
            raise must_be("cluster_timeout", "more than 0 seconds and finite", self.cluster_timeout, 300)
