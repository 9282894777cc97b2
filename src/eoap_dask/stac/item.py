"""The item of one unit, as a dictionary with a fixed order of keys."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from eoap_dask.files import write_json
from eoap_dask.output.layout import LAYOUT
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.stac.document import STAC_VERSION, check_id, extensions, link, rfc3339
from eoap_dask.stac.records import (
    EO_COMMON_NAMES,
    GEOJSON,
    JSON,
    AssetRecord,
    ItemRecord,
    OutputRecord,
    RenderRecord,
)


def build_item(record: ItemRecord, *, collection_id: str, software_version: str, now: datetime) -> dict[str, Any]:
    """Return the STAC item of one unit, JSON-ready, for a directory below the catalog's.

    `now` is the time of processing: the only difference between the items of equal runs. Extensions are listed only
    where a field of theirs occurs, as their schemas demand.
    """
    check_id(record.id)
    properties: dict[str, Any] = {
        "title": record.title,
        "datetime": rfc3339(record.start),
        "start_datetime": rfc3339(record.start),
        "end_datetime": rfc3339(record.end),
        **_projection(record.crs, record.shape, record.transform),
        "proj:bbox": _bounds(record.shape, record.transform),
        "processing:level": record.level,
        "processing:datetime": rfc3339(now),
        "processing:version": software_version,
        "processing:software": {"eoap-dask": software_version},
        "processing:lineage": record.lineage,
    }
    unlinked = [source for source in record.derived_from if not _is_href(source)]
    if unlinked:
        properties["eoap:derived_from"] = unlinked
    renders = record.renders or _default_renders(record.assets)
    if renders:
        properties["renders"] = {render.key: _render(render) for render in renders}
    properties.update(record.properties)
    assets = {asset.key: build_asset(asset, record.crs) for asset in record.assets}
    return {
        "type": "Feature",
        "stac_version": STAC_VERSION,
        "stac_extensions": extensions(properties, assets, record.outputs != ()),
        "id": record.id,
        "geometry": dict(record.geometry),
        "bbox": list(record.bbox),
        "properties": properties,
        "links": [
            link("root", record.to_root + LAYOUT.catalog, JSON),
            link("parent", record.to_root + LAYOUT.catalog, JSON),
            link("collection", record.to_root + LAYOUT.collection, JSON),
            *(
                link("derived_from", source, GEOJSON, _last_part(source))
                for source in record.derived_from
                if _is_href(source)
            ),
            *(_output(output) for output in record.outputs),
        ],
        "assets": assets,
        "collection": collection_id,
    }


def _output(output: OutputRecord) -> dict[str, Any]:
    """Return the link to the item of an output."""
    made = link("item", f"./{output.filename}", GEOJSON, output.title)
    return {**made, "file:size": output.size, "file:checksum": multihash_sha256(output.sha256)}


def with_period(item: Mapping[str, Any], title: str, start: datetime, end: datetime) -> dict[str, Any]:
    """Return an item with another title and period, for other dates that select the same pixels."""
    when = {"datetime": rfc3339(start), "start_datetime": rfc3339(start), "end_datetime": rfc3339(end)}
    return {**item, "properties": {**item["properties"], "title": title, **when}}


def write_item(folder: Path, item: Mapping[str, Any]) -> Path:
    """Write ``<id>.json`` into the unit's directory, and return its path; the last act of a unit."""
    return write_json(folder / LAYOUT.item(item["id"]), item)


def multihash_sha256(digest: str) -> str:
    """Return a SHA-256 as multihash for `file:checksum`: ``1220`` (code and length) and the digest, lower case."""
    if not re.fullmatch(r"[0-9a-fA-F]{64}", digest):
        raise ValueError(f"A SHA-256 must be 64 hexadecimal digits, got {digest!r}.")
    return "1220" + digest.lower()


def _is_href(source: str) -> bool:
    """Tell a URL or a path from a bare id."""
    return "/" in source


def _last_part(href: str) -> str:
    return href.split("?")[0].rstrip("/").rsplit("/", 1)[-1].removesuffix(".json")


