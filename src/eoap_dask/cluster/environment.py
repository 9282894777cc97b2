"""The environment of worker processes: their heap, and whether they are profiled; Dask's configuration in ours."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eoap_dask.overlap import overlapping

# in Python 3.11, garbage collected in that moment can stop the whole process for ever (see `cluster.profiler`)
PROFILES = sys.version_info >= (3, 12)
"""Whether workers may be profiled: every 10 ms Dask looks at what their threads do."""
# Dask sets the second alone, to 64 kB: then the kernel has to map and clear every array of more than 128 kB, a quarter
# of a mosaic's processor time. From 4 MiB on, NumPy asks for huge pages, which are cheap.
HEAP = {"MALLOC_MMAP_THRESHOLD_": str(4 << 20), "MALLOC_TRIM_THRESHOLD_": str(16 << 20)}
"""Variables with which glibc reuses a worker's memory; the user's environment or Dask's configuration goes first."""
_DASKS_TRIM = "65536"
"""Dask's own value, which it also leaves in the environment of a process that has started workers."""

LARGE_GRAPHS = {"distributed.admin.large-graph-warning-threshold": "100MB"}
"""Setting for clients of ours: a unit's recipe may be large."""


@contextmanager
def dask_configured(settings: Mapping[str, Any]) -> Iterator[None]:
    """Change Dask's configuration of the whole process, also where runs overlap that change it in the same way."""
    import dask
    import distributed  # noqa: F401 - its defaults come first: else what is set would be all, and go with all of them

    with overlapping(("dask", *settings.items()), lambda: dask.config.set(settings)):
        yield


def heap_environment() -> dict[str, str]:
    """Return `HEAP`, with the values that somebody chose in this process's environment or in Dask's configuration."""
    import dask

    def chosen(name: str) -> Iterator[str]:
        yield os.environ.get(name, _DASKS_TRIM)
        yield str(dask.config.get(f"distributed.nanny.pre-spawn-environ.{name}", _DASKS_TRIM))

    return {name: next((v for v in chosen(name) if v != _DASKS_TRIM), value) for name, value in HEAP.items()}
