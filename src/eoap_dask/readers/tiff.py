"""Headers of TIFF files: which levels there are, and where their tiles lie. Parsed by tifffile, from parts of the file.

A header comes from strangers. What it makes us fetch and keep is bounded, and what can't be meant is refused.
"""

from __future__ import annotations

import io
import logging
import math
import struct
import sys
import time
from dataclasses import dataclass, field
from itertools import count
from typing import IO, TYPE_CHECKING, Any, cast

import numpy as np
import numpy.typing as npt
import tifffile

from eoap_dask.errors import AssetError
from eoap_dask.readers.faults import NOT_A_RASTER
from eoap_dask.readers.ranges import Refusal, Replaced, State, Stumble

if TYPE_CHECKING:
    from eoap_dask.readers.ranges import Parts

FIRST_BYTES = 16 << 10
"""Fetched at once: the whole header of most COGs, up to some 1500 tiles."""
TILE_BYTES = 64 << 20
"""A decoded tile may have this many bytes; usual are 0.5 to 2 MiB."""

_HEADER_BYTES = 24 << 20
"""More is no header: 2^18 pixels a side in tiles of 512, with overviews, need 6 MB."""
_LEVELS = 32
_MAX_SIDE_PX = 1 << 20

UNPACKED, LZW, DEFLATE, DEFLATE_OLD, ZSTD = 1, 5, 8, 32946, 50000
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (8, 1): np.dtype(np.uint8),
    (16, 1): np.dtype(np.uint16),
    (16, 2): np.dtype(np.int16),
}

# What tifffile may raise on files that are no proper TIFFs.
_BROKEN = (
    *(tifffile.TiffFileError, struct.error, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, RuntimeError, MemoryError, EOFError),
)

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # a strange header is no news for a terminal


@dataclass(frozen=True, slots=True)
class Level:
    """One resolution of an image, in tiles."""

    shape: tuple[int, int]
    """Height and width in pixels."""
    tile: tuple[int, int]
    """Height and width of a tile."""
    dtype: np.dtype[Any]
    compression: int
    predictor: int
    """2 where each pixel is the difference to the one before it in its row of the tile."""
    fill: int
    """What the pixels of tiles that aren't there are."""
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint64]
    """Of the tiles as stored, by rows; 0 for those that aren't there."""

    @property
    def across(self) -> int:
        """Tiles in a row of tiles."""
        return -(-self.shape[1] // self.tile[1])

    @property
    def tile_bytes(self) -> int:
        """Bytes of a decoded tile."""
        return self.tile[0] * self.tile[1] * self.dtype.itemsize


@dataclass(frozen=True, slots=True)
class Header:
    """What is kept of a file's header."""

    shape: tuple[int, int]
    """Height and width of the native level."""
    levels: tuple[Level, ...]
    """Native first; empty where the file isn't of the plain kind that `read_header` knows."""
    state: State
    """Of the file that it is the header of."""
    number: int = field(default_factory=count().__next__)
    """Another one each time that a header is read."""
    read_at: float = field(default_factory=time.monotonic)

    @property
    def nbytes(self) -> int:
        """About how much memory this takes."""
        return 2000 + sum(500 + level.offsets.nbytes + level.sizes.nbytes for level in self.levels)


def read_header(file: Parts) -> Header:
    """Read the header of a TIFF file.

    Plain files are little-endian, classic or BigTIFF, in tiles, of one sample of uint8, uint16 or int16, unpacked or
    packed as DEFLATE, ZSTD or LZW, with predictor 1 or 2. Overviews must be of that kind too; masks are passed over.

    Parameters
    ----------
    file : Parts

    Returns
    -------
    Header

    Raises
    ------
    AssetError
        where the file can't be had, or is no TIFF
    Replaced
        where it becomes another one meanwhile
    Refusal
        where its header can't be meant
    """

    def first(body: memoryview, state: State) -> tuple[bytes, State]:
        if bytes(body[:4]) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise Stumble(NOT_A_RASTER)
        return bytes(body), state

    start, state = file.read(0, FIRST_BYTES, first)
    sparse = _Sparse(file, start, state)
    refusal = Refusal("its header is broken.")
    try:
        with tifffile.TiffFile(cast(IO[bytes], sparse), _multifile=False) as tiff:
            found = _understand(tiff, state)
        if sparse.fault is None:  # else tifffile made do with what it had
            return found
    except _BROKEN:
        pass
    except Refusal as said:
        refusal = said
    raise sparse.fault or refusal


def _understand(tiff: tifffile.TiffFile, state: State) -> Header:
    pages: list[Any] = []
    for page in tiff.pages:
        if len(pages) == _LEVELS:
            raise Refusal(f"its header lists more than {_LEVELS} images.")
        pages.append(page)
    if not pages:
        raise Refusal("its header lists no image.")
    shape = int(pages[0].imagelength), int(pages[0].imagewidth)
    ordinary = tiff.byteorder == "<" == {"little": "<"}.get(sys.byteorder) and not tiff.is_ndpi
    # further images that are no overviews are none of our business, as they are none of GDAL's
    shown = [page for n, page in enumerate(pages) if (page.subfiletype == 0 if n == 0 else page.subfiletype == 1)]
    levels = tuple(level for page in shown if (level := _level(page)) is not None)
    plain = ordinary and shown[:1] == pages[:1] and len(levels) == len(shown)
    return Header(shape, levels if plain else (), state)


def _level(page: Any) -> Level | None:
    """Return a page as a level, or None where it isn't plain."""
    dtype: np.dtype[Any] | None = _DTYPES.get((page.bitspersample, int(page.sampleformat)))
    plain = (
        dtype is not None
        and page.is_tiled
        and (page.samplesperpixel, int(page.photometric), int(page.fillorder)) == (1, 1, 1)
        and (page.imagedepth, page.tiledepth, page.tags.valueof(274, default=1)) == (1, 1, 1)
        and int(page.compression) in (UNPACKED, LZW, DEFLATE, DEFLATE_OLD, ZSTD)
        and int(page.predictor) in (1, 2)
        and 338 not in page.tags  # extra samples
    )
    fill = _fill(page.tags.valueof(42113), dtype) if dtype is not None else None
    if not plain or dtype is None or fill is None:
        return None
    height, width = int(page.imagelength), int(page.imagewidth)
    down, along = int(page.tilelength), int(page.tilewidth)
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX and down > 0 and along > 0):
        raise Refusal(f"its header tells of {height} × {width} pixels in tiles of {down} × {along}.")
    if down * along * dtype.itemsize > TILE_BYTES:
        raise Refusal(f"its tiles of {down} × {along} pixels are too large.")
    offsets, sizes = (np.array(v, np.uint64) for v in (page.dataoffsets, page.databytecounts))
    if not offsets.shape == sizes.shape == (math.ceil(height / down) * math.ceil(width / along),):
        raise Refusal(f"its header tells of {offsets.size} tiles, which don't make {height} × {width} pixels.")
    # a tile never takes much more than its pixels, however it is packed
    if sizes.size and int(sizes.max()) > 2 * down * along * dtype.itemsize + 4096:
        raise Refusal(f"its header tells of a tile of {int(sizes.max())} bytes, for {down} × {along} pixels.")
    return Level(
        shape=(height, width),
        tile=(down, along),
        dtype=dtype,
        compression=int(page.compression),
        predictor=1 if int(page.compression) == UNPACKED else int(page.predictor),
        fill=fill,
        offsets=offsets,
        sizes=sizes,
    )


