"""Cloud-Optimized GeoTIFFs from tiles that workers encoded (TIFF 6.0; OGC 19-008r4, GeoTIFF 1.1; OGC 21-026, COG).

The client makes the few levels that are coarser than a block, and writes the file once, front to back: headers, then
the coarsest level first, each in row-major order. So the bytes don't depend on the order of arrival, memory stays
small, and the checksum is made on the way.
"""

from __future__ import annotations

import errno
import hashlib
import os
import struct
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from io import BytesIO
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, NamedTuple

import imagecodecs
import numpy as np
from affine import Affine

from eoap_dask.geo.window import TILE, Window
from eoap_dask.kernels.pixels import Image, Sums
from eoap_dask.render.encode import HALVE, EncodedImage, encode_tiles, level_shapes, merge_sums, tile_shape
from eoap_dask.render.images import ImageSpec

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

_CLASSIC_LIMIT = (1 << 32) - (1 << 20)
_OPEN_FILES = 128
"""Files that are open at once. A row of tiles takes one per block beside each other: 128 of 2048 px are 262144 px."""


@dataclass
class Cog:
    """Collects the blocks of an image, then writes its file. The caller removes `scratch`, for tiles and levels."""

    spec: ImageSpec
    geobox: GeoBox
    scratch: Path
    tags: Mapping[str, str] = field(default_factory=dict)
    """TIFF's own tags by GDAL's names, those of `_TEXTS`; the same ones make the same bytes."""
    _tiles: dict[tuple[int, int, int], _Place] = field(default_factory=dict)
    _files: list[Path] = field(default_factory=list)
    """Our spool, and the files that workers left."""
    _spool: IO[bytes] | None = None
    _tile_bytes: bytes = b""
    """The tile of an image that has no other."""
    _rest: Any = None
    _rest_level: int = 0
    sums: Sums = field(default_factory=list)
    smallest: Image | None = None
    """The coarsest level, (band, y, x), once written with it; for thumbnails."""

    def __post_init__(self) -> None:
        self.shapes = level_shapes((int(self.geobox.shape[0]), int(self.geobox.shape[1])))
        self._tile = tile_shape(self.shapes[0])
        self.scratch.mkdir(parents=True, exist_ok=True)
        self._files.append(self.scratch / f"{self.spec.name}.tiles")

    def add(self, block: EncodedImage, window: Window) -> None:
        """Add a block; a file of its tiles must be in the scratch directory, and is removed in the end."""
        rows = [(int(level), int(row), int(col), int(size)) for level, row, col, size in block.index]
        if isinstance(block.tiles, Path):
            path = self.scratch / block.tiles.name
            self._files.append(path)
            with path.open("rb") as file:
                if file.seek(0, 2) != sum(row[3] for row in rows):
                    raise OSError(errno.EIO, "Tiles are missing", str(path))
            self._place(rows, len(self._files) - 1, 0)
        else:
            self._append(rows, (tile.data for tile in block.tiles))
        self.sums = merge_sums(self.sums, block.sums)
        if block.rest is not None:
            level = int(block.index[:, 0].max()) + 1
            if self._rest is None:
                self._rest_level = level
                # on disk, not in memory: it grows with the area
                self._rest = self._scratch_level(level)
            row, col = window.row >> level, window.col >> level
            self._rest[:, row : row + block.rest.shape[1], col : col + block.rest.shape[2]] = block.rest

    def write(self, path: Path, *, has_thumbnail: bool = True) -> tuple[int, str]:
        """Write the file, and return its size in bytes and its SHA-256 in hexadecimal.

        For a thumbnail, `smallest` is set.
        """
        digest, size = hashlib.sha256(), 0
        with _Files(self._files, self._tile_bytes) as files:
            self._finish_levels()
            if has_thumbnail and self.smallest is None:
                self.smallest = self._decode(len(self.shapes) - 1, files)
            with path.open("wb") as file:
                for chunk in self._file(files):
                    file.write(chunk)
                    digest.update(chunk)
                    size += len(chunk)
        self.close()
        return size, digest.hexdigest()

    def close(self) -> None:
        """Remove all scratch files."""
        if self._spool is not None:
            self._spool.close()
            self._spool = None
        self._rest = None
        for file in self._files:
            file.unlink(missing_ok=True)
        for level in range(len(self.shapes)):
            (self.scratch / f"{self.spec.name}.rest{level}").unlink(missing_ok=True)

    def _append(self, rows: Sequence[tuple[int, int, int, int]], tiles: Iterable[memoryview | bytes]) -> None:
        """Append tiles to the spool; that of an image of one stays in memory."""
        if len(self.shapes) == 1:
            (tile,) = tiles
            self._tile_bytes = bytes(tile)
            self._place(rows, _MEMORY, 0)
            return
        if self._spool is None:
            self._spool = self._files[0].open("wb")
        self._place(rows, 0, self._spool.tell())
        for tile in tiles:
            self._spool.write(tile)

    def _place(self, rows: Iterable[tuple[int, int, int, int]], file: int, at: int) -> None:
        """Note where tiles lie that follow each other in a file."""
        for level, row, col, size in rows:
            self._tiles[level, row, col] = _Place(file, at, size)
            at += size

    def _finish_levels(self) -> None:
        """Make the levels that are coarser than a block, from the blocks' rests."""
        if self._rest is not None:
            self._make_levels()
        if self._spool is not None:
            self._spool.flush()

    def _make_levels(self) -> None:
        image, level = self._rest, self._rest_level
        while True:
            coarser = self._scratch_level(level + 1) if level + 1 < len(self.shapes) else None
            for top in range(0, self.shapes[level][0], TILE):  # a row of tiles at a time: a level may be large
                part = np.array(image[:, top : top + TILE])
                for _, col, tile in encode_tiles(part):
                    self._append([(level, top // TILE, col, len(tile))], [tile])
                if coarser is not None:
                    half = HALVE[self.spec.overviews](part, self.spec.nodata or 0)
                    coarser[:, top // 2 : top // 2 + half.shape[1]] = half
            if coarser is None:
                break
            image, level = coarser, level + 1
        self.smallest = np.array(image)

    def _scratch_level(self, level: int) -> Any:
        """Return an array on disk for a level."""
        shape = (len(self.spec.bands), *self.shapes[level])
        path = self.scratch / f"{self.spec.name}.rest{level}"
        with path.open("wb") as file:  # allocated now: on a full disk, touching a missing page would be SIGBUS
            os.posix_fallocate(file.fileno(), 0, int(np.prod(shape)) * np.dtype(self.spec.dtype).itemsize)
        return np.memmap(path, self.spec.dtype, "r+", shape=shape)

    def _decode(self, level: int, files: _Files) -> Image:
        """Return the only tile of a level."""
        raw = imagecodecs.deflate_decode(files.read(self._tiles[level, 0, 0]))
        tile = np.frombuffer(raw, self.spec.dtype).reshape(*self._tile, len(self.spec.bands))
        floating = tile.dtype.kind == "f"
        pixels = imagecodecs.floatpred_decode(tile, axis=1) if floating else imagecodecs.delta_decode(tile, axis=1)
        height, width = self.shapes[level]
        return np.ascontiguousarray(pixels[:height, :width].transpose(2, 0, 1))

    def _file(self, files: _Files) -> Iterator[bytes]:
        tall, wide = self._tile
        grids = [(-(-h // tall), -(-w // wide)) for h, w in self.shapes]
        tiles = [
            [self._tiles[level, r, c] for r in range(rows) for c in range(cols)]
            for level, (rows, cols) in enumerate(grids)
        ]
        common, first = _geo_tags(self.spec, self.geobox, self.tags)
        big = sum(place.size for place in self._tiles.values()) > _CLASSIC_LIMIT
        directories = [
            _Directory(
                shape,
                self._tile,
                [place.size for place in tiles[level]],
                common + (first if level == 0 else []),
                level > 0,
                big,
            )
            for level, shape in enumerate(self.shapes)
        ]
        at = 16 if big else 8
        for directory in directories:
            directory.at = at
            at += directory.size
        for level in reversed(range(len(directories))):
            directory = directories[level]
            directory.offsets = []
            for place in tiles[level]:
                directory.offsets.append(at)
                at += place.size
        start = directories[0].at
        yield (struct.pack("<2sHHHQ", b"II", 43, 8, 0, start) if big else struct.pack("<2sHI", b"II", 42, start))
        for i, directory in enumerate(directories):
            yield directory.pack(directories[i + 1].at if i + 1 < len(directories) else 0)
        for level in reversed(range(len(directories))):
            for place in tiles[level]:
                yield files.read(place)


_MEMORY = -1
"""Instead of the number of a file: the tile is in memory."""


class _Place(NamedTuple):
    """Where a tile lies: number of the file, first byte, bytes."""

    file: int
    at: int
    size: int


class _Files:
    """Reads parts of files; some are open at a time. A context manager."""

    def __init__(self, paths: Sequence[Path], in_memory: bytes) -> None:
        self._paths, self._in_memory = paths, in_memory
        self._open: OrderedDict[int, IO[bytes]] = OrderedDict()

    def __enter__(self) -> _Files:
        return self

    def __exit__(self, *_: object) -> None:
        for file in self._open.values():
            file.close()

    def read(self, place: _Place) -> bytes:
        """Return the bytes of a tile; OSError when the file is too short."""
        if place.file == _MEMORY:
            return self._in_memory
        file = self._open.pop(place.file, None)
        if file is None:
            if len(self._open) >= _OPEN_FILES:
                self._open.popitem(last=False)[1].close()
            file = self._paths[place.file].open("rb", buffering=0)
        self._open[place.file] = file
        found = os.pread(file.fileno(), place.size, place.at)
        if len(found) != place.size:
            raise OSError(errno.EIO, "A tile is cut off", str(self._paths[place.file]))
        return found


Tag = tuple[int, int, int, bytes]
"""(tag, type, count, value as little-endian bytes)."""

_FORMATS = {3: "H", 4: "I", 16: "Q"}


class _Directory:
    """One TIFF directory (IFD), followed by its values."""

    def __init__(
        self,
        shape: tuple[int, int],
        tile: tuple[int, int],
        sizes: list[int],
        tags: list[Tag],
        reduced: bool,
        big: bool,
    ) -> None:
        self.at = 0
        self.offsets = [0] * len(sizes)
        self._sizes, self._shape, self._tile, self._tags = sizes, shape, tile, tags
        self._reduced, self._big = reduced, big
        self.size = len(self.pack(0))

    def pack(self, following: int) -> bytes:
        """Return the directory's bytes; `following` is the place of the next one, or 0."""
        height, width = self._shape
        wide = 16 if self._big else 4
        tags = [
            _tag(254, 4, [int(self._reduced)]),
            _tag(256, 4, [width]),
            _tag(257, 4, [height]),
            _tag(322, 4, [self._tile[1]]),
            _tag(323, 4, [self._tile[0]]),
            _tag(324, wide, self.offsets),
            _tag(325, 4, self._sizes),
            *self._tags,
        ]
        tags.sort(key=lambda t: t[0])
        count, entry, pointer, inline = ("<Q", "<HHQ", "<Q", 8) if self._big else ("<H", "<HHI", "<I", 4)
        head = struct.calcsize(count) + len(tags) * (struct.calcsize(entry) + inline) + struct.calcsize(pointer)
        values_at = self.at + head + head % 2
        table, values = bytearray(struct.pack(count, len(tags))), bytearray(head % 2)
        for tag, kind, n, value in tags:
            table += struct.pack(entry, tag, kind, n)
            if len(value) <= inline:
                table += value.ljust(inline, b"\0")
            else:
                table += struct.pack(pointer, values_at + len(values) - head % 2)
                values += value + b"\0" * (len(value) % 2)
        table += struct.pack(pointer, following)
        return bytes(table + values)


def _tag(tag: int, kind: int, values: Sequence[int]) -> Tag:
    return tag, kind, len(values), struct.pack(f"<{len(values)}{_FORMATS[kind]}", *values)


def _geo_tags(spec: ImageSpec, geobox: GeoBox, tags: Mapping[str, str]) -> tuple[list[Tag], list[Tag]]:
    """Return the tags of every directory, and those of the first alone."""
    a, b, c, d, e, f = (float(v) for v in tuple(geobox.transform)[:6])
    north_up = not b and not d and a > 0 > e
    # what it is called is in no tag: images of a kind share theirs
    kind = replace(spec, name="", key="", title="", expression="")
    every, first = _gdal_tags(kind, str(geobox.crs), _ANYWHERE if north_up else geobox.transform)
    told = [(_TEXTS[name], 2, len(data), data) for name, text in tags.items() if (data := text.encode() + b"\0")]
    if north_up:
        scale, tie = struct.pack("<3d", a, -e, 0.0), struct.pack("<6d", 0.0, 0.0, 0.0, c, f, 0.0)
        told += [(33550, 12, 3, scale), (33922, 12, 6, tie)]
    return [*every], [*first, *told]


_ANYWHERE = Affine(2.0, 0.0, 0.0, 0.0, -2.0, 0.0)
"""Stands for all grids that are north up; GDAL would ignore one of unit pixels."""
_TEXTS = {
    "TIFFTAG_IMAGEDESCRIPTION": 270,
    "TIFFTAG_SOFTWARE": 305,
    "TIFFTAG_DATETIME": 306,
    "TIFFTAG_COPYRIGHT": 33432,
}
"""Tags of text, by GDAL's names."""


@lru_cache(64)
def _gdal_tags(spec: ImageSpec, crs: str, transform: Affine) -> tuple[tuple[Tag, ...], tuple[Tag, ...]]:
    """Return the tags of CRS, band names, scales and colours, as GDAL writes them into a tiny file.

    Those for `_ANYWHERE` don't say where.
    """
    import rasterio
    import tifffile
    from rasterio.enums import ColorInterp

    count = len(spec.bands)
    profile: dict[str, Any] = {
        "driver": "GTiff", "width": TILE, "height": TILE, "count": count, "dtype": spec.dtype, "tiled": True,
        "blockxsize": TILE, "blockysize": TILE, "interleave": "pixel", "compress": "deflate",
        "predictor": 3 if spec.dtype == "float32" else 2, "sparse_ok": True, "crs": crs,
        "transform": transform, "nodata": spec.nodata, "photometric": "RGB" if spec.is_colour else "MINISBLACK",
    }  # fmt: skip
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile) as dataset:
            for i, band in enumerate(spec.bands, 1):
                dataset.set_band_description(i, band.name)
                if band.unit_title:
                    dataset.set_band_unit(i, band.unit_title)
            if any(band.scale is not None for band in spec.bands):
                dataset.scales = tuple(1 if band.scale is None else band.scale for band in spec.bands)
            if any(band.offset for band in spec.bands):
                dataset.offsets = tuple(band.offset or 0 for band in spec.bands)
            if spec.palette:
                dataset.write_colormap(1, dict(spec.palette))
                dataset.update_tags(1, **{f"CLASS_{one.value}": one.name for one in spec.bands[0].classes if one.name})
            elif not spec.is_colour:
                dataset.colorinterp = [ColorInterp.gray] + [ColorInterp.undefined] * (count - 1)
        content = bytes(memory.getbuffer())
    every, first = [], []
    with tifffile.TiffFile(BytesIO(content)) as tiff:
        for tag in tiff.pages[0].tags.values():  # type: ignore[union-attr,unused-ignore]
            value = content[tag.valueoffset : tag.valueoffset + tag.valuebytecount]
            entry = (tag.code, int(tag.dtype), tag.count, value)
            if tag.code in _TAGS_EVERY:
                every.append(entry)
            elif tag.code in _TAGS_FIRST and not (transform == _ANYWHERE and tag.code in _TAGS_PLACE):
                first.append(entry)
    return tuple(every), tuple(first)


_TAGS_EVERY = {
    258,
    259,
    262,
    277,
    284,
    317,
    320,
    338,
    339,
    42113,
}  # bits … predictor, palette, extra samples, format, nodata
_TAGS_PLACE = {33550, 33922, 34264}
_TAGS_FIRST = {*_TAGS_PLACE, 34735, 34736, 34737, 42112}  # the grid, the CRS, GDAL's metadata
