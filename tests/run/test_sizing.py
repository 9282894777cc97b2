"""Sizes that a plan chooses for a cluster: what is under way at once stays bounded."""

from __future__ import annotations

import numpy as np
import pytest
from affine import Affine
from odc.geo.geobox import GeoBox

from eoap_dask.applications.composition import Composition
from eoap_dask.cluster.size import Size
from eoap_dask.geo.window import TILE
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.readers.tiles import TileReader
from eoap_dask.render.images import BandSpec, ImageSpec
from eoap_dask.render.recipe import BLOCK, Recipe
from eoap_dask.render.stack import Stack
from eoap_dask.run.sizing import IN_FLIGHT_BYTES, choose_sizes, may_send

MEMORY = 16 << 30


def recipe_of(*bands: tuple[str, int]) -> Recipe:
    """A unit of 65536 pixels squared that makes images of so many bands."""
    stack = Stack(
        geobox=GeoBox((65536, 65536), Affine(10, 0, 300_000, 0, -10, 5_000_000), "EPSG:32633"),
        passes=(),
        bands=1,
        dropped_classes=None,
        clip_wkb=None,
        reader=TileReader(NoSigner(), Retry()),
    )
    images = (
        ImageSpec(f"{dtype}-{n}", tuple(BandSpec(f"band {i}") for i in range(n)), dtype, "mean", 0)
        for dtype, n in bands
    )
    return Recipe(stack, Composition("median", (0,)), tuple(images))


MOSAIC = recipe_of(("uint16", 3), ("uint16", 1), ("uint8", 3))
PAIR = recipe_of(("float32", 3), ("int16", 5), ("uint8", 1), ("uint8", 6))


def under_way_of(recipe: Recipe, slots: int) -> int:
    """Return how many blocks are sent while none is done."""
    size, count = recipe.block_bytes(recipe.block), 0
    while may_send(count, count * size, size, slots):
        count += 1
    return count


@pytest.mark.parametrize("slots", [1, 2, 8, 16, 32, 64, 128])
@pytest.mark.parametrize("recipe", [MOSAIC, PAIR], ids=["mosaic", "pair"])
def test_blocks_under_way_are_bounded_and_every_slot_has_one(recipe: Recipe, slots: int) -> None:
    block, _ = choose_sizes(recipe, 1, Size(slots, 1, MEMORY))
    sized = Recipe(recipe.stack, recipe.science, recipe.images, block)
    under_way = under_way_of(sized, slots)
    pixels = sum(len(spec.bands) * np.dtype(spec.dtype).itemsize for spec in recipe.images) * block**2
    assert slots <= under_way <= 2 * slots
    assert under_way * pixels <= IN_FLIGHT_BYTES
    # no smaller than they must be
    assert block == BLOCK or slots * 4 * pixels > IN_FLIGHT_BYTES


def test_beyond_the_smallest_blocks_every_slot_still_has_one() -> None:
    block, _ = choose_sizes(PAIR, 1, Size(1000, 1, MEMORY))
    assert block == TILE
    assert under_way_of(Recipe(PAIR.stack, PAIR.science, PAIR.images, block), 1000) == 1000
