"""From scenes to a block's pixels: by a fake reader against a model, and over HTTP with scenes known by hand."""

from __future__ import annotations

import math
import pickle
import tracemalloc
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import shapely
import tifffile
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox
from pyproj import Transformer

from eoap_dask.applications.bai.science import Burn
from eoap_dask.applications.composition import Composition
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError
from eoap_dask.geo.outlines import join_pieces
from eoap_dask.geo.window import Transform, Window, blocks
from eoap_dask.kernels.pixels import NO_NUMBER, statistics, visual
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.output.cog import Cog
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.reader import FileGrid, Reader
from eoap_dask.readers.tiles import TileReader
from eoap_dask.render import block as render_module
from eoap_dask.render import reading as stack_module
from eoap_dask.render import resample as resample_module
from eoap_dask.render.block import Rendered, compose_rows, render_block
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.render.reading import StackReader, level_transform, strip_bytes_per_row
from eoap_dask.render.recipe import Recipe, strip_height
from eoap_dask.render.stack import Stack
from eoap_dask.scenes.model import Pass, Scene, Source, group_passes
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import sensor_for

Image = np.ndarray[Any, np.dtype[Any]]

DROPPED = (0, 1, 3, 8, 9, 10)
CLEAR, CLOUD = 4, 9
LEFT, TOP = 500_000, 5_000_000
START = datetime(2020, 10, 1, 10, tzinfo=UTC)
SPECS = (
    ImageSpec("data", (BandSpec("red", scale=1e-4), BandSpec("nir", scale=1e-4)), "uint16", "mean", 0),
    ImageSpec("count", (BandSpec("count"),), "uint16", "nearest", None),
    ImageSpec("visual", (BandSpec("grey"),), "uint8", "mean", 0, roles=("visual",)),
)


def recipe_of(
    scenes: Sequence[Scene],
    geobox: GeoBox,
    reader: Any,
    *,
    budget: int = 1 << 30,
    block: int = 512,
    cloud_mask: bool = True,
    clip: shapely.Geometry | None = None,
) -> Recipe:
    stack = Stack(
        geobox=geobox,
        passes=group_passes(scenes),
        bands=len(scenes[0].bands) if scenes else 1,
        dropped_classes=DROPPED if cloud_mask else None,
        clip_wkb=None if clip is None else shapely.to_wkb(clip),
        reader=reader,
    )
    data = replace(SPECS[0], bands=tuple(BandSpec(f"band {i}") for i in range(stack.bands)))
    return Recipe(stack, Composition("median", (0,)), (data, *SPECS[1:]), block, budget)


def compose_window(recipe: Recipe, window: Window) -> tuple[Image, Image, dict[str, set[float]]]:
    data, count, _ = (spec.empty(window.shape) for spec in recipe.images)
    with StackReader(recipe.stack, window) as reader:
        for rows, images in compose_rows(recipe, window, reader):
            inside = window.slices(rows)
            data[:, *inside], count[:, *inside] = images[0], images[1]
    return data, count, reader.levels


def whole(recipe: Recipe) -> Window:
    return Window(0, recipe.shape[0], 0, recipe.shape[1])


def box(
    height: int, width: int, resolution: float, crs: str = "EPSG:32632", at: tuple[float, float] = (LEFT, TOP)
) -> GeoBox:
    return GeoBox((height, width), Affine(resolution, 0, at[0], 0, -resolution, at[1]), crs)


# ----------------------------------------------------------------------------------------------------
# A reader of arrays, which notes what is done with it


@dataclass
class Memory:
    """A reader whose files are lists of levels."""

    files: Mapping[str, Sequence[Image]]
    opened: Counter[str] = field(default_factory=Counter)
    closed: Counter[str] = field(default_factory=Counter)
    broken: str = ""

    def open(self, source: Source, item_id: str) -> MemoryRaster:
        self.opened[source.href] += 1
        return MemoryRaster(self, source.href)


@dataclass
class MemoryRaster:
    memory: Memory
    href: str

    nodata: int | None = None

    @property
    def grid(self) -> FileGrid:
        return FileGrid()

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        return tuple(level.shape for level in self.memory.files[self.href])  # type: ignore[misc]

    def read(self, level: int, window: Window, out: Image, rest: Window | None = None, **_: object) -> None:
        if self.href == self.memory.broken:
            raise AssetError("It is broken.", href=self.href)
        pixels = self.memory.files[self.href][level]
        assert 0 <= window.row < window.row_stop <= pixels.shape[0]
        assert 0 <= window.col < window.col_stop <= pixels.shape[1]
        out[...] = pixels[window.row : window.row_stop, window.col : window.col_stop]

    def close(self) -> None:
        self.memory.closed[self.href] += 1


