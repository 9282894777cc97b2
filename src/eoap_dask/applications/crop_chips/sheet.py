"""Pictures of a set of chips: a sheet of some beside their masks, and a chart of its classes."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np

from eoap_dask.applications.crop_chips.science import IGNORED
from eoap_dask.applications.crop_chips.splits import SPLITS
from eoap_dask.kernels.pixels import U8, U16, visual
from eoap_dask.output.drawing import (
    FAINT,
    FRAME,
    INK,
    KEY_HEIGHT,
    PAPER,
    SWATCH,
    draw_key,
    draw_text,
    key_places,
    png_bytes,
    text_width,
)
from eoap_dask.output.picture import fit, panel
from eoap_dask.render.images import ClassSpec, Colour

OTHER = 0
"""The value of a mask where no class is."""

_OTHER_COLOUR = (64, 66, 70)
_UNTOLD_COLOUR = (150, 153, 158)
_STRIPES = (244, 214)
_STRIPE = 3

_MARGIN = 48
_WIDTH = 1600

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class ChipPicture:
    """A chip as a sheet shows it."""

    name: str
    rgb: U8
    """(3, y, x), 0 in all bands = no data; see `stretch`."""
    mask: U8
    """(y, x), values of classes."""
    split: str = ""
    """``train``, ``val`` or ``test``; empty for one that is in none."""
    valid_percent: float | None = None
    """Pixels with data."""

    @property
    def caption(self) -> str:
        """What is said of it below its name."""
        valid = "" if self.valid_percent is None else f"{_percent(self.valid_percent)} valid"
        return " · ".join(part for part in (self.split, valid) if part)


def stretch(image: U16, picks: tuple[int, int, int]) -> U8:
    """Return three bands of a chip, (band, y, x), as the red, green and blue of its picture; see `visual`."""
    return visual(image, picks)


def spread(chips: Sequence[T], most: int = 24) -> list[T]:
    """Return at most so many, evenly spread over all of them, in their order."""
    number = min(len(chips), most)
    return [chips[(2 * place + 1) * len(chips) // (2 * number)] for place in range(number)]


# ----------------------------------------------------------------------------------------------------
# A sheet of chips

_GAP = 28
_SEAM = 4
_MAX_SIDE = 400
_MAX_COLUMNS = 5
_CAPTION = 58


def contact_sheet(chips: Sequence[ChipPicture], classes: Sequence[ClassSpec], title: str, subtitle: str = "") -> bytes:
    """Return a PNG, at most 1600 pixels wide, of chips beside their masks, and a legend of the classes that occur.

    Parameters
    ----------
    chips
        At least one; see `spread`. Their sizes may differ.
    classes
        Titles and colours of the values of masks. `IGNORED` is hatched, whatever its colour.
    title, subtitle
        Long ones end in an ellipsis.

    Returns
    -------
    bytes
        The same for equal input.

    Raises
    ------
    ValueError
        Without a chip, or when picture and mask of one don't fit.
    """
    from PIL import Image, ImageDraw

    if not chips:
        raise ValueError("A contact sheet needs at least one chip.")
    for chip in chips:
        _check(chip)
    columns = min(_MAX_COLUMNS, math.ceil(math.sqrt(len(chips) / 1.5)))
    tile = (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // columns
    side = min(_MAX_SIDE, (tile - _SEAM) // 2)
    tile = 2 * side + _SEAM
    width = columns * tile + (columns - 1) * _GAP + 2 * _MARGIN
    rows = [chips[start : start + columns] for start in range(0, len(chips), columns)]
    sizes = [[fit(chip.mask.shape, side) for chip in row] for row in rows]
    heights = [max(size[0] for size in row) + _CAPTION for row in sizes]
    found = _occurring({int(value) for chip in chips for value in np.unique(chip.mask)}, classes)
    keys = key_places([one.title for one in found], width - 2 * _MARGIN)
    head = _MARGIN + 46 + (34 if subtitle else 0) + 18
    height = head + sum(heights) + len(rows) * 12 + (keys[-1][1] + 1) * KEY_HEIGHT + _MARGIN - 12

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, title, subtitle, width - 2 * _MARGIN)
    palette = _palette(found)
    top = head
    for row, row_sizes, row_height in zip(rows, sizes, heights, strict=True):
        floor = top + row_height - _CAPTION  # pictures of a row stand on one line, above their captions
        for column, (chip, size) in enumerate(zip(row, row_sizes, strict=True)):
            left = _MARGIN + column * (tile + _GAP)
            mask = panel(palette[:, chip.mask], size, _hatch(*size))
            for at, image in ((left, panel(chip.rgb, size)), (left + size[1] + _SEAM, mask)):
                sheet.paste(image, (at, floor - size[0]))
                draw.rectangle((at - 1, floor - size[0] - 1, at + size[1], floor), outline=FRAME)
            draw_text(draw, (left, floor + 6), chip.name, 18, INK, tile)
            draw_text(draw, (left, floor + 29), chip.caption, 16, FAINT, tile)
        top += row_height + 12
    for (place, line), one in zip(keys, found, strict=True):
        corner = (_MARGIN + place, top + line * KEY_HEIGHT)
        if one.value == IGNORED:
            sheet.paste(Image.fromarray(_hatch(*SWATCH)), corner)
        colour = None if one.value == IGNORED else one.colour
        draw_key(draw, corner, one.title, colour, width - 2 * _MARGIN - place - 32)
    return png_bytes(sheet)


def _check(chip: ChipPicture) -> None:
    rgb, mask = chip.rgb, chip.mask
    is_mask = mask.ndim == 2 and mask.dtype == np.uint8 and mask.size > 0
    if not is_mask or rgb.dtype != np.uint8 or rgb.shape != (3, *mask.shape):
        raise ValueError(
            f"{chip.name}: expected a picture (3, y, x) and a mask (y, x) of uint8, "
            f"got {rgb.dtype} {rgb.shape} and {mask.dtype} {mask.shape}."
        )


# ----------------------------------------------------------------------------------------------------
# A chart of classes

_ROW = 44
_BAR = 24
_BAR_WIDTH = 460
_LEAST_BAR = 3
_MAX_TITLE = 420
_TEXT = 18
_CELLS = (("pixels", 100), ("hectares", 112), ("share", 84))
_SPLIT_CELL = 72
_TINTS = {"train": 1.0, "val": 0.62, "test": 0.34, "": 0.16}
"""How much of a class's colour the parts of its bar have."""


