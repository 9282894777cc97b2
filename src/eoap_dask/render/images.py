"""What an output image is, said once: files, STAC, pictures and legends follow from it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np

from eoap_dask.kernels.pixels import Image
from eoap_dask.render.identity import NO_PIXELS

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""


@dataclass(frozen=True, slots=True)
class ClassSpec:
    """One class of a band of classes."""

    value: int
    """As stored."""
    name: str = field(default="", metadata=NO_PIXELS)
    """For machines: letters, digits, ``-`` and ``_``."""
    title: str = field(default="", metadata=NO_PIXELS)
    """For people."""
    description: str = field(default="", metadata=NO_PIXELS)
    colour: Colour | None = None
    """In which it is shown; None is black, and isn't told."""
    nodata: bool = False
    """Whether it means no data."""

    @property
    def color_hint(self) -> str:
        """The colour as ``RRGGBB``, for STAC's classification extension; empty where there is none."""
        return "".join(f"{part:02X}" for part in self.colour or ())


@dataclass(frozen=True, slots=True)
class BandSpec:
    """One band of an image; its physical quantity is the stored value × `scale` + `offset`."""

    name: str
    """Unique within the image."""
    description: str = field(default="", metadata=NO_PIXELS)
    common_name: str | None = field(default=None, metadata=NO_PIXELS)
    """`eo:common_name`; left out of STAC when its extension doesn't know it."""
    unit: str | None = field(default=None, metadata=NO_PIXELS)
    """Of the quantity; ``1`` for a number without one."""
    unit_title: str = ""
    """The unit as a TIFF has it, for people; empty to say nothing."""
    scale: float | None = None
    offset: float | None = None
    classes: tuple[ClassSpec, ...] = ()
    """Meaning of the values of a band of classes."""


@dataclass(frozen=True, slots=True)
class ImageSpec:
    """An output image: how it is stored, and what its file, its STAC asset and its legend say.

    It travels to workers in each unit's recipe, without its texts; see `bare`.
    """

    name: str
    """Of the file, without its suffix."""
    bands: tuple[BandSpec, ...]
    dtype: Literal["uint8", "uint16", "int16", "float32"]
    overviews: Literal["mean", "nearest"]
    nodata: float | None
    """0, NaN in float32, −32768 in int16; None where every value is data."""
    roles: tuple[str, ...] = ("data",)
    """Of the asset: ``data``, ``data-mask``, or ``visual`` for a picture, grey or red, green and blue."""
    key: str = field(default="", metadata=NO_PIXELS)
    """Of the asset, where it isn't the name."""
    title: str = field(default="", metadata=NO_PIXELS)
    expression: str = field(default="", metadata=NO_PIXELS)
    """The formula that made it, as Python has it."""
    suffix: str = field(default=".tif", metadata=NO_PIXELS)
    """Of the file."""

    @property
    def asset_key(self) -> str:
        """Key of its STAC asset."""
        return self.key or self.name

    @property
    def is_colour(self) -> bool:
        """Whether its bands are red, green and blue."""
        return "visual" in self.roles and len(self.bands) == 3

    @property
    def is_measured(self) -> bool:
        """Whether statistics are made of it: not of pictures, nor of classes."""
        return "visual" not in self.roles and not any(band.classes for band in self.bands)

    @property
    def palette(self) -> Mapping[int, Colour]:
        """Colour of each value of an image of one band of classes; of others nothing."""
        classes = self.bands[0].classes if len(self.bands) == 1 else ()
        return {one.value: one.colour or (0, 0, 0) for one in classes}

    @property
    def pixel_bytes(self) -> int:
        """Bytes of a pixel with all its bands."""
        return len(self.bands) * np.dtype(self.dtype).itemsize

    def empty(self, shape: tuple[int, int]) -> Image:
        """Return memory for an image, (band, y, x), with any content."""
        return np.empty((len(self.bands), *shape), self.dtype)

    def clear(self, image: Image) -> None:
        """Fill an image with nodata."""
        image[...] = 0 if self.nodata is None else self.nodata

    def bare(self) -> ImageSpec:
        """Return the image without texts, and with nothing of bands and classes but how many: enough to encode it."""
        bands = tuple(
            BandSpec("", classes=(_SOME_CLASS,) * len(band.classes)) if band.classes else _SOME_BAND
            for band in self.bands
        )
        return replace(self, bands=bands, key="", title="", expression="")


_SOME_BAND = BandSpec("")
_SOME_CLASS = ClassSpec(0)
