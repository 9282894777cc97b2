"""Talking to a Dask Gateway: its clusters and their options, from code that isn't asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import re
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar

from loguru import logger

from eoap_dask.cluster.gateway.access import authentication, configured_address, from_template, skips_proxy
from eoap_dask.cluster.gateway.faults import explained, unknown_cluster, useless_access
from eoap_dask.cluster.gateway.options import fill
from eoap_dask.cluster.name_file import check_address, check_cluster_name
from eoap_dask.errors import ClusterError, EoapError, RefusedError, UsageError
from eoap_dask.overlap import warnings_filtered
from eoap_dask.redact import redact
from eoap_dask.text import option

T = TypeVar("T")

REQUEST_TIMEOUT_S = 30.0
SUBMIT_TIMEOUT_S = 30.0
"""How long to wait for the name of a new cluster."""
LATE_ANSWER_S = 30.0
"""How much longer to wait for it after giving up: a cluster may have started, and only its name can stop it."""
STOP_ATTEMPTS = 4
STOP_TIMEOUT_S = 30.0
_making = threading.Lock()
"""A Gateway's client takes its settings from Dask's configuration: one at a time, each with its own."""


@dataclass(frozen=True)
class ClusterInfo:
    """What a Gateway says of a cluster."""

    name: str
    status: str
    """pending, running, stopping, stopped or failed."""
    started: datetime
    dashboard: str | None
    scheduler: str | None
    """Address for a client, while it runs."""
    security: Any = field(default=None, repr=False, compare=False)
    """Keys for a client, while it runs."""

    @property
    def is_live(self) -> bool:
        """Whether it runs or will."""
        return self.status in {"pending", "running"}

    @property
    def age_s(self) -> float:
        """Seconds since it was started."""
        return (datetime.now(UTC) - self.started).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        """Return what may be shown, as JSON-like values."""
        return {
            "name": self.name,
            "status": self.status,
            "started": self.started.isoformat(timespec="seconds"),
            "age_s": round(self.age_s),
            "dashboard": self.dashboard,
            "scheduler": self.scheduler,
        }


class GatewayApi:
    """Waits for the answers of a Gateway, and raises its faults as sentences. A context manager.

    It runs dask-gateway's asynchronous client in a thread of its own: the synchronous one prints to stderr when the
    interpreter ends, and shares the event loop of Dask clients.
    """

    def __init__(self, address: str | None = None) -> None:
        # by default gateway.address of dask's configuration, such as DASK_GATEWAY__ADDRESS, or else DASK_GATEWAY_URL
        self.address = check_address(address) if address else configured_address()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True, name="eoap-gateway")
        self._gateway: Any = None

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self._gateway = self._wait(self._make())
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with suppress(Exception):
                self._wait(self._gateway.close())
        finally:
            self._end()

    def clusters(self) -> list[ClusterInfo]:
        """Return the clusters of our user that are pending or running, oldest first, whoever started them."""
        found = self._ask(self._gateway.list_clusters)
        return sorted((_info(one) for one in found), key=lambda one: (one.started, one.name))

    def cluster(self, name: str) -> ClusterInfo | None:
        """Return what the Gateway says of a cluster; None when it knows none of that name."""
        return self._report(name)

    def wait_until_running(self, name: str, timeout_s: float) -> ClusterInfo:
        """Return a cluster as soon as it runs; raise `ClusterError` when it is unknown, has ended, or is too late."""
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._report(name, wait=True)
            if found is None:
                raise unknown_cluster(self.shown_address, name)
            if found.status == "running":
                return found
            if found.status != "pending":
                raise ClusterError(
                    f"The Dask cluster {name} {ended(found.status)}.",
                    "Expected one that runs, or is starting.",
                    "See the Gateway's logs, or try another with eoap-dask cluster start.",
                )
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"The Dask cluster {name} didn't start within {timeout_s:g} s.",
                    "",
                    "The Gateway may have no room: ask for less, or wait longer.",
                )
            time.sleep(0.2)

    def offered_options(self) -> dict[str, Any]:
        """Return the options of this Gateway's clusters, with their defaults."""
        return dict(self._options())

    @contextmanager
    def submitted(self, wanted: Mapping[str, Any]) -> Iterator[Lease]:
        """Start a cluster without workers, yield its lease at once, and stop it afterwards unless it is kept.

        Text in `wanted` becomes what the Gateway says the option is; what it doesn't offer is a `UsageError`.
        """
        options = self._options()
        fill(options, wanted, f"The Dask Gateway at {self.shown_address} has no cluster option")
        lease = Lease()
        try:
            self._submit(lease, options)
            yield lease
        finally:
            self._give_back(lease)

    def scale(self, name: str, workers: int) -> int:
        """Ask for a number of workers, and return how many the Gateway allows: that number, or fewer."""
        check_cluster_name(name)

        async def ask() -> str:
            from dask_gateway.client import GatewayWarning

            with warnings_filtered("error", GatewayWarning):  # comes after the deed
                try:
                    await self._gateway.scale_cluster(name, workers)
                except GatewayWarning as exc:
                    return str(exc)
            return ""

        try:
            said = self._ask(ask)
        except RefusedError as exc:
            if exc.is_unknown:
                raise unknown_cluster(self.shown_address, name) from None
            raise ClusterError(f"The Dask cluster {name} can't be scaled: {exc.problem}") from None
        limit = re.search(r"limit of (\d+) workers", said)
        if said and not limit:
            logger.warning("The Gateway says: {}", redact(said))
        return min(workers, int(limit[1])) if limit else workers

    def stop(self, name: str, *, wait: bool = False) -> bool:
        """Stop a cluster, and tell whether it was live; safe to do twice.

        With `wait`, return when nothing of it is left, after half a minute at most.
        """
        found = self._report(name)
        if found is None or found.status in {"stopped", "failed"}:
            return False
        self._wait(self._stop_surely(name))
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while wait and time.monotonic() < deadline:
            now = self._report(name)
            if now is None or now.status in {"stopped", "failed"}:
                break
            time.sleep(0.2)
        return found.is_live

    @property
    def shown_address(self) -> str:
        """The address as it may be shown."""
        return redact(self.address)

    # ------------------------------------------------------------------------------------------------

    async def _make(self) -> Any:
        import dask
        from dask_gateway import Gateway

        changes = {"gateway.http-client.proxy": False} if skips_proxy(self.address) else {}
        try:
            with _making, dask.config.set(changes):
                return Gateway(self.address, auth=authentication(), asynchronous=True)
        except EoapError:
            raise
        except Exception as exc:
            raise useless_access(exc) from exc

    def _report(self, name: str, *, wait: bool = False) -> ClusterInfo | None:
        check_cluster_name(name)
        try:
            return _info(self._ask(lambda: self._gateway.get_cluster(name, wait=wait)))
        except RefusedError as exc:
            if exc.is_unknown:
                return None
            raise

    def _options(self) -> Any:
        """Return the Gateway's options, filled as dask's configuration says."""
        import dask

        options = self._ask(lambda: self._gateway.cluster_options(use_local_defaults=False))
        configured = dask.config.get("gateway.cluster.options", None) or {}
        defaults = {key: from_template(value) for key, value in configured.items()}
        fill(options, defaults, "gateway.cluster.options of dask's configuration asks for an unknown option")
        return options

    def _submit(self, lease: Lease, options: Any) -> None:
        async def ask() -> None:
            # on the thread that talks to the Gateway: a signal can't come between a cluster and the note of its name
            lease.name = await self._gateway.submit(options)

        async def submit() -> None:
            lease.submission = asyncio.ensure_future(ask())
            # shielded: the Gateway may have started a cluster that it tells of too late, and its name must come
            await asyncio.wait_for(asyncio.shield(lease.submission), SUBMIT_TIMEOUT_S)

        try:
            with explained(self.shown_address, REQUEST_TIMEOUT_S):
                asyncio.run_coroutine_threadsafe(submit(), self._loop).result()
        except RefusedError as exc:
            raise UsageError(
                f"The Dask Gateway at {self.shown_address} refuses the cluster: {exc.problem}",
                "",
                f"Check the options of the cluster, such as {option('worker_memory', '4G')}.",
            ) from None

    def _give_back(self, lease: Lease) -> None:
        """Stop the cluster, if there is one and it isn't kept, also when interrupted."""
        if lease.is_kept:
            return

        async def end() -> None:
            if lease.submission is not None:  # under way, when we were interrupted or the answer is late
                await asyncio.wait([lease.submission], timeout=LATE_ANSWER_S)
            if lease.name:
                await self._stop_surely(lease.name)

        ending = asyncio.run_coroutine_threadsafe(end(), self._loop)
        try:
            _finish(ending, LATE_ANSWER_S + 2 * REQUEST_TIMEOUT_S)
        finally:
            if lease.submission is not None and not lease.submission.done():
                logger.warning(
                    "The Dask Gateway at {} hasn't said whether it started a cluster; it may have. "
                    "Try eoap-dask cluster list when it answers again, and eoap-dask cluster stop.",
                    self.shown_address,
                )
                self._loop.call_soon_threadsafe(lease.submission.cancel)
            if lease.name and (not ending.done() or ending.cancelled() or ending.exception()):
                logger.warning(
                    "The Dask cluster {} couldn't be stopped and may still run. "
                    "Try eoap-dask cluster stop {} when the Gateway answers again.",
                    lease.name,
                    lease.name,
                )

    async def _stop_surely(self, name: str) -> None:
        for attempt in range(STOP_ATTEMPTS):
            try:
                await asyncio.wait_for(self._gateway.stop_cluster(name), REQUEST_TIMEOUT_S / STOP_ATTEMPTS)
            except Exception as exc:
                if attempt + 1 == STOP_ATTEMPTS:
                    raise
                logger.debug("The Dask cluster {} couldn't be stopped yet: {}", name, redact(exc))
                await asyncio.sleep(0.25 * 2**attempt)
            else:
                return

    def _ask(self, question: Callable[[], Awaitable[T]]) -> T:
        async def asked() -> T:
            return await asyncio.wait_for(question(), REQUEST_TIMEOUT_S)

        return self._wait(asked())

    def _wait(self, work: Coroutine[Any, Any, T]) -> T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            with explained(self.shown_address, REQUEST_TIMEOUT_S):
                return future.result()
        finally:
            future.cancel()  # when we were interrupted

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()


