"""The demo: a mosaic of the synthetic archive, from an empty directory to a picture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rasterio
from loguru import logger

from eoap_dask.applications.cloudless_mosaic.application import cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.cluster.guard import guarded_directory
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import OutputError
from eoap_dask.files import write_json
from eoap_dask.items.itemset import ItemSet, cloud_cover
from eoap_dask.kernels.pixels import visual
from eoap_dask.lazy.cube import load, search
from eoap_dask.output.picture import contact_sheet
from eoap_dask.run.events import Listener, ignore
from eoap_dask.run.options import RunOptions
from eoap_dask.run.result import Run
from eoap_dask.text import option

MARKER = "demo.json"
BANDS = ("red", "green", "blue", "nir")
RESOLUTION_M = 20.0


@dataclass(frozen=True)
class Showcase:
    """What the demo made."""

    picture: Path
    """The input's cloudiest scene beside the mosaics."""
    run: Run


def run_demo(
    folder: Path,
    options: RunOptions,
    *,
    resolution: float = RESOLUTION_M,
    listener: Listener = ignore,
    say: Callable[[str], None] = logger.debug,
    **archive: Any,
) -> Showcase:
    """Make an archive, serve it, run ``cloudless-mosaic`` on it and draw the result.

    An earlier demo in `folder` is replaced; anything else there is an `OutputError`.
    """
    options.check()  # before an archive is made for nothing
    _prepare(folder)
    with guarded_directory("eoap-dask-demo-") as scratch:
        say("Making a synthetic Sentinel-2 archive: two tiles in two UTM zones, three months, clouds and all …")
        made = make_archive(scratch / "archive", **archive)
        with DemoServer(made) as server:
            say(f"Serving it as a STAC API at {server.url}")
            params = MosaicParams(
                stac=server.url,
                collection=made.collection,
                bands=BANDS,
                resolution=resolution,
                max_cloud_cover=60.0,
                aoi=",".join(f"{n:.6f}" for n in made.aoi_bbox),
            )
            run = cloudless_mosaic(params, options.replace(output_dir=folder / "mosaic"), listener=listener)
            panels = [_before(params), *(_after(run, item) for item in run.items)]
    picture = contact_sheet(
        folder / "picture.png",
        panels,
        "Cloud-free monthly mosaics",
        f"{len(run.items)} months, {sum(i['properties']['eoap:scenes'] for i in run.items)} scenes of two UTM zones, "
        f"{resolution:g} m, in {run.seconds:.1f} s",
        "Synthetic data in the shape of Sentinel-2 Level-2A.",
    )
    return Showcase(picture, run)


def _prepare(folder: Path) -> None:
    if folder.exists() and not (folder.is_dir() and ((folder / MARKER).is_file() or not any(folder.iterdir()))):
        raise OutputError(
            f"{folder} exists, and isn't an earlier demo.",
            "Expected a directory to be made.",
            f"Try another {option('output_dir')}.",
        )
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_json(folder / MARKER, {"software": "eoap-dask", "demo": True})
        for old in ("mosaic", "mosaic.partial"):
            shutil.rmtree(folder / old, ignore_errors=True)
    except OSError as exc:
        raise OutputError(
            f"{folder} can't be written: {exc.strerror}.", "", f"Try another {option('output_dir')}."
        ) from exc


def _before(params: MosaicParams) -> tuple[str, npt.NDArray[np.uint8]]:
    """Return one pass as it came, about half clouded."""
    found = search(params.aoi, params.start_date, params.end_date, stac=params.stac, collection=params.collection)
    covers = {str(i["properties"]["datetime"]): cloud_cover(i) or 0.0 for i in found.features}
    when = min(covers, key=lambda t: (abs(covers[t] - 45), t))
    only = ItemSet(
        tuple(i for i in found.features if i["properties"]["datetime"] == when),
        found.stac,
        found.collection,
        found.signing,
    )
    cube = load(only, BANDS[:3], aoi=params.aoi, resolution=params.resolution, cloud_mask="none", raw=True)
    pixels = np.stack([cube[band].isel(time=0).to_numpy() for band in BANDS[:3]])
    return f"{when[:10]}, one pass\nas it came, {covers[when]:.0f} % cloud", visual(pixels, (0, 1, 2))


def _after(run: Run, item: dict[str, Any]) -> tuple[str, npt.NDArray[np.uint8]]:
    with rasterio.open(run.output / item["id"] / item["assets"]["visual"]["href"]) as dataset:
        pixels = dataset.read()
    title = str(item["properties"]["title"]).split(", ")[-1]
    return f"{title}\nmedian of {item['properties']['eoap:passes']} passes", pixels
