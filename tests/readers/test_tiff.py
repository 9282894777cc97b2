"""Headers from strangers: broken, endless, or larger than they say; always a fault that says so, in bounded memory."""

from __future__ import annotations

import struct
import tracemalloc
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.support.files import ramp, source, write_gdal, write_tifffile

from eoap_dask.errors import AssetError
from eoap_dask.geo.window import Window
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.readers import tiles as tile_reader
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.ranges import FileState
from eoap_dask.readers.tiff import FIRST_BYTES, Header, read_header
from eoap_dask.readers.tiles import TileReader

T = TypeVar("T")
READER = TileReader(NoSigner(), Retry(attempts=1))
FUZZ = settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


class Memory:
    """A file in memory, which may claim to be longer than it is: what lies beyond is 0."""

    def __init__(self, content: bytes, size: int | None = None) -> None:
        self.content, self.size = content, size or len(content)
        self.asked: list[tuple[int, int]] = []

    def read(
        self, start: int, stop: int, use: Callable[[memoryview, FileState], T], state: FileState | None = None
    ) -> T:
        self.asked.append((start, stop))
        body = self.content[start:stop].ljust(min(stop, self.size) - start, b"\0")
        return use(memoryview(body), FileState(self.size))


def tiff(
    tags: dict[int, tuple[int, int, int]], *, big: bool = False, next_ifd: int = 0, at: int | None = None
) -> bytes:
    """A TIFF of one image; tags are (type, count, value or offset)."""
    at = at or (16 if big else 8)
    head = struct.pack("<2sHHHQ", b"II", 43, 8, 0, at) if big else struct.pack("<2sHI", b"II", 42, at)
    entry, count, link = ("<HHQQ", "<Q", "<Q") if big else ("<HHII", "<H", "<I")
    body = struct.pack(count, len(tags))
    body += b"".join(struct.pack(entry, tag, *value) for tag, value in sorted(tags.items()))
    return head.ljust(at, b"\0") + body + struct.pack(link, next_ifd)


SHORT, LONG, LONG8 = 3, 4, 16
PLAIN = {
    256: (LONG, 1, 64),
    257: (LONG, 1, 64),
    258: (SHORT, 1, 16),
    259: (SHORT, 1, 8),
    262: (SHORT, 1, 1),
    277: (SHORT, 1, 1),
    322: (SHORT, 1, 64),
    323: (SHORT, 1, 64),
    324: (LONG, 1, 400),
    325: (LONG, 1, 100),
}


def shown(path: Path, shape: tuple[int, int] = (64, 64)) -> tuple[tuple[int, int], ...]:
    return READER.open(source(path, shape), "item").shapes


def test_the_plain_header_is_plain(tmp_path: Path) -> None:
    for big in (False, True):
        header = read_header(Memory(tiff(PLAIN, big=big)))
        assert [level.shape for level in header.levels] == [(64, 64)]
        assert header.levels[0].offsets.tolist() == [400]


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({256: (LONG, 1, 0)}, "its header"),
        ({256: (LONG, 1, 1 << 31), 257: (LONG, 1, 1 << 31)}, "its header declares 2147483648 × 2147483648 pixels"),
        ({322: (LONG, 1, 1 << 16), 323: (LONG, 1, 1 << 16)}, "tiles of 65536 × 65536 pixels are too large"),
        ({322: (SHORT, 1, 16)}, "its header declares 1 tile, but "),
        ({325: (LONG, 1, 3 << 30)}, "its header declares a tile of 3221225472 bytes"),
        ({324: (LONG, 1 << 28, 400)}, "its header"),
        ({325: (LONG, (1 << 30) + 1, 400)}, "its header"),
        ({42113: (2, 1 << 31, 8)}, ""),
    ],
)
@pytest.mark.parametrize("big", [False, True])
def test_numbers_that_cannot_be_meant_are_refused(
    tmp_path: Path, change: dict[int, tuple[int, int, int]], why: str, big: bool
) -> None:
    file = Memory(tiff({**PLAIN, **change}, big=big), size=1 << 42)  # which claims that all of it is there
    tracemalloc.start()
    try:
        with pytest.raises(tile_reader.FinalReadError) as caught:
            read_header(file)
        assert tracemalloc.get_traced_memory()[1] < 128 << 20
    finally:
        tracemalloc.stop()
    assert why in caught.value.why
    assert sum(stop - start for start, stop in file.asked) < 64 << 20


