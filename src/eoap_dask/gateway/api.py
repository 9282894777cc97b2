"""Talking to a Dask Gateway: its clusters and their options, from code that isn't asynchronous."""

from __future__ import annotations

import asyncio
import concurrent.futures
import json
import os
import re
import threading
import time
import warnings
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self, TypeVar
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from loguru import logger

from eoap_dask.errors import ClusterError, EoapError, UsageError
from eoap_dask.gateway.memory import parse_memory, show_memory
from eoap_dask.namefile import check_address, check_cluster_name
from eoap_dask.trust import redact

T = TypeVar("T")

REQUEST_TIMEOUT_S = 30.0
SUBMIT_TIMEOUT_S = 30.0
"""How long to wait for the name of a new cluster."""
LATE_ANSWER_S = 30.0
"""How long to wait for it still when we give up: there may be a cluster by then, and only its name can stop it."""
STOP_ATTEMPTS = 4
STOP_TIMEOUT_S = 30.0
_PROBLEM_LENGTH = 300


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
    """A Gateway, as dask's configuration and environment say how to reach it. A context manager.

    Its methods wait for the answer and raise what a user can act on. What dask-gateway offers for that prints to
    stderr when the interpreter ends, and shares the event loop of Dask clients; so this is its asynchronous side in a
    thread of our own.

    Parameters
    ----------
    address
        URL; by default ``gateway.address`` of dask's configuration, such as ``DASK_GATEWAY__ADDRESS``, or else
        ``DASK_GATEWAY_URL``.

    Raises
    ------
    UsageError
        when there is no address, or it is malformed
    ClusterError
        when the configured authentication can't be used; all methods, when the Gateway can't be reached, doesn't
        let us in, or answers nonsense
    """

    def __init__(self, address: str | None = None) -> None:
        self.address = check_address(address) if address else _configured_address()
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
        """Return the clusters that are pending or running, oldest first: those of our user, whoever made them."""
        found = self._ask(self._gateway.list_clusters)
        return sorted((_info(one) for one in found), key=lambda one: (one.started, one.name))

    def cluster(self, name: str) -> ClusterInfo | None:
        """Return what the Gateway says of a cluster; None when it knows none of that name."""
        return self._report(name)

    def wait_until_running(self, name: str, timeout_s: float) -> ClusterInfo:
        """Return a cluster as soon as it runs.

        Raises
        ------
        ClusterError
            when it isn't known, has ended, or doesn't run in time
        """
        deadline = time.monotonic() + timeout_s
        while True:
            found = self._report(name, wait=True)
            if found is None:
                raise self._unknown(name)
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
                    "The Gateway may have no room: ask for less, or wait longer with --timeout.",
                )
            time.sleep(0.2)

    def offered_options(self) -> dict[str, Any]:
        """Return the options of this Gateway's clusters, with their defaults."""
        return dict(self._options())

    @contextmanager
    def submitted(self, wanted: Mapping[str, Any]) -> Iterator[Lease]:
        """Start a cluster without workers, and stop it at the end of the context, unless it is to be kept.

        Parameters
        ----------
        wanted
            Cluster options. Text becomes what the Gateway says the option is; see `offered_options`.

        Yields
        ------
        Lease
            At once; see `wait_until_running`.

        Raises
        ------
        UsageError
            when an option isn't offered, or the Gateway doesn't take its value
        """
        options = self._options()
        _fill(options, wanted, f"The Dask Gateway at {self.shown_address} has no cluster option")
        lease = Lease()
        try:
            self._submit(lease, options)
            yield lease
        finally:
            self._give_back(lease)

    def scale(self, name: str, workers: int) -> int:
        """Ask for a number of workers.

        Parameters
        ----------
        name
            A cluster that runs.
        workers
            How many it should have.

        Returns
        -------
        int
            How many the Gateway allows: `workers`, or less.

        Raises
        ------
        ClusterError
            when it isn't known, or doesn't run
        """
        check_cluster_name(name)

        async def ask() -> str:
            from dask_gateway.client import GatewayWarning

            with warnings.catch_warnings():
                warnings.simplefilter("error", GatewayWarning)  # comes after the deed
                try:
                    await self._gateway.scale_cluster(name, workers)
                except GatewayWarning as exc:
                    return str(exc)
            return ""

        try:
            said = self._ask(ask)
        except RefusedError as exc:
            if exc.is_unknown:
                raise self._unknown(name) from None
            raise ClusterError(f"The Dask cluster {name} can't be scaled: {exc.problem}") from None
        limit = re.search(r"limit of (\d+) workers", said)
        if said and not limit:
            logger.warning("The Gateway says: {}", redact(said))
        return min(workers, int(limit[1])) if limit else workers

    def stop(self, name: str, *, wait: bool = False) -> bool:
        """Stop a cluster; safe to do twice.

        Parameters
        ----------
        name
            Any cluster.
        wait
            Until nothing of it is left, at most half a minute.

        Returns
        -------
        bool
            Whether it was live.
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

        changes = {"gateway.http-client.proxy": False} if _skips_proxy(self.address) else {}
        try:
            with dask.config.set(changes):
                return Gateway(self.address, auth=_authentication(), asynchronous=True)
        except EoapError:
            raise
        except Exception as exc:
            raise _useless_access(exc) from exc

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
        defaults = {key: _from_template(value) for key, value in configured.items()}
        _fill(options, defaults, "gateway.cluster.options of dask's configuration asks for an unknown option")
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
            with self._explained():
                asyncio.run_coroutine_threadsafe(submit(), self._loop).result()
        except RefusedError as exc:
            raise UsageError(
                f"The Dask Gateway at {self.shown_address} refuses the cluster: {exc.problem}",
                "",
                "Check the options of the cluster, such as --worker-memory 4G.",
            ) from None

    def _give_back(self, lease: Lease) -> None:
        """Stop the cluster, if there is one and it isn't kept, whoever interrupts us."""
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
            except Exception:
                if attempt + 1 == STOP_ATTEMPTS:
                    raise
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
            with self._explained():
                return future.result()
        finally:
            future.cancel()  # when we were interrupted

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Turn what can go wrong between us and a Gateway into sentences."""
        import aiohttp
        from dask_gateway.client import GatewayClusterError, GatewayServerError

        where = f"the Dask Gateway at {self.shown_address}"
        try:
            yield
        except aiohttp.ClientResponseError as exc:
            if exc.status in {401, 403, 407}:
                raise ClusterError(
                    f"{where[0].upper()}{where[1:]} doesn't let us in: {exc.status} {redact(exc.message)}.",
                    "Expected it to take the configured user and password, or token.",
                    "Check DASK_GATEWAY__AUTH__TYPE and DASK_GATEWAY__AUTH__KWARGS__*.",
                ) from exc
            raise self._nonsense(f"{exc.status} {exc.message.rstrip('.')}") from exc
        except aiohttp.InvalidURL as exc:
            raise UsageError(f"{self.shown_address!r} can't be the address of a Dask Gateway.") from exc
        except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError) as exc:
            proxied = {"http", "https", "all"} & set(getproxies())
            why = redact(exc) or f"no answer within {REQUEST_TIMEOUT_S:g} s"
            raise ClusterError(
                f"{where[0].upper()}{where[1:]} can't be reached: {why.rstrip('.')[:_PROBLEM_LENGTH]}.",
                "",
                "Check DASK_GATEWAY__ADDRESS, and that the Gateway runs."
                + (" A proxy is set: try DASK_GATEWAY__HTTP_CLIENT__PROXY=False." if proxied else ""),
            ) from exc
        except GatewayServerError as exc:
            raise ClusterError(f"{where[0].upper()}{where[1:]} failed: {_problem(exc)}", "", "Try again.") from exc
        except GatewayClusterError as exc:
            raise RefusedError(self.shown_address, _problem(exc)) from exc
        except (ImportError, UnicodeEncodeError) as exc:  # of an authentication
            raise _useless_access(exc) from exc
        except (json.JSONDecodeError, aiohttp.ClientError, UnicodeDecodeError, LookupError, TypeError) as exc:
            raise self._nonsense(type(exc).__name__) from exc
        except ValueError as exc:  # 404 and 422
            if str(exc).lstrip().startswith("<"):
                raise self._nonsense("it answers with a page of HTML") from exc
            raise RefusedError(self.shown_address, _problem(exc)) from exc

    def _nonsense(self, what: str) -> ClusterError:
        return ClusterError(
            f"What answers at {self.shown_address} isn't a Dask Gateway, or is one in trouble: {redact(what)}.",
            "",
            "Check DASK_GATEWAY__ADDRESS, or --gateway.",
        )

    def _unknown(self, name: str) -> ClusterError:
        return ClusterError(
            f"The Dask Gateway at {self.shown_address} knows no cluster {name}.",
            "Expected the name of one that runs; it may have been stopped, or was idle for too long.",
            "Check DASK_CLUSTER, and see eoap-dask cluster list.",
        )

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=10)
        if not self._thread.is_alive():
            self._loop.close()


@dataclass
class Lease:
    """A cluster that is stopped when we are done with it, unless it is kept."""

    name: str = ""
    """Of the cluster."""
    is_kept: bool = False
    submission: asyncio.Task[Any] | None = field(default=None, repr=False)

    def keep(self) -> None:
        """Let the cluster live on."""
        self.is_kept = True


class RefusedError(ClusterError):
    """The Gateway answered, and said no."""

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"The Dask Gateway at {where} refuses: {problem}")
        self.args = (where, problem)
        self.problem = problem

    @property
    def is_unknown(self) -> bool:
        """Whether it said so because there is no such cluster."""
        return bool(re.match(r"Cluster .* not found", self.problem))


def _finish(future: concurrent.futures.Future[Any], timeout_s: float) -> None:
    """Wait for something, also when we are interrupted meanwhile; its outcome is not looked at."""
    deadline = time.monotonic() + timeout_s
    interruption: BaseException | None = None
    while not future.done() and time.monotonic() < deadline:
        try:
            concurrent.futures.wait([future], timeout=max(0.0, deadline - time.monotonic()))
        except BaseException as exc:  # noqa: BLE001 - raised below
            interruption = exc
    if interruption is not None:
        raise interruption


def _problem(error: Exception) -> str:
    text = redact(error).strip().splitlines()
    return f"{text[0].rstrip('.')[:_PROBLEM_LENGTH]}." if text else "it doesn't say why."


def ended(status: str) -> str:
    """Return what a status of a cluster that doesn't run means, as the rest of a sentence."""
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


