"""Images of a block as encoded tiles: a worker makes them, the client puts them into a file."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

import imagecodecs
import numpy as np
import numpy.typing as npt
from isal import isal_zlib

from eoap_dask.errors import TilesError
from eoap_dask.geo.window import TILE, Window
from eoap_dask.kernels.pixels import Image, Sums, halve_mean, halve_nearest, statistics
from eoap_dask.render.images import ImageSpec

DEFLATE_LEVEL = 2
"""ISA-L's, 0 to 3: as small as any encoder's of real reflectances, in half the time (`benchmarks/compression.py`).
Level 3 makes other bytes on processors with AVX-512 than on those without.
"""

HALVE = {"mean": halve_mean, "nearest": halve_nearest}
"""How overviews are made, by `ImageSpec.overviews`."""


@dataclass
class EncodedImage:
    """One image of one block: its tiles of all levels of which the block has whole tiles."""

    index: npt.NDArray[np.int64]
    """(tile, 4): level, tile row, tile column, bytes; level 0 is the full one."""
    tiles: list[npt.NDArray[np.uint8]] | Path
    """The tiles in this order: arrays, which Dask sends without a copy, or a file of all of them."""
    rest: Image | None
    """Pixels of the next coarser level, (band, y, x), of which the block has less than a tile."""
    sums: Sums
    """Per band, see `kernels.pixels.statistics`; empty for pictures and classes."""


def level_shapes(shape: tuple[int, int]) -> tuple[tuple[int, int], ...]:
    """Return height and width of all levels, full first, down to one that fits a tile."""
    shapes = [shape]
    while max(shapes[-1]) > TILE:
        height, width = shapes[-1]
        shapes.append((-(-height // 2), -(-width // 2)))
    return tuple(shapes)


def tile_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Return height and width of the tiles of an image: 512, or what holds it all, in steps of 16 as TIFF wants it."""
    height, width = (TILE if max(shape) > TILE else -(-side // 16) * 16 for side in shape)
    return height, width


class TileFile:
    """A file in `folder` for the tiles of one image of a block; a context manager that removes it, unless it is kept.

    Its name is unique: Dask may give a block of a lost worker to another one while both run. Raises TilesError when the
    disk refuses.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.{uuid4().hex[:12]}"
        self._is_kept = False
        with self._as_tiles_error():
            self._file = self.path.open("xb")

    def __enter__(self) -> TileFile:
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):  # a full disk can't take the rest either
            self._file.close()
        if not self._is_kept:
            self.path.unlink(missing_ok=True)

    def write(self, tile: bytes) -> None:
        """Append a tile."""
        with self._as_tiles_error():
            self._file.write(tile)

    def keep(self) -> None:
        """Close the file, and keep it."""
        with self._as_tiles_error():
            self._file.close()
        self._is_kept = True

    @contextmanager
    def _as_tiles_error(self) -> Iterator[None]:  # an OSError becomes a TilesError
        try:
            yield
        except OSError as exc:
            raise TilesError(
                f"A worker couldn't write into {self.path.parent}: {exc.strerror or exc}.",
                "",
                "Free disk space there, or let the client write the tiles.",
            ) from exc


@dataclass
class _Waiting:
    """Rows of a level that don't make a row of tiles yet."""

    pixels: Image
    rows: int = 0


class BlockEncoder:
    """Encodes one image of a block, a row of tiles at a time, so that the block is never in memory as a whole.

    `block` is the side of a whole block, 512·2^k; `levels` those of the whole image, which the block is where it has
    one; without `file` tiles stay in memory.
    """

    def __init__(self, spec: ImageSpec, window: Window, block: int, levels: int, file: TileFile | None = None) -> None:
        self._file = file
        self._spec, self._window, self._levels = spec, window, levels
        self._nodata = 0 if spec.nodata is None else spec.nodata  # a count of 0 means that nothing was counted
        self._tile = tile_shape(window.shape) if levels == 1 else (TILE, TILE)
        self._whole = min(block.bit_length() - TILE.bit_length() + 1, levels)  # levels with whole tiles
        self._rows_of_tiles = [0] * self._whole
        self._waiting: dict[int, _Waiting] = {}
        self._index: list[tuple[int, int, int, int]] = []
        self._tiles: list[npt.NDArray[np.uint8]] = []
        self._sums: Sums = []

    def add(self, rows: Image) -> None:
        """Encode the next rows, (band, y, x): 512 of them, or the last ones. They aren't kept."""
        if self._spec.is_measured:
            self._sums = merge_sums(self._sums, statistics(rows, self._nodata))
        self._encode(0, rows)

    def finish(self) -> EncodedImage:
        """Return the encoded image, once all rows were added."""
        for level in range(1, self._whole):
            self._flush(level)
        rest = self._waiting[self._whole].pixels if self._whole < self._levels else None
        tiles: list[npt.NDArray[np.uint8]] | Path = self._tiles
        if self._file is not None:
            self._file.keep()
            tiles = self._file.path
        return EncodedImage(np.array(self._index, np.int64).reshape(-1, 4), tiles, rest, self._sums)

    def _encode(self, level: int, rows: Image) -> None:
        top, left = (self._window.row >> level) // TILE, (self._window.col >> level) // TILE
        top += self._rows_of_tiles[level]
        self._rows_of_tiles[level] += 1
        for _, col, tile in encode_tiles(rows, self._tile):
            self._index.append((level, top, left + col, len(tile)))
            if self._file is None:
                self._tiles.append(np.frombuffer(tile, np.uint8))
            else:
                self._file.write(tile)
        if level + 1 < self._levels:
            self._halve(level + 1, rows)

    def _halve(self, level: int, finer: Image) -> None:
        is_rest = level == self._whole
        waiting = self._waiting.get(level)
        if waiting is None:
            height, width = (-(-n >> level) for n in self._window.shape)
            shape = (finer.shape[0], height if is_rest else min(height, TILE), width)
            waiting = self._waiting[level] = _Waiting(np.empty(shape, finer.dtype))
        start, waiting.rows = waiting.rows, waiting.rows + -(-finer.shape[1] // 2)
        HALVE[self._spec.overviews](finer, self._nodata, waiting.pixels[:, start : waiting.rows])
        if waiting.rows == TILE and not is_rest:
            self._flush(level)

    def _flush(self, level: int) -> None:
        waiting = self._waiting.get(level)
        if waiting is not None and waiting.rows:
            rows, waiting.rows = waiting.rows, 0
            self._encode(level, waiting.pixels[:, :rows])


def encode_image(
    image: Image, spec: ImageSpec, window: Window, block: int, levels: int, file: TileFile | None = None
) -> EncodedImage:
    """Encode an image of a block, (band, y, x), that is in memory as a whole; see `BlockEncoder`."""
    encoder = BlockEncoder(spec, window, block, levels, file)
    for row in range(0, image.shape[1], TILE):
        encoder.add(image[:, row : row + TILE])
    return encoder.finish()


def encode_tiles(image: Image, shape: tuple[int, int] = (TILE, TILE)) -> Iterator[tuple[int, int, bytes]]:
    """Yield (row, column, bytes) of the tiles of an image (band, y, x), padded with 0 at the right and bottom.

    `shape` is the height and width of the tiles.
    """
    bands, height, width = image.shape
    tile = np.empty((*shape, bands), image.dtype)
    scratch = np.empty_like(tile)  # fresh memory for each tile would cost as much as the predictor
    for row in range(0, height, shape[0]):
        for col in range(0, width, shape[1]):
            part = image[:, row : row + shape[0], col : col + shape[1]]
            if part.shape[1:] != shape:
                tile[...] = 0
            for band in range(bands):  # four times as quick as all of them at once
                tile[: part.shape[1], : part.shape[2], band] = part[band]
            yield row // shape[0], col // shape[1], deflate(predicted(tile, scratch))


def predicted(tile: Image, out: Image | None = None) -> Any:
    """Apply TIFF's predictor to a tile (y, x, band), per sample: 3 to floats, 2 to integers."""
    if tile.dtype.kind == "f":
        return imagecodecs.floatpred_encode(tile, axis=1, dist=1, out=out)
    return imagecodecs.delta_encode(tile, axis=1, out=out)


def deflate(data: Any) -> bytes:
    """Compress a buffer as TIFF's compression 8, a zlib stream; the same bytes on every x86-64 with SSE 4.2."""
    # Where ISA-L's loop begins a stream, it takes the hash of the third byte from a register that holds an address
    # (`write_first_byte` in igzip_icf_body_h1_gr_bt.asm): one stream in some thousands would differ from process to
    # process. After a first block that is too short for the loop, it doesn't.
    view = memoryview(data).cast("B")
    stream = isal_zlib.compressobj(DEFLATE_LEVEL)
    first = stream.compress(view[:_FIRST]), stream.flush(isal_zlib.Z_SYNC_FLUSH)
    return b"".join((*first, stream.compress(view[_FIRST:]), stream.flush()))


_FIRST = 4
"""Bytes of the first block: enough history for the next one, too few for the loop; they cost eight bytes."""


def merge_sums(one: Sums, other: Sums) -> Sums:
    """Add up the statistics of two parts of an image."""
    if not one or not other:
        return list(one or other)
    merged = []
    for a, b in zip(one, other, strict=True):
        if not a[0] or not b[0]:
            merged.append(a if a[0] else b)
        else:
            merged.append((a[0] + b[0], a[1] + b[1], a[2] + b[2], min(a[3], b[3]), max(a[4], b[4])))
    return merged
