"""The collection that describes a run's items, and the catalog that links them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from eoap_dask.files import write_json
from eoap_dask.geo.footprint import union_bbox
from eoap_dask.output.layout import LAYOUT
from eoap_dask.render.images import ImageSpec
from eoap_dask.stac.document import (
    CLASSIFICATION,
    EO,
    FILE,
    PROJECTION,
    RASTER,
    STAC_VERSION,
    check_id,
    extensions,
    link,
)
from eoap_dask.stac.item import build_asset
from eoap_dask.stac.records import COG, GEOJSON, JSON, AssetRecord

_SUMMARISED = ("platform", "constellation", "instruments", "gsd", "proj:code", "processing:level")


def build_collection(
    collection_id: str,
    title: str,
    description: str,
    items: Sequence[Mapping[str, Any]],
    *,
    providers: Sequence[Mapping[str, Any]] = (),
    keywords: Sequence[str] = (),
    license: str = "other",  # noqa: A002  # STAC's word
    license_links: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """Return the collection that describes a run's items (at least one), as JSON-ready dictionary.

    It doesn't link the items: the catalog beside it does (stage-out reads only the catalog), and a reader that walks
    down from there would meet each item twice. `license` is an SPDX identifier, or ``other`` with a link.
    """
    check_id(collection_id)
    if not items:
        raise ValueError("A collection needs at least one item.")
    times = [item["properties"] for item in items]
    summaries = _summaries(items)
    item_assets = _item_assets(items)
    return {
        "type": "Collection",
        "stac_version": STAC_VERSION,
        "stac_extensions": [
            extension
            for extension in extensions(summaries, item_assets)
            if extension in (CLASSIFICATION, EO, PROJECTION, RASTER)
        ],
        "id": collection_id,
        "title": title,
        "description": description,
        "keywords": list(keywords),
        "license": license,
        "providers": [dict(provider) for provider in providers],
        "extent": {
            "spatial": {"bbox": [union_bbox([item["bbox"] for item in items])]},
            "temporal": {
                "interval": [[min(p["start_datetime"] for p in times), max(p["end_datetime"] for p in times)]]
            },
        },
        "summaries": summaries,
        "links": [
            link("root", f"./{LAYOUT.catalog}", JSON),
            link("parent", f"./{LAYOUT.catalog}", JSON),
            *(dict(one) for one in license_links),
        ],
        "item_assets": item_assets,
    }


def build_catalog(catalog_id: str, title: str, description: str, items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the root catalog: relative links to the collection beside it and to every item in its unit's directory."""
    check_id(catalog_id)
    return {
        "type": "Catalog",
        "stac_version": STAC_VERSION,
        "id": catalog_id,
        "title": title,
        "description": description,
        "links": [
            link("root", f"./{LAYOUT.catalog}", JSON),
            link("child", f"./{LAYOUT.collection}", JSON),
            *(one for item in items for one in _item_links(item)),
        ],
    }


def _item_links(item: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the links to a unit's item and to those of its outputs, which most readers wouldn't look for in an item."""
    key = LAYOUT.unit_of_item(item)
    yield link("item", f"./{LAYOUT.item_of(key)}", GEOJSON, item["properties"].get("title"))
    for one in item.get("links", ()):
        if one["rel"] == "item":
            yield link("item", f"./{LAYOUT.folder(key)}/{one['href'].removeprefix('./')}", GEOJSON, one.get("title"))


def with_assets(collection: Mapping[str, Any], assets: Sequence[AssetRecord]) -> dict[str, Any]:
    """Return a collection with files of the product as a whole, which lie beside it."""
    if not assets:
        return dict(collection)
    known = sorted({*collection["stac_extensions"], FILE})
    return {**collection, "stac_extensions": known, "assets": {one.key: build_asset(one) for one in assets}}


def write_catalog(root: Path, *, collection: Mapping[str, Any], catalog: Mapping[str, Any]) -> Path:
    """Write ``collection.json``, then ``catalog.json``, and return its path: the catalog defines the product."""
    write_json(root / LAYOUT.collection, collection)
    return write_json(root / LAYOUT.catalog, catalog)


def _summaries(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the values that occur, in order of first occurrence; lists are merged."""
    summaries: dict[str, list[Any]] = {}
    for item in items:
        for key in _SUMMARISED:
            content = item["properties"].get(key)
            for entry in content if isinstance(content, list) else [content]:
                if entry is not None and entry not in summaries.setdefault(key, []):
                    summaries[key].append(entry)
    return {key: summaries[key] for key in _SUMMARISED if summaries.get(key)}


def described(images: Sequence[ImageSpec]) -> dict[str, Any]:
    """Return `item_assets` of images, for a collection whose chips or the like have items below those of units."""
    records = (AssetRecord(one.asset_key, "", one.title, COG, one.roles, image=one, sha256="0" * 64) for one in images)
    return _item_assets([{"assets": {one.key: build_asset(one) for one in records}}])


def _uncounted(band: dict[str, Any]) -> dict[str, Any]:
    classes = band.get("classification:classes")
    if classes is None:
        return band
    return {**band, "classification:classes": [{k: v for k, v in one.items() if k != "count"} for one in classes]}


def _item_assets(items: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return what the assets of a key have in common: all but place, size and statistics."""
    kept = ("title", "type", "roles", "bands")
    found: dict[str, Any] = {}
    for item in items:
        for key, asset in item["assets"].items():
            if key not in found:
                found[key] = {name: asset[name] for name in kept if name in asset}
                if "bands" in asset:
                    found[key]["bands"] = [
                        _uncounted({name: content for name, content in band.items() if name != "statistics"})
                        for band in asset["bands"]
                    ]
    return found
