"""The same request gives the same bytes, for any workers, blocks, budgets, order of items, and when it is replayed."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
from distributed import Client
from pyproj import Transformer
from shapely.geometry import shape

from eoap_dask import ItemSet, MosaicParams, Run, RunOptions, cloudless_mosaic
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION, find_items, understand
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.process import ServerProcess

pytestmark = pytest.mark.cluster

MAY_DIFFER = {"item": {"processing:datetime"}, "run": {"timings"}}
"""All that two equal runs may write differently."""

MIB = 1 << 20


@dataclass
class Place:
    archive: Archive
    server: ServerProcess
    root: Path

    @property
    def params(self) -> MosaicParams:
        """1.5 × 1.5 blocks of 512 with overviews, two zones, a shape that isn't a box, classes by their share."""
        west, south, east, north = self.archive.aoi_bbox
        ring = [[west, south], [east, south], [east, north], [(west + east) / 2, north], [west, south]]
        return MosaicParams(
            stac=self.server.url,
            collection=self.archive.collection,
            aoi={"type": "Polygon", "coordinates": [ring]},
            bands=("red", "nir"),
            resolution=25.0,
            end_date="2020-11-30",
            max_cloud_cover=100.0,
        )


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    root = tmp_path_factory.mktemp("determinism")
    archive = make_archive(
        root / "demo", size_px=384, resolution_m=50.0, months=("2020-10", "2020-11"), dates_per_month=5
    )
    with ServerProcess(archive) as server:
        yield Place(archive, server, root)


@pytest.fixture(scope="module")
def one() -> Iterator[Client]:
    with local_client(Size(1, 1, 2 << 30)) as client:
        yield client


@pytest.fixture(scope="module")
def reference(place: Place, one: Client) -> Run:
    """What all others must be like: one worker with one thread, one block after the other."""
    run = cloudless_mosaic(place.params, RunOptions(output_dir=place.root / "reference", block=512), client=one)
    assert len(run.items) == 2
    assert run.items[0]["properties"]["proj:shape"][0] > 512
    assert run.items[0]["assets"]["data"]["bands"][0]["statistics"]["valid_percent"] > 20
    return run


def test_the_item_of_a_clipped_area_tells_of_the_area(place: Place, reference: Run) -> None:
    """Geometry, and share of pixels with data: of the area, not of the box around it."""
    area = shape(place.params.aoi)
    for item in reference.items:
        geometry = shape(item["geometry"])
        assert geometry.is_valid
        assert shapely.symmetric_difference(geometry, area).area < 1e-3 * area.area
        assert item["bbox"] == pytest.approx(area.bounds, abs=2e-5)
        with rasterio.open(reference.output / item["id"] / item["assets"]["data"]["href"]) as file:
            seen = (file.read(1) > 0).sum()
            (a, _, c), (_, e, f) = np.reshape(tuple(file.transform)[:6], (2, 3))
            x, y = np.meshgrid(c + a * (np.arange(file.width) + 0.5), f + e * (np.arange(file.height) + 0.5))
            lon, lat = Transformer.from_crs(file.crs, 4326, always_xy=True).transform(x, y)
        inside = shapely.contains_xy(area, lon, lat).sum()
        assert inside < 0.8 * x.size
        # centres on the edge, which is straight in degrees here and in pieces there
        assert item["properties"]["eoap:valid_percent"] == pytest.approx(100 * seen / inside, rel=1e-3)


def again(place: Place, client: Client, name: str, params: MosaicParams | None = None, **options: Any) -> Run:
    options = {"output_dir": place.root / name, "block": 512, **options}
    return cloudless_mosaic(params or place.params, RunOptions(**options), client=client)


def fingerprints(run: Run, *kinds: str) -> dict[str, str]:
    """SHA-256 of each file of these kinds, by its path in the output."""
    return {
        file.relative_to(run.output).as_posix(): hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(run.output.rglob("*"))
        if file.is_file() and file.suffix in kinds
    }


def without(document: Any, fields: set[str]) -> Any:
    if isinstance(document, dict):
        return {key: without(value, fields) for key, value in document.items() if key not in fields}
    return [without(value, fields) for value in document] if isinstance(document, list) else document


def read(run: Run, name: str) -> Any:
    return json.loads((run.output / name).read_text())


def assert_same(run: Run, reference: Run, *, same_request: bool = True) -> None:
    """Equal bytes of every asset, equal JSON but for the listed fields, equal digests."""
    assets = fingerprints(run, ".tif", ".png")
    assert assets == fingerprints(reference, ".tif", ".png")
    assert len(assets) == 8
    for mine, other in zip(run.items, reference.items, strict=True):
        name = f"{mine['id']}/{mine['id']}.json"
        assert without(read(run, name), MAY_DIFFER["item"]) == without(read(reference, name), MAY_DIFFER["item"])
        assert mine["properties"]["eoap:digest"] == other["properties"]["eoap:digest"]
    assert {f.name for f in run.output.iterdir()} == {f.name for f in reference.output.iterdir()}
    for name in ("catalog.json", "collection.json", "failures.json"):
        assert (run.output / name).read_bytes() == (reference.output / name).read_bytes()
    if same_request:
        assert (run.output / "items.json").read_bytes() == (reference.output / "items.json").read_bytes()
        assert without(read(run, "run.json"), MAY_DIFFER["run"]) == without(
            read(reference, "run.json"), MAY_DIFFER["run"]
        )


