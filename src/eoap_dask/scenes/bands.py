"""Which asset of an item holds a band, and which of the file's bands it is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from eoap_dask.errors import BandError, ItemError
from eoap_dask.scenes.sensor import Sensor, SensorBand
from eoap_dask.text import nearest, option, plural


class BandPlace(NamedTuple):
    """Where a band is."""

    asset: str
    """Key of the asset."""
    number: int | None
    """Of the band in the file, counted from 1; None where the asset declares others than the wanted one."""


def find_band(item: Mapping[str, Any], wanted: str, sensor: Sensor) -> BandPlace | None:
    """Return where a band is, or None: by key, by the sensor's table, by the item's own bands.

    Raises `BandError` when the item's bands name several assets.
    """
    assets = item.get("assets", {})
    band = sensor.band(wanted)
    if band is not None:
        for key in (wanted, *band.assets):
            if key in assets:
                return BandPlace(key, _number(assets[key], wanted, band, sensor))
    if wanted in assets and any(sensor.band(name) for name in _only(assets[wanted])):
        return BandPlace(wanted, 1)
    names = {wanted} if band is None else {wanted, band.name, band.common_name}
    found = [key for key, asset in assets.items() if names & _only(asset)]
    if len(found) > 1:
        raise BandError(
            f"The band {wanted!r} fits several assets: {', '.join(sorted(found))}.",
            "Expected one.",
            "Use the key of one of them.",
        )
    return BandPlace(found[0], 1) if found else None


def select_asset(item: Mapping[str, Any], wanted: str, sensor: Sensor) -> str | None:
    """Return the key of the asset that holds a band, or None, as `find_band`."""
    found = find_band(item, wanted, sensor)
    return None if found is None else found.asset


def required_band(item: Mapping[str, Any], wanted: str, sensor: Sensor) -> tuple[str, int]:
    """Return asset and number of a band, or raise `ItemError`."""
    found = find_band(item, wanted, sensor)
    if found is None:
        raise ItemError(
            f"Item {item.get('id')!r} has no asset for the band {wanted!r}.",
            f"It has {', '.join(sorted(item.get('assets', {})))}.",
            f"Try other {option('bands')}, or dates.",
        )
    if found.number is None:
        bands = _declared(item["assets"][found.asset])
        names = ", ".join(sorted({name for one in bands for name in one})) or "no names"
        raise ItemError(
            f"The asset {found.asset!r} of item {item.get('id')!r} declares {plural(len(bands), 'band')} ({names}).",
            f"Expected one that is {wanted!r}.",
            f"Try other {option('bands')}, or another collection.",
        )
    return found.asset, found.number


def is_only_band(asset: Mapping[str, Any]) -> bool:
    """Tell whether an asset declares one band at most."""
    return len(_declared(asset)) <= 1


def check_bands(items: Sequence[Mapping[str, Any]], bands: Sequence[str], sensor: Sensor) -> None:
    """Raise `BandError` for a band that no item has: then the name is wrong, not an item."""
    if not items:
        return
    same = [_has_band(items[0], band, sensor) for band in bands]
    for band, place in zip(bands, same, strict=True):
        if isinstance(place, BandPlace) and same.count(place) > 1:
            raise BandError(f"The band {band!r} was given under several names.", "Expected each band once.")
        if not any(_has_band(item, band, sensor) for item in items):
            raise _no_band(items[0].get("assets", {}), band, sensor)


def _has_band(item: Mapping[str, Any], band: str, sensor: Sensor) -> BandPlace | bool:
    """Return where a band is, True where it fits several assets, False where it is nowhere."""
    try:
        return find_band(item, band, sensor) or False
    except BandError:
        return True


def _no_band(assets: Mapping[str, Any], wanted: str, sensor: Sensor) -> BandError:
    """Return the fault of a band that no item has, with what there is, and what may have been meant."""
    offered = [b for b in sensor.bands if any(k in assets for k in b.assets)]
    names = [name for b in offered for name in (b.name, b.common_name, *(k for k in b.assets if k in assets))]
    # a band that the sensor has isn't misspelled: the items lack it
    near = nearest(wanted, names or sorted(assets)) if sensor.band(wanted) is None else None
    listed = [f"{b.common_name} ({b.name})" for b in offered] or sorted(assets)
    return BandError(
        f"No item has reflectance in a band {wanted!r}.",
        f"Expected {', '.join(listed)}, or an asset key.",
        f"Perhaps {near!r} is meant." if near else "",
    )


def _number(asset: Mapping[str, Any], wanted: str, band: SensorBand, sensor: Sensor) -> int | None:
    """Return the number of a band in an asset that has its key."""
    declared = _declared(asset)
    if len(declared) > 1:
        own = {wanted, band.name, band.common_name, *band.assets}
        fitting = [number for number, names in enumerate(declared, 1) if names & own]
        return fitting[0] if len(fitting) == 1 else None
    # common names are shared by bands, as rededge is, and written by hand
    named = [known for one in _entries(asset, "bands", 0) if (known := sensor.band(str(one.get("name"))))]
    return None if named and band not in named else 1


def _only(asset: Mapping[str, Any]) -> set[str]:
    """Return the names of an asset's only band; none where it declares several."""
    declared = _declared(asset)
    return declared[0] if len(declared) == 1 else set()


def _declared(asset: Mapping[str, Any]) -> list[set[str]]:
    """Return the names of each band that an asset declares, in the order of the file."""
    count = max(len(asset.get(name) or ()) for name in ("bands", "eo:bands", "raster:bands"))
    spelled = ("name", "common_name", "eo:common_name")
    return [
        {str(one[name]) for one in _entries(asset, "bands", number) for name in spelled if one.get(name)}
        for number in range(count)
    ]


def _entries(asset: Mapping[str, Any], kind: str, number: int) -> list[Mapping[str, Any]]:
    """Return what an asset's lists of a kind (``bands``) say of a band, counted from 0."""
    lists = [asset.get(name) or [] for name in (f"eo:{kind}", kind)]
    return [found[number] for found in lists if number < len(found) and isinstance(found[number], Mapping)]


def split_names(bands: tuple[str, ...]) -> tuple[str, ...]:
    """Return bands one by one, also where several are in one text, as in an environment variable."""
    return tuple(name for text in bands for name in text.replace(",", " ").split())
