"""Numbers of things and amounts of memory, as sentences and options have them."""

from __future__ import annotations

import re

from eoap_dask.errors import UsageError


def plural(number: int, thing: str) -> str:
    """Return a number and what it counts.

    Parameters
    ----------
    number
        How many.
    thing
        One of them, such as ``worker``.

    Returns
    -------
    str
        Such as ``1 worker`` or ``2 workers``.
    """
    return f"{number} {thing}{'' if number == 1 else 's'}"


_POWERS = "KMGTP"


def parse_memory(text: str) -> int:
    """Return an amount of memory in bytes.

    Parameters
    ----------
    text
        Such as ``4G``, ``4Gi`` or ``4GiB``, which are the same, as for a Gateway; ``4GB`` is decimal; or bytes.

    Returns
    -------
    int

    Raises
    ------
    UsageError
        when it isn't an amount of memory
    """
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([kmgtp])(i?b?)|b)?\s*", text, re.I)
    if not match or not float(match[1]):
        raise UsageError(f"{text!r} isn't an amount of memory.", "Expected a number with K, M, G or T.", "Try 4G.")
    if not match[2]:
        return int(float(match[1]))
    base = 1000 if match[3].lower() == "b" else 1024
    return int(float(match[1]) * base ** (_POWERS.index(match[2].upper()) + 1))


def show_memory(size: int) -> str:
    """Return an amount of memory as every Gateway reads it: a whole number with K, M or G, rounded down.

    Parameters
    ----------
    size
        Bytes, at least 1024.

    Returns
    -------
    str
    """
    for power in (3, 2):
        if size % 1024**power == 0:
            return f"{size // 1024**power}{_POWERS[power - 1]}"
    return f"{size // 1024**2}M" if size >= 1024**2 else f"{max(1, size // 1024)}K"


def show_bytes(size: float) -> str:
    """Return a number of bytes for people."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{max(size / 1e6, 0.1):.1f} MB"
