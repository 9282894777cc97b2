"""stackstac and odc-stac behind the lazy door: our grid, passes and reflectance, and nearly our pixels."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import dask
import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin

from eoap_dask import ItemSet
from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError, GridError, UsageError
from eoap_dask.lazy.composites import composite
from eoap_dask.lazy.cube import load, mask_clouds, search
from eoap_dask.lazy.loaders.planes import LOADERS, foreign_planes
from eoap_dask.readers.choose import make_reader
from eoap_dask.render.stack import Stack
from eoap_dask.scenes.model import Pass, Scene, Source

BANDS = ("nir", "red")


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    root = tmp_path_factory.mktemp("foreign") / "demo"
    # items of new and of old processing, whose numbers are shifted differently
    return make_archive(root, size_px=512, resolution_m=10.0, months=("2020-10",), dates_per_month=3, bands=BANDS)


@pytest.fixture(scope="module")
def served(archive: Archive) -> Iterator[ServerProcess]:
    with ServerProcess(archive) as server:
        yield server


@pytest.fixture(scope="module")
def items(archive: Archive, served: ServerProcess) -> ItemSet:
    box = ",".join(map(str, archive.aoi_bbox))
    return search(box, "2020-10-01", "2020-10-31", stac=served.url, collection=archive.collection)


def ring(archive: Archive) -> dict[str, object]:
    west, south, east, north = archive.aoi_bbox
    line = [(0.1, 0.1), (0.9, 0.2), (0.6, 0.9), (0.1, 0.1)]
    return {
        "type": "Polygon",
        "coordinates": [[[west + (east - west) * x, south + (north - south) * y] for x, y in line]],
    }


def refuse(*_: object, **__: object) -> None:
    raise AssertionError("something computed")


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("area", ["box", "ring"])
def test_they_agree_with_us_but_for_a_few_pixels(archive: Archive, items: ItemSet, loader: str, area: str) -> None:
    aoi = ring(archive) if area == "ring" else ",".join(map(str, archive.aoi_bbox))
    ours = load(items, BANDS, aoi=aoi, resolution=10, raw=True, chunks={"y": 300, "x": 400})
    with dask.config.set(scheduler=refuse):
        cube = load(items, BANDS, aoi=aoi, resolution=10, raw=True, chunks={"y": 300, "x": 400}, loader=loader)
    assert cube.chunks == ours.chunks
    xr.testing.assert_equal(cube.coords.to_dataset(), ours.coords.to_dataset())
    assert [str(v.dtype) for v in cube.data_vars.values()] == [str(v.dtype) for v in ours.data_vars.values()]
    with dask.config.set(scheduler="threads", num_workers=4):
        cube, ours = dask.compute(cube, ours)
    for name in (*BANDS, "cloud_mask"):
        one, other = ours[name].to_numpy(), cube[name].to_numpy()
        assert one.any()
        assert one.dtype == other.dtype
        # where a pixel's centre lies near the edge of two of the source's, they may take the other one
        assert (one != other).mean() < 0.001, name
    outside = (ours[BANDS[0]].to_numpy() == 0).all(axis=0)
    if area == "ring":
        assert 0.3 < outside.mean() < 0.9
        assert (cube[BANDS[0]].to_numpy()[:, outside] == 0).mean() > 0.99


@pytest.mark.parametrize("loader", LOADERS)
def test_aligned_pixels_are_the_same(archive: Archive, items: ItemSet, loader: str) -> None:
    # on the source's own grid nobody has to place anything; the other zone's scenes are left out
    tile = archive.tiles[0]
    names = (tile.epsg, f"EPSG:{tile.epsg}")
    found = [f for f in items.features if {f["properties"].get(k) for k in ("proj:epsg", "proj:code")} & set(names)]
    one_zone = ItemSet(**{**vars(items), "features": found})
    assets = found[0]["assets"]
    place = next(a for a in assets.values() if a.get("proj:shape") == [512, 512])
    a, _, c, _, e, f = place["proj:transform"][:6]
    geobox = GeoBox((300, 310), Affine(a, 0, c + 60 * a, 0, e, f + 40 * e), f"EPSG:{tile.epsg}")
    mine = composite(mask_clouds(load(one_zone, BANDS, geobox=geobox))).compute()
    theirs = composite(mask_clouds(load(one_zone, BANDS, geobox=geobox, loader=loader))).compute()
    assert np.isfinite(mine["red"]).mean() > 0.2
    xr.testing.assert_identical(mine, theirs)


def test_a_loader_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, archive: Archive, items: ItemSet) -> None:
    aoi = ",".join(map(str, archive.aoi_bbox))
    with pytest.raises(UsageError, match=r"There is no loader 'gdal'\. Expected eoap-dask, stackstac or odc-stac\."):
        load(items, BANDS, aoi=aoi, loader="gdal")  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "odc.stac", None)
    with pytest.raises(UsageError, match=r"odc-stac isn't installed\..*pip install 'eoap-dask\[odc\]'"):
        load(items, BANDS, aoi=aoi, loader="odc-stac")


def test_a_grid_that_stackstac_does_not_know_is_told(items: ItemSet, archive: Archive) -> None:
    aoi = ",".join(map(str, archive.aoi_bbox))
    ours = load(items, BANDS, aoi=aoi, resolution=10)
    south_up = GeoBox(
        (20, 20),
        Affine(10, 0, ours.odc.geobox.transform.c, 0, 10, ours.odc.geobox.transform.f - 3000),
        ours.odc.geobox.crs,
    )
    with pytest.raises(GridError, match="stackstac doesn't support this grid"):
        load(items, BANDS, geobox=south_up, loader="stackstac")


@pytest.mark.parametrize("loader", LOADERS)
def test_an_asset_that_is_missing_fails(archive: Archive, loader: str) -> None:
    box = ",".join(map(str, archive.aoi_bbox))
    # a server of its own, for GDAL remembers what it has read of another
    with ServerProcess(archive, faults={"B04.tif": "404"}) as server, dask.config.set(scheduler="threads"):
        found = search(box, "2020-10-01", "2020-10-31", stac=server.url, collection=archive.collection)
        cube = load(found, BANDS, aoi=box, resolution=40, loader=loader)
        with pytest.raises(AssetError, match=r"B04.* can't be read: the server answered 404"):
            cube.compute()


class Signs:
    def sign(self, href: str, *, fresh: bool = False) -> str:
        return f"{href}?sig=SECRET&se=1"


@pytest.mark.parametrize("loader", LOADERS)
@pytest.mark.parametrize("path", ["virtual.tif", "none.tif"])
def test_no_local_file_is_read_and_no_signature_shown(
    loader: str, path: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    place = from_origin(500_000, 5_000_000, 10, 10)
    form = {"driver": "GTiff", "width": 64, "height": 64, "count": 1, "dtype": "uint16"}
    with rasterio.open(tmp_path / "private.tif", "w", crs="EPSG:32631", transform=place, **form) as file:
        file.write(np.full((64, 64), 4242, np.uint16), 1)
    vrt = (
        '<VRTDataset rasterXSize="64" rasterYSize="64"><SRS>EPSG:32631</SRS>'
        "<GeoTransform>500000,10,0,5000000,0,-10</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{tmp_path / "private.tif"}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )

    class Serve(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = vrt.encode() if "virtual" in self.path else b""
            self.send_response(200 if body else 403)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(b"" if self.command == "HEAD" else body)

        do_HEAD = do_GET  # noqa: N815

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Serve) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        href = f"http://127.0.0.1:{server.server_port}/{path}"
        source = Source("B04", href, "EPSG:32631", tuple(place)[:6], (64, 64), 0, 0)
        when = datetime(2020, 1, 1, tzinfo=UTC)
        scene = Scene("s", "", when, "p", "", (0, 0), (source,), None, ())
        geobox = GeoBox((64, 64), place, "EPSG:32631")
        stack = Stack(geobox, (Pass("p", when, (scene,)),), 1, None, None, make_reader("auto", Signs()))
        planes = foreign_planes(loader, stack, Signs(), {}, 1024)
        with pytest.raises(AssetError, match=path) as caught:
            planes.compute(scheduler="sync")
        server.shutdown()
    assert "SECRET" not in "".join(traceback.format_exception(caught.value))
    assert "SECRET" not in caplog.text
