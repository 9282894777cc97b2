"""What compressions of a product cost, in bytes and processor time: ``python -m benchmarks.compression --help``.

Tiles of 512 pixels with three bands, as `cloudless-mosaic` writes them, are encoded and decoded on one thread, by ISA-L
as it does it, and by the libraries of imagecodecs (libdeflate, libzstd, LERC …). Pixels are a monthly median of the
demo's archive, and real Sentinel-2 where there is some: small pieces in netCDF files, laid side by side.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import imagecodecs
import numpy as np
import numpy.typing as npt
import rasterio
from isal import isal_zlib
from rasterio.errors import RasterioError

from benchmarks.archive import BANDS, DEFAULT_CACHE, Shape, items_of, prepare
from eoap_dask.geo.window import TILE
from eoap_dask.kernels import composites
from eoap_dask.render.encode import DEFLATE_LEVEL, deflate

Pixels = npt.NDArray[np.uint16]

CHOSEN = f"DEFLATE by ISA-L {DEFLATE_LEVEL}, predictor 2"
"""Title of the format that products have."""

REAL = Path(os.environ.get("EOAP_DASK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data")) / "series"


@dataclass(frozen=True)
class Format:
    """A way to write tiles."""

    name: str
    encode: Callable[[Any], Any]
    decode: Callable[[Any], Any]
    predictor: bool
    profile: dict[str, Any]
    """The same in words of GDAL."""

    @property
    def title(self) -> str:
        """Name for people."""
        return f"{self.name}, predictor 2" if self.predictor else self.name


def _deflate(level: int) -> tuple[str, Callable[..., Any], Callable[..., Any], dict[str, Any]]:
    return (
        *(f"DEFLATE {level}", lambda pixels: imagecodecs.deflate_encode(pixels, level=level)),
        *(imagecodecs.deflate_decode, {"compress": "deflate", "zlevel": level}),
    )


def _isal(level: int) -> tuple[str, Callable[..., Any], Callable[..., Any], dict[str, Any]]:
    def encode(pixels: Any) -> bytes:
        return deflate(pixels) if level == DEFLATE_LEVEL else isal_zlib.compress(pixels, level)

    return f"DEFLATE by ISA-L {level}", encode, imagecodecs.deflate_decode, {"compress": "deflate"}


def _zstd(level: int) -> tuple[str, Callable[..., Any], Callable[..., Any], dict[str, Any]]:
    return (
        *(f"ZSTD {level}", lambda pixels: imagecodecs.zstd_encode(pixels, level=level)),
        *(imagecodecs.zstd_decode, {"compress": "zstd", "zstd_level": level}),
    )


def formats() -> Iterator[Format]:
    """Yield all formats that are compared."""
    lzw = "LZW", imagecodecs.lzw_encode, imagecodecs.lzw_decode, {"compress": "lzw"}
    deflates = (*map(_isal, (1, 2, 3)), *map(_deflate, (1, 6, 9)))
    for name, encode, decode, profile in (*deflates, *map(_zstd, (1, 9, 15)), lzw):
        for predictor in (True, False):
            yield Format(name, encode, decode, predictor, {**profile, "predictor": 2 if predictor else 1})
    yield Format(
        "LERC_ZSTD 9, lossless",
        lambda pixels: imagecodecs.lerc_encode(pixels, level=0, compression="zstd", compressionargs={"level": 9}),
        imagecodecs.lerc_decode,
        False,
        {"compress": "lerc_zstd", "max_z_error": 0},
    )


def tiles_of(image: Pixels) -> list[Pixels]:
    """Return the tiles of an image (band, y, x), each (y, x, band), those at the edges as small as they are."""
    height, width = image.shape[1:]
    return [
        np.ascontiguousarray(image[:, row : row + TILE, col : col + TILE].transpose(1, 2, 0))
        for row in range(0, height, TILE)
        for col in range(0, width, TILE)
    ]


def measure(one: Format, tiles: Sequence[Pixels], repeat: int) -> dict[str, Any]:
    """Encode and decode; return bytes, and processor seconds (medians)."""
    encoding, decoding = [], []
    encoded: list[Any] = []
    for _ in range(repeat):
        began = time.thread_time()
        encoded = [one.encode(imagecodecs.delta_encode(tile, axis=1) if one.predictor else tile) for tile in tiles]
        encoding.append(time.thread_time() - began)
        began = time.thread_time()
        decoded = [_decode(one, packed, tile) for packed, tile in zip(encoded, tiles, strict=True)]
        decoding.append(time.thread_time() - began)
        if not all(np.array_equal(a, b) for a, b in zip(decoded, tiles, strict=True)):
            raise ValueError(f"{one.title} doesn't give the pixels back")
    size = sum(len(packed) for packed in encoded)
    return {"bytes": size, "encode_cpu_s": median(encoding), "decode_cpu_s": median(decoding)}


def _decode(one: Format, packed: Any, like: Pixels) -> Pixels:
    raw = one.decode(packed)
    pixels: Pixels = raw if isinstance(raw, np.ndarray) else np.frombuffer(raw, like.dtype).reshape(like.shape)
    return imagecodecs.delta_decode(pixels, axis=1) if one.predictor else pixels


def gdal_can(one: Format) -> bool:
    """Tell whether the GDAL of this rasterio writes and reads it."""
    pixels = np.arange(3 * 64 * 64, dtype=np.uint16).reshape(3, 64, 64)
    profile = {"driver": "GTiff", "width": 64, "height": 64, "count": 3, "dtype": "uint16", "tiled": True}
    profile["transform"] = rasterio.Affine(10.0, 0.0, 0.0, 0.0, -10.0, 0.0)
    with suppress(RasterioError), rasterio.MemoryFile() as memory:
        with memory.open(**profile, blockxsize=64, blockysize=64, interleave="pixel", **one.profile) as dataset:
            dataset.write(pixels)
        with memory.open() as dataset:
            return bool(np.array_equal(dataset.read(), pixels)) and dataset.compression is not None
    return False


def demo_pixels(shape: Shape, cache: Path, side: int) -> Pixels:
    """Return a monthly median of one tile of the demo's archive, (band, y, x)."""
    root = prepare(shape, cache)
    items = items_of(root)
    mine = [i for i in items if i["properties"]["proj:code"] == items[0]["properties"]["proj:code"]]
    out = np.empty((len(BANDS), side, side), np.uint16)
    window = ((0, side), (0, side))
    for number, band in enumerate(BANDS):
        layers = []
        for item in mine:
            with rasterio.open(root / item["assets"][band]["href"]) as dataset:
                layers.append(dataset.read(1, window=window))
        out[number] = composites.median(np.stack(layers))
    return out


