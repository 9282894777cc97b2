"""Splits of chips for training, validation and test that don't leak: no chip touches one of another split.

Neighbours go together: a split is made of whole blocks of cells. Where blocks of two splits meet, chips are left out.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.files import write_bytes
from eoap_dask.text import plural

SPLITS = ("train", "val", "test")
"""Names of the splits, also of their files; a chip that is left out has an empty one."""

ML_AOI = {"train": "train", "val": "validate", "test": "test"}
"""What STAC's ml-aoi extension calls them, in `ml-aoi:split`."""

SHARES = (0.70, 0.15, 0.15)

_TOUCH_M = 2.0
"""Chips that are this near touch: each footprint in degrees is right within about a metre."""


@dataclass(frozen=True)
class ChipPlace:
    """Where a chip lies."""

    name: str
    """Unique among the chips."""
    cell: tuple[int, int]
    """Row and column of its cell."""
    footprint: shapely.Geometry
    """In longitude and latitude, as `footprint_4326` has it, whatever the CRS of the chip."""


def assign_splits(
    chips: Sequence[ChipPlace],
    shares: Sequence[float] = SHARES,
    seed: int = 0,
    block: int = 2,
    buffer_m: float = 0.0,
) -> dict[str, str]:
    """Return the split of each chip by its name, or an empty text for one that is left out.

    Parameters
    ----------
    chips
        In any order, which doesn't matter.
    shares
        Of the chips in `SPLITS`, before any is left out; they add up to 1. A count is at most the chips of a block
        above its share. Each that isn't 0 gets a block, if there are enough.
    seed
        Another one makes other splits.
    block
        Cells along a side of a block.
    buffer_m
        Chips of different splits lie further apart, in metres.

    Returns
    -------
    dict
        In the order of the chips. Of two chips that are too near, the one of the larger split is left out.

    Raises
    ------
    ValueError
        For shares, a block or a buffer that can't be, and for two chips of one name.
    """
    _check(shares, block, buffer_m)
    if len({chip.name for chip in chips}) < len(chips):
        raise ValueError("The names of the chips aren't unique.")
    by_block = _blocks_to_splits(Counter(_block_of(chip, block) for chip in chips), shares, seed)
    ranks = np.array([by_block[_block_of(chip, block)] for chip in chips], int)
    # the largest split is last: it gives way to all, and the second to the smallest
    order = sorted(range(len(SPLITS)), key=lambda number: (shares[number], -number))
    kept = np.ones(len(chips), bool)
    one, other = _too_near(chips, ranks, buffer_m)
    for rank in order[1:]:
        earlier = order[: order.index(rank)]
        for mine, theirs in ((one, other), (other, one)):
            clash = (ranks[mine] == rank) & np.isin(ranks[theirs], earlier) & kept[theirs]
            kept[mine[clash]] = False
    return {
        chip.name: SPLITS[rank] if keep else "" for chip, rank, keep in zip(chips, ranks, kept.tolist(), strict=True)
    }


def check_splits(chips: Sequence[ChipPlace], splits: Mapping[str, str], buffer_m: float = 0.0) -> None:
    """Raise ValueError when a chip is as near as `buffer_m`, in metres, to one of another split, or touches it."""
    inside = [chip for chip in chips if splits[chip.name]]
    ranks = np.array([SPLITS.index(splits[chip.name]) for chip in inside], int)
    pairs = sorted((inside[i].name, inside[j].name) for i, j in zip(*_too_near(inside, ranks, buffer_m), strict=True))
    if pairs:
        one, other = pairs[0]
        raise ValueError(
            f"Chips of different splits are too near: {one} ({splits[one]}) and {other} ({splits[other]}), "
            f"of {plural(len(pairs), 'pair')} in all."
        )


def write_splits(folder: Path, splits: Mapping[str, str], paths: Mapping[str, str]) -> list[Path]:
    """Write ``splits/train.txt``, ``val.txt`` and ``test.txt`` in a directory, and return their paths.

    Each has the path of a chip's image, as in `paths`, per line, sorted.
    """
    target = folder / "splits"
    target.mkdir(exist_ok=True)
    written = []
    for split in SPLITS:
        lines = sorted(paths[name] for name, its in splits.items() if its == split)
        written.append(write_bytes(target / f"{split}.txt", "".join(f"{line}\n" for line in lines).encode()))
    return written


