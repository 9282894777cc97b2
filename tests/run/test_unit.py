"""The digest of a unit: changed by whatever changes a pixel, and by nothing else."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from odc.geo.geobox import GeoBox

from eoap_dask.run.events import Event, ignore
from eoap_dask.run.unit import Failure, Unit, digest
from eoap_dask.scenes.model import Pass, Scene

START = datetime(2020, 10, 1, tzinfo=UTC)
GEOBOX = GeoBox((300, 400), Affine(100, 0, 500_000, 0, -100, 5_000_000), "EPSG:32610")
PARAMS = {"bands": ["nir", "red"], "composite": "median", "clip": None, "mask": [[0, 1, 3], 20.0, 0.2]}
ALGORITHM = {"mask": 1, "median": 1}


def scene(number: int, **changes: Any) -> Scene:
    name = f"scene-{number}"
    plain = Scene(name, "https://x/" + name, START, f"pass-{number}", "10TFK", (5, 0), (), None, (name, "a 1", "b 2"))
    return replace(plain, **changes)


SCENES = tuple(scene(n) for n in range(5))


def of(
    key: str = "2020-10",
    geobox: GeoBox = GEOBOX,
    params: Mapping[str, Any] = PARAMS,
    scenes: Sequence[Scene] = SCENES,
    algorithm: Mapping[str, int] = ALGORITHM,
) -> str:
    return digest(key, geobox, params, scenes, algorithm)


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
    "bands": {"params": PARAMS | {"bands": ["nir", "green"]}},
    "order of bands": {"params": PARAMS | {"bands": ["red", "nir"]}},
    "composite": {"params": PARAMS | {"composite": "mean"}},
    "clip": {"params": PARAMS | {"clip": "0103"}},
    "no mask": {"params": PARAMS | {"mask": None}},
    "rule of the mask": {"params": PARAMS | {"mask": [[0, 1, 3], 20.0, 0.25]}},
    "another parameter": {"params": PARAMS | {"new": None}},
    "no scene": {"scenes": ()},
    "a scene less": {"scenes": SCENES[1:]},
    "a scene more": {"scenes": (*SCENES, scene(9))},
    "a scene twice": {"scenes": (*SCENES, SCENES[0])},
    "an asset of a scene": {"scenes": (*SCENES[:4], scene(4, fingerprint=("scene-4", "a 1", "b 3")))},
    "version of a part": {"algorithm": {"mask": 2, "median": 1}},
    "version of the composite": {"algorithm": {"mask": 1, "median": 2}},
    "another part": {"algorithm": {"mask": 1, "median": 1, "medoid": 1}},
}


def test_each_thing_that_changes_pixels_changes_the_digest() -> None:
    found = {"plain": of()} | {name: of(**change) for name, change in CHANGES.items()}
    assert len(set(found.values())) == len(CHANGES) + 1


@settings(deadline=None)
@given(st.permutations(SCENES))
def test_the_order_of_scenes_is_irrelevant(scenes: list[Scene]) -> None:
    assert of(scenes=scenes) == of()


@pytest.mark.parametrize(
    "same",
    [
        {"params": dict(reversed(PARAMS.items()))},
        {"params": PARAMS | {"bands": ("nir", "red"), "mask": ((0, 1, 3), 20.0, 0.2)}},  # JSON knows no tuples
        {"algorithm": dict(reversed(ALGORITHM.items()))},
        {"geobox": moved(crs="epsg:32610")},
        {"geobox": moved(a=100.0, c=500_000.0)},
        {"scenes": [replace(s, href="", datetime=START + timedelta(1), tile="", baseline=(0, 0)) for s in SCENES]},
    ],
)
def test_what_changes_no_pixel_changes_nothing(same: dict[str, Any]) -> None:
    assert of(**same) == of()


def test_a_digest_is_32_hexadecimal_digits() -> None:
    assert re.fullmatch(r"[0-9a-f]{32}", of())


def test_scenes_of_a_unit_come_pass_by_pass() -> None:
    passes = (Pass("p", START, (SCENES[0], SCENES[3])), Pass("q", START, (SCENES[1],)))
    unit = Unit("2020-10", "October 2020", START, START, passes)
    assert [s.id for s in unit.scenes] == ["scene-0", "scene-3", "scene-1"]


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
