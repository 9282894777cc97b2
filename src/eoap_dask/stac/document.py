"""Common parts of STAC documents: ids, times, links, extensions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

STAC_VERSION = "1.1.0"

_EXTENSION = "https://stac-extensions.github.io/{}/schema.json"
CLASSIFICATION = _EXTENSION.format("classification/v2.0.0")
EO = _EXTENSION.format("eo/v2.0.0")
LABEL = _EXTENSION.format("label/v1.0.1")
ML_AOI = _EXTENSION.format("ml-aoi/v0.2.0")
FILE = _EXTENSION.format("file/v2.1.0")
PROCESSING = _EXTENSION.format("processing/v1.2.0")
PROJECTION = _EXTENSION.format("projection/v2.0.0")
RASTER = _EXTENSION.format("raster/v2.0.0")
RENDER = _EXTENSION.format("render/v2.0.0")

_ID = re.compile(r"[a-z0-9][a-z0-9._-]*")


def check_id(identifier: str) -> None:
    """Raise ValueError unless an id is lower case and safe as a file name."""
    if not _ID.fullmatch(identifier):
        raise ValueError(f"An id must be lower case and safe as a file name, got {identifier!r}.")


def rfc3339(moment: datetime) -> str:
    """Return a time as RFC 3339 in UTC."""
    if moment.tzinfo is None:
        raise ValueError(f"A time must have a time zone, got {moment}.")
    return moment.astimezone(UTC).isoformat().replace("+00:00", "Z")


def link(rel: str, href: str, media_type: str, title: str | None = None) -> dict[str, Any]:
    """Return a link, with a title if there is one."""
    made = {"rel": rel, "href": href, "type": media_type}
    return {**made, "title": title} if title else made


def extensions(
    properties: Mapping[str, Any],
    assets: Mapping[str, Mapping[str, Any]],
    has_files: bool = False,  # whether links tell sizes and checksums
) -> list[str]:
    """Return the extensions whose fields occur, sorted; eo and raster must not be listed otherwise."""
    names = {*properties, *(("file:size",) if has_files else ())}
    for asset in assets.values():
        names.update(asset)
        for band in asset.get("bands", ()):
            names.update(band)
    prefixes = {name.partition(":")[0] for name in names if ":" in name or name == "renders"}
    known = {
        "classification": CLASSIFICATION,
        "eo": EO,
        "file": FILE,
        "label": LABEL,
        "ml-aoi": ML_AOI,
        "processing": PROCESSING,
        "proj": PROJECTION,
        "raster": RASTER,
        "renders": RENDER,
    }
    return sorted(known[prefix] for prefix in prefixes if prefix in known)
