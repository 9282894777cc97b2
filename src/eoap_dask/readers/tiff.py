"""Headers of TIFF files: their levels, and where the tiles are. tifffile parses them, from parts of the file.

A header is untrusted: what it makes us fetch and keep is limited, and absurd values are refused.
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
from typing import IO, TYPE_CHECKING, Any, NamedTuple, cast

import numpy as np
import numpy.typing as npt
import tifffile

from eoap_dask.errors import AssetError
from eoap_dask.readers.faults import NOT_A_RASTER
from eoap_dask.readers.ranges import FileReplacedError, FileState, FinalReadError, RetryableReadError
from eoap_dask.readers.reader import FileGrid
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.readers.ranges import ByteSource

FIRST_BYTES = 16 << 10
"""First request: the whole header of most COGs, up to some 1500 tiles."""
TILE_BYTES = 64 << 20
"""Limit of a decoded tile or strip; 0.5 to 2 MiB is usual."""
PLAIN_TILE_BYTES = 16 << 20
"""Files of larger tiles are left to GDAL."""

_HEADER_BYTES = 24 << 20
"""Limit of a header: 2^18 pixels a side in tiles of 512, with overviews, need 6 MB."""
_OTHER_BYTES = 2 << 20
"""Limit of a header without offsets and sizes of tiles, for all images."""
_TILES = 1 << 21
"""Limit of offsets and sizes, for all images: two for each tile."""
_TAGS = 4096
_OFFSETS, _SIZES, _STRIPS, _NODATA = 324, 325, (273, 279), 42113
_PIXEL_SCALE, _TIE_POINTS, _TRANSFORM, _GEO_KEYS = 33550, 33922, 34264, 34735
_GEO_TAGS = {_PIXEL_SCALE: 3, _TIE_POINTS: 6 * 512, _TRANSFORM: 16, _GEO_KEYS: 1024}
"""Tags that place an image, and how many numbers each may have: more are for GDAL, or absurd."""
_RASTER_TYPE, _GEOGRAPHIC, _PROJECTED, _VERTICAL = 1025, 2048, 3072, 4096
_PIXEL_IS_POINT, _USER_DEFINED = 2, 32767
_LEVELS = 32
_MAX_SIDE_PX = 1 << 20

UNPACKED, LZW, DEFLATE, DEFLATE_OLD, ZSTD = 1, 5, 8, 32946, 50000
_DTYPES: dict[tuple[int, int], np.dtype[Any]] = {
    (8, 1): np.dtype(np.uint8),
    (16, 1): np.dtype(np.uint16),
    (16, 2): np.dtype(np.int16),
}

_MASK = 4
"""Of a page's kind: it says which pixels of another are there."""

# What tifffile may raise on malformed files.
_BROKEN = (
    *(tifffile.TiffFileError, struct.error, ValueError, TypeError, LookupError, ArithmeticError),
    *(AttributeError, AssertionError, RuntimeError, MemoryError, EOFError),
)

logging.getLogger("tifffile").addHandler(logging.NullHandler())  # a strange header isn't worth a line on the terminal


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
    """Value of the pixels of missing tiles."""
    offsets: npt.NDArray[np.uint64]
    sizes: npt.NDArray[np.uint64]
    """Bytes of the stored tiles, row by row; 0 where missing."""

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
    """Native first; empty for files that `read_header` doesn't call plain."""
    state: FileState
    """State of the file when the header was read."""
    nodata: int | None = None
    """Number of missing pixels, where the file has one that is whole."""
    grid: FileGrid | None = None
    """None where GDAL has to tell."""
    number: int = field(default_factory=count().__next__)
    """Differs for every header that is read."""
    read_at: float = field(default_factory=time.monotonic)

    @property
    def nbytes(self) -> int:
        """Its memory, about."""
        return 2000 + sum(500 + level.offsets.nbytes + level.sizes.nbytes for level in self.levels)


