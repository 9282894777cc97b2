"""What ``bai`` can't do is said in one clear message with the right exit code, and nothing is left behind."""

from __future__ import annotations

import json
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.request import urlopen

import numpy as np
import pytest
import rasterio
from pyproj import Transformer
from scipy import ndimage
from tests.support.command_line import PUBLIC, Shell, error_of, make_shell

from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.demo.server import DemoServer
from eoap_dask.params import declarations

Item = dict[str, Any]
Written = Callable[..., tuple[str, str]]


def refused(shell: Shell, *arguments: object, code: int) -> str:
    """Run, and return the message of a command that was refused and left no trace."""
    before = shell.files()
    done = shell.call("bai", *arguments)
    assert done.returncode == code, done.stderr
    assert shell.files() == before
    shell.assert_tidy()
    return error_of(done)


def pair(before: object, after: object, *more: object) -> tuple[object, ...]:
    return ("--pre-fire-url", before, "--post-fire-url", after, *more)


@pytest.fixture(scope="module")
def items(fire: Any) -> tuple[Item, Item]:
    """The items before and after, as the API gives them."""
    found = []
    for url in fire.urls:
        with urlopen(url) as answer:  # noqa: S310 - loopback
            found.append(json.load(answer))
    return found[0], found[1]


@pytest.fixture
def written(items: tuple[Item, Item], fire: Any, shell: Shell) -> Written:
    """Write both items into files beside the working directory, changed; and say where they may lead."""

    def write(change: Callable[[Item, Item], object]) -> tuple[object, ...]:
        before, after = json.loads(json.dumps(items))
        change(before, after)
        paths = []
        for name, item in (("before", before), ("after", after)):
            paths.append(shell.cwd.parent / f"{name}.json")
            paths[-1].write_text(json.dumps(item))
        return pair(*paths, "--stac", fire.server.url)

    return write


# ----------------------------------------------------------------------------------------------------
# Without contacting anything

EXAMPLE = f"{PUBLIC}/collections/c/items/a"


@pytest.mark.parametrize(
    ("arguments", "says", "hint"),
    [
        (["--pre-fire-url", EXAMPLE], "--post-fire-url is missing", "Name the scene after the fire as well"),
        (["--post_fire_url", EXAMPLE], "--pre-fire-url is missing", "Name the scene before the fire as well"),
        (
            ["--threshold", "0.1"],
            "--threshold must be six rising numbers of dNBR, got 0.1",
            "or try --threshold -0.25 --threshold -0.1 ",
        ),
        (
            [part for t in (-0.25, -0.1, 0.27, 0.1, 0.44, 0.66) for part in ("--threshold", t)],
            "got -0.25, -0.1, 0.27, 0.1, 0.44, 0.66.",
            "six rising numbers of dNBR",
        ),
        (["--pre-date", "2021-08-12", "--post-date", "2021-07-13"], "2021-08-12, isn't before", "Swap"),
        (["--pre-date", "2021-07-13", "--post-date", "2021-07-13"], "2021-07-13, isn't before", "Swap"),
        (["--pre-date", "13.7.2021"], "'13.7.2021'", ""),
        (["--window-days", "-1"], "--window-days must be 0 or more, got -1.", "Try --window-days 20"),
        (["--min-area-ha", "-3"], "--min-area-ha must be a finite number of 0 or more, got -3.", "Try --min-area-ha 1"),
        (
            ["--min-area-ha", "inf"],
            "--min-area-ha must be a finite number of 0 or more, got inf.",
            "Try --min-area-ha 1",
        ),
        (["--crs", "EPSG:4326", "--resolution", "0.0001"], "Areas in EPSG:4326 can't be measured", "Try --crs auto"),
        (["--crs", "EPSG:99999"], "The CRS 'EPSG:99999' isn't known.", "Try --crs auto"),
        (["--crs", "EPSG:3857"], "Areas in EPSG:3857 are off by 71 % there", "Try --crs auto"),
        (["--aoi", "40.02,-121.23,40.16,-121.05"], "Try -121.23,40.02,-121.05,40.16", ""),
        (["--aoi", "nowhere.geojson"], "'nowhere.geojson'", ""),
        (["--resolution", "0"], "--resolution must be above 0 and finite, got 0.", ""),
    ],
    ids=lambda value: "_".join(map(str, value))[:40] if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(arguments: list[object], says: str, hint: str, shell: Shell) -> None:
    message = refused(shell, "--stac", PUBLIC, *arguments, code=2)
    assert says in message
    assert hint in message


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--stac", PUBLIC], "--stac can't be combined with --pre-fire-url and --post-fire-url"),
        (
            ["--max-cloud-cover", "20", "--filter", "true"],
            "--max-cloud-cover and --filter can't be combined with --pre-fire-url",
        ),
        (
            ["--pre-date", "2021-07-01", "--window-days", "5", "--items", "items.json", "--stac", PUBLIC],
            "--pre-date, --window-days, --items and --stac can't be combined with --pre-fire-url",
        ),
        (
            ["--post-date", "2021-08-13", "--max-items", "5"],
            "--post-date and --max-items can't be combined with --pre-fire-url",
        ),
    ],
)
def test_a_search_beside_named_items(arguments: list[str], says: str, shell: Shell) -> None:
    message = refused(shell, *pair(EXAMPLE, EXAMPLE), *arguments, code=2)
    assert says in message
    assert "nothing is searched" in message


