"""``cloudless-mosaic``."""

from __future__ import annotations

from pathlib import Path

from eoap_dask.applications.registry import MOSAIC
from eoap_dask.cli.application import application_command

EXAMPLES = """\b
Examples:
  # What would be done for three months near Seattle (the defaults)
  cloudless-mosaic --dry-run
\b
  # True colour at 60 m over a shape, into its own directory
  cloudless-mosaic --aoi area.geojson --bands red --bands green --bands blue --resolution 60 --output-dir mosaic
\b
  # Another resolution without searching again
  cloudless-mosaic --items mosaic/items.json --aoi area.geojson --bands red --resolution 200 --output-dir again
"""


@application_command(MOSAIC.name, "cloudless_mosaic", MOSAIC.params, Path(MOSAIC.output_dir), EXAMPLES)
def command() -> None:
    """Make cloud-free Sentinel-2 mosaics, one per month, as Cloud-Optimized GeoTIFFs with a STAC catalog.

    Searches a STAC API, drops clouds and their shadows pixel by pixel, takes the median of what is left, and
    writes it as surface reflectance × 10000 (uint16, 0 = nodata), with the number of clear observations and a
    picture. Prints the path of the catalog.
    """
