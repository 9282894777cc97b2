"""Comparing the software of client, scheduler and workers before any work."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from loguru import logger

from eoap_dask.errors import ClusterError
from eoap_dask.text import option

if TYPE_CHECKING:
    from distributed import Client

EVERYWHERE = ("python", "dask", "distributed", "msgpack", "cloudpickle")
"""What must agree to speak with each other."""
WHERE_WORK_IS = ("numpy", "eoap-dask", "imagecodecs", "isal", "rasterio", "pyproj")
"""What makes pixels and files: needn't be on the scheduler."""


def check_versions(client: Client, allow_mismatch: bool = False, further: tuple[str, ...] = ()) -> None:
    """Compare what matters on client, scheduler and workers; raise `ClusterError` with a table, or only warn.

    With mixed versions, a product would depend on which worker made a block. `further` are packages that matter for
    this run, and workers must have.
    """
    packages = (*WHERE_WORK_IS, *further)
    found: Any = client.get_versions(packages=list(packages))
    for worker in dict(found.get("workers") or {}).values():
        if absent := [name for name in further if not _packages(worker).get(name)]:
            raise ClusterError(
                f"A worker has no {' and no '.join(absent)}, which this run needs.",
                "Expected them in the image of the workers.",
                "Try the image that the CWL package of the application names.",
            )
    table = compare(found, packages)
    if not table:
        return
    if allow_mismatch:
        logger.warning("Client, scheduler and workers have different software:\n{}", table)
        return
    raise ClusterError(
        f"Client, scheduler and workers have different software:\n{table}\n",
        "Expected the same versions everywhere.",
        f"Use one image for all of them, or {option('allow_version_mismatch', True)}.",
    )


def compare(versions: Mapping[str, Any], packages: tuple[str, ...] = WHERE_WORK_IS) -> str:
    """Return a table of the packages that differ, empty when none does; Python counts to its minor version."""
    client, scheduler = (_packages(versions.get(side)) for side in ("client", "scheduler"))
    workers = [_packages(one) for one in dict(versions.get("workers") or {}).values()]
    rows = []
    for package in (*EVERYWHERE, *packages):
        ours = client.get(package)
        if ours is None:  # can't be told here, or isn't needed
            continue
        theirs = [worker.get(package) for worker in workers]
        at_scheduler = scheduler.get(package)
        compared = [*theirs, *([at_scheduler] if package in EVERYWHERE or at_scheduler is not None else [])]
        if all(_key(package, one) == _key(package, ours) for one in compared):
            continue
        counts = Counter(_shown(package, one) for one in theirs)
        rows.append(
            (
                package,
                _shown(package, ours),
                _shown(package, at_scheduler) if package in EVERYWHERE or at_scheduler else "–",
                ", ".join(f"{name} ({n} of {len(theirs)})" if len(counts) > 1 else name for name, n in counts.items()),
            )
        )
    if not rows:
        return ""
    rows.insert(0, ("", "client", "scheduler", "workers"))
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return "\n".join("  " + "  ".join(f"{v:<{w}}" for v, w in zip(row, widths, strict=True)).rstrip() for row in rows)


def _packages(side: Any) -> dict[str, str | None]:
    return dict(side.get("packages") or {}) if isinstance(side, Mapping) else {}


def _shown(package: str, version: str | None) -> str:
    if version is None:
        return "missing"
    return ".".join(version.split(".")[:3]) if package == "python" else version  # without .final.0


def _key(package: str, version: str | None) -> str | None:
    if version is None:
        return None
    # a build for CUDA is the same release as one for processors
    return ".".join(version.split(".")[:2]) if package == "python" else version.partition("+")[0]
