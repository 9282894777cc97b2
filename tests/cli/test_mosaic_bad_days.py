"""Bad days of a source and of a catalogue: what passes leaves no trace in the pixels, what stays is named in time."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest
from tests.support.command_line import Done, Shell, clearest, error_of, make_shell, read_json

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

pytestmark = pytest.mark.long

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]
ASKED = ("--resolution", "200", "--bands", "red")


def pixels(output: Path) -> dict[str, bytes]:
    """The images of an output, finished or not."""
    return {path.name + path.parent.name: path.read_bytes() for path in output.glob("monthly-mosaic-*/*.tif")}


def asset(archive: Archive, month: str, band: str = "B04") -> str:
    """A part of the path of an asset that the mosaic of a month reads."""
    return f"{clearest(archive, month[-7:])['id']}/{band}"


@pytest.fixture(scope="module")
def good(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """What it should look like."""
    shell = make_shell(tmp_path_factory.mktemp("good"))
    with DemoServer(archive) as server:
        done = shell.mosaic("--stac", server.url, *ASKED)
    assert done.returncode == 0, done.stderr
    return pixels(shell.cwd / "monthly-mosaic")


@pytest.mark.parametrize("fault", ["slow:1", "429-then-ok:2", "truncate-then-ok:1", "corrupt-then-ok:1"])
def test_what_passes_leaves_no_trace(fault: str, shell: Shell, archive: Archive, good: dict[str, bytes]) -> None:
    faults = {asset(archive, month, band): fault for month in MONTHS for band in ("B04", "SCL")}
    with DemoServer(archive, faults=faults) as server:
        done = shell.mosaic("--stac", server.url, *ASKED)
    assert done.returncode == 0, done.stderr
    assert pixels(shell.cwd / "monthly-mosaic") == good
    assert read_json(shell.cwd / "monthly-mosaic" / "failures.json") == {"failures": [], "left_out": []}
    shell.assert_tidy()


def test_signatures_that_expire_in_the_middle_leave_no_trace(
    shell: Shell, archive: Archive, good: dict[str, bytes]
) -> None:
    with DemoServer(archive, sign=True, faults={"B04": "slow:0.2"}) as server:
        process = shell.start("cloudless-mosaic", "--stac", server.url, *ASKED)
        over = threading.Event()

        def expire() -> None:
            """Make all signatures worthless, five times, once somebody reads."""
            for _ in range(5):
                asked = len(server.stats.ranges)
                while len(server.stats.ranges) <= asked and not over.wait(0.01):
                    pass
                server.revoke_tokens()

        expiring = threading.Thread(target=expire)
        expiring.start()
        done = shell.wait(process)
        over.set()
        expiring.join()
    assert done.returncode == 0, done.stderr
    assert pixels(shell.cwd / "monthly-mosaic") == good


@pytest.fixture(scope="module")
def bad(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done, float]:
    """A run in which October is refused by a busy server, November hangs, and December is well."""
    shell = make_shell(tmp_path_factory.mktemp("bad"))
    faults = {asset(archive, MONTHS[0]): "429", asset(archive, MONTHS[1]): "hang:120"}
    with DemoServer(archive, faults=faults) as server:
        began = time.monotonic()
        done = shell.mosaic("--stac", server.url, *ASKED, "--retries", "1", "--retry-deadline", "2")
        return shell, done, time.monotonic() - began


def test_what_stays_is_named_in_time(bad: tuple[Shell, Done, float], archive: Archive) -> None:
    shell, done, seconds = bad
    assert done.returncode == 6
    assert error_of(done).startswith("2 of 3 units failed.")
    assert seconds < 90  # a minute and more is what GDAL alone would wait for one answer
    ledger = {
        entry["unit"]: entry for entry in read_json(shell.cwd / "monthly-mosaic.partial/failures.json")["failures"]
    }
    assert sorted(ledger) == MONTHS[:2]
    for month in MONTHS[:2]:
        assert (ledger[month]["item"], ledger[month]["asset"]) == (clearest(archive, month[-7:])["id"], "B04")
        assert 1 <= ledger[month]["attempts"] <= 2
    assert "the server answered 429" in ledger[MONTHS[0]]["reason"]
    shell.assert_tidy()


def test_what_is_well_is_kept_with_the_right_pixels(
    bad: tuple[Shell, Done, float], good: dict[str, bytes], archive: Archive
) -> None:
    shell, _, _ = bad
    kept = pixels(shell.cwd / "monthly-mosaic.partial")
    assert kept == {name: content for name, content in good.items() if MONTHS[2] in name}
    with DemoServer(archive) as server:
        again = shell.mosaic("--stac", server.url, *ASKED)
    assert again.returncode == 0, again.stderr
    assert pixels(shell.cwd / "monthly-mosaic") == good


def test_a_corrupt_file_is_never_a_picture(shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, faults={asset(archive, MONTHS[1]): "corrupt"}) as server:
        done = shell.mosaic("--stac", server.url, *ASKED, "--retries", "0")
    assert done.returncode == 6
    (entry,) = read_json(shell.cwd / "monthly-mosaic.partial" / "failures.json")["failures"]
    assert (entry["unit"], entry["asset"]) == (MONTHS[1], "B04")
    assert "a part of it can't be fetched or decoded" in entry["reason"]


@pytest.mark.parametrize("fault", ["429-then-ok:2", "503-then-ok:1", "slow:0.5"])
def test_a_catalogue_with_a_bad_moment_is_asked_again(fault: str, shell: Shell, archive: Archive) -> None:
    with DemoServer(archive, api_fault=fault, page_size=5) as server:
        done = shell.call("cloudless-mosaic", "--stac", server.url, *ASKED, "--dry-run")
    assert done.returncode == 0, done.stderr
    assert "3 units" in done.stdout
