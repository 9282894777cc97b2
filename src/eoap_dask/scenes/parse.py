"""From STAC items to scenes: which file holds which band, on which grid, and what its numbers mean.

All differences between catalogues end here; nothing behind this module reads an item.
"""

from __future__ import annotations

import hashlib
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import lru_cache
from pathlib import Path
from typing import Any

from pyproj import CRS

from eoap_dask.errors import BandError, ItemError
from eoap_dask.geo.crs import transformer
from eoap_dask.geo.window import Transform
from eoap_dask.items.item import Item, finite_number
from eoap_dask.net.hrefs import check_href
from eoap_dask.net.signing import unsigned
from eoap_dask.redact import redact
from eoap_dask.scenes.credit import producers
from eoap_dask.scenes.model import Scene, Source, without_duplicates
from eoap_dask.scenes.sensor import Sensor
from eoap_dask.text import option

_PRODUCT = re.compile(r"(S2[A-Z])_MSIL\d[A-Z]_(\d{8}T\d{6})_N(\d{2})(\d{2})_R\d{3}_T(\d{2}[A-Z]{3})_")
_DATATAKE = re.compile(r"G(S2[A-Z])_(\d{8}T\d{6})_\d+_N(\d{2})\.(\d{2})")
_BASELINE = re.compile(r"(\d{1,2})\.(\d{1,2})(?:\.\d+)*", re.ASCII)
_MAX_SIDE_PX = 1 << 18


def read_scenes(
    items: Iterable[Mapping[str, Any]],
    bands: Sequence[str],
    sensor: Sensor,
    *,
    cloud_mask: bool,
    private_hosts: frozenset[str],
    local_files: frozenset[str] = frozenset(),
) -> tuple[Scene, ...]:
    """Turn items into scenes with these bands (common names, band names or asset keys), sorted by time and id.

    Older processings are dropped. Raises `BandError` for a band that no item has, `ItemError` for an item that lacks
    something, `HrefError` for an href that may not be opened.
    """
    items = list(items)
    _check_bands(items, bands, sensor)
    scenes = [_read_scene(item, bands, sensor, cloud_mask, private_hosts, local_files) for item in items]
    return without_duplicates(sorted(scenes, key=lambda s: (s.datetime, s.id)))


def seen_once(items: Iterable[Item]) -> tuple[Item, ...]:
    """Drop items that are older processings of others, as `without_duplicates` does with scenes; keeps the order."""
    named = [(item, pass_key(item), _tile_of(item), _baseline(item)) for item in items]
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for _, key, tile, baseline in named:
        newest[key, tile] = max(newest.get((key, tile), (0, 0)), baseline)
    return tuple(item for item, key, tile, baseline in named if not tile or baseline == newest[key, tile])


def reflectance_offset(item: Mapping[str, Any], asset: Mapping[str, Any], sensor: Sensor) -> int:
    """Return what to subtract from an asset's numbers so that value / 10000 is reflectance.

    One rule: 0 where the item says that its offset was applied; else what the asset declares; else 1000 from processing
    baseline 04.00 on, when ESA began to store reflectance × 10000 + 1000. Raises `ItemError`.
    """
    properties = item.get("properties", {})
    if any(properties.get(flag) is True for flag in ("earthsearch:boa_offset_applied", "sentinel:boa_offset_applied")):
        return 0
    scale, offset = _declared(asset)
    shown = f"The asset {redact(str(asset.get('href')))} of item {item.get('id')!r}"
    if scale is not None:
        number = finite_number(scale)
        if number is None or abs(number * sensor.quantification - 1) > 1e-6:
            raise ItemError(f"{shown} declares the scale {_short(scale)}.", f"Expected {1 / sensor.quantification:g}.")
    if offset is not None:
        number = finite_number(offset)
        # rounded, it must leave something of what 16 bits hold
        if number is None or not abs(number * sensor.quantification) < 65534.5:
            raise ItemError(
                f"{shown} declares the offset {_short(offset)}.",
                "Expected one within the range of reflectance, such as -0.1.",
            )
        return round(-number * sensor.quantification)
    minimum = tuple(int(n) for n in sensor.offset_baseline.split("."))
    baseline = _told_baseline(item)
    if baseline is None and properties.get("s2:processing_baseline") not in (None, ""):
        raise ItemError(
            f"Item {item.get('id')!r} has the processing baseline {properties['s2:processing_baseline']!r:.60}.",
            "Expected one such as '05.09', which decides whether an offset is subtracted.",
            _try_another(),
        )
    return sensor.offset_dn if (baseline or (0, 0)) >= minimum else 0


