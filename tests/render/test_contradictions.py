"""An item's grid against its file's: the file is right, and nothing becomes silent pixels."""

from __future__ import annotations

import json
import math
import shutil
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

import eoap_dask as eo
from eoap_dask.applications.cloudless_mosaic.application import APPLICATION
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import ContradictionError
from eoap_dask.files import write_json
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.publish.checks import identity
from eoap_dask.publish.holdings import MARKER
from eoap_dask.readers.faults import NEAR, contradiction
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.reader import FileGrid
from eoap_dask.readers.tiles import TileReader
from eoap_dask.run.events import Event
from eoap_dask.scenes.model import Source

TRUE = (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_602_000.0)
SHAPE = (200, 200)
RED = (2000 + 5 * np.arange(200)[:, None] + np.arange(200)).astype(np.uint16)
CRS = "EPSG:32633"
AREA = "15.0005,41.5510,15.0200,41.5660"

_corners = [(500_000, 4_602_000), (502_000, 4_602_000), (502_000, 4_600_000), (500_000, 4_600_000)]
FOOTPRINT = [Transformer.from_crs(CRS, 4326, always_xy=True).transform(x, y) for x, y in [*_corners, _corners[0]]]

WRONG = {
    "the order of GDAL": (500_000.0, 10.0, 0.0, 4_602_000.0, 0.0, -10.0),
    "half a pixel to the right": (10.0, 0.0, 500_005.0, 0.0, -10.0, 4_602_000.0),
    "a hundredth and a half of a pixel down": (10.0, 0.0, 500_000.0, 0.0, -10.0, 4_601_999.85),
    "pixels ten times too small": (1.0, 0.0, 500_000.0, 0.0, -1.0, 4_602_000.0),
    "upside down": (10.0, 0.0, 500_000.0, 0.0, 10.0, 4_600_000.0),
    "a tile further": (10.0, 0.0, 600_000.0, 0.0, -10.0, 4_602_000.0),
}


TOLD_BY_THE_GEOMETRY = {"pixels ten times too small", "a tile further", "another zone"}


def write(path: Path, pixels: Any, **more: Any) -> None:
    profile = {"driver": "GTiff", "height": 200, "width": 200, "count": 1, "dtype": pixels.dtype, "crs": CRS}
    profile |= {"transform": Affine(*TRUE), "tiled": True, "blockxsize": 64, "blockysize": 64, "compress": "deflate"}
    with rasterio.open(path, "w", **{**profile, **more}) as file:
        file.write(pixels, 1)


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    root = tmp_path_factory.mktemp("contradictions")
    write(root / "red.tif", RED)
    write(root / "scl.tif", np.full(SHAPE, 4, np.uint8))
    with ServerProcess(Catalogue(root, [], "sentinel-2-l2a")) as server:
        yield root, server.files_url


def item(url: str, transform: tuple[float, ...] = TRUE, crs: int = 32633, **more: Any) -> dict[str, Any]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": "S2A_MSIL2A_20210705T100031_R122_T33TUG_20210705T130000",
        "collection": "sentinel-2-l2a",
        "geometry": {"type": "Polygon", "coordinates": [FOOTPRINT]},
        "bbox": [min(x for x, _ in FOOTPRINT), min(y for _, y in FOOTPRINT), 15.024, 41.569],
        "links": [],
        "properties": {
            "datetime": "2021-07-05T10:00:31Z",
            "platform": "sentinel-2a",
            "eo:cloud_cover": 0,
            "s2:datatake_id": "GS2A_20210705T100031_031527_N03.01",
            "s2:processing_baseline": "03.01",
            "s2:mgrs_tile": "33TUG",
            "proj:epsg": crs,
            "proj:shape": [200, 200],
            "proj:transform": list(transform),
        },
        "assets": {"B04": {"href": f"{url}/red.tif"}, "SCL": {"href": f"{url}/scl.tif"}},
        **more,
    }


def mosaic(tmp_path: Path, found: dict[str, Any], client: Client, **more: Any) -> eo.Run:
    source = tmp_path / "items.json"
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [found]}))
    host = found["assets"]["B04"]["href"].rsplit("/", 1)[0]
    return eo.cloudless_mosaic(
        items=str(source),
        stac=host,
        aoi=AREA,
        bands=("red",),
        resolution=10.0,
        start_date="2021-07-01",
        end_date="2021-07-31",
        output_dir=tmp_path / "out",
        client=client,
        **more,
    )


