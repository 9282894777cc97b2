"""Logs of scheduler and workers, and a performance report, kept for looking into a failure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from loguru import logger

from eoap_dask.cluster.environment import dask_configured
from eoap_dask.files import safe_name, write_bytes
from eoap_dask.redact import redact

if TYPE_CHECKING:
    from distributed import Client

LOG_LINES = 10_000
TIMEOUT_S = 30.0
MOST_WORKERS = 256
REPORT = "performance-report.html"


@dataclass
class Evidence:
    """Whether what is collected is kept."""

    is_wanted: bool
    """Set it when the work ended without an exception, but not all of it went well."""


@contextmanager
def evidence(client: Client, directory: Path) -> Iterator[Evidence]:
    """Keep logs and performance report of the context if it fails or `is_wanted` is set; never raise.

    Not when a signal stops us: whoever sent it wants an end now.
    """
    kept = Evidence(False)
    try:
        with performance_report(client, directory / REPORT, when="failure") as kept:
            yield kept
    finally:  # a fault has made it wanted by now
        if kept.is_wanted:
            collect_logs(client, directory)


def collect_logs(client: Client, directory: Path) -> list[Path]:
    """Write the logs of scheduler and workers without secrets, as many as can be read, and never raise.

    The files are ``scheduler.log`` and, per worker, ``worker-….log`` and ``nanny-….log`` (memory and restarts).
    """
    written: list[Path] = []
    if client.status != "running":  # to ask would only mean to wait
        return written
    try:
        directory.mkdir(parents=True, exist_ok=True)
        for name, lines in _logs(client):
            if isinstance(lines, list | tuple) and lines:
                text = "".join(f"{redact(message)}\n" for _, message in reversed(lines))  # newest come first
                written.append(write_bytes(directory / f"{name}.log", text.encode("utf-8", "replace")))
    except Exception as exc:  # noqa: BLE001 - what brought us here is what matters
        logger.debug("Not all logs of the cluster could be read: {}", redact(exc))
    return written


@contextmanager
def performance_report(client: Client, path: Path, when: Literal["always", "failure"] = "always") -> Iterator[Evidence]:
    """Write distributed's performance report of the context; never raise.

    With ``failure`` only if the context raises, or `is_wanted` is set.
    """
    report = _begin_report(client, path)
    kept = Evidence(when == "always")
    try:
        yield kept
    except Exception:
        kept.is_wanted = True
        raise
    finally:
        if report is not None and kept.is_wanted and client.status == "running":
            _end_report(client, report, path)


@contextmanager
def _as_current(client: Client) -> Iterator[None]:
    # the client is this thread's alone, but Dask changes its configuration for all with it
    with dask_configured({"scheduler": "dask.distributed"}), client.as_current():
        yield


def _begin_report(client: Client, path: Path) -> Any:
    from distributed import performance_report as make

    try:
        report = make(filename=str(path))
        with _as_current(client):
            report.__enter__()
    except Exception as exc:  # noqa: BLE001 - a report is a courtesy
        logger.warning("There will be no performance report: {}", redact(exc))
        return None
    return report


def _end_report(client: Client, report: Any, path: Path) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with _as_current(client):
            report.__exit__(None, None, None)
    except Exception as exc:  # noqa: BLE001
        logger.warning("The performance report {} couldn't be made: {}", path, redact(exc) or type(exc).__name__)
        with suppress(OSError):  # a directory, perhaps
            path.unlink(missing_ok=True)


def _logs(client: Client) -> Iterator[tuple[str, Any]]:
    yield "scheduler", _ask(client, "logs", n=LOG_LINES)
    workers = client.scheduler_info(n_workers=-1)["workers"]
    names = {address: safe_name(str(one.get("name", address))) for address, one in workers.items()}
    chosen = list(names)[:MOST_WORKERS]
    for kind, nanny in (("worker", False), ("nanny", True)):
        answers = _ask(client, "worker_logs", n=LOG_LINES, workers=chosen, nanny=nanny)
        for address, lines in answers.items():
            yield f"{kind}-{names.get(address, safe_name(address))}", lines


def _ask(client: Client, question: str, **arguments: Any) -> Any:
    return client.sync(getattr(client.scheduler, question), **arguments, callback_timeout=TIMEOUT_S)
