"""Items that were set aside: how they are told."""

from __future__ import annotations

from collections.abc import Sequence

from eoap_dask.errors import NothingFoundError
from eoap_dask.items.item import OddItem
from eoap_dask.text import plural

_SHOWN = 3
_ANOTHER = "Try other dates, or another collection or catalogue."


def odd_items_said(odd: Sequence[OddItem], most: int = _SHOWN) -> str:
    """Return how many items were set aside, and why, in a sentence or some."""
    more = f" And {len(odd) - most} more." if len(odd) > most else ""
    verb = "is" if len(odd) == 1 else "are"
    return f"{plural(len(odd), 'odd item')} {verb} set aside. {' '.join(one.reason for one in odd[:most])}{more}"


def nothing_left(odd: Sequence[OddItem], hint: str = "") -> NothingFoundError:
    """Return the fault of a search whose items were all set aside, or too many of them."""
    return NothingFoundError(
        f"No usable item is left. {odd_items_said(odd)}", odd[0].expected, hint or odd[0].hint or _ANOTHER
    )