def pass_key(item: Mapping[str, Any]) -> str:
    """Return platform and start of the datatake; the item's time where no name has them, or raise `ItemError`."""
    found = _product(item)
    if found:
        return f"sentinel-{found[0][1:].lower()}/{found[1]}"
    # as a moment: an item may have a range only, and catalogues write one moment in several ways
    return f"{str(item.get('properties', {}).get('platform', '')).lower()}/{_datetime(item).isoformat()}"


def select_asset(item: Mapping[str, Any], wanted: str, sensor: Sensor) -> str | None:
    """Return the key of the asset that holds a band, or None: by key, by the sensor's table, by the item's own bands.

    Raises `BandError` when the item's bands name several.
    """
    assets = item.get("assets", {})
    band = sensor.band(wanted)
    if band and wanted in assets:
        return wanted
    if band:
        for key in band.assets:
            if key in assets:
                return key
    named = [
        key
        for key, asset in assets.items()
        if wanted
        in {str(n) for b in _bands_of(asset) for n in (b.get("common_name"), b.get("eo:common_name"), b.get("name"))}
        and len(_bands_of(asset)) == 1
    ]
    if len(named) > 1:
        raise BandError(
            f"The band {wanted!r} fits several assets: {', '.join(sorted(named))}.",
            "Expected one.",
            "Use the key of one of them.",
        )
    return named[0] if named else None


def _read_scene(
    item: Mapping[str, Any],
    bands: Sequence[str],
    sensor: Sensor,
    cloud_mask: bool,
    private_hosts: frozenset[str],
    local_files: frozenset[str],
) -> Scene:
    sources = tuple(_source(item, _required(item, band, sensor), sensor, private_hosts, local_files) for band in bands)
    mask = None
    if cloud_mask:
        classes = next((k for k in sensor.mask_assets if k in item.get("assets", {})), None)
        if classes is None:
            raise ItemError(
                f"Item {item.get('id')!r} has no scene classification.",
                f"Expected an asset {' or '.join(sensor.mask_assets)}.",
                f"Try {option('cloud_mask', 'none')}.",
            )
        mask = _source(item, classes, sensor, private_hosts, local_files, mask=True)
    key = pass_key(item)
    return Scene(
        id=str(item["id"]),
        href=_self_href(item),
        datetime=_datetime(item),
        pass_key=key,
        tile=_tile_of(item),
        baseline=_baseline(item),
        bands=sources,
        mask=mask,
        fingerprint=(
            str(item["id"]),
            key,
            *(_fingerprint(s) for s in (*sources, mask) if s is not None),
        ),
        producers=producers(item, sensor),
        sensor=sensor.id,
    )


def _source(
    item: Mapping[str, Any],
    key: str,
    sensor: Sensor,
    private_hosts: frozenset[str],
    local_files: frozenset[str],
    *,
    mask: bool = False,
) -> Source:
    asset = item["assets"][key]
    href = str(asset.get("href", ""))
    version = _version(asset, item.get("properties", {}))
    if href in local_files:
        version = f"{version} {_state_of(href)}".strip()
    else:
        check_href(href, private_hosts=private_hosts)
    crs, transform, shape = _projection(item, key, asset)
    nodata = sensor.mask_nodata if mask else _nodata(asset, sensor)
    offset = 0 if mask else reflectance_offset(item, asset, sensor)
    # a few digits distinguish it as well, and they travel with every block
    digits = hashlib.sha256(version.encode()).hexdigest()[:8]
    return Source(key, href, crs, transform, shape, offset, nodata, digits)


