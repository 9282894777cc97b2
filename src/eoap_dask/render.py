"""Door two: one task turns one block of one unit into encoded tiles.

This is the only place where production pixels are computed. A task carries the key of its unit's recipe and the
block's number; the recipe, a small compressed blob, travels once per worker.
"""

from __future__ import annotations

import pickle
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

import numpy as np

from eoap_dask.cog import EncodedImage, ImageSpec, encode_image, level_shapes
from eoap_dask.grid import TILE, Window, blocks
from eoap_dask.kernels.composites import COMPOSITES, count_valid
from eoap_dask.kernels.pixels import visual
from eoap_dask.stack import Stack, StackReader, strip_bytes_per_row

ALGORITHM = {"mask": 1, "resample": 1, "reflectance": 1, "passes": 1}
"""Versions of the parts that make pixels, beside the composite's own; raised when pixels change."""


@dataclass(frozen=True)
class Recipe:
    """All that a worker needs in order to render any block of one unit."""

    stack: Stack
    composite: str
    block: int
    """Side of a block in pixels, 512·2^k."""
    budget: int
    """Bytes that the layers of a strip may take."""
    images: tuple[ImageSpec, ...]
    """data, count and visual, in this order."""
    picks: tuple[int, ...]
    """Which bands `visual` shows."""

    def windows(self) -> tuple[Window, ...]:
        """Return the blocks of the unit."""
        return blocks(self.shape, self.block)

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width of the grid."""
        return int(self.stack.geobox.shape[0]), int(self.stack.geobox.shape[1])

    def pack(self) -> bytes:
        """Return the recipe as bytes: hrefs repeat themselves, so this is some tens of bytes per asset."""
        passes = tuple(
            replace(p, scenes=tuple(replace(s, href="", fingerprint=()) for s in p.scenes)) for p in self.stack.passes
        )
        return zlib.compress(pickle.dumps(replace(self, stack=replace(self.stack, passes=passes)), protocol=5), 9)


@dataclass
class Rendered:
    """One block, ready to be put into files."""

    images: dict[str, EncodedImage]
    levels: dict[str, set[float]]
    """Side of the pixels that were read, for ``data`` and ``mask``."""


def strip_height(recipe: Recipe, window: Window, passes: int) -> int:
    """Return how many rows are worked on at once, so that they fit the budget: the whole block where it does."""
    stack = recipe.stack
    rows = recipe.budget // strip_bytes_per_row(stack.bands, max(passes, 1), window.shape[1], stack.map_points)
    if rows >= window.shape[0]:
        return window.shape[0]
    # in steps that suit the files' tiles, so that fewer of them are read twice
    return int(max(rows // TILE * TILE or rows // 64 * 64, 16))


def render_block(packed: bytes, number: int) -> Rendered:
    """Read, mask, compose and encode one block.

    Parameters
    ----------
    packed
        The recipe, from `Recipe.pack`.
    number
        Which of its blocks.

    Returns
    -------
    Rendered

    Raises
    ------
    AssetError
        when an asset can't be read after all retries
    """
    recipe = _unpack(packed)
    window = recipe.windows()[number]
    data_spec, count_spec, visual_spec = recipe.images
    data, count, levels_read = compose_window(recipe, window)
    levels = len(level_shapes(recipe.shape))

    def encode(image: np.ndarray[Any, Any], spec: ImageSpec) -> EncodedImage:
        return encode_image(image, spec, window, recipe.block, levels)

    images = {
        data_spec.name: encode(data, data_spec),
        count_spec.name: encode(count, count_spec),
        visual_spec.name: encode(visual(data, recipe.picks), visual_spec),
    }
    return Rendered(images, levels_read)


U16 = np.ndarray[Any, np.dtype[np.uint16]]


def compose_window(recipe: Recipe, window: Window) -> tuple[U16, U16, dict[str, set[float]]]:
    """Return the composite, (band, y, x), the count of clear observations, (1, y, x), and the levels read."""
    kernel = COMPOSITES[recipe.composite].kernel
    stack = recipe.stack
    data = np.zeros((stack.bands, *window.shape), np.uint16)
    count = np.zeros((1, *window.shape), np.uint16)
    with StackReader(stack, window) as reader:
        depth = len(reader.passes)
        if not depth:
            return data, count, reader.levels
        height = strip_height(recipe, window, depth)
        layers = np.empty((stack.bands, depth, height, window.shape[1]), np.uint16)
        for strip in window.strips(height):
            part = layers if strip.shape[0] == height else np.empty((stack.bands, depth, *strip.shape), np.uint16)
            reader.read(strip, part)
            rows = slice(strip.row - window.row, strip.row_stop - window.row)
            for band in range(stack.bands):
                data[band, rows] = kernel(part[band])
            count[0, rows] = count_valid(part[0])
    return data, count, reader.levels


@lru_cache(8)
def _unpack(packed: bytes) -> Recipe:
    recipe = pickle.loads(zlib.decompress(packed))  # noqa: S301 - made by our own client, sent by Dask, which pickles anyway
    assert isinstance(recipe, Recipe)  # noqa: S101
    return recipe
