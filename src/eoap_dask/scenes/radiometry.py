"""What an asset's numbers mean: offset and missing pixels, wherever the item tells them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from eoap_dask.errors import ItemError
from eoap_dask.items.item import finite_number
from eoap_dask.redact import redact
from eoap_dask.scenes.sensor import Sensor
from eoap_dask.scenes.told import baseline, is_of_toolbox, processed_at, told

MOST_LOWEST_PERCENT = 25.0
"""Clear pixels of a band that may have the lowest value, 1: deep water and shadow do, in some bands."""

TAKEN_TWICE = "an offset of reflectance may have been taken off twice"
"""What more of them may mean."""


def reflectance_offset(item: Mapping[str, Any], asset: Mapping[str, Any], sensor: Sensor, band: int = 1) -> int:
    """Return what to subtract from the numbers of an asset's band so that value / 10000 is reflectance.

    One rule: 0 where the item says that its offset was applied; else what is declared; else 1000 from processing
    baseline 04.00 on, when ESA began to store reflectance × 10000 + 1000, and 0 before it. Raises `ItemError`, also
    where nothing tells the baseline.
    """
    flags = [*told(asset_as_item(asset), "boa_offset_applied"), *told(item, "boa_offset_applied")]
    if any(_is_yes(flag, item) for flag in flags):
        return 0
    scale, offset = _declared(item, asset, band)
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
    own = baseline(asset_as_item(asset))
    return _offset_by_baseline(item, sensor) if own is None else _offset_of(own, sensor)


def _is_yes(flag: object, item: Mapping[str, Any]) -> bool:
    """Tell whether an offset was applied, as a catalogue may spell it; `ItemError` for what is neither yes nor no."""
    word = str(flag).strip().lower().removesuffix(".0")
    if word in ("true", "yes", "1", "applied"):
        return True
    if word in ("false", "no", "0"):
        return False
    raise ItemError(
        f"Item {item.get('id')!r} says {_short(flag)} of whether an offset was applied (boa_offset_applied).",
        "Expected true or false.",
        "Try another collection or catalogue.",
    )


def _offset_of(found: tuple[int, int], sensor: Sensor) -> int:
    major, minor = sensor.offset_baseline.split(".")
    return sensor.offset_dn if found >= (int(major), int(minor)) else 0


def _offset_by_baseline(item: Mapping[str, Any], sensor: Sensor) -> int:
    found = baseline(item)
    if found is not None:
        return _offset_of(found, sensor)
    expected = "Expected a baseline such as '05.09', or raster:offset, which tell whether an offset is subtracted."
    hint = "Try another collection or catalogue."
    if is_of_toolbox(item):
        raise ItemError(
            f"Item {item.get('id')!r} was made with a toolbox (baseline 99.99), and declares no offset.", expected, hint
        )
    unreadable = next(told(item, "processing_baseline"), None)
    if unreadable is not None:
        raise ItemError(
            f"Item {item.get('id')!r} has the processing baseline {unreadable!r:.60}.",
            "Expected one such as '05.09', which decides whether an offset is subtracted.",
            hint,
        )
    made = processed_at(item)
    if made is not None and made < sensor.offset_since:
        return 0
    raise ItemError(f"Item {item.get('id')!r} has no processing baseline, and declares no offset.", expected, hint)


def nodata_value(item: Mapping[str, Any], asset: Mapping[str, Any], band: int = 1) -> int | None:
    """Return the number of missing pixels that an item tells for an asset's band, the nearest to it; None without one.

    What 16 bits can't hold tells nothing.
    """
    properties = item.get("properties", {})
    for place in (*_of_band(asset, band), asset, *_of_band(properties, band, alone=True), properties):
        for name in ("nodata", "raster:nodata"):
            value = _number_or_text(place.get(name))
            if value is not None and 0 <= value <= 65535 and value.is_integer():
                return int(value)
    return None


def _number_or_text(value: object) -> float | None:
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            return None
    return finite_number(value)


def asset_as_item(asset: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return an asset so that `told` finds what it says."""
    return {"properties": asset}


def _declared(item: Mapping[str, Any], asset: Mapping[str, Any], band: int) -> tuple[Any, Any]:
    """Return the declared scale and offset of a band, the nearest to it that are told; None where there is none."""
    properties = item.get("properties", {})
    general = {name: properties.get(name) for name in ("raster:scale", "raster:offset")}
    scale = offset = None
    for place in (general, *_of_band(properties, band, alone=True), asset, *_of_band(asset, band)):
        for name in ("raster:scale", "scale"):
            scale = place[name] if place.get(name) is not None else scale
        for name in ("raster:offset", "offset"):
            offset = place[name] if place.get(name) is not None else offset
    return scale, offset


def _of_band(place: Mapping[str, Any], band: int, *, alone: bool = False) -> Iterator[Mapping[str, Any]]:
    """Yield what lists of bands say of one, counted from 1; with `alone` only lists of one band, which mean all."""
    for name in ("eo:bands", "raster:bands", "bands"):
        found = place.get(name)
        number = 1 if alone else band
        if not isinstance(found, list) or number > len(found) or (alone and len(found) > 1):
            continue
        if isinstance(one := found[number - 1], Mapping):
            yield one


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
