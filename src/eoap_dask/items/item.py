"""One STAC item as a plain dictionary: normalised, and its time, place and cloud cover."""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from eoap_dask.net.resolve import is_file_url, is_url, resolve_href
from eoap_dask.net.signing import origin, unsigned

Item = dict[str, Any]
"""A STAC item as it came, as a plain dictionary."""


@dataclass(frozen=True, slots=True)
class OddItem:
    """An item that was set aside."""

    id: str
    reason: str
    """What it lacks, as a sentence."""
    expected: str = ""
    hint: str = ""
    """As in `EoapError`, where it can't be done without."""

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON-like values."""
        return {"id": self.id, "reason": self.reason}


def parse_time(text: object) -> datetime:
    """Return a time as in RFC 3339, in any time zone, in UTC; without a zone it is in UTC. ValueError for others."""
    if not isinstance(text, str):
        raise ValueError(f"{text!r:.60} isn't a time")
    try:
        # t and z are allowed in lower case, and seconds of 60, which Python doesn't know
        moment = datetime.fromisoformat(re.sub(r"(T\d{2}:?\d{2}:?)60", r"\g<1>59", text.strip().upper()))
        return moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    except (OverflowError, ValueError):  # in UTC, a time of year 1 or 9999 may be of no year
        raise ValueError(f"{text!r:.60} isn't a time") from None


def instant(item: Mapping[str, Any]) -> datetime:
    """Return the item's datetime, or the start of its range, in UTC; ValueError when it has no readable time."""
    properties = item["properties"]
    return parse_time(properties.get("datetime") or properties.get("start_datetime"))