def scene(
    number: int,
    bands: int,
    *,
    key: str = "",
    offset: int = 0,
    nodata: int = 0,
    at: tuple[float, float] = (LEFT, TOP),
    side: int = 40,
    crs: str = "EPSG:32632",
    mask: bool = True,
    name: str = "",
) -> Scene:
    """A scene of `side` pixels of 10 m, and half as many of 20 m for its classes."""
    name = name or f"scene-{number:02}"
    fine: Transform = (10.0, 0.0, at[0], 0.0, -10.0, at[1])
    coarse: Transform = (20.0, 0.0, at[0], 0.0, -20.0, at[1])
    return Scene(
        id=name,
        href="",
        datetime=START + timedelta(days=number),
        pass_key=key or name,
        tile="",
        baseline=(0, 0),
        bands=tuple(Source(f"b{b}", f"{name}/b{b}", crs, fine, (side, side), offset, nodata) for b in range(bands)),
        mask=Source("scl", f"{name}/scl", crs, coarse, (side // 2, side // 2), 0, 0) if mask else None,
        fingerprint=(name,),
    )


@dataclass(frozen=True)
class World:
    """Scenes with files of noise, each level another noise, so that a wrong level shows."""

    scenes: tuple[Scene, ...]
    files: dict[str, list[Image]]
    geobox: GeoBox
    cloud_mask: bool


@st.composite
def worlds(draw: st.DrawFn) -> World:
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    bands = draw(st.integers(1, 2))
    crs = draw(st.sampled_from(["EPSG:32632", "EPSG:32632", "EPSG:32631"]))
    resolution = draw(st.sampled_from([10.0, 20.0, 30.0, 45.0, 90.0]))
    corner = Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(LEFT, TOP)
    shape = draw(st.tuples(st.integers(1, 50), st.integers(1, 30)))
    geobox = box(*shape, resolution, crs, (round(corner[0] / 10) * 10, round(corner[1] / 10) * 10))
    scenes, files = [], {}
    for number in range(draw(st.integers(1, 6))):
        shift = draw(st.tuples(st.sampled_from([-200, -35, 0, 0, 60, 160]), st.sampled_from([-400, 0, 0, 20, 110])))
        one = scene(
            number,
            bands,
            key=f"pass-{draw(st.integers(0, 3))}",
            offset=draw(st.sampled_from([0, 1000, -300])),
            nodata=draw(st.sampled_from([0, 0, 77])),
            at=(LEFT + shift[0], TOP + shift[1]),
        )
        scenes.append(one)
        for source in one.bands:
            files[source.href] = [
                rng.choice(np.array([0, 77, *rng.integers(1, 65536, 6)], np.uint16), (side, side))
                for side in (40, 20, 10)
            ]
        assert one.mask is not None
        files[one.mask.href] = [
            rng.choice(np.array([0, 2, 4, 4, 4, 5, 6, 7, 9, 11], np.uint8), (side, side)) for side in (20, 10, 5)
        ]
    return World(tuple(scenes), files, geobox, draw(st.booleans()))


def look_up(levels: Sequence[Image], level: int, source: Source, geobox: GeoBox, points: int) -> Image:
    """What `points` × `points` places in every pixel hit in a file, by an exact projection; 0 outside of it."""
    a, _, c, _, e, f = tuple(geobox.transform)[:6]
    rows, cols = (np.arange(n * points) for n in geobox.shape)
    xs, ys = np.meshgrid(c + (cols + 0.5) / points * a, f + (rows + 0.5) / points * e)
    x, y = Transformer.from_crs(str(geobox.crs), source.crs, always_xy=True).transform(xs, ys)
    pixels = levels[level]
    size = source.transform[0] * source.shape[1] / pixels.shape[1]
    col = np.floor((x - source.transform[2]) / size + 1e-6).astype(int)
    row = np.floor((source.transform[5] - y) / size + 1e-6).astype(int)
    ok = (row >= 0) & (col >= 0) & (row < pixels.shape[0]) & (col < pixels.shape[1])
    return np.where(ok, pixels[np.where(ok, row, 0), np.where(ok, col, 0)], 0)


def model(world: World) -> tuple[Image, Image]:
    """The composite and its count, as the design tells them, pixel by pixel."""
    resolution = world.geobox.transform.a
    level = {10.0: 0, 20.0: 1, 30.0: 1, 45.0: 2, 90.0: 2}[resolution]
    # level of the classes, points along a side; 0 points: the class at the centre decides
    mask_level, points = {10.0: (0, 0), 20.0: (0, 0), 30.0: (0, 2), 45.0: (0, 2), 90.0: (0, 4)}[resolution]
    height, width = world.geobox.shape
    bands = len(world.scenes[0].bands)
    observed: list[Image] = []
    for key in dict.fromkeys(s.pass_key for s in world.scenes):
        layer, free = np.zeros((bands, height, width), int), np.ones((height, width), bool)
        for one in sorted((s for s in world.scenes if s.pass_key == key), key=lambda s: s.id):
            dn = np.stack([look_up(world.files[s.href], level, s, world.geobox, 1) for s in one.bands]).astype(int)
            stored = np.where((dn == 0) | (dn == one.bands[0].nodata), 0, np.clip(dn - one.bands[0].offset, 1, 65535))
            takes = (stored != 0).all(axis=0) & free
            free &= ~takes
            if world.cloud_mask:
                assert one.mask is not None
                files = world.files[one.mask.href]
                classes = look_up(files, mask_level, one.mask, world.geobox, points or 1)
                bad = np.isin(classes, DROPPED)
                if points:
                    seen = (classes != 0).reshape(height, points, width, points).sum(axis=(1, 3))
                    bad = (bad & (classes != 0)).reshape(height, points, width, points).sum(axis=(1, 3))
                    bad = (seen == 0) | (bad / np.maximum(seen, 1) > 0.2)
                takes &= ~bad
            layer = np.where(takes, stored, layer)
        observed.append(layer)
    stack = np.stack(observed)
    out = np.zeros((bands, height, width), np.uint16)
    some = (stack != 0).any(axis=0)
    values = np.where(stack == 0, np.nan, stack.astype(float))
    out[some] = np.floor(np.nanmedian(values[:, some], axis=0) + 0.5)
    return out, (stack[:, :1] != 0).sum(axis=0).astype(np.uint16)


@settings(max_examples=150, deadline=None)
@given(worlds())
def test_a_window_shows_what_the_model_tells(world: World) -> None:
    recipe = recipe_of(world.scenes, world.geobox, Memory(world.files), cloud_mask=world.cloud_mask)
    data, count, _ = compose_window(recipe, whole(recipe))
    expected, number = model(world)
    np.testing.assert_array_equal(count, number, strict=True)
    np.testing.assert_array_equal(data, expected, strict=True)


@settings(max_examples=60, deadline=None)
@given(worlds(), st.data())
def test_strips_windows_and_order_change_nothing(world: World, data: st.DataObject) -> None:
    recipe = recipe_of(world.scenes, world.geobox, Memory(world.files), cloud_mask=world.cloud_mask)
    expected, number, levels = compose_window(recipe, whole(recipe))
    shuffled = recipe_of(
        data.draw(st.permutations(world.scenes)),
        world.geobox,
        Memory(world.files),
        budget=1,
        cloud_mask=world.cloud_mask,
    )  # a budget that allows the least strips
    for one in (replace(recipe, budget=1), shuffled):
        found, counted, found_levels = compose_window(one, whole(one))
        np.testing.assert_array_equal(found, expected)
        np.testing.assert_array_equal(counted, number)
        assert found_levels == levels
    rows, cols = (sorted((data.draw(st.integers(0, n - 1)), data.draw(st.integers(1, n)))) for n in recipe.shape)
    window = Window(rows[0], max(rows[1], rows[0] + 1), cols[0], max(cols[1], cols[0] + 1))
    found, counted, _ = compose_window(recipe, window)
    part = (slice(None), slice(window.row, window.row_stop), slice(window.col, window.col_stop))
    np.testing.assert_array_equal(found, expected[part])
    np.testing.assert_array_equal(counted, number[part])


@settings(max_examples=40, deadline=None)
@given(worlds())
def test_how_many_points_are_looked_at_together_changes_nothing(world: World) -> None:
    recipe = recipe_of(world.scenes, world.geobox, Memory(world.files), cloud_mask=world.cloud_mask)
    expected = compose_window(recipe, whole(recipe))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stack_module, "_POINTS", 40)
        patch.setattr(resample_module, "_CHUNK", 3)
        found = compose_window(recipe, whole(recipe))
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(found[1], expected[1])


def test_strips_across_the_lattice_of_another_zone() -> None:
    rng = np.random.default_rng(1)
    scenes = [scene(n, 1, at=(LEFT, TOP + 100 * n), side=400) for n in range(3)]
    files: dict[str, Sequence[Image]] = {}
    for one in scenes:
        assert one.mask is not None
        files[one.bands[0].href] = [rng.integers(0, 9000, (400, 400), dtype=np.uint16)]
        files[one.mask.href] = [rng.choice(np.array([4, 9], np.uint8), (200, 200), p=[0.8, 0.2])]
    x, y = Transformer.from_crs("EPSG:32632", "EPSG:32631", always_xy=True).transform(LEFT, TOP)
    geobox = box(200, 210, 25, "EPSG:32631", (round(x), round(y)))
    recipe = recipe_of(scenes, geobox, Memory(files))
    expected = compose_window(recipe, whole(recipe))
    assert recipe.stack.map_points == 1  # classes of 20 m at 25 m
    per_row = strip_bytes_per_row(1, 3, 210, 1)
    for rows in (16, 64, 128):
        assert strip_height(replace(recipe, budget=per_row * rows), whole(recipe), 3) == rows
        found = compose_window(replace(recipe, budget=per_row * rows), whole(recipe))
        np.testing.assert_array_equal(found[0], expected[0])
        np.testing.assert_array_equal(found[1], expected[1])
    assert expected[1].max() == 3


@pytest.mark.parametrize("rows", [64, 448, 512, 1024, 1300])
def test_strips_needn_t_end_where_rows_of_tiles_do(rows: int) -> None:
    rng = np.random.default_rng(2)
    scenes = [scene(n, 1, side=1300) for n in range(2)]
    files: dict[str, Sequence[Image]] = {}
    for one in scenes:
        assert one.mask is not None
        files[one.bands[0].href] = [rng.integers(0, 9000, (1300, 1300), dtype=np.uint16)]
        files[one.mask.href] = [rng.choice(np.array([4, 9], np.uint8), (650, 650), p=[0.8, 0.2])]
    recipe = recipe_of(scenes, box(1300, 12, 10), Memory(files), block=2048)
    recipe = replace(recipe, budget=rows * strip_bytes_per_row(1, 2, 12))
    assert strip_height(recipe, whole(recipe), 2) == rows
    data, count, _ = compose_window(recipe, whole(recipe))
    seen = []
    for one in scenes:
        assert one.mask is not None
        clear = (files[one.mask.href][0] == CLEAR).repeat(2, 0).repeat(2, 1)
        seen.append((files[one.bands[0].href][0] * clear)[:, :12])
    first, second = (layer.astype(int) for layer in seen)
    expected = np.where(first == 0, second, np.where(second == 0, first, (first + second + 1) // 2))
    np.testing.assert_array_equal(data[0], expected)
    np.testing.assert_array_equal(count[0], (first != 0).astype(int) + (second != 0))


@pytest.mark.long
def test_rows_of_tiles_of_larger_blocks_give_what_smaller_blocks_give(tmp_path: Path) -> None:
    """A fire across rows of tiles, cut by what only one of two passes sees: images, outlines and areas are the same."""
    rng = np.random.default_rng(8)
    scenes = [scene(n, 3, side=1300) for n in range(2)]
    files: dict[str, Sequence[Image]] = {}
    for number, one in enumerate(scenes):
        assert one.mask is not None
        for band, source in enumerate(one.bands):
            pixels = rng.integers(980, 1020, (1300, 1300)) * (band + 1)
            if number:
                pixels[400:1100, 5:50] = (600, 700, 3000)[band]
            files[source.href] = [pixels.astype(np.uint16)]
        classes = np.full((650, 650), CLEAR, np.uint8)
        classes[500 + 40 * number : 520 + 40 * number] = CLOUD
        files[one.mask.href] = [classes]
    science = Burn(KEY_BENSON, 100)
    specs = (
        ImageSpec("bai", tuple(map(BandSpec, "abc")), "float32", "mean", float("nan")),
        ImageSpec("nbr", tuple(map(BandSpec, "ab")), "int16", "mean", NO_NUMBER),
        *(ImageSpec(name, (BandSpec(name),), "int16", "mean", NO_NUMBER) for name in ("dnbr", "rdnbr", "rbr")),
        ImageSpec("severity", (BandSpec("severity", classes=(ClassSpec(1),)),), "uint8", "nearest", 0),
        *(
            ImageSpec(name, tuple(map(BandSpec, "rgb")), "uint8", "mean", 0, roles=("visual",))
            for name in ("before", "after")
        ),
    )
    plain = recipe_of(scenes, box(1200, 60, 10), Memory(files))
    found = {}
    for block, rows in ((512, 64), (1024, 448), (2048, 1200)):
        recipe = replace(plain, science=science, images=specs, block=block)
        recipe = replace(recipe, budget=rows * recipe.strip_bytes_per_row(whole(recipe), 2))
        rendered = [render_block(recipe.pack(), n) for n in range(len(recipe.windows()))]
        sums = []
        for spec in specs:
            cog = Cog(spec, recipe.stack.geobox, tmp_path / "scratch")
            for one, window in zip(rendered, recipe.windows(), strict=True):
                cog.add(one.images[spec.name], window)
            sums.append(cog.write(tmp_path / "image.tif"))
        notes = [note for one in rendered for note in one.notes]
        perimeters = join_pieces(
            (piece for note in notes for piece in note.pieces),
            recipe.shape,
            science.min_pixels,
            (side for note in notes for side in note.sides),
        )
        found[block] = (sums, np.sum([note.class_pixels for note in notes], axis=0).tolist(), perimeters)
    assert found[512] == found[1024] == found[2048]
    _, counts, perimeters = found[512]
    hidden = 2 * 40 * 60  # two bands of cloud, of 40 rows each
    assert counts[0] == hidden
    assert sum(counts) == 1200 * 60
    # the fire lies in rows 400 to 1100; clouds of rows 1000 to 1040 and 1080 to 1120 cut it in two
    assert [p.pixels for p in perimeters] == [600 * 45, 40 * 45]
    assert not any(p.cut for p in perimeters)


# What is opened, and when it is closed


def test_only_scenes_that_touch_are_opened_once_and_all_are_closed() -> None:
    near = [scene(n, 2, at=(LEFT, TOP - 400 * n)) for n in range(3)]  # one below the other
    far = [scene(7, 2, at=(LEFT + 100_000, TOP))]
    files = {
        s.href: [np.full(s.shape, 5, np.uint8 if s.asset == "scl" else np.uint16)]
        for one in (*near, *far)
        for s in (*one.bands, *([one.mask] if one.mask else ()))
    }
    memory = Memory(files)
    recipe = recipe_of([*near, *far], box(120, 40, 10), memory, budget=1)
    data, count, levels = compose_window(recipe, whole(recipe))
    assert (data == 5).all()
    assert (count == 1).all()
    assert memory.opened == Counter(s.href for one in near for s in (*one.bands, one.mask) if s)
    assert memory.closed == memory.opened
    assert levels == {"data": {10.0}, "mask": {20.0}}
    memory.opened.clear()
    compose_window(recipe, Window(40, 80, 0, 40))
    assert {href.split("/")[0] for href in memory.opened} == {"scene-01"}


def test_without_a_cloud_mask_no_classes_are_opened() -> None:
    one = scene(1, 1)
    memory = Memory({s.href: [np.full((40, 40), 5, np.uint16)] for s in one.bands})
    recipe = recipe_of([one], box(40, 40, 10), memory, cloud_mask=False)
    data, count, levels = compose_window(recipe, whole(recipe))
    assert (data == 5).all()
    assert (count == 1).all()
    assert levels["mask"] == set()


def test_files_are_closed_when_one_is_broken() -> None:
    scenes = [scene(n, 3) for n in range(8)]
    files = {s.href: [np.full(s.shape, 5, np.uint16)] for one in scenes for s in one.bands}
    files |= {one.mask.href: [np.full((20, 20), CLEAR, np.uint8)] for one in scenes if one.mask}
    memory = Memory(files, broken="scene-03/b1")
    recipe = recipe_of(scenes, box(40, 40, 10), memory)
    with pytest.raises(AssetError) as fault:
        compose_window(recipe, whole(recipe))
    assert fault.value.href == "scene-03/b1"
    assert memory.closed == memory.opened


def test_a_scene_whose_classes_lie_elsewhere_is_not_clear() -> None:
    one = scene(1, 1)
    assert one.mask is not None
    moved = replace(one, mask=replace(one.mask, transform=(20.0, 0.0, LEFT + 200, 0.0, -20.0, TOP)))
    memory = Memory(
        {"scene-01/b0": [np.full((40, 40), 5, np.uint16)], "scene-01/scl": [np.full((20, 20), CLEAR, np.uint8)]}
    )
    for resolution, size in ((10, 40), (100, 4)):
        recipe = recipe_of([moved], box(size, size, resolution), memory)
        data, _, _ = compose_window(recipe, whole(recipe))
        assert not data[0, :, : size // 2].any()
        assert (data[0, :, size // 2 :] == 5).all()
    away = replace(one, mask=replace(one.mask, transform=(20.0, 0.0, LEFT + 9000, 0.0, -20.0, TOP)))
    recipe = recipe_of([away], box(40, 40, 10), memory)
    assert not compose_window(recipe, whole(recipe))[0].any()


def test_a_band_that_covers_less_belongs_to_no_pixel_there() -> None:
    one = scene(1, 2)
    wide, narrow = one.bands
    narrow = replace(narrow, transform=(10.0, 0.0, LEFT + 200, 0.0, -10.0, TOP))
    second = scene(2, 2, key="scene-01", name="scene-02")
    files = {
        wide.href: [np.full((40, 40), 5, np.uint16)],
        narrow.href: [np.full((40, 40), 6, np.uint16)],
        "scene-02/b0": [np.full((40, 40), 7, np.uint16)],
        "scene-02/b1": [np.full((40, 40), 8, np.uint16)],
    }
    both = [replace(one, bands=(wide, narrow), mask=None), replace(second, mask=None)]
    recipe = recipe_of(both, box(40, 40, 10), Memory(files), cloud_mask=False)
    data, count, _ = compose_window(recipe, whole(recipe))
    assert (data[:, :, :20] == np.array([7, 8])[:, None, None]).all()
    assert (data[:, :, 20:] == np.array([5, 6])[:, None, None]).all()
    assert (count == 1).all()


def test_no_scene_at_all() -> None:
    recipe = recipe_of([scene(1, 2, at=(LEFT + 90_000, TOP))], box(30, 20, 10), Memory({}))
    data, count, levels = compose_window(recipe, whole(recipe))
    assert (data.shape, count.shape) == ((2, 30, 20), (1, 30, 20))
    assert not data.any()
    assert not count.any()
    assert levels == {"data": set(), "mask": set()}


def test_the_area_is_cut_by_pixel_centre() -> None:
    one = scene(1, 1)
    files = {"scene-01/b0": [np.full((40, 40), 5, np.uint16)], "scene-01/scl": [np.full((20, 20), CLEAR, np.uint8)]}
    clip = shapely.Point(LEFT + 200, TOP - 200).buffer(150)
    expected = shapely.contains_xy(clip, *np.meshgrid(LEFT + 5 + 10 * np.arange(40), TOP - 5 - 10 * np.arange(40)))
    for budget in (1, 1 << 30):
        recipe = recipe_of([one], box(40, 40, 10), Memory(files), clip=clip, budget=budget)
        data, count, _ = compose_window(recipe, whole(recipe))
        np.testing.assert_array_equal(data[0], np.where(expected, 5, 0))
        np.testing.assert_array_equal(count[0], expected)


def test_layers_and_clouds_apart_as_the_lazy_door_wants_them() -> None:
    scenes = [scene(1, 1), scene(2, 1)]
    files = {f"{s.id}/b0": [np.full((40, 40), 5 + n, np.uint16)] for n, s in enumerate(scenes)}
    clouds = np.full((20, 20), CLEAR, np.uint8)
    clouds[:10] = CLOUD
    files |= {"scene-01/scl": [clouds], "scene-02/scl": [np.full((20, 20), CLEAR, np.uint8)]}
    recipe = recipe_of(scenes, box(40, 40, 10), Memory(files))
    layers, dropped = np.empty((1, 2, 40, 40), np.uint16), np.empty((2, 40, 40), bool)
    with StackReader(recipe.stack, whole(recipe)) as reader:
        assert [number for number, _ in reader.passes] == [0, 1]
        reader.read(whole(recipe), layers, dropped)
        assert (layers[0, 0] == 5).all()
        assert (layers[0, 1] == 6).all()
        assert dropped[0, :20].all()
        assert not dropped[0, 20:].any()
        assert not dropped[1].any()
        reader.read(whole(recipe), layers)
    assert not layers[0, 0, :20].any()
    assert (layers[0, 0, 20:] == 5).all()


# Sizes


@pytest.mark.parametrize(
    ("rows_that_fit", "height", "expected"),
    [
        (5000, 2048, 2048),
        (2048, 2048, 2048),
        (2047, 2048, 1536),
        (600, 2048, 512),
        (511, 2048, 448),
        (64, 2048, 64),
        (63, 2048, 16),
        (0, 2048, 16),
        (63, 40, 40),
        (100, 100, 100),
        (99, 100, 64),
    ],
)
def test_strips_are_as_high_as_the_budget_allows(rows_that_fit: int, height: int, expected: int) -> None:
    recipe = recipe_of([scene(1, 2)], box(height, 700, 10), Memory({}))
    budget = strip_bytes_per_row(2, 9, 700) * rows_that_fit
    assert strip_height(replace(recipe, budget=budget), Window(0, height, 0, 700), 9) == expected


class Blank:
    """A reader of whole Sentinel-2 tiles with overviews, of one value; it keeps no pixels."""

    grid = FileGrid()
    nodata = None

    def open(self, source: Source, item_id: str) -> Blank:
        height, width = source.shape
        self.shapes = tuple((-(-height // f), -(-width // f)) for f in (1, 2, 4, 8))
        return self

    def read(self, level: int, window: Window, out: Image, rest: Window | None = None, **_: object) -> None:
        out[...] = CLEAR

    def close(self) -> None:
        pass


class Blanks:
    def open(self, source: Source, item_id: str) -> Blank:
        return Blank().open(source, item_id)


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633"])
@pytest.mark.parametrize(("resolution", "points"), [(10, 0), (100, 25), (200, 64)])
def test_memory_stays_within_what_is_counted(crs: str, resolution: float, points: int) -> None:
    size, passes = 700, 4
    scenes = [
        scene(4 * n + k, 2, key=f"p{n}", at=(LEFT + (k % 2) * 100_000, TOP - (k // 2) * 100_000), side=10_980)
        for n in range(passes)
        for k in range(4)  # four tiles
    ]
    x, y = Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(LEFT + 80_000, TOP - 80_000)
    geobox = box(size, size, resolution, crs, (round(x / resolution) * resolution, round(y / resolution) * resolution))
    recipe = recipe_of(scenes, geobox, Blanks())
    assert recipe.stack.map_points == (0 if crs == "EPSG:32632" else points)
    counted = size * strip_bytes_per_row(2, passes, size, recipe.stack.map_points)
    outputs = size * size * (2 * 2 + 2)
    compose_window(recipe, Window(0, 16, 0, 16))  # what is made once
    tracemalloc.start()
    try:
        data, count, _ = compose_window(recipe, whole(recipe))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert (data[:, :10, :10] == CLEAR).all()
    assert count.max() == passes
    # a chunk's own arrays (see `resample._CHUNK` and `stack._POINTS`) don't grow with the strip
    assert peak < counted + outputs + (48 << 20)


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32631"])
@pytest.mark.parametrize("resolution", [10, 90, 250])
@pytest.mark.parametrize("piece", [600, 6000])
def test_pieces_make_the_whole(monkeypatch: pytest.MonkeyPatch, crs: str, resolution: float, piece: int) -> None:
    rng = np.random.default_rng(piece)
    scenes = [
        scene(n, 2, key=f"p{n // 2}", at=(LEFT + 3 * n, TOP - 5 * n), side=200, nodata=7 * (n % 2)) for n in range(4)
    ]
    files = {s.href: [rng.integers(0, 9, s.shape).astype(np.uint16)] for one in scenes for s in one.bands}
    noise = rng.integers(3, 10, (100, 100)).astype(np.uint8)
    noise[:, np.arange(100) % 50 < 30] = CLEAR
    files |= {one.mask.href: [noise] for one in scenes if one.mask is not None}
    x, y = Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(LEFT, TOP)
    side = max(700 // resolution, 5)
    geobox = box(side, side, resolution, crs, (round(x / 10) * 10 - 150, round(y / 10) * 10 + 100))
    recipe = recipe_of(scenes, geobox, Memory(files))
    expected = compose_window(recipe, whole(recipe))
    assert expected[1].any()
    seen: list[int] = []
    real = MemoryRaster.read

    def read(
        self: MemoryRaster, level: int, window: Window, out: Image, rest: Window | None = None, **_: object
    ) -> None:
        seen.append(out.nbytes)
        real(self, level, window, out, rest)

    monkeypatch.setattr(MemoryRaster, "read", read)
    monkeypatch.setattr(stack_module, "PIECE_BYTES", piece)
    monkeypatch.setattr(stack_module, "_READ_BYTES", 0)
    found = compose_window(recipe, whole(recipe))
    for ours, theirs in zip(found[:2], expected[:2], strict=True):
        np.testing.assert_array_equal(ours, theirs)
    assert found[2] == expected[2]
    # a single output pixel isn't cut any further
    one = math.ceil(resolution / 10 * 1.2 + 1) ** 2 * 2
    assert max(seen) <= max(piece, one)


@dataclass
class Bare(Blank):
    """A file without overviews."""

    def open(self, source: Source, item_id: str) -> Bare:
        self.shapes = (source.shape,)
        return self

    def read(self, level: int, window: Window, out: Image, rest: Window | None = None, **_: object) -> None:
        out[...] = CLEAR


class Bares:
    def open(self, source: Source, item_id: str) -> Bare:
        return Bare().open(source, item_id)


@pytest.mark.parametrize("crs", ["EPSG:32632", "EPSG:32633"])
@pytest.mark.parametrize("resolution", [100])
def test_memory_does_not_depend_on_overviews(crs: str, resolution: float) -> None:
    size = 80_000 // resolution
    scenes = [scene(n, 1, side=10_980) for n in range(12)]
    x, y = Transformer.from_crs("EPSG:32632", crs, always_xy=True).transform(LEFT + 5_000, TOP - 5_000)
    geobox = box(size, size, resolution, crs, (round(x / resolution) * resolution, round(y / resolution) * resolution))
    recipe = recipe_of(scenes, geobox, Bares())
    counted = size * strip_bytes_per_row(1, 12, size, recipe.stack.map_points) + 6 * size**2
    compose_window(recipe, Window(0, 16, 0, 16))
    stack_module._buffers.clear()
    render_module._buffers.clear()
    tracemalloc.start()
    try:
        _, count, _ = compose_window(recipe, whole(recipe))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert count[0, size // 2, size // 2] == 12
    # one band's source pixels alone are 128 MB, and its share of what is in flight ten times that
    assert peak < counted + stack_module.memory_bytes() + (48 << 20)


def test_a_level_covers_the_same_ground() -> None:
    source = Source("a", "x", "EPSG:32632", (10.0, 1.0, 500.0, 2.0, -10.0, 900.0), (10980, 5490), 0, 0)
    a, b, c, d, e, f = level_transform(source, (1373, 687))
    for col, row, level_col, level_row in (
        (0, 0, 0, 0),
        (5490, 0, 687, 0),
        (0, 10980, 0, 1373),
        (5490, 10980, 687, 1373),
    ):
        x, y = 500 + 10 * col + row, 900 + 2 * col - 10 * row
        assert (c + a * level_col + b * level_row, f + d * level_col + e * level_row) == pytest.approx((x, y))


# ----------------------------------------------------------------------------------------------------
# Real files over HTTP, through both readers


class Files:
    """A directory of small TIFFs, served; and the items that point at them."""

    def __init__(self, root: Path, server: ServerProcess) -> None:
        self.root, self.server, self.number = root, server, 0
        self.reader: Reader = TileReader(NoSigner(), Retry(attempts=2, backoff_s=0.01), frozenset({"127.0.0.1"}))

    def write(self, name: str, *levels: Image) -> str:
        """Write a TIFF whose overviews hold what they are told, not what the full level would give."""
        path = self.root / f"{name}.tif"
        geo: list[Any] = []  # where it lies is its item's to say
        with tifffile.TiffWriter(path) as tiff:
            for number, level in enumerate(levels):
                tiff.write(
                    np.ascontiguousarray(level),
                    tile=(64, 64),
                    compression="zlib",
                    photometric="minisblack",
                    subfiletype=1 if number else 0,
                    extratags=[] if number else [(*tag, True) for tag in geo],
                )
        return f"{self.server.files_url}/{name}.tif"

    def item(
        self,
        red: Sequence[Image] | Image,
        classes: Sequence[Image] | Image,
        *,
        day: int = 1,
        tile: str = "32TNS",
        zone: int = 32632,
        at: tuple[float, float] = (LEFT, TOP),
        baseline: str = "02.12",
    ) -> dict[str, Any]:
        """An item as Planetary Computer would have it, and its files."""
        self.number += 1
        when = f"202010{day:02}T101021"
        name = f"S2A_MSIL2A_{when}_R022_T{tile}_20201101T{self.number:06}"
        levels = {k: [v] if isinstance(v, np.ndarray) else list(v) for k, v in (("B04", red), ("SCL", classes))}
        sizes = {"B04": 10.0, "SCL": 20.0}
        return {
            "type": "Feature",
            "id": name,
            "links": [],
            "properties": {
                "datetime": f"2020-10-{day:02}T10:10:21.024Z",
                "platform": "Sentinel-2A",
                "proj:epsg": zone,
                "s2:mgrs_tile": tile,
                "s2:processing_baseline": baseline,
                "s2:datatake_id": f"GS2A_{when}_027541_N{baseline}",
            },
            "assets": {
                key: {
                    "href": self.write(f"{name}_{key}", *files),
                    "proj:shape": list(files[0].shape),
                    "proj:transform": [sizes[key], 0.0, at[0], 0.0, -sizes[key], at[1]],
                }
                for key, files in levels.items()
            },
        }

    def recipe(self, items: Sequence[Mapping[str, Any]], geobox: GeoBox, **more: Any) -> Recipe:
        scenes = read_scenes(
            items,
            ("red",),
            sensor_for("sentinel-2-l2a"),
            cloud_mask=more.get("cloud_mask", True),
            private_hosts=frozenset({"127.0.0.1"}),
        )
        return recipe_of(scenes, geobox, self.reader, **more)

    def compose(self, items: Sequence[Mapping[str, Any]], geobox: GeoBox, **more: Any) -> tuple[Image, Image, Any]:
        recipe = self.recipe(items, geobox, **more)
        data, count, levels = compose_window(recipe, whole(recipe))
        return data[0], count[0], levels


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Files]:
    root = tmp_path_factory.mktemp("files")
    with ServerProcess(Catalogue(root, [], "sentinel-2-l2a")) as server:
        yield Files(root, server)


def constant(value: int, side: int = 200) -> Image:
    return np.full((side, side), value, np.uint16)


def classes(value: int = CLEAR, side: int = 100) -> Image:
    return np.full((side, side), value, np.uint8)


def test_a_pixel_of_the_file_lands_where_the_item_says(files: Files) -> None:
    ramp = np.arange(1, 40_001, dtype=np.uint16).reshape(200, 200)
    item = files.item(ramp, classes())
    data, count, levels = files.compose([item], box(200, 200, 10))
    np.testing.assert_array_equal(data, ramp)
    assert (count == 1).all()
    assert levels == {"data": {10.0}, "mask": {20.0}}
    shifted, _, _ = files.compose([item], box(50, 60, 10, at=(LEFT - 70, TOP + 30)))
    expected = np.zeros((50, 60), int)
    expected[3:, 7:] = ramp[:47, :53]
    np.testing.assert_array_equal(shifted, expected)


def test_the_median_of_months_of_constants(files: Files) -> None:
    holes = constant(500)
    holes[:100] = 0
    clouds = classes()
    clouds[:, :50] = CLOUD
    items = [
        files.item(constant(100), classes(), day=1),
        files.item(constant(1305), classes(), day=2, baseline="04.00"),  # 305
        files.item(constant(400), clouds, day=3),
        files.item(holes, classes(), day=4, baseline="03.01"),
        files.item(constant(999), classes(), day=5, baseline="05.00"),  # less than the offset: 1
        files.item(constant(9000), classes(8), day=6),
    ]
    for block, budget in ((512, 1 << 30), (512, 1), (1024, strip_bytes_per_row(1, 6, 200) * 64)):
        data, count, _ = files.compose(items, box(200, 200, 10), block=block, budget=budget)
        # top left, clouds and holes: 1 100 305; top right, holes: 1 100 305 400; below them all: 1 100 305 (400) 500
        np.testing.assert_array_equal(data[:100, :100], 100)
        np.testing.assert_array_equal(data[:100, 100:], 203)  # 202.5, half up
        np.testing.assert_array_equal(data[100:, :100], 203)
        np.testing.assert_array_equal(data[100:, 100:], 305)
        np.testing.assert_array_equal(count[:100], [[3] * 100 + [4] * 100] * 100)
        np.testing.assert_array_equal(count[100:], [[4] * 100 + [5] * 100] * 100)


def test_two_tiles_of_a_pass_count_once_and_the_first_with_data_wins(files: Files) -> None:
    west = constant(700)
    west[:, 150:] = 0
    pair = [
        files.item(west, classes(), tile="32TNS"),
        files.item(constant(800), classes(), tile="32TPS", at=(LEFT + 1000, TOP)),  # by half over the other
    ]
    for items in (pair, pair[::-1]):
        data, count, _ = files.compose(items, box(200, 300, 10))
        np.testing.assert_array_equal(data[0], [700] * 150 + [800] * 150)
        assert (count == 1).all()
    # the clouds of the first stay clouds, though the second is clear there
    pair[0] = files.item(west, classes(CLOUD), tile="32TNA")
    data, count, _ = files.compose(pair, box(200, 300, 10))
    np.testing.assert_array_equal(data[0], [0] * 150 + [800] * 150)
    np.testing.assert_array_equal(count[0], [0] * 150 + [1] * 150)


def test_two_zones_are_one_pass_too(files: Files) -> None:
    x, y = Transformer.from_crs("EPSG:32632", "EPSG:32633", always_xy=True).transform(LEFT + 1000, TOP - 1000)
    far = (round((x - 1500) / 20) * 20, round((y + 1500) / 20) * 20)
    items = [
        files.item(constant(700), classes(), tile="32TNS"),
        files.item(constant(800, 300), classes(side=150), tile="33TUM", zone=32633, at=far),
    ]
    data, count, _ = files.compose(items, box(240, 240, 10, at=(LEFT - 200, TOP + 200)))
    assert (data[20:220, 20:220] == 700).all()
    outside = data.copy()
    outside[20:220, 20:220] = 0
    assert set(np.unique(outside)) == {0, 800}
    assert (outside == 800).sum() > 10_000
    np.testing.assert_array_equal(count, data != 0)


@pytest.mark.parametrize(
    ("resolution", "level", "value"),
    [(5, 10, 1000), (10, 10, 1000), (15, 10, 1000), (20, 20, 2000), (39, 20, 2000), (40, 40, 3000), (100, 40, 3000)],
)  # fmt: skip
def test_data_come_from_the_overview_that_suits(files: Files, resolution: float, level: float, value: int) -> None:
    item = files.item([constant(1000), constant(2000, 100), constant(3000, 50)], classes())
    size = 2000 // resolution
    data, _, levels = files.compose([item], box(size, size, resolution))
    assert (data == value).all()
    assert levels["data"] == {level}


@pytest.mark.parametrize(
    ("resolution", "level"), [(10, 20.0), (20, 20.0), (60, 20.0), (100, 20.0), (160, 40.0), (200, 40.0), (400, 80.0)]
)
def test_classes_come_from_a_level_with_16_samples(files: Files, resolution: float, level: float) -> None:
    # only the level that should be read is clear
    levels = {20.0: classes(CLOUD, 200), 40.0: classes(CLOUD), 80.0: classes(CLOUD, 50)}
    levels[level] = classes(CLEAR, len(levels[level]))
    item = files.item(constant(1000, 400), list(levels.values()))
    size = 4000 // resolution
    data, _, read = files.compose([item], box(size, size, resolution))
    assert (data == 1000).all()
    assert read["mask"] == {level}


def test_a_fifth_of_clouds_is_kept_at_100_m(files: Files) -> None:
    rng = np.random.default_rng(3)
    fine = np.full((20, 20, 25), CLEAR, np.uint8)  # 20 × 20 pixels of 100 m, each of 25 of 20 m
    expected = np.zeros((20, 20), int)
    for row, col in np.ndindex(20, 20):
        unseen, clouds = int(rng.integers(0, 26)), int(rng.integers(0, 9))
        points = np.array(([CLOUD] * clouds + [CLEAR] * 25)[: 25 - unseen] + [0] * unseen, np.uint8)
        fine[row, col] = rng.permutation(points)
        clouds = min(clouds, 25 - unseen)
        expected[row, col] = 0 if unseen == 25 or clouds * 5 > 25 - unseen else 1000
    fine[0, 0], fine[0, 1] = CLEAR, CLEAR
    fine[0, 0, :5], fine[0, 1, :6] = CLOUD, CLOUD
    expected[0, :2] = 1000, 0
    item = files.item(constant(1000), fine.reshape(20, 20, 5, 5).transpose(0, 2, 1, 3).reshape(100, 100))
    data, _, levels = files.compose([item], box(20, 20, 100))
    np.testing.assert_array_equal(data, expected)
    assert levels["mask"] == {20.0}
    # up to 20 m, the class of the nearest pixel decides
    data, _, _ = files.compose([item], box(100, 100, 20))
    np.testing.assert_array_equal(data == 0, np.isin(item_classes(files, item), DROPPED))


def item_classes(files: Files, item: Mapping[str, Any]) -> Image:
    with rasterio.open(files.root / Path(item["assets"]["SCL"]["href"]).name) as dataset:
        return np.asarray(dataset.read(1))


def test_blocks_become_files_with_the_same_pixels(files: Files, tmp_path: Path) -> None:
    rng = np.random.default_rng(4)
    items = [
        files.item(rng.integers(0, 5000, (600, 600), dtype=np.uint16), classes(side=300), day=day, baseline=baseline)
        for day, baseline in ((1, "02.12"), (2, "05.00"), (3, "05.10"))
    ]
    recipe = files.recipe(items, box(530, 600, 10))
    recipe = replace(recipe, images=(replace(SPECS[0], bands=(BandSpec("red"),)), *SPECS[1:]))
    data, count, _ = compose_window(recipe, whole(recipe))
    packed = recipe.pack()
    assert pickle.loads(pickle.dumps(packed)) == packed  # noqa: S301
    rendered = [render_block(packed, n) for n in range(len(recipe.windows()))]
    assert recipe.windows() == blocks((530, 600), 512)
    assert all(r.levels == {"data": {10.0}, "mask": {20.0}} for r in rendered)
    expected = {"data": data, "count": count, "visual": visual(data, (0,))}
    for spec in recipe.images:
        cog = Cog(spec, recipe.stack.geobox, tmp_path / "s")
        for one, window in zip(rendered, recipe.windows(), strict=True):
            assert isinstance(one, Rendered)
            cog.add(one.images[spec.name], window)
        cog.write(tmp_path / f"{spec.name}.tif")
        with rasterio.open(tmp_path / f"{spec.name}.tif") as dataset:
            np.testing.assert_array_equal(dataset.read(), expected[spec.name])
        assert cog.sums == ([] if spec.name == "visual" else statistics(expected[spec.name]))


def test_a_recipe_is_small_and_holds_no_more_than_pixels_need() -> None:
    scenes = [scene(n, 3, name=f"S2A_MSIL2A_202010{n:02}T101021_R022_T32TNS") for n in range(1, 25)]
    named = [replace(s, href="https://stac.example.org/" + s.id, fingerprint=("x" * 1000,)) for s in scenes]
    recipe = recipe_of(scenes, box(10, 10, 10), GdalReader(NoSigner()))
    packed = recipe_of(named, box(10, 10, 10), GdalReader(NoSigner())).pack()
    assert packed == recipe.pack()
    assert len(packed) < 24 * 100


# Bad days


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("404", "can't be read after 2 attempts: the server answered 404."),
        ("403", "can't be read after 2 attempts: the server answered 403."),
        ("html", "can't be read after 2 attempts: it isn't a raster file (an error page, perhaps)."),
    ],
)
def test_an_asset_that_stays_bad_is_named(files: Files, fault: str, sentence: str) -> None:
    good, bad = (files.item(constant(700), classes(), day=day) for day in (1, 2))
    href = bad["assets"]["B04"]["href"]
    files.server.faults = {Path(href).name: fault}
    try:
        with pytest.raises(AssetError) as caught:
            files.compose([good, bad], box(20, 20, 10))
    finally:
        files.server.faults = {}
    error = caught.value
    assert (error.item_id, error.asset, error.href, error.attempts) == (bad["id"], "B04", href, 2)
    assert error.what == f"The asset 'B04' of item '{bad['id']}' {sentence}"
    assert error.exit_code == 6
    # it travels from the worker to the client
    back = pickle.loads(pickle.dumps(error))  # noqa: S301
    assert type(back) is AssetError
    assert (str(back), vars(back)) == (str(error), vars(error))
    assert back.__cause__ is None
    assert error.__context__ is None


def test_a_server_that_stumbles_changes_nothing(files: Files) -> None:
    item = files.item(constant(700), classes())
    files.server.faults = {Path(item["assets"]["B04"]["href"]).name: "403-then-ok:1"}
    try:
        data, _, _ = files.compose([item], box(20, 20, 10))
    finally:
        files.server.faults = {}
    assert (data == 700).all()


@pytest.mark.parametrize(
    ("asset", "claimed", "pixels", "sentence"),
    [
        ("B04", [200, 100], None, "has 200 × 200 pixels, but its item says 200 × 100."),
        ("B04", None, np.ones((200, 200), np.float32), "has float32 pixels, but must have integers."),
    ],
)
def test_a_file_that_is_not_what_its_item_says_is_refused(
    files: Files, asset: str, claimed: list[int] | None, pixels: Image | None, sentence: str
) -> None:
    item = files.item(constant(700) if pixels is None else pixels, classes())
    if claimed:
        item["assets"][asset]["proj:shape"] = claimed
    with pytest.raises(AssetError) as caught:
        files.compose([item], box(20, 20, 10))
    assert caught.value.what == f"The asset '{asset}' of item '{item['id']}' {sentence}"
    assert (caught.value.item_id, caught.value.asset) == (item["id"], asset)


def test_every_fault_travels_whole() -> None:
    full = AssetError("What.", "Expected.", "Hint.", "item", "asset", "https://x", 3)
    back = pickle.loads(pickle.dumps(full))  # noqa: S301
    assert (str(back), back.args, vars(back)) == ("What. Expected. Hint.", full.args, vars(full))


def test_passes_travel_in_order() -> None:
    scenes = [scene(n, 1, key=f"p{n % 3}") for n in range(6)]
    stack = recipe_of(scenes, box(10, 10, 10), Memory({})).stack
    assert [type(p) for p in stack.passes] == [Pass] * 3
    touching = stack.touching(Window(0, 10, 0, 10))
    assert [(n, [s.id for s in found]) for n, found in touching] == [
        (0, ["scene-00", "scene-03"]),
        (1, ["scene-01", "scene-04"]),
        (2, ["scene-02", "scene-05"]),
    ]
