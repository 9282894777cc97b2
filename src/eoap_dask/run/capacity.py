"""Whether disk and memory suffice for a plan, said before any work: a full disk would say it hours later."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from loguru import logger

from eoap_dask.errors import ClusterError, OutputError
from eoap_dask.text import plural, show_bytes

if TYPE_CHECKING:
    from eoap_dask.run.plan import Plan

DOUBT = 2.0
"""How far an estimate of compressed bytes may be off: so much less room is refused, less than that only warned of."""


def check_disk(plan: Plan, out: Path) -> None:
    """Pass when the disk of an output has room for what a plan will write.

    Parameters
    ----------
    plan : Plan
        Of the units that are to be made.
    out
        The output directory, which needn't exist.

    Raises
    ------
    OutputError
        when there is far too little; where it is only likely to be, that is warned of
    """
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
    hint = "Make room, choose another --output-dir, or a coarser --resolution."
    if free * DOUBT >= output + spool:
        logger.warning("{} {}", what, hint)
        return
    raise OutputError(what, "", hint)


def check_memory(plan: Plan) -> None:
    """Pass when the workers that a plan is made for have enough memory for a block.

    Parameters
    ----------
    plan : Plan
        With the size of its cluster, see `Plan.sized`.

    Raises
    ------
    ClusterError
        when they would die of it
    """
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
            "Try more --worker-memory, more --workers on this machine, fewer --worker-cores on a Gateway, "
            "or fewer --reads.",
        )


def _nearest(path: Path) -> Path:
    """Return the innermost directory of a path that exists."""
    absolute = Path(os.path.realpath(path))
    return next(one for one in (absolute, *absolute.parents) if one.is_dir())
