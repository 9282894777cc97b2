"""Numbers, amounts of memory and names of parameters, as they are written in sentences."""

from __future__ import annotations

import difflib
import re
import reprlib
import shlex
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.redact import redact


def plural(number: int, thing: str, things: str = "") -> str:
    """Return a number and what it counts, such as ``1 worker``, ``2 workers`` or ``1 pass``, ``2 passes``."""
    return f"{number} {thing if number == 1 else things or f'{thing}s'}"


def shorten(text: str, length: int) -> str:
    """Return a text in at most this many characters, with an ellipsis where it was cut: at a blank, if one is near."""
    if len(text) <= length:
        return text
    cut = text[: max(length - 1, 0)]
    word = cut.rpartition(" ")[0].rstrip()
    return f"{word if len(word) > 0.7 * length else cut}…"


def few(names: Iterable[str], most: int = 5) -> str:
    """Return names with commas between them, such as ``a, b and 3 more``; long ones are cut."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(shorten(one, 60) for one in every[:most]) + more


def plain(number: float) -> float | int:
    """Return a number as a whole one where it is."""
    return int(number) if float(number).is_integer() else float(number)


_POWERS = "KMGTP"


def parse_memory(text: str) -> int:
    """Return an amount of memory in bytes, or raise `UsageError`.

    As on a Gateway, ``4G``, ``4Gi`` and ``4GiB`` are the same; ``4GB`` is decimal, a bare number is bytes.
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b?)|b)?\s*", text, re.I)
    if not match or not float(match[1]):
        raise UsageError(f"{text!r} isn't an amount of memory.", "Expected a number with K, M, G or T.", "Try 4G.")
    if not match[2]:
        return int(float(match[1]))
    base = 1000 if match[3].lower() == "b" else 1024
    return int(float(match[1]) * base ** (_POWERS.index(match[2].upper()) + 1))


def show_memory(size: int) -> str:
    """Return bytes (1024 or more) as any Gateway reads it: a whole number with K, M or G, rounded down."""
    for power in (3, 2):
        if size % 1024**power == 0:
            return f"{size // 1024**power}{_POWERS[power - 1]}"
    return f"{size // 1024**2}M" if size >= 1024**2 else f"{max(1, size // 1024)}K"


def show_bytes(size: float) -> str:
    """Return a number of bytes in decimal MB or GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"


def figure_name(name: str) -> str:
    """Return the name of a figure in words."""
    return name.removesuffix("_ha").replace("_", " ")


def show_figure(name: str, value: float | Mapping[str, Any]) -> str:
    """Return a figure, or figures by name: hectares where the name ends in ``_ha``."""
    unit = "_ha" if name.endswith("_ha") else ""
    if isinstance(value, Mapping):
        return ", ".join(f"{figure_name(one)} {show_figure(one + unit, number)}" for one, number in value.items())
    return f"{value:,.1f} ha" if unit else f"{value:,}"


def nearest(wrong: str, names: Iterable[str], alike: float = 0.7) -> str | None:
    """Return the name that somebody may have meant, in whatever case, or None; of equals the first.

    `alike` is the least share of letters in common, as difflib has it: at 0.7 ``B4`` means ``B04``, not ``B05``.
    """
    shares = {name: difflib.SequenceMatcher(None, wrong.casefold(), name.casefold()).ratio() for name in names}
    best = max(shares, key=lambda name: shares[name], default=None)
    return best if best is not None and shares[best] >= alike else None


_FLAGS = {"thresholds": "threshold", "cluster_options": "cluster-option", "allow_hosts": "allow-host"}
"""Flags that aren't spelled as their parameter."""

_by_flags = False


@contextmanager
def named_by_flags() -> Iterator[None]:
    """Let `option` name parameters as the command line does, for the whole process."""
    global _by_flags
    before, _by_flags = _by_flags, True
    try:
        yield
    finally:
        _by_flags = before


def option(name: str, value: object = None) -> str:
    """Return a Python parameter, and a value, as the reader of the sentence writes it.

    On the command line (`named_by_flags`) ``--max-items 1000`` or, for False, ``--no-resume``; in Python
    ``max_items=1000`` or ``resume=False``. Without a value ``--max-items`` or ``max_items``.
    """
    value = value.item() if hasattr(value, "item") else value  # a NumPy scalar
    if not _by_flags:
        return name if value is None else f"{name}={value!r}"
    flag = _FLAGS.get(name, name.replace("_", "-"))
    if isinstance(value, bool):
        return f"--{flag}" if value else f"--no-{flag}"
    if isinstance(value, list | tuple):
        return " ".join(f"--{flag} {shlex.quote(str(one))}" for one in value)
    return f"--{flag}" if value is None else f"--{flag} {shlex.quote(str(value))}"


def must_be(name: str, rule: str, got: object, example: object, why: str = "") -> UsageError:
    """Return the fault of a parameter with a useless value: ``max_items must be 1 or more, got 0. Try max_items=9``."""
    return UsageError(f"{option(name)} must be {rule}, got {show(got)}.", why, f"Try {option(name, example)}.")


def show(value: object) -> str:
    """Return a value of any type for a sentence: in one short line, without secrets; of large objects the type."""
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, type):
        return f"the class {value.__name__}"
    if value is not None and not isinstance(value, _SHOWN):
        return f"{'an' if type(value).__name__[0] in 'AEIOaeiou' else 'a'} {type(value).__name__}"
    try:
        return redact(" ".join(_short.repr(redact(value[:_MOST_SHOWN]) if isinstance(value, str) else value).split()))
    except ValueError:  # Python doesn't write whole numbers of thousands of digits
        return f"a {type(value).__name__}"


_MOST_SHOWN = 500
"""Characters of a text that are looked at for a sentence."""
_SHOWN = (bool, int, complex, str, bytes, list, tuple, dict, set, frozenset)
_short = reprlib.Repr()
_short.maxlevel, _short.maxstring, _short.maxlong = 2, 60, 40
