"""Logging: the library is silent until a command line sets it up; all lines are redacted."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.redact import redact

if TYPE_CHECKING:
    from loguru import Record

_FILE_FORMAT = "{time:YYYY-MM-DDTHH:mm:ss.SSSZZ} {level: <7} {name}: {message}"


_verbosity = 0


def set_up_logging(verbosity: int) -> None:
    """Send log lines to stderr: errors only below 0, what a user wants to know at 0, all with their origin above."""
    global _verbosity
    _verbosity = verbosity
    logger.remove()
    logger.configure(patcher=_without_secrets)
    level = "ERROR" if verbosity < 0 else "INFO" if verbosity == 0 else "DEBUG"
    logger.add(sys.stderr, level=level, format=_plain if verbosity <= 0 else _FILE_FORMAT, colorize=False)
    logger.enable("eoap_dask")


def is_verbose() -> bool:
    """Tell whether all log lines were asked for, tracebacks included."""
    return _verbosity > 0


@contextmanager
def log_to(path: Path) -> Iterator[None]:
    """Write log lines of all levels to a file as well."""
    handler = logger.add(path, level="DEBUG", format=_FILE_FORMAT, encoding="utf-8")
    try:
        yield
    finally:
        logger.remove(handler)


@contextmanager
def quiet(*names: str) -> Iterator[None]:
    """Silence the loggers of other packages below CRITICAL, and restore their levels afterwards."""
    loggers = [logging.getLogger(name) for name in names]
    levels = [one.level for one in loggers]
    for one in loggers:
        one.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        for one, level in zip(loggers, levels, strict=True):
            one.setLevel(level)


def _plain(record: Record) -> str:
    prefix = "" if record["level"].no < 30 else f"{record['level'].name.capitalize()}: "
    return prefix + "{message}\n"


def _without_secrets(record: Any) -> None:
    record["message"] = redact(record["message"])
