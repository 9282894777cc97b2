"""Sensors as data: for each collection, which asset holds a band and how its numbers become reflectance."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from importlib import resources

from eoap_dask.errors import CollectionError


@dataclass(frozen=True)
class SensorBand:
    """One spectral band."""

    name: str
    """The sensor's own name, such as ``B08``."""
    common_name: str
    """STAC common name, such as ``nir``."""
    assets: tuple[str, ...]
    """Asset keys of this band in the known catalogues, native resolution first."""


@dataclass(frozen=True)
class Sensor:
    """What reading reflectance and masking clouds needs to know of a collection."""

    id: str
    title: str
    collections: tuple[str, ...]
    quantification: int
    """Stored value of reflectance 1."""
    nodata: int
    """Stored value of a missing pixel, before any offset."""
    offset_baseline: str
    """Processing baseline from which `offset_dn` applies, where an item doesn't declare an offset."""
    offset_dn: int
    bands: tuple[SensorBand, ...]
    mask_assets: tuple[str, ...]
    mask_nodata: int
    mask_dropped: tuple[int, ...]
    """Classes of the scene classification that are not a clear view of the ground."""
    mask_water: tuple[int, ...]
    """Classes of water."""
    mask_snow: tuple[int, ...]
    """Classes of snow and ice."""

    @property
    def not_land(self) -> tuple[int, ...]:
        """Classes other than a clear view of land: dropped ones, water, snow."""
        return tuple(sorted({*self.mask_dropped, *self.mask_water, *self.mask_snow}))

    def band(self, wanted: str) -> SensorBand | None:
        """Return the band with this common name, own name or asset key, or None."""
        for band in self.bands:
            if wanted in (band.common_name, band.name, *band.assets):
                return band
        return None


@cache
def sensors() -> tuple[Sensor, ...]:
    """Return all sensors of the package."""
    found = []
    for file in sorted(resources.files("eoap_dask.scenes").joinpath("sensors").iterdir(), key=lambda f: f.name):
        if file.name.endswith(".toml"):
            found.append(_parse(tomllib.loads(file.read_text("utf-8"))))
    return tuple(found)


def sensor_for(collection: str) -> Sensor:
    """Return the sensor of a collection, or raise `CollectionError`."""
    for sensor in sensors():
        if collection in sensor.collections:
            return sensor
    known = ", ".join(c for s in sensors() for c in s.collections)
    raise CollectionError(
        f"The collection {collection!r} isn't supported.",
        f"Expected one of {known}.",
        "Try the collection sentinel-2-l2a.",
    )


def _parse(table: dict) -> Sensor:  # type: ignore[type-arg]
    mask, offset = table["mask"], table["offset"]
    return Sensor(
        id=table["id"],
        title=table["title"],
        collections=tuple(table["collections"]),
        quantification=table["quantification"],
        nodata=table["nodata"],
        offset_baseline=offset["baseline"],
        offset_dn=offset["dn"],
        bands=tuple(SensorBand(b["name"], b["common_name"], tuple(b["assets"])) for b in table["bands"]),
        mask_assets=tuple(mask["assets"]),
        mask_nodata=mask["nodata"],
        mask_dropped=tuple(mask["dropped"]),
        mask_water=tuple(mask["water"]),
        mask_snow=tuple(mask["snow"]),
    )
