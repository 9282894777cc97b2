"""What the package says."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from loguru import logger


@contextmanager
def heard(level: str) -> Iterator[list[str]]:
    """Collect what is said at a level or above, a line each."""
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(str(message).rstrip()), format="{message}", level=level)
    logger.enable("eoap_dask")
    yield lines
    logger.disable("eoap_dask")
    logger.remove(handler)
