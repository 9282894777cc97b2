"""The environment of worker processes: their heap, and whether they are profiled."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

# in Python 3.11, garbage collected in that moment can stop the whole process for ever (see `cluster.profiler`)
PROFILES = sys.version_info >= (3, 12)
"""Whether workers may be profiled: every 10 ms Dask looks at what their threads do."""
# Dask sets the second alone, to 64 kB: then the kernel has to map and clear every array of more than 128 kB, a quarter
# of a mosaic's processor time. From 4 MiB on, NumPy asks for huge pages, which are cheap.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Variables with which glibc reuses a worker's memory; the user's environment or Dask's configuration goes first."""
_DASKS_TRIM = "65536"
"""Dask's own value, which it also leaves in the environment of a process that has started workers."""


def heap_environment() -> dict[str, str]:
    """Return `HEAP`, with the values that somebody chose in this process's environment or in Dask's configuration."""
    import dask

    def chosen(name: str) -> Iterator[str]:
        yield os.environ.get(name, _DASKS_TRIM)
        yield str(dask.config.get(f"distributed.nanny.pre-spawn-environ.{name}", _DASKS_TRIM))

    return {name: next((v for v in chosen(name) if v != _DASKS_TRIM), value) for name, value in HEAP.items()}