@dataclass(frozen=True)
class _Row:
    """A line of the chart."""

    title: str
    one: ClassSpec | None
    """The class; None for the sum of all."""
    counts: tuple[int, ...]
    """Pixels by part."""

    @property
    def total(self) -> int:
        return sum(self.counts)


def class_balance(
    pixels: Mapping[str, Mapping[int, int]],
    classes: Sequence[ClassSpec],
    title: str,
    subtitle: str = "",
    pixel_ha: float = 0.01,
) -> bytes:
    """Return a PNG of how many pixels each class has, in bars that are stacked by split.

    Parameters
    ----------
    pixels
        By split, empty for chips in none, and value of the class.
    classes
        All that have a bar, also without pixels; others have one where they occur. `OTHER` and `IGNORED` come last,
        and `IGNORED` isn't part of the sum, of which the shares are.
    title, subtitle
        Long ones end in an ellipsis.
    pixel_ha
        Hectares of a pixel.

    Returns
    -------
    bytes
        The same for equal input.
    """
    from PIL import Image, ImageDraw

    parts = [name for name in (*SPLITS, "") if any(pixels.get(name, {}).values())]
    # of chips that are in no split nothing is told but their part of the bar
    told = [name for name in parts if name] if len(parts) > 1 else []
    rows = _rows(pixels, classes, parts)
    longest = max(row.total for row in rows if row.one or len(rows) == 1)
    cells = [*_CELLS, *((name, _SPLIT_CELL) for name in told)]

    titles = min(_MAX_TITLE, max(text_width(row.title, _TEXT) for row in rows)) + 20
    bars = _MARGIN + titles
    numbers = bars + _BAR_WIDTH
    width = numbers + sum(room for _, room in cells) + _MARGIN
    head = _MARGIN + 46 + (34 if subtitle else 0) + 24
    height = head + 34 + len(rows) * _ROW + (KEY_HEIGHT if told else 0) + _MARGIN - 12

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    _draw_head(draw, title, subtitle, width - 2 * _MARGIN)
    _draw_cells(draw, (numbers, head), cells, FAINT)
    top = head + 34
    draw.line((bars - 1, top - 10, bars - 1, top + (len(rows) - 1) * _ROW - 10), FRAME)
    for row in rows:
        middle = top + _BAR // 2 - 11
        draw_text(draw, (_MARGIN, middle), row.title, _TEXT, INK, titles - 20)
        if row.one and row.total:
            _draw_bar(sheet, draw, (bars, top), row, parts, (_BAR_WIDTH - 24) / longest)
        texts = _texts(row, rows[-1].total, pixel_ha, [parts.index(name) for name in told])
        filled = [(text, room) for text, (_, room) in zip(texts, cells, strict=True)]
        _draw_cells(draw, (numbers, middle), filled[: len(_CELLS)], INK)
        _draw_cells(draw, (numbers + sum(room for _, room in _CELLS), middle), filled[len(_CELLS) :], FAINT)
        top += _ROW
    if told:
        labels = [name or "in no split" for name in parts]
        for (place, _), name, label in zip(key_places(labels, width), parts, labels, strict=True):
            draw_key(draw, (bars + place, top), label, _tint(FAINT, name), width)
    return png_bytes(sheet)


def _rows(pixels: Mapping[str, Mapping[int, int]], classes: Sequence[ClassSpec], parts: Sequence[str]) -> list[_Row]:
    """Return the lines of the chart, the sum last."""
    values = {value for counts in pixels.values() for value, number in counts.items() if number}
    found = _occurring(values | {one.value for one in classes}, classes)
    found.sort(key=lambda one: (one.value == IGNORED, one.value == OTHER))
    rows = [_Row(one.title, one, tuple(pixels[name].get(one.value, 0) for name in parts)) for one in found]
    summed = [row.counts for row in rows if row.one and row.one.value != IGNORED]
    title = "All" if len(summed) == len(rows) else "All but ignored"
    return [*rows, _Row(title, None, tuple(sum(counts[i] for counts in summed) for i in range(len(parts))))]


