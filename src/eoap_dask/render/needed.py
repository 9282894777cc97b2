"""Images of finished units as the layers of another unit.

Workers don't see the client's disk: each block's part of the images goes with its task, unless workers share the
output's disk and read the files themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

import imagecodecs
import numpy as np
import numpy.typing as npt

from eoap_dask.errors import TilesError
from eoap_dask.geo.window import Window
from eoap_dask.readers.limits import READS
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.scenes.model import Pass, Scene

if TYPE_CHECKING:
    import shapely
    from odc.geo.geobox import GeoBox

Part = Path | bytes
"""Where an image is, or a window of it, (band, y, x) uint16, compressed by `cut_part`."""


@dataclass(frozen=True)
class UnitStack:
    """Images of finished units on the same grid, each as one layer. Small, and cheap to pickle."""

    geobox: GeoBox
    units: tuple[str, ...]
    """Keys, in the order of the layers."""
    image: str
    """Which image of each: its file's stem, with ``{unit}`` for the unit's key."""
    bands: int
    reads: int = field(default=READS, metadata=NO_PIXELS)
    passes: tuple[Pass, ...] = ()
    """None: what counts is the content of the units."""
    map_points: int = 0
    clip: shapely.Geometry | None = None
    dropped_classes: tuple[int, ...] | None = None

    @property
    def scenes(self) -> tuple[Scene, ...]:
        """None: those of the units are theirs."""
        return ()

    def rules(self) -> dict[str, Any]:
        """Return what decides the layers beside grid and units, as JSON-like values."""
        return {"bands": self.bands, "units": list(self.units), "image": self.image}

    def touching(self, window: Window) -> tuple[tuple[int, tuple[Scene, ...]], ...]:  # noqa: ARG002
        """Return (number of the layer, ()) for every unit: they are on the same grid."""
        return tuple((number, ()) for number in range(len(self.units)))

    def stem(self, unit: str) -> str:
        """Return the stem of the image's file in a unit's directory."""
        return self.image.format(unit=unit)


class UnitReader:
    """Reads strips of a window from images of units, as `StackReader` does from scenes. A context manager."""

    def __init__(self, stack: UnitStack, window: Window, parts: Sequence[Part]) -> None:
        self.stack = stack
        self.passes = stack.touching(window)
        self.levels: dict[str, set[float]] = {}
        self._window, self._parts = window, parts
        self._arrays: list[npt.NDArray[np.uint16]] = []

    def __enter__(self) -> Self:
        for part in self._parts:
            self._arrays.append(read_window(part, self._window) if isinstance(part, Path) else _unpack_part(part))
        return self

    def __exit__(self, *_: object) -> None:
        self._arrays.clear()

    def read(self, strip: Window, layers: npt.NDArray[np.uint16], dropped: npt.NDArray[np.bool_] | None = None) -> None:
        """Fill `layers`, (band, unit, y, x), uint16, 0 = no data; nothing is ever flagged as dropped."""
        inside = self._window.slices(strip)
        for number, image in enumerate(self._arrays):
            layers[:, number] = image[:, *inside]
        if dropped is not None:
            dropped[...] = False


def read_window(path: Path, window: Window) -> npt.NDArray[np.uint16]:
    """Return a window of one of our images, (band, y, x), uint16; `TilesError` when it can't be read."""
    import rasterio
    from rasterio.windows import Window as RasterioWindow

    height, width = window.shape
    try:
        with ExitStack() as stack:
            file = stack.enter_context(rasterio.open(path))
            pixels: npt.NDArray[Any] = file.read(window=RasterioWindow(window.col, window.row, width, height))
    except (OSError, rasterio.errors.RasterioError) as exc:
        raise TilesError(
            f"{path.name}, which another unit needs, can't be read: {exc}.",
            "Finished units must stay until the run ends.",
            "Run the same command again.",
        ) from exc
    if pixels.dtype != np.uint16 or pixels.shape[1:] != window.shape:
        raise TilesError(
            f"{path.name}, which another unit needs, has {pixels.dtype} pixels of shape {pixels.shape}.",
            f"Expected uint16, and {height} × {width} of them.",
        )
    return pixels


def cut_part(path: Path, window: Window) -> bytes:
    """Return a window of an image for a task: its shape, then compressed pixels."""
    pixels = np.ascontiguousarray(read_window(path, window))
    shape = np.array([*pixels.shape], "<u4").tobytes()
    delta: Any = imagecodecs.delta_encode(pixels, axis=-1)
    return shape + bytes(imagecodecs.deflate_encode(delta, level=1))


def _unpack_part(part: bytes) -> npt.NDArray[np.uint16]:
    shape = tuple(int(n) for n in np.frombuffer(part[:12], "<u4"))
    raw = np.frombuffer(imagecodecs.deflate_decode(part[12:]), np.uint16).reshape(shape)
    pixels: npt.NDArray[np.uint16] = imagecodecs.delta_decode(raw, axis=-1)
    return pixels
