"""Scenes of different catalogues and processings: however each stores reflectance, the truth comes out."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
from distributed import Client

from eoap_dask import Run, burned_area_map
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.items import Dialect

pytestmark = pytest.mark.cluster

IMAGES = ("bai", "nbr", "dnbr", "rdnbr", "rbr", "severity", "visual-pre", "visual-post")
MIXED: tuple[tuple[Dialect, Dialect], ...] = (
    ("earth-search-v0", "earth-search-v1"),  # no offset, and one that is applied already though it is declared
    ("earth-search-v0", "earth-search-c1"),  # no offset, and one to be applied
    ("planetary-computer", "earth-search-v1"),
    ("planetary-computer", "earth-search-v0"),
    ("earth-search-c1", "planetary-computer"),  # declared, and told by the baseline alone
    ("earth-search-v1", "earth-search-c1"),
    ("earth-search-c1", "earth-search-c1"),
)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as client:
        yield client


def burn(fires: Any, before: Dialect, after: Dialect, output: Path, client: Client) -> Run:
    return burned_area_map(
        pre_fire_url=fires(before).urls[0], post_fire_url=fires(after).urls[1], output_dir=output, client=client
    )


@pytest.fixture(scope="module")
def plain(fires: Any, tmp_path_factory: pytest.TempPathFactory, client: Client) -> Run:
    """Earth Search as it was at first: files that hold reflectance × 10000, before and after."""
    return burn(fires, "earth-search-v0", "earth-search-v0", tmp_path_factory.mktemp("plain") / "out", client)


def pixels(run: Run, image: str) -> np.ndarray:
    (item,) = run.items
    with rasterio.open(run.output / item["id"] / item["assets"][image]["href"]) as dataset:
        found: np.ndarray = dataset.read()
    return found


def blocks(run: Run, image: str) -> list[bytes]:
    """Return the first block of each band as it is stored: the images also say of which scenes they are."""
    (item,) = run.items
    path = run.output / item["id"] / item["assets"][image]["href"]
    with rasterio.open(path) as dataset, path.open("rb") as stream:
        found = []
        for band in dataset.indexes:
            offset, size = (
                int(dataset.get_tag_item(f"BLOCK_{what}_0_0", "TIFF", band) or 0) for what in ("OFFSET", "SIZE")
            )
            stream.seek(offset)
            found.append(stream.read(size))
    assert all(found)
    return found


@pytest.mark.long
def test_the_files_do_store_it_differently(fires: Any) -> None:
    """Or else none of this would be about anything: the red of one clear pixel, before and after."""
    stored = {}
    for dialect in ("planetary-computer", "earth-search-v0", "earth-search-v1", "earth-search-c1"):
        archive = fires(dialect).archive
        for when, item in enumerate(archive.fire_pair()):
            key = "red" if "red" in item["assets"] else "B04"
            with rasterio.open(archive.root / item["assets"][key]["href"]) as dataset:
                stored[dialect, when] = int(dataset.read(1)[384, 384])
    before, after = stored["earth-search-v0", 0], stored["earth-search-v0", 1]
    assert stored == {
        ("earth-search-v0", 0): before,
        ("earth-search-v0", 1): after,
        ("earth-search-v1", 0): before,
        ("earth-search-v1", 1): after,
        ("planetary-computer", 0): before,
        ("planetary-computer", 1): after + 1000,
        ("earth-search-c1", 0): before + 1000,
        ("earth-search-c1", 1): after + 1000,
    }


@pytest.mark.long
def test_plain_files_give_the_ground(plain: Run, fires: Any) -> None:
    """What the land reflects is known: bai, of which 0.1 too much would be most wrong, at every pixel that is seen."""
    archive = fires("earth-search-v0").archive
    tile = archive.tiles[0]
    bai = pixels(plain, "bai")
    for band, month in enumerate(("2021-07", "2021-08")):
        red, nir = archive.tile_truth(tile, ["red", "nir"], month).astype(float) / 10_000
        expected = 1 / ((0.1 - red) ** 2 + (0.06 - nir) ** 2)
        seen = ~np.isnan(bai[band])
        assert seen.mean() > 0.5
        np.testing.assert_allclose(bai[band][seen], expected[seen], rtol=1 / 8192 + 1e-4)


@pytest.mark.long
@pytest.mark.parametrize(("before", "after"), MIXED)
def test_mixed_scenes_give_identical_files(
    before: Dialect, after: Dialect, plain: Run, fires: Any, tmp_path: Path, client: Client
) -> None:
    run = burn(fires, before, after, tmp_path / "out", client)
    (item,), (expected,) = run.items, plain.items
    sources = [fires(d).archive.fire_pair()[i]["id"] for i, d in enumerate((before, after))]
    assert [item["properties"]["eoap:pre_fire"], item["properties"]["eoap:post_fire"]] == [[s] for s in sources]
    for image in IMAGES:
        np.testing.assert_array_equal(pixels(run, image), pixels(plain, image), err_msg=image)
        assert blocks(run, image) == blocks(plain, image), image
    assert {key: asset["file:checksum"] for key, asset in item["assets"].items() if key not in IMAGES} == {
        key: asset["file:checksum"] for key, asset in expected["assets"].items() if key not in IMAGES
    }
