"""``cloudless-mosaic``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from eoap_dask.applications.parameters import MosaicParams
from eoap_dask.cli.options import declared_options, picked, result_options, verbosity_options
from eoap_dask.params import RunOptions

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
\b
Every option has an environment variable: EOAP_DASK_ and its name, such as EOAP_DASK_MAX_CLOUD_COVER.
Exit codes: 0 complete, 1 a bug, 2 usage, 3 nothing found, 4 search or signing failed, 5 cluster,
6 a unit failed, 130/143 stopped.
"""


@click.command(
    "cloudless-mosaic",
    epilog=EXAMPLES,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
)
@declared_options(MosaicParams)
@declared_options(RunOptions, output_dir=Path("monthly-mosaic"))
@result_options
@verbosity_options
def command(dry_run: bool, as_json: bool, verbose: int, quiet: bool, **values: Any) -> None:
    """Make cloud-free Sentinel-2 mosaics, one per month, as Cloud-Optimized GeoTIFFs with a STAC catalog.

    Searches a STAC API, drops clouds and their shadows pixel by pixel, takes the median of what is left, and
    writes it as surface reflectance × 10000 (uint16, 0 = nodata), with the number of clear observations and a
    picture. Prints the path of the catalog.
    """
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.applications import cloudless_mosaic as application
    from eoap_dask.cli.progress import Progress

    params, options = picked(MosaicParams, values), picked(RunOptions, values)
    if dry_run:
        plan = application.dry_run(params, options)
        click.echo(json.dumps(plan.to_dict(), indent=2) if as_json else str(plan))
        return
    with Progress(quiet=quiet) as progress:
        run = application.cloudless_mosaic(params, options, listener=progress)
    click.echo(json.dumps(run.to_dict(), indent=2) if as_json else str(run.catalog))