def _useless_access(error: Exception) -> ClusterError:
    # without the error's text, which may hold what is secret
    return ClusterError(
        f"The configured access to the Dask Gateway can't be used ({type(error).__name__}).",
        "",
        "Check gateway in dask's configuration, and the variables DASK_GATEWAY__AUTH__*.",
    )


# ----------------------------------------------------------------------------------------------------
# How a Gateway is reached


def _configured_address() -> str:
    import dask
    import dask_gateway  # noqa: F401 - has its defaults in dask's configuration

    address = _from_template(dask.config.get("gateway.address", None)) or os.environ.get("DASK_GATEWAY_URL")
    if not address:
        raise UsageError(
            "No Dask Gateway is configured.",
            "Expected its address in DASK_GATEWAY__ADDRESS, or gateway.address in dask's configuration.",
            "Try --gateway URL, or eoap-dask gateway serve for one on this machine.",
        )
    return check_address(str(address), "dask's configuration")


def _from_template(value: Any) -> Any:
    """Return a value of dask-gateway's configuration, in which ``{NAME}`` stands for a variable."""
    if not isinstance(value, str):
        return value
    try:
        return value.format(**os.environ)
    except (LookupError, ValueError) as exc:
        raise UsageError(
            f"dask's configuration of the Gateway can't be filled in: {type(exc).__name__} {exc}.",
            "Expected {NAME} to stand for a variable of the environment.",
        ) from None


