"""What can't be done is said in one clear message with the right exit code, and nothing is written."""

from __future__ import annotations

import json
import os
import re
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import PUBLIC, Done, Shell, error_of, make_shell

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

GivenUp = Callable[[str], tuple[Shell, Done]]
ItemsFile = Callable[[Callable[[dict[str, Any]], object]], Path]


@pytest.fixture(scope="module", autouse=True)
def given_up(
    archive: Archive, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Callable[[str], tuple[Shell, Done]]]:
    """Commands that give up on a catalogue; they are patient, so they start now and are looked at last."""
    closed = socket.socket()
    closed.bind(("127.0.0.1", 0))  # and nobody listens
    with DemoServer(archive, api_fault="500") as broken:
        shells = {n: make_shell(tmp_path_factory.mktemp(n)) for n in ("down", "broken", "unknown")}
        urls = {
            "down": f"http://127.0.0.1:{closed.getsockname()[1]}/stac",
            "broken": broken.url,
            "unknown": "http://catalogue.invalid/stac",
        }
        running = {n: shells[n].start("cloudless-mosaic", "--stac", urls[n]) for n in shells}
        yield lambda name: (shells[name], shells[name].wait(running[name]))
        for process in running.values():
            process.kill()
            process.communicate()
    closed.close()


def refused(shell: Shell, *arguments: object, code: int, **options: Any) -> str:
    """Run, and return the message of a command that was refused and left no trace."""
    before = shell.files()
    done = shell.call("cloudless-mosaic", *arguments, **options)
    assert done.returncode == code, done.stderr
    assert shell.files() == before
    assert list(shell.tmp.iterdir()) == []
    return error_of(done)


def says_what_to_do(message: str) -> bool:
    """Tell whether a message says more than what happened: what was expected, or what to try."""
    return re.search(r"[.)] [A-Z/]", message) is not None


# ----------------------------------------------------------------------------------------------------
# Without contacting anything


SPECK = "POLYGON((12 41.55,12.0001 41.55,12 41.5501,12 41.55))"


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--start-date", "2020-12-31", "--end-date", "2020-10-01"], "Try 2020-10-01 to 2020-12-31."),
        (["--start-date", "2020-13-01"], "'2020-13-01'"),
        (["--start-date", "20201001"], "Try 2020-10-01"),
        (["--end-date", "yesterday"], "'yesterday'"),
        (["--start-date", "2998-01-01", "--end-date", "2999-02-01"], "2998-01-01 lies in the future"),
        (["--end-date", "2999-02-01"], "2999-02-01 lies in the future"),
        (["--start-date", "2001-01-01", "--end-date", "2001-02-01"], "2001-02-01"),
        (["--aoi", "47.5,-122.3,47.7,-121.9"], "Try -122.3,47.5,-121.9,47.7"),
        (["--aoi", "-122,89,-121,91"], "'-122,89,-121,91'"),
        (["--aoi", "-190,47,-181,48"], "'-190,47,-181,48'"),
        (["--aoi", "-122,47,-122,48"], "has no area"),
        (["--aoi", "-122,47,-121"], "has 3 numbers"),
        (["--aoi", ""], "is empty"),
        (["--aoi", "../empty.geojson"], "empty.geojson' is empty"),
        (["--aoi", "../broken.geojson"], "broken.geojson"),
        (["--aoi", "../point.geojson"], "only Point"),
        (["--aoi", "nowhere.geojson"], "'nowhere.geojson'"),
        (["--aoi", "../point.geojson|layerid=0"], "'|layerid=0' after the file '../point.geojson' isn't understood"),
        (["--aoi", "../point.geojson|layername=x"], "has no layer 'x'. Its layers are point"),
        (["--aoi", "CURVEPOLYGON(CIRCULARSTRING(0 0,1 1))"], "an odd number of points"),
        (["--aoi", SPECK], "At 100 metres the area holds no centre of a pixel."),
        (["--aoi", SPECK], "or --no-clip to keep its bounding box."),
        (["--crs", "EPSG:999999"], "'EPSG:999999'"),
        (["--collection", "landsat-9"], "'landsat-9'"),
        (["--resolution", "0"], "--resolution must be above 0 and finite, got 0."),
        (["--resolution", "-10"], "--resolution must be above 0 and finite, got -10."),
        (["--resolution", "0.001"], "looks like degrees"),
        (["--resolution", "100", "--crs", "EPSG:4326"], "100 degrees"),
        (["--max-cloud-cover", "101"], "--max-cloud-cover must be more than 0 and at most 100, got 101."),
    ],
    ids=lambda value: "_".join(value) if isinstance(value, list) else "",
)
def test_what_cannot_be_meant(arguments: list[str], says: str, shell: Shell) -> None:
    beside = shell.cwd.parent
    (beside / "empty.geojson").touch()
    (beside / "broken.geojson").write_text('{"type": "Polygon"')
    (beside / "point.geojson").write_text('{"type": "Point", "coordinates": [1, 2]}')
    message = refused(shell, "--stac", PUBLIC, *arguments, code=2)
    assert says in message
    assert says_what_to_do(message)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--resolution", "ten"], "'ten'"),
        (["--period", "daily"], "'daily'"),
        (["--sharpen"], "'--sharpen'"),
    ],
)
def test_what_the_parser_refuses(arguments: list[str], says: str, shell: Shell) -> None:
    assert says in refused(shell, *arguments, code=2)