def read_header(file: ByteSource) -> Header:
    """Read the header of a TIFF file; AssetError, FileReplacedError or FinalReadError where it can't be used.

    Plain files are little-endian, classic or BigTIFF, tiled, with one sample of uint8, uint16 or int16, unpacked or
    DEFLATE, ZSTD or LZW, with predictor 1 or 2; so must their overviews be. A file with a mask isn't plain.
    """

    def first(body: memoryview, state: FileState) -> tuple[bytes, FileState]:
        if bytes(body[:4]) not in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"):
            raise RetryableReadError(NOT_A_RASTER)
        return bytes(body), state

    start, state = file.read(0, FIRST_BYTES, first)
    sparse = _Sparse(file, start, state)
    fault = FinalReadError("its header is broken.")
    try:
        sparse.hide_tables()
        with tifffile.TiffFile(cast(IO[bytes], sparse), _multifile=False) as tiff:
            found = _understand(tiff, sparse)
        if sparse.fault is None:  # else tifffile went on without the missing part
            return found
    except _BROKEN:
        pass
    except FinalReadError as error:
        fault = error
    raise sparse.fault or fault


def _understand(tiff: tifffile.TiffFile, sparse: _Sparse) -> Header:
    shape: tuple[int, int] | None = None
    nodata: int | None = None
    levels: list[Level] = []
    grid: FileGrid | None = None
    plain = tiff.byteorder == "<" == {"little": "<"}.get(sys.byteorder) and not tiff.is_ndpi
    page: Any
    for number, page in enumerate(tiff.pages):  # one in memory at a time
        if number == _LEVELS:
            raise FinalReadError(f"its header lists more than {_LEVELS} images.")
        if number == 0:
            shape = int(page.imagelength), int(page.imagewidth)
            grid = _grid(page)
            plain = plain and page.subfiletype == 0
            nodata = whole_number(_nodata(page.tags.valueof(_NODATA)))
        elif page.subfiletype != 1:
            plain = plain and not page.subfiletype & _MASK
            continue  # GDAL too ignores further images that are no overviews
        level = _level(page, sparse) if plain else None
        plain = level is not None
        if level is not None:
            levels.append(level)
    if shape is None:
        raise FinalReadError("its header lists no image.")
    return Header(shape, tuple(levels) if plain else (), sparse.state, nodata, grid)


def _grid(page: Any) -> FileGrid | None:
    """Return where an image lies by its GeoTIFF tags (OGC 19-008r4); nothing of what isn't told, or is absurd.

    None where its CRS is told by more than a code, which GDAL understands.
    """
    values = {}
    for tag, most in _GEO_TAGS.items():
        found = page.tags.get(tag)
        values[tag] = found.value if found is not None and found.count <= most else None
    keys = [int(one) for one in values[_GEO_KEYS] or ()]
    entries = zip(*[iter(keys[4:])] * 4, strict=False)
    told = {key: value for key, place, number, value in entries if not place and number}
    scale, ties, matrix = values[_PIXEL_SCALE], values[_TIE_POINTS], values[_TRANSFORM]
    code = told.get(_PROJECTED) or told.get(_GEOGRAPHIC) or 0
    if keys and (not 1024 <= code < _USER_DEFINED or _VERTICAL in told):
        return None
    crs = f"EPSG:{code}" if 1024 <= code < _USER_DEFINED else None
    transform: tuple[float, ...] | None = None
    if matrix is not None and len(matrix) >= 8:
        transform = tuple(float(matrix[n]) for n in (0, 1, 3, 4, 5, 7))
    elif scale is not None and ties is not None and len(scale) >= 2 and len(ties) >= 6:
        a, e = float(scale[0]), -abs(float(scale[1]))  # as GDAL has it: rows go down
        transform = (a, 0.0, ties[3] - a * ties[0], 0.0, e, ties[4] - e * ties[1])
    if transform is None or not all(map(math.isfinite, transform)) or not transform[0] * transform[4]:
        return FileGrid(crs)
    a, b, c, d, e, f = transform
    if told.get(_RASTER_TYPE) == _PIXEL_IS_POINT:  # told of centres, where we mean corners
        c, f = c - (a + b) / 2, f - (d + e) / 2
    return FileGrid(crs, (a, b, c, d, e, f))


