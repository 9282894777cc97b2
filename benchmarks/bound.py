"""The bound: what a product costs when nothing is done but what physics asks: ``python -m benchmarks.bound JOB.json``.

One process, one thread, no network and no Dask. Every compressed tile that holds a needed pixel is read from the page
cache and decoded once, with the fastest decoder there is for Python (imagecodecs), into a buffer that is used again;
there is one median per output pixel, our kernel, and one encode of the result into a file, ours as well: tiles,
overviews, statistics, checksum. Left out is all that is needed to get there: searching, HTTP, headers, index maps,
gathering what is in another projection. The bound of a burned area (`benchmarks.burn_contenders`) reads, decodes and
encodes in the same way, and computes nothing between.

Scenes in the grid's own CRS are placed, so that median and encode work on real pixels; those of another are decoded
and forgotten, and pixels that only they would show stay empty.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import imagecodecs
import numpy as np
import numpy.typing as npt
from affine import Affine
from odc.geo.geobox import GeoBox

from benchmarks.archive import BANDS, Grid, NeededTile
from benchmarks.job import SavedJob, plain
from eoap_dask.geo.window import blocks
from eoap_dask.kernels.composites import median
from eoap_dask.kernels.pixels import Image
from eoap_dask.output.cog import Cog
from eoap_dask.render.encode import encode_image, level_shapes
from eoap_dask.render.images import BandSpec, ImageSpec

STARTED = time.process_time()
"""What it took to get here: starting Python, and imports."""

DEFLATE = (8, 32946)

BLOCK = 2048
"""Pixels a side that are encoded at once: the largest block, `eoap_dask.render.recipe.BLOCK`."""


@dataclass(frozen=True)
class BoundJob(SavedJob):
    """What is to be read, and onto which grid."""

    grid: Grid
    tiles: list[NeededTile]
    output: str

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the job of some JSON."""
        tiles = [NeededTile(**plain(tile)) for tile in content["tiles"]]
        return cls(Grid(**plain(content["grid"])), tiles, content["output"])


class Costs:
    """Processor seconds by what they went to."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {"start": STARTED, "read": 0.0, "decode": 0.0, "place": 0.0}
        self.packed = self.unpacked = 0

    @contextmanager
    def of(self, name: str) -> Iterator[None]:
        """Charge what happens inside to a name."""
        began = time.thread_time()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.thread_time() - began

    def to_dict(self) -> dict[str, float]:
        """Return them as JSON-like values, with the decoder's speed in bytes of pixels per second."""
        seconds = {f"{name}_cpu_s": round(value, 4) for name, value in self.seconds.items()}
        work = sum(v for k, v in self.seconds.items() if k not in {"start", "place"})
        speed = self.unpacked / max(self.seconds["decode"], 1e-9)
        return {**seconds, "work_cpu_s": round(work, 4), "fetched": self.packed, "decoded_per_s": round(speed)}


class Tiles:
    """Reads and decodes tiles, each into the same buffer."""

    def __init__(self, costs: Costs) -> None:
        self._costs = costs
        self._files: dict[str, int] = {}
        self._exit = ExitStack()
        self._buffer: npt.NDArray[Any] = np.empty((0, 0), np.uint16)

    def __enter__(self) -> Tiles:
        return self

    def __exit__(self, *_: object) -> None:
        self._exit.close()

    def decode(self, tile: NeededTile) -> npt.NDArray[Any]:
        """Return a tile's pixels, valid until the next call."""
        if (self._buffer.shape[0], self._buffer.dtype) != (tile.side, tile.dtype):
            self._buffer = np.empty((tile.side, tile.side), tile.dtype)
        pixels = self._buffer
        if not tile.size:  # a sparse tile
            pixels[...] = 0
            return pixels
        with self._costs.of("read"):
            packed = os.pread(self._file(tile.path), tile.size, tile.offset)
        with self._costs.of("decode"):
            if tile.compression not in DEFLATE or tile.predictor not in (1, 2):
                raise ValueError(f"{tile.path} isn't DEFLATE with predictor 2 or none")
            imagecodecs.deflate_decode(packed, out=pixels.reshape(-1).view(np.uint8))
            if tile.predictor == 2:
                imagecodecs.delta_decode(pixels, axis=1, out=pixels)
        self._costs.packed += tile.size
        self._costs.unpacked += pixels.nbytes
        return pixels

    def _file(self, path: str) -> int:
        if path not in self._files:
            if len(self._files) >= 200:
                self._exit.close()
                self._files.clear()
            self._files[path] = os.open(path, os.O_RDONLY)
            self._exit.callback(os.close, self._files[path])
        return self._files[path]