def is_default_address(address: str) -> bool:
    """Tell whether dask's configuration files alone, without this process's environment, lead to an address.

    Parameters
    ----------
    address
        URL of a Gateway.

    Returns
    -------
    bool
    """
    import dask

    configured = dask.config.get("gateway.address", None, config=dask.config.collect(env={}))
    return isinstance(configured, str) and configured.rstrip("/") == address


def _skips_proxy(address: str) -> bool:
    """Tell whether a proxy of the environment is nothing for this address; aiohttp knows no ``no_proxy``."""
    import dask

    host = urlsplit(address).hostname or ""
    if dask.config.get("gateway.http-client.proxy", True) is not True or not getproxies():
        return False
    return host in {"localhost", "127.0.0.1", "::1"} or bool(proxy_bypass(host))


def _authentication() -> Any:
    """Return the configured authentication, repaired where dask made a number of a password."""
    import dask
    from dask_gateway.auth import BasicAuth

    if dask.config.get("gateway.auth.type", None) != "basic":
        return None
    given = dask.config.get("gateway.auth.kwargs", None) or {}
    if all(isinstance(value, str) for value in given.values()):
        return None
    prefix = "DASK_GATEWAY__AUTH__KWARGS__"
    return BasicAuth(**{key: os.environ.get(prefix + key.upper(), str(value)) for key, value in given.items()})


