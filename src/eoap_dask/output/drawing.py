"""What pictures for people are drawn with: colours, text, keys of legends, and PNGs of equal bytes for equal input."""

from __future__ import annotations

import io
import unicodedata
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from eoap_dask.render.images import Colour

PAPER = (255, 255, 255)
INK = (28, 32, 38)
FAINT = (108, 114, 122)
FRAME = (205, 209, 214)

KEY_HEIGHT = 34
"""From one line of a legend to the next."""
KEY_SIZE = 19
"""Of a legend's text."""
SWATCH = (19, 23)
"""Rows and columns of the colour beside it."""

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


def draw_text(draw: Any, place: tuple[int, int], text: str, size: int, colour: Colour, width: int) -> None:
    """Draw a line of text, cut to a width."""
    font = _font(size)
    text = settable(text)
    if draw.textlength(text, font=font) > width:
        while text and draw.textlength(text.rstrip() + "…", font=font) > width:
            text = text[:-1]
        text = text.rstrip() + "…"
    draw.text(place, text, font=font, fill=colour)


def text_width(text: str, size: int) -> int:
    """Return how many pixels wide a line of text is."""
    return round(float(_font(size).getlength(settable(text))))


def settable(text: str) -> str:
    """Return the text in the characters of Pillow's font: accents are dropped, and unknown characters become ?."""
    found = ""
    for character in text:
        if character not in _GLYPHS:
            plain = _STAND_INS.get(character) or unicodedata.normalize("NFKD", character)
            found += "".join(part for part in plain if part in _GLYPHS) or "?"
        else:
            found += character
    return found


def key_places(labels: Sequence[str], width: int, taken: int = 0) -> list[tuple[int, int]]:
    """Return column and line of each key of a legend; the first line begins after `taken` pixels."""
    places, at, line = [], taken, 0
    for label in labels:
        needed = 32 + text_width(label, KEY_SIZE) + 24
        if at and at + needed > width:
            at, line = 0, line + 1
        places.append((at, line))
        at += needed
    return places


def draw_key(draw: Any, corner: tuple[int, int], label: str, colour: Colour | None, width: int) -> None:
    """Draw a key of a legend whose swatch begins at `corner`; without a colour, only the swatch's frame."""
    box = (*corner, corner[0] + SWATCH[1] - 1, corner[1] + SWATCH[0] - 1)
    draw.rectangle(box, fill=colour, outline=FRAME)
    draw_text(draw, (corner[0] + 32, corner[1] - 2), label, KEY_SIZE, INK, width)


def png_bytes(image: Any) -> bytes:
    """Return an image of Pillow as PNG."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=6)
    return buffer.getvalue()


def _font(size: int) -> Any:
    """Return the font that comes with Pillow: the same on every machine."""
    from PIL import ImageFont

    return ImageFont.load_default(size)