def render_month(grid: Grid, tiles: Sequence[NeededTile], reader: Tiles, costs: Costs) -> npt.NDArray[np.uint16]:
    """Return the medians of a month, (band, y, x)."""
    height, width = grid.shape
    out = np.zeros((len(BANDS), height, width), np.uint16)
    passes = sorted({_pass(tile) for tile in tiles})
    by_row: dict[tuple[str, int], list[NeededTile]] = defaultdict(list)
    for tile in tiles:
        if tile.crs == grid.crs:
            by_row[tile.band, tile.row].append(tile)
        else:
            reader.decode(tile)
    x, _ = Grid(grid.crs, (1, width), grid.transform).centres_in(grid.crs)
    _, y = Grid(grid.crs, (height, 1), grid.transform).centres_in(grid.crs)
    layers = np.empty((0, 0, 0), np.uint16)
    for (band, row), those in by_row.items():
        transform, side = those[0].transform, those[0].side
        shown_rows = np.floor((y[:, 0] - transform[5]) / transform[4]).astype(int)
        shown_cols = np.floor((x[0] - transform[2]) / transform[0]).astype(int)
        rows = np.flatnonzero(shown_rows // side == row)
        if layers.shape[1:] != (len(rows), width):
            layers = np.empty((len(passes), len(rows), width), np.uint16)
        layers[...] = 0
        for tile in those:
            pixels = reader.decode(tile)
            with costs.of("place"):
                cols = np.flatnonzero(shown_cols // side == tile.col)
                source = _taken(shown_rows[rows] % side), _taken(shown_cols[cols] % side)
                layers[passes.index(_pass(tile)), :, cols[0] : cols[-1] + 1] = pixels[source[0]][:, source[1]]
        with costs.of("median"):
            out[BANDS.index(band), rows[0] : rows[-1] + 1] = median(layers)
    return out


def _taken(indices: npt.NDArray[np.int64]) -> slice | npt.NDArray[np.int64]:
    """Return indices as a slice where they follow each other: then nothing has to be gathered."""
    first, last = int(indices[0]), int(indices[-1])
    return slice(first, last + 1) if last - first + 1 == len(indices) else indices


def _pass(tile: NeededTile) -> str:
    return tile.item.split("_")[2]


def write_cog(
    image: Image, spec: ImageSpec, geobox: GeoBox, output: Path, costs: Costs, tags: Mapping[str, str] | None = None
) -> tuple[int, str]:
    """Encode an image, (band, y, x), with its overviews, into a file; return its size and checksum.

    Block by block, so that there is little of it in memory beside the image.
    """
    shape = image.shape[1:]
    levels = len(level_shapes(shape))
    with costs.of("encode"):
        cog = Cog(spec, geobox, output / "scratch", tags or {})
        for window in blocks((shape[0], shape[1]), BLOCK):
            part = image[:, window.row : window.row_stop, window.col : window.col_stop]
            cog.add(encode_image(part, spec, window, BLOCK, levels), window)
        return cog.write(output / f"{spec.name}.tif")


def run(job: BoundJob) -> dict[str, float]:
    """Make all months; return what it cost."""
    months: dict[str, list[NeededTile]] = defaultdict(list)
    for tile in job.tiles:
        months[_pass(tile)[4:6]].append(tile)
    costs = Costs()
    with Tiles(costs) as reader:
        for month, tiles in sorted(months.items()):
            image = render_month(job.grid, tiles, reader, costs)
            geobox = GeoBox(job.grid.shape, Affine(*job.grid.transform), job.grid.crs)
            write_cog(
                image,
                ImageSpec(month, tuple(map(BandSpec, BANDS)), "uint16", "mean", 0),
                geobox,
                Path(job.output),
                costs,
            )
    return costs.to_dict()


def main() -> None:
    """Do the job of the argument."""
    job = BoundJob.load(Path(sys.argv[1]))
    found: dict[str, Any] = run(job)
    (Path(job.output) / "job.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