def _fill(nodata: object, dtype: np.dtype[Any]) -> int | None:
    """Return what GDAL takes for the pixels of tiles that aren't there; None where we can't tell."""
    if nodata is None:
        return 0
    try:
        value = float(str(nodata).strip("\0 "))
    except ValueError:
        return None
    if math.isnan(value):
        return 0
    info = np.iinfo(dtype)
    return math.floor(min(max(value, info.min), info.max) + 0.5)


class _Sparse(io.RawIOBase):
    """A file for tifffile, of which only those parts are fetched that it reads.

    Parameters
    ----------
    file : Parts
    start
        Its first bytes.
    state : State
        That in which the first bytes were.
    """

    _STEP = 4096

    def __init__(self, file: Parts, start: bytes, state: State) -> None:
        self.fault: AssetError | Replaced | None = None
        """What went wrong when a part was fetched: whatever tifffile makes of that."""
        self._file = file
        self._state = state
        self._size = state.size
        self._at = 0
        self._parts: list[tuple[int, bytes]] = [(0, start)]
        self._fetched = 0

    def seekable(self) -> bool:
        """Tell that it can."""
        return True

    def readable(self) -> bool:
        """Tell that it can."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Choose where the next read begins."""
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer where the file ends."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        if stop <= self._at:
            return b""
        for start, part in self._parts:
            if start <= self._at and stop <= start + len(part):
                break
        else:
            start, part = self._fetch(self._at, stop)
        out = part[self._at - start : stop - start]
        self._at = stop
        return out

    def _fetch(self, start: int, stop: int) -> tuple[int, bytes]:
        start -= start % self._STEP
        stop = min(max(stop, start + FIRST_BYTES), self._size)
        self._fetched += stop - start
        if self._fetched > _HEADER_BYTES:
            raise Refusal("its header is longer than any header needs.")
        try:
            part = self._file.read(start, stop, lambda body, _: bytes(body), self._state)
        except (AssetError, Replaced) as fault:
            self.fault = fault
            raise
        self._parts.append((start, part))
        return start, part
