"""Rendering on workers: one task turns one block of one unit into encoded tiles. A product's pixels are made only here.

A task carries the key of its unit's recipe, the block's number, and where its tiles go; the recipe, a small compressed
blob, travels once per worker.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from eoap_dask.geo.window import TILE, Window
from eoap_dask.render.buffers import Buffers
from eoap_dask.render.encode import BlockEncoder, EncodedImage, TileFile, level_shapes
from eoap_dask.render.reading import StackReader
from eoap_dask.render.recipe import Recipe, strip_height
from eoap_dask.render.science import Flags, Image, Layers

KEPT_BYTES = 128 << 20
"""Memory of layers that is kept from block to block, per process; part of what blocks are budgeted for."""

_buffers = Buffers(KEPT_BYTES, slack=1.5, replace=True)


@dataclass
class Rendered:
    """One encoded block."""

    images: dict[str, EncodedImage]
    levels: dict[str, set[float]]
    """Side of the pixels that were read, for ``data`` and ``mask``."""
    notes: tuple[Any, ...] = ()
    """One for each row of tiles, see `Science.note`."""


def render_block(packed: bytes, number: int, folder: str | None = None) -> Rendered:
    """Read, mask, compose and encode block `number` of the recipe in `packed` (from `Recipe.pack`).

    Encoded tiles are left in `folder`, which client and worker see under one path, or else returned. Raises AssetError
    and TilesError.
    """
    recipe = _unpack(packed)
    window = recipe.windows()[number]
    with ExitStack() as stack:
        encoders, notes = [], []
        for spec in recipe.images:
            file = None if folder is None else stack.enter_context(TileFile(Path(folder), f"{number}.{spec.name}"))
            encoders.append(BlockEncoder(spec, window, recipe.block, len(level_shapes(recipe.shape)), file))
        with StackReader(recipe.stack, window) as reader:
            for rows, images in compose_rows(recipe, window, reader):
                note = recipe.science.note(images, rows.row, rows.col)
                if note is not None:
                    notes.append(note)
                for encoder, image in zip(encoders, images, strict=True):
                    encoder.add(image)
        encoded = {spec.name: encoder.finish() for spec, encoder in zip(recipe.images, encoders, strict=True)}
    return Rendered(encoded, reader.levels, tuple(notes))


def compose_rows(recipe: Recipe, window: Window, reader: StackReader) -> Iterator[tuple[Window, tuple[Image, ...]]]:
    """Yield the images of a window in the recipe's order, each (band, y, x), a row of tiles at a time.

    Their memory is used again for the next row, so that they are encoded while still in the cache.
    """
    memory = tuple(spec.empty((min(window.shape[0], TILE), window.shape[1])) for spec in recipe.images)
    numbers = tuple(number for number, _ in reader.passes)
    with closing(_layers(recipe, window, reader)) as strips:
        for rows in window.strips(TILE):
            images = tuple(image[:, : rows.shape[0]] for image in memory)
            filled = rows.row
            while numbers and filled < rows.row_stop:
                part, layers, dropped = next(strips)
                inside = rows.slices(part)[0]
                recipe.science.compose(layers, dropped, numbers, tuple(image[:, inside] for image in images))
                filled = part.row_stop
            if not numbers:
                for spec, image in zip(recipe.images, images, strict=True):
                    spec.clear(image)
            yield rows, images


def _layers(recipe: Recipe, window: Window, reader: StackReader) -> Generator[tuple[Window, Layers, Flags | None]]:
    """Yield the layers of a window: read strip by strip, handed out in parts that lie in one row of tiles."""
    bands, depth = recipe.stack.bands, len(reader.passes)
    for strip in window.strips(strip_height(recipe, window, depth)):
        with ExitStack() as memory:
            layers = memory.enter_context(_buffers.lent((bands, depth, *strip.shape), np.uint16))
            dropped = None
            if recipe.science.keeps_dropped:
                dropped = memory.enter_context(_buffers.lent((depth, *strip.shape), np.bool_))
            reader.read(strip, layers, dropped)
            row = strip.row
            while row < strip.row_stop:
                stop = min(window.row + ((row - window.row) // TILE + 1) * TILE, strip.row_stop)
                part = Window(row, stop, strip.col, strip.col_stop)
                inside = strip.slices(part)[0]
                yield part, layers[:, :, inside], None if dropped is None else dropped[:, inside]
                row = stop


@lru_cache(8)
def _unpack(packed: bytes) -> Recipe:
    recipe = pickle.loads(imagecodecs.lzma_decode(packed))  # noqa: S301 - made by our own client, sent by Dask, which pickles anyway
    assert isinstance(recipe, Recipe)  # noqa: S101
    return recipe
