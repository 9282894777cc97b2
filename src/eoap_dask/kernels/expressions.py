"""Expressions of bands, such as ``(nir - red) / (nir + red)``: parsed into a few operations, never executed as code."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache, reduce

import numpy as np

from eoap_dask.errors import UsageError
from eoap_dask.kernels.pixels import F32

EXPRESSION_VERSION = 1
"""Raised when the same text comes to other numbers; part of a unit's digest."""
_LONGEST = 500
_HIGHEST = 8
_PIECE = 1 << 16
"""Pixels that are worked on at once."""
_DEEPEST = 40
_BINARY: dict[type[ast.operator], Callable[[F32, F32], F32]] = {
    ast.Add: np.add,
    ast.Sub: np.subtract,
    ast.Mult: np.multiply,
}
_FUNCTIONS: dict[str, Callable[[F32], F32]] = {"sqrt": np.sqrt, "abs": np.abs}


@dataclass(frozen=True)
class Expression:
    """An expression that was looked at."""

    text: str
    """As Python writes it."""
    bands: tuple[str, ...]
    """Names in it, in order."""

    def __call__(self, bands: Mapping[str, F32]) -> F32:
        """Return (y, x), float32, NaN where a band is, a divisor is zero, or there is no number."""
        out: F32 = np.empty(next(iter(bands.values())).shape, np.float32)
        flat = out.reshape(-1)
        tree, rows = _tree(self.text), {name: np.ascontiguousarray(bands[name]).reshape(-1) for name in self.bands}
        for start in range(0, flat.size, _PIECE):
            part = {name: row[start : start + _PIECE] for name, row in rows.items()}
            found = flat[start : start + _PIECE]
            with np.errstate(all="ignore"):
                found[...] = _value(tree, part)
            found[~np.isfinite(found)] = np.nan
            for row in part.values():  # also where it is multiplied by zero
                found[np.isnan(row)] = np.nan
        return out


@cache
def _tree(text: str) -> ast.expr:
    return ast.parse(text, mode="eval").body


def parse_expression(text: str, name: str) -> Expression:
    """Return an expression of bands, or raise `UsageError`; `name` is for its sentence, such as ``--index``."""
    try:
        if len(text) > _LONGEST:
            raise ValueError("it is too long")
        body = ast.parse(text.strip(), mode="eval").body
        bands: dict[str, None] = {}
        _check(body, bands, 0)
        if not bands:
            raise ValueError("it names no band")
    except (SyntaxError, ValueError, OverflowError, RecursionError, MemoryError) as error:
        why = f": {error}" if isinstance(error, ValueError) and not isinstance(error, SyntaxError) else ""
        raise UsageError(
            f"{name} {text[:60]!r} is no expression of bands{why}.",
            f"Expected names of bands, numbers, + - * /, **2 to **{_HIGHEST}, brackets, {' and '.join(_FUNCTIONS)}.",
            "Try (nir-red)/(nir+red).",
        ) from None
    return Expression(ast.unparse(body), tuple(bands))


def _check(node: ast.expr, bands: dict[str, None], depth: int) -> None:
    """Raise ValueError for anything but arithmetic; note the names of bands."""
    if depth > _DEEPEST:
        raise ValueError("it is too deep")
    match node:
        case ast.Constant(value=int() | float() as value) if not isinstance(value, bool) and math.isfinite(value):
            if abs(value) > float(np.finfo(np.float32).max):
                raise ValueError(f"{value:g} is too large")
        case ast.Name(id=name):
            bands[name] = None
        case ast.UnaryOp(op=ast.USub() | ast.UAdd(), operand=inner):
            _check(inner, bands, depth + 1)
        case ast.BinOp(left=left, op=ast.Add() | ast.Sub() | ast.Mult() | ast.Div(), right=right):
            _check(left, bands, depth + 1)
            _check(right, bands, depth + 1)
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)) if 0 < power <= _HIGHEST:
            _check(left, bands, depth + 1)
        case ast.Call(func=ast.Name(id=name), args=[inner], keywords=[]) if name in _FUNCTIONS:
            _check(inner, bands, depth + 1)
        case _:
            raise ValueError(f"{ast.unparse(node)[:40]} isn't arithmetic")


def _value(node: ast.expr, bands: Mapping[str, F32]) -> F32:
    """Return what a checked node comes to, in float32."""
    match node:
        case ast.Constant(value=int() | float() as value):
            return np.asarray(value, np.float32)
        case ast.Name(id=name):
            return bands[name]
        case ast.UnaryOp(op=op, operand=inner):
            found = _value(inner, bands)
            return np.negative(found) if isinstance(op, ast.USub) else found
        case ast.BinOp(left=left, op=ast.Pow(), right=ast.Constant(value=int() as power)):
            return reduce(np.multiply, [_value(left, bands)] * power)  # IEEE 754 says what that is; not of a power
        case ast.BinOp(left=left, op=op, right=right):
            one, other = _value(left, bands), _value(right, bands)
            if isinstance(op, ast.Div):
                return np.divide(one, np.where(other == 0, np.float32(np.nan), other))
            return _BINARY[type(op)](one, other)
        case ast.Call(func=ast.Name(id=name), args=[inner]):
            return _FUNCTIONS[name](_value(inner, bands))
    raise AssertionError(node)