def _check(shares: Sequence[float], block: int, buffer_m: float) -> None:
    fits = len(shares) == len(SPLITS) and all(0 <= share <= 1 for share in shares)
    if not fits or not math.isclose(sum(shares), 1, abs_tol=1e-6):
        raise ValueError(f"Shares must be {len(SPLITS)} numbers of 0 or more that add up to 1, got {tuple(shares)}.")
    if block < 1:
        raise ValueError(f"A block must have 1 cell or more along a side, got {block}.")
    if not 0 <= buffer_m < math.inf:
        raise ValueError(f"A buffer must be a finite number of 0 metres or more, got {buffer_m}.")


def _block_of(chip: ChipPlace, block: int) -> tuple[int, int]:
    return chip.cell[0] // block, chip.cell[1] // block


def _blocks_to_splits(
    sizes: Mapping[tuple[int, int], int], shares: Sequence[float], seed: int
) -> dict[tuple[int, int], int]:
    """Return the number of the split of each block: in the order of their hashes, the split that lacks most chips."""
    lacking = [share * sum(sizes.values()) for share in shares]
    wanted = [number for number, share in enumerate(shares) if share > 0]
    empty, found = wanted, {}
    blocks = sorted(sizes, key=lambda block: (_hash(seed, block), block))
    for place, block in enumerate(blocks):
        # the last blocks are for splits that have none
        choices = empty if len(blocks) - place <= len(empty) else wanted
        best = max(choices, key=lambda number: (lacking[number], -number))
        lacking[best] -= sizes[block]
        empty = [number for number in empty if number != best]
        found[block] = best
    return found


def _hash(seed: int, block: tuple[int, int]) -> bytes:
    return hashlib.blake2b(f"{seed} {block[0]} {block[1]}".encode(), digest_size=16).digest()


# ----------------------------------------------------------------------------------------------------
# Nearness

_EQUATOR_M = 6378137.0
_ECCENTRICITY_2 = 0.00669437999014
"""Equatorial radius and squared eccentricity of WGS 84."""

Indices = npt.NDArray[np.intp]


def _too_near(chips: Sequence[ChipPlace], ranks: npt.NDArray[Any], buffer_m: float) -> tuple[Indices, Indices]:
    """Return the pairs of chips of different ranks that aren't further apart than the buffer, each pair once."""
    if not chips:
        return np.empty(0, np.intp), np.empty(0, np.intp)
    grown = _grown([chip.footprint for chip in chips], (buffer_m + _TOUCH_M) / 2)
    one, other = shapely.STRtree(grown).query(grown)
    differ = (one < other) & (ranks[one] != ranks[other])
    one, other = one[differ], other[differ]
    near = shapely.intersects(grown[one], grown[other])
    return one[near], other[near]


def _grown(footprints: Sequence[shapely.Geometry], metres: float) -> npt.NDArray[Any]:
    """Return shapes in degrees, grown by metres on all sides: each in a plane of its own, as large as on the ground."""
    shapes = np.array(footprints, object)
    points, index = shapely.get_coordinates(shapes, return_index=True)
    west, east = points[:, 0].min(), points[:, 0].max()
    if east - west > 180:  # the antimeridian runs through them
        points[points[:, 0] < 0, 0] += 360
    latitude = np.radians(shapely.get_y(shapely.centroid(shapes)))
    bend = 1 - _ECCENTRICITY_2 * np.sin(latitude) ** 2
    scale = np.radians(_EQUATOR_M) * np.column_stack(
        [np.cos(latitude) / np.sqrt(bend), (1 - _ECCENTRICITY_2) / bend**1.5]
    )
    wide = shapely.buffer(shapely.set_coordinates(shapes, points * scale[index]), metres, quad_segs=4)
    points, index = shapely.get_coordinates(wide, return_index=True)
    return np.asarray(shapely.set_coordinates(wide, points / scale[index]))
