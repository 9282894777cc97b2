"""The index map against an exact projection of every pixel and against GDAL; any cut gives the same map."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Geod, Transformer
from rasterio.enums import Resampling
from rasterio.warp import reproject

from eoap_dask.geo.window import Transform, Window
from eoap_dask.render import resample
from eoap_dask.render.resample import IndexMap, data_level, index_map, mask_level, pixel_size_in

Ids = np.ndarray[Any, np.dtype[np.int64]]
Floats = np.ndarray[Any, np.dtype[np.float64]]


@dataclass(frozen=True)
class Case:
    """A grid and a source that lies over, or partly over it."""

    crs: str
    at: tuple[float, float]
    """Left and top of the grid."""
    resolution: float
    source_crs: str
    source: Transform
    source_shape: tuple[int, int]
    shape: tuple[int, int] = (230, 310)
    samples: int = 1

    @property
    def geobox(self) -> GeoBox:
        left, top = self.at
        return GeoBox(self.shape, Affine(self.resolution, 0, left, 0, -self.resolution, top), self.crs)

    @property
    def whole(self) -> Window:
        return Window(0, self.shape[0], 0, self.shape[1])

    def map(self, window: Window | None = None) -> IndexMap | None:
        return index_map(
            self.geobox, window or self.whole, self.source_crs, self.source, self.source_shape, self.samples
        )


def around(lon: float, lat: float, crs: str, resolution: float, source_crs: str, size: float, **more: Any) -> Case:
    """A case whose grid and source both have their middle near a place; the source's pixels are `size` wide."""
    x, y = Transformer.from_crs("EPSG:4326", crs, always_xy=True).transform(lon, lat)
    u, v = Transformer.from_crs("EPSG:4326", source_crs, always_xy=True).transform(lon, lat)
    height, width = more.pop("shape", (230, 310))
    at = (round(x / resolution - width / 2) * resolution, round(y / resolution + height / 2) * resolution)
    side = more.pop("side", 700)
    left, top = round(u / 20 - side * size / 40) * 20, round(v / 20 + side * size / 40) * 20
    source: Transform = (size, 0.0, left, 0.0, -size, top)
    return Case(crs, at, resolution, source_crs, source, (side, side), (height, width), **more)


def numbered(shape: tuple[int, int]) -> Ids:
    """A picture that shows which pixel was taken; 0 is left for none."""
    return np.arange(1, shape[0] * shape[1] + 1, dtype=np.int64).reshape(shape)


def taken(case: Case, window: Window | None = None) -> Ids:
    """Which source pixel the map takes for every point, 0 for none; only the window that it asks for is given."""
    window = window or case.whole
    out = np.full((window.shape[0] * case.samples, window.shape[1] * case.samples), -1, np.int64)
    found = case.map(window)
    if found is None:
        return np.zeros_like(out)
    part = found.source
    assert 0 <= part.row < part.row_stop <= case.source_shape[0]
    assert 0 <= part.col < part.col_stop <= case.source_shape[1]
    assert found.shape == out.shape
    given_pixels = numbered(case.source_shape)[part.row : part.row_stop, part.col : part.col_stop]
    found.gather(np.ascontiguousarray(given_pixels), out)
    return out


def positions(case: Case) -> tuple[Floats, Floats]:
    """Rows and columns of the source, with fractions, that every single point is projected to."""
    step = case.resolution / case.samples
    x = case.at[0] + (np.arange(case.shape[1] * case.samples) + 0.5) * step
    y = case.at[1] - (np.arange(case.shape[0] * case.samples) + 0.5) * step
    xs, ys = Transformer.from_crs(case.crs, case.source_crs, always_xy=True).transform(*np.meshgrid(x, y))
    a, b, c, d, e, f = case.source
    col, row = np.linalg.solve([[a, b], [d, e]], np.stack([xs - c, ys - f]).reshape(2, -1)).reshape(2, *xs.shape)
    return row, col


def exact(case: Case) -> Ids:
    """What `taken` should give. A centre on an edge, but for rounding, belongs to the pixel right of or below it."""
    row, col = (np.floor(n + 1e-6) for n in positions(case))
    inside = (col >= 0) & (row >= 0) & (col < case.source_shape[1]) & (row < case.source_shape[0])
    row, col = (np.where(inside, n, 0).astype(np.int64) for n in (row, col))
    return np.where(inside, row * case.source_shape[1] + col + 1, 0)


def to_edge(case: Case) -> Floats:
    """How far every point is from the nearest edge between source pixels, in pixels."""
    return np.min([np.abs(n - np.round(n)) for n in positions(case)], axis=0)


