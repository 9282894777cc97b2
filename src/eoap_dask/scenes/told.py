"""What an item tells of its product, however it is spelled: processing baseline, datatake, orbit, tile, times."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any, NamedTuple

from eoap_dask.errors import ItemError
from eoap_dask.items.item import instant, parse_time

Told = Mapping[str, Any]
"""An item."""

_PRODUCT = re.compile(r"(S2[A-Z])_MSIL\d[A-Z]_(\d{8}T\d{6})_N(\d{2})(\d{2})_R\d{3}_T(\d{2}[A-Z]{3})_")
_DATATAKE = re.compile(r"G(S2[A-Z])_(\d{8}T\d{6})_(\d+)_N(\d{2})\.(\d{2})")
_GRANULE = re.compile(r"S2[A-Z]_OPER_MSI_L2A_TL_\w+?_A(\d{6})_T(\d{2}[A-Z]{3})_N(\d{2})\.(\d{2})")
_BASELINE = re.compile(r"N?(\d{1,2})\.(\d{1,2})(?:\.\d+)*|N?(\d{2})(\d{2})", re.ASCII)
# of software too: a processor 2.11 isn't the baseline 02.11
_VERSION = re.compile(r"(\d{2})\.(\d{2})", re.ASCII)
_PLATFORM = re.compile(r"s(?:entinel)?[-_ ]?(2[a-z])", re.IGNORECASE | re.ASCII)
_SHORT = re.compile(r"(S2[A-Z])_")
_TILE = re.compile(r"T?(\d{1,2}[A-Z]{3})")
_TOOLBOX = 99  # of the baseline 99.99, by which ESA's toolboxes name what users made


class Datatake(NamedTuple):
    """What is known of the datatake that an item is part of."""

    platform: str
    """Such as ``sentinel-2a``; may be empty."""
    start: str | None
    """As in the names of products: ``20210713T190919``."""
    orbit: int | None
    """Absolute orbit, the third part of a datatake's id."""


def told(item: Told, name: str) -> Iterator[Any]:
    """Yield what the item's properties say under a name with any prefix, ``s2:`` first; without nulls and blanks."""
    properties = item.get("properties", {})
    keys = [key for key in properties if key.rpartition(":")[2] == name]
    for key in sorted(keys, key=lambda key: (not key.startswith("s2:"), key)):
        if properties[key] not in (None, ""):
            yield properties[key]


def baseline(item: Told) -> tuple[int, int] | None:
    """Return the processing baseline; None where nothing tells it, also for products of a toolbox."""
    found = list(_baselines(item))
    # whatever else such a product tells is of what it was made from
    return None if not found or is_of_toolbox(item) else found[0]


def is_of_toolbox(item: Told) -> bool:
    """Tell whether the product was made with a toolbox, whose baseline says nothing of its numbers."""
    shown = (str(value).strip().removeprefix("N") for value in told(item, "processing_baseline"))
    return str(_TOOLBOX) in shown or any(major == _TOOLBOX for major, _ in _baselines(item))


def _baselines(item: Told) -> Iterator[tuple[int, int]]:
    """Yield all baselines that can be read, the most trusted first."""
    for value in told(item, "processing_baseline"):
        found = _BASELINE.fullmatch(str(value).strip())
        if found:
            # where a catalogue made a number of it, 05.10 has become 5.1
            yield int(found[1] or found[3]), int((found[2] or found[4]).ljust(2, "0"))
    version = _VERSION.fullmatch(str(item.get("properties", {}).get("processing:version")))
    if version:
        yield int(version[1]), int(version[2])
    yield from _of_products(item)
    for pattern, names in ((_DATATAKE, ("datatake_id",)), (_GRANULE, _GRANULES)):
        for name in _matches(item, pattern, names):
            yield int(name[name.re.groups - 1]), int(name[name.re.groups])


def _of_products(item: Told) -> Iterator[tuple[int, int]]:
    """Yield the baselines in the names of products, of surface reflectance alone: L1C has its own."""
    for product in _products(item):
        if "_MSIL2A_" in product[0]:
            yield int(product[3]), int(product[4])


_GRANULES = ("granule_id", "tile_id")


def _matches(item: Told, pattern: re.Pattern[str], names: Sequence[str]) -> Iterator[re.Match[str]]:
    for name in names:
        for value in told(item, name):
            if found := pattern.match(str(value)):
                yield found


