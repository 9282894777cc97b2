"""Nearest neighbour, exactly: which source pixel each output pixel takes.

The map is computed in float64 from the integer pixel numbers of the whole grid, so that it is the same for any
block, strip or worker. Between two CRSs the projection is exact on a lattice of every 64th pixel of the grid and
cubic in between: that is off by less than 1e-5 of a source pixel up to 1 km, also into degrees or Web Mercator.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from eoap_dask.grid import Window, crs_name, transformer

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

LATTICE = 64
"""Every how many pixels the projection is computed exactly."""

_EDGE_TOLERANCE_PX = 1e-6
"""A centre this close before the edge of a source pixel counts as on it, and takes the pixel to the right or below:
which of two equally near is taken mustn't depend on rounding."""

_SNAP = 0.02
"""A projected output pixel whose size in the source's units is this close to its nominal size counts as that:
UTM stretches by up to 0.1 %, and 20 m must mean 20 m in the neighbouring zone too."""

Transform = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class IndexMap:
    """Which pixel of a source window each output pixel takes."""

    source: Window
    """The part of the source that is needed."""
    shape: tuple[int, int]
    """Height and width of the output."""
    rows: npt.NDArray[np.intp] | None
    """Source rows within `source` for the output rows ``inside[0]``, on one grid orientation."""
    cols: npt.NDArray[np.intp] | None
    flat: npt.NDArray[np.intp] | None
    """Position in the flattened source window for every output pixel, between different CRSs."""
    outside: npt.NDArray[np.bool_] | None
    """Output pixels that no source pixel covers, with `flat`; None when there are none."""
    inside: Window
    """The output rows and columns that the source covers, with `rows` and `cols`."""

    def gather(self, pixels: npt.NDArray[np.generic], out: npt.NDArray[np.generic]) -> None:
        """Fill `out`, (y, x), from the source window's pixels; 0 where the source has none."""
        if self.flat is not None:
            np.take(pixels.reshape(-1), self.flat, out=out, mode="clip")
            if self.outside is not None:
                out[self.outside] = 0
            return
        assert self.rows is not None  # noqa: S101 - one of the two kinds
        assert self.cols is not None  # noqa: S101
        if self.inside.shape != self.shape:
            out[...] = 0
        part = out[self.inside.row : self.inside.row_stop, self.inside.col : self.inside.col_stop]
        if (np.diff(self.rows) == 1).all() and (np.diff(self.cols) == 1).all():  # several times faster
            part[...] = pixels
        else:
            part[...] = pixels[self.rows[:, None], self.cols[None, :]]


def index_map(
    geobox: GeoBox,
    window: Window,
    source_crs: str,
    source_transform: Transform,
    source_shape: tuple[int, int],
    oversample: int = 1,
) -> IndexMap | None:
    """Map the pixels of a window of the grid to the nearest pixels of a source.

    Parameters
    ----------
    geobox : GeoBox
        The whole output grid.
    window : Window
        Which part of it.
    source_crs, source_transform, source_shape
        The source's grid (at the level that is read): CRS, affine a to f, height and width.
    oversample
        Ask for `oversample` × `oversample` regular points in each output pixel.

    Returns
    -------
    IndexMap or None
        None when the source covers no pixel of the window.
    """
    a, _, c, _, e, f = (float(v) for v in tuple(geobox.transform)[:6])
    a, e = a / oversample, e / oversample
    rows = np.arange(window.row * oversample, window.row_stop * oversample)
    cols = np.arange(window.col * oversample, window.col_stop * oversample)
    crs = crs_name(geobox)
    north_up = source_transform[1] == 0 and source_transform[3] == 0
    if crs == source_crs and north_up:
        return _separable(c + (cols + 0.5) * a, f + (rows + 0.5) * e, source_transform, source_shape)
    return _projected(crs, (a, c, e, f), rows, cols, source_crs, source_transform, source_shape)


def _separable(
    x: npt.NDArray[np.floating[Any]], y: npt.NDArray[np.floating[Any]], source: Transform, source_shape: tuple[int, int]
) -> IndexMap | None:
    col = np.floor((x - source[2]) / source[0] + _EDGE_TOLERANCE_PX).astype(np.intp)
    row = np.floor((y - source[5]) / source[4] + _EDGE_TOLERANCE_PX).astype(np.intp)
    col_ok = np.flatnonzero((col >= 0) & (col < source_shape[1]))
    row_ok = np.flatnonzero((row >= 0) & (row < source_shape[0]))
    if not col_ok.size or not row_ok.size:
        return None
    col, row = col[col_ok], row[row_ok]
    window = Window(int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max()) + 1)
    inside = Window(int(row_ok[0]), int(row_ok[-1]) + 1, int(col_ok[0]), int(col_ok[-1]) + 1)
    return IndexMap(window, (y.size, x.size), row - window.row, col - window.col, None, None, inside)


