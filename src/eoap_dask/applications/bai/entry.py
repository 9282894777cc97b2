"""What is known of ``bai`` without importing it."""

from __future__ import annotations

from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.applications.entry import ON_PLATFORMS, Entry, Example, Package

BAI = Entry(
    name="bai",
    module="eoap_dask.applications.bai.application",
    function="burned_area_map",
    params=BurnedAreaParams,
    title="Burned area from Sentinel-2",
    summary="Compares two Sentinel-2 scenes, one before and one after a fire, and writes burn indices, classes of burn "
    "severity, perimeters and hectares, with a STAC catalog.",
    help="""Map what burned between two Sentinel-2 scenes, how badly, and how much of it.

    Takes two STAC items, or searches for the clearest pass before and after a fire. Writes the Burned Area Index
    (BAI), NBR, dNBR, RdNBR and RBR, classes of burn severity (Key & Benson), perimeters as GeoParquet and GeoJSON,
    hectares per class as CSV, and pictures, with a STAC catalog. What either scene doesn't see (cloud, shadow,
    water, snow) is nodata. Prints the path of the catalog.
    """,
    examples=(
        Example(
            "What burned between two scenes, where both are",
            (
                "ITEMS=https://earth-search.aws.element84.com/v0/collections/sentinel-s2-l2a-cogs/items",
                "bai --pre-fire-url $ITEMS/S2B_10TFK_20210713_0_L2A --post-fire-url $ITEMS/S2A_10TFK_20210718_0_L2A",
            ),
        ),
        Example(
            "The clearest scenes of the 20 days before and after, over an area: what would be done",
            ("bai --aoi area.geojson --pre-date 2021-07-13 --post-date 2021-08-12 --dry-run",),
        ),
    ),
    page="docs/burned-area.md",
    output_dir="burned-area",
    package=Package(
        id="burned-area",
        file="bai",
        step="compare",
        keywords=("Sentinel-2", "burned area", "burn severity", "BAI", "dNBR", "wildfire", "STAC", "COG", "Dask"),
        docs={
            **ON_PLATFORMS,
            "window-days": "How many days up to pre-date, and from post-date on, are searched for the clearest pass.",
            "aoi": "West, south, east and north in degrees, with commas between them; or GeoJSON or WKT, as text. "
            "Empty: what both items show, or for a search a small area in California.",
            "pre-fire-url": "URL of the STAC item of a scene before the fire; empty: pre-date and a search.",
            "post-fire-url": "URL of the STAC item of a scene after the fire; empty: post-date and a search.",
        },
    ),
)
