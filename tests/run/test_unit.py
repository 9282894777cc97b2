"""The digest of a unit: changed by whatever decides its result, and by nothing else."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from eoap_dask.applications.bai.science import Burn
from eoap_dask.applications.composition import Composition
from eoap_dask.geo.window import Window
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.tiles import TileReader
from eoap_dask.render.identity import NO_PIXELS, identity_of
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.render.needed import UnitStack
from eoap_dask.render.recipe import Cutout, Recipe
from eoap_dask.render.science import Science
from eoap_dask.render.stack import Stack
from eoap_dask.run.events import Event, ignore
from eoap_dask.run.plan import Plan, UnitPlan
from eoap_dask.run.raster import RasterWork
from eoap_dask.run.unit import Failure, Unit
from eoap_dask.scenes.model import Pass, Scene

START = datetime(2020, 10, 1, tzinfo=UTC)
GEOBOX = GeoBox((300, 400), Affine(100, 0, 500_000, 0, -100, 5_000_000), "EPSG:32610")


def scene(number: int, **changes: Any) -> Scene:
    name = f"scene-{number}"
    plain = Scene(name, "https://x/" + name, START, f"pass-{number}", "10TFK", (5, 0), (), None, (name, "a 1", "b 2"))
    return replace(plain, **changes)


SCENES = tuple(scene(n) for n in range(5))


def passes_of(*scenes: Scene) -> tuple[Pass, ...]:
    return tuple(Pass(s.pass_key, s.datetime, (s,)) for s in scenes)


STACK = Stack(
    geobox=GEOBOX,
    passes=passes_of(*SCENES),
    bands=2,
    dropped_classes=(0, 1, 3),
    clip_wkb=None,
    reader=TileReader(NoSigner(), Retry()),
)
BAND = BandSpec("red", "Red light", scale=1e-4, offset=0, classes=(ClassSpec(1, "one", colour=(1, 2, 3)),))
IMAGE = ImageSpec("data", (BandSpec("nir"), BAND), "uint16", "mean", 0, title="Data")
RECIPE = Recipe(STACK, Composition("median", (0,)), (IMAGE,))


def of(recipe: Recipe = RECIPE, key: str = "2020-10", **stack: Any) -> str:
    recipe = replace(recipe, stack=replace(recipe.stack, **stack)) if stack else recipe
    work = RasterWork(recipe)
    planned = UnitPlan.of(Unit(key, "October 2020", START, START, work.needs), work)
    return planned.with_needs(dict.fromkeys(work.needs, "1")).digest if work.needs else planned.digest


def moved(**changes: Any) -> GeoBox:
    plain = {"a": 100, "c": 500_000, "e": -100, "f": 5_000_000, "shape": (300, 400), "crs": "EPSG:32610"} | changes
    return GeoBox(plain["shape"], Affine(plain["a"], 0, plain["c"], 0, plain["e"], plain["f"]), plain["crs"])


CHANGES: dict[str, dict[str, Any]] = {
    "key": {"key": "2020-11"},
    "CRS": {"geobox": moved(crs="EPSG:32611")},
    "CRS without code": {"geobox": moved(crs="+proj=laea +lat_0=47 +lon_0=9 +datum=WGS84")},
    "another CRS without code": {"geobox": moved(crs="+proj=laea +lat_0=47 +lon_0=10 +datum=WGS84")},
    "resolution": {"geobox": moved(a=50, e=-50)},
    "left": {"geobox": moved(c=500_100)},
    "a little to the right": {"geobox": moved(c=500_000.0001)},
    "top": {"geobox": moved(f=5_000_100)},
    "height": {"geobox": moved(shape=(301, 400))},
    "width": {"geobox": moved(shape=(300, 401))},
    "turned": {"geobox": moved(shape=(400, 300))},
    "bands": {"bands": 3},
    "clip": {"clip_wkb": b"0103"},
    "no mask": {"dropped_classes": None},
    "classes of the mask": {"dropped_classes": (0, 1)},
    "no scene": {"passes": ()},
    "a scene less": {"passes": passes_of(*SCENES[1:])},
    "a scene more": {"passes": passes_of(*SCENES, scene(9))},
    "a scene twice": {"passes": passes_of(*SCENES, SCENES[0])},
    "an asset of a scene": {"passes": passes_of(*SCENES[:4], scene(4, fingerprint=("scene-4", "a 1", "b 3")))},
    "science": {"recipe": replace(RECIPE, science=Burn(KEY_BENSON, 100))},
    "composite": {"recipe": replace(RECIPE, science=Composition("median", (1,)))},
    "images": {"recipe": replace(RECIPE, images=(IMAGE, replace(IMAGE, name="other")))},
    "no images": {"recipe": replace(RECIPE, images=())},
    "cutouts": {"recipe": replace(RECIPE, cutouts=(Cutout("a", Window(0, 8, 0, 8)),))},
    "place of a cutout": {"recipe": replace(RECIPE, cutouts=(Cutout("a", Window(0, 8, 1, 9)),))},
    "name of a cutout": {"recipe": replace(RECIPE, cutouts=(Cutout("b", Window(0, 8, 0, 8)),))},
    "no cutouts": {"recipe": replace(RECIPE, cutouts=())},
    "units instead of scenes": {"recipe": replace(RECIPE, stack=UnitStack(GEOBOX, ("a", "b"), "{unit}.tif", 2))},
    "order of units": {"recipe": replace(RECIPE, stack=UnitStack(GEOBOX, ("b", "a"), "{unit}.tif", 2))},
}


def test_each_thing_that_changes_pixels_changes_the_digest() -> None:
    found = {"plain": of()} | {name: of(**change) for name, change in CHANGES.items()}
    assert len(set(found.values())) == len(CHANGES) + 1


def test_a_version_changes_the_digest(monkeypatch: pytest.MonkeyPatch) -> None:
    before = of()
    monkeypatch.setattr(Composition, "versions", lambda _: {"median": 2})
    changed = of()
    monkeypatch.setattr(Composition, "versions", lambda _: {"median": 1, "medoid": 1})
    assert len({before, changed, of()}) == 3


@pytest.mark.parametrize(
    "value", [Burn(KEY_BENSON, 100), Composition("median", (0,)), IMAGE, Cutout("a", Window(0, 8, 0, 8))]
)
def test_no_field_can_be_forgotten(value: Any) -> None:
    """Whatever is added to a science, an image or a cutout decides pixels, unless it is marked."""
    fields = [f for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
    assert fields
    others = [replace(value, **{f.name: other(getattr(value, f.name))}) for f in fields]
    identities = [identity_of(one) for one in (value, *others)]
    assert all(one not in identities[:n] for n, one in enumerate(identities))


def other(value: Any) -> Any:
    """Return another value of the same type."""
    if isinstance(value, bool) or value is None:
        return not value
    if isinstance(value, tuple):
        return value[1:] if value else ("more",)
    if isinstance(value, Window):
        return replace(value, row=value.row + 1)
    return value + type(value)(1)


@dataclass(frozen=True)
class Rule(Science):
    """A science whose threads decide nothing."""

    threshold: float
    threads: int = field(default=1, metadata=NO_PIXELS)


def test_a_marked_field_changes_nothing() -> None:
    assert of(replace(RECIPE, science=Rule(0.5))) == of(replace(RECIPE, science=Rule(0.5, 8)))
    assert of(replace(RECIPE, science=Rule(0.5))) != of(replace(RECIPE, science=Rule(0.6)))


@pytest.mark.parametrize("value", [{1, 2}, object(), Stack, lambda: 1, START])
def test_what_has_no_identity_is_refused(value: Any) -> None:
    with pytest.raises(TypeError, match="has no identity"):
        identity_of(value)


@settings(deadline=None)
@given(st.permutations(SCENES))
def test_the_order_of_scenes_is_irrelevant(scenes: list[Scene]) -> None:
    assert of(passes=passes_of(*scenes)) == of()


def same() -> Iterator[dict[str, Any]]:
    yield {"geobox": moved(crs="epsg:32610")}
    yield {"geobox": moved(a=100.0, c=500_000.0)}
    yield {"passes": passes_of(*(replace(s, href="", datetime=START + timedelta(1), tile="") for s in SCENES))}
    yield {"reads": 32}
    yield {"reader": GdalReader(NoSigner(), Retry())}
    yield {"recipe": replace(RECIPE, images=(replace(IMAGE, title="Other", key="other"),))}
    yield {"recipe": replace(RECIPE, block=2048, budget=1)}
    yield {"recipe": replace(RECIPE, state=(1, 2), is_survey=True)}


@pytest.mark.parametrize("change", list(same()))
def test_what_changes_no_pixel_changes_nothing(change: dict[str, Any]) -> None:
    assert of(**change) == of()


def test_a_digest_is_32_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", of())


def test_scenes_of_a_stack_come_pass_by_pass() -> None:
    passes = (Pass("p", START, (SCENES[0], SCENES[3])), Pass("q", START, (SCENES[1],)))
    assert [s.id for s in replace(STACK, passes=passes).scenes] == ["scene-0", "scene-3", "scene-1"]


def test_the_digest_of_a_unit_that_needs_others_holds_their_content() -> None:
    unit = Unit("change", "Change", START, START, needs=("a", "b"))
    planned = UnitPlan.of(unit, RasterWork(RECIPE))
    assert planned.digest == ""
    contents = [{"a": "1", "b": "2"}, {"a": "1", "b": "3"}, {"a": "2", "b": "1"}]
    assert len({planned.with_needs(one).digest for one in contents}) == 3
    assert planned.with_needs(contents[0]).digest == planned.with_needs({**contents[0], "c": "9"}).digest
    assert planned.with_needs(contents[0]).parts.keys() == {"grid", "params", "scenes", "algorithm", "needs"}


def test_a_unit_must_name_what_its_work_needs() -> None:
    """Else its digest would be complete without it."""
    work = RasterWork(replace(RECIPE, stack=UnitStack(GEOBOX, ("a", "b"), "{unit}.tif", 2)))
    with pytest.raises(ValueError, match="must name what its work needs"):
        UnitPlan.of(Unit("change", "Change", START, START, needs=("a",)), work)


def test_the_order_of_passes_counts_where_a_science_says_so() -> None:
    turned = passes_of(*reversed(SCENES))
    assert of() == of(passes=turned)
    burn = replace(RECIPE, science=Burn(KEY_BENSON, 100))
    assert of(burn) != of(burn, passes=turned)


@pytest.mark.parametrize(
    ("names", "window"),
    [
        (["../x"], Window(0, 8, 0, 8)),
        (["a", "a"], Window(0, 8, 0, 8)),
        ([""], Window(0, 8, 0, 8)),
        (["A"], Window(0, 8, 0, 8)),
        (["a"], Window(-1, 8, 0, 8)),
        (["a"], Window(0, 301, 0, 8)),
        (["a"], Window(0, 8, 393, 401)),
        (["a"], Window(8, 8, 0, 8)),
    ],
)
def test_a_cutout_has_a_safe_name_of_its_own_and_lies_in_its_grid(names: list[str], window: Window) -> None:
    with pytest.raises(ValueError, match=r"name must be its own|must lie inside a grid"):
        replace(RECIPE, cutouts=tuple(Cutout(name, window) for name in names))


@pytest.mark.parametrize("needs", [("b",), ("a",), ("c", "b")])
def test_a_plan_knows_what_its_units_need(needs: tuple[str, ...]) -> None:
    """What a unit needs must come before it."""
    units = [Unit("c", "", START, START), Unit("a", "", START, START, needs), Unit("b", "", START, START)]
    with pytest.raises(ValueError, match="a is there twice, or needs"):
        Plan("app", {}, tuple(UnitPlan.of(unit, RasterWork(RECIPE)) for unit in units))


def test_the_ledger_leaves_out_what_is_not_known() -> None:
    assert Failure("2020-10", "It broke.").to_dict() == {"unit": "2020-10", "reason": "It broke.", "attempts": 1}
    whole = Failure("2020-10", "404", "item", "B04", "https://x", 3).to_dict()
    assert whole == {
        "unit": "2020-10", "reason": "404", "item": "item", "asset": "B04", "href": "https://x", "attempts": 3
    }  # fmt: skip


def test_an_event_knows_its_time() -> None:
    before = datetime.now(UTC)
    event = Event("block-done", "2020-10", 1, 4)
    assert before <= event.time <= datetime.now(UTC)
    ignore(event)
