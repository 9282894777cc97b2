"""Streams that are closed or full: a command goes on without stderr, and says that stdout can't be written."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, TextIO

from eoap_dask.errors import OutputError


class _Stream:
    """A stream that notes why it can't be written."""

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.fault: OSError | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        """Write."""
        try:
            return self.stream.write(text)
        except OSError as exc:
            self.failed(exc)
            return len(text)

    def flush(self) -> None:
        """Flush."""
        try:
            self.stream.flush()
        except OSError as exc:
            self.failed(exc)

    def failed(self, error: OSError) -> None:
        """Raise what failed; once is enough, for Python would fail again in the end."""
        self.fault = error
        if not isinstance(error, BrokenPipeError):
            lead_nowhere(self.stream)
        raise error


class _MayFail(_Stream):
    """Stderr that leads nowhere from the first line on that can't be written, for us and for our children."""

    def failed(self, error: OSError) -> None:
        """Lose what can't be written."""
        self.fault = error
        lead_nowhere(self.stream)


@contextmanager
def lasting_streams() -> Iterator[None]:
    """Let closed streams lead nowhere, and stderr be lost where it can't be written."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, _nowhere(("stdin", "stdout", "stderr").index(name)))
    out, err = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = _Stream(out), _MayFail(err)
    try:
        yield
    finally:
        with suppress(ValueError):  # closed, perhaps
            sys.stderr.flush()
        sys.stdout, sys.stderr = out, err


def _nowhere(number: int) -> TextIO:
    """Return a stream that leads nowhere, on this descriptor where it is free, or the next file would get it."""
    try:
        os.fstat(number)
    except OSError:
        null = os.open(os.devnull, os.O_RDWR)
        if null != number:
            os.dup2(null, number)
            os.close(null)
    return open(os.devnull, "w", encoding="utf-8")  # noqa: PTH123 - for the rest of the process


def lead_nowhere(stream: TextIO) -> None:
    """Let a stream that can't be written lead nowhere, or its buffer would fail again as Python ends."""
    with suppress(OSError, ValueError):
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, stream.fileno())
        os.close(null)
        stream.flush()


def fault_of_stdout() -> OutputError | None:
    """Return the fault of a stdout that can't be written; None where it can, or where who read it has gone."""
    with suppress(OSError):
        sys.stdout.flush()
    fault = getattr(sys.stdout, "fault", None)
    if fault is None or isinstance(fault, BrokenPipeError):
        return None
    return OutputError(
        f"What is printed can't be written to stdout: {fault.strerror or fault}.",
        "What the command has made stays.",
        "Let stdout lead elsewhere.",
    )