def expected(path: Path) -> Any:
    """What the file says: the grid of the product lies on that of the file."""
    with rasterio.open(path) as file:
        a, _, c, _, e, f = tuple(file.transform)[:6]
        assert (a, e) == (10, -10)
        row, col = round((TRUE[5] - f) / 10), round((c - TRUE[2]) / 10)
        rows, cols = np.mgrid[row : row + file.height, col : col + file.width]
        inside = (rows >= 0) & (rows < 200) & (cols >= 0) & (cols < 200)
        return np.where(inside, 2000 + 5 * rows + cols, 0), file.read(1)


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 2, 2 << 30)) as running:
        yield running


@pytest.mark.cluster
@pytest.mark.parametrize("name", [*WRONG, "another zone"])
def test_the_file_is_right(served: tuple[Path, str], client: Client, tmp_path: Path, name: str) -> None:
    zone = 32632 if name == "another zone" else 32633
    found = item(served[1], WRONG.get(name, TRUE), zone)
    heard: list[Event] = []
    run = mosaic(tmp_path, found, client, listener=heard.append)
    path = run.output / "monthly-mosaic-2021-07" / "monthly-mosaic-2021-07.tif"
    want, got = expected(path)
    np.testing.assert_array_equal(got, want)
    assert (want > 0).sum() > 10_000
    properties = run.items[0]["properties"]
    assert properties["eoap:corrected_grids"] == [f"{found['id']} B04", f"{found['id']} SCL"]
    ledger = json.loads((run.output / "failures.json").read_text())
    assert [(e["item"], e["asset"]) for e in ledger["corrected"]] == [(found["id"], "B04"), (found["id"], "SCL")]
    assert "item says" in ledger["corrected"][0]["reason"]
    # the geometry of the item tells some of them before a pixel is read
    again = [event.kind for event in heard].count("unit-retried")
    assert again == (0 if name in TOLD_BY_THE_GEOMETRY else 1)


def test_a_contradiction_in_the_item_itself_is_said_in_the_plan(served: tuple[Path, str], tmp_path: Path) -> None:
    source = tmp_path / "items.json"
    wrong = item(served[1], WRONG["a tile further"])
    source.write_text(json.dumps({"type": "FeatureCollection", "features": [wrong]}))
    params = eo.MosaicParams(
        items=str(source),
        stac=served[1],
        aoi=AREA,
        bands=("red",),
        start_date="2021-07-01",
        end_date="2021-07-31",
    )
    plan = APPLICATION.dry_run(params, eo.RunOptions(output_dir=tmp_path / "out"))
    assert plan.to_dict()["units"][0]["corrected_assets"] == 2
    assert "1 scene of 1 pass, 1 resampled (0 from another CRS), 2 assets put right by the files" in str(plan)


@pytest.mark.cluster
def test_an_asset_that_is_told_elsewhere_than_the_others_is_put_right(
    served: tuple[Path, str], client: Client, tmp_path: Path
) -> None:
    """Classes 100 km away would count as all cloudy."""
    found = item(served[1])
    found["assets"]["SCL"] |= {"proj:transform": [10, 0, 600_000, 0, -10, 4_602_000], "proj:shape": [200, 200]}
    run = mosaic(tmp_path, found, client)
    want, got = expected(run.output / "monthly-mosaic-2021-07" / "monthly-mosaic-2021-07.tif")
    np.testing.assert_array_equal(got, want)
    assert run.items[0]["properties"]["eoap:corrected_grids"] == [f"{found['id']} SCL"]


@pytest.mark.cluster
def test_the_ledger_keeps_what_an_earlier_run_put_right(
    served: tuple[Path, str], client: Client, tmp_path: Path
) -> None:
    found = item(served[1], WRONG["half a pixel to the right"])
    first = mosaic(tmp_path, found, client)
    before = json.loads((first.output / "failures.json").read_text())["corrected"]
    shutil.rmtree(tmp_path / "out.partial", ignore_errors=True)
    (first.output / "monthly-mosaic-2021-07").rename(tmp_path / "unit")
    shutil.rmtree(first.output)
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "unit").rename(tmp_path / "out.partial" / "monthly-mosaic-2021-07")
    write_json(tmp_path / "out.partial" / MARKER, identity("cloudless-mosaic"))
    again = mosaic(tmp_path, found, client)
    after = json.loads((again.output / "failures.json").read_text())["corrected"]
    assert [(e["item"], e["asset"]) for e in after] == [(e["item"], e["asset"]) for e in before]


