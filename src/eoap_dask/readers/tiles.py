"""Reading plain TIFF files without GDAL: only the tiles that are needed, decoded straight into the caller's array.

GDAL reads files that aren't plain (see `tiff.read_header`), through the same protocol. Threads of one process share
headers, and tiles that more than one window needs: decoded ones for the windows of a unit, and as they are in the file
for other units.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cache, cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast
from urllib.parse import urlsplit

import imagecodecs
import numpy as np
import numpy.typing as npt

from eoap_dask.errors import AssetError
from eoap_dask.net.resolve import path_part
from eoap_dask.net.retry import Retry
from eoap_dask.readers.faults import BROKEN_PART, other_bands, refused, unreadable
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.ranges import (
    ByteSource,
    FileReplacedError,
    FileState,
    FinalReadError,
    HttpFile,
    LocalFile,
    RetryableReadError,
)
from eoap_dask.readers.reader import FileGrid
from eoap_dask.readers.shared import Kept, MemoryBudget, Recent, Shared
from eoap_dask.readers.tiff import DEFLATE, DEFLATE_OLD, LZW, UNPACKED, ZSTD, Header, Level, read_header

if TYPE_CHECKING:
    from eoap_dask.geo.window import Window
    from eoap_dask.net.signing import Signer
    from eoap_dask.readers.gdal import GdalRaster
    from eoap_dask.scenes.model import Source

Pixels = npt.NDArray[np.integer[Any]]

GAP_BYTES = 16
"""Tiles this close are fetched together: GDAL puts 4 bytes before and 4 after each tile of a COG."""
RUN_BYTES = 2 << 20
"""Limit of a request of several tiles: little is in flight, and several threads decode."""
TILES_BYTES = 128 << 20
"""Tiles cached for the next window, per process."""
PACKED_BYTES = 64 << 20
"""Of that, at most, for tiles as they are in their files, of units that share them; the rest are decoded."""
HEADERS_BYTES = 8 << 20
"""Headers cached per process: some hundreds to thousands of files."""
FLIGHT_BYTES = 16 * (RUN_BYTES + (2 << 20))
"""Limit of what is fetched and decoded at a time. The largest plain tile, however badly packed, fits."""
SCRATCH_BYTES = 2 << 20
"""Largest buffer that a thread keeps for its next tile."""

HELPERS = 16
"""Threads that fetch beside the readers: requests in flight are at most so many more than reads.
A whole block of a file needs five requests after its header.
"""

_HEADER_S = 600.0
"""Age at which a header is read again: a worker may live for days, and the file be replaced."""

_LOOKS = 3
"""Attempts to read a file that is replaced meanwhile."""

_CHANGES = "was replaced while it was read"


def memory_bytes(reads: int) -> int:
    """Return the memory of a process that reads so many files at once, without the arrays that are filled."""
    return TILES_BYTES + HEADERS_BYTES + FLIGHT_BYTES + (reads + HELPERS) * SCRATCH_BYTES


@dataclass(frozen=True)
class TileReader:
    """Opens sources: plain TIFF files itself, others with GDAL."""

    signer: Signer
    retry: Retry = Retry()
    private_hosts: frozenset[str] = frozenset()
    """Hosts that may be asked although they are private: those of a private catalogue."""

    @property
    def gdal(self) -> GdalReader:
        """Reads the files that aren't plain."""
        return GdalReader(self.signer, self.retry, self.private_hosts)

    def open(self, source: Source, item_id: str) -> TileRaster:
        """Return a raster whose header is read on its first use."""
        return TileRaster(self, source, item_id)