# ----------------------------------------------------------------------------------------------------
# The output


def test_an_output_that_is_a_file(shell: Shell) -> None:
    (shell.cwd / "there").write_text("mine")
    assert "there exists and is a file" in refused(shell, "--output-dir", "there", code=2)
    assert (shell.cwd / "there").read_text() == "mine"
    assert "isn't a directory" in refused(shell, "--output-dir", "there/below", code=2)


def test_an_output_that_is_a_url(shell: Shell) -> None:
    """It was a local directory ``s3:``; see `test_params` for the other schemes."""
    for env in (None, {"EOAP_DASK_OUTPUT_DIR": "s3://bucket/mosaic"}):
        asked = () if env else ("--output-dir", "s3://bucket/mosaic")
        message = refused(shell, *asked, code=2, env=env)
        assert message.startswith("--output-dir must be a directory of this machine, got 's3://bucket/mosaic'.")
        assert says_what_to_do(message)
    assert shell.call("demo", "run", "--output-dir", "s3://bucket/demo").returncode == 2
    assert shell.files() == []


def test_an_output_that_is_not_ours(shell: Shell) -> None:
    (shell.cwd / "there").mkdir()
    (shell.cwd / "there" / "thesis.docx").touch()
    assert "there already exists and wasn't made by eoap-dask" in refused(shell, "--output-dir", "there", code=2)


def test_an_update_that_would_drop_months(asked: tuple[Shell, Done], calm: DemoServer) -> None:
    shell, _ = asked
    message = refused(shell, "--stac", calm.url, "--start-date", "2020-11-01", code=2)
    assert message == (
        "monthly-mosaic holds monthly-mosaic-2020-10, which this run wouldn't make. Nothing is dropped from a product "
        "unasked. Try --update to add to it, another --output-dir, or --no-resume to make the whole output anew, "
        "without it."
    )


def test_a_product_that_would_be_replaced_unasked(asked: tuple[Shell, Done], calm: DemoServer) -> None:
    """It was lost without a word; `test_earlier_products` holds the rest."""
    shell, _ = asked
    another = ("--stac", calm.url, "--resolution", "200", "--aoi", "-122.2,47.6,-122.0,47.7")
    for more in ((), ("--update",), ("--dry-run",)):
        assert refused(shell, *another, *more, code=2) == (
            "monthly-mosaic was made with other parameters: --aoi differs; --resolution was 100, is 200. A product is "
            "never replaced unasked. Try another --output-dir, or --overwrite to make its units with these."
        )
    assert "--overwrite can't be combined with --no-resume" in refused(
        shell, *another, "--overwrite", "--no-resume", code=2
    )


def test_an_output_that_cannot_be_written(shell: Shell, calm: DemoServer) -> None:
    # /proc refuses even those who may write everywhere
    assert "/proc/mosaic" in refused(shell, "--stac", calm.url, "--output-dir", "/proc/mosaic", code=2)
    if os.geteuid():
        shell.cwd.chmod(0o555)
        assert "isn't writable" in refused(shell, "--stac", calm.url, code=2)
        shell.cwd.chmod(0o755)


# ----------------------------------------------------------------------------------------------------
# The catalogue and its items


def test_a_band_that_no_item_has(shell: Shell, calm: DemoServer) -> None:
    message = refused(shell, "--stac", calm.url, "--bands", "ultraviolet", code=2)
    assert "'ultraviolet'" in message
    assert "blue (B02), green (B03), red (B04), nir (B08)" in message


def test_a_collection_that_the_catalogue_lacks(shell: Shell, calm: DemoServer) -> None:
    message = refused(shell, "--stac", calm.url, "--collection", "sentinel-2-c1-l2a", code=2)
    assert "'sentinel-2-c1-l2a'" in message
    assert "Try --collection sentinel-2-l2a" in message


def test_a_catalogue_that_answers_with_a_web_page(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, api_fault="html") as server:
        message = refused(shell, "--stac", server.url, code=4)
    assert server.url in message
    assert "a web page instead of JSON" in message


