"""Which fields chips are centred on: the same choice for the same fields and seed, in whatever order they come."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


def ranks(ids: Ints, seed: int) -> npt.NDArray[np.uint64]:
    """Return a number for each id that looks random: splitmix64 (Steele et al. 2014, doi:10.1145/2714064.2660195)."""
    with np.errstate(over="ignore"):
        mixed = ids.astype(np.uint64) + np.uint64(seed % (1 << 64)) * np.uint64(0x9E3779B97F4A7C15)
        mixed += np.uint64(0x9E3779B97F4A7C15)
        mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))


def choose(
    ids: Ints,
    xy: Floats,
    values: npt.NDArray[np.uint8],
    *,
    most: int,
    seed: int,
    min_distance: float,
    stratify: bool,
    is_free: Callable[[int], bool] = lambda _: True,
) -> list[int]:
    """Return which of some fields chips are centred on, in the order of their choice.

    Parameters
    ----------
    ids : np.ndarray, (n,)
        Of the fields, unique.
    xy : np.ndarray, (n, 2)
        Where chips on them have their middle.
    values : np.ndarray, (n,)
        Their classes.
    most
        How many, at most.
    seed
        Another one makes another choice.
    min_distance
        Least distance of two of them.
    stratify
        Take one of each class in turn, those with the fewest fields first; or whichever comes.
    is_free
        Tells of a field, by its index, whether a chip may be there; called for each at most once.

    Returns
    -------
    list of int
        Indices.
    """
    by_rank = np.lexsort((ids, ranks(ids, seed)))
    groups = [by_rank]
    if stratify:
        classes, counts = np.unique(values, return_counts=True)
        groups = [by_rank[values[by_rank] == value] for value in classes[np.lexsort((classes, counts))]]
    found: list[int] = []
    queues = [iter(group.tolist()) for group in groups]
    while queues and len(found) < most:
        left = []
        for queue in queues:
            if len(found) == most:
                break
            for index in queue:
                near = xy[found] - xy[index]
                if (np.hypot(near[:, 0], near[:, 1]) >= min_distance).all() and is_free(index):
                    found.append(index)
                    left.append(queue)
                    break
        queues = left
    return found
