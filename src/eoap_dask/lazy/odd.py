"""What is odd about the items of a lazy cube, told in warnings."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from eoap_dask.errors import ItemError
from eoap_dask.items.odd import nothing_left, odd_items_said
from eoap_dask.scenes.radiometry import MOST_LOWEST_PERCENT, TAKEN_TWICE
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.items.item import OddItem
    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.scenes.model import Contradictions, Scene


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


def warn_of_lowest(
    passes: Sequence[tuple[int, Sequence[Scene]]], layers: npt.NDArray[np.uint16], dropped: npt.NDArray[np.bool_]
) -> None:
    """Warn, at the client too, of scenes many of whose clear pixels in a chunk have the lowest value in one band.

    `layers` are (band, pass, y, x), `dropped` (pass, y, x), for each of `passes`, which come with their numbers.
    """
    for layer, (_, scenes) in enumerate(passes):
        for band in layers[:, layer]:
            lowest = band == 1
            if 100 * np.count_nonzero(lowest) <= MOST_LOWEST_PERCENT * np.count_nonzero(band):
                continue  # nearly all: only the clear ones count, which takes longer
            clear = ~dropped[layer]
            if 100 * np.count_nonzero(lowest & clear) > MOST_LOWEST_PERCENT * np.count_nonzero(clear & (band > 0)):
                from distributed import warn

                names = " and ".join(one.id for one in scenes)
                warn(f"Many of the clear pixels of {names} have the lowest value there is in one band: {TAKEN_TWICE}.")
                break
