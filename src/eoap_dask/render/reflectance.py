"""Bands of surface reflectance, as images of all applications have them."""

from __future__ import annotations

from collections.abc import Sequence

from eoap_dask.render.images import BandSpec
from eoap_dask.scenes.sensor import Sensor


def reflectance_band(name: str, sensor: Sensor) -> BandSpec:
    """Return what a band of stored reflectance is, by its common name or another of its names."""
    known = sensor.band(name)
    return BandSpec(
        name,
        f"Surface reflectance, {known.name}" if known else "Surface reflectance",
        common_name=known.common_name if known else None,
        unit="1",
        unit_title="reflectance",
        scale=1 / sensor.quantification,
        offset=0,
    )


def shown_bands(bands: Sequence[str], sensor: Sensor) -> tuple[tuple[int, ...], str]:
    """Return which bands the picture shows, and how its title says so."""
    common = [found.common_name if (found := sensor.band(b)) else b for b in bands]
    if {"red", "green", "blue"} <= set(common):
        return tuple(common.index(c) for c in ("red", "green", "blue")), "True colour"
    if len(bands) < 3:
        return (0,), f"{bands[0]} in grey"
    return (0, 1, 2), f"False colour: {bands[0]}, {bands[1]}, {bands[2]} as red, green, blue"