# ----------------------------------------------------------------------------------------------------
# Options


class Memory(str):
    """An amount of memory in our words, for a Gateway in its own."""

    __slots__ = ()


def _fill(options: Any, wanted: Mapping[str, Any], complaint: str) -> None:
    """Set the options that are wanted, each as the type that the Gateway says it has."""
    for name, value in wanted.items():
        if name not in options:
            offered = ", ".join(f"{key} ({_type_of(options[key])})" for key in options)
            raise UsageError(f"{complaint} {name!r}.", f"The Gateway offers {offered or 'none'}.")
        try:
            options[name] = _memory(value, options[name]) if isinstance(value, Memory) else _typed(value, options[name])
        except (TypeError, ValueError) as exc:
            raise UsageError(
                f"The cluster option {name} can't be {str(value)!r}: {redact(exc)}.",
                f"Expected {_type_of(options[name])}.",
            ) from None
    if "worker_cores" in wanted and "worker_cores_limit" in options and "worker_cores_limit" not in wanted:
        cores = _typed(options["worker_cores"], options["worker_cores_limit"])
        with suppress(TypeError, ValueError):  # a limit below the request would be refused
            options["worker_cores_limit"] = max(options["worker_cores_limit"], cores)


def _type_of(default: Any) -> str:
    kinds = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text"))
    return next((name for kind, name in kinds if isinstance(default, kind)), "a JSON object")


def _typed(value: Any, default: Any) -> Any:
    """Return text as the type of an option's default; other values as they are, but for whole floats."""
    if isinstance(default, bool):
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return known[value.lower()] if isinstance(value, str) and value.lower() in known else value
    if isinstance(default, int):
        number = float(value) if isinstance(value, str) else value
        return int(number) if isinstance(number, float) and number.is_integer() else number
    if isinstance(default, float):
        return float(value) if isinstance(value, str | int) else value
    if isinstance(default, dict):
        return json.loads(value) if isinstance(value, str) else value
    return value


def _memory(amount: Memory, default: Any) -> Any:
    """Return an amount of memory as an option takes it: text, or a number of GiB, as Gateway's documentation has it."""
    if isinstance(default, str):
        return show_memory(parse_memory(amount))
    gib = float(amount) if re.fullmatch(r"[\d.]+", amount) else parse_memory(amount) / 2**30
    return _typed(gib, default)
