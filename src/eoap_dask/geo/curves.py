"""WKT with curves, read as polygons of short straight edges."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

from shapely.geometry import GeometryCollection, LineString, Polygon
from shapely.geometry.base import BaseGeometry

_STEP = math.radians(1)
"""Angle of an edge: it is off the arc by at most a 26,000th of the radius."""
_CURVED = re.compile(r"\b(CIRCULARSTRING|COMPOUNDCURVE|CURVEPOLYGON|MULTICURVE|MULTISURFACE)\b", re.I)
_TOKEN = re.compile(r"\s*([(),]|[A-Z]+|[-+.\w]+|\S)", re.I)
_DIMENSIONS = ("Z", "M", "ZM")
_LINES = ("LINESTRING", "CIRCULARSTRING", "COMPOUNDCURVE")

_Point = tuple[float, float]


def is_curved(text: str) -> bool:
    """Tell whether WKT has a geometry that may have curves."""
    return _CURVED.search(text) is not None


def from_curved_wkt(text: str) -> BaseGeometry:
    """Return the geometry of WKT with arcs as edges of one degree of their circle; ValueError if it isn't WKT."""
    reader = _Reader(text)
    found = reader.geometry()
    if reader.token:
        raise ValueError(f"unexpected {reader.token!r}")
    return found


class _Reader:
    """Reads a geometry from WKT, token by token."""

    def __init__(self, text: str) -> None:
        self._tokens = iter(_TOKEN.findall(text))
        self.token = ""
        """The one that comes next, upper case; empty at the end."""
        self._next()

    def _next(self) -> str:
        token, self.token = self.token, next(self._tokens, "").upper()
        return token

    def _kind(self) -> str:
        kind = self._next()
        if self.token in _DIMENSIONS:
            self._next()
        return kind

    def _list(self) -> Iterator[None]:
        """Step through what stands in parentheses, separated by commas; nothing for EMPTY."""
        if self.token == "EMPTY":  # noqa: S105 - of WKT
            self._next()
            return
        self._expect("(")
        yield
        while self.token == ",":  # noqa: S105
            self._next()
            yield
        self._expect(")")

    def _expect(self, token: str) -> None:
        if self._next() != token:
            raise ValueError(f"expected {token!r}")

    def geometry(self) -> BaseGeometry:
        kind = self._kind()
        if kind in ("POLYGON", "CURVEPOLYGON"):
            return self._polygon()
        if kind in ("MULTIPOLYGON", "MULTISURFACE"):
            return GeometryCollection([self._polygon() if self.token == "(" else self.geometry() for _ in self._list()])  # noqa: S105
        if kind in ("MULTILINESTRING", "MULTICURVE"):
            return GeometryCollection([LineString(self._curve()) for _ in self._list()])
        if kind == "GEOMETRYCOLLECTION":
            return GeometryCollection([self.geometry() for _ in self._list()])
        if kind in _LINES:
            return LineString(self._points(kind))
        raise ValueError(f"{kind or 'nothing'!r} beside curves")

    def _polygon(self) -> Polygon:
        rings = [self._curve() for _ in self._list()]
        return Polygon(rings[0], rings[1:]) if rings else Polygon()

    def _curve(self) -> list[_Point]:
        return self._points("LINESTRING" if self.token in ("(", "EMPTY") else self._kind())

    def _points(self, kind: str) -> list[_Point]:
        if kind == "COMPOUNDCURVE":
            return [point for _ in self._list() for point in self._curve()]
        if kind not in _LINES:
            raise ValueError(f"{kind!r} isn't a curve")
        points = [self._point() for _ in self._list()]
        return points if kind == "LINESTRING" else _arcs(points)

    def _point(self) -> _Point:
        numbers = []
        while self.token not in (",", ")", ""):
            numbers.append(float(self._next()))
        if len(numbers) < 2:
            raise ValueError("a point has two coordinates or more")
        return numbers[0], numbers[1]


def _arcs(points: list[_Point]) -> list[_Point]:
    """Return arcs as points on them; each goes from a point through the next one to the one after that."""
    if len(points) % 2 == 0 and points:
        raise ValueError(f"a CIRCULARSTRING has an odd number of points, not {len(points)}")
    found = points[:1]
    for number in range(0, len(points) - 2, 2):
        found += _arc(*points[number : number + 3])
    return found


def _arc(start: _Point, middle: _Point, end: _Point) -> list[_Point]:
    """Return points on an arc after its start; a whole circle where it ends there, straight edges on a line."""
    ax, ay = middle[0] - start[0], middle[1] - start[1]
    bx, by = end[0] - start[0], end[1] - start[1]
    cross = 2 * (ax * by - ay * bx)
    if start == end:
        x, y = ax / 2, ay / 2
    elif abs(cross) <= 1e-12 * (ax * ax + ay * ay + bx * bx + by * by):
        return [middle, end]
    else:
        a, b = ax * ax + ay * ay, bx * bx + by * by
        x, y = (by * a - ay * b) / cross, (ax * b - bx * a) / cross
    x, y = x + start[0], y + start[1]
    radius = math.hypot(start[0] - x, start[1] - y)
    first = math.atan2(start[1] - y, start[0] - x)
    turn = math.tau if cross >= 0 else -math.tau
    sweep = (math.atan2(end[1] - y, end[0] - x) - first) % turn or turn
    steps = max(2, math.ceil(abs(sweep) / _STEP))
    angles = [first + sweep * step / steps for step in range(1, steps)]
    return [*((x + radius * math.cos(angle), y + radius * math.sin(angle)) for angle in angles), end]
