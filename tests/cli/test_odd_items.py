"""Odd items are set aside, named with the reason and counted wherever a run tells of itself; or it fails."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import rasterio
from tests.support.command_line import Shell, error_of, read_json
from tests.support.other_people import AOI, RED, described, saved

Item = dict[str, Any]


def odd_ones(folder: Path) -> dict[str, tuple[Item, str]]:
    """Return items that lack something, each with what is said of it."""
    bandless = described(folder, "bandless")
    bandless["assets"]["B08"] = bandless["assets"].pop("B04")
    classless = described(folder, "classless")
    del classless["assets"]["SCL"]
    private = described(folder, "private")
    private["assets"]["B04"]["href"] = "http://10.0.0.1/B04.tif"
    twofold = described(folder, "twofold")
    red = twofold["assets"].pop("B04")
    twofold["assets"] |= {key: {**red, "bands": [{"name": "B04"}]} for key in ("one", "other")}
    return {
        "timeless": (
            described(folder, "timeless", properties={"datetime": None}),
            "Item 'timeless' has no readable time: start_datetime is None, end_datetime is None.",
        ),
        "odd-time": (
            described(folder, "odd-time", properties={"datetime": "last week"}),
            "Item 'odd-time' has no readable time: datetime is 'last week'.",
        ),
        "bandless": (bandless, "Item 'bandless' has no asset for the band 'red'."),
        "classless": (classless, "Item 'classless' has no scene classification."),
        "nowhere": (
            described(folder, "nowhere", properties={"proj:code": None}),
            "The asset 'B04' of item 'nowhere' has no projection.",
        ),
        "elsewhere": (
            described(folder, "elsewhere", properties={"proj:code": "EPSG:99999"}),
            "The asset 'B04' of item 'elsewhere' has the unknown projection 'EPSG:99999'.",
        ),
        "untold": (
            described(folder, "untold", tell_baseline=False),
            "Item 'untold' has no processing baseline, and declares no offset.",
        ),
        "toolbox": (
            described(folder, "toolbox", properties={"s2:processing_baseline": "99.99"}),
            "Item 'toolbox' was made with a toolbox (baseline 99.99), and declares no offset.",
        ),
        "placeless": (
            described(folder, "placeless") | {"geometry": None, "bbox": None},
            "Item 'placeless' has no readable geometry or bbox.",
        ),
        "bare": ({"type": "Feature", "id": "bare"}, "The feature 'bare' has no properties or no assets"),
        "private": (private, "Item 'private': The href 'http://10.0.0.1/B04.tif' leads to the private host '10.0.0.1'"),
        "twofold": (twofold, "Item 'twofold': The band 'red' fits several assets: one, other."),
    }


NAMES = ("timeless", "odd-time", "bandless", "classless", "nowhere", "elsewhere", "untold", "toolbox")
NAMES += ("placeless", "bare", "private", "twofold")


def asked(items: Path, *more: object) -> tuple[object, ...]:
    return (
        *("cloudless-mosaic", "--items", items, "--aoi", AOI, "--bands", "red", "--resolution", 10),
        *("--start-date", "2023-06-01", "--end-date", "2023-06-30", "--output-dir", "out", *more),
    )


def test_a_run_goes_on_without_them_and_names_them_everywhere(shell: Shell) -> None:
    odd = odd_ones(shell.cwd)
    assert tuple(odd) == NAMES
    lower = described(shell.cwd, "good", properties={"datetime": "2023-06-01t10:00:00z"})
    items = saved(shell.cwd, [*(item for item, _ in odd.values()), lower])

    def as_expected(told: list[dict[str, str]]) -> bool:
        found = {one["id"]: one["reason"] for one in told}
        return found.keys() == odd.keys() and all(found[name].startswith(why) for name, (_, why) in odd.items())

    plan = shell.call(*asked(items, "--dry-run", "--json"))
    assert plan.returncode == 0, plan.stderr
    planned = json.loads(plan.stdout)
    assert as_expected(planned["odd_items"]), planned["odd_items"]
    assert [unit["scenes"] for unit in planned["units"]] == [1]
    text = shell.call(*asked(items, "--dry-run")).stdout
    assert "12 odd items are set aside." in text
    assert sum(why in text for _, why in odd.values()) == 10
    assert "And 2 more." in text

    done = shell.run(*asked(items, "--json"))
    assert done.returncode == 0, done.stderr
    assert "12 odd items are set aside." in done.stderr
    assert "And 9 more." in done.stderr
    for told in (
        json.loads(done.stdout),
        read_json(shell.cwd / "out" / "run.json"),
        read_json(shell.cwd / "out" / "failures.json"),
    ):
        assert as_expected(told["odd_items"])
    name = "monthly-mosaic-2023-06"
    with rasterio.open(shell.cwd / "out" / name / f"{name}.tif") as file:
        pixels, (left, top) = file.read(1), (file.transform.c, file.transform.f)
    row, col = (int(n) for n in ((4_602_000 - top) / 10, (left - 500_000) / 10))
    seen = RED[row : row + pixels.shape[0], col : col + pixels.shape[1]]
    assert (pixels[pixels > 0] == seen[pixels > 0]).all()
    assert (pixels > 0).mean() > 0.9


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("bandless", "private", "twofold")])
def test_with_none_left_nothing_was_found(shell: Shell, name: str) -> None:
    item, why = odd_ones(shell.cwd)[name]
    other = described(shell.cwd, "of-another-month", properties={"datetime": "2021-06-01T00:00:00Z"})
    done = shell.call(*asked(saved(shell.cwd, [item, other])))
    assert done.returncode == 3
    assert error_of(done).startswith(f"No usable item is left. 1 odd item is set aside. {why}")
    assert "Expected " in error_of(done)
    assert "Try " in error_of(done)
    assert not (shell.cwd / "out").exists()


@pytest.mark.parametrize(("name", "code"), [("private", 3), ("twofold", 2)])
def test_where_all_are_refused_it_is_what_was_asked_for(shell: Shell, name: str, code: int) -> None:
    item, why = odd_ones(shell.cwd)[name]
    done = shell.call(*asked(saved(shell.cwd, [item])))
    assert done.returncode == code
    assert why.removeprefix(f"Item {name!r}: ") in error_of(done)


def test_a_band_that_no_item_has_is_a_wrong_name(shell: Shell) -> None:
    item, _ = odd_ones(shell.cwd)["bandless"]
    done = shell.call(*asked(saved(shell.cwd, [item])))
    assert done.returncode == 2
    assert "No item has reflectance in a band 'red'." in error_of(done)


@pytest.mark.parametrize("name", NAMES)
def test_one_is_enough_to_fail_if_asked(shell: Shell, name: str) -> None:
    item, why = odd_ones(shell.cwd)[name]
    items = saved(shell.cwd, [item, described(shell.cwd, "good")])
    done = shell.call(*asked(items, "--on-odd-item", "fail"))
    assert done.returncode == {"twofold": 2}.get(name, 3)
    assert why.removeprefix(f"Item {name!r}: ") in error_of(done)


def test_only_items_that_are_wanted_are_odd(shell: Shell) -> None:
    """Of another collection, too cloudy or elsewhere: no matter what else they lack."""
    timeless = {"datetime": None}
    others = [
        {**described(shell.cwd, "a", properties=timeless), "collection": "landsat"},
        described(shell.cwd, "b", properties={**timeless, "eo:cloud_cover": 99}),
        {**described(shell.cwd, "c", properties=timeless), "geometry": None, "bbox": [1, 1, 2, 2]},
    ]
    done = shell.call(*asked(saved(shell.cwd, [*others, described(shell.cwd, "good")]), "--dry-run", "--json"))
    assert json.loads(done.stdout)["odd_items"] == []
