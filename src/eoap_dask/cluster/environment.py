"""The environment of worker processes: their heap, and whether they are profiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

PROFILES = sys.version_info >= (3, 12)
"""Whether workers may look at what their threads do, every 10 ms. In Python 3.11 a garbage collection in that moment
can stop the whole process for ever (CPython gh-106883, dask/distributed 8616)."""
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Environment in which glibc uses a worker's memory again. Dask sets the second to 64 kB alone, and then every array of
more than 128 kB is memory that the kernel has to map and clear: a quarter of a mosaic's processor time. From 4 MiB on,
NumPy asks for huge pages, which are cheap. What the user's environment or Dask's configuration says goes before."""
_DASKS_TRIM = "65536"
"""Dask's own value, which it also leaves in the environment of a process that has started workers."""


def heap_environment() -> dict[str, str]:
    """Return `HEAP`, with the values that somebody chose in this process's environment or in Dask's configuration."""
    import dask

    def chosen(name: str) -> Iterator[str]:
        yield os.environ.get(name, _DASKS_TRIM)
        yield str(dask.config.get(f"distributed.nanny.pre-spawn-environ.{name}", _DASKS_TRIM))

    return {name: next((v for v in chosen(name) if v != _DASKS_TRIM), value) for name, value in HEAP.items()}
