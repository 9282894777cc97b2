"""Rendering on workers: one task turns one block of one unit into encoded tiles. A product's pixels are made only here.

A task carries the key of its unit's recipe, the block's number, and where its tiles go; the recipe, a small compressed
blob, travels once per worker.
"""

from __future__ import annotations

import pickle
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, replace
from functools import lru_cache, reduce
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np

from eoap_dask.errors import ContradictionError
from eoap_dask.geo.window import TILE, Window
from eoap_dask.render.buffers import Buffers
from eoap_dask.render.encode import BlockEncoder, EncodedImage, TileFile, level_shapes
from eoap_dask.render.needed import Part, UnitReader, UnitStack
from eoap_dask.render.reading import StackReader, all_contradictions
from eoap_dask.render.recipe import FEWEST_ROWS, Recipe, strip_height
from eoap_dask.render.science import Flags, Image, Layers, Strip
from eoap_dask.render.stack import LayerReader, Stack
from eoap_dask.render.tools import TOOLS

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


@dataclass
class Surveyed:
    """One surveyed block."""

    notes: tuple[tuple[tuple[int, int], Any], ...]
    """Row and column of each tile with data, in tiles, and its note."""
    levels: dict[str, set[float]]
    """As in `Rendered`."""


def render_block(
    packed: bytes, number: int, folder: str | None = None, parts: Sequence[Part] = ()
) -> Rendered | Surveyed:
    """Read, mask, compose and encode block `number` of the recipe in `packed` (from `Recipe.pack`), or survey it.

    Encoded tiles are left in `folder`, which client and worker see under one path, or else returned. `parts` are those
    of the images that a `UnitStack` needs. Raises AssetError, its child ContradictionError with all sources of the unit
    that lie elsewhere than their items say, TilesError and ResourceError.
    """
    recipe = _unpack(packed)
    try:
        return _render(recipe, number, folder, parts)
    except ContradictionError as fault:  # one of many, perhaps: the unit is to begin again once
        raise all_contradictions(recipe.stack, fault) if isinstance(recipe.stack, Stack) else fault from None


def _render(recipe: Recipe, number: int, folder: str | None, parts: Sequence[Part]) -> Rendered | Surveyed:
    window = recipe.windows()[number]
    tools = TOOLS.of(recipe.science)
    cutout = "" if recipe.cutouts is None else recipe.cutouts[number].name
    with ExitStack() as stack:
        reader = stack.enter_context(_reader(recipe, window, parts))
        if recipe.is_survey:
            return Surveyed(tuple(sorted(_survey(recipe, window, reader, tools, cutout).items())), reader.levels)
        place, side, levels = window, recipe.block, len(level_shapes(recipe.shape))
        if recipe.cutouts is not None:  # an image of its own, in one block
            place, levels = Window(0, window.shape[0], 0, window.shape[1]), len(level_shapes(window.shape))
            side = TILE << levels
        encoders, notes = [], []
        for spec in recipe.images:
            file = None if folder is None else stack.enter_context(TileFile(Path(folder), f"{number}.{spec.name}"))
            encoders.append(BlockEncoder(spec, place, side, levels, file))
        for rows, images in compose_rows(recipe, window, reader, tools, cutout):
            note = recipe.science.note(images, rows.row, rows.col)
            if note is not None:
                notes.append(note)
            for encoder, image in zip(encoders, images, strict=True):
                encoder.add(image)
        encoded = {spec.name: encoder.finish() for spec, encoder in zip(recipe.images, encoders, strict=True)}
    return Rendered(encoded, reader.levels, tuple(notes))


def render_cutout(recipe: Recipe, number: int) -> tuple[Image, ...]:
    """Return the images of a cutout, (band, y, x) each, as `render_block` would encode them; for notebooks.

    Surveys look at this cutout alone. Raises AssetError.
    """
    assert recipe.cutouts is not None  # noqa: S101 - there is nothing else that it could return
    cutout, science = recipe.cutouts[number], recipe.science
    tools = TOOLS.of(science)
    with _reader(recipe, cutout.window, ()) as reader:
        while recipe.is_survey:
            notes = _survey(recipe, cutout.window, reader, tools, cutout.name)
            whole = reduce(science.merge, (notes[tile] for tile in sorted(notes))) if notes else None
            state, again = science.reduce(whole, recipe.state)
            recipe = replace(recipe, state=state, is_survey=again)
        rows = compose_rows(recipe, cutout.window, reader, tools, cutout.name)
        parts = [tuple(image.copy() for image in images) for _, images in rows]
    return tuple(np.concatenate(images, axis=1) for images in zip(*parts, strict=True))


def _reader(recipe: Recipe, window: Window, parts: Sequence[Part]) -> LayerReader:
    wide = window.grown(recipe.science.halo, recipe.shape)
    if isinstance(recipe.stack, UnitStack):
        return UnitReader(recipe.stack, wide, parts)
    return StackReader(recipe.stack, wide, is_shared=recipe.cutouts is not None)


