"""What a run gives back: its product, and what became of each unit."""

from __future__ import annotations

import html
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from eoap_dask.items.item import OddItem
from eoap_dask.output.layout import LAYOUT
from eoap_dask.run.summary import UnitSummary
from eoap_dask.run.unit import Failure
from eoap_dask.text import plural, show_bytes


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run of an application."""

    application: str
    output: Path
    """The output directory."""
    items: tuple[dict[str, Any], ...]
    """The STAC items, in the order of the plan."""
    empty: tuple[str, ...]
    """Units for which nothing was found."""
    failures: tuple[Failure, ...]
    """Units that were allowed to fail, and why they did."""
    seconds: float
    odd_items: tuple[OddItem, ...] = ()
    """Items that were set aside, and why."""
    summaries: tuple[UnitSummary, ...] = ()
    """What became of each unit, in the order of `items`."""

    @property
    def catalog(self) -> Path:
        """The STAC catalog."""
        return self.output / LAYOUT.catalog

    def to_dict(self) -> dict[str, Any]:
        """Return the result as JSON-like values."""
        return {
            "application": self.application,
            "catalog": str(self.catalog),
            "items": [
                {"id": i["id"], "assets": self._files(i), **told.to_dict()}
                for i, told in zip(self.items, self.summaries, strict=True)
            ],
            "empty_periods": list(self.empty),
            "failures": [f.to_dict() for f in self.failures],
            "odd_items": [one.to_dict() for one in self.odd_items],
            "seconds": round(self.seconds, 3),
        }

    def summary(self) -> str:
        """Return a line for each unit, with further ones for an application's own figures, and one for all."""
        size = show_bytes(sum(one.size for one in self.summaries))
        failed = f", {len(self.failures)} failed" if self.failures else ""
        total = f"{plural(len(self.items), 'unit')}{failed}, {size} in {self.output}, {self.seconds:.1f} s"
        return "\n".join([*map(str, self.summaries), total])

    def _files(self, item: Mapping[str, Any]) -> dict[str, str]:
        home = self.output / LAYOUT.folder(LAYOUT.unit_of_item(item))
        return {key: str(home / asset["href"]) for key, asset in item["assets"].items()}

    def __repr__(self) -> str:
        odd = f", {plural(len(self.odd_items), 'odd item')} set aside" if self.odd_items else ""
        return f"<{self.application}: {plural(len(self.items), 'item')} in {self.catalog}, {self.seconds:.1f} s{odd}>"

    def _repr_html_(self) -> str:
        rows = "".join(f"<li>{html.escape(i['properties']['title'])}</li>" for i in self.items)
        return f"<p><b>{self.application}</b>: <code>{html.escape(str(self.catalog))}</code></p><ul>{rows}</ul>"
