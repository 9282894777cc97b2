"""Items that a lazy cube does without, told in a warning."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

from eoap_dask.errors import ItemError
from eoap_dask.items.odd import nothing_left, odd_items_said

if TYPE_CHECKING:
    from eoap_dask.items.item import OddItem
    from eoap_dask.items.itemset import ItemSet


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
