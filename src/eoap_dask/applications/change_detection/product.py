"""What is written of finished units and of the product as a whole: items, pictures, hectares, the collection."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eoap_dask.applications.change_detection.entry import CHANGE_DETECTION
from eoap_dask.applications.change_detection.mask_png import write_mask_png
from eoap_dask.applications.change_detection.names import cell_and_year, is_change
from eoap_dask.applications.change_detection.science import CHANGED, UNCHANGED, Change
from eoap_dask.applications.change_detection.sheet import MOST_PAIRS, write_sheet
from eoap_dask.applications.composition import finish_composite
from eoap_dask.files import write_bytes
from eoap_dask.geo.grid import pixel_hectares
from eoap_dask.output.layout import LAYOUT
from eoap_dask.run.product import collection_and_catalog, file_asset, image_assets, write_unit_item
from eoap_dask.run.raster import raster_of
from eoap_dask.stac.records import CSV, PNG, AssetRecord
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.applications.change_detection.request import Request
    from eoap_dask.run.written import WrittenUnit

CELL, YEAR, BEFORE = "eoap:cell", "eoap:year", "eoap:year_before"
CHANGED_HA, SEEN_HA, STATISTICS = "eoap:changed_ha", "eoap:seen_ha", "eoap:change_statistics"
"""Properties of items."""
NAME = CHANGE_DETECTION.name


def finish_unit(request: Request, written: WrittenUnit) -> dict[str, Any]:
    """Write what belongs to an image or a change beside its rasters, the item last; return the item."""
    key = written.plan.unit.key
    if is_change(key):
        return _finish_change(request, written)
    name, year = cell_and_year(key)
    properties = {CELL: request.ids[name], YEAR: int(year)}
    return finish_composite(NAME, written, request.sensor, properties, f"{LAYOUT.name(key)}_thumbnail.png")


def _finish_change(request: Request, written: WrittenUnit) -> dict[str, Any]:
    unit, made, work = written.plan.unit, written.made, raster_of(written.plan)
    science = work.recipe.science
    assert isinstance(science, Change)  # noqa: S101 - plan_changes() has seen to it
    name, year = cell_and_year(unit.key)
    _, before = cell_and_year(unit.needs[0])
    seen, changed = (sum(note[at] for note in made.notes) for at in (0, 1))
    hectares = pixel_hectares(work.geobox)
    mask = made.images[work.recipe.images[1].name]
    picture, world = write_mask_png(mask.path, mask.path.with_suffix(".png"))
    assets = (
        *image_assets(written, {mask.spec.name: {UNCHANGED: seen - changed, CHANGED: changed}}),
        file_asset("mask", picture, "Mask of change, 255 where there is one", PNG, ("data", "overview")),
        file_asset("world", world, "World file of the mask", "text/plain", ("metadata",)),
    )
    month = f"{request.params.month:02d}"
    lineage = (
        f"{science.method.lineage(science.bands)}. Patches of fewer than {plural(science.least_pixels, 'pixel')}, "
        f"counted over edges and corners, are left out. Images of {before}-{month} and {year}-{month}."
    )
    return write_unit_item(
        NAME,
        written,
        assets,
        lineage,
        valid_pixels=seen,
        properties={
            CELL: request.ids[name],
            YEAR: int(year),
            BEFORE: int(before),
            CHANGED_HA: round(changed * hectares, 4),
            SEEN_HA: round(seen * hectares, 4),
            STATISTICS: {"method": science.method.name, **science.method.facts(made.state)},
        },
    )


def figures(item: Mapping[str, Any]) -> dict[str, Any]:
    """Return hectares that changed, of a change; nothing of an image."""
    properties = item["properties"]
    return {"changed_ha": properties[CHANGED_HA]} if CHANGED_HA in properties else {}


def conclude(
    request: Request, root: Path, file: Callable[[str, str], Path], items: Sequence[Mapping[str, Any]]
) -> list[AssetRecord]:
    """Write the hectares of all pairs, and a picture of those that changed most; return assets of the collection."""
    text = io.StringIO()
    table = csv.writer(text, lineterminator="\n")
    table.writerow(("cell", "year_before", "year", "changed_ha", "seen_ha", "changed_percent", "threshold", "item"))
    for row in sorted(map(_row, filter(_is_of_change, items)), key=lambda row: (row[2], row[0])):
        table.writerow(row)
    path = write_bytes(root / "changes.csv", text.getvalue().encode())
    found = [file_asset("changes", path, "Hectares that changed, by cell and pair of years", CSV, ("data",))]
    changes = sorted(filter(_is_of_change, items), key=lambda item: (-item["properties"][CHANGED_HA], item["id"]))
    if changes:
        title = "What changed most"
        sheet = write_sheet(
            root / "changes.png",
            changes[:MOST_PAIRS],
            file,
            request.method,
            title,
            f"{min(len(changes), MOST_PAIRS)} of {plural(len(changes), 'pair')}: before, after, score, mask. "
            f"{request.method.heading}.",
        )
        found.append(file_asset("changes-sheet", sheet, title, PNG, ("overview",)))
    return found


def _is_of_change(item: Mapping[str, Any]) -> bool:
    return CHANGED_HA in item["properties"]


def _row(item: Mapping[str, Any]) -> tuple[Any, ...]:
    about = item["properties"]
    changed, seen = about[CHANGED_HA], about[SEEN_HA]
    share = round(100 * changed / seen, 4) if seen else ""
    key = LAYOUT.unit_of_item(item)
    threshold = about[STATISTICS].get("threshold", "")
    return about[CELL], about[BEFORE], about[YEAR], changed, seen, share, threshold, LAYOUT.item_of(key)


def describe(request: Request, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished units."""
    years = sorted({item["properties"][YEAR] for item in items})
    cells = len({item["properties"][CELL] for item in items})
    changes = [item for item in items if _is_of_change(item)]
    return collection_and_catalog(
        NAME,
        items,
        title=f"Change from year to year, from {request.sensor.name}",
        description=f"Images of {plural(cells, 'cell')} in month {request.params.month} of {years[0]} to {years[-1]}, "
        f"from {request.sensor.title}, and {plural(len(changes), 'mask')} of what changed between years: "
        f"{request.method.heading}.",
        keywords=[request.sensor.constellation, "change detection", request.method.name.upper(), "land cover"],
        catalog_title=f"Change of {plural(cells, 'cell')}, {years[0]} to {years[-1]}",
    )
