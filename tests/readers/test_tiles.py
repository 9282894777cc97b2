"""The tile reader: the pixels that GDAL reads, of files of all kinds, and no byte more than they need."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from itertools import count, pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st
from tests.support.files import needed, ramp, source, write_gdal, write_tifffile

from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError
from eoap_dask.geo.window import Window
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.readers import tiles as tile_reader
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.tiff import FIRST_BYTES, LZW, Level
from eoap_dask.readers.tiles import TileRaster, TileReader

HERE = frozenset({"127.0.0.1"})
NUMBERS = count()
QUICK = Retry(attempts=2, backoff_s=0.01)
PLACE: dict[str, Any] = {"height": 70, "width": 90, "transform": rasterio.Affine(10, 0, 5e5, 0, -10, 5e6)}
READER = TileReader(NoSigner(), QUICK, HERE)
GDAL = GdalReader(NoSigner(), QUICK, HERE)

settings.register_profile("files", deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
FILES = settings(settings.get_profile("files"), max_examples=40)


@pytest.fixture(autouse=True)
def forget() -> Iterator[None]:
    """Nothing is known from earlier tests."""
    tile_reader._HEADERS.clear()
    tile_reader._TILES.clear()
    tile_reader._PACKED.clear()
    yield
    assert not tile_reader._HEADERS._making
    assert not tile_reader._TILES._making


def is_lean(raster: TileRaster) -> bool:
    assert raster.shapes
    return raster._other is None


def windows(shape: tuple[int, int]) -> st.SearchStrategy[Window]:
    rows = st.tuples(st.integers(0, shape[0]), st.integers(0, shape[0])).filter(lambda v: v[0] != v[1])
    cols = st.tuples(st.integers(0, shape[1]), st.integers(0, shape[1])).filter(lambda v: v[0] != v[1])
    return st.builds(lambda r, c: Window(*sorted(r), *sorted(c)), rows, cols)


def assert_same(path: Path, shape: tuple[int, int], data: st.DataObject, *, lean_too: bool = True) -> None:
    """Read some windows with both readers, into some types."""
    ours, theirs = READER.open(source(path, shape), "item"), GDAL.open(source(path, shape), "item")
    assert ours.shapes == theirs.shapes
    assert is_lean(ours) == lean_too
    for _ in range(4):
        level = data.draw(st.integers(0, len(ours.shapes) - 1), "level")
        window = data.draw(windows(ours.shapes[level]), "window")
        dtype = data.draw(st.sampled_from((np.uint16, np.uint8, np.int16)), "dtype")
        got, expected = np.full(window.shape, 99, dtype), np.zeros(window.shape, dtype)
        ours.read(level, window, got, is_shared=data.draw(st.booleans(), "is_shared"))
        theirs.read(level, window, expected)
        np.testing.assert_array_equal(got, expected)
    ours.close()
    theirs.close()


sides = st.integers(1, 400)


@FILES
@given(
    data=st.data(),
    height=sides,
    width=sides,
    dtype=st.sampled_from(("uint8", "uint16", "int16")),
    compress=st.sampled_from(("DEFLATE", "ZSTD", "LZW", "NONE")),
    predictor=st.sampled_from((1, 2)),
    tile=st.tuples(st.sampled_from((16, 64, 112, 256)), st.sampled_from((16, 48, 128, 256))),
    levels=st.integers(0, 4),
    nodata=st.sampled_from((None, 0, 7, 200)),
    bigtiff=st.sampled_from(("YES", "NO")),
    sparse=st.booleans(),
    mask=st.booleans(),
)
def test_pixels_are_gdals(tmp_path: Path, data: st.DataObject, height: int, width: int, dtype: str, **how: Any) -> None:
    pixels = ramp(height, width, dtype, seed=height)
    if how["sparse"]:
        empty = how["nodata"] or 0
        pixels[: height // 2] = empty
        pixels[:, width // 3 :] = empty
    options = {"tiled": True, "blockysize": how["tile"][0], "blockxsize": how["tile"][1], "compress": how["compress"]}
    if how["compress"] != "NONE":
        options["predictor"] = how["predictor"]
    path = tmp_path / f"{next(NUMBERS)}.tif"
    with rasterio.Env(GDAL_TIFF_INTERNAL_MASK=True):
        write_gdal(
            path,
            pixels,
            levels=how["levels"],
            nodata=how["nodata"],
            bigtiff=how["bigtiff"],
            sparse_ok=how["sparse"],
            **options,
        )
        is_masked = how["mask"] and how["nodata"] is None
        if is_masked:
            with rasterio.open(path, "r+") as dataset:
                dataset.write_mask(pixels > 50)
    assert_same(path, (height, width), data, lean_too=not is_masked)
    if is_masked:
        whole, raster = np.empty(pixels.shape, pixels.dtype), READER.open(source(path, (height, width)), "item")
        raster.read(0, Window(0, height, 0, width), whole)
        raster.close()
        np.testing.assert_array_equal(whole, np.where(pixels > 50, pixels, 0))


@FILES
@given(
    data=st.data(),
    height=st.integers(1, 1300),
    width=st.integers(1, 1300),
    compress=st.sampled_from(("DEFLATE", "ZSTD", "LZW", "NONE")),
    sparse=st.booleans(),
)
def test_pixels_of_cogs_are_gdals(
    tmp_path: Path, data: st.DataObject, height: int, width: int, compress: str, sparse: bool
) -> None:
    pixels = ramp(height, width)
    pixels[height // 3 :, : width // 2] = 0
    path = tmp_path / f"{next(NUMBERS)}.tif"
    write_gdal(path, pixels, driver="COG", compress=compress, blocksize=128, nodata=0, sparse_ok=sparse, predictor=2)
    assert_same(path, (height, width), data)


@FILES
@given(
    data=st.data(),
    height=sides,
    width=sides,
    dtype=st.sampled_from((np.uint8, np.uint16, np.int16)),
    compression=st.sampled_from(("zlib", "zstd", "lzw", None)),
    predictor=st.booleans(),
    tile=st.tuples(st.sampled_from((16, 64, 96)), st.sampled_from((16, 80, 512))),
    levels=st.integers(1, 3),
    bigtiff=st.booleans(),
)
def test_pixels_of_tifffiles_are_gdals(
    tmp_path: Path, data: st.DataObject, height: int, width: int, dtype: Any, predictor: bool, levels: int, **how: Any
) -> None:
    pixels = ramp(height, width, dtype)
    path = tmp_path / f"{next(NUMBERS)}.tif"
    # overviews whose sides are rounded down
    images = [pixels[: max(height >> n, 1), : max(width >> n, 1)] for n in range(levels)]
    assume(all(a.shape != b.shape for a, b in pairwise(images)))
    write_tifffile(path, *images, predictor=2 if predictor and how["compression"] else None, **how)
    assert_same(path, (height, width), data)


@pytest.mark.parametrize("name", ["striped", "float", "two bands", "big-endian", "jpeg", "lerc", "int32", "packbits"])
def test_other_files_are_gdals_to_read(tmp_path: Path, name: str) -> None:
    pixels, path = ramp(70, 90, np.uint8), tmp_path / "file.tif"
    tiles = {"tiled": True, "blockxsize": 32, "blockysize": 32}
    if name == "striped":
        write_gdal(path, pixels)
    elif name == "float":
        write_gdal(path, pixels.astype(np.float32), **tiles)
    elif name == "two bands":
        with rasterio.open(path, "w", driver="GTiff", count=2, dtype="uint8", **PLACE, **tiles) as dataset:
            dataset.write(np.stack([pixels, 255 - pixels]))
    elif name == "big-endian":
        write_gdal(path, pixels.astype(np.uint16), endianness="BIG", **tiles)
    elif name == "int32":
        write_gdal(path, pixels.astype(np.int32), **tiles)
    else:
        write_gdal(path, pixels, compress=name.upper(), **tiles)
    raster = READER.open(source(path, (70, 90)), "item")
    out = np.empty((30, 40), np.uint8)
    if name == "float":
        with pytest.raises(AssetError, match="has float32 pixels, but must have integers"):
            raster.read(0, Window(20, 50, 30, 70), out)
        return
    assert not is_lean(raster)
    raster.read(0, Window(20, 50, 30, 70), out)
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(out, dataset.read(1)[20:50, 30:70])


def test_jpeg_2000_is_gdals_to_read(tmp_path: Path) -> None:
    path = tmp_path / "B04.jp2"
    with rasterio.open(
        path, "w", driver="JP2OpenJPEG", count=1, dtype="uint16", quality=100, reversible=True, **PLACE
    ) as dataset:
        dataset.write(ramp(70, 90), 1)
    raster = READER.open(source(path, (70, 90)), "item")
    out = np.empty((70, 90), np.uint16)
    raster.read(0, Window(0, 70, 0, 90), out)
    assert raster._other is not None
    np.testing.assert_array_equal(out, ramp(70, 90))


def test_it_fills_what_is_not_contiguous(tmp_path: Path) -> None:
    path = write_tifffile(tmp_path / "a.tif", ramp(200, 200), compression="zlib")
    whole = np.full((300, 300), 7, np.uint16)
    for reader in (READER, GDAL):
        reader.open(source(path, (200, 200)), "item").read(0, Window(10, 110, 20, 190), whole[5:105, 50:220])
        np.testing.assert_array_equal(whole[5:105, 50:220], ramp(200, 200)[10:110, 20:190])
        assert (whole[:5] == 7).all()
        assert (whole[:, :50] == 7).all()


# ----------------------------------------------------------------------------------------------------
# Over HTTP: which bytes


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with ServerProcess(Catalogue(tmp_path_factory.mktemp("served"), [], "sentinel-2-l2a")) as running:
        yield running


def root(server: ServerProcess) -> Path:
    return Path(server.catalogue.root)


KINDS: dict[str, Any] = {
    "cog": lambda path, pixels: write_gdal(path, pixels, driver="COG", compress="DEFLATE", blocksize=128, predictor=2),
    "sparse": lambda path, pixels: write_gdal(
        path, np.where(pixels > 9000, pixels, 0).astype(np.uint16), driver="COG", blocksize=128, sparse_ok=True
    ),
    "gdal": lambda path, pixels: write_gdal(path, pixels, levels=3, tiled=True, blockxsize=64, blockysize=64),
    "tifffile": lambda path, pixels: write_tifffile(path, pixels, pixels[::2, ::2], compression="zlib"),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("level", "rows", "cols"),
    [(0, (0, 1), (0, 1)), (0, (250, 700), (300, 420)), (0, (0, 900), (0, 1000)), (1, (100, 300), (9, 480))],
)  # fmt: skip
def test_only_headers_and_needed_tiles_are_fetched(
    server: ServerProcess, kind: str, level: int, rows: tuple[int, int], cols: tuple[int, int]
) -> None:
    path = root(server) / f"{kind}.tif"
    if not path.exists():
        KINDS[kind](path, ramp(900, 1000))
    server.stats.reset()
    raster = READER.open(source(f"{server.files_url}/{path.name}", (900, 1000)), "item")
    assert is_lean(raster)
    header = server.stats.ranges[path.name]
    # one request where the header comes first, and a few small ones where its parts lie apart
    assert header[0] == (0, min(FIRST_BYTES, path.stat().st_size))
    assert len(header) <= 1 if kind in ("cog", "sparse") else len(header) <= 8
    assert sum(stop - start for start, stop in header) <= 8 * FIRST_BYTES
    server.stats.reset()
    out = np.zeros((rows[1] - rows[0], cols[1] - cols[0]), np.uint16)
    raster.read(level, Window(*rows, *cols), out)
    wanted = needed(path, level, rows, cols)
    fetched = server.stats.ranges.get(path.name, [])
    got = {byte for start, stop in fetched for byte in range(start, stop)}
    assert wanted <= got
    assert sum(stop - start for start, stop in fetched) == len(got)  # none twice
    # GDAL's own 8 bytes between two tiles of a COG are cheaper fetched than left out
    beside = got - wanted
    assert len(beside) <= (8 * len(wanted) // 100 if kind in ("cog", "sparse") else 0)
    for start, stop in fetched:
        assert {start, stop - 1} <= wanted
    with rasterio.open(path, **({"overview_level": level - 1} if level else {})) as dataset:
        np.testing.assert_array_equal(out, dataset.read(1)[slice(*rows), slice(*cols)])


def test_tiles_that_are_not_there_are_not_asked_for(server: ServerProcess) -> None:
    path = root(server) / "empty.tif"
    pixels = np.full((300, 300), 7, np.uint16)
    write_gdal(path, pixels, driver="COG", blocksize=128, sparse_ok=True, nodata=7)
    raster = READER.open(source(f"{server.files_url}/{path.name}", (300, 300)), "item")
    out = np.zeros((300, 300), np.uint16)
    server.stats.reset()
    raster.read(0, Window(0, 300, 0, 300), out)
    assert (out == 7).all()
    assert server.stats.requests == 1  # the header


def test_neighbours_share_the_tiles_between_them(server: ServerProcess) -> None:
    path = write_tifffile(root(server) / "shared.tif", ramp(512, 512), compression="zlib", tile=(128, 128))
    raster = READER.open(source(f"{server.files_url}/{path.name}", (512, 512)), "item")
    assert raster.shapes
    server.stats.reset()
    out = np.zeros((512, 512), np.uint16)
    for row, row_stop in ((0, 200), (200, 512)):
        for col, col_stop in ((0, 300), (300, 512)):
            view = out[row:row_stop, col:col_stop]
            raster.read(0, Window(row, row_stop, col, col_stop), view, Window(0, 512, 0, 512))
    np.testing.assert_array_equal(out, ramp(512, 512))
    fetched = server.stats.ranges[path.name]
    assert sum(stop - start for start, stop in fetched) == len(needed(path, 0, (0, 512), (0, 512)))
    assert len(tile_reader._TILES) == 0  # each was used up


def test_units_share_tiles_as_they_are_in_the_file(server: ServerProcess) -> None:
    """Windows that know nothing of each other, as chips of two cells do: each tile is fetched once, and kept small."""
    pixels = ramp(512, 512) // 64
    path = write_tifffile(root(server) / "units.tif", pixels, compression="zlib", tile=(128, 128))
    item = source(f"{server.files_url}/{path.name}", (512, 512))
    server.stats.reset()
    tiles: set[int] = set()
    for row, col in ((0, 0), (100, 60), (40, 200), (0, 0)):
        tiles |= needed(path, 0, (row, row + 200), (col, col + 200))
        out = np.zeros((200, 200), np.uint16)
        READER.open(item, "item").read(0, Window(row, row + 200, col, col + 200), out, is_shared=True)
        np.testing.assert_array_equal(out, pixels[row : row + 200, col : col + 200])
    fetched = [part for part in server.stats.ranges[path.name] if part[0] >= 200]  # not the header
    assert sum(stop - start for start, stop in fetched if start in tiles) == len(tiles)
    assert len(tile_reader._PACKED) == 11  # of 3 by 4: nobody needs the last one
    assert tile_reader._PACKED.size == len(tiles) < 11 * 128 * 128 * 2 / 4
    assert len(tile_reader._TILES) == 0  # no window of these units needs any once more
    raster = READER.open(item, "item")
    raster.read(0, Window(0, 100, 0, 100), np.zeros((100, 100), np.uint16), Window(0, 200, 0, 200))
    assert (len(tile_reader._PACKED), len(tile_reader._TILES)) == (0, 1)  # what others decode gets the room


def test_threads_of_several_units_fetch_a_tile_once(tmp_path: Path) -> None:
    path = write_tifffile(tmp_path / "slow.tif", ramp(256, 256), compression="zlib", tile=(256, 256))
    start = threading.Barrier(4)

    def read(_: int) -> bool:
        out = np.zeros((100, 100), np.uint16)
        start.wait()
        READER.open(item, "item").read(0, Window(50, 150, 50, 150), out, is_shared=True)
        return bool((out == ramp(256, 256)[50:150, 50:150]).all())

    with ServerProcess(Catalogue(tmp_path, [], "sentinel-2-l2a"), latency_s=0.3) as slow:
        item = source(f"{slow.files_url}/{path.name}", (256, 256))
        with ThreadPoolExecutor(4) as pool:
            assert all(pool.map(read, range(4)))
        tiles = needed(path, 0, (50, 150), (50, 150))
        parts = [part for part in slow.stats.ranges[path.name] if part[0] in tiles]
        assert sum(stop - start for start, stop in parts) == len(tiles)


def test_what_units_share_and_what_they_do_not_stay_within_their_room(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tile_reader, "TILES_BYTES", 200_000)
    monkeypatch.setattr(tile_reader, "PACKED_BYTES", 100_000)
    monkeypatch.setattr(tile_reader._TILES, "capacity", 200_000)
    monkeypatch.setattr(tile_reader._PACKED, "capacity", 100_000)
    noise = np.random.default_rng(1).integers(1, 60_000, (512, 512), np.uint16)
    path = write_tifffile(tmp_path / "noise.tif", noise, compression="zlib", tile=(128, 128))
    raster = READER.open(source(path, (512, 512)), "item")
    for number in range(24):
        row, col = 128 * (number % 4), 128 * (number // 4 % 4)
        out = np.zeros((64, 64), np.uint16)
        window = Window(row, row + 64, col, col + 64)
        raster.read(0, window, out, Window(0, 512, 0, 512), is_shared=number % 3 > 0)
        np.testing.assert_array_equal(out, noise[row : row + 64, col : col + 64])
        assert tile_reader._TILES.size + tile_reader._PACKED.size <= 200_000
    assert tile_reader._PACKED.size


def test_threads_share_the_tiles_between_them(server: ServerProcess) -> None:
    path = write_tifffile(root(server) / "threads.tif", ramp(512, 512), compression="zlib", tile=(128, 128))
    item = source(f"{server.files_url}/{path.name}", (512, 512))
    out = np.zeros((512, 512), np.uint16)
    start = threading.Barrier(8)

    def read(number: int) -> None:
        start.wait()
        rows = slice(number * 64, number * 64 + 64)
        READER.open(item, "item").read(0, Window(rows.start, rows.stop, 0, 512), out[rows], Window(0, 512, 0, 512))

    server.stats.reset()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read, range(8)))
    np.testing.assert_array_equal(out, ramp(512, 512))
    fetched = server.stats.ranges[path.name]
    tiles = needed(path, 0, (0, 512), (0, 512))
    assert sum(stop - start for start, stop in fetched if start in tiles) == len(tiles)
    with tifffile.TiffFile(path) as tiff:
        assert sum(start == 0 for start, _ in fetched) == 1  # one header for all
        assert len(tiff.pages[0].dataoffsets) == 16


def test_a_thread_that_fails_leaves_the_others_their_tiles(server: ServerProcess) -> None:
    path = write_tifffile(root(server) / "halves.tif", ramp(256, 256), compression="zlib", tile=(256, 256))
    whole = Window(0, 256, 0, 256)
    item = source(f"{server.files_url}/{path.name}", (256, 256))
    impatient = TileReader(NoSigner(), Retry(attempts=1), HERE)
    assert impatient.open(item, "item").shapes == ((256, 256),)
    server.faults = {"halves": "500-then-ok:3"}  # which is waited for twice
    out = np.zeros((256, 256), np.uint16)
    with pytest.raises(AssetError, match="500"):
        impatient.open(item, "item").read(0, Window(0, 100, 0, 256), out[:100], whole)
    for rows in (slice(0, 100), slice(100, 256)):
        READER.open(item, "item").read(0, Window(rows.start, rows.stop, 0, 256), out[rows], whole)
    np.testing.assert_array_equal(out, ramp(256, 256))


@pytest.mark.parametrize("rest", [Window(0, 300, 0, 300), None])
def test_a_file_that_was_replaced_is_read_anew(server: ServerProcess, rest: Window | None) -> None:
    """Also where header and tiles have the same places as before, and some of the tiles are kept."""
    path = root(server) / "replaced.tif"
    item = source(f"{server.files_url}/{path.name}", (300, 300))
    out, part = np.zeros((300, 300), np.uint16), np.zeros((200, 200), np.uint16)
    for number, how in enumerate(({}, {}, {"compression": "lzw", "tile": (32, 32)})):
        pixels = ramp(300, 300, seed=number)
        write_tifffile(path, pixels, **how)
        os.utime(path, (number, number))
        READER.open(item, "item").read(0, Window(0, 200, 0, 200), part, rest)
        np.testing.assert_array_equal(part, pixels[:200, :200])
        READER.open(item, "item").read(0, Window(0, 300, 0, 300), out, rest)
        np.testing.assert_array_equal(out, pixels)


def test_an_item_of_a_new_version_is_read_anew(server: ServerProcess) -> None:
    """Also where its server tells nothing: what is kept is kept for the version."""
    path = write_tifffile(root(server) / "version.tif", ramp(300, 300))
    old = replace(source(f"{server.files_url}/{path.name}", (300, 300)), version="1")
    assert READER.open(old, "item").shapes == READER.open(replace(old, version="1"), "item").shapes
    assert len(tile_reader._HEADERS) == 1
    assert READER.open(replace(old, version="2"), "item").shapes == ((300, 300),)
    assert len(tile_reader._HEADERS) == 2


def test_the_pixels_of_two_files_are_not_mixed(server: ServerProcess) -> None:
    path = write_tifffile(root(server) / "mixed.tif", ramp(300, 300))
    raster = READER.open(source(f"{server.files_url}/{path.name}", (300, 300)), "item")
    out = np.zeros((100, 300), np.uint16)
    raster.read(0, Window(0, 100, 0, 300), out)
    write_tifffile(path, ramp(300, 300, seed=1))
    os.utime(path, (1, 1))
    with pytest.raises(AssetError, match="'B04' of item 'item' was replaced while it was read"):
        raster.read(0, Window(100, 200, 0, 300), out)


# ----------------------------------------------------------------------------------------------------
# Bytes that are no tile


def level_of(compression: int = 8, dtype: Any = np.uint16) -> Level:
    one = np.ones(1, np.uint64)
    return Level((64, 64), (64, 64), np.dtype(dtype), compression, 1, 0, one, one)


@pytest.mark.parametrize("compression", [1, LZW, 8, 50000])
@FILES
@given(body=st.binary(max_size=9000))
def test_random_bytes_are_no_tile(compression: int, body: bytes) -> None:
    out = np.zeros((64, 64), np.uint16)
    if compression == 1 and len(body) >= out.nbytes:
        body = body[: out.nbytes - 1]
    with pytest.raises(tile_reader.RetryableReadError, match="decoded"):
        tile_reader.unpack(memoryview(body), level_of(compression), out, slice(None))


@pytest.mark.parametrize("name", ["deflate", "zstd", "lzw"])
@pytest.mark.parametrize("change", ["cut", "short", "bomb"])
def test_a_broken_tile_is_seen(name: str, change: str) -> None:
    import imagecodecs

    compression = {"deflate": 8, "zstd": 50000, "lzw": LZW}[name]
    encode = getattr(imagecodecs, f"{name}_encode")
    pixels = ramp(64, 64).tobytes()
    packed = {"cut": encode(pixels)[:-40], "short": encode(pixels[:-2]), "bomb": encode(bytes(50 << 20))}[change]
    out = np.zeros((64, 64), np.uint16)
    if name == "lzw" and change == "bomb":  # it says nothing of its length: the rest of it is left where it is
        tile_reader.unpack(memoryview(packed), level_of(compression), out, slice(None))
        return
    with pytest.raises(tile_reader.RetryableReadError, match="decoded"):
        tile_reader.unpack(memoryview(packed), level_of(compression), out, slice(None))