def test_the_lazy_door_says_what_it_puts_right(served: tuple[Path, str]) -> None:
    wrong = item(served[1], WRONG["a tile further"])
    items = eo.ItemSet((wrong,), stac=served[1], collection="sentinel-2-l2a")
    with pytest.warns(UserWarning, match=r"2 assets of 1 item \(.*\) lie elsewhere than the items say"):
        cube = eo.load(items, ["red"], geobox=GeoBox(SHAPE, Affine(*TRUE), CRS))
    found = cube.red.isel(time=0).compute(scheduler="synchronous")
    np.testing.assert_allclose(found, RED * 1e-4, rtol=1e-6)


@pytest.mark.cluster
def test_an_item_that_is_right_is_not_corrected(served: tuple[Path, str], client: Client, tmp_path: Path) -> None:
    near = (10.0, 0.0, 500_000.05, 0.0, -10.0, 4_601_999.95)  # half a hundredth of a pixel
    run = mosaic(tmp_path, item(served[1], near), client)
    assert "eoap:corrected_grids" not in run.items[0]["properties"]


def test_the_lazy_door_refuses_with_the_same_words(served: tuple[Path, str]) -> None:
    items = eo.ItemSet(
        (item(served[1], WRONG["half a pixel to the right"]),), stac=served[1], collection="sentinel-2-l2a"
    )
    geobox = GeoBox(SHAPE, Affine(*TRUE), CRS)
    cube = eo.load(items, ["red"], geobox=geobox)
    with pytest.raises(
        ContradictionError, match=r"lies at \(500000, 4602000\).* but its item says \(500005, 4602000\)"
    ):
        cube.red.compute(scheduler="synchronous")


# Headers.


def source(href: str, transform: tuple[float, ...] = TRUE, crs: str = CRS) -> Source:
    return Source("B04", href, crs, transform, SHAPE, 0, 0)  # type: ignore[arg-type]


PLACES = {
    "scale and tie point": {},
    "a rotated grid": {"transform": Affine(8, 6, 5e5, 6, -8, 46e5)},
    "no place": {"transform": None, "crs": None},
    "a CRS without a code": {"crs": "+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84"},
    "degrees": {"crs": "EPSG:4326", "transform": Affine(1e-4, 0, 15, 0, -1e-4, 41)},
    "centres of pixels": {"AREA_OR_POINT": "Point"},
    "another ellipsoid without a code": {"crs": "+proj=utm +zone=32 +ellps=GRS80 +units=m +no_defs"},
    "heights too": {"crs": "EPSG:32633+5773"},
}


@pytest.mark.parametrize("name", PLACES)
def test_both_readers_find_the_same_place(tmp_path: Path, name: str) -> None:
    more = dict(PLACES[name])
    point = more.pop("AREA_OR_POINT", None)
    path = tmp_path / "file.tif"
    write(path, RED, **more)
    if point:
        with rasterio.open(path, "r+") as file:
            file.update_tags(AREA_OR_POINT="Point")
    with rasterio.open(path) as file:
        told = tuple(float(v) for v in tuple(file.transform)[:6])
        code = file.crs.to_epsg() if file.crs else None
    grids = []
    for reader in (TileReader(NoSigner(), Retry()), GdalReader(NoSigner(), Retry())):
        raster = reader.open(source(str(path)), "item")
        grids.append(raster.grid)
        raster.close()
    assert grids[0] == grids[1] == FileGrid(f"EPSG:{code}" if code else None, None if name == "no place" else told)


@settings(max_examples=200)
@given(
    st.floats(-0.5, 0.5),
    st.floats(-0.5, 0.5),
    st.sampled_from([10.0, 20.0, 60.0, 1e-4]),
)
def test_a_hundredth_of_a_pixel_is_the_limit(right: float, down: float, side: float) -> None:
    """Along a diagonal the distance counts."""
    true = (side, 0.0, 100.0, 0.0, -side, 200.0)
    told = (side, 0.0, 100.0 + right * side, 0.0, -side, 200.0 - down * side)
    fault = contradiction(source("x.tif", told), "item", FileGrid(CRS, true))
    off = math.hypot(right, down)
    if abs(off - NEAR) > 1e-6:
        assert (fault is not None) == (off > NEAR)


@pytest.mark.parametrize("grid", [FileGrid(), FileGrid(CRS), FileGrid(None, TRUE), FileGrid(CRS, TRUE)])
def test_what_a_file_does_not_tell_contradicts_nothing(grid: FileGrid) -> None:
    assert contradiction(source("x.tif"), "item", grid) is None
    assert contradiction(source("x.tif", crs="epsg:32633"), "item", grid) is None


