"""What Python callers hand over, as the command line would have parsed it, or refused in a sentence.

Libraries whose types are taken, such as numpy, aren't imported here: who has a value of theirs has imported them.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from decimal import Decimal
from itertools import islice
from numbers import Real
from pathlib import Path
from typing import TypeVar

from eoap_dask.errors import UsageError
from eoap_dask.text import must_be, option, show

T = TypeVar("T")

_MOST = 1000
"""Values in a list, so that an endless one ends."""


def is_a(value: object, *classes: str) -> bool:
    """Tell whether a value is of a class, named by its module, without importing that."""
    for name in classes:
        module, _, short = name.rpartition(".")
        found = getattr(sys.modules.get(module), short, None)
        if isinstance(found, type) and isinstance(value, found):
            return True
    return False


def scalar(value: object) -> object:
    """Return what a scalar of numpy, or an array without dims, holds, None for a masked one; others as they are."""
    if is_a(value, "numpy.ma.MaskedArray"):
        return None
    if is_a(value, "numpy.datetime64", "numpy.timedelta64"):
        return value  # their plain values are bare numbers
    if is_a(value, "numpy.generic") or (is_a(value, "numpy.ndarray") and getattr(value, "ndim", 1) == 0):
        return scalar(value[()]) if is_a(value, "numpy.ndarray") else value.item()  # type: ignore[index, attr-defined]
    return value


def _is_number(plain: object) -> bool:
    """Tell whether something is a number, or text that may be one. To Python, True is one; to numpy, a timedelta64."""
    if isinstance(plain, bool) or is_a(plain, "numpy.timedelta64"):
        return False
    return isinstance(plain, str | Real | Decimal)


def as_number(value: object, name: str, example: float) -> float:
    """Return a number, also of numpy or as text, or raise `UsageError`; what isn't finite passes."""
    plain = scalar(value)
    if _is_number(plain):
        try:
            return float(plain)  # type: ignore[arg-type]
        except (ArithmeticError, ValueError):
            pass
    raise must_be(name, "a number", value, example)


def as_codes(value: object, name: str) -> str:
    """Return codes of classes as one text, with commas between them; a list of whole numbers is taken too."""
    if isinstance(value, str) or value is None:
        return str(value or "")
    return ",".join(str(one) for one in as_list(value, name, [3, 8, 9, 10], lambda one: as_integer(one, name, 3)))


def as_integer(value: object, name: str, example: int) -> int:
    """Return a whole number, also of numpy or as text, or raise `UsageError`."""
    plain = scalar(value)
    if _is_number(plain):
        try:
            found: int = int(plain)  # type: ignore[call-overload]
            if isinstance(plain, str) or found == plain:
                return found
        except (ArithmeticError, ValueError):
            pass
    raise must_be(name, "a whole number", value, example)


def as_flag(value: object, name: str) -> bool:
    """Return True or False, also of numpy, or raise `UsageError`: ``"no"`` is true to Python."""
    plain = scalar(value)
    if isinstance(plain, bool):
        return plain
    raise UsageError(f"{option(name)} must be True or False, got {show(value)}.")


def as_text(value: object, name: str, example: object) -> str:
    """Return text, or raise `UsageError`."""
    if isinstance(value, str):
        return str(value)
    raise must_be(name, "text", value, example)


def as_choice(value: object, name: str, choices: Sequence[str]) -> str:
    """Return one of some texts, or raise `UsageError`."""
    if isinstance(value, str) and value in choices:
        return str(value)
    raise UsageError(f"{option(name)} must be {' or '.join(map(repr, choices))}, got {show(value)}.")


def as_path(value: object, name: str, example: str) -> Path:
    """Return a path, or raise `UsageError`."""
    found = os.fspath(value) if isinstance(value, str | os.PathLike) and not isinstance(value, type) else None
    if isinstance(found, str) and found and "\0" not in found:
        return Path(found)
    raise must_be(name, "a path", value, example)


def as_list(value: object, name: str, example: object, one: Callable[[object], T]) -> tuple[T, ...]:
    """Return values in their order, each made by `one`; `UsageError` for what isn't a list of them, or has no order."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | bytearray | Mapping | Set | type):
        try:
            found = list(islice(value, _MOST + 1))
        except TypeError:  # an array without dims
            found = [None] * (_MOST + 1)
        if len(found) <= _MOST:
            return tuple(one(part) for part in found)
    raise must_be(name, "a list", value, example)
