"""Sensors as data: which asset holds a band, how its numbers become reflectance, and who is to be credited."""

from __future__ import annotations

import re
import tomllib
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import resources
from typing import Any

from eoap_dask.errors import CollectionError
from eoap_dask.text import nearest


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
class Provider:
    """Who made the data of a sensor."""

    name: str
    roles: tuple[str, ...]
    """STAC's: producer, licensor…"""
    url: str
    aliases: tuple[str, ...]
    """Words by which items name it."""

    def is_meant(self, name: str) -> bool:
        """Tell whether a name in an item is this provider's."""
        return any(re.search(rf"\b{re.escape(alias)}\b", name, re.IGNORECASE) for alias in self.aliases)


@dataclass(frozen=True)
class Terms:
    """Terms of use of a provider's data."""

    notice: str
    """What a product must say; years follow it."""
    href: str
    media_type: str
    title: str


@dataclass(frozen=True)
class Sensor:
    """What reading, masking and crediting needs to know of some collections."""

    id: str
    name: str
    """For people: ``Sentinel-2``."""
    title: str
    """With the level of processing: ``Sentinel-2 Level-2A``."""
    collections: tuple[str, ...]
    constellation: str
    """As STAC has it."""
    instruments: tuple[str, ...]
    platforms: tuple[str, ...]
    """How names of its platforms and constellation begin in items, in lower case."""
    provider: Provider
    """Who made the data where an item names nobody."""
    terms: Terms
    """Of the provider."""
    quantification: int
    """Stored value of reflectance 1."""
    nodata: int
    """Stored value of a missing pixel, before any offset."""
    offset_baseline: str
    """Processing baseline from which `offset_dn` applies, where an item doesn't declare an offset."""
    offset_since: datetime
    """When that baseline began: what was made before has no offset."""
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

    def flies_on(self, platform: str) -> bool:
        """Tell whether a platform or constellation is one of this sensor's."""
        return platform.lower().startswith(self.platforms)

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


def sensor_of(identifier: str) -> Sensor:
    """Return the sensor with an id, as `Scene.sensor` has it."""
    return {sensor.id: sensor for sensor in sensors()}[identifier]


def sensor_for(collection: str) -> Sensor:
    """Return the sensor of a collection, or raise `CollectionError`."""
    for sensor in sensors():
        if collection in sensor.collections:
            return sensor
    known = [c for s in sensors() for c in s.collections]
    raise CollectionError(
        f"The collection {collection!r} isn't supported.",
        f"Expected one of {', '.join(known)}.",
        f"Try the collection {nearest(collection, known, 0.6) or known[0]}.",
    )


def _parse(table: dict[str, Any]) -> Sensor:
    mask, offset, provider = table["mask"], table["offset"], table["provider"]
    return Sensor(
        id=table["id"],
        name=table["name"],
        title=table["title"],
        collections=tuple(table["collections"]),
        constellation=table["constellation"],
        instruments=tuple(table["instruments"]),
        platforms=tuple(table["platforms"]),
        provider=Provider(
            name=provider["name"],
            roles=tuple(provider["roles"]),
            url=provider["url"],
            aliases=tuple(provider["aliases"]),
        ),
        terms=Terms(**table["terms"]),
        quantification=table["quantification"],
        nodata=table["nodata"],
        offset_baseline=offset["baseline"],
        offset_since=offset["since"],
        offset_dn=offset["dn"],
        bands=tuple(SensorBand(b["name"], b["common_name"], tuple(b["assets"])) for b in table["bands"]),
        mask_assets=tuple(mask["assets"]),
        mask_nodata=mask["nodata"],
        mask_dropped=tuple(mask["dropped"]),
        mask_water=tuple(mask["water"]),
        mask_snow=tuple(mask["snow"]),
    )
