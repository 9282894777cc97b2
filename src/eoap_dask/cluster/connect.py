"""A Dask client to work with: the one that is active, one for a Gateway or a scheduler, or of an embedded cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from loguru import logger

from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.options import DEFAULT_WORKERS
from eoap_dask.cluster.script import check_script
from eoap_dask.cluster.size import MIN_WORKER_BYTES, Size, local_size, size_of
from eoap_dask.errors import UsageError
from eoap_dask.text import option, plural

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.cluster.options import ClusterOptions


@contextmanager
def open_client(
    options: ClusterOptions, size: Size, client: Client | None = None, scratch: Path | None = None
) -> Iterator[Client]:
    """Yield a client as the options say, and stop afterwards only what was started here.

    In this order: `client`, the active client (``auto``), the cluster that ``DASK_CLUSTER`` names on the Gateway, a
    local cluster of `size` with its files in `scratch`.
    """
    options.check()
    running = existing_client(options.cluster, client)
    if running is not None:
        _say_unused(options)
        yield running
        return
    with _started(options, size, scratch) as own:
        yield own


def existing_client(cluster: str, client: Client | None = None) -> Client | None:
    """Return the given client, else with ``auto`` the active one; None where a cluster must be started or joined."""
    return client or (_active_client() if cluster == "auto" else None)


def check_start(cluster: str, client: Client | None = None) -> None:
    """Raise `UsageError` where a cluster would be started on this machine, and its workers begin a script again."""
    if existing_client(cluster, client) is None and cluster_kind(cluster) == "local":
        check_script()


def cluster_kind(cluster: str) -> Literal["local", "gateway", "scheduler"]:
    """Return what the option `cluster` means, without an active client."""
    from eoap_dask.cluster.gateway.client import name_from_environment

    if cluster == "auto":
        return "gateway" if name_from_environment() else "local"
    if cluster in {"local", "gateway"}:
        return "local" if cluster == "local" else "gateway"
    return "scheduler"


def is_embedded(client: Client) -> bool:
    """Tell whether a client's cluster consists of processes that this one has started, with its own software."""
    from distributed import LocalCluster

    return isinstance(client.cluster, LocalCluster)


@contextmanager
def _started(options: ClusterOptions, size: Size, scratch: Path | None) -> Iterator[Client]:
    from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_client, name_from_environment, scheduler_client

    kind = cluster_kind(options.cluster)
    if kind != "gateway":
        _say_unused(options)
    if kind == "local":
        with local_client(size, scratch) as client:
            yield client
    elif kind == "scheduler":
        with scheduler_client(
            options.cluster,
            timeout_s=options.cluster_timeout,
            allow_version_mismatch=options.allow_version_mismatch,
        ) as client:
            yield client
    else:
        wanted = GatewayOptions(
            name=name_from_environment(),
            workers=options.gateway_workers,
            worker_cores=options.worker_cores,
            worker_memory=options.worker_memory,
            image=options.image,
            options=dict(options.cluster_options),
            timeout_s=options.cluster_timeout,
            allow_version_mismatch=options.allow_version_mismatch,
        )
        with gateway_client(wanted) as client:
            yield client


def _say_unused(options: ClusterOptions) -> None:
    """Warn of options that only a Gateway's clusters have, where the work runs on another."""
    unused = [option(name) for name in ("worker_cores", "image", "cluster_options") if getattr(options, name)]
    if unused:
        logger.warning("Only a cluster that a Gateway starts takes {}: set aside here.", ", ".join(unused))


def expected_size(options: ClusterOptions, client: Client | None, tasks: int) -> Size:
    """Return the size of the cluster that the work will run on, as far as it is known before the cluster is there.

    `tasks` is an upper limit. Raises `UsageError` when a local cluster would have too little memory for its workers.
    """
    running = existing_client(options.cluster, client)
    if running is not None:
        return size_of(running)
    if cluster_kind(options.cluster) == "local":
        size = local_size(options.workers, options.worker_bytes(), tasks, options.cores, options.memory)
        if size.memory_per_worker < MIN_WORKER_BYTES:
            raise UsageError(
                f"With {plural(size.workers, 'worker')}, each would have {size.memory_per_worker >> 20} MiB of memory.",
                f"Expected at least {MIN_WORKER_BYTES >> 20} MiB.",
                f"Try fewer {option('workers')}.",
            )
        return size
    return Size(
        options.gateway_workers or DEFAULT_WORKERS,
        max(1, int(options.worker_cores or 1)),
        options.worker_bytes() or 4 << 30,
    )


def _active_client() -> Client | None:
    from distributed import default_client

    try:
        found: Client = default_client()
    except ValueError:
        return None
    return found