def test_a_collection_beside_items_that_say_theirs(fire: Any, shell: Shell) -> None:
    message = refused(shell, *pair(*fire.urls, "--collection", "sentinel-2-c1-l2a"), code=2)
    assert "--collection can't be combined with --pre-fire-url" in message


def test_defaults_beside_named_items_are_nobodys_wish(fire: Any, shell: Shell) -> None:
    """As a CWL tool passes them, which knows no option that isn't given."""
    spoken = [
        part
        for name, (field, declared) in declarations(BurnedAreaParams).items()
        if not (declared.negative or declared.multiple or field.default in (None, "") or name in {"resolution", "crs"})
        for part in (f"--{name.replace('_', '-')}", field.default)
    ]
    assert "--max-cloud-cover" in spoken
    done = shell.call("bai", *pair(*fire.urls), *spoken, "--dry-run")
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------
# Two scenes that can't be compared


def test_swapped(fire: Any, shell: Shell) -> None:
    message = refused(shell, *pair(*reversed(fire.urls)), code=2)
    assert "of 2021-08-12 19:03, isn't older than the one after it" in message
    assert "Swap the two" in message


def test_the_same_item_twice(fire: Any, shell: Shell, items: tuple[Item, Item]) -> None:
    message = refused(shell, *pair(fire.urls[0], fire.urls[0]), code=2)
    assert f"The item {items[0]['id']!r} is named as the scene before the fire and as that after it" in message


def test_two_products_of_one_pass(shell: Shell, written: Written) -> None:
    """The same view, processed twice: another id, and a second later by its item."""

    def change(before: Item, after: Item) -> None:
        after.update(json.loads(json.dumps(before)))
        after["id"] = before["id"].replace("20210717T214656", "20230101T000000")
        after["properties"]["datetime"] = "2021-07-13T19:03:26Z"

    message = refused(shell, *written(change), code=2)
    assert "are of 1 pass of the satellite" in message
    assert "Name items of two dates" in message


