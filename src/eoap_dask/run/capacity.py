"""Whether disk and memory suffice for a plan, checked before any work: a full disk would stop the run hours later."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from eoap_dask.errors import ClusterError, OutputError
from eoap_dask.text import option, plural, show_bytes

if TYPE_CHECKING:
    from eoap_dask.run.plan import Plan

DOUBT = 2.0
"""Factor by which an estimate of compressed bytes may be off: with less room than that allows the run is refused."""


def check_disk(plan: Plan, out: Path) -> None:
    """Raise `OutputError` when an output's disk has far too little room for a plan; warn when it may have."""
    if not plan.units:
        return
    output, spool = plan.output_bytes, plan.spool_bytes
    free = shutil.disk_usage(_nearest(out)).free
    if free >= output + spool:
        return
    what = (
        f"The disk of {out} has {show_bytes(free)} free; the output will take about {show_bytes(output)}, "
        f"and {show_bytes(spool)} beside it while the run works."
    )
    hint = f"Make room, choose another {option('output_dir')}, or a coarser {option('resolution')}."
    if free * DOUBT >= output + spool:
        logger.warning("{} {}", what, hint)
        return
    raise OutputError(what, "", hint)


def check_memory(plan: Plan) -> None:
    """Raise `ClusterError` when workers of the plan's size would run out of memory on a block."""
    memory = plan.size.memory_per_worker
    if not plan.units or plan.worker_bytes_at_most <= memory:
        return
    needed = plan.estimates()["worker_bytes"]  # looks at every block
    if needed > memory:
        threads = plan.size.threads_per_worker
        raise ClusterError(
            f"A worker has {show_bytes(memory)} of memory; with {plural(threads, 'thread')} "
            f"it would need about {show_bytes(needed)}.",
            "",
            f"Try more {option('worker_memory')}, more {option('workers')} on this machine, "
            f"fewer {option('worker_cores')} on a Gateway, or fewer {option('reads')}.",
        )


def _nearest(path: Path) -> Path:
    """Return the innermost directory of a path that exists."""
    absolute = Path(os.path.realpath(path))
    return next(one for one in (absolute, *absolute.parents) if one.is_dir())
