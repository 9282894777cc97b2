"""Pictures for people: a thumbnail per unit, and one sheet that shows a run at a glance."""

from __future__ import annotations

import io
import math
import unicodedata
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eoap_dask.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Picture = npt.NDArray[np.uint8]

_WIDTH = 1600
_MARGIN = 48
_GAP = 28
_MAX_PANEL = 752
_MAX_COLUMNS = 4
_CHECK = 12
_KEY = 34

_PAPER = (255, 255, 255)
_INK = (28, 32, 38)
_FAINT = (108, 114, 122)
_FRAME = (205, 209, 214)
_CHECKS = (245, 232)

_GLYPHS = frozenset("©«°±´·»‘’“”…‹›") | {chr(code) for code in range(32, 127)}
_STAND_INS = {
    "–": "-",
    "—": "-",
    "−": "-",
    "×": "x",
    "ß": "ss",
    "ø": "o",
    "Ø": "O",
    "æ": "ae",
    "Æ": "AE",
    "ł": "l",
}


def write_thumbnail(path: Path, rgb: Picture, max_px: int = 512) -> Path:
    """Write a picture, (1 or 3, y, x), uint8, 0 in all bands = nodata, as a small PNG, transparent where nodata.

    The longer side has at most `max_px` pixels: means of the valid pixels in squares, see `shrink`. Equal input gives
    equal bytes.
    """
    _check(rgb)
    if max_px < 1:
        raise ValueError(f"max_px must be 1 or more, got {max_px}.")
    factor = -(-max(rgb.shape[1:]) // max_px)
    return _write_png(path, _image(shrink(rgb, factor)))


def contact_sheet(
    path: Path,
    panels: Sequence[tuple[str, Picture]],
    title: str,
    subtitle: str = "",
    footer: str = "",
    legend: Sequence[tuple[str, tuple[int, int, int]]] = (),
    pixel_m: float = 0.0,
) -> Path:
    """Write one PNG, at most 1600 pixels wide, of pictures (as for `write_thumbnail`), each with its caption.

    A caption's second line is smaller and grey. Long text ends in an ellipsis. `pixel_m`, metres along a pixel of the
    first picture, draws a scale bar for pictures of that size. Equal input gives equal bytes.
    """
    from PIL import Image, ImageDraw

    if not panels:
        raise ValueError("A contact sheet needs at least one picture.")
    for _, rgb in panels:
        _check(rgb)
    columns = _columns(len(panels))
    side = min(_MAX_PANEL, (_WIDTH - 2 * _MARGIN - (columns - 1) * _GAP) // columns)
    width = max(columns * side + (columns - 1) * _GAP + 2 * _MARGIN, 560)
    rows = [panels[start : start + columns] for start in range(0, len(panels), columns)]
    sizes = [[_fit(rgb.shape[1:], side) for _, rgb in row] for row in rows]

    head = _MARGIN + 46 + (34 if subtitle else 0) + 18
    captions = [64 if any("\n" in caption for caption, _ in row) else 38 for row in rows]
    heights = [max(size[0] for size in row) + 10 + text for row, text in zip(sizes, captions, strict=True)]
    bar = _scale_bar(pixel_m * panels[0][1].shape[2] / sizes[0][0][1]) if pixel_m else None
    keys = _keys(legend, width - 2 * _MARGIN, 0 if bar is None else bar[0] + 130)
    lines = max(keys[-1][1] + 1 if keys else 0, 1 if bar else 0)
    height = head + sum(heights) + (len(rows) - 1) * 12 + lines * _KEY + (36 if footer else 0) + _MARGIN - 12

    sheet = Image.new("RGB", (width, height), _PAPER)
    draw = ImageDraw.Draw(sheet)
    _text(draw, (_MARGIN, _MARGIN - 6), title, 38, _INK, width - 2 * _MARGIN)
    if subtitle:
        _text(draw, (_MARGIN, _MARGIN + 46), subtitle, 23, _FAINT, width - 2 * _MARGIN)
    top = head
    for row, row_sizes, row_height, text in zip(rows, sizes, heights, captions, strict=True):
        floor = top + row_height - 10 - text  # pictures of a row stand on one line, above their captions
        for column, ((caption, rgb), size) in enumerate(zip(row, row_sizes, strict=True)):
            left = _MARGIN + column * (side + _GAP)
            corner = (left, floor - size[0])
            sheet.paste(_panel(rgb, size), corner)
            box = (corner[0] - 1, corner[1] - 1, left + size[1], floor)
            draw.rectangle(box, outline=_FRAME)
            first, _, second = caption.partition("\n")
            _text(draw, (left, floor + 10), first, 24, _INK, side)
            if second:
                _text(draw, (left, floor + 40), second, 19, _FAINT, side)
        top += row_height + 12
    if bar is not None:
        length, label = bar
        left, middle = _MARGIN, top + 8
        draw.line([(left, middle - 6), (left, middle), (left + length, middle), (left + length, middle - 6)], _INK, 2)
        _text(draw, (left + length + 12, middle - 14), label, 19, _INK, 110)
    for (place, line), (label, colour) in zip(keys, legend, strict=True):
        corner = (_MARGIN + place, top + line * _KEY - 6)
        draw.rectangle((*corner, corner[0] + 22, corner[1] + 18), fill=colour, outline=_FRAME)
        _text(draw, (corner[0] + 32, corner[1] - 2), label, 19, _INK, width)
    if footer:
        _text(draw, (_MARGIN, height - _MARGIN - 4), footer, 18, _FAINT, width - 2 * _MARGIN)
    return _write_png(path, sheet)


def _scale_bar(metres_per_px: float) -> tuple[int, str]:
    """Return the length of a scale bar on the sheet, some 80 to 200 pixels, and its label."""
    metres = 80 * metres_per_px
    power = 10 ** math.floor(math.log10(metres))
    metres = next(step * power for step in (1, 2, 5, 10) if step * power >= metres)
    return round(metres / metres_per_px), f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


def _keys(legend: Sequence[tuple[str, Any]], width: int, taken: int) -> list[tuple[int, int]]:
    """Return column and line of each legend entry; the first line begins after `taken` pixels."""
    from PIL import ImageFont

    font = ImageFont.load_default(19)
    places, at, line = [], taken, 0
    for label, _ in legend:
        needed = 32 + round(font.getlength(_settable(label))) + 24
        if at and at + needed > width:
            at, line = 0, line + 1
        places.append((at, line))
        at += needed
    return places


def shrink(rgb: Picture, factor: int) -> Picture:
    """Reduce a picture by a whole factor: the rounded mean of the valid pixels of each square, incomplete at the edges.

    A square is 0 in all bands if, and only if, none of its pixels is valid.
    """
    import numpy as np

    if factor <= 1:
        return rgb
    bands, height, width = rgb.shape
    out = np.zeros((bands, -(-height // factor), -(-width // factor)), np.uint8)
    starts = np.arange(0, width, factor)
    # one row of squares at a time: a picture may be as large as its unit
    for index in range(out.shape[1]):
        strip = rgb[:, index * factor : (index + 1) * factor]
        count = np.add.reduceat((strip != 0).any(axis=0).sum(axis=0, dtype=np.int64), starts)
        total = np.add.reduceat(strip.sum(axis=1, dtype=np.int64), starts, axis=1)
        divisor = np.maximum(count, 1)
        mean = (2 * total + divisor) // (2 * divisor)
        mean[:, (count > 0) & (mean == 0).all(axis=0)] = 1
        out[:, index] = mean
    return out


def _check(rgb: Picture) -> None:
    if rgb.ndim != 3 or rgb.shape[0] not in (1, 3) or str(rgb.dtype) != "uint8" or 0 in rgb.shape:
        raise ValueError(f"A picture must be uint8 of shape (1 or 3, y, x), got {rgb.dtype} {rgb.shape}.")


def _image(rgb: Picture) -> Any:
    """Return the picture with its alpha."""
    import numpy as np
    from PIL import Image

    alpha = np.where((rgb != 0).any(axis=0), np.uint8(255), np.uint8(0))[np.newaxis]
    stack = np.ascontiguousarray(np.moveaxis(np.concatenate([rgb, alpha]), 0, -1))
    return Image.fromarray(stack)  # two bands make LA, four RGBA


def _panel(rgb: Picture, size: tuple[int, int]) -> Any:
    """Return the picture at a size (rows, columns), over a checker that shows nodata."""
    import numpy as np
    from PIL import Image

    rows, columns = size
    factor = max(1, min(rgb.shape[1] // rows, rgb.shape[2] // columns))
    image = _image(shrink(rgb, factor)).convert("RGBA")
    # Pixels stay pixels when enlarged. Reducing weighs with alpha, so that nodata doesn't darken the edges.
    enlarge = image.height <= rows and image.width <= columns
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    image = image.resize((columns, rows), method)
    squares = np.add.outer(np.arange(rows) // _CHECK, np.arange(columns) // _CHECK) % 2
    ground = Image.fromarray(np.array(_CHECKS, np.uint8)[squares]).convert("RGBA")
    return Image.alpha_composite(ground, image).convert("RGB")


def _columns(count: int) -> int:
    """Return how many panels stand in a row: at most four, in rows as even as possible."""
    rows = -(-count // _MAX_COLUMNS)
    return -(-count // rows)


def _fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return rows and columns that fill a square of `side` and keep the proportions."""
    rows, columns = shape
    scale = side / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _text(draw: Any, place: tuple[int, int], text: str, size: int, colour: tuple[int, int, int], width: int) -> None:
    """Draw a line of text, cut to a width."""
    from PIL import ImageFont

    # The font that comes with Pillow: the same on every machine.
    font = ImageFont.load_default(size)
    text = _settable(text)
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(text.rstrip() + "…", font=font) > width:
            text = text[:-1]
        text = text.rstrip() + "…"
    draw.text(place, text, font=font, fill=colour)


def _settable(text: str) -> str:
    """Return the text in the characters of Pillow's font: accents are dropped, and unknown characters become ?."""
    settable = ""
    for character in text:
        if character not in _GLYPHS:
            plain = _STAND_INS.get(character) or unicodedata.normalize("NFKD", character)
            settable += "".join(part for part in plain if part in _GLYPHS) or "?"
        else:
            settable += character
    return settable


def _write_png(path: Path, image: Any) -> Path:
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return write_bytes(path, buffer.getvalue())