def _level(page: Any, sparse: _Sparse) -> Level | None:
    """Return a page as a level, None where it isn't plain."""
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
    fill = _fill(page.tags.valueof(_NODATA), dtype) if dtype is not None else None
    if not plain or dtype is None or fill is None:
        return None
    height, width = int(page.imagelength), int(page.imagewidth)
    down, along = int(page.tilelength), int(page.tilewidth)
    if not (0 < height <= _MAX_SIDE_PX and 0 < width <= _MAX_SIDE_PX and down > 0 and along > 0):
        raise FinalReadError(f"its header declares {height} × {width} pixels in tiles of {down} × {along}.")
    if down * along * dtype.itemsize > TILE_BYTES:
        raise FinalReadError(f"its tiles of {down} × {along} pixels are too large.")
    if down * along * dtype.itemsize > PLAIN_TILE_BYTES:
        return None
    tables = tuple(sparse.tables.get((page.offset, tag)) for tag in (_OFFSETS, _SIZES))
    tiles = math.ceil(height / down) * math.ceil(width / along)
    for table in tables:
        if table is None or table.dtype is None:
            return None
        if table.number != tiles:
            declared = plural(table.number, "tile")
            raise FinalReadError(f"its header declares {declared}, but {height} × {width} pixels need {tiles}.")
    offsets, sizes = (sparse.values(table) for table in tables if table is not None)
    # a tile never takes much more than its pixels, however it is packed
    if sizes.size and int(sizes.max()) > 2 * down * along * dtype.itemsize + 4096:
        raise FinalReadError(f"its header declares a tile of {int(sizes.max())} bytes, for {down} × {along} pixels.")
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
    """Return GDAL's value for the pixels of missing tiles; None where it is unknown."""
    if nodata is None:
        return 0
    value = _nodata(nodata)
    if value is None:
        return None
    if math.isnan(value):
        return 0
    info = np.iinfo(dtype)
    return math.floor(min(max(value, info.min), info.max) + 0.5)


def _nodata(text: object) -> float | None:
    """Return GDAL's tag of missing pixels as a number; None without one."""
    try:
        return float(str(text).strip("\0 "))
    except ValueError:
        return None


def whole_number(value: float | None) -> int | None:
    """Return a number of missing pixels as integers may have it; None for others, such as NaN."""
    return int(value) if value is not None and float(value).is_integer() else None


class _Table(NamedTuple):
    """Where a tag's numbers are in the file."""

    start: int
    number: int
    dtype: np.dtype[Any] | None
    """None for a type that plain files don't have."""