@dataclass
class TileRaster:
    """A source: a plain TIFF file, or one for GDAL. Threads may share it."""

    reader: TileReader
    source: Source
    item_id: str
    _file: ByteSource | None = None
    _other: GdalRaster | None = None
    _state: FileState | None = None
    """State of the file when its first pixels were read."""
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level, native first."""
        header = self._header()
        return tuple(level.shape for level in header.levels) if header else self._gdal().shapes

    @property
    def grid(self) -> FileGrid:
        """Where the file says that it lies."""
        header = self._header()
        return header.grid if header and header.grid is not None else self._gdal().grid

    @property
    def nodata(self) -> int | None:
        """The file's own number of missing pixels, as `Raster.nodata`."""
        header = self._header()
        return header.nodata if header else self._gdal().nodata

    def read(
        self,
        level: int,
        window: Window,
        out: npt.NDArray[np.generic],
        rest: Window | None = None,
        *,
        is_shared: bool = False,
    ) -> None:
        """Fill `out` with the pixels of a window of a level, as `Raster.read`."""
        for _ in range(_LOOKS):
            header = self._header()
            if header is None:
                self._gdal().read(level, window, out)
                return
            self._hold_to(header.state)
            if level >= len(header.levels):
                break
            try:
                tiles = tuple(_tiles(header.levels[level], window, cast(Pixels, out), rest or window))
                _Reading(self._parts(), header, level, tiles, is_shared).do()
            except FileReplacedError:
                _HEADERS.drop(self._key)
            except AssetError:
                _HEADERS.drop(self._key)  # the file may have been replaced, and its server not show it
                raise
            else:
                self._state = header.state
                return
        raise refused(self.source, self.item_id, _CHANGES)

    def _hold_to(self, state: FileState) -> None:
        """Refuse to mix the pixels of two states of a file."""
        if self._state is not None and state.is_other(self._state):
            raise refused(self.source, self.item_id, _CHANGES)

    def close(self) -> None:
        """Release the file."""
        if self._other is not None:
            self._other.close()

    def _gdal(self) -> GdalRaster:
        with self._lock:
            if self._other is None:
                self._other = self.reader.gdal.open(self.source, self.item_id)
            return self._other

    @property
    def _key(self) -> tuple[object, ...]:
        return self.source.href, self.source.version, self.reader.private_hosts, *(self._local or ())

    def _parts(self) -> ByteSource:
        if self._file is None:
            href, fault = self.source.href, partial(unreadable, self.source, self.item_id)
            if self._local is None:
                self._file = HttpFile(href, self.reader.signer, self.reader.retry, self.reader.private_hosts, fault)
            else:
                self._file = LocalFile(Path(href), fault)
        return self._file

    @cached_property
    def _local(self) -> tuple[int, int] | None:
        """Size and time of a file on this machine's disk."""
        if urlsplit(self.source.href).scheme in ("http", "https"):
            return None
        try:
            found = Path(self.source.href).stat()
        except OSError:
            return 0, 0
        return found.st_size, found.st_mtime_ns

    def _header(self) -> Header | None:
        """Return the header; None where GDAL has to read the file."""
        if path_part(self.source.href).lower().endswith((".jp2", ".j2k")) or self.source.href.startswith("/vsi"):
            return None
        found = _HEADERS.claim(self._key)
        if isinstance(found, Kept) and found.value.read_at < time.monotonic() - _HEADER_S:
            _HEADERS.drop(self._key)
            found = _HEADERS.claim(self._key)
        if isinstance(found, Future):
            try:
                header = found.result()
            except LookupError:  # the other thread failed, and reports that itself
                header = self._read_header()
        elif found is not None:
            header = found.value
        else:
            try:
                header = self._read_header()
            except BaseException:
                _HEADERS.fail(self._key)
                raise
            _HEADERS.settle(self._key, header, header.nbytes)
        if header.shape != self.source.shape:
            height, width = header.shape
            expected = f"{self.source.shape[0]} × {self.source.shape[1]}"
            what = f"has {height} × {width} pixels, but its item says {expected}"
            raise refused(self.source, self.item_id, what)
        if header.levels and self.source.band > 1:
            raise refused(self.source, self.item_id, other_bands(1, self.source))
        return header if header.levels else None

    def _read_header(self) -> Header:
        fault = refused(self.source, self.item_id, _CHANGES)
        for _ in range(_LOOKS):
            try:
                return read_header(self._parts())
            except FileReplacedError:
                continue
            except FinalReadError as error:
                fault = unreadable(self.source, self.item_id, error.why, 1)
                break
        raise fault


_HEADERS: Shared[Header] = Shared(HEADERS_BYTES)
_TILES: Shared[Pixels] = Shared(TILES_BYTES)
_PACKED = Recent(PACKED_BYTES)
_FLIGHT = MemoryBudget(FLIGHT_BYTES)


