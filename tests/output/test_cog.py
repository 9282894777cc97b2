"""COGs from blocks: valid to the letter, the pixels of a reference, and the same bytes however they were cut."""

from __future__ import annotations

import hashlib
import itertools
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import imagecodecs
import numpy as np
import pytest
import rasterio
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import CRS, Transformer
from rasterio.enums import ColorInterp
from rio_cogeo.cogeo import cog_validate

from eoap_dask.errors import TilesError
from eoap_dask.geo.window import TILE, blocks
from eoap_dask.kernels.pixels import statistics
from eoap_dask.output import cog as cog_module
from eoap_dask.output.cog import Cog
from eoap_dask.render.encode import TileFile, encode_image, encode_tiles, level_shapes, merge_sums
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec

Image = np.ndarray[Any, np.dtype[Any]]
Rule = Literal["mean", "nearest"]

CUSTOM = "+proj=laea +lat_0=47.6 +lon_0=-122 +datum=WGS84 +units=m +no_defs"


def picture(shape: tuple[int, ...], dtype: str, seed: int = 0) -> Image:
    """Waves, noise, holes, and a corner without data."""
    bands, height, width = shape
    rng = np.random.default_rng(seed)
    top = np.iinfo(dtype).max
    y, x = np.mgrid[:height, :width]
    out = np.empty(shape, dtype)
    for band in range(bands):
        wave = (np.sin(x / (7 + band)) + np.cos(y / 11)) / 4 + 0.5
        out[band] = (wave * top).astype(dtype)
    out[:, rng.integers(0, height, 50), rng.integers(0, width, 50)] = rng.integers(0, top + 1, 50, dtype=dtype)
    out[:, ::17, ::13] = 0
    out[-1, 1::3, : width // 3] = 0
    out[:, height // 2 :, width // 2 :] = np.where(rng.random((height - height // 2, width - width // 2)) < 0.5, 0, top)
    return out


def spec_for(
    image: Image, rule: Rule = "mean", nodata: float | None = 0, roles: tuple[str, ...] = ("data",), **of_bands: Any
) -> ImageSpec:
    bands = tuple(BandSpec(f"band {n}", **of_bands) for n in range(len(image)))
    return ImageSpec("data", bands, image.dtype.name, rule, nodata, roles)  # type: ignore[arg-type]


def grid(image: Image, crs: str = "EPSG:32610") -> GeoBox:
    return GeoBox(image.shape[1:], Affine(10, 0, 500_000, 0, -10, 5_300_000), crs)


def collect(
    image: Image,
    spec: ImageSpec,
    geobox: GeoBox,
    scratch: Path,
    block: int = 512,
    order: Sequence[int] | None = None,
    *,
    files: bool = False,
) -> Cog:
    """Encode every block, and add them in some order; their tiles as files where that is asked for."""
    levels = len(level_shapes(image.shape[1:]))  # type: ignore[arg-type]
    cog = Cog(spec, geobox, scratch)
    windows = blocks(image.shape[1:], block)  # type: ignore[arg-type]
    for number in order if order is not None else range(len(windows)):
        window = windows[number]
        part = image[:, window.row : window.row_stop, window.col : window.col_stop]
        if files:
            with TileFile(scratch, f"{number}.data") as file:
                encoded = encode_image(part, spec, window, block, levels, file)
        else:
            encoded = encode_image(part, spec, window, block, levels)
        cog.add(encoded, window)
    return cog


def write(image: Image, spec: ImageSpec, path: Path, block: int = 512, order: Sequence[int] | None = None) -> Cog:
    cog = collect(image, spec, grid(image), path.parent / "scratch", block, order)
    cog.write(path)
    return cog


def pyramid(image: Image, rule: Rule) -> list[Image]:
    """All levels, made of the whole picture at once."""
    levels = [image]
    while max(levels[-1].shape[1:]) > TILE:
        last = levels[-1]
        if rule == "nearest":
            levels.append(last[:, ::2, ::2])
            continue
        even = np.pad(last.astype(np.int64), ((0, 0), (0, last.shape[1] % 2), (0, last.shape[2] % 2)))
        cells = even.reshape(even.shape[0], even.shape[1] // 2, 2, even.shape[2] // 2, 2)
        total, number = cells.sum(axis=(2, 4)), np.maximum((cells != 0).sum(axis=(2, 4)), 1)
        levels.append(((2 * total + number) // (2 * number)).astype(image.dtype))  # half up
    return levels


def assert_levels(path: Path, expected: list[Image]) -> None:
    with rasterio.open(path) as dataset:
        np.testing.assert_array_equal(dataset.read(), expected[0])
        assert len(dataset.overviews(1)) == len(expected) - 1
    for number, level in enumerate(expected[1:]):
        with rasterio.open(path, overview_level=number) as dataset:
            np.testing.assert_array_equal(dataset.read(), level)


def assert_valid(path: Path) -> None:
    """A strict validator finds nothing wrong.

    rio-cogeo takes any level whose width is that of a tile, and which is higher, for one in strips. GDAL's own
    validator doesn't; so there, and only there, its complaint is passed over, and the tiles are looked at.
    """
    with tifffile.TiffFile(path) as tiff:
        height, width = tiff.pages[0].shape[:2]  # type: ignore[union-attr]
        tile = (TILE, TILE)
        if max(height, width) <= TILE:  # one tile, no larger than TIFF's steps of 16 make it
            tile = (math.ceil(height / 16) * 16, math.ceil(width / 16) * 16)
        assert all(isinstance(p, tifffile.TiffPage) and (p.tilelength, p.tilewidth) == tile for p in tiff.pages)
        narrow = [n for n, page in enumerate(tiff.pages) if page.shape[1] == TILE < page.shape[0]]  # type: ignore[union-attr]
    known = ["The file is greater than 512xH or 512xW, but is not tiled"] if 0 in narrow else []
    known += [f"Overview of index {n - 1} is not tiled" for n in narrow if n]
    assert cog_validate(path, strict=True, quiet=True) == (not known, known, [])


SHAPES = [
    (1, 1),
    (250, 100),
    (1, 513),
    (700, 3),
    (512, 512),
    (513, 512),
    (1024, 1024),
    (1025, 1030),
    (1040, 1023),
    (600, 2060),
]


@pytest.mark.parametrize(
    ("shape", "dtype", "rule"),
    [
        *((shape, "uint16", "mean") for shape in SHAPES),
        *(
            ((1100, 900), dtype, rule)
            for dtype, rule in (("uint8", "mean"), ("uint16", "nearest"), ("uint8", "nearest"))
        ),
    ],
)
def test_a_strict_cog_with_the_pixels_of_every_level(
    tmp_path: Path, shape: tuple[int, int], dtype: str, rule: Rule
) -> None:
    image = picture((2, *shape), dtype)
    expected = pyramid(image, rule)
    found = set()
    for block in (512, 1024, 2048):
        path = tmp_path / f"{block}.tif"
        cog = write(image, spec_for(image, rule), path, block)
        np.testing.assert_array_equal(cog.smallest, expected[-1], strict=True)
        found.add(path.read_bytes())
    assert len(found) == 1  # whatever the blocks, the same bytes
    assert_levels(path, expected)
    assert_valid(path)


@pytest.mark.parametrize("bands", range(1, 11))
def test_any_number_of_bands(tmp_path: Path, bands: int) -> None:
    image = picture((bands, 530, 20), "uint16", bands)
    path = tmp_path / "a.tif"
    write(image, spec_for(image, scale=1e-4, unit_title="1"), path)
    assert_levels(path, pyramid(image, "mean"))
    assert_valid(path)
    with rasterio.open(path) as dataset:
        assert dataset.descriptions == tuple(f"band {n}" for n in range(bands))
        assert dataset.scales == (1e-4,) * bands
        assert dataset.offsets == (0.0,) * bands
        assert dataset.units == ("1",) * bands
        assert dataset.nodatavals == (0.0,) * bands
        assert dataset.colorinterp == (ColorInterp.gray, *[ColorInterp.undefined] * (bands - 1))
        assert bands == 1 or dataset.interleaving.name == "pixel"
        assert dataset.block_shapes == [(512, 512)] * bands


def test_each_band_has_its_own_scale_and_offset(tmp_path: Path) -> None:
    image = picture((3, 20, 20), "int16")
    bands = (BandSpec("kelvin", scale=0.01, offset=-5), BandSpec("count"), BandSpec("half", scale=0.5))
    write(image, replace(spec_for(image), bands=bands), tmp_path / "a.tif")
    with rasterio.open(tmp_path / "a.tif") as dataset:
        assert dataset.descriptions == ("kelvin", "count", "half")
        assert (dataset.scales, dataset.offsets) == ((0.01, 1.0, 0.5), (-5.0, 0.0, 0.0))


def test_the_order_of_arrival_does_not_show(tmp_path: Path) -> None:
    image = picture((1, 900, 1100), "uint8")
    spec = spec_for(image)
    found = set()
    for number, order in enumerate(itertools.islice(itertools.permutations(range(6)), 0, 720, 240)):
        path = tmp_path / f"{number}.tif"
        cog = write(image, spec, path, 512, order)
        found.add(path.read_bytes())
        assert cog.sums == statistics(image)
    assert len(found) == 1


def test_pictures_are_red_green_and_blue(tmp_path: Path) -> None:
    image = picture((3, 40, 50), "uint8")
    path = tmp_path / "a.tif"
    write(image, spec_for(image, roles=("visual",)), path)
    with rasterio.open(path) as dataset:
        assert dataset.colorinterp == (ColorInterp.red, ColorInterp.green, ColorInterp.blue)
        assert dataset.nodatavals == (0.0,) * 3
    with tifffile.TiffFile(path) as tiff:
        assert tiff.pages[0].photometric.name == "RGB"  # type: ignore[union-attr]
    assert_levels(path, [image])


@pytest.mark.parametrize("nodata", [None, 0, 7, 65535])
def test_no_data_and_no_scale_as_asked(tmp_path: Path, nodata: int | None) -> None:
    image = picture((1, 600, 20), "uint16")
    path = tmp_path / "a.tif"
    write(image, spec_for(image, nodata=nodata), path)
    for options in ({}, {"overview_level": 0}):
        with rasterio.open(path, **options) as dataset:
            assert dataset.nodatavals == (nodata,)
    with rasterio.open(path) as dataset:
        assert dataset.scales == (1.0,)
        assert dataset.units == (None,)
        assert dataset.tags().keys() <= {"AREA_OR_POINT"}


@pytest.mark.parametrize(
    "crs", ["EPSG:32610", "EPSG:32733", "EPSG:4326", "EPSG:3035", "EPSG:3857", "ESRI:54009", CUSTOM]
)
def test_the_grid_is_told(tmp_path: Path, crs: str) -> None:
    image = picture((1, 30, 40), "uint8")
    transform = Affine(0.01, 0, 12.1, 0, -0.01, 45.3) if crs == "EPSG:4326" else Affine(20, 0, 1000, 0, -20, 9000)
    geobox = GeoBox((30, 40), transform, crs)
    path = tmp_path / "a.tif"
    collect(image, spec_for(image), geobox, tmp_path / "s").write(path)
    with rasterio.open(path) as dataset:
        assert dataset.transform == transform
        assert dataset.tags()["AREA_OR_POINT"] == "Area"
        told = CRS.from_wkt(dataset.crs.to_wkt())
    if crs.startswith("EPSG"):
        assert told.to_epsg() == int(crs[5:])
    lonlat = ([transform.c], [transform.f]) if crs == "EPSG:4326" else ([12.3], [45.6])
    expected = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(*lonlat)
    found = Transformer.from_crs("EPSG:4326", told, always_xy=True).transform(*lonlat)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_size_and_checksum_are_those_of_the_file(tmp_path: Path) -> None:
    image = picture((2, 700, 600), "uint16")
    path = tmp_path / "a.tif"
    size, checksum = collect(image, spec_for(image), grid(image), tmp_path / "s").write(path)
    assert size == path.stat().st_size
    assert checksum == hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.mark.parametrize("shape", [(5, 5), (1025, 700)])
def test_a_file_beyond_4_gigabytes_is_a_bigtiff(
    tmp_path: Path, shape: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    image = picture((3, *shape), "uint16")
    small = tmp_path / "small.tif"
    write(image, spec_for(image, scale=1e-4), small)
    monkeypatch.setattr(cog_module, "_CLASSIC_LIMIT", 0)
    path = tmp_path / "big.tif"
    size, checksum = collect(image, spec_for(image, scale=1e-4), grid(image), tmp_path / "s").write(path)
    assert small.read_bytes()[:4] == b"II*\0"
    assert path.read_bytes()[:4] == b"II+\0"
    assert (size, checksum) == (path.stat().st_size, hashlib.sha256(path.read_bytes()).hexdigest())
    assert_valid(path)
    assert_levels(path, pyramid(image, "mean"))
    with rasterio.open(small) as one, rasterio.open(path) as other, tifffile.TiffFile(path) as tiff:
        assert tiff.is_bigtiff
        assert (one.crs, one.transform, one.scales, one.descriptions) == (
            other.crs,
            other.transform,
            other.scales,
            other.descriptions,
        )


def test_the_limit_of_a_classic_tiff_leaves_room_for_its_headers() -> None:
    assert (1 << 32) - cog_module._CLASSIC_LIMIT >= 1 << 20


def test_another_library_reads_it_too(tmp_path: Path) -> None:
    image = picture((3, 1030, 800), "uint16")
    path = tmp_path / "a.tif"
    write(image, spec_for(image, scale=1e-4), path)
    levels = pyramid(image, "mean")
    with tifffile.TiffFile(path) as tiff:
        assert len(tiff.pages) == len(levels)
        for number, (page, level) in enumerate(zip(tiff.pages, levels, strict=True)):
            assert isinstance(page, tifffile.TiffPage)
            assert page.subfiletype == (1 if number else 0)
            assert (page.compression.name, page.predictor.name) == ("ADOBE_DEFLATE", "HORIZONTAL")
            assert (page.tilewidth, page.tilelength, page.planarconfig.name) == (512, 512, "CONTIG")
            np.testing.assert_array_equal(page.asarray().transpose(2, 0, 1), level)


def test_headers_come_first_and_the_coarsest_level_before_finer_ones(tmp_path: Path) -> None:
    image = picture((1, 1100, 1600), "uint8")
    path = tmp_path / "a.tif"
    write(image, spec_for(image), path)
    with tifffile.TiffFile(path) as tiff:
        pages = [p for p in tiff.pages if isinstance(p, tifffile.TiffPage)]
        starts = [tag.valueoffset + tag.valuebytecount for p in pages for tag in p.tags.values()]
        tiles = [(o, n) for p in reversed(pages) for o, n in zip(p.dataoffsets, p.databytecounts, strict=True)]
    assert max(starts) <= tiles[0][0]
    for (offset, count), (following, _) in itertools.pairwise(tiles):
        assert offset + count == following  # without gaps
    assert tiles[-1][0] + tiles[-1][1] == path.stat().st_size


# What is left behind


def test_nothing_is_left_in_the_scratch_directory(tmp_path: Path) -> None:
    image = picture((1, 1100, 600), "uint8")
    scratch = tmp_path / "deep" / "scratch"
    cog = collect(image, spec_for(image), grid(image), scratch)
    assert {p.name for p in scratch.iterdir()} == {"data.tiles", "data.rest1"}
    cog.write(tmp_path / "a.tif")
    assert list(scratch.iterdir()) == []
    given_up = collect(image, spec_for(image), grid(image), scratch)
    given_up.close()
    given_up.close()
    assert list(scratch.iterdir()) == []
    assert {p.name for p in tmp_path.iterdir()} == {"deep", "a.tif"}


@pytest.mark.parametrize("block", [512, 1024, 2048])
@pytest.mark.parametrize("at_once", [1, 2, 100])
def test_tiles_in_files_make_the_same_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, block: int, at_once: int
) -> None:
    monkeypatch.setattr(cog_module, "_OPEN_FILES", at_once)
    image = picture((2, 1100, 1600), "uint16")
    spec, geobox, scratch = spec_for(image), grid(image), tmp_path / "scratch"
    whole = collect(image, spec, geobox, scratch, block)
    expected = whole.write(tmp_path / "whole.tif")
    order = list(range(len(blocks((1100, 1600), block))))[::-1]
    cog = collect(image, spec, geobox, scratch, block, order, files=True)
    assert all(".data." in path.name or path.suffix in {".rest1", ".rest2"} for path in scratch.iterdir())  # no spool
    assert cog.write(tmp_path / "parts.tif") == expected
    assert (tmp_path / "parts.tif").read_bytes() == (tmp_path / "whole.tif").read_bytes()
    np.testing.assert_array_equal(cog.smallest, whole.smallest)
    assert list(scratch.iterdir()) == []


def test_a_file_of_tiles_that_is_not_whole_is_noticed(tmp_path: Path) -> None:
    image = picture((1, 600, 600), "uint8")
    spec, scratch = spec_for(image), tmp_path / "scratch"
    cog = collect(image, spec, grid(image), scratch, files=True)
    (first,) = scratch.glob("0.data.*")
    content = first.read_bytes()
    first.write_bytes(content[:-1])
    with pytest.raises(OSError, match="A tile is cut off"):
        cog.write(tmp_path / "a.tif")
    window = blocks((600, 600), 512)[0]
    with TileFile(scratch, "again") as file:
        encoded = encode_image(image[:, :512, :512], spec, window, 512, 2, file)
    file.path.write_bytes(content[:-1])
    with pytest.raises(OSError, match="Tiles are missing"):
        cog.add(encoded, window)
    file.path.unlink()
    with pytest.raises(FileNotFoundError):
        cog.add(encoded, window)
    cog.close()
    assert list(scratch.iterdir()) == []


def test_a_late_worker_with_the_same_block_changes_nothing(tmp_path: Path) -> None:
    """Dask took it for lost; it has other software, and so its tiles have other bytes."""
    image = picture((1, 600, 600), "uint8")
    spec, scratch = spec_for(image), tmp_path / "scratch"
    expected = collect(image, spec, grid(image), tmp_path / "other").write(tmp_path / "expected.tif")
    scratch.mkdir()
    with TileFile(scratch, "0.data") as late:
        cog = collect(image, spec, grid(image), scratch, files=True)
        late.write(bytes(100_000))
        late.keep()
    assert cog.write(tmp_path / "a.tif") == expected
    assert list(scratch.iterdir()) == [late.path]


def test_a_file_of_tiles_stays_when_it_is_kept(tmp_path: Path) -> None:
    with TileFile(tmp_path, "tiles") as file:
        file.write(b"half of it")
    assert list(tmp_path.iterdir()) == []
    with TileFile(tmp_path, "tiles") as file:
        file.write(b"all of it")
        file.keep()
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"all of it"]
    with pytest.raises(
        TilesError, match=r"couldn't write into .*/gone: No such file or directory\. Free disk space there"
    ):
        TileFile(tmp_path / "gone", "tiles")


def test_coarse_levels_have_their_room_from_the_start(tmp_path: Path) -> None:
    """A page of a sparse file that a full disk has no room for would kill the process when it is touched."""
    image = picture((1, 2048, 2048), "uint16")
    cog = Cog(spec_for(image), grid(image), tmp_path)
    window = blocks((2048, 2048), 512)[0]
    cog.add(encode_image(image[:, :512, :512], cog.spec, window, 512, 3), window)
    status = (tmp_path / "data.rest1").stat()
    assert status.st_size == 1024 * 1024 * 2
    assert status.st_blocks * 512 >= status.st_size


def test_images_share_a_scratch_directory(tmp_path: Path) -> None:
    one, other = picture((1, 600, 20), "uint8", 1), picture((1, 600, 20), "uint8", 2)
    specs = (spec_for(one), ImageSpec("count", (BandSpec("n"),), "uint8", "mean", 0))
    cogs = [collect(i, s, grid(i), tmp_path / "s") for i, s in zip((one, other), specs, strict=True)]
    for cog, image in zip(cogs, (one, other), strict=True):
        cog.write(tmp_path / f"{cog.spec.name}.tif")
        assert_levels(tmp_path / f"{cog.spec.name}.tif", pyramid(image, "mean"))


# Parts


@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ((1, 1), [(1, 1)]),
        ((512, 512), [(512, 512)]),
        ((513, 10), [(513, 10), (257, 5)]),
        ((1025, 1), [(1025, 1), (513, 1), (257, 1)]),
        ((2048, 4096), [(2048, 4096), (1024, 2048), (512, 1024), (256, 512)]),
    ],
)
def test_levels_end_where_one_tile_holds_all(shape: tuple[int, int], expected: list[tuple[int, int]]) -> None:
    assert list(level_shapes(shape)) == expected


@pytest.mark.parametrize("dtype", ["uint8", "uint16"])
def test_tiles_decode_to_the_pixels_padded_with_0(dtype: str) -> None:
    image = picture((2, 600, 530), dtype)
    padded = np.zeros((2, 1024, 1024), dtype)
    padded[:, :600, :530] = image
    found = list(encode_tiles(image))
    assert [(r, c) for r, c, _ in found] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    for row, col, tile in found:
        difference = np.frombuffer(imagecodecs.deflate_decode(tile), dtype).reshape(TILE, TILE, 2)
        pixels = np.cumsum(difference, axis=1, dtype=dtype)  # TIFF 6.0, section 14: the horizontal predictor
        part = padded[:, row * TILE : (row + 1) * TILE, col * TILE : (col + 1) * TILE]
        np.testing.assert_array_equal(pixels.transpose(2, 0, 1), part)


def test_a_block_leaves_what_is_less_than_a_tile() -> None:
    image = picture((1, 2100, 1500), "uint8")
    levels = pyramid(image, "mean")
    spec = spec_for(image)
    for block in (512, 1024, 2048):
        for window in blocks((2100, 1500), block):
            part = image[:, window.row : window.row_stop, window.col : window.col_stop]
            encoded = encode_image(part, spec, window, block, len(levels))
            whole = block.bit_length() - TILE.bit_length() + 1  # levels that the block holds whole
            assert sorted(set(encoded.index[:, 0].tolist())) == list(range(min(whole, len(levels))))
            assert encoded.index[:, 3].tolist() == [tile.size for tile in encoded.tiles]
            assert encoded.sums == statistics(part)
            if whole >= len(levels):
                assert encoded.rest is None
                continue
            assert encoded.rest is not None
            row, col = window.row >> whole, window.col >> whole
            height, width = encoded.rest.shape[1:]
            np.testing.assert_array_equal(encoded.rest, levels[whole][:, row : row + height, col : col + width])


# Statistics

sums = st.lists(
    st.one_of(
        st.just((0, 0, 0, 0, 0)),
        st.tuples(
            st.integers(1, 9), st.integers(1, 10**12), st.integers(1, 10**18), st.integers(1, 9), st.integers(9, 99)
        ),
    ),
    min_size=2,
    max_size=2,
)


@settings(deadline=None)
@given(sums, sums, sums)
def test_merging_is_in_any_order(a: Any, b: Any, c: Any) -> None:
    assert merge_sums(a, b) == merge_sums(b, a)
    assert merge_sums(merge_sums(a, b), c) == merge_sums(a, merge_sums(b, c))
    assert merge_sums([], a) == merge_sums(a, []) == a
    assert merge_sums(a, [(0, 0, 0, 0, 0)] * 2) == a
    assert merge_sums([], []) == []


def test_merged_statistics_are_those_of_the_whole(tmp_path: Path) -> None:
    image = picture((3, 700, 1300), "uint16")
    image[1] = 0
    image[1, 600, 1200] = 9  # in the last block alone
    image[2] = 0
    cog = collect(image, spec_for(image), grid(image), tmp_path)
    for band, (number, total, squares, low, high) in zip(image, cog.sums, strict=True):
        valid = band[band != 0].astype(np.int64)
        assert (number, total, squares) == (valid.size, valid.sum(), (valid**2).sum())
        assert (low, high) == ((valid.min(), valid.max()) if valid.size else (0, 0))
    cog.close()


SIGNED, FLOAT = -32768, float("nan")


def change(shape: tuple[int, ...], dtype: str) -> Image:
    """Positive and negative values, with holes, and a corner without data."""
    rng = np.random.default_rng(7)
    y, x = np.mgrid[: shape[1], : shape[2]]
    wave = np.sin(x / 9)[None] * np.cos(y / 13)[None] * np.arange(1, shape[0] + 1)[:, None, None]
    image = (wave * 9000 + rng.normal(0, 300, shape)).astype(dtype)
    hole = SIGNED if dtype == "int16" else FLOAT
    image[:, ::7, ::5] = hole
    image[:, shape[1] // 2 :, : shape[2] // 2] = hole
    return image


def means(image: Image) -> list[Image]:
    """All levels of an image that may be negative, from masked means of the whole picture at once."""
    levels = [image]
    while max(levels[-1].shape[1:]) > TILE:
        last = levels[-1]
        gap = np.isnan(last) if last.dtype.kind == "f" else last == SIGNED
        masked = np.ma.array(last.astype(np.float64), mask=gap)
        padded = np.ma.masked_all((last.shape[0], last.shape[1] + last.shape[1] % 2, last.shape[2] + last.shape[2] % 2))
        padded[:, : last.shape[1], : last.shape[2]] = masked
        cells = padded.reshape(last.shape[0], padded.shape[1] // 2, 2, padded.shape[2] // 2, 2)
        mean = cells.mean(axis=(2, 4))
        if last.dtype.kind == "i":
            mean = np.ma.array(np.floor(mean.data + 0.5), mask=mean.mask)  # half up
        levels.append(mean.filled(FLOAT if last.dtype.kind == "f" else SIGNED).astype(last.dtype))
    return levels


@pytest.mark.parametrize("bands", [1, 3])
@pytest.mark.parametrize(("dtype", "nodata"), [("int16", SIGNED), ("float32", FLOAT)])
def test_signed_and_floating_point_pixels(tmp_path: Path, dtype: str, nodata: float, bands: int) -> None:
    image = change((bands, 1030, 1100), dtype)
    expected = means(image)
    found, sums = set(), []
    for block, order in ((512, [5, 3, 8, 1, 7, 2, 0, 6, 4]), (1024, None), (2048, None)):
        path = tmp_path / f"{block}.tif"
        cog = write(image, spec_for(image, nodata=nodata), path, block, order)
        np.testing.assert_array_equal(cog.smallest, expected[-1], strict=True)
        found.add(path.read_bytes())
        sums.append([(n, exact_sum(a), exact_sum(b), low, high) for n, a, b, low, high in cog.sums])
    assert len(found) == 1
    assert sums[0] == sums[1] == sums[2]
    assert_levels(path, expected)
    assert_valid(path)
    with rasterio.open(path) as dataset:
        np.testing.assert_equal(dataset.nodatavals, (nodata,) * bands)
    for band, (number, total, squares, low, high) in zip(image, sums[0], strict=True):
        valid = band[~np.isnan(band)] if dtype == "float32" else band[band != nodata]
        assert number == valid.size
        assert (low, high) == (valid.min(), valid.max())
        assert total == pytest.approx(math.fsum(valid.astype(float)), rel=1e-9)
        assert squares == pytest.approx(math.fsum(valid.astype(float) ** 2), rel=1e-9)


def exact_sum(value: Any) -> float:
    return math.fsum(value) if isinstance(value, tuple) else value


def test_an_image_without_data(tmp_path: Path) -> None:
    image = np.full((1, 600, 600), np.nan, np.float32)
    cog = write(image, spec_for(image, nodata=FLOAT), tmp_path / "a.tif")
    assert cog.sums == [(0, 0, 0, 0, 0)]
    assert_levels(tmp_path / "a.tif", [image, image[:, :300, :300]])


def test_classes_have_their_colours(tmp_path: Path) -> None:
    image = picture((1, 600, 700), "uint8") % 4
    palette = ((0, (0, 0, 0)), (1, (10, 200, 30)), (2, (250, 160, 0)), (3, (180, 0, 60)))
    path = tmp_path / "a.tif"
    classes = tuple(ClassSpec(value, colour=None if colour == (0, 0, 0) else colour) for value, colour in palette)
    write(image, spec_for(image, "nearest", classes=classes), path)
    assert_levels(path, [image, image[:, ::2, ::2]])
    assert_valid(path)
    for level in (None, 0):
        with rasterio.open(path, **({} if level is None else {"overview_level": level})) as dataset:
            assert dataset.colorinterp == (ColorInterp.palette,)
            colours = dataset.colormap(1)
            assert [colours[value][:3] for value, _ in palette] == [colour for _, colour in palette]
