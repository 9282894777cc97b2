"""An application of tests, which leans on every seam that the real ones don't need yet.

Three cells in three UTM zones with sparse chips, one without, two means, and a change that needs both: with a halo, a
statistic in three passes, and a table that every worker is set up with. A stream adds a cell that depends on the
change. Workers import this module.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import rasterio
from affine import Affine
from distributed import Client
from odc.geo.geobox import GeoBox

from eoap_dask import Hooks, Run, RunOptions
from eoap_dask.geo.window import Window
from eoap_dask.kernels.composites import median
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.publish.per_unit import UnitPublication
from eoap_dask.publish.publication import Publication
from eoap_dask.readers.tiles import TileReader
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.render.needed import UnitStack
from eoap_dask.render.recipe import Cutout, Recipe
from eoap_dask.render.resources import Resource
from eoap_dask.render.science import Image, Science, Strip
from eoap_dask.render.stack import Stack
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.produce import Production, produce
from eoap_dask.run.product import Output, collection_and_catalog, file_asset, image_asset, image_assets, write_unit_item
from eoap_dask.run.raster import RasterWork
from eoap_dask.run.unit import Failure, Unit
from eoap_dask.run.written import WrittenUnit
from eoap_dask.scenes.model import Pass, Scene, Source
from eoap_dask.stac.records import AssetRecord

NAME = "seams"
START = datetime(2021, 7, 1, 10, tzinfo=UTC)
SHAPE = (700, 900)
ZONES = (32631, 32632, 32633)
CHIP = 96
WINDOWS = (Window(0, CHIP, 0, CHIP), Window(300, 300 + CHIP, 470, 470 + CHIP), Window(604, 700, 804, 900))
THRESHOLD = 2000
REACH = 2
"""Halo of `Change`."""


def pixels(zone: int, day: int) -> np.ndarray[Any, np.dtype[np.uint16]]:
    """Return a scene: a slope, waves, and a corner without data."""
    row, col = np.mgrid[: SHAPE[0], : SHAPE[1]]
    out = 500 + 900 * (zone % 10) + 40 * day + row + 2 * col + (row * (day + 3) + col * 7) % 23
    out[: 10 * day, : 30 * day] = 0
    return out.astype(np.uint16)


def grid(zone: int) -> GeoBox:
    """Return a cell's grid, which is that of its scenes."""
    return GeoBox(SHAPE, Affine(10, 0, 300_000 + 10 * (zone % 7), 0, -10, 4_900_000), f"EPSG:{zone}")


def write_scenes(folder: Path) -> None:
    """Write all scenes as tiled TIFFs."""
    for zone in ZONES:
        for day in range(4):
            with rasterio.open(
                folder / f"{zone}-{day}.tif",
                "w",
                driver="GTiff",
                height=SHAPE[0],
                width=SHAPE[1],
                count=1,
                dtype="uint16",
                crs=f"EPSG:{zone}",
                transform=grid(zone).transform,
                tiled=True,
                blockxsize=256,
                blockysize=256,
                compress="deflate",
            ) as file:
                file.write(pixels(zone, day), 1)


def scene(files_url: str, zone: int, day: int) -> Pass:
    """Return a pass of one scene."""
    name, when = f"{zone}-{day}", START + timedelta(day)
    transform = tuple(float(v) for v in tuple(grid(zone).transform)[:6])
    source = Source("red", f"{files_url}/{name}.tif", f"EPSG:{zone}", transform, SHAPE, 0, 0)  # type: ignore[arg-type]
    return Pass(
        name,
        when,
        (Scene(name, f"./{name}.json", when, name, "", (5, 0), (source,), None, (name, "1"), (), "sentinel-2"),),
    )


@dataclass(frozen=True)
class Chips(Science):
    """The median, and where it is above a threshold."""

    threshold: int

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill image and mask."""
        found = median(strip.layers[0])
        out[0][0] = found
        out[1][0] = np.where(found == 0, 0, np.where(found > self.threshold, 2, 1))


@dataclass(frozen=True)
class Mean(Science):
    """The median alone."""

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill the image."""
        out[0][0] = median(strip.layers[0])