def test_nothing_found_tells_the_lowest_cloud_cover(shell: Shell, calm: DemoServer) -> None:
    message = refused(
        shell,
        *("--stac", calm.url, "--start-date", "2020-11-01", "--end-date", "2020-11-30", "--max-cloud-cover", "1"),
        code=3,
    )
    assert "sentinel-2-l2a from 2020-11-01 to 2020-11-30" in message
    assert "Lowest cloud cover seen: 8.33 %. Try --max-cloud-cover 10." in message


def test_nothing_found_anywhere_near(shell: Shell, calm: DemoServer) -> None:
    assert "over 10,45,10.1,45.1" in refused(shell, "--stac", calm.url, "--aoi", "10,45,10.1,45.1", code=3)


def test_nothing_found_in_a_file_of_items(shell: Shell, calm: DemoServer, items_file: ItemsFile) -> None:
    path = items_file(lambda item: None)
    message = refused(shell, "--stac", calm.url, "--items", path, "--max-cloud-cover", "0.05", code=3)
    assert "Lowest cloud cover seen: 0.137 %" in message


def _without_projection(item: dict[str, Any]) -> None:
    for place in (item["properties"], *item["assets"].values()):
        for name in [n for n in place if n.startswith("proj:")]:
            del place[name]


def _without_nir(item: dict[str, Any]) -> None:
    if "T10TET" in item["id"]:
        del item["assets"]["B08"]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (_without_projection, "has no projection"),
        (_without_nir, "has no asset for the band 'nir'"),
        (lambda item: item["assets"].pop("SCL"), "Try --cloud-mask none"),
        (lambda item: item["assets"]["B08"].update({"proj:shape": [10**9, 10**9]}), "1000000000 × 1000000000"),
    ],
)
def test_items_that_cannot_be_read(
    change: Callable[[dict[str, Any]], object], says: str, shell: Shell, calm: DemoServer, items_file: ItemsFile
) -> None:
    arguments = ("--stac", calm.url, "--items", items_file(change))
    message = refused(shell, *arguments, "--on-odd-item", "fail", code=3)
    assert says in message
    assert "'S2A_MSIL2A_20201004T190321_R113_T10TET_" in message
    assert says_what_to_do(message)
    if change is not _without_nir:  # the other tile's have it
        message = refused(shell, *arguments, code=3)
        assert says in message
        assert says_what_to_do(message)


@pytest.mark.parametrize(
    ("href", "says"),
    [
        ("file:///etc/passwd", "'/etc/passwd' is a path"),
        ("/vsicurl/https://example.com/B08.tif", "virtual file systems"),
        ("https://example.com/a/../../B08.tif", "climbs"),
        ("http://169.254.169.254/latest/meta-data/B08.tif", "link-local"),
        ("http://10.1.2.3/B08.tif", "'10.1.2.3'"),
        ("http://127.0.0.1:8080/B08.tif", "'127.0.0.1'"),
        ("http://2130706433/B08.tif", "'127.0.0.1'"),
        ("http://localhost/B08.tif", "'localhost'"),
        ("https://user:canary@example.com/B08.tif", "user name or password"),
    ],
)
def test_hrefs_that_lead_astray(href: str, says: str, shell: Shell, items_file: ItemsFile) -> None:
    path = items_file(lambda item: item["assets"]["B08"].update(href=href))
    message = refused(shell, "--stac", PUBLIC, "--items", path, code=3)
    assert says in message
    assert "canary" not in message
    assert says_what_to_do(message)


@pytest.mark.parametrize("href", ["http://169.254.169.254/B08.tif", "http://10.1.2.3/B08.tif"])
def test_a_private_catalogue_may_lead_to_itself_alone(
    href: str, shell: Shell, calm: DemoServer, items_file: ItemsFile
) -> None:
    path = items_file(lambda item: item["assets"]["B08"].update(href=href))
    assert repr(href) in refused(shell, "--stac", calm.url, "--items", path, code=3)


def test_items_do_not_say_themselves_whom_to_trust(shell: Shell, items_file: ItemsFile) -> None:
    path = items_file(lambda item: None)
    assert json.loads(path.read_text())["eoap:stac"].startswith("http://127.0.0.1")
    assert "the private host '127.0.0.1'" in refused(shell, "--stac", PUBLIC, "--items", path, code=3)


def test_no_signature_to_be_had(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, sign=True, faults={"/token": "403"}) as server:
        message = refused(shell, "--stac", server.url, code=4)
        assert server.stats.ranges == {}
    assert f"{server.origin}/token" in message
    assert "403" in message


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("unknown", "catalogue.invalid can't be resolved"),
        ("down", "the connection was refused"),
        ("broken", "answered 500"),
    ],
)
def test_a_catalogue_that_is_given_up_on(name: str, says: str, given_up: GivenUp) -> None:
    shell, done = given_up(name)
    assert done.returncode == 4
    message = error_of(done)
    assert says in message
    assert says_what_to_do(message)
    assert shell.files() == []
    shell.assert_tidy()
