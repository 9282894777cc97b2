"""The index of chips: one table of all their STAC items, with columns to filter by."""

from __future__ import annotations

import io
import json
import posixpath
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import shapely
from shapely.geometry import shape

from eoap_dask.applications.crop_chips.splits import ML_AOI
from eoap_dask.files import write_bytes
from eoap_dask.items.item import parse_time
from eoap_dask.net.resolve import is_url
from eoap_dask.render.images import ClassSpec

_CRS = "EPSG:4326"
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_TIME = pa.timestamp("us", "UTC")
_TIMES = ("datetime", "start_datetime", "end_datetime")
_FILES = ("image", "mask")
_NO_ASSETS = pa.struct([(key, pa.struct([("href", pa.string())])) for key in _FILES])
_NO_LINKS = pa.list_(pa.struct([("href", pa.string()), ("rel", pa.string())]))
_OF_A_RUN = frozenset({"processing:datetime"})
"""Properties that differ between equal runs."""


def write_index(path: Path, items: Mapping[str, Mapping[str, Any]], classes: Sequence[ClassSpec]) -> Path:
    """Write the items of chips as stac-geoparquet, a row each in the order of their ids, and return the path.

    Parameters
    ----------
    path
        The file, at the root of the product.
    items
        As JSON has them, by the path of each one's file, relative to the root; perhaps none.
    classes
        Those with a column, also where no chip has a pixel of it.

    Returns
    -------
    pathlib.Path
        The file. Equal items in any order give the same bytes, whenever they were made: `processing:datetime` is left
        out. Besides what the format asks for there are

        - cell : text; split : ``train``, ``val``, ``test`` or null; valid_percent : float; fields : integer
        - pixels_<name of a class> : integer, for `classes` and whatever else was counted
        - image, mask : text, paths relative to the root, as all hrefs are
    """
    from pyarrow import parquet

    rows = sorted((_row(item, home) for home, item in items.items()), key=lambda row: str(row["id"]))
    columns = {**_plain_columns(rows, classes), **_standard_columns(rows)}
    more = sorted({name for row in rows for name in row["properties"]} - set(columns) - _OF_A_RUN)
    columns |= {name: pa.array([row["properties"].get(name) for row in rows]) for name in more}
    table = pa.table(columns).replace_schema_metadata(_metadata(rows))
    stream = io.BytesIO()
    parquet.write_table(table, stream, compression="zstd")
    return write_bytes(path, stream.getvalue())


def _row(item: Mapping[str, Any], home: str) -> dict[str, Any]:
    """Return an item as a table can store it, with hrefs relative to the root."""
    folder = posixpath.dirname(home)
    links = [{**link, "href": _moved(link["href"], folder)} for link in item.get("links", ())]
    assets = {key: {**asset, "href": _moved(asset["href"], folder)} for key, asset in item["assets"].items()}
    row = {**item, "links": links, "assets": assets}
    return {key: row[key] if key == "geometry" else _storable(row[key]) for key in row}


def _moved(href: str, folder: str) -> str:
    """Return an href of a document in a directory as one of a document at the root."""
    if is_url(href) or href.startswith("/"):
        return href
    found = posixpath.normpath(posixpath.join(folder, href))
    return found if found.startswith("../") else f"./{found}"


def _storable(value: Any) -> Any:
    """Return a value with sorted keys and without empty objects, for which Parquet has no type."""
    if isinstance(value, dict):
        kept = {key: _storable(value[key]) for key in sorted(value)}
        return {key: part for key, part in kept.items() if part is not None} or None
    return [_storable(part) for part in value] if isinstance(value, list) else value


def _plain_columns(rows: Sequence[Mapping[str, Any]], classes: Sequence[ClassSpec]) -> dict[str, pa.Array]:
    """Return the columns that people filter by."""
    properties = [row["properties"] for row in rows]
    counts = [its.get("eoap:class_pixels") or {} for its in properties]
    names = dict.fromkeys([one.name for one in classes] + sorted({name for its in counts for name in its}))
    ours = {theirs: split for split, theirs in ML_AOI.items()}
    hrefs = {key: [row["assets"][key]["href"].removeprefix("./") for row in rows] for key in _FILES}
    return {
        "id": pa.array([row["id"] for row in rows], pa.string()),
        "cell": pa.array([its.get("eoap:cell") for its in properties], pa.string()),
        "split": pa.array([ours.get(its.get("ml-aoi:split")) for its in properties], pa.string()),
        "valid_percent": pa.array([its.get("eoap:valid_percent") for its in properties], pa.float64()),
        "fields": pa.array([its.get("eoap:fields") for its in properties], pa.int64()),
        **{f"pixels_{name}": pa.array([its.get(name, 0) for its in counts], pa.int64()) for name in names},
        **{name: pa.array([_time(its.get(name)) for its in properties], _TIME) for name in _TIMES},
        **{key: pa.array(hrefs[key], pa.string()) for key in _FILES},
    }


def _standard_columns(rows: Sequence[Mapping[str, Any]]) -> dict[str, pa.Array]:
    """Return the columns of the format that hold no properties."""
    corners = [dict(zip(_CORNERS, map(float, row["bbox"]), strict=True)) for row in rows]
    return {
        "geometry": pa.array([shapely.to_wkb(shape(row["geometry"]), flavor="iso") for row in rows], pa.binary()),
        "bbox": pa.array(corners, pa.struct([(corner, pa.float64()) for corner in _CORNERS])),
        "type": pa.array([row["type"] for row in rows], pa.string()),
        "stac_version": pa.array([row["stac_version"] for row in rows], pa.string()),
        "stac_extensions": pa.array([row.get("stac_extensions") or [] for row in rows], pa.list_(pa.string())),
        "collection": pa.array([row.get("collection") for row in rows], pa.string()),
        "assets": pa.array([row["assets"] for row in rows], None if rows else _NO_ASSETS),
        "links": pa.array([row["links"] for row in rows], None if any(row["links"] for row in rows) else _NO_LINKS),
    }


def _time(text: object) -> Any:
    return None if text is None else parse_time(text)


def _metadata(rows: Sequence[Mapping[str, Any]]) -> dict[str, str]:
    """Return what makes a Parquet file one of GeoParquet and of stac-geoparquet."""
    from pyproj import CRS

    geometry = {
        "encoding": "WKB",
        "geometry_types": sorted({row["geometry"]["type"] for row in rows}),
        "crs": CRS.from_user_input(_CRS).to_json_dict(),
        "covering": {"bbox": {corner: ["bbox", corner] for corner in _CORNERS}},
    }
    geo = {"version": "1.1.0", "primary_column": "geometry", "columns": {"geometry": geometry}}
    return {"geo": json.dumps(geo), "stac-geoparquet": json.dumps({"version": "1.0.0"})}