def rotated(case: Case, degrees: float, shear: float = 0.0) -> Case:
    """The case with its source turned around its middle, and sheared."""
    a, b, c, d, e, f = case.source
    angle, half = np.radians(degrees), case.source_shape[1] / 2
    matrix = (
        np.array([[a, b], [d, e]])
        @ [[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]
        @ [[1, np.tan(np.radians(shear))], [0, 1]]
    )
    corner = np.array([c, f]) + np.array([[a, b], [d, e]]) @ [half, half] - matrix @ [half, half]
    (a, b), (d, e), (c, f) = matrix.tolist()[0], matrix.tolist()[1], corner.tolist()
    return Case(
        case.crs,
        case.at,
        case.resolution,
        case.source_crs,
        (a, b, c, d, e, f),
        case.source_shape,
        case.shape,
        case.samples,
    )


SAME = around(5.0, 45.0, "EPSG:32631", 30, "EPSG:32631", 10, side=950)
CASES = {
    "same grid": around(5.0, 45.0, "EPSG:32631", 10, "EPSG:32631", 10),
    "same CRS, coarser by 3": SAME,
    "same CRS, finer": around(5.0, 45.0, "EPSG:32631", 7, "EPSG:32631", 20, side=60),
    "same CRS, an overview of odd size": around(5.0, 45.0, "EPSG:32631", 100, "EPSG:32631", 10 * 10980 / 1373),
    "neighbouring zone": around(6.0, 45.0, "EPSG:32632", 10, "EPSG:32631", 10),
    "neighbouring zone, coarser": around(6.0, 45.0, "EPSG:32632", 100, "EPSG:32631", 80),
    "neighbouring zone, very coarse": around(6.0, 45.0, "EPSG:32632", 1000, "EPSG:32631", 320),
    "neighbouring zone, high latitude": around(6.0, 72.0, "EPSG:32632", 100, "EPSG:32631", 80),
    "southern hemisphere": around(18.0, -34.0, "EPSG:32734", 20, "EPSG:32733", 20),
    "across the equator": around(15.2, 0.01, "EPSG:32633", 20, "EPSG:32733", 10, side=900),
    "across the antimeridian": around(180.0, -17.0, "EPSG:32760", 20, "EPSG:32701", 20),
    "degrees": around(5.0, 45.0, "EPSG:4326", 0.0001, "EPSG:32631", 10),
    "degrees, coarse": around(5.0, 45.0, "EPSG:4326", 0.01, "EPSG:32631", 320, side=1400),
    "degrees past 180": Case("EPSG:4326", (179.95, -17.0), 0.0005, "EPSG:32701",
                             (20.0, 0.0, 160000.0, 0.0, -20.0, 8130000.0), (1500, 1500)),
    "Web Mercator": around(5.0, 60.0, "EPSG:3857", 20, "EPSG:32631", 10, side=900),
    "Web Mercator, coarse": around(5.0, 60.0, "EPSG:3857", 1000, "EPSG:32631", 320),
    "LAEA Europe": around(5.0, 45.0, "EPSG:3035", 10, "EPSG:32631", 10),
    "LAEA Europe, coarse": around(5.0, 45.0, "EPSG:3035", 1000, "EPSG:32631", 320),
    "rotated": rotated(SAME, 33.0),
    "rotated and sheared, another CRS": rotated(around(5.0, 45.0, "EPSG:3035", 25, "EPSG:32631", 10), -71.0, 12.0),
    "samples": around(6.0, 45.0, "EPSG:32632", 60, "EPSG:32631", 20, shape=(70, 90), samples=3),
    "samples, same CRS": around(5.0, 45.0, "EPSG:32631", 100, "EPSG:32631", 20, shape=(70, 90), samples=5),
    "samples, coarse": around(6.0, 45.0, "EPSG:3035", 500, "EPSG:32631", 80, shape=(40, 50), samples=6),
}  # fmt: skip

PARTLY = around(6.0, 45.0, "EPSG:32632", 20, "EPSG:32631", 10, side=150)
"""A source in the middle of a grid in another zone."""


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_every_pixel_takes_what_its_exact_projection_hits(case: Case) -> None:
    expected = exact(case)
    assert (expected > 0).mean() > 0.25, "the case is about little"
    differing = taken(case) != expected
    assert differing.mean() < 1e-4
    assert (to_edge(case)[differing] < 2e-5).all()


@pytest.mark.parametrize(
    "name", ["neighbouring zone, coarser", "southern hemisphere", "degrees", "Web Mercator", "LAEA Europe", "rotated"]
)
def test_gdal_warps_the_same_way_but_where_it_approximates(name: str) -> None:
    case = CASES[name]
    out = np.zeros(case.shape, np.float64)  # its warper knows no int64; these numbers fit
    reproject(
        numbered(case.source_shape).astype(np.float64),
        out,
        src_transform=Affine(*case.source),
        src_crs=case.source_crs,
        dst_transform=case.geobox.transform,
        dst_crs=case.crs,
        resampling=Resampling.nearest,
    )
    differing = taken(case) != out.astype(np.int64)
    assert differing.mean() < 0.05
    assert (to_edge(case)[differing] <= 0.125).all()  # what GDAL allows itself


@pytest.mark.parametrize("flip", ["south-up", "mirrored", "both"])
@pytest.mark.parametrize("side", [80, 200, 900])
def test_a_source_may_run_the_other_way(flip: str, side: int) -> None:
    straight = around(5.0, 45.0, "EPSG:32631", 10, "EPSG:32631", 10, side=side)
    a, _, c, _, e, f = straight.source
    if flip != "south-up":
        a, c = -a, c + a * side
    if flip != "mirrored":
        e, f = -e, f + e * side
    case = Case(straight.crs, straight.at, 10, straight.source_crs, (a, 0.0, c, 0.0, e, f), (side, side))
    np.testing.assert_array_equal(taken(case), exact(case))


def test_of_two_equally_near_the_lower_right_is_taken() -> None:
    case = Case("EPSG:32631", (500000, 5000000), 20, "EPSG:32631", (10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0), (4, 6),
                shape=(2, 3))  # fmt: skip
    assert taken(case).tolist() == [[8, 10, 12], [20, 22, 24]]  # rows 1 and 3, columns 1, 3 and 5


# Cuts


@pytest.mark.parametrize(
    "name",
    ["same CRS, an overview of odd size", "same CRS, finer", "neighbouring zone", "degrees", "rotated", "samples"],
)
def test_any_window_shows_its_part_of_the_one_map(name: str) -> None:
    case = CASES[name]
    whole, n = taken(case), case.samples

    @settings(max_examples=40, deadline=None)
    @given(rows=spans(case.shape[0]), cols=spans(case.shape[1]))
    def check(rows: tuple[int, int], cols: tuple[int, int]) -> None:
        window = Window(*rows, *cols)
        part = whole[rows[0] * n : rows[1] * n, cols[0] * n : cols[1] * n]
        np.testing.assert_array_equal(taken(case, window), part)

    check()


def spans(size: int) -> st.SearchStrategy[tuple[int, int]]:
    """First and one after the last of some rows or columns; the lattice's multiples of 64 are likely."""
    edge = st.integers(0, size) | st.sampled_from([n for n in (0, 63, 64, 65, 127, 128, 129, 192, size) if n <= size])
    return st.tuples(edge, edge).map(sorted).filter(lambda s: s[0] < s[1]).map(tuple)


@pytest.mark.parametrize("name", ["neighbouring zone", "Web Mercator", "same CRS, coarser by 3"])
@pytest.mark.parametrize("height", [1, 16, 100])
def test_strips_laid_together_are_the_whole(name: str, height: int) -> None:
    case = CASES[name]
    parts = [taken(case, strip) for strip in case.whole.strips(height)]
    np.testing.assert_array_equal(np.concatenate(parts), taken(case))


def test_a_wish_for_ties_does_not_depend_on_the_cut() -> None:
    # half a pixel off, and steps that floating point can't hold: every centre lies on an edge, more or less
    case = Case("EPSG:4326", (12.1, 45.3), 0.1, "EPSG:4326", (0.1, 0.0, 12.05, 0.0, -0.1, 45.35), (60, 80), (50, 60))
    whole = taken(case)
    for height in (1, 3, 7):
        strips = [taken(case, strip) for strip in case.whole.strips(height)]
        np.testing.assert_array_equal(np.concatenate(strips), whole)
    for col in range(60):
        np.testing.assert_array_equal(taken(case, Window(0, 50, col, col + 1)), whole[:, col : col + 1])


@pytest.mark.parametrize(
    "name", ["same grid", "same CRS, finer", "neighbouring zone", "rotated", "samples", "samples, same CRS", "partly"]
)
def test_a_part_of_a_map_gathers_its_part(name: str) -> None:
    case = PARTLY if name == "partly" else CASES[name]
    whole, found = taken(case), case.map()
    assert found is not None
    pixels = numbered(case.source_shape)[
        found.source.row : found.source.row_stop, found.source.col : found.source.col_stop
    ]
    pixels = np.ascontiguousarray(pixels)

    @settings(max_examples=40, deadline=None)
    @given(rows=spans(found.shape[0]), cols=spans(found.shape[1]))
    def check(rows: tuple[int, int], cols: tuple[int, int]) -> None:
        out = np.full((rows[1] - rows[0], cols[1] - cols[0]), -1, np.int64)
        found.gather(pixels, out, Window(*rows, *cols))
        np.testing.assert_array_equal(out, whole[slice(*rows), slice(*cols)])

    check()


@pytest.mark.parametrize("chunk", [1, 63, 64, 100])
def test_how_many_rows_are_projected_at_once_changes_nothing(chunk: int, monkeypatch: pytest.MonkeyPatch) -> None:
    for case in (CASES["neighbouring zone"], CASES["samples"], PARTLY):
        expected = taken(case)
        with monkeypatch.context() as patch:
            patch.setattr(resample, "_CHUNK", chunk)
            np.testing.assert_array_equal(taken(case), expected)


def test_a_map_holds_little_beyond_what_the_source_covers() -> None:
    wide = around(6.0, 45.0, "EPSG:32632", 100, "EPSG:32631", 10, side=1098, shape=(2000, 2000))
    found = wide.map()  # the source is 11 km wide, the grid 200 km
    assert found is not None
    assert found.flat is not None
    assert found.flat.size <= (110 + 3 * 64) ** 2
    np.testing.assert_array_equal(taken(wide), exact(wide))
    huge = Case(wide.crs, wide.at, 100, "EPSG:32631", wide.source, (1 << 17, 1 << 17), (300, 300))
    found = huge.map(Window(900, 1000, 900, 1000))
    assert found is not None
    np.testing.assert_array_equal(taken(huge), exact(huge))  # positions in it don't fit 32 bits


# Outside


@pytest.mark.parametrize("crs", ["EPSG:32631", "EPSG:32632"])
@pytest.mark.parametrize(
    ("right", "down"), [(0, -400), (0, 400), (-400, 0), (400, 0), (200, 250), (-290, 100), (309, 229)]
)
def test_a_source_that_covers_a_part_or_nothing(crs: str, right: int, down: int) -> None:
    base = around(6.0, 45.0, "EPSG:32632", 10, crs, 10, side=300)
    a, b, c, d, e, f = base.source
    case = Case(base.crs, base.at, 10, crs, (a, b, c + right * 10, d, e, f - down * 10), (300, 300))
    expected = exact(case)
    np.testing.assert_array_equal(taken(case), expected)
    assert (case.map() is None) == (not expected.any())


def test_a_source_on_the_other_side_of_the_earth() -> None:
    far = around(-122.0, 47.0, "EPSG:32610", 10, "EPSG:32610", 10)
    for crs in ("EPSG:32632", "EPSG:3035", "EPSG:4326"):
        near = around(9.0, 47.0, crs, 0.0001 if crs == "EPSG:4326" else 10, "EPSG:32632", 10)
        assert Case(crs, near.at, near.resolution, "EPSG:32610", far.source, far.source_shape).map() is None


def test_beyond_the_domain_of_a_projection_there_is_nothing() -> None:
    # north of 90 degrees there is nothing; within two steps of the lattice of it nothing is promised
    case = Case("EPSG:4326", (3.0, 90.5), 0.01, "EPSG:32631",
                (100.0, 0.0, 400000.0, 0.0, -100.0, 10100000.0), (9000, 2000), (300, 30))  # fmt: skip
    whole = taken(case)
    assert not whole[:50].any()
    assert whole[128:].all()
    np.testing.assert_array_equal(whole[128:], exact(case)[128:])


def test_only_what_is_needed_is_asked_for() -> None:
    case = CASES["neighbouring zone"]
    for window in (Window(0, 10, 0, 10), Window(100, 101, 200, 201)):
        found = case.map(window)
        assert found is not None
        rows, cols = np.divmod(taken(case, window) - 1, case.source_shape[1])
        assert found.source == Window(rows.min(), rows.max() + 1, cols.min(), cols.max() + 1)
    found = SAME.map(Window(10, 20, 100, 105))
    assert found is not None
    assert found.source.shape == (9 * 3 + 1, 4 * 3 + 1)  # from the middle of the first to that of the last


@pytest.mark.parametrize("name", ["same CRS, coarser by 3", "neighbouring zone", "same grid"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_gather_fills_a_part_of_something_larger(name: str, dtype: type) -> None:
    case = CASES[name]
    found = case.map(Window(0, 60, 0, 50))
    assert found is not None
    source = (numbered(case.source_shape) % 251).astype(dtype)
    part = np.ascontiguousarray(
        source[found.source.row : found.source.row_stop, found.source.col : found.source.col_stop]
    )
    large = np.full((2, 60, 100), 255, dtype)
    found.gather(part, large[1, :, 50:])
    plain = np.empty((60, 50), dtype)
    found.gather(part, plain)
    np.testing.assert_array_equal(large[1, :, 50:], plain)
    assert (large[0] == 255).all()
    assert (large[1, :, :50] == 255).all()


# Levels

TILE = (10.0, 20.0, 40.0, 10 * 10980 / 1373)
"""A tile of 10980 pixels and its overviews: 5490, 2745 and 1373, of which the last is a bit finer than 80 m."""
CLASSES = (20.0, 40.0, 20 * 5490 / 1373, 20 * 5490 / 687)


@pytest.mark.parametrize(
    ("pixel", "level"),
    [(1, 0), (10, 0), (19.9, 0), (19.99, 1), (39, 1), (40, 2), (79.8, 2), (79.95, 3), (80, 3), (100, 3), (5000, 3)],
)  # fmt: skip
def test_data_come_from_the_coarsest_level_that_is_not_coarser(pixel: float, level: int) -> None:
    assert data_level(pixel, TILE) == level


@pytest.mark.parametrize(
    ("pixel", "level"),
    [(10, 0), (60, 0), (79, 0), (80, 0), (100, 0), (159, 0), (160, 1), (319, 1), (320, 2), (640, 3), (1000, 3)],
)
def test_classes_come_from_the_coarsest_level_with_16_samples(pixel: float, level: int) -> None:
    assert mask_level(pixel, CLASSES) == level


def test_levels_of_files_without_overviews_or_in_any_order() -> None:
    assert data_level(1000, (10.0,)) == mask_level(1000, (20.0,)) == 0
    assert data_level(5, (10.0,)) == mask_level(5, (20.0,)) == 0
    assert data_level(50, (10.0, 80.0, 40.0, 20.0)) == 2
    assert mask_level(200, (20.0, 80.0, 40.0)) == 2
    assert mask_level(100, (20.0, 40.0), samples=4) == 1


@pytest.mark.parametrize("resolution", [10.0, 20.0, 60.0, 100.0])
@pytest.mark.parametrize(
    ("lon", "lat", "crs", "source_crs"),
    [
        (6.0, 45.0, "EPSG:32631", "EPSG:32631"),
        (6.0, 45.0, "EPSG:32631", "EPSG:32632"),
        (6.0, 0.0, "EPSG:32632", "EPSG:32631"),
        (8.0, 30.0, "EPSG:32631", "EPSG:32632"),
        (18.0, -70.0, "EPSG:32734", "EPSG:32733"),
        (10.0, 52.0, "EPSG:3035", "EPSG:32632"),
        (9.0, 0.1, "EPSG:3857", "EPSG:32632"),
    ],
)
def test_a_pixel_between_zones_has_its_nominal_size(
    lon: float, lat: float, crs: str, source_crs: str, resolution: float
) -> None:
    assert pixel_size_in(around(lon, lat, crs, resolution, source_crs, 10).geobox, source_crs) == resolution


@pytest.mark.parametrize(
    ("lon", "lat", "crs", "resolution"),
    [
        (9.0, 60.0, "EPSG:3857", 20.0),
        (9.0, -35.0, "EPSG:3857", 100.0),
        (9.0, 50.0, "EPSG:4326", 0.0001),
        (9.0, 0.0, "EPSG:4326", 0.01),
        (-120.5, 37.0, "EPSG:2227", 100.0),  # California, in US survey feet
    ],
)
def test_the_size_of_other_pixels_is_measured_on_the_ground(
    lon: float, lat: float, crs: str, resolution: float
) -> None:
    zone = f"EPSG:{(32600 if lat >= 0 else 32700) + int((lon + 180) // 6) + 1}"
    geobox = around(lon, lat, crs, resolution, zone, 10).geobox
    back = Transformer.from_crs(crs, "EPSG:4326", always_xy=True)
    box = geobox.boundingbox
    middle = (box.left + box.right) / 2, (box.bottom + box.top) / 2
    sides = []
    for dx, dy in ((resolution, 0), (0, resolution)):
        lons, lats = back.transform([middle[0], middle[0] + dx], [middle[1], middle[1] + dy])
        sides.append(Geod(ellps="WGS84").line_length(lons, lats))
    expected = (sides[0] * sides[1]) ** 0.5
    # UTM stretches by up to 0.1 %
    assert pixel_size_in(geobox, zone) == pytest.approx(expected, rel=1.5e-3)
