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
    }


NAMES = ("timeless", "odd-time", "bandless", "classless", "nowhere", "elsewhere", "untold", "toolbox")


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
    expected = {(name, why) for name, (_, why) in odd.items()}

    plan = shell.call(*asked(items, "--dry-run", "--json"))
    assert plan.returncode == 0, plan.stderr
    planned = json.loads(plan.stdout)
    assert {(one["id"], one["reason"]) for one in planned["odd_items"]} == expected
    assert [unit["scenes"] for unit in planned["units"]] == [1]
    text = shell.call(*asked(items, "--dry-run")).stdout
    assert "8 odd items are set aside." in text
    assert all(why in text for _, why in expected)

    done = shell.run(*asked(items, "--json"))
    assert done.returncode == 0, done.stderr
    assert "8 odd items are set aside." in done.stderr
    assert "And 5 more." in done.stderr
    for told in (
        json.loads(done.stdout),
        read_json(shell.cwd / "out" / "run.json"),
        read_json(shell.cwd / "out" / "failures.json"),
    ):
        assert {(one["id"], one["reason"]) for one in told["odd_items"]} == expected
    name = "monthly-mosaic-2023-06"
    with rasterio.open(shell.cwd / "out" / name / f"{name}.tif") as file:
        pixels, (left, top) = file.read(1), (file.transform.c, file.transform.f)
    row, col = (int(n) for n in ((4_602_000 - top) / 10, (left - 500_000) / 10))
    seen = RED[row : row + pixels.shape[0], col : col + pixels.shape[1]]
    assert (pixels[pixels > 0] == seen[pixels > 0]).all()
    assert (pixels > 0).mean() > 0.9


@pytest.mark.parametrize("name", [name for name in NAMES if name != "bandless"])
def test_with_none_left_nothing_was_found(shell: Shell, name: str) -> None:
    item, why = odd_ones(shell.cwd)[name]
    other = described(shell.cwd, "of-another-month", properties={"datetime": "2021-06-01T00:00:00Z"})
    done = shell.call(*asked(saved(shell.cwd, [item, other])))
    assert done.returncode == 3
    assert error_of(done).startswith(f"No usable item is left. 1 odd item is set aside. {why} Expected ")
    assert "Try " in error_of(done)
    assert not (shell.cwd / "out").exists()


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
    assert done.returncode == 4
    assert why in error_of(done)


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