@cache
def _helpers() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(HELPERS, thread_name_prefix="fetch")


os.register_at_fork(after_in_child=_helpers.cache_clear)


@dataclass(frozen=True, slots=True)
class _Tile:
    """A tile that a window needs."""

    number: int
    start: int
    stop: int
    """End of its bytes in the file."""
    rows: slice
    cols: slice
    """With `rows`: the part that is needed."""
    out: Pixels
    """Where that part goes."""
    share: float
    """That part's share of what all reads need of the tile; below 1 where other reads will need it."""


class _Reading:
    """A read of one window of one level."""

    def __init__(self, file: ByteSource, header: Header, level: int, tiles: Sequence[_Tile], is_shared: bool) -> None:
        self.file, self.state, self.tiles, self.is_shared = file, header.state, tiles, is_shared
        self.name, self.level = (header.number, level), header.levels[level]
        self.claimed: set[int] = set()

    def do(self) -> None:
        """Fill the array; raises AssetError, or FileReplacedError where the header isn't the file's any longer."""
        here, elsewhere = [], []
        try:
            for tile in self.tiles:
                if tile.stop == tile.start:
                    _put(np.asarray(self.level.fill, self.level.dtype), tile.out)
                elif tile.share >= 1 and not self.is_shared:
                    here.append(tile)
                elif (found := _TILES.claim((*self.name, tile.number), tile.share)) is None:
                    self.claimed.add(tile.number)
                    here.append(tile)
                elif isinstance(found, Future):
                    elsewhere.append((tile, found))
                else:
                    _put(found.value[tile.rows, tile.cols], tile.out)
            self._fetch(here)
        finally:
            for number in tuple(self.claimed):
                _TILES.fail((*self.name, number))
        failed = []
        for tile, making in elsewhere:
            try:
                _put(making.result()[tile.rows, tile.cols], tile.out)
            except LookupError:
                failed.append(tile)
        self._fetch(failed)
        self._share_room()

    def _share_room(self) -> None:
        """Hold both caches to the room that they have together: a unit that shares nothing has all of it."""
        if self.is_shared:
            _TILES.shrink(TILES_BYTES - PACKED_BYTES)
        elif _TILES.size:
            _PACKED.clear()

    def _fetch(self, tiles: Sequence[_Tile]) -> None:
        """Fetch and decode tiles: the first request in this thread, others at the same time in the helpers."""
        kept = [(tile, _PACKED.get((*self.name, tile.number))) for tile in tiles] if self.is_shared else []
        found = {tile.number: packed for tile, packed in kept if packed is not None}
        runs = list(_runs([tile for tile in tiles if tile.number not in found]))
        own = runs[:1] if not found else []  # else there is enough to do here while the helpers wait
        helping = [_helpers().submit(self._fetch_run, run) for run in runs[len(own) :]]
        try:
            for tile in tiles:
                if tile.number in found:
                    self._decode(tile, memoryview(found[tile.number]))
            for run in own:
                self._fetch_run(run)
            for one in helping:
                one.result()
        finally:
            for one in helping:
                one.cancel()
            for one in helping:
                if not one.cancelled():
                    one.exception()  # no thread may write to the array once this has returned

    def _fetch_run(self, run: Sequence[_Tile]) -> None:
        first = run[0].start

        def use(body: memoryview, _: FileState) -> None:
            for tile in run:
                packed = body[tile.start - first : tile.stop - first]
                if len(packed) < tile.stop - tile.start:
                    raise RetryableReadError(BROKEN_PART)
                self._decode(tile, packed)
                if self.is_shared:
                    _PACKED.put((*self.name, tile.number), bytes(packed))

        with _FLIGHT.of(run[-1].stop - first + self.level.tile_bytes):
            self.file.read(first, run[-1].stop, use, self.state)

    def _decode(self, tile: _Tile, packed: memoryview) -> None:
        level = self.level
        keep = tile.number in self.claimed
        pixels = np.empty(level.tile, level.dtype) if keep else _scratch(level.tile_bytes).view(level.dtype)
        pixels = pixels.reshape(level.tile)
        # a tile that no other read needs is decoded in part
        rows = slice(None) if keep else tile.rows
        pixels = unpack(packed, level, pixels, rows)
        _put(pixels[tile.rows, tile.cols], tile.out)
        if keep:
            self.claimed.discard(tile.number)
            _TILES.settle((*self.name, tile.number), pixels, level.tile_bytes, tile.share)