def _projection(crs: str, shape: tuple[int, int] | None, transform: Sequence[float] | None) -> dict[str, Any]:
    """Return the fields that place a grid; nothing when it has no place."""
    if shape is None or transform is None:
        return {}
    coded = re.fullmatch(r"\w+:\w+", crs) is not None
    fields: dict[str, Any] = {"proj:code": crs.upper()} if coded else {"proj:code": None, "proj:wkt2": crs}
    return {
        **fields,
        "proj:shape": list(shape),
        "proj:transform": [float(number) for number in transform[:6]],
    }


def _bounds(shape: tuple[int, int], transform: Sequence[float]) -> list[float]:
    """Return the bounds of a grid in CRS units: left, bottom, right, top."""
    a, b, c, d, e, f = (float(number) for number in transform[:6])
    rows, columns = shape
    corners = [(column, row) for column in (0, columns) for row in (0, rows)]
    x = [a * column + b * row + c for column, row in corners]
    y = [d * column + e * row + f for column, row in corners]
    return [min(x), min(y), max(x), max(y)]


def _bands(asset: AssetRecord, image: ImageSpec) -> list[dict[str, Any]]:
    statistics = asset.statistics or (None,) * len(image.bands)
    return [
        _band(band, image, measured, asset.class_pixels) for band, measured in zip(image.bands, statistics, strict=True)
    ]


def _band(
    band: BandSpec, image: ImageSpec, measured: Mapping[str, float] | None, class_pixels: Mapping[int, int]
) -> dict[str, Any]:
    nodata: float | str | None = image.nodata
    if isinstance(nodata, float) and not math.isfinite(nodata):
        nodata = "nan" if math.isnan(nodata) else "inf" if nodata > 0 else "-inf"
    statistics = {key: float(number) for key, number in (measured or {}).items() if math.isfinite(number)}
    fields = {
        "name": band.name,
        "description": band.description or None,
        "data_type": image.dtype,
        "nodata": nodata,
        "unit": band.unit,
        "statistics": statistics or None,
        "eo:common_name": band.common_name if band.common_name in EO_COMMON_NAMES else None,
        "raster:scale": band.scale,
        "raster:offset": band.offset,
        "classification:classes": [_class(one, class_pixels.get(one.value)) for one in band.classes] or None,
    }
    return {key: content for key, content in fields.items() if content is not None}


def _class(one: ClassSpec, pixels: int | None) -> dict[str, Any]:
    fields = {
        "value": one.value,
        "name": one.name,
        "title": one.title,
        "description": one.description or None,
        "color_hint": one.color_hint or None,
        "nodata": one.nodata or None,
        "count": pixels,
    }
    return {key: content for key, content in fields.items() if content is not None}


def build_asset(asset: AssetRecord, crs: str = "") -> dict[str, Any]:
    """Return an asset; `crs` is that of its grid, if it has one."""
    fields: dict[str, Any] = {
        "href": f"./{asset.filename}",
        "title": asset.title,
        "type": asset.media_type,
        "roles": list(asset.roles),
    }
    if asset.image is not None:
        fields["bands"] = _bands(asset, asset.image)
    fields.update(_projection(crs, asset.shape, asset.transform))
    if asset.image is not None and asset.image.expression:
        fields["processing:expression"] = {"format": "python", "expression": asset.image.expression}
    fields.update(asset.more)
    return {**fields, "file:size": asset.size, "file:checksum": multihash_sha256(asset.sha256)}


def _default_renders(assets: Sequence[AssetRecord]) -> tuple[RenderRecord, ...]:
    """Return a render of the first picture as it is."""
    for asset in assets:
        if "visual" in asset.roles and asset.image is not None:
            count = len(asset.image.bands)
            return (
                RenderRecord(
                    key="visual",
                    title=asset.title,
                    assets=(asset.key,),
                    bidx=tuple(range(1, count + 1)),
                    rescale=((0, 255),) * count,
                    nodata=asset.image.nodata,
                ),
            )
    return ()


def _render(render: RenderRecord) -> dict[str, Any]:
    fields = {
        "title": render.title,
        "assets": list(render.assets),
        "bidx": list(render.bidx) or None,
        "rescale": [list(pair) for pair in render.rescale] or None,
        "nodata": render.nodata,
        "colormap_name": render.colormap_name,
    }
    return {key: content for key, content in fields.items() if content is not None}