def test_what_is_not_needed_of_a_header_is_not_fetched() -> None:
    file = Memory(tiff({**PLAIN, 33550: (12, 1 << 28, 8)}), size=1 << 42)
    assert read_header(file).levels
    assert file.asked == [(0, FIRST_BYTES)]


def test_tiles_without_a_width_are_no_tiles() -> None:
    assert read_header(Memory(tiff({**PLAIN, 322: (SHORT, 1, 0)}))).levels == ()


def test_a_loop_of_images_ends() -> None:
    with pytest.raises(tile_reader.FinalReadError, match=r"broken|lists more than"):
        read_header(Memory(tiff(PLAIN, next_ifd=8)))


def test_a_chain_of_images_ends() -> None:
    one = tiff(PLAIN)[8:]
    content = tiff(PLAIN)[:8]
    for number in range(5000):
        content += one[:-4] + struct.pack("<I", 8 + (number + 1) * len(one))
    file = Memory(content)
    with pytest.raises(tile_reader.FinalReadError, match="lists more than 32 images"):
        read_header(file)
    assert sum(stop - start for start, stop in file.asked) <= 4 * FIRST_BYTES


@pytest.mark.parametrize("at", [1 << 31, (1 << 32) - 1])
def test_a_header_beyond_the_file_is_broken(at: int) -> None:
    content = struct.pack("<2sHI", b"II", 42, at).ljust(400, b"\0")
    with pytest.raises(tile_reader.FinalReadError, match=r"broken|lists no image"):
        read_header(Memory(content))


@pytest.mark.parametrize(
    "content", [b"", b"II", b"<html>", b"II*\0", b"MM\0*\0\0\0\x08", b"II+\0\x08\0\0\0" + bytes(8)]
)
def test_what_is_no_tiff_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(content)
    with pytest.raises(AssetError, match=r"isn't a raster file|its header"):
        shown(path)


def test_an_ifd_at_the_end_is_found_by_its_parts(tmp_path: Path) -> None:
    path = write_tifffile(tmp_path / "a.tif", ramp(2000, 2000), ramp(1000, 1000), compression="zlib")
    # tifffile has written the second image behind the pixels of the first
    file = Memory(path.read_bytes())
    header = read_header(file)
    assert [level.shape for level in header.levels] == [(2000, 2000), (1000, 1000)]
    assert sum(stop - start for start, stop in file.asked) < 8 * FIRST_BYTES < len(file.content)


def test_the_header_of_a_cog_is_one_request(tmp_path: Path) -> None:
    path = write_gdal(tmp_path / "a.tif", ramp(3000, 3000), driver="COG", blocksize=512, compress="DEFLATE")
    file = Memory(path.read_bytes())
    assert len(read_header(file).levels) == 4
    assert file.asked == [(0, FIRST_BYTES)]


def test_a_large_header_is_read_whole() -> None:
    tiles = 2048 * 2048 // 16**2 * 16
    offsets = np.arange(tiles, dtype="<u8") * 100 + (1 << 20)
    content = tiff(
        {
            **PLAIN,
            256: (LONG, 1, 8192),
            257: (LONG, 1, 8192),
            322: (SHORT, 1, 16),
            323: (SHORT, 1, 16),
            324: (LONG8, tiles, 1000),
            325: (SHORT, tiles, 1000 + 8 * tiles),
        },
        big=True,
    )
    content = content.ljust(1000, b"\0") + offsets.tobytes() + np.full(tiles, 100, "<u2").tobytes()
    (level,) = read_header(Memory(content, size=1 << 30)).levels
    np.testing.assert_array_equal(level.offsets, offsets)
    assert level.sizes.tolist() == [100] * tiles


