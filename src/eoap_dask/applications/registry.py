"""The applications by name: what the command line, CWL and documentation share. Importing it is cheap."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from eoap_dask.applications.parameters import BurnedAreaParams, MosaicParams


@dataclass(frozen=True)
class Scatter:
    """One product for each value of a parameter, each on a cluster of its own."""

    over: str
    """The option, without its dashes."""
    id: str
    """Id of the workflow's input that takes the values."""
    label: str


@dataclass(frozen=True)
class Package:
    """How an application is wrapped for platforms that run CWL."""

    id: str
    """Id of the workflow: not the command's name, which is the tool's."""
    step: str
    """Id of its one step; clusters name pods after it."""
    keywords: tuple[str, ...]
    file: str = ""
    """Stem of its file, where that isn't `id`."""
    worker_cores: int = 2
    worker_memory: str = "4G"
    cluster_max_cores: int = 8
    cluster_max_memory: str = "16G"
    ram_min_mib: int = 1024
    """Memory of the tool itself, which holds only pixels on their way to a file."""
    ram_max_mib: int = 4096
    docs: Mapping[str, str] = field(default_factory=dict)
    """Text for inputs whose help on the command line isn't true on a platform, by id."""
    scatter: Scatter | None = None
    """If given, a second file has a workflow that takes an array."""


@dataclass(frozen=True)
class Entry:
    """An application's name, parameters and package: all that is known without importing it."""

    name: str
    """Name of its command."""
    params: type
    """The dataclass that decides its product."""
    title: str
    summary: str
    """One or two sentences."""
    output_dir: str
    """The directory that it makes unless told otherwise."""
    package: Package


_ON_PLATFORMS = {
    "stac": "URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.",
    "items": "File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson "
    "or stac-geoparquet.",
}
"""Inputs that differ there: one file is staged in, and paths mean nothing."""

MOSAIC = Entry(
    name="cloudless-mosaic",
    params=MosaicParams,
    title="Cloud-free Sentinel-2 mosaics",
    summary="Searches a STAC API for Sentinel-2 scenes, drops clouds and their shadows pixel by pixel, and writes one "
    "mosaic of surface reflectance per month as a Cloud-Optimized GeoTIFF, with a STAC catalog.",
    output_dir="monthly-mosaic",
    package=Package(
        id="monthly-composite",
        step="mosaic",
        keywords=("Sentinel-2", "mosaic", "composite", "cloud-free", "surface reflectance", "STAC", "COG", "Dask"),
        docs={
            **_ON_PLATFORMS,
            "aoi": "West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text.",
        },
        scatter=Scatter("aoi", "areas", "Areas of interest"),
    ),
)

BAI = Entry(
    name="bai",
    params=BurnedAreaParams,
    title="Burned area from Sentinel-2",
    summary="Compares two Sentinel-2 scenes, one before and one after a fire, and writes burn indices, classes of burn "
    "severity, perimeters and hectares, with a STAC catalog.",
    output_dir="burned-area",
    package=Package(
        id="burned-area",
        file="bai",
        step="compare",
        keywords=("Sentinel-2", "burned area", "burn severity", "BAI", "dNBR", "wildfire", "STAC", "COG", "Dask"),
        docs={
            **_ON_PLATFORMS,
            "window-days": "How many days up to pre-date, and from post-date on, are searched for the clearest pass.",
            "aoi": "West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text. "
            "Empty: what both items show, or for a search a small area in California.",
            "pre-fire-url": "URL of the STAC item of a scene before the fire; empty: pre-date and a search.",
            "post-fire-url": "URL of the STAC item of a scene after the fire; empty: post-date and a search.",
        },
    ),
)

APPLICATIONS: dict[str, Entry] = {one.name: one for one in (MOSAIC, BAI)}
"""Every application, by the name of its command."""
