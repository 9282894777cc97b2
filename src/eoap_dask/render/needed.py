"""Images of finished units as the layers of another unit.

Workers don't see the client's disk: each block's part of the images goes with its task, unless workers share the
output's disk and read the files themselves.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

import imagecodecs
import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.errors import TilesError
from eoap_dask.geo.window import Window
from eoap_dask.readers.limits import READS
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.scenes.model import Pass, Scene

if TYPE_CHECKING:
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
    """Which image of each: its file's name, with ``{unit}`` for the name of the unit."""
    bands: int
    reads: int = field(default=READS, metadata=NO_PIXELS)
    clip_wkb: bytes | None = field(default=None, metadata=NO_PIXELS)  # what is beyond has no data in the images
    """The shape that the images are cut to, in the grid's CRS; None for the whole grid."""
    # what a `Stack` has beside these
    passes: ClassVar[tuple[Pass, ...]] = ()
    map_points: ClassVar[int] = 0
    dropped_classes: ClassVar[None] = None

    @cached_property
    def clip(self) -> shapely.Geometry | None:
        """The shape that the images are cut to, in the grid's CRS."""
        return None if self.clip_wkb is None else shapely.from_wkb(self.clip_wkb)

    @property
    def held_bytes(self) -> int:
        """Bytes per pixel of the images, which a task receives and holds whole."""
        return 2 * self.bands * len(self.units)

    @property
    def depth(self) -> int:
        """Layers of a band."""
        return len(self.units)

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

    def file(self, unit: str) -> str:
        """Return the name of the image's file in the directory of the unit of that name."""
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
            read = read_window(part, self._window, self.stack) if isinstance(part, Path) else _unpack_part(part)
            self._arrays.append(read)
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


def read_window(path: Path, window: Window, stack: UnitStack) -> npt.NDArray[np.uint16]:
    """Return a window of an image of a unit, (band, y, x), uint16.

    Raises `TilesError` when it can't be read, or isn't on the stack's grid with its bands and 0 as nodata.
    """
    import rasterio
    from rasterio.windows import Window as RasterioWindow

    height, width = window.shape
    try:
        with ExitStack() as exits:
            file = exits.enter_context(rasterio.open(path))
            fault = _misfit(file, stack)
            pixels: npt.NDArray[Any] = file.read(window=RasterioWindow(window.col, window.row, width, height))
    except (OSError, rasterio.errors.RasterioError) as exc:
        raise TilesError(
            f"{path.name}, which another unit needs, can't be read: {exc}.",
            "Finished units must stay until the run ends.",
            "Run the same command again.",
        ) from exc
    if fault:
        raise TilesError(
            f"{path.name}, which another unit needs, {fault}.",
            f"Expected {stack.bands} bands of uint16 with 0 as nodata, on the grid of the unit that needs it.",
            "This is a fault of the application.",
        )
    return pixels


def _misfit(file: Any, stack: UnitStack) -> str:
    """Return what makes an image unfit to be a layer; empty where nothing does."""
    geobox = stack.geobox
    if file.shape != geobox.shape or not file.transform.almost_equals(geobox.transform, 1e-9):
        return f"has {file.height} × {file.width} pixels at {tuple(file.transform)[:6]}"
    if file.crs != _crs(str(geobox.crs)):
        return f"is in {file.crs}"
    if file.count != stack.bands or set(file.dtypes) != {"uint16"} or file.nodata != 0:
        return f"has {file.count} bands of {file.dtypes[0]} with {file.nodata} as nodata"
    return ""


@lru_cache(16)
def _crs(text: str) -> Any:
    """Return a CRS as rasterio has it."""
    from rasterio.crs import CRS

    return CRS.from_string(text)


def cut_part(path: Path, window: Window, stack: UnitStack) -> bytes:
    """Return a window of an image for a task: its shape, then compressed pixels."""
    pixels = np.ascontiguousarray(read_window(path, window, stack))
    shape = np.array([*pixels.shape], "<u4").tobytes()
    delta: Any = imagecodecs.delta_encode(pixels, axis=-1)
    return shape + bytes(imagecodecs.deflate_encode(delta, level=1))


def _unpack_part(part: bytes) -> npt.NDArray[np.uint16]:
    shape = tuple(int(n) for n in np.frombuffer(part[:12], "<u4"))
    raw = np.frombuffer(imagecodecs.deflate_decode(part[12:]), np.uint16).reshape(shape)
    pixels: npt.NDArray[np.uint16] = imagecodecs.delta_decode(raw, axis=-1)
    return pixels
