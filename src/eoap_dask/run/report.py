"""What a run came to, from its files alone: figures of units and their sums, and the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoap_dask.errors import NoRunError
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.exchange import location_of
from eoap_dask.publish.holdings import LEDGER, partial_owner, read_object, resolve, sibling, units_in
from eoap_dask.run.status import Status, read_status
from eoap_dask.run.summary import Figures, UnitSummary, no_figures
from eoap_dask.text import figure_name, option, plural, show_bytes, show_figure


@dataclass(frozen=True)
class Report:
    """What there is of an output."""

    application: str
    status: Status
    units: tuple[UnitSummary, ...]
    """Finished ones, by key."""
    ledger: Mapping[str, Any]
    """Content of ``failures.json``."""

    @property
    def totals(self) -> dict[str, Any]:
        """Sums of the units' figures: numbers, or numbers by name."""
        found: dict[str, Any] = {}
        for unit in self.units:
            for name, value in unit.figures.items():
                if isinstance(value, Mapping):
                    sums = found.setdefault(name, {})
                    for one, number in value.items():
                        sums[one] = round(sums.get(one, 0) + number, 4)
                elif isinstance(value, int | float):
                    found[name] = round(found.get(name, 0) + value, 4)
        return found

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON-like values."""
        return {
            "application": self.application,
            "output": str(self.status.output),
            "state": self.status.state,
            "units": [{"unit": one.key, **one.to_dict()} for one in self.units],
            "totals": self.totals,
            "failures": list(self.ledger.get("failures", ())),
            "left_out": list(self.ledger.get("left_out", ())),
            "odd_items": list(self.ledger.get("odd_items", ())),
        }

    def __str__(self) -> str:
        size = show_bytes(sum(one.size for one in self.units))
        lines = [
            f"{self.application}: {self.status.output}, {self.status.state}, {plural(len(self.units), 'unit')}, {size}",
            *(f"  {figure_name(name)}: {show_figure(name, value)} in all" for name, value in self.totals.items()),
            *(unit.line(has_time=False) for unit in self.units),
        ]
        for kind, title in (("failures", "failed"), ("left_out", "left out"), ("odd_items", "odd")):
            for one in self.ledger.get(kind, ()):
                name = " ".join(str(one[key]) for key in ("unit", "item", "asset", "id") if one.get(key))
                lines.append(f"{title}: {name}: {one.get('reason', '')}")
        return "\n".join(lines)


def application_of(out: Path) -> str:
    """Return the application whose run made, or is making, an output; `NoRunError` without any."""
    place = resolve(out)
    found = partial_owner(sibling(place, ".partial")) or (
        {} if (product := location_of(place)) is None else partial_owner(product) or {}
    )
    name = found.get("application")
    if not isinstance(name, str):
        raise NoRunError(
            f"No run has written to {out}.", f"Expected the {option('output_dir')} of a run.", "Check the path."
        )
    return name


def read_report(out: Path, figures: Figures = no_figures) -> Report:
    """Return what a run came to, also one that works or was stopped; `NoRunError` where there is none.

    Parameters
    ----------
    out
        Its output directory.
    figures
        Gives an application's own figures of a unit.
    """
    application, status = application_of(out), read_status(out)
    place = resolve(out)
    partial, product = sibling(place, ".partial"), location_of(place)
    # what is under way counts, where there is anything: it becomes the product
    folder = partial if partial.is_dir() or product is None else product
    units = []
    for key in sorted(units_in(folder)):
        item, why = read_object(folder / LAYOUT.item_of(key))
        properties, assets = item.get("properties"), item.get("assets")
        if not why and isinstance(properties, dict) and "eoap:digest" in properties and isinstance(assets, dict):
            with suppress(KeyError, TypeError, AttributeError, ValueError):  # edited by somebody
                units.append(UnitSummary.of(item, None, figures))
    return Report(application, status, tuple(units), _records(read_object(folder / LEDGER)[0]))


def _records(ledger: Mapping[str, Any]) -> dict[str, list[dict[str, Any]]]:
    """Return the entries of a ledger that are records."""
    return {
        name: [one for one in entries if isinstance(one, dict)]
        for name, entries in ledger.items()
        if isinstance(entries, list)
    }