def _texts(row: _Row, whole: int, pixel_ha: float, told: Sequence[int]) -> list[str]:
    """Return the cells of a line; `told` are the places of the splits that have one."""
    share = "" if row.one and row.one.value == IGNORED else _percent(row.total, whole)
    return [_short(row.total), _short(row.total * pixel_ha), share, *(_percent(row.counts[i], row.total) for i in told)]


def _draw_bar(
    sheet: Any, draw: Any, corner: tuple[int, int], row: _Row, parts: Sequence[str], pixels_per_count: float
) -> None:
    """Draw the bar of a class, its parts side by side; the smallest is too short for parts."""
    from PIL import Image

    left, top = corner
    assert row.one is not None  # noqa: S101 - the sum has no bar
    floor = top + _BAR - 1
    end = left + max(round(row.total * pixels_per_count), _LEAST_BAR)
    if row.one.value == IGNORED:
        sheet.paste(Image.fromarray(_hatch(_BAR, end - left)), (left, top))
        draw.rectangle((left, top, end - 1, floor), outline=FRAME)
        return
    draw.rectangle((left, top, end - 1, floor), fill=row.one.colour)
    if end - left == _LEAST_BAR:
        return
    start = 0
    for count, name in zip(row.counts, parts, strict=True):
        stop = start + count
        first, last = (left + round(place * pixels_per_count) for place in (start, stop))
        if last > first:
            draw.rectangle((first, top, last - 1, floor), fill=_tint(row.one.colour or INK, name))
        start = stop
    if min(_tint(row.one.colour or INK, parts[-1])) > _PALE:
        draw.rectangle((left, top, end - 1, floor), outline=FRAME)


_PALE = 225


def _draw_cells(draw: Any, corner: tuple[int, int], cells: Sequence[tuple[str, int]], colour: Colour) -> None:
    """Draw a line of a table: texts, each at the right of as many pixels as are said."""
    right, top = corner
    for text, room in cells:
        right += room
        draw_text(draw, (right - text_width(text, _TEXT), top), text, _TEXT, colour, room)


def _tint(colour: Colour, split: str) -> Colour:
    """Return a class's colour for a split, paler from one to the next."""
    share = _TINTS[split]
    red, green, blue = (round(share * part + (1 - share) * 255) for part in colour)
    return red, green, blue


def _short(number: float) -> str:
    """Return a number with three digits: ``7``, ``950``, ``12.3 k``, ``1.85 M``."""
    for power, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if number >= 0.9995 * power:
            scaled = number / power
            digits = 2 if scaled < 9.995 else 1 if scaled < 99.95 else 0
            return f"{scaled:,.{digits}f} {letter}"
    return f"{number:.3g}"


def _percent(part: float, whole: float = 100) -> str:
    """Return a share; neither 0 % nor 100 % unless it is, and nothing of nothing."""
    if not whole:
        return ""
    percent = 100 * part / whole
    if 0 < percent < 0.1:
        return "< 0.1 %"
    if 99.9 < percent < 100:
        return "> 99.9 %"
    digits = 1 if 0 < percent < 9.95 or 99.5 <= percent < 100 else 0
    return f"{percent:.{digits}f} %"


# ----------------------------------------------------------------------------------------------------
# What both have


def _draw_head(draw: Any, title: str, subtitle: str, width: int) -> None:
    draw_text(draw, (_MARGIN, _MARGIN - 6), title, 34, INK, width)
    if subtitle:
        draw_text(draw, (_MARGIN, _MARGIN + 42), subtitle, 21, FAINT, width)


def _occurring(values: Iterable[int], classes: Sequence[ClassSpec]) -> list[ClassSpec]:
    """Return the classes of some values, each with a title and a colour; one that wasn't told is named by its value."""
    told = {one.value: one for one in classes}
    found = []
    for value in sorted(values):
        one = told.get(value, ClassSpec(value))
        name = {OTHER: "Other", IGNORED: "Ignored"}.get(value, f"Class {value}")
        default = _OTHER_COLOUR if value == OTHER else _UNTOLD_COLOUR
        found.append(replace(one, title=one.title or one.name or name, colour=one.colour or default))
    return found


def _palette(classes: Sequence[ClassSpec]) -> U8:
    """Return the colours of all values, (3, 256): 0 for `IGNORED`; black becomes nearly black."""
    palette = np.zeros((3, 256), np.uint8)
    for one in classes:
        palette[:, one.value] = np.maximum(one.colour or INK, 1)
    palette[:, IGNORED] = 0
    return palette


def _hatch(rows: int, columns: int) -> U8:
    """Return the greys of what is ignored: stripes that rise to the right."""
    stripes = np.add.outer(np.arange(rows), np.arange(columns)) // _STRIPE % 3 == 0
    return np.where(stripes, np.uint8(_STRIPES[1]), np.uint8(_STRIPES[0]))
