"""Logging: the library is silent until a command line sets it up; all lines are redacted.

Several runs may work in threads of one process. A line belongs to the run that says it: loguru's ``extra["run"]`` is
its id, by a context variable. Threads don't inherit that: what a run starts in others is `carried` there. A line that
is said without a run, such as one of a thread that serves many, is in no run's log.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from contextvars import copy_context
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from loguru import logger

from eoap_dask.overlap import overlapping
from eoap_dask.redact import redact

if TYPE_CHECKING:
    from loguru import Record

P = ParamSpec("P")
T = TypeVar("T")

_FILE_FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {name}: {message}"


_verbosity = 0


def set_up_logging(verbosity: int, level: str = "") -> None:
    """Send log lines to stderr: errors only below 0, what a user wants to know at 0, all with their origin above.

    `level` is another one than that of 0.
    """
    global _verbosity
    _verbosity = verbosity
    logger.remove()
    logger.configure(patcher=_without_secrets)
    level = level or ("ERROR" if verbosity < 0 else "INFO" if verbosity == 0 else "DEBUG")
    logger.add(sys.stderr, level=level, format=_plain if verbosity <= 0 else _FILE_FORMAT, colorize=False)
    logger.enable("eoap_dask")


def is_verbose() -> bool:
    """Tell whether all log lines were asked for, tracebacks included."""
    return _verbosity > 0


def of_run(run: str) -> AbstractContextManager[None]:
    """Let the lines of this thread belong to a run, given by its id, while in the context."""
    return logger.contextualize(run=run)


def carried(function: Callable[P, T]) -> Callable[P, T]:
    """Return a function that runs in the present context, wherever it is called.

    Parameters
    ----------
    function
        What another thread will call, once or often, also several threads at once.

    Returns
    -------
    callable
        The same, with the context variables of this moment: its lines belong to the present run.
    """
    context = copy_context()

    @wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        return context.copy().run(function, *args, **kwargs)  # a copy, for a context is entered by one thread at a time

    return call


@contextmanager
def log_to(path: Path, run: str) -> Iterator[None]:
    """Write a run's log lines of all levels to a file as well, tracebacks included, without secrets."""
    # redacted here, and not by the patcher alone: that leaves tracebacks as they are, and a program that has set up
    # loguru itself doesn't have it
    with path.open("a", encoding="utf-8", buffering=1) as file:

        def write(line: str) -> None:
            file.write(redact(line))

        def is_ours(record: Record) -> bool:
            return record["extra"].get("run") == run

        handler = logger.add(write, level="DEBUG", format=_FILE_FORMAT, filter=is_ours)
        try:
            yield
        finally:
            logger.remove(handler)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Silence the loggers of other packages below CRITICAL; the last of those who want that restores their levels."""
    with ExitStack() as stack:
        for name in names:
            stack.enter_context(overlapping(("quiet", name), partial(_silenced, logging.getLogger(name))))
        yield


@contextmanager
def _silenced(one: logging.Logger) -> Iterator[None]:
    level = one.level
    one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        one.setLevel(level)


def _plain(record: Record) -> str:
    prefix = "" if record["level"].no < 30 else f"{record['level'].name.capitalize()}: "
    return prefix + "{message}\n"


def _without_secrets(record: Any) -> None:
    record["message"] = redact(record["message"])