def real_pixels(name: str, across: int, folder: Path = REAL) -> Pixels | None:
    """Return real scenes or composites of a netCDF file side by side, (band, y, x); None where there is no file."""
    path = folder / name
    if not path.exists():
        return None
    bands = []
    for band in ("B08", "B04", "B03"):
        with rasterio.open(f"netcdf:{path}:S2-L2A-{band}") as dataset:
            layers = dataset.read()
            layers[layers >= 32769] = 0  # 32769 and 65535 are their nodata
        rows = [np.concatenate(layers[i : i + across], axis=1) for i in range(0, len(layers) - across + 1, across)]
        bands.append(np.concatenate(rows))
    return np.stack(bands)


def compare(cache: Path, *, tiny: bool, repeat: int) -> dict[str, Any]:
    """Measure all formats on all pixels; return JSON-like values."""
    shape, side = (Shape(640, months=1, dates=3), 512) if tiny else (Shape(2928, months=1, dates=6), 2048)
    sources = {
        "demo, monthly median": demo_pixels(shape, cache, side),
        "real, 12 monthly composites": real_pixels("worldcereal_preprocessed_inputs.nc", 4),
        "real, 18 dates": real_pixels("test_optical_cube.nc", 6),
    }
    out: dict[str, Any] = {"gdal": rasterio.__gdal_version__, "chosen": CHOSEN}
    out["formats"] = {one.title: {"gdal": gdal_can(one)} for one in formats()}
    out["sources"] = {}
    for name, image in sources.items():
        if image is None:
            print(f"{name}: not here", file=sys.stderr)
            continue
        tiles = tiles_of(image)
        found = {one.title: measure(one, tiles, repeat) for one in formats()}
        out["sources"][name] = {"shape": list(image.shape), "pixel_bytes": image.nbytes, "formats": found}
    return out


def table(result: dict[str, Any]) -> str:
    """Return the result for people: per source the share of the pixels' bytes, and MB of pixels per CPU second."""
    lines = []
    for name, source in result["sources"].items():
        lines += [
            f"{name}: {' × '.join(map(str, source['shape']))}, {source['pixel_bytes'] / 1e6:.1f} MB",
            "",
            f"| format | share of the pixels | encode MB/s | decode MB/s | GDAL {result['gdal']} of the wheel |",
            "|---|--:|--:|--:|---|",
        ]
        for title, found in source["formats"].items():
            size = source["pixel_bytes"]
            speeds = [size / max(found[key], 1e-9) / 1e6 for key in ("encode_cpu_s", "decode_cpu_s")]
            text = f"**{title}**" if title == result["chosen"] else title
            can = "yes" if result["formats"][title]["gdal"] else "no"
            lines.append(f"| {text} | {found['bytes'] / size:.1%} | {speeds[0]:.0f} | {speeds[1]:.0f} | {can} |")
        lines.append("")
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Compare, print a table, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.compression", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps archives [%(default)s]")
    parser.add_argument("--repeat", type=int, default=5, help="rounds [%(default)s]")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    result = compare(given.cache, tiny=given.tiny, repeat=1 if given.tiny else given.repeat)
    if given.json:
        given.json.write_text(json.dumps(result, indent=1) + "\n")
    print(table(result))


if __name__ == "__main__":
    main()