def _projection(item: Mapping[str, Any], key: str, asset: Mapping[str, Any]) -> tuple[str, Transform, tuple[int, int]]:
    properties = item.get("properties", {})

    def either(name: str) -> Any:
        return asset[name] if asset.get(name) is not None else properties.get(name)

    def refuse(lacks: str) -> ItemError:
        return ItemError(
            f"The asset {key!r} of item {item.get('id')!r} {lacks}.",
            "Expected proj:code (or proj:epsg), proj:shape and proj:transform.",
            _try_another(),
        )

    code, epsg, wkt = either("proj:code"), either("proj:epsg"), either("proj:wkt2")
    crs = str(code) if code else f"EPSG:{epsg}" if epsg else str(wkt) if wkt else ""
    shape, transform = either("proj:shape"), either("proj:transform")
    if not crs:
        raise refuse("has no projection")
    if not shape or not transform:
        raise refuse("has no shape or no transform")
    try:
        height, width = (int(n) for n in shape)
        a, b, c, d, e, f = (float(n) for n in transform[:6])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise refuse("has a malformed grid") from None
    if not all(map(math.isfinite, (a, b, c, d, e, f))):
        raise refuse("has a malformed grid")
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX and a * e - b * d != 0):
        raise refuse(f"has an impossible grid of {height} × {width} pixels")
    try:
        transformer(crs, "EPSG:4326")
        if not _is_horizontal(crs):
            raise ValueError(crs)
    except Exception as exc:  # pyproj's own errors share no public base
        raise refuse(f"has the unknown projection {crs[:60]!r}") from exc
    return crs, (a, b, c, d, e, f), (height, width)


@lru_cache(256)
def _is_horizontal(crs: str) -> bool:
    found = CRS.from_user_input(crs)
    return bool(found.is_projected or found.is_geographic)


def _check_bands(items: Sequence[Mapping[str, Any]], bands: Sequence[str], sensor: Sensor) -> None:
    """Raise `BandError` for a band that no item has: then the name is wrong, not an item."""
    if not items:
        return
    same = [select_asset(items[0], band, sensor) for band in bands]
    for band, key in zip(bands, same, strict=True):
        if key is not None and same.count(key) > 1:
            raise BandError(f"The band {band!r} was given under several names.", "Expected each band once.")
        if not any(select_asset(item, band, sensor) for item in items):
            assets = items[0].get("assets", {})
            offered = [b.common_name for b in sensor.bands if any(k in assets for k in b.assets)]
            raise BandError(
                f"No item has reflectance in a band {band!r}.",
                f"Expected {', '.join(offered) or ', '.join(sorted(assets))}, or an asset key.",
            )


def _required(item: Mapping[str, Any], band: str, sensor: Sensor) -> str:
    key = select_asset(item, band, sensor)
    if key is None:
        raise ItemError(
            f"Item {item.get('id')!r} has no asset for the band {band!r}.",
            f"It has {', '.join(sorted(item.get('assets', {})))}.",
            f"Try other {option('bands')}, or dates.",
        )
    return key


def _try_another() -> str:
    return "Try another collection or catalogue."


