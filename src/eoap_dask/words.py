"""Numbers of things, as a sentence has them."""

from __future__ import annotations


def counted(number: int, thing: str) -> str:
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