def test_an_item_that_is_moved_away_is_put_right_by_its_files(shell: Shell, written: Written) -> None:
    """The two would share no ground; see also tests/applications/bai/test_pair.py."""

    def change(before: Item, after: Item) -> None:
        for asset in after["assets"].values():
            if "proj:transform" in asset:
                asset["proj:transform"][2] += 200_000

    done = shell.call("bai", *written(change), "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "4 assets put right by the files" in done.stdout
    assert "lies elsewhere than the grid that it tells" in done.stderr


def test_an_area_beside_the_scenes(fire: Any, shell: Shell, items: tuple[Item, Item]) -> None:
    message = refused(shell, *pair(*fire.urls, "--aoi", "-121.5,47.6,-121.4,47.7"), code=2)
    assert f"The scene {items[0]['id']} of 2021-07-13 doesn't touch the area" in message
    assert "Check --aoi" in message


def test_an_item_without_short_wave_infrared(shell: Shell, written: Written, items: tuple[Item, Item]) -> None:
    arguments = written(lambda before, after: after["assets"].pop("B12"))
    for more, code in ((), 3), (("--on-odd-item", "fail"), 3):
        message = refused(shell, *arguments, *more, code=code)
        assert f"Item {items[1]['id']!r} has no asset for the band 'swir22'" in message


def test_items_without_short_wave_infrared(shell: Shell, written: Written) -> None:
    message = refused(shell, *written(lambda *both: [one["assets"].pop("B12") for one in both]), code=2)
    assert "No item has reflectance in a band 'swir22'" in message


def test_an_item_without_a_scene_classification(shell: Shell, written: Written, items: tuple[Item, Item]) -> None:
    message = refused(shell, *written(lambda before, after: before["assets"].pop("SCL")), code=3)
    assert f"Item {items[0]['id']!r} has no scene classification" in message
    assert "--cloud-mask" not in message  # which bai hasn't


@pytest.mark.long
def test_another_instrument(shell: Shell, written: Written, fire: Any) -> None:
    arguments = written(lambda before, after: after["properties"].update(instruments=["oli", "tirs"]))
    message = refused(shell, *arguments, code=2)
    assert "The scenes are of different sensors: sentinel-2 msi and sentinel-2 oli tirs" in message
    assert "Try --force" in message
    done = shell.run("bai", *arguments, "--force", "--resolution", "60")
    assert done.returncode == 0, done.stderr


def test_a_collection_that_is_not_known(shell: Shell, written: Written) -> None:
    message = refused(shell, *written(lambda before, after: after.update(collection="landsat-c2-l2")), code=2)
    assert "The collection 'landsat-c2-l2' isn't supported" in message


@pytest.mark.long
def test_an_item_of_no_collection(shell: Shell, written: Written) -> None:
    """As saved by a tool that leaves it out: it is taken for one of --collection."""
    arguments = written(lambda before, after: after.pop("collection"))
    done = shell.run("bai", *arguments, "--resolution", "60")
    assert done.returncode == 0, done.stderr


# ----------------------------------------------------------------------------------------------------
# Nothing to be seen


@pytest.mark.long
def test_nothing_that_both_see(fire: Any, shell: Shell) -> None:
    """An area on the lake: water in both scenes."""
    with rasterio.open(fire.archive.root / fire.archive.fire_pair()[0]["assets"]["SCL"]["href"]) as dataset:
        # how far each pixel of water is from all else: the middle of the largest square
        reach = ndimage.distance_transform_cdt(dataset.read(1) == 6, "chessboard")
        row, col = np.unravel_index(reach.argmax(), reach.shape)
        side = int(reach[row, col]) - 2
        assert side >= 2
        left, top = dataset.transform * (col - side, row - side)
        right, bottom = dataset.transform * (col + 1 + side, row + 1 + side)
    box = Transformer.from_crs(32610, 4326, always_xy=True).transform_bounds(left, bottom, right, top)
    message = refused_late(shell, *pair(*fire.urls, "--aoi", ",".join(f"{edge:.7f}" for edge in box)), code=3)
    assert "The scenes of 2021-07-13 and 2021-08-12 have no clear pixel in common over the area" in message
    assert "Try other dates or items, or a larger --aoi" in message


def refused_late(shell: Shell, *arguments: object, code: int) -> str:
    """Run, and return the message of a command that gave up when it had read something."""
    done = shell.run("bai", *arguments)
    assert done.returncode == code, done.stderr
    assert not (shell.cwd / "burned-area").exists()
    assert not list(shell.cwd.rglob("*.tif"))
    shell.assert_tidy()
    return error_of(done)


# ----------------------------------------------------------------------------------------------------
# Assets that can't be read


@pytest.mark.long
def test_an_asset_that_is_not_there_is_named(fire: Any, shell: Shell, items: tuple[Item, Item]) -> None:
    with DemoServer(fire.archive, faults={f"{items[1]['id']}/B12": "404"}) as server:
        urls = [server.item_url(item["id"]) for item in items]
        message = refused_late(shell, *pair(*urls, "--retries", "0"), code=6)
        assert "1 of 1 unit failed" in message
        assert f"'B12' of item {items[1]['id']!r}" in message
        assert "404" in message
        assert "--max-bad-scenes" not in message  # a pair can't do without
        # there is nothing to compare without it, so that it can't be left out
        again = refused_late(shell, *pair(*urls, "--retries", "0", "--max-bad-scenes", "1"), code=6)
        assert "'B12' of item" in again


# ----------------------------------------------------------------------------------------------------
# URLs that lead elsewhere


@pytest.mark.parametrize(
    ("path", "says"),
    [
        ("", "is a STAC catalog, not an item"),
        ("/collections/sentinel-2-l2a", "is a STAC collection, not an item"),
        ("/collections/sentinel-2-l2a/items", "is a list of items, not an item"),
        ("/collections/sentinel-2-l2a/items/S2B_NOWHERE", "404"),
    ],
)
def test_urls_of_something_else(path: str, says: str, fire: Any, shell: Shell) -> None:
    url = fire.server.url + path
    message = refused(shell, *pair(url, fire.urls[1]), code=4)
    assert url in message
    assert says in message


def test_a_web_page(fire: Any, shell: Shell) -> None:
    with DemoServer(fire.archive, api_fault="html") as server:
        message = refused(shell, *pair(server.item_url("x"), fire.urls[1]), code=4)
    assert "a web page instead of JSON" in message


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("nowhere.json", "'nowhere.json'"),
        ("ftp://example.org/item.json", "'ftp://example.org/item.json'"),
        ("https:///item.json", "https:///item.json"),
    ],
)
def test_what_is_no_address(source: str, says: str, fire: Any, shell: Shell) -> None:
    message = refused(shell, *pair(source, fire.urls[1]), code=2)
    assert says in message
    assert "--pre-fire-url" in message or "file" in message


def test_a_file_with_both_items(fire: Any, shell: Shell, items: tuple[Item, Item]) -> None:
    path = Path(shell.cwd.parent / "both.json")
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(items)}))
    assert "has 2 items" in refused(shell, *pair(path, fire.urls[1]), code=2)


def test_items_in_a_file_lead_to_this_machine_only_when_it_is_named(fire: Any, shell: Shell, written: Written) -> None:
    """A file is nobody's word that one may read from 127.0.0.1."""
    arguments = written(lambda before, after: None)
    message = refused(shell, *arguments[:-2], code=3)
    assert "127.0.0.1" in message


@pytest.mark.long
def test_nobody_there(fire: Any, tmp_path_factory: pytest.TempPathFactory) -> None:
    shell = make_shell(tmp_path_factory.mktemp("nobody"))
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{closed.getsockname()[1]}/stac/collections/c/items/i"
        message = refused(shell, *pair(url, fire.urls[1]), code=4)
    assert url.split("/stac")[0] in message