def unpack(packed: memoryview, level: Level, out: Pixels, rows: slice) -> Pixels:
    """Decode a tile into `out`, (y, x), contiguous, of the level's dtype, and return its pixels; only `rows` are set.

    Raises RetryableReadError where the bytes aren't those of such a tile.
    """
    if level.compression == UNPACKED:
        if len(packed) < out.nbytes:
            raise RetryableReadError(BROKEN_PART)
        np.copyto(out[rows], np.frombuffer(packed, level.dtype, out.size).reshape(out.shape)[rows])
        return out
    flat = out.reshape(-1).view(np.uint8)
    try:
        # the buffer has the tile's size: bytes that unpack to more are stopped there
        decoded = _DECODERS[level.compression](packed, out=flat)
    except (RuntimeError, ValueError):
        decoded = None
    if decoded is None or len(decoded) != flat.size:
        raise RetryableReadError(BROKEN_PART)
    if level.predictor == 2:
        part = out[rows]
        imagecodecs.delta_decode(part, axis=1, out=part)
    return out


_DECODERS: dict[int, Callable[..., Any]] = {
    DEFLATE: imagecodecs.deflate_decode,
    DEFLATE_OLD: imagecodecs.deflate_decode,
    ZSTD: imagecodecs.zstd_decode,
    LZW: imagecodecs.lzw_decode,
}


def _tiles(level: Level, window: Window, out: Pixels, rest: Window) -> Iterator[_Tile]:
    """Yield the tiles that a window needs; `rest` is what this and other windows need."""
    height, width = level.tile
    for row in range(window.row // height, (window.row_stop - 1) // height + 1):
        top, bottom = max(window.row, row * height), min(window.row_stop, (row + 1) * height)
        for col in range(window.col // width, (window.col_stop - 1) // width + 1):
            left, right = max(window.col, col * width), min(window.col_stop, (col + 1) * width)
            number = row * level.across + col
            start, size = int(level.offsets[number]), int(level.sizes[number])
            # a window may reach beyond the rest, by a pixel of rounding
            all_rows = min((row + 1) * height, max(rest.row_stop, bottom)) - max(row * height, min(rest.row, top))
            all_cols = min((col + 1) * width, max(rest.col_stop, right)) - max(col * width, min(rest.col, left))
            yield _Tile(
                number=number,
                start=start,
                stop=start + size,
                rows=slice(top - row * height, bottom - row * height),
                cols=slice(left - col * width, right - col * width),
                out=out[top - window.row : bottom - window.row, left - window.col : right - window.col],
                share=(bottom - top) * (right - left) / (all_rows * all_cols),
            )


def _runs(tiles: Iterable[_Tile]) -> Iterator[list[_Tile]]:
    """Yield groups of tiles that lie side by side in the file, each for one request."""
    run: list[_Tile] = []
    for tile in sorted(tiles, key=lambda t: t.start):
        near = run and run[-1].stop <= tile.start <= run[-1].stop + GAP_BYTES
        if run and not (near and tile.stop - run[0].start <= RUN_BYTES):
            yield run
            run = []
        run.append(tile)
    if run:
        yield run


def _put(pixels: Pixels, out: Pixels) -> None:
    """Copy pixels; values outside the array's dtype are clipped, as GDAL does."""
    if not np.can_cast(pixels.dtype, out.dtype, "safe"):
        have, may = np.iinfo(pixels.dtype), np.iinfo(out.dtype)
        pixels = np.clip(pixels, max(have.min, may.min), min(have.max, may.max))
    np.copyto(out, pixels, casting="unsafe")


_own = threading.local()


def _scratch(size: int) -> npt.NDArray[np.uint8]:
    """Return bytes of this thread, valid until its next call: they stay in the processor's cache."""
    if size > SCRATCH_BYTES:
        return np.empty(size, np.uint8)
    buffer: npt.NDArray[np.uint8] | None = getattr(_own, "buffer", None)
    if buffer is None or buffer.size < size:
        buffer = _own.buffer = np.empty(size, np.uint8)
    return buffer[:size]
