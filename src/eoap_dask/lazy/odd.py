"""What is odd about the items of a lazy cube, told in warnings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eoap_dask.errors import ItemError
from eoap_dask.items.odd import nothing_left, odd_items_said
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.items.item import OddItem
    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.scenes.model import Contradictions


def warn_of_odd(items: ItemSet, odd: Sequence[OddItem], on_odd_item: str, *, some: bool) -> None:
    """Warn of the items that a search and `usable_scenes` set aside; `some` tells whether others are left.

    Raises `NothingFoundError` where none is left, `ItemError` with ``fail``.
    """
    odd = (*items.odd_items, *odd)
    if odd and on_odd_item == "fail":
        raise ItemError(odd[0].reason, "Expected no odd item.", "Try on_odd_item='skip'.")
    if odd and not some:
        raise nothing_left(odd)
    if odd:
        warnings.warn(odd_items_said(odd), stacklevel=3)


def warn_of_corrected(found: Contradictions) -> None:
    """Warn of assets whose files lie elsewhere than their items say; the files count."""
    if found:
        named = list(dict.fromkeys(item for item, *_ in found))
        shown = ", ".join(named[:3]) + (" …" if len(named) > 3 else "")
        warnings.warn(
            f"{plural(len(found), 'asset')} of {plural(len(named), 'item')} ({shown}) "
            f"{'lies' if len(found) == 1 else 'lie'} elsewhere than the items say: the files count.",
            stacklevel=3,
        )
