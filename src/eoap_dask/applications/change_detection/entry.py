"""What is known of ``change-detection`` without importing it."""

from __future__ import annotations

from eoap_dask.applications.change_detection.parameters import ChangeParams
from eoap_dask.applications.entry import ON_PLATFORMS, Entry, Example, Package

CHANGE_DETECTION = Entry(
    name="change-detection",
    module="eoap_dask.applications.change_detection.application",
    function="change_detection",
    params=ChangeParams,
    title="Change from year to year",
    summary="Makes a cloud-free Sentinel-2 image of each grid cell for the same month of several years, and finds what "
    "changed from year to year: scores, masks and hectares, with a STAC catalog.",
    help="""Find what changed from year to year, cell by cell.

    Makes a cloud-free image of each cell of a grid for the same month of several years, and compares each year with
    the one before: by robust change vector analysis (CVA), by iteratively reweighted multivariate alteration
    detection (IR-MAD), or by the BTC network with published weights. Writes scores, masks (also as PNG with a world
    file) and hectares, with a STAC catalog. Adding a year makes that year and its changes only. Prints the path of the
    catalog.
    """,
    examples=(
        Example(
            "Some cells of a grid, three Augusts",
            (
                "change-detection --grid cells.gpkg --grid-id-column id --grid-ids 463-468 --years 2022-2024 "
                "--month 8 --output-dir changes",
            ),
        ),
        Example(
            "By a network, with weights from the hub or a file (pip install 'eoap-dask[btc]')",
            ("change-detection --grid cells.gpkg --method btc --weights model.safetensors --threshold 0.5",),
        ),
        Example(
            "Square cells over an area: what would be done",
            ("change-detection --aoi 14.4,46.0,14.6,46.1 --cell-size 5120 --years 2023,2024 --dry-run",),
        ),
    ),
    page="docs/change-detection.md",
    output_dir="changes",
    environment="eoap_dask.applications.change_detection.environment",
    flags={"--status": "status", "--retry-failed": "retry", "--run-once": "run"},
    package=Package(
        id="yearly-changes",
        file="change-detection",
        step="compare",
        image="btc",
        keywords=("Sentinel-2", "change detection", "CVA", "IR-MAD", "STAC", "COG", "Dask"),
        docs={
            **ON_PLATFORMS,
            "grid": "Vector file of polygons that are the cells, in any CRS and format of GDAL.",
            "bands": "Band of the images, by common name or asset key, all of which are compared; btc compares red, "
            "green and blue of them. Where an item lacks nir08, all take nir. Empty: red, green, blue with btc, else "
            "blue, green, red, nir08, swir16, swir22.",
            "weights": "Weights of the network for btc: a file of safetensors, or a checkpoint of Lightning. Without "
            "one, those of blaz-r/BTC-B_oscd96 are fetched from the hub.",
            "grid-ids": "Which cells: ids, and ranges of whole numbers, with commas between them, such as 463-468,471. "
            "Empty: all.",
            "aoi": "Area that square cells are laid over where there is no grid: west, south, east and north in "
            "degrees, with commas between them; or GeoJSON or WKT, as text.",
        },
    ),
)