@pytest.mark.parametrize("tiles", [512 * 512, 5_000_000])
@pytest.mark.parametrize("tags", [(324, 325), (273, 279), (258, 339), (530, 338)])
def test_a_header_takes_no_more_than_it_is_worth(tiles: int, tags: tuple[int, int]) -> None:
    """One list that all of 32 images name, and that would be a thousand times larger as numbers of Python."""
    images, at, region = 32, 8, 16384
    body = b""
    for number in range(images):
        one = {**PLAIN, 254: (LONG, 1, int(number > 0)), 256: (LONG, 1, 1 << 18), 257: (LONG, 1, 1 << 18)}
        one |= {322: (SHORT, 1, 512), 323: (SHORT, 1, 512), **dict.fromkeys(tags, (SHORT, tiles, region))}
        size = 2 + 12 * len(one) + 4
        body += tiff(one, next_ifd=at + size if number + 1 < images else 0)[8:]
        at += size
    assert at <= region
    file = Memory((tiff(PLAIN)[:8] + body).ljust(region, b"\0") + np.full(tiles, 100, "<u2").tobytes())
    found = None
    tracemalloc.start()
    try:
        with suppress(tile_reader.FinalReadError):
            found = read_header(file)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 48 << 20
    assert found is None or not found.levels


def test_large_tiles_are_gdals_to_read_and_larger_ones_nobodys(tmp_path: Path) -> None:
    plain = {**PLAIN, 322: (SHORT, 1, 4096), 323: (SHORT, 1, 4096)}
    assert read_header(Memory(tiff(plain))).levels == ()
    for interpretation in (0, 1):  # also those that aren't plain
        path = tmp_path / "a.tif"
        huge = {**PLAIN, 262: (SHORT, 1, interpretation), 322: (SHORT, 1, 1 << 14), 323: (SHORT, 1, 1 << 14)}
        path.write_bytes(tiff(huge).ljust(1000, b"\0"))
        tile_reader._HEADERS.clear()
        with pytest.raises(AssetError, match="16384 × 16384 pixels are too large"):
            shown(path)
        with pytest.raises(AssetError, match="16384 × 16384 pixels are too large"):
            _ = GdalReader(NoSigner(), Retry(attempts=1)).open(source(path, (64, 64)), "item").shapes


def fuzzed(content: bytes, changes: list[tuple[int, int]]) -> bytes:
    out = bytearray(content)
    for at, value in changes:
        out[at % len(out)] = value
    return bytes(out)


@pytest.fixture(scope="module")
def cog(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("fuzz") / "a.tif"
    return write_gdal(
        path, ramp(300, 300), driver="COG", blocksize=128, compress="DEFLATE", predictor=2, nodata=0
    ).read_bytes()


@FUZZ
@given(
    changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=6),
    cut=st.integers(0, 40),
)
def test_any_header_ends_in_a_header_or_a_fault(cog: bytes, changes: list[tuple[int, int]], cut: int) -> None:
    content = fuzzed(cog, changes)[: len(cog) * (41 - cut) // 41]
    tracemalloc.start()
    try:
        found = read_header(Memory(content))
    except (tile_reader.FinalReadError, tile_reader.RetryableReadError):
        found = None
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert peak < 128 << 20
    assert found is None or isinstance(found, Header)


@FUZZ
@given(changes=st.lists(st.tuples(st.integers(0, 1200), st.integers(0, 255)), min_size=1, max_size=3))
def test_any_file_ends_in_pixels_or_a_fault(tmp_path: Path, cog: bytes, changes: list[tuple[int, int]]) -> None:
    path = tmp_path / "a.tif"
    path.write_bytes(fuzzed(cog, changes))
    tile_reader._HEADERS.clear()
    out = np.zeros((200, 200), np.uint16)
    with suppress(AssetError):
        READER.open(source(path, (300, 300)), "item").read(0, Window(50, 250, 60, 260), out)