class _Sparse(io.RawIOBase):
    """A file for tifffile that fetches only the parts that are read."""

    _STEP = 4096

    tables: dict[tuple[int, int], _Table]
    """By the place of the image's directory and the tag."""

    def __init__(self, file: ByteSource, start: bytes, state: FileState) -> None:
        self.fault: AssetError | FileReplacedError | None = None
        """The fault of a fetch: tifffile may swallow it."""
        self._file = file
        self.state = state
        self.tables = {}
        self._size = state.size
        self._hidden: list[tuple[int, bytes]] = []
        self._read_limit = _HEADER_BYTES
        self._tiles = 0
        self._at = 0
        self._parts: list[tuple[int, bytes]] = [(0, start)]
        self._fetched = 0

    def seekable(self) -> bool:
        """Return True."""
        return True

    def readable(self) -> bool:
        """Return True."""
        return True

    def tell(self) -> int:
        """Return where the next read begins."""
        return self._at

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Set where the next read begins."""
        self._at = max(offset + {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence], 0)
        return self._at

    def hide_tables(self) -> None:
        """Find the tables of offsets and sizes, and show tifffile one number of each, for it would read them all.

        Afterwards `read` is limited: tifffile makes Python numbers of what it returns, each ten times as large.
        """
        head = self.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = head[2:4] in (b"+\0", b"\0+")
        entry = struct.Struct(order + ("HHQ8s" if big else "HHI4s"))
        link = struct.Struct(order + ("Q" if big else "I"))
        many = struct.Struct(order + ("Q" if big else "H"))
        (at,) = link.unpack_from(head, 8 if big else 4)
        for _ in range(_LEVELS + 1):
            self.seek(at)
            found = self.read(many.size)
            if not at or len(found) < many.size or many.unpack(found)[0] > _TAGS:
                break  # the end, or what tifffile will refuse
            first, number = at + many.size, many.unpack(found)[0]
            body = self.read(number * entry.size + link.size)
            if len(body) < number * entry.size + link.size:
                break
            for n in range(number):
                tag, kind, count, value = entry.unpack_from(body, n * entry.size)
                dtype = {3: np.dtype(f"{order}u2"), 4: np.dtype(f"{order}u4"), 16: np.dtype(f"{order}u8")}.get(kind)
                if tag not in (_OFFSETS, _SIZES, *_STRIPS):
                    continue
                place = first + n * entry.size
                inline = count * (dtype.itemsize if dtype is not None else 8) <= link.size
                start = place + entry.size - link.size if inline else link.unpack(value)[0]
                self.tables.setdefault((at, tag), _Table(start, count, dtype))
                one = entry.pack(tag, 4, 1, bytes(link.size))
                self._hidden.append((place, one))
            (at,) = link.unpack_from(body, number * entry.size)
        self.seek(0)
        self._read_limit = _OTHER_BYTES

    def values(self, table: _Table) -> npt.NDArray[np.uint64]:
        """Return the numbers of a table."""
        assert table.dtype is not None  # noqa: S101 - `_level` checked it
        self._tiles += table.number
        if self._tiles > _TILES:
            raise FinalReadError(f"its header declares more than {_TILES // 2} tiles.")
        stop = table.start + table.number * table.dtype.itemsize
        if stop > self._size:
            raise FinalReadError("its header is broken.")
        return np.frombuffer(self._bytes(table.start, stop), table.dtype).astype(np.uint64)

    def read(self, size: int | None = -1) -> bytes:
        """Return the next bytes, fewer where the file ends."""
        stop = self._size if size is None or size < 0 else min(self._at + size, self._size)
        self._read_limit -= max(stop - self._at, 0)
        if self._read_limit < 0:
            raise FinalReadError("its header is too large.")
        start = self._at
        out = self._bytes(start, stop)
        self._at = max(stop, start)
        for place, shown in self._hidden:
            low, high = max(place, start), min(place + len(shown), stop)
            if low < high:
                out = out[: low - start] + shown[low - place : high - place] + out[high - start :]
        return out

    def _bytes(self, at: int, stop: int) -> bytes:
        if stop <= at:
            return b""
        for start, part in self._parts:
            if start <= at and stop <= start + len(part):
                break
        else:
            start, part = self._fetch(at, stop)
        return part[at - start : stop - start]

    def _fetch(self, start: int, stop: int) -> tuple[int, bytes]:
        start -= start % self._STEP
        stop = min(max(stop, start + FIRST_BYTES), self._size)
        self._fetched += stop - start
        if self._fetched > _HEADER_BYTES:
            raise FinalReadError("its header is too large.")
        try:
            part = self._file.read(start, stop, lambda body, _: bytes(body), self.state)
        except (AssetError, FileReplacedError) as fault:
            self.fault = fault
            raise
        self._parts.append((start, part))
        return start, part