@dataclass
class Lease:
    """A cluster that is stopped when we are done with it, unless it is kept."""

    name: str = ""
    """Name of the cluster; empty until the Gateway has said it."""
    is_kept: bool = False
    submission: asyncio.Task[Any] | None = field(default=None, repr=False)

    def keep(self) -> None:
        """Let the cluster live on."""
        self.is_kept = True


def _finish(future: concurrent.futures.Future[Any], timeout_s: float) -> None:
    """Wait for a future, also when interrupted meanwhile; its outcome is not looked at."""
    deadline = time.monotonic() + timeout_s
    interruption: BaseException | None = None
    while not future.done() and time.monotonic() < deadline:
        try:
            concurrent.futures.wait([future], timeout=max(0.0, deadline - time.monotonic()))
        except BaseException as exc:  # noqa: BLE001 - raised below
            interruption = exc
    if interruption is not None:
        raise interruption


def ended(status: str) -> str:
    """Return what the status of a cluster that doesn't run means, as the rest of a sentence."""
    return {"failed": "has failed", "stopped": "has been stopped", "stopping": "is stopping"}.get(
        status, f"is {status}"
    )


def _info(report: Any) -> ClusterInfo:
    return ClusterInfo(
        name=report.name,
        status=report.status.name.lower(),
        started=report.start_time.astimezone(UTC),
        dashboard=report.dashboard_link,
        scheduler=report.scheduler_address,
        security=report.security,
    )