def compose_rows(
    recipe: Recipe, window: Window, reader: LayerReader, tools: Any = None, cutout: str = ""
) -> Iterator[tuple[Window, tuple[Image, ...]]]:
    """Yield the images of a window in the recipe's order, each (band, y, x), a row of tiles at a time.

    Their memory is used again for the next row, so that they are encoded while still in the cache.
    """
    memory = tuple(spec.empty((min(window.shape[0], TILE), window.shape[1])) for spec in recipe.images)
    with closing(_strips(recipe, window, reader, tools, cutout)) as strips:
        for rows in window.strips(TILE):
            images = tuple(image[:, : rows.shape[0]] for image in memory)
            filled = rows.row
            while reader.passes and filled < rows.row_stop:
                part, strip = next(strips)
                inside = rows.slices(part)[0]
                recipe.science.compose(strip, tuple(image[:, inside] for image in images))
                filled = part.row_stop
            if not reader.passes:
                for spec, image in zip(recipe.images, images, strict=True):
                    spec.clear(image)
            yield rows, images


def _survey(recipe: Recipe, window: Window, reader: LayerReader, tools: Any, cutout: str) -> dict[tuple[int, int], Any]:
    """Return a note for each tile with data, made of parts that are the same for any blocks and strips."""
    notes: dict[tuple[int, int], Any] = {}
    science, halo = recipe.science, 2 * recipe.science.halo
    if not reader.passes:
        return notes
    for part, strip in _strips(recipe, window, reader, tools, cutout):
        for row in range(part.row, part.row_stop, FEWEST_ROWS):
            stop = min(row + FEWEST_ROWS, part.row_stop)
            for col in range(part.col, part.col_stop, TILE):
                col_stop = min(col + TILE, part.col_stop)
                rows = slice(row - part.row, stop - part.row + halo)
                columns = slice(col - part.col, col_stop - part.col + halo)
                layers = strip.layers[:, :, rows, columns]
                if not layers.any():  # as where no scene touches the block
                    continue
                dropped = None if strip.dropped is None else _read_only(strip.dropped[:, rows, columns])
                window_of_cell = Window(row, stop, col, col_stop)
                cell = replace(strip, layers=_read_only(layers), dropped=dropped, window=window_of_cell)
                tile, note = ((row - window.row) // TILE, (col - window.col) // TILE), science.survey(cell)
                if recipe.cutouts is None:
                    tile = tile[0] + window.row // TILE, tile[1] + window.col // TILE
                notes[tile] = science.merge(notes[tile], note) if tile in notes else note
    return notes


def _strips(
    recipe: Recipe, window: Window, reader: LayerReader, tools: Any, cutout: str
) -> Generator[tuple[Window, Strip]]:
    """Yield the layers of a window: read strip by strip, handed out in parts that lie in one row of tiles."""
    bands, depth, halo = recipe.stack.bands, len(reader.passes), recipe.science.halo
    numbers = tuple(number for number, _ in reader.passes)
    days = tuple(recipe.stack.days[number] for number in numbers) if isinstance(recipe.stack, Stack) else ()
    for strip in window.strips(strip_height(recipe, window, depth)):
        shape = strip.shape[0] + 2 * halo, strip.shape[1] + 2 * halo
        with ExitStack() as memory:
            layers = memory.enter_context(_buffers.lent((bands, depth, *shape), np.uint16))
            dropped = None
            if recipe.science.keeps_dropped:
                dropped = memory.enter_context(_buffers.lent((depth, *shape), np.bool_))
            _read(recipe, reader, strip, layers, dropped)
            row = strip.row
            while row < strip.row_stop:
                stop = min(window.row + ((row - window.row) // TILE + 1) * TILE, strip.row_stop)
                part = Window(row, stop, strip.col, strip.col_stop)
                rows = slice(row - strip.row, stop - strip.row + 2 * halo)
                own, flags = layers[:, :, rows], None if dropped is None else dropped[:, rows]
                if halo:  # shared with the parts beside it
                    own = _read_only(own)
                    flags = None if flags is None else _read_only(flags)
                yield part, Strip(own, flags, numbers, part, recipe.state, tools, recipe.shape, days, cutout)
                row = stop


def _read_only(array: Any) -> Any:
    """Return a view that can't be written to."""
    view = array[...]
    view.flags.writeable = False
    return view


def _read(recipe: Recipe, reader: LayerReader, strip: Window, layers: Layers, dropped: Flags | None) -> None:
    """Read a strip with its halo; beyond the grid there is no data."""
    halo = recipe.science.halo
    if not halo:
        reader.read(strip, layers, dropped)
        return
    wide = strip.grown(halo, recipe.shape)
    whole = Window(strip.row - halo, strip.row_stop + halo, strip.col - halo, strip.col_stop + halo)
    inside = whole.slices(wide)
    if wide.shape != whole.shape:
        layers[...] = 0
        if dropped is not None:
            dropped[...] = False
    reader.read(wide, layers[:, :, *inside], None if dropped is None else dropped[:, *inside])


@lru_cache(8)
def _unpack(packed: bytes) -> Recipe:
    recipe = pickle.loads(imagecodecs.lzma_decode(packed))  # noqa: S301 - made by our own client, sent by Dask, which pickles anyway
    assert isinstance(recipe, Recipe)  # noqa: S101
    return recipe
