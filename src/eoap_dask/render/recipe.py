"""The recipe of a unit: what a worker needs to render any of its blocks."""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import imagecodecs

from eoap_dask.geo.window import TILE, Window, blocks
from eoap_dask.render.identity import NO_PIXELS, identity_of
from eoap_dask.render.images import ImageSpec
from eoap_dask.render.needed import UnitStack
from eoap_dask.render.reading import strip_bytes_per_row
from eoap_dask.render.science import Science
from eoap_dask.render.stack import Stack
from eoap_dask.scenes.model import Scene

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]*")

ALGORITHM = {"mask": 1, "resample": 2, "reflectance": 1, "passes": 1, "visual": 1, "encode": 1}
"""Versions of the parts that make pixels, beside the science's own; raised when pixels change."""

BLOCK = 2048
"""Side of a block, at most."""
FEWEST_ROWS = 16
"""Rows of a strip, at least; strips are cut at multiples of it, or of 64."""


@dataclass(frozen=True)
class Cutout:
    """A window of a unit's grid that becomes images of its own, such as a chip."""

    name: str
    """Unique in the unit, and part of the names of its files: lower-case letters, digits, ``.``, ``_``, ``-``."""
    window: Window


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to render any block of one unit."""

    stack: Stack | UnitStack
    science: Science
    images: tuple[ImageSpec, ...]
    """Filled by the science, in its order."""
    block: int = field(default=TILE, metadata=NO_PIXELS)
    """Side of a block in pixels, 512·2^k; see `Plan.sized`."""
    largest: int = field(default=BLOCK, metadata=NO_PIXELS)
    """Side of a block at most: with smaller ones, a worker needs less memory, and reads more tiles twice."""
    budget: int = field(default=64 << 20, metadata=NO_PIXELS)
    """Bytes for the layers of a strip."""
    cutouts: tuple[Cutout, ...] | None = None
    """Windows that become images of their own, perhaps none; None makes one image of the whole grid, in blocks."""
    state: Any = field(default=None, metadata=NO_PIXELS)  # follows from the rest
    """What the surveys came to so far."""
    is_survey: bool = field(default=False, metadata=NO_PIXELS)
    """Whether the unit is surveyed, and not composed."""

    def __post_init__(self) -> None:
        for kind in ([one.name for one in self.images], [one.asset_key for one in self.images]):
            if len(set(kind)) < len(kind):
                raise ValueError(f"Two images have one name: {', '.join(kind)}.")
        names: set[str] = set()
        for one in self.cutouts or ():
            if not _NAME.fullmatch(one.name) or one.name in names:
                raise ValueError(f"A cutout's name must be its own and safe as a file's, got {one.name!r}.")
            names.add(one.name)
            window, (height, width) = one.window, self.shape
            if not (0 <= window.row < window.row_stop <= height and 0 <= window.col < window.col_stop <= width):
                raise ValueError(f"The cutout {one.name} must lie inside a grid of {self.shape} pixels, got {window}.")

    def windows(self) -> tuple[Window, ...]:
        """Return the blocks of the unit, or its cutouts."""
        if self.cutouts is not None:
            return tuple(one.window for one in self.cutouts)
        return blocks(self.shape, self.block)

    def identity(self) -> Mapping[str, Any]:
        """Return what decides the pixels, as JSON-like parts: grid, params, scenes, algorithm."""
        stack = self.stack
        return {
            "grid": identity_of(stack.geobox),
            "params": {
                "stack": stack.rules(),
                "science": identity_of(self.science),
                "images": identity_of(self.images),
                "cutouts": identity_of(self.cutouts),
                **({"order": [p.key for p in stack.passes]} if self.science.is_ordered else {}),
            },
            "scenes": sorted(identity_of(s.fingerprint) for p in stack.passes for s in p.scenes),
            "algorithm": {**ALGORITHM, **self.science.versions()},
        }

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return int(self.stack.geobox.shape[0]), int(self.stack.geobox.shape[1])

    @property
    def extent(self) -> tuple[int, int]:
        """Height and width of what blocks are cut from: the grid, or the largest cutout."""
        if self.cutouts is None:
            return self.shape
        shapes = [one.window.shape for one in self.cutouts] or [(1, 1)]
        return max(s[0] for s in shapes), max(s[1] for s in shapes)

    def strip_bytes_per_row(self, window: Window, passes: int) -> int:
        """Return the bytes of a row of a strip of a window, without the images."""
        stack = self.stack
        own = self.science.work_bytes + (passes if self.science.keeps_dropped else 0)
        width = window.shape[1] + 2 * self.science.halo
        row = strip_bytes_per_row(stack.bands, max(passes, 1), width, stack.map_points, stack.reads)
        return row + width * own

    def strip_bytes(self, rows: int, window: Window, passes: int) -> int:
        """Return the bytes of a strip of so many rows, with what is around them."""
        return (rows + 2 * self.science.halo) * self.strip_bytes_per_row(window, passes)

    def image_bytes(self, pixels: int) -> int:
        """Return the bytes of the images of so many pixels while they are made: a row of tiles, and encoded ones."""
        return pixels * (2 * sum(spec.pixel_bytes for spec in self.images) + 2 + self.stack.held_bytes)

    def block_bytes(self, side: int) -> int:
        """Return the bytes of what a whole block receives and gives."""
        return side**2 * (sum(spec.pixel_bytes for spec in self.images) + self.stack.held_bytes)

    def pack(self) -> bytes:
        """Return the recipe as bytes: hrefs repeat, so that this is some ten to twenty bytes per asset."""
        stack = self.stack
        if isinstance(stack, Stack):
            passes = (replace(p, scenes=tuple(map(_bare, p.scenes))) for p in stack.passes)
            stack = replace(stack, passes=tuple(passes))
        images = tuple(spec.bare() for spec in self.images)
        whole = pickle.dumps(replace(self, stack=stack, images=images), protocol=5)
        return bytes(imagecodecs.lzma_encode(whole, level=0))  # a fifth less than DEFLATE, which looks less far back


def _bare(scene: Scene) -> Scene:
    """Return a scene without what isn't needed to read it."""
    return replace(scene, href="", fingerprint=(), producers=(), sensor="")


def strip_height(recipe: Recipe, window: Window, passes: int) -> int:
    """Return how many rows are worked on at once within the budget, at most the block's."""
    rows = recipe.budget // recipe.strip_bytes_per_row(window, passes) - 2 * recipe.science.halo
    if rows >= window.shape[0]:
        return window.shape[0]
    # in steps that suit the files' tiles, so that fewer of them are read twice
    return int(max(rows // TILE * TILE or rows // 64 * 64, FEWEST_ROWS))
