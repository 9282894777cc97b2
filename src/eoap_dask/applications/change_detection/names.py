"""Names of units, and with them of files: where those who use them look."""

from __future__ import annotations

import re

_IMAGE = re.compile(r"images/(\d{4})/sentinel2_grid_(.+)_\d{4}_\d\d")
_CHANGE = re.compile(r"masks/(\d{4})/change_mask_grid_(.+)_\d{4}")


def image_key(cell: str, month: str) -> str:
    """Return the key of the image of a cell in a month, such as 2022-08."""
    return f"images/{month[:4]}/sentinel2_grid_{cell}_{month.replace('-', '_')}"


def change_key(cell: str, year: str) -> str:
    """Return the key of the change of a cell that ends in a year."""
    return f"masks/{year}/change_mask_grid_{cell}_{year}"


def is_change(key: str) -> bool:
    """Tell the key of a change from that of an image."""
    return _CHANGE.fullmatch(key) is not None


def cell_and_year(key: str) -> tuple[str, str]:
    """Return the name of the cell and the year of a unit; ValueError for the key of another."""
    found = _IMAGE.fullmatch(key) or _CHANGE.fullmatch(key)
    if found is None:
        raise ValueError(f"{key!r} must be the key of an image or of a change.")
    return found[2], found[1]