@dataclass(frozen=True)
class Change(Science):
    """How far two images differ from their mean difference, summed over a neighbourhood, and a value from a table."""

    reach: int
    table: Resource
    fewest_passes: ClassVar[int] = 2

    @property
    def surveys(self) -> bool:
        """For the mean."""
        return True

    @property
    def halo(self) -> int:
        """The neighbourhood."""
        return self.reach

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The table."""
        return (self.table,)

    def set_up(self, files: Mapping[str, Path]) -> Any:
        """Return the table."""
        path = files[self.table.name]
        return np.frombuffer(path.read_bytes()[: 2 * 65536], np.uint16)

    def survey(self, strip: Strip) -> tuple[float, ...]:
        """Return what the present pass needs: a count and a sum."""
        inside = slice(self.reach, -self.reach)
        before, after = strip.layers[0, :, inside, inside].astype(np.int64)
        both = (before > 0) & (after > 0)
        change = (after - before)[both]
        if strip.state is None:
            return int(both.sum()), int(change.sum())
        off = change - strip.state[0]
        if len(strip.state) == 1:
            return int(both.sum()), float(np.sum(off * off))
        return int(both.sum()), int((np.abs(off) > strip.state[1]).sum())

    def merge(self, one: tuple[float, ...], other: tuple[float, ...]) -> tuple[float, ...]:
        """Add them up."""
        return tuple(a + b for a, b in zip(one, other, strict=True))

    def reduce(self, note: tuple[float, ...], state: tuple[float, ...] | None) -> tuple[tuple[float, ...], bool]:
        """Return the mean; mean and deviation; and the share beyond it as well."""
        number, total = note
        if state is None:
            return (total / number,), True
        if len(state) == 1:
            return (*state, math.sqrt(total / number)), True
        return (*state, total / number), False

    def compose(self, strip: Strip, out: tuple[Image, ...]) -> None:
        """Fill both images."""
        before, after = strip.layers[0].astype(np.float64)
        mean, deviation, _ = strip.state
        score = np.where((before > 0) & (after > 0), (after - before - mean) / deviation, 0.0)
        height, width = out[0].shape[1:]
        total = np.zeros((height, width))
        for row in range(2 * self.reach + 1):
            for col in range(2 * self.reach + 1):
                total += score[row : row + height, col : col + width]
        out[0][0] = total
        inside = slice(self.reach, -self.reach)
        out[1][0] = strip.tools[strip.layers[0, 0, inside, inside]]


CLASSES = (ClassSpec(0, "nodata", nodata=True), ClassSpec(1, "low"), ClassSpec(2, "high"))
DATA = ImageSpec("images", (BandSpec("red"),), "uint16", "mean", 0)
MASK = ImageSpec("masks", (BandSpec("mask", classes=CLASSES),), "uint8", "nearest", 0)
SCORE = ImageSpec("score", (BandSpec("score"),), "float32", "mean", None)
LOOKED_UP = ImageSpec("looked-up", (BandSpec("value"),), "uint16", "mean", 0)


@dataclass
class Seams:
    """The application: where its scenes are served, its table, and what was finished."""

    files_url: str
    table: Path
    finished: dict[str, dict[str, Any]] = field(default_factory=dict)
    failed: list[str] = field(default_factory=list)

    def stack(self, zone: int, *days: int) -> Stack:
        """Return the layers of some days."""
        reader = TileReader(NoSigner(), Retry(attempts=2, backoff_s=0.01), frozenset({"127.0.0.1"}))
        return Stack(grid(zone), tuple(scene(self.files_url, zone, day) for day in days), 1, None, None, reader)

    def unit(self, key: str, recipe: Recipe, *needs: str) -> UnitPlan:
        """Return a unit of the days of all scenes."""
        unit = Unit(key, f"Unit {key}", START, START + timedelta(4), needs)
        return UnitPlan.of(unit, RasterWork.of(recipe))

    def cell(self, key: str, zone: int, windows: Sequence[Window], threshold: int = THRESHOLD) -> UnitPlan:
        """Return a cell with a chip for each window."""
        cutouts = tuple(Cutout(f"{key}-chip{n}", window) for n, window in enumerate(windows))
        recipe = Recipe(self.stack(zone, 0, 1, 2), Chips(threshold), (DATA, MASK), cutouts=cutouts)
        return self.unit(key, recipe)

    def mean(self, key: str, *days: int) -> UnitPlan:
        """Return a composite of some days."""
        return self.unit(key, Recipe(self.stack(ZONES[1], *days), Mean(), (replace(DATA, name=key),)))

    def change(self) -> UnitPlan:
        """Return the unit that needs two."""
        units = ("mean-a", "mean-b")
        stack = UnitStack(grid(ZONES[1]), units, "{unit}.tif", 1)
        science = Change(REACH, Resource.of("table", self.table))
        return self.unit("change", Recipe(stack, science, (SCORE, LOOKED_UP)), *units)

    def plans(self) -> tuple[UnitPlan, ...]:
        """Return all units that are known from the beginning."""
        return (
            *(self.cell(f"cell-{zone}", zone, WINDOWS) for zone in ZONES),
            self.cell("cell-empty", ZONES[0], ()),
            self.mean("mean-a", 0, 1),
            self.mean("mean-b", 2, 3),
            self.change(),
        )

    def plan(self) -> Plan:
        """Return a plan of these."""
        return Plan(NAME, {"threshold": THRESHOLD}, self.plans())

    def stream(self) -> Iterator[UnitPlan | None]:
        """Yield all units, and in the end one that depends on what the change came to."""
        yield from self.plans()
        while "change" not in self.finished:
            if self.failed:
                return
            yield None
        share = self.finished["change"]["properties"]["test:state"][2]
        yield self.cell("late", ZONES[2], WINDOWS[:1], threshold=round(10_000 * share))

    def done(self, item: dict[str, Any]) -> None:
        """Take the item of a finished unit."""
        self.finished[item["id"]] = item

    def finish(self, written: WrittenUnit) -> dict[str, Any]:
        """Write the items of chips, and that of the unit."""
        made, folder = written.made, written.folder

        def output(name: str, images: dict[str, Any]) -> Output:
            data = images["images"]
            assets = [image_asset(image, folder) for image in images.values()]
            return Output(name, name, data.geobox, assets, data.sums[0][0])

        outputs = [output(name, images) for name, images in made.cutouts.items()]
        return write_unit_item(
            NAME,
            written,
            image_assets(written),
            "Made by a test.",
            valid_pixels=next(iter(made.images.values())).sums[0][0] if made.images else None,
            properties={"test:state": list(made.state or ()), "test:chips": len(outputs)},
            outputs=outputs,
        )

    def conclude(
        self, root: Path, file: Callable[[str, str], Path], items: Sequence[Mapping[str, Any]]
    ) -> list[AssetRecord]:
        """List the units whose items are there."""
        there = [item["id"] for item in items if file(item["id"], f"{item['id']}.json").is_file()]
        path = root / "index.txt"
        path.write_text("\n".join(sorted(there)))
        return [file_asset("index", path, "Units", "text/plain", ("metadata",))]

    def describe(self, items: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
        """Return collection and catalog."""
        return collection_and_catalog(
            NAME, items, title="Seams", description="Made by a test.", keywords=["test"], catalog_title="Seams"
        )


def make(
    app: Seams,
    out: Path,
    client: Client | None,
    hooks: Hooks | None = None,
    *,
    stream: bool = False,
    publisher: Any = Publication,
    **how: Any,
) -> Run:
    """Make the product, in blocks of 512."""
    app, given = Seams(app.files_url, app.table), hooks or Hooks()

    def done(item: dict[str, Any]) -> None:
        app.done(item)
        given.unit_done(item)

    def failed(failure: Failure) -> None:
        app.failed.append(failure.unit)
        given.unit_failed(failure)

    hooks = replace(given, unit_done=done, unit_failed=failed)
    production = Production(
        app.plan(), app.finish, app.describe, units=app.stream() if stream else None, conclude=app.conclude
    )
    options = RunOptions(output_dir=out, **{"block": 512, **how})
    return produce(production, options, hooks, client=client, publisher=publisher)


if __name__ == "__main__":  # where its files are served, the table, the output, and perhaps that it grows
    url, table_path, output, *growing = sys.argv[1:]
    grows = bool(growing)
    make(
        Seams(url, Path(table_path)),
        Path(output),
        None,
        stream=grows,
        publisher=UnitPublication if grows else Publication,
        cluster="local",
        workers=1,
    )
