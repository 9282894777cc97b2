"""A sheet of the pairs that changed most: before, after, score and mask, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from eoap_dask.applications.change_detection.images import CLASSES
from eoap_dask.applications.change_detection.methods import Method
from eoap_dask.output.layout import LAYOUT
from eoap_dask.output.picture import contact_sheet

MOST_PAIRS = 4
_SIDE = 512
"""Pixels of a picture, at most."""
_WHITE = 3.0
"""Scores of so many thresholds are white."""

Rgb = npt.NDArray[np.uint8]


def write_sheet(
    path: Path,
    pairs: Sequence[Mapping[str, Any]],
    file: Callable[[str, str], Path],
    method: Method,
    title: str,
    subtitle: str,
) -> Path:
    """Write the sheet of the items of some changes, most change first; `file` is where a unit's file lies."""
    panels: list[tuple[str, Rgb]] = []
    for item in pairs:
        about = item["properties"]
        keys = [LAYOUT.key_of(_from_root(link["href"])) for link in item["links"] if link["rel"] == "derived_from"]
        for key, year in zip(keys, (about["eoap:year_before"], about["eoap:year"]), strict=True):
            assert key is not None  # noqa: S101 - changes are made from units
            picture = file(key, f"{LAYOUT.name(key)}_visual.tif")
            panels.append((f"Cell {about['eoap:cell']}\n{year}", _read(picture)))
        key = LAYOUT.unit_of_item(item)
        threshold = float(about["eoap:change_statistics"].get("threshold", 1.0))
        score = _read(file(key, f"{LAYOUT.name(key)}_score.tif")).astype(np.float64) * method.step
        white = min(_WHITE * threshold, method.most)
        grey = np.where(score > 0, np.clip(score / max(white, method.step) * 254 + 1, 1, 255), 0)
        panels.append((f"Score\nwhite: {_short(white)} and more", grey.astype(np.uint8)))
        panels.append(
            (f"Change\n{about['eoap:changed_ha']:.1f} ha", _coloured(_read(file(key, f"{LAYOUT.name(key)}.tif"))))
        )
    legend = [(one.title, one.colour) for one in CLASSES if one.colour is not None]
    return contact_sheet(path, panels, title, subtitle, legend=legend)


def _short(number: float) -> str:
    return f"{number:.0f}" if number >= 10 else f"{number:.2g}"


def _from_root(href: str) -> str:
    return href.removeprefix("../../")


def _read(path: Path) -> npt.NDArray[Any]:
    """Return a raster, (band, y, x), by every so many pixels where it is large: an overview suffices."""
    import rasterio

    with rasterio.open(path) as file:
        step = max(1, -(-max(file.shape) // _SIDE))
        found: npt.NDArray[Any] = file.read(out_shape=(file.count, -(-file.height // step), -(-file.width // step)))
    return found


def _coloured(mask: npt.NDArray[np.uint8]) -> Rgb:
    palette = np.zeros((256, 3), np.uint8)
    for one in CLASSES:
        palette[one.value] = one.colour or (0, 0, 0)
    return np.ascontiguousarray(np.moveaxis(palette[mask[0]], -1, 0))