def _bands_of(asset: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    found = asset.get("eo:bands") or asset.get("bands") or []
    return [b for b in found if isinstance(b, Mapping)]


def _declared(asset: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return an asset's declared scale and offset; None where it declares none."""
    places: list[Mapping[str, Any]] = [asset]
    for name in ("raster:bands", "bands"):
        places += [b for b in asset.get(name) or [] if isinstance(b, Mapping)][:1]
    scale = offset = None
    for place in places:
        for name in ("raster:scale", "scale"):
            scale = place[name] if place.get(name) is not None else scale
        for name in ("raster:offset", "offset"):
            offset = place[name] if place.get(name) is not None else offset
    return scale, offset


def _short(value: object) -> str:
    """Return a value from a catalogue in a form for messages."""
    number = finite_number(value)
    if number is not None:
        return f"{number:g}"
    try:
        text = repr(value)
    except ValueError:  # Python writes no integers of thousands of digits
        return "with too many digits to show"
    return text if len(text) <= 40 else text[:39] + "…"


def _nodata(asset: Mapping[str, Any], sensor: Sensor) -> int:
    for place in (asset, *(asset.get("raster:bands") or [])[:1], *(asset.get("bands") or [])[:1]):
        value = finite_number(place.get("nodata"))
        if value is not None and 0 <= value <= 65535 and value.is_integer():
            return int(value)
    return sensor.nodata


def _product(item: Mapping[str, Any]) -> tuple[str, str, str, str, str] | None:
    """Return (platform, datatake start, baseline major, minor, tile) from the first name of the item that has them."""
    properties = item.get("properties", {})
    datatake = _DATATAKE.match(str(properties.get("s2:datatake_id", "")))
    for name in (properties.get("s2:product_uri"), properties.get("sentinel:product_id"), item.get("id")):
        product = _PRODUCT.match(f"{name}_")
        if product:
            platform, start, major, minor, tile = product.groups()
            if datatake:
                platform, start = datatake[1], datatake[2]
            return platform, start, major, minor, tile
    return (datatake[1], datatake[2], datatake[3], datatake[4], "") if datatake else None


def _baseline(item: Mapping[str, Any]) -> tuple[int, int]:
    return _told_baseline(item) or (0, 0)


def _told_baseline(item: Mapping[str, Any]) -> tuple[int, int] | None:
    """Return the processing baseline from its property, or a name; None where neither can be parsed."""
    told = _BASELINE.fullmatch(str(item.get("properties", {}).get("s2:processing_baseline", "")))
    if told:
        # where a catalogue made a number of it, 05.10 has become 5.1
        return int(told[1]), int(told[2].ljust(2, "0"))
    found = _product(item)
    return (int(found[2]), int(found[3])) if found else None


def _tile(item: Mapping[str, Any]) -> str:
    properties = item.get("properties", {})
    if properties.get("s2:mgrs_tile"):
        return str(properties["s2:mgrs_tile"])
    code = str(properties.get("grid:code", ""))
    return code.removeprefix("MGRS-").rjust(5, "0") if code.startswith("MGRS-") else ""


def _tile_of(item: Mapping[str, Any]) -> str:
    """Return the MGRS tile from a property or the product's name, or an empty text."""
    found = _product(item)
    return _tile(item) or (found[4] if found else "")


def _datetime(item: Mapping[str, Any]) -> datetime:
    text = item.get("properties", {}).get("datetime") or item.get("properties", {}).get("start_datetime")
    try:
        parsed = datetime.fromisoformat(str(text))
        return parsed.astimezone(UTC) if parsed.tzinfo else parsed.replace(tzinfo=UTC)
    except (OverflowError, ValueError):  # in UTC, a time of year 1 or 9999 may be of no year
        raise ItemError(
            f"Item {item.get('id')!r} has the datetime {text!r}.", "Expected a time as in RFC 3339."
        ) from None


def _self_href(item: Mapping[str, Any]) -> str:
    for link in item.get("links", []):
        if link.get("rel") == "self" and str(link.get("href", "")).startswith(("http://", "https://")):
            return redact(str(link["href"]))
    return str(item["id"])


def _version(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    found = asset.get("file:checksum") or properties.get("updated") or properties.get("s2:generation_time") or ""
    return str(found)


def _state_of(path: str) -> str:
    """Return size and time of a local file: nobody updates an item when its file is made anew."""
    try:
        found = Path(path).stat()
    except OSError:
        return ""  # the reader reports it
    return f"{found.st_size}-{found.st_mtime_ns}"


def _fingerprint(source: Source) -> str:
    read = (source.crs, *source.transform, *source.shape, source.offset, source.nodata)
    # the query may select the file; hashed, because it may also contain secrets
    href = hashlib.sha256(unsigned(source.href).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{href} {source.version} {' '.join(map(str, read))}"