def moments(item: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return the item's first and last moment in UTC, equal unless it has only a range; ValueError when unreadable."""
    properties = item["properties"]
    texts = [properties.get("datetime")] * 2
    if texts[0] is None:
        texts = [properties.get("start_datetime"), properties.get("end_datetime")]
    try:
        return parse_time(texts[0]), parse_time(texts[1])
    except ValueError:
        raise ValueError(f"the item {str(item.get('id'))[:80]!r} has no readable time") from None


def cloud_cover(item: Mapping[str, Any]) -> float | None:
    """Return `eo:cloud_cover` in percent; None where it isn't a finite number."""
    return finite_number(item["properties"].get("eo:cloud_cover"))


def finite_number(value: object) -> float | None:
    """Return a JSON value as a float; None for booleans, texts, and what isn't finite."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        found = float(value)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def footprint(item: Mapping[str, Any]) -> BaseGeometry | None:
    """Return the footprint in degrees from geometry, else bbox, else None.

    Across the antimeridian longitudes continue past 180, also where the catalogue's shape spans the whole world.
    """
    found: BaseGeometry | None = None
    try:
        if item.get("geometry"):
            found = shape(item["geometry"])
        elif item.get("bbox"):
            numbers = [float(number) for number in item["bbox"]]
            west, south, east, north = (
                numbers[0],
                numbers[1],
                numbers[len(numbers) // 2],
                numbers[len(numbers) // 2 + 1],
            )
            return box(west, south, east + 360 if west > east else east, north)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return None
    if found is None or found.is_empty or not np.isfinite(found.bounds).all():
        return None
    if found.bounds[2] - found.bounds[0] > 180:
        moved = shapely.transform(found, _east)
        if 0 < moved.bounds[2] - moved.bounds[0] <= 180:
            found = moved
    return found if found.is_valid else shapely.make_valid(found)


def _east(coordinates: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.column_stack(
        [np.where(coordinates[:, 0] < 0, coordinates[:, 0] + 360, coordinates[:, 0]), coordinates[:, 1]]
    )


def normalised(feature: object, base: str, *, strip: bool) -> Item:
    """Return a copy of an item with absolute hrefs (`base` is the URL it was read from), an id and assets.

    `strip` removes signatures. A null for a collection is none. Raises ValueError with what is missing; whether the
    item has a time is seen to by `QueryFilter`.
    """
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise ValueError("an entry isn't a GeoJSON feature")
    name = feature.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError("a feature has no id")
    assets = feature.get("assets")
    if not isinstance(feature.get("properties"), Mapping) or not isinstance(assets, Mapping):
        raise ValueError(f"the feature {name[:80]!r} has no properties or no assets, so it isn't a STAC item")
    listed = feature.get("links")
    links = [link for link in (listed if isinstance(listed, list) else []) if isinstance(link, Mapping)]
    own = next((str(link["href"]) for link in links if link.get("rel") == "self" and "href" in link), "")
    own = own if origin(own) else ""
    item = dict(feature)
    if item.get("collection") in (None, ""):
        item.pop("collection", None)
    item["links"] = [{**link, "href": _bare(link["href"])} for link in links if isinstance(link.get("href"), str)]
    item["assets"] = {
        str(key): {**_with_lists(asset), "href": _absolute(asset["href"], base, own, strip=strip)}
        for key, asset in assets.items()
        if isinstance(asset, Mapping) and isinstance(asset.get("href"), str)
    }
    return item


def fit_items(
    features: Iterable[tuple[object, str]], odd: list[OddItem], *, few: bool = False
) -> Iterator[tuple[Item, str]]:
    """Yield features as `normalised`, each with the URL or path that it was read from, as they come.

    Those that aren't STAC items are set aside in `odd`; ValueError for the first of them where there is no other,
    unless they are but `few` of them all.
    """
    first: ValueError | None = None
    is_any = False
    for number, (feature, base) in enumerate(features, 1):
        try:
            item = normalised(feature, base, strip=False)
        except ValueError as fault:
            first = first or fault
            name = feature.get("id") if isinstance(feature, Mapping) else None
            text = str(fault)
            what = f"{text[:1].upper()}{text[1:]} (number {number})."
            odd.append(OddItem(str(name or f"number {number}")[:80], what, "Expected a STAC item."))
        else:
            is_any = True
            yield item, base
    if first is not None and not is_any and not few:
        raise first


def _bare(href: str) -> str:
    """Return a link's href without its query, which may hold a token."""
    return href.partition("?")[0]


def _with_lists(asset: Mapping[str, Any]) -> dict[str, Any]:
    """Return an asset whose lists of bands are lists of objects, each in its place, whatever they were."""
    found = dict(asset)
    for name in ("bands", "eo:bands", "raster:bands"):
        if name in found:
            bands = [found[name]] if isinstance(found[name], Mapping) else found[name]
            found[name] = [
                band if isinstance(band, Mapping) else {} for band in (bands if isinstance(bands, list) else [])
            ]
    return found


def item_key(item: Mapping[str, Any]) -> tuple[str, str]:
    """Return the key of an item: its collection, or an empty text, and its id."""
    return str(item.get("collection", "")), str(item["id"])


def item_version(item: Mapping[str, Any]) -> tuple[datetime, bytes]:
    """Return when an item was updated, and a digest of it; the greater of two is the newer. Untold is the oldest.

    The digest makes the choice between versions without a time independent of their order.
    """
    digest = hashlib.blake2b(json_line(item).encode(), digest_size=16).digest()
    try:
        updated = parse_time(item["properties"].get("updated"))
    except ValueError:
        updated = datetime.min.replace(tzinfo=UTC)
    return updated, digest


def ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return items sorted by (datetime, id), for each (collection, id) the one last updated."""
    best: dict[tuple[str, str], tuple[tuple[datetime, bytes], Item]] = {}
    for item in items:
        key, version = item_key(item), item_version(item)
        if key not in best or version > best[key][0]:
            best[key] = (version, item)
    found = [item for _, item in best.values()]
    return tuple(sorted(found, key=lambda item: (instant(item), item["id"], str(item.get("collection", "")))))


def json_line(value: object) -> str:
    """Return a value as JSON in one line; equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def without_signatures(item: Item) -> Item:
    """Return a copy of a normalised item whose assets' hrefs carry no signature."""
    assets = {key: {**asset, "href": unsigned(asset["href"])} for key, asset in item["assets"].items()}
    return {**item, "assets": assets}


def _is_file(href: str, base: str) -> bool:
    """Tell whether an href of an item on this disk names a file of it, and not of the host that the item came from."""
    return is_file_url(href) or (href.startswith("/") and Path(resolve_href(base, href)).exists())


def _absolute(href: str, base: str, own: str, *, strip: bool) -> str:
    """Return an href resolved against an item's own link, else against where it was read."""
    if own and (is_url(base) or not _is_file(href, base)):
        base = own
    found = resolve_href(base, href) if base else href
    return unsigned(found) if strip else found
