"""What is known of ``cloudless-mosaic`` without importing it."""

from __future__ import annotations

from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.applications.entry import ON_PLATFORMS, Entry, Example, Package, Scatter

MOSAIC = Entry(
    name="cloudless-mosaic",
    module="eoap_dask.applications.cloudless_mosaic.application",
    function="cloudless_mosaic",
    params=MosaicParams,
    title="Cloud-free Sentinel-2 mosaics",
    summary="Searches a STAC API for Sentinel-2 scenes, drops clouds and their shadows pixel by pixel, and writes one "
    "mosaic of surface reflectance per month, or other period, as a Cloud-Optimized GeoTIFF, with a STAC catalog.",
    help="""Make cloud-free Sentinel-2 mosaics, one per month or other period, as COGs with a STAC catalog.

    Searches a STAC API, drops clouds and their shadows pixel by pixel, takes the median (or another composite) of what
    is left, and writes it as surface reflectance × 10000 (uint16, 0 = nodata), with the number of clear observations
    and a picture. Prints the path of the catalog.
    """,
    examples=(
        Example("What would be done for three months near Seattle (the defaults)", ("cloudless-mosaic --dry-run",)),
        Example(
            "True colour at 60 m over a shape, into its own directory",
            (
                "cloudless-mosaic --aoi area.geojson --bands red --bands green --bands blue --resolution 60 "
                "--output-dir mosaic",
            ),
        ),
        Example(
            "Another resolution without searching again",
            (
                "cloudless-mosaic --items mosaic/items.json --aoi area.geojson --bands red --resolution 200 "
                "--output-dir again",
            ),
        ),
    ),
    page="README.md",
    output_dir="monthly-mosaic",
    package=Package(
        id="monthly-composite",
        step="mosaic",
        keywords=("Sentinel-2", "mosaic", "composite", "cloud-free", "surface reflectance", "STAC", "COG", "Dask"),
        docs={
            **ON_PLATFORMS,
            "aoi": "West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text.",
        },
        scatter=Scatter("aoi", "areas", "Areas of interest"),
    ),
)