def _projected(
    crs: str,
    grid: tuple[float, float, float, float],
    rows: npt.NDArray[np.intp],
    cols: npt.NDArray[np.intp],
    source_crs: str,
    source: Transform,
    source_shape: tuple[int, int],
) -> IndexMap | None:
    a, c, e, f = grid
    node_rows = np.arange(rows[0] // LATTICE - 1, rows[-1] // LATTICE + 3) * LATTICE
    node_cols = np.arange(cols[0] // LATTICE - 1, cols[-1] // LATTICE + 3) * LATTICE
    x, y = np.meshgrid(c + (node_cols + 0.5) * a, f + (node_rows + 0.5) * e)
    if crs != source_crs:
        x, y = transformer(crs, source_crs).transform(x, y)
    sa, sb, sc, sd, se, sf = source
    determinant = sa * se - sb * sd
    height, width = source_shape
    with np.errstate(invalid="ignore"):  # beyond the projection's domain there is nothing to compute with
        node_col = ((x - sc) * se - (y - sf) * sb) / determinant
        node_row = ((y - sf) * sa - (x - sc) * sd) / determinant
        finite = np.isfinite(node_col) & np.isfinite(node_row)
        if not finite.any() or not _may_touch(node_row[finite], node_col[finite], height, width):
            return None
        row = np.floor(_cubic(node_row, rows, cols) + _EDGE_TOLERANCE_PX)
        col = np.floor(_cubic(node_col, rows, cols) + _EDGE_TOLERANCE_PX)
        ok = (row >= 0) & (row < height) & (col >= 0) & (col < width)
    if not ok.any():
        return None
    if ok.all():
        outside = None
    else:
        outside = ~ok
        row[outside] = row[ok].min()
        col[outside] = col[ok].min()
    window = Window(int(row.min()), int(row.max()) + 1, int(col.min()), int(col.max()) + 1)
    row -= window.row
    row *= window.shape[1]
    row += col
    row -= window.col
    shape = (rows.size, cols.size)
    return IndexMap(window, shape, None, None, row.astype(np.intp), outside, Window(0, shape[0], 0, shape[1]))


def _may_touch(row: npt.NDArray[np.float64], col: npt.NDArray[np.float64], height: int, width: int) -> bool:
    # the nodes reach a lattice step and more beyond the window: this only rules out what is surely outside
    return bool(row.max() >= 0 and row.min() < height and col.max() >= 0 and col.min() < width)


def _cubic(
    nodes: npt.NDArray[np.float64], rows: npt.NDArray[np.intp], cols: npt.NDArray[np.intp]
) -> npt.NDArray[np.float64]:
    """Interpolate between nodes, of which the first is one lattice step before the cell of the first pixel."""
    at = rows // LATTICE
    weights = _weights((rows - at * LATTICE) / LATTICE)
    at = at - rows[0] // LATTICE
    down = sum(nodes[at + k] * weights[k][:, None] for k in range(4))
    at = cols // LATTICE
    weights = _weights((cols - at * LATTICE) / LATTICE)
    at = at - cols[0] // LATTICE
    out = np.empty((rows.size, cols.size))
    # a cell's columns share their nodes and fit the cache
    starts = np.flatnonzero(np.diff(at, prepend=-1))
    for start, stop in zip(starts, (*starts[1:], cols.size), strict=True):
        part, first = out[:, start:stop], at[start]
        np.multiply(down[:, first, None], weights[0][start:stop], out=part)
        for k in (1, 2, 3):
            part += down[:, first + k, None] * weights[k][start:stop]
    return out


def _weights(t: npt.NDArray[np.float64]) -> tuple[npt.NDArray[np.float64], ...]:
    """Return Lagrange's weights of the nodes at -1, 0, 1 and 2 for positions between 0 and 1."""
    return (
        -t * (t - 1) * (t - 2) / 6,
        (t + 1) * (t - 1) * (t - 2) / 2,
        -(t + 1) * t * (t - 2) / 2,
        (t + 1) * t * (t - 1) / 6,
    )


def pixel_size_in(geobox: GeoBox, source_crs: str) -> float:
    """Return the side of an output pixel in the units of a source CRS, measured in the middle of the grid."""
    a, _, c, _, e, f = (float(v) for v in tuple(geobox.transform)[:6])
    crs = crs_name(geobox)
    if crs == source_crs:
        return math.sqrt(abs(a * e))
    height, width = geobox.shape
    x, y = c + a * (width / 2), f + e * (height / 2)
    to = transformer(crs, source_crs)
    xs, ys = to.transform([x, x + a, x], [y, y, y + e])
    area = abs((xs[1] - xs[0]) * (ys[2] - ys[0]) - (xs[2] - xs[0]) * (ys[1] - ys[0]))
    if not (math.isfinite(area) and area > 0):
        return math.sqrt(abs(a * e))
    size = math.sqrt(area)
    nominal = math.sqrt(abs(a * e))
    return nominal if abs(size / nominal - 1) < _SNAP else size


def data_level(pixel_size: float, level_sizes: tuple[float, ...]) -> int:
    """Return the coarsest level that isn't coarser than the output; 0 when even the native one is.

    Parameters
    ----------
    pixel_size
        Side of an output pixel in the source's units.
    level_sizes
        Side of a pixel at each level, native first.
    """
    fitting = [i for i, size in enumerate(level_sizes) if size <= pixel_size * (1 + 1e-3)]
    return max(fitting, key=lambda i: level_sizes[i], default=0)


def mask_level(pixel_size: float, level_sizes: tuple[float, ...], samples: int = 16) -> int:
    """Return the coarsest level with at least `samples` pixels per output pixel; 0 (native) when there is none."""
    fitting = [i for i, size in enumerate(level_sizes) if (pixel_size * (1 + 1e-3) / size) ** 2 >= samples]
    return max(fitting, key=lambda i: level_sizes[i], default=0)
