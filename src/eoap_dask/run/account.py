"""What a run writes down of itself: the ledger of failures, the account of units, and the fault of too many."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eoap_dask.__about__ import __version__
from eoap_dask.errors import UnitsFailedError, UsageError
from eoap_dask.publish.checks import identity
from eoap_dask.publish.exchange import location_of
from eoap_dask.publish.holdings import LEDGER, read_object, resolve, sibling
from eoap_dask.run.engine import Outcome
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan
from eoap_dask.run.product import CORRECTED, VALID_PERCENT
from eoap_dask.run.schedule import Schedule
from eoap_dask.run.unit import Failure
from eoap_dask.text import option, plural

if TYPE_CHECKING:
    from eoap_dask.items.itemset import ItemSet


def ledger(plan: Plan, outcome: Outcome, schedule: Schedule) -> dict[str, Any]:
    """Return the content of ``failures.json``."""
    kept = [
        (key, tuple(name.split(" ", 1)))
        for key, item in schedule.kept.items()
        for name in item["properties"].get(CORRECTED, ())
    ]
    planned = [
        (u.unit.key, names) for u in plan.units if u.unit.key not in schedule.kept for names in u.work.contradictions
    ]
    before = [
        Failure(key, "Its file lies elsewhere than its item says; the file counts.", *names)
        for key, names in (*kept, *planned)
    ]
    corrected = [f.to_dict() for f in (*before, *outcome.corrected)]
    return {
        "failures": [f.to_dict() for f in outcome.failures],
        "left_out": [f.to_dict() for f in outcome.left_out],
        **({"corrected": corrected} if corrected else {}),
        **({"odd_items": [one.to_dict() for one in plan.odd_items]} if plan.odd_items else {}),
    }


def failed_units(out: Path) -> list[str]:
    """Return the units that failed in the last run of an output, or were allowed to; `UsageError` without any."""
    place = resolve(out)
    for folder in (sibling(place, ".partial"), location_of(place)):
        if folder is None:
            continue
        entries = read_object(folder / LEDGER)[0].get("failures")
        keys = [str(one.get("unit")) for one in entries or () if isinstance(one, dict)]
        if keys:
            return list(dict.fromkeys(keys))
    raise UsageError(
        f"No unit of {out} has failed.",
        "A retry makes the units that failed in the last run.",
        "Run the same command without it: what is finished stays.",
    )


def account(
    plan: Plan,
    items: ItemSet | None,
    schedule: Schedule,
    outcome: Outcome,
    kept: Mapping[str, dict[str, Any]],
    seconds: float,
) -> dict[str, Any]:
    """Return the content of ``run.json``."""
    search = None
    if items is not None:
        search = {
            "stac": items.stac,
            "collection": items.collection,
            "items": len(items),
            "truncated": items.truncated,
            **({"missing": items.missing} if items.missing else {}),
        }
    return {
        **identity(plan.application),
        "params": dict(plan.params),
        "grid": plan.grid,
        "search": search,
        "units": {
            **{key: {"digest": schedule.digests.get(key, ""), "done": key in outcome.items} for key in schedule.keys},
            **{key: {"digest": item["properties"]["eoap:digest"], "done": True} for key, item in kept.items()},
        },
        "empty_periods": list(plan.empty),
        "odd_items": [one.to_dict() for one in plan.odd_items],
        "blank_units": blank(outcome),
        "versions": {"eoap-dask": __version__, **_versions()},
        "timings": {"seconds": round(seconds, 3), "finished": datetime.now(UTC).isoformat(timespec="seconds")},
    }


def blank(outcome: Outcome) -> list[str]:
    """Return the units of which not one pixel was seen."""
    return [key for key, item in sorted(outcome.items.items()) if item["properties"].get(VALID_PERCENT) == 0]


def _versions() -> dict[str, str]:
    from importlib.metadata import version

    names = ("dask", "distributed", "imagecodecs", "isal", "numpy", "odc-geo", "pyproj", "rasterio")
    return {name: version(name) for name in names}


def too_many(outcome: Outcome, units: int, partial: Path, *, plan: Plan, options: RunOptions) -> UnitsFailedError:
    """Return the fault of a run of which more units failed than may."""
    first, failed = outcome.failures[0], len(outcome.failed)
    more = f" The same or other faults stopped {failed - 1} more." if failed > 1 else ""
    spared = next((u.without(first.item) for u in plan.units if first.item and u.unit.key == first.unit), None)
    without = (
        f" Or try {option('max_bad_scenes', options.max_bad_scenes + 1)}: a unit then does without so many scenes that "
        "stay bad."
        if spared is not None
        else ""
    )
    return UnitsFailedError(
        f"{failed} of {plural(units, 'unit')} failed. {first.unit}: {first.reason}{more}",
        "",
        f"See failures.json in {partial}; run the same command again when the cause is mended.{without}",
    )
