"""The recipe of a unit: what a worker needs to render any of its blocks."""

from __future__ import annotations

import pickle
from dataclasses import dataclass, replace

import imagecodecs

from eoap_dask.geo.window import TILE, Window, blocks
from eoap_dask.render.images import ImageSpec
from eoap_dask.render.reading import strip_bytes_per_row
from eoap_dask.render.science import Science
from eoap_dask.render.stack import Stack

ALGORITHM = {"mask": 1, "resample": 2, "reflectance": 1, "passes": 1}
"""Versions of the parts that make pixels, beside the science's own; raised when pixels change."""

FEWEST_ROWS = 16
"""Rows of a strip, at least."""


@dataclass(frozen=True)
class Recipe:
    """What a worker needs to render any block of one unit."""

    stack: Stack
    science: Science
    images: tuple[ImageSpec, ...]
    """Filled by the science, in its order."""
    block: int = TILE
    """Side of a block in pixels, 512·2^k; see `Plan.sized`."""
    budget: int = 64 << 20
    """Bytes for the layers of a strip."""

    def windows(self) -> tuple[Window, ...]:
        """Return the blocks of the unit."""
        return blocks(self.shape, self.block)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return int(self.stack.geobox.shape[0]), int(self.stack.geobox.shape[1])

    def strip_bytes_per_row(self, window: Window, passes: int) -> int:
        """Return the bytes of a row of a strip of a window, without the images."""
        stack = self.stack
        own = self.science.work_bytes + (passes if self.science.keeps_dropped else 0)
        width = window.shape[1]
        row = strip_bytes_per_row(stack.bands, max(passes, 1), width, stack.map_points, stack.reads)
        return row + width * own

    def image_bytes(self, pixels: int) -> int:
        """Return the bytes of the images of so many pixels while they are made: a row of tiles, and encoded ones."""
        return pixels * (2 * sum(spec.pixel_bytes for spec in self.images) + 2)

    def block_bytes(self, side: int) -> int:
        """Return the bytes of the images of a whole block."""
        return side**2 * sum(spec.pixel_bytes for spec in self.images)

    def pack(self) -> bytes:
        """Return the recipe as bytes: hrefs repeat, so that this is some ten to twenty bytes per asset."""
        passes = tuple(
            replace(p, scenes=tuple(replace(s, href="", fingerprint=(), producers=(), sensor="") for s in p.scenes))
            for p in self.stack.passes
        )
        images = tuple(spec.bare() for spec in self.images)
        whole = pickle.dumps(replace(self, stack=replace(self.stack, passes=passes), images=images), protocol=5)
        return bytes(imagecodecs.lzma_encode(whole, level=0))  # a fifth less than DEFLATE, which looks less far back


def strip_height(recipe: Recipe, window: Window, passes: int) -> int:
    """Return how many rows are worked on at once within the budget, at most the block's."""
    rows = recipe.budget // recipe.strip_bytes_per_row(window, passes)
    if rows >= window.shape[0]:
        return window.shape[0]
    # in steps that suit the files' tiles, so that fewer of them are read twice
    return int(max(rows // TILE * TILE or rows // 64 * 64, FEWEST_ROWS))
