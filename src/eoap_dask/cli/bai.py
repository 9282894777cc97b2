"""``bai``."""

from __future__ import annotations

from pathlib import Path

from eoap_dask.applications.registry import BAI
from eoap_dask.cli.application import application_command

EXAMPLES = """\b
Examples:
  # What burned between two scenes, where both are
  ITEMS=https://earth-search.aws.element84.com/v0/collections/sentinel-s2-l2a-cogs/items
  bai --pre-fire-url $ITEMS/S2B_10TFK_20210713_0_L2A --post-fire-url $ITEMS/S2A_10TFK_20210718_0_L2A
\b
  # The clearest scenes of the 20 days before and after, over an area: what would be done
  bai --aoi area.geojson --pre-date 2021-07-13 --post-date 2021-08-12 --dry-run
"""


@application_command(BAI.name, "bai", BAI.params, Path(BAI.output_dir), EXAMPLES)
def command() -> None:
    """Map what burned between two Sentinel-2 scenes, how badly, and how much of it.

    Takes two STAC items, or searches for the clearest pass before and after a fire. Writes the Burned Area Index
    (BAI), NBR, dNBR, RdNBR and RBR, classes of burn severity (Key & Benson), perimeters as GeoParquet and GeoJSON,
    hectares per class as CSV, and pictures, with a STAC catalog. What either scene doesn't see (cloud, shadow,
    water, snow) is nodata. Prints the path of the catalog.
    """