def _products(item: Told) -> Iterator[re.Match[str]]:
    """Yield the names of the product that the item has."""
    names = [value for name in ("product_uri", "product_id", "title") for value in told(item, name)]
    for name in (*names, item.get("id")):
        if found := _PRODUCT.match(f"{name}_"):
            yield found


def processed_at(item: Told) -> datetime | None:
    """Return when the product was made, or something from it: at the latest then it was there. None if untold."""
    moments = []
    for value in (*told(item, "generation_time"), item.get("properties", {}).get("processing:datetime")):
        try:
            moments.append(parse_time(value))
        except ValueError:
            continue
    return min(moments, default=None)


def datatake(item: Told) -> Datatake:
    """Return what the item tells of its datatake."""
    platform = next((str(value) for value in told(item, "platform")), "").lower()
    start = orbit = None
    if name := next(_matches(item, _DATATAKE, ("datatake_id",)), None):
        platform, start, orbit = name[1], name[2], int(name[3])
    elif product := next(_products(item), None):
        platform, start = product[1], product[2]
    if orbit is None:
        orbit = next((n for value in told(item, "absolute_orbit") if (n := _whole(value)) is not None), None)
    if orbit is None and (granule := next(_matches(item, _GRANULE, _GRANULES), None)):
        orbit = int(granule[1])
    if not platform and (own := _SHORT.match(str(item.get("id")))):
        platform = own[1]
    known = _PLATFORM.fullmatch(platform)
    return Datatake(f"sentinel-{known[1].lower()}" if known else platform, start, orbit)


def _whole(value: object) -> int | None:
    text = str(value).removesuffix(".0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def pass_keys(items: Sequence[Told]) -> list[str]:
    """Return for each item platform and start of its datatake, as all of them together tell it.

    An item that tells only its absolute orbit is of the datatake with that orbit in its id, of several the last one
    that had begun. Without a start it is the orbit, and without that the item's time; raises `ItemError` where that
    can't be read either.
    """
    known = [datatake(item) for item in items]
    starts: dict[tuple[str, int | None], set[str]] = {}
    for platform, start, orbit in known:
        if start is not None and orbit is not None:
            starts.setdefault((platform, orbit), set()).add(start)
    return [_pass_key(item, one, starts) for item, one in zip(items, known, strict=True)]


def pass_key(item: Told) -> str:
    """Return the key of an item's pass as `pass_keys` does for one alone."""
    return pass_keys([item])[0]


def _pass_key(item: Told, one: Datatake, starts: Mapping[tuple[str, int | None], set[str]]) -> str:
    platform, start, orbit = one
    if start is None and (found := starts.get((platform, orbit))):
        now = f"{time_of(item):%Y%m%dT%H%M%S}"
        start = max((text for text in found if text <= now), default=min(found))
    if start is not None:
        return f"{platform}/{start}"
    if platform and orbit is not None:
        return f"{platform}/{orbit:06d}"
    # as a moment: an item may have a range only, and catalogues write one moment in several ways
    return f"{platform}/{time_of(item).isoformat()}"


def time_of(item: Told) -> datetime:
    """Return the item's time in UTC, or raise `ItemError`."""
    try:
        return instant(item)
    except ValueError:
        properties = item.get("properties", {})
        text = properties.get("datetime") or properties.get("start_datetime")
        raise ItemError(
            f"Item {item.get('id')!r} has the datetime {text!r}.", "Expected a time as in RFC 3339."
        ) from None


def tile_of(item: Told) -> str:
    """Return the MGRS tile, or an empty text."""
    for value in told(item, "mgrs_tile"):
        found = _TILE.fullmatch(str(value))
        return found[1].rjust(5, "0") if found else str(value)
    properties = item.get("properties", {})
    code = str(properties.get("grid:code", ""))
    if code.startswith("MGRS-"):
        return code.removeprefix("MGRS-").rjust(5, "0")
    parts = [next(told(item, name), None) for name in ("utm_zone", "latitude_band", "grid_square")]
    if None not in parts:
        return "".join(map(str, parts)).rjust(5, "0")
    if product := next(_products(item), None):
        return product[5]
    granule = next(_matches(item, _GRANULE, _GRANULES), None)
    return granule[2] if granule else ""
