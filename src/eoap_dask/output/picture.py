"""Pictures for people: a thumbnail per unit, and one sheet that shows a run at a glance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from eoap_dask.files import write_bytes
from eoap_dask.output.drawing import (
    FAINT,
    FRAME,
    INK,
    KEY_HEIGHT,
    KEY_SIZE,
    PAPER,
    draw_key,
    draw_text,
    key_places,
    png_bytes,
)

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from eoap_dask.render.images import Colour

    Picture = npt.NDArray[np.uint8]

_WIDTH = 1600
_MARGIN = 48
_GAP = 28
_MAX_PANEL = 752
_MAX_COLUMNS = 4
_CHECK = 12
_CHECKS = (245, 232)


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
    legend: Sequence[tuple[str, Colour]] = (),
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
    sizes = [[fit(rgb.shape[1:], side) for _, rgb in row] for row in rows]

    head = _MARGIN + 46 + (34 if subtitle else 0) + 18
    captions = [64 if any("\n" in caption for caption, _ in row) else 38 for row in rows]
    heights = [max(size[0] for size in row) + 10 + text for row, text in zip(sizes, captions, strict=True)]
    bar = _scale_bar(pixel_m * panels[0][1].shape[2] / sizes[0][0][1]) if pixel_m else None
    keys = key_places([label for label, _ in legend], width - 2 * _MARGIN, 0 if bar is None else bar[0] + 130)
    lines = max(keys[-1][1] + 1 if keys else 0, 1 if bar else 0)
    height = head + sum(heights) + (len(rows) - 1) * 12 + lines * KEY_HEIGHT + (36 if footer else 0) + _MARGIN - 12

    sheet = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(sheet)
    draw_text(draw, (_MARGIN, _MARGIN - 6), title, 38, INK, width - 2 * _MARGIN)
    if subtitle:
        draw_text(draw, (_MARGIN, _MARGIN + 46), subtitle, 23, FAINT, width - 2 * _MARGIN)
    top = head
    for row, row_sizes, row_height, text in zip(rows, sizes, heights, captions, strict=True):
        floor = top + row_height - 10 - text  # pictures of a row stand on one line, above their captions
        for column, ((caption, rgb), size) in enumerate(zip(row, row_sizes, strict=True)):
            left = _MARGIN + column * (side + _GAP)
            corner = (left, floor - size[0])
            sheet.paste(panel(rgb, size), corner)
            box = (corner[0] - 1, corner[1] - 1, left + size[1], floor)
            draw.rectangle(box, outline=FRAME)
            first, _, second = caption.partition("\n")
            draw_text(draw, (left, floor + 10), first, 24, INK, side)
            if second:
                draw_text(draw, (left, floor + 40), second, 19, FAINT, side)
        top += row_height + 12
    if bar is not None:
        length, label = bar
        left, middle = _MARGIN, top + 8
        draw.line([(left, middle - 6), (left, middle), (left + length, middle), (left + length, middle - 6)], INK, 2)
        draw_text(draw, (left + length + 12, middle - 14), label, KEY_SIZE, INK, 110)
    for (place, line), (label, colour) in zip(keys, legend, strict=True):
        draw_key(draw, (_MARGIN + place, top + line * KEY_HEIGHT - 6), label, colour, width)
    if footer:
        draw_text(draw, (_MARGIN, height - _MARGIN - 4), footer, 18, FAINT, width - 2 * _MARGIN)
    return _write_png(path, sheet)


def _scale_bar(metres_per_px: float) -> tuple[int, str]:
    """Return the length of a scale bar on the sheet, some 80 to 200 pixels, and its label."""
    metres = 80 * metres_per_px
    power = 10 ** math.floor(math.log10(metres))
    metres = next(step * power for step in (1, 2, 5, 10) if step * power >= metres)
    return round(metres / metres_per_px), f"{metres / 1000:g} km" if metres >= 1000 else f"{metres:g} m"


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


def panel(rgb: Picture, size: tuple[int, int], ground: Picture | None = None) -> Any:
    """Return the picture at a size (rows, columns), as an image of Pillow.

    Where it is nodata it shows `ground`, greys of that size; by default a light checker.
    """
    import numpy as np
    from PIL import Image

    rows, columns = size
    factor = max(1, min(rgb.shape[1] // rows, rgb.shape[2] // columns))
    image = _image(shrink(rgb, factor)).convert("RGBA")
    # Pixels stay pixels when enlarged. Reducing weighs with alpha, so that nodata doesn't darken the edges.
    enlarge = image.height <= rows and image.width <= columns
    method = Image.Resampling.NEAREST if enlarge else Image.Resampling.LANCZOS
    image = image.resize((columns, rows), method)
    if ground is None:
        squares = np.add.outer(np.arange(rows) // _CHECK, np.arange(columns) // _CHECK) % 2
        ground = np.array(_CHECKS, np.uint8)[squares]
    return Image.alpha_composite(Image.fromarray(ground).convert("RGBA"), image).convert("RGB")


def _columns(count: int) -> int:
    """Return how many panels stand in a row: at most four, in rows as even as possible."""
    rows = -(-count // _MAX_COLUMNS)
    return -(-count // rows)


def fit(shape: tuple[int, ...], side: int) -> tuple[int, int]:
    """Return rows and columns that fill a square of `side` and keep the proportions."""
    rows, columns = shape
    scale = side / max(rows, columns)
    return max(1, round(rows * scale)), max(1, round(columns * scale))


def _write_png(path: Path, image: Any) -> Path:
    return write_bytes(path, png_bytes(image))