@pytest.mark.cluster
@pytest.mark.parametrize(("shift", "told"), [(0, False), (-1950, True)])
def test_an_offset_that_was_taken_off_twice_is_said(
    served: tuple[Path, str], client: Client, tmp_path: Path, shift: int, told: bool
) -> None:
    """With 1950 less, and 1000 taken off by the baseline, most of red (2000 to 3194) is at the lowest value."""
    root, url = served
    write(root / f"red{shift}.tif", (RED.astype(np.int32) + shift).clip(1).astype(np.uint16))
    found = item(url)
    found["properties"]["s2:processing_baseline"] = "05.00"
    found["assets"]["B04"]["href"] = f"{url}/red{shift}.tif"
    run = mosaic(tmp_path, found, client)
    assert ("eoap:lowest_percent" in run.items[0]["properties"]) == told
    with rasterio.open(run.output / "monthly-mosaic-2021-07" / "monthly-mosaic-2021-07.tif") as file:
        pixels = file.read(1)
    share = 100 * (pixels == 1).sum() / (pixels > 0).sum()
    assert (share > 25) == told
    if told:
        assert run.items[0]["properties"]["eoap:lowest_percent"] == round(share, 2)
    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter("always")
        cube = eo.load([found], ["red"], aoi=AREA, resolution=10, cloud_mask="scl", stac=url)
        cube.compute(scheduler="threads")
    said = [str(one.message) for one in heard if "taken off twice" in str(one.message)]
    assert bool(said) == told
    assert all(found["id"] in one for one in said)


def test_clouds_at_the_lowest_value_are_not_told(served: tuple[Path, str]) -> None:
    root, url = served
    write(root / "low.tif", np.full(SHAPE, 1, np.uint16))
    write(root / "clouds.tif", np.full(SHAPE, 9, np.uint8))
    found = item(url, assets={"B04": {"href": f"{url}/low.tif"}, "SCL": {"href": f"{url}/clouds.tif"}})
    with warnings.catch_warnings():
        warnings.simplefilter("error", UserWarning)
        red = eo.load([found], ["red"], aoi=AREA, resolution=10, stac=url)["red"].compute(scheduler="threads")
    assert np.nanmax(red) == np.float32(1e-4)


@pytest.mark.parametrize("lacks", [(), ("geometry", "bbox")])
def test_a_scene_beside_the_area_is_looked_at_however_close(served: tuple[Path, str], lacks: tuple[str, ...]) -> None:
    """A grid that is told 15 m too far east leaves out the strip in which the area lies; the file shows it."""
    found = item(served[1], (10.0, 0.0, 500_015.0, 0.0, -10.0, 4_602_000.0))
    for key in lacks:
        found[key] = None
    strip = GeoBox((200, 1), Affine(*TRUE), CRS)
    with pytest.warns(UserWarning, match="elsewhere"):
        cube = eo.load([found], ["red"], geobox=strip, stac=served[1])
    np.testing.assert_allclose(cube["red"][0, :, 0].compute(scheduler="threads"), RED[:, 0] / 1e4, rtol=1e-6)


def test_a_scene_whose_file_lies_beside_the_area_too_stays_outside(served: tuple[Path, str]) -> None:
    found = item(served[1])
    found["geometry"] = found["bbox"] = None
    beside = GeoBox((200, 1), Affine(*TRUE) * Affine.translation(-1, 0), CRS)
    with pytest.raises(eo.NothingFoundError, match="No item touches the grid"):
        eo.load([found], ["red"], geobox=beside, stac=served[1])


@pytest.mark.parametrize(("scale", "ties"), [((10.0, -10.0, 0.0), 1), ((10.0, 10.0, 0.0), 2)])
def test_odd_tie_points_and_scales_are_read_as_gdal_does(tmp_path: Path, scale: tuple[float, ...], ties: int) -> None:
    path = tmp_path / "file.tif"
    points = [(0.0, 0.0, 0.0, 5e5, 46e5, 0.0), (10.0, 10.0, 0.0, 500_100.0, 4_599_900.0, 0.0)][:ties]
    place = [(33550, "d", 3, scale, True), (33922, "d", 6 * ties, sum(points, ()), True)]
    tifffile.imwrite(path, RED, tile=(64, 64), compression="zlib", extratags=place, metadata=None)
    found = [
        reader.open(source(str(path)), "item").grid.transform
        for reader in (TileReader(NoSigner(), Retry()), GdalReader(NoSigner(), Retry()))
    ]
    assert found[0] == (10.0, 0.0, 5e5, 0.0, -10.0, 46e5)
    if ties == 1:
        assert found[1] == found[0]