@pytest.mark.long
def test_again(place: Place, one: Client, reference: Run) -> None:
    assert_same(again(place, one, "again"), reference)


@pytest.mark.long
def test_four_workers(place: Place, reference: Run) -> None:
    with local_client(Size(4, 1, 1 << 30)) as four:
        assert_same(again(place, four, "four"), reference)


@pytest.mark.long
def test_a_cluster_of_its_own(place: Place, reference: Run) -> None:
    """What the command line does, with blocks and budgets of its own choice."""
    options = RunOptions(output_dir=place.root / "own", cluster="local", workers=1, worker_memory="1GiB")
    assert_same(cloudless_mosaic(place.params, options), reference)


@pytest.mark.long
@pytest.mark.parametrize(
    "options",
    [
        {"block": 1024},
        {"block": None},
        {"budget": 1},
        {"budget": 2 * MIB},
        {"block": 2048, "budget": 1 * MIB},
        {"reads": 1},
        {"reads": 32},
    ],
    ids=str,
)
def test_blocks_and_budgets(place: Place, one: Client, reference: Run, options: dict[str, Any]) -> None:
    """Blocks that hold all of the image and its overviews, strips of 16 rows, one file at a time and many."""
    name = "-".join(f"{key}{value}" for key, value in options.items())
    assert_same(again(place, one, name, **options), reference)


def test_either_reader(place: Place, one: Client, reference: Run) -> None:
    """The tile reader, which the reference is made with, and GDAL."""
    assert_same(again(place, one, "gdal", reader="gdal"), reference)


@pytest.mark.long
def test_a_replay_without_searching(place: Place, one: Client, reference: Run) -> None:
    """The API isn't asked; its URL says which hosts the items may send us to."""
    params = replace(place.params, items=str(reference.output / "items.json"))
    before = place.server.stats.api_requests
    run = again(place, one, "replay", params)
    assert place.server.stats.api_requests == before
    assert_same(run, reference, same_request=False)
    assert (run.output / "items.json").read_bytes() == (reference.output / "items.json").read_bytes()


@pytest.mark.long
def test_a_replay_of_shuffled_items(place: Place, one: Client, reference: Run) -> None:
    document = read(reference, "items.json")
    random.Random(11).shuffle(document["features"])  # noqa: S311 - an order, not a secret
    assert document["features"] != read(reference, "items.json")["features"]
    file = place.root / "shuffled.json"
    file.write_text(json.dumps(document))
    params = replace(place.params, items=str(file))
    assert_same(again(place, one, "shuffled", params), reference, same_request=False)


@pytest.mark.long
def test_a_part_of_the_time_is_the_same_part(place: Place, one: Client, reference: Run) -> None:
    """A unit's digest and bytes know nothing of the other units, nor of the dates and filters of the search."""
    params = replace(place.params, start_date="2020-11-01", max_items=17)
    run = again(place, one, "november", params)
    assert [i["id"] for i in run.items] == ["monthly-mosaic-2020-11"]
    expected = fingerprints(reference, ".tif", ".png")
    assert fingerprints(run, ".tif", ".png") == {
        k: v for k, v in expected.items() if k.startswith("monthly-mosaic-2020-11")
    }
    assert without(run.items[0], MAY_DIFFER["item"]) == without(reference.items[1], MAY_DIFFER["item"])


def test_the_archive_itself_is_reproducible(place: Place) -> None:
    """Or else none of the above would be about us."""
    other = make_archive(
        place.root / "other", size_px=384, resolution_m=50.0, months=("2020-10",), dates_per_month=5, workers=1
    )
    for item in other.items[:2]:
        for asset in item["assets"].values():
            assert (other.root / asset["href"]).read_bytes() == (place.archive.root / asset["href"]).read_bytes()


def digests(place: Place, one: Client, **changes: Any) -> list[str]:
    items: ItemSet | None = changes.pop("found", None)
    request = understand(replace(place.params, **changes))
    return [
        unit.digest for unit in APPLICATION.plan_for(request, items or find_items(request), RunOptions(), one).units
    ]


def test_what_changes_pixels_changes_the_digest_and_nothing_else_does(
    place: Place, one: Client, reference: Run
) -> None:
    first = digests(place, one)
    assert first == [item["properties"]["eoap:digest"] for item in reference.items]
    assert all(len(digest) == 32 for digest in first)

    for other in (
        {"bands": ("nir", "red")},
        {"bands": ("red",)},
        {"resolution": 50.0},
        {"crs": "EPSG:32611"},
        {"clip": False},
        {"cloud_mask": "none"},
        {"aoi": ",".join(map(str, place.archive.aoi_bbox))},
    ):
        assert not set(digests(place, one, **other)) & set(first), other

    for equal in ({"end_date": "2020-12-31"}, {"max_items": 900}):
        assert digests(place, one, **equal) == first, equal
    assert digests(place, one, start_date="2020-11-01") == first[1:]

    found = ItemSet.load(reference.output / "items.json")
    features = json.loads(json.dumps(found.features))
    features[0]["properties"]["s2:generation_time"] = "2026-01-01T00:00:00Z"  # processed anew
    assert digests(place, one, found=ItemSet(tuple(features), found.stac, found.collection, found.signing)) != first
    features = json.loads(json.dumps(found.features))
    features[0]["properties"]["eo:cloud_cover"] = 1.5  # says nothing about pixels
    assert digests(place, one, found=ItemSet(tuple(features), found.stac, found.collection, found.signing)) == first
