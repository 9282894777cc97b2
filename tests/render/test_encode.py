"""The compression of products: what was chosen can be read by everybody, and what is measured of others is true."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from benchmarks.compression import CHOSEN, Format, _decode, formats, gdal_can, real_pixels, tiles_of
from odc.geo.geobox import GeoBox

from eoap_dask.geo.window import Window
from eoap_dask.output.cog import Cog
from eoap_dask.render.encode import encode_image, level_shapes
from eoap_dask.render.images import BandSpec, ImageSpec

ROOT = Path(__file__).parents[2]


def scene(shape: tuple[int, int]) -> np.ndarray:
    """Return something like a scene: smooth, with noise, the largest and the smallest number, and a hole."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: shape[0], : shape[1]]
    image = (1500 + 900 * np.sin(x / 40) * np.cos(y / 55) + rng.normal(0, 30, (3, *shape))).astype(np.uint16)
    image[:, :3, :3], image[:, 5, 5:9] = 65535, 1
    image[:, 100:180, 40:300] = 0
    return image


def test_gdal_and_tifffile_read_the_chosen_format(tmp_path: Path) -> None:
    image = scene((700, 900))
    bands = tuple(map(BandSpec, ("nir", "red", "green")))
    window, spec = Window(0, 700, 0, 900), ImageSpec("composite", bands, "uint16", "mean", 0)
    geobox = GeoBox((700, 900), Affine(10.0, 0.0, 500_000.0, 0.0, -10.0, 5_000_000.0), "EPSG:32610")
    cog = Cog(spec, geobox, tmp_path / "scratch")
    cog.add(encode_image(image, spec, window, 1024, len(level_shapes((700, 900)))), window)
    cog.write(tmp_path / "composite.tif")
    with rasterio.open(tmp_path / "composite.tif") as dataset:
        assert dataset.compression is rasterio.enums.Compression.deflate
        assert dataset.tags(ns="IMAGE_STRUCTURE")["PREDICTOR"] == "2"
        assert np.array_equal(dataset.read(), image)
    with tifffile.TiffFile(tmp_path / "composite.tif") as tiff:  # no GDAL in it
        page = tiff.pages[0]
        # Adobe's number, which is that of TIFF's technical note; the older 32946 isn't known to all readers
        assert (int(page.compression), int(page.predictor)) == (8, 2)
        assert np.array_equal(page.asarray().transpose(2, 0, 1), image)


@pytest.mark.parametrize("one", list(formats()), ids=lambda one: one.title)
def test_every_format_gives_the_pixels_back(one: Format) -> None:
    import imagecodecs

    for tile in tiles_of(scene((600, 520))):
        packed = one.encode(imagecodecs.delta_encode(tile, axis=1) if one.predictor else tile)
        assert np.array_equal(_decode(one, packed, tile), tile)
        assert len(packed) < tile.nbytes


def test_gdal_reads_what_was_chosen() -> None:
    chosen = [one for one in formats() if one.title == CHOSEN]
    assert [gdal_can(one) for one in chosen] == [True]
    unknown = Format("none", bytes, bytes, False, {"compress": "no such thing"})
    assert not gdal_can(unknown)


def test_of_real_pixels_what_was_chosen_is_as_small_as_any_of_deflate(shared: Path) -> None:
    import imagecodecs

    image = real_pixels("worldcereal_preprocessed_inputs.nc", 4, shared / "series")
    assert image is not None
    sizes = {
        one.title: sum(len(one.encode(imagecodecs.delta_encode(t, axis=1))) for t in tiles_of(image))
        for one in formats()
        if one.predictor and one.name.startswith("DEFLATE")
    }
    assert sizes[CHOSEN] <= 1.01 * min(sizes.values())


@pytest.mark.long
def test_formats_are_measured(tmp_path: Path) -> None:
    out = tmp_path / "result.json"
    command = [sys.executable, "-m", "benchmarks.compression", "--tiny", "--cache", tmp_path / "cache", "--json", out]
    done = subprocess.run(list(map(str, command)), capture_output=True, text=True, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr
    result = json.loads(out.read_text())
    found = result["sources"]["demo, monthly median"]
    measured = found["formats"]
    assert measured.keys() == result["formats"].keys() == {one.title for one in formats()}
    assert all(0 < one["bytes"] < found["pixel_bytes"] for one in measured.values())
    assert measured["DEFLATE 9, predictor 2"]["bytes"] < measured["DEFLATE 1, predictor 2"]["bytes"]
    assert f"| **{result['chosen']}** |" in done.stdout


DIGEST = """
import hashlib
import random

from eoap_dask.render.encode import deflate

numbers, digest = random.Random(1), hashlib.sha256()
for _ in range(15_000):
    head = numbers.randbytes(40)
    digest.update(deflate(head + numbers.randbytes(60) + head[1:] + head + head[2:] + numbers.randbytes(300)))
print(digest.hexdigest())
"""


@pytest.mark.long
def test_the_same_bytes_in_every_process() -> None:
    """ISA-L alone makes others of one in 500 of these, wherever the stack lies elsewhere."""
    found = {subprocess.run([sys.executable, "-c", DIGEST], capture_output=True, check=True).stdout for _ in range(3)}
    assert len(found) == 1
