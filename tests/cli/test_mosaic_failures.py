"""Assets that go wrong: named, retried, recorded, and never half of a product. And no secret gets out."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import Done, Shell, clearest, error_of, make_shell, read_json

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]


def faults_of(archive: Archive, *faults: str) -> dict[str, str]:
    """Return faults of one asset of each month."""
    months = [name[-7:] for name in MONTHS]
    return {f"{clearest(archive, m)['id']}/B08": fault for m, fault in zip(months, faults, strict=False) if fault}


# ----------------------------------------------------------------------------------------------------
# One month that can't be made


@pytest.fixture(scope="module")
def one_bad(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done, Done]:
    """A run in which an asset of November isn't there, and the same where one failure is allowed."""
    shell = make_shell(tmp_path_factory.mktemp("one-bad"))
    with DemoServer(archive, faults=faults_of(archive, "", "404")) as server:
        failed = shell.mosaic("--stac", server.url)
        allowed = shell.mosaic("--stac", server.url, "--max-failures", "1", "--json", "--output-dir", "allowed")
    return shell, failed, allowed


def test_a_month_that_fails_fails_the_run(one_bad: tuple[Shell, Done, Done], archive: Archive) -> None:
    shell, failed, _ = one_bad
    assert failed.returncode == 6
    message = error_of(failed)
    assert message.startswith("1 of 3 units failed.")
    bad = clearest(archive, "2020-11")["id"]
    for part in (MONTHS[1], f"'B08' of item '{bad}'", "3 attempts", "404", "failures.json", "monthly-mosaic.partial"):
        assert part in message
    assert "Or try --max-bad-scenes 1: a unit then does without so many scenes that stay bad." in message
    # it is said when it happens, too, but isn't called an error: it might be allowed
    assert f"Warning: {MONTHS[1]} failed. " in failed.stderr
    assert not (shell.cwd / "monthly-mosaic").exists()
    shell.assert_tidy()


def test_the_ledger_names_what_was_wrong(one_bad: tuple[Shell, Done, Done], archive: Archive) -> None:
    (entry,) = read_json(one_bad[0].cwd / "monthly-mosaic.partial" / "failures.json")["failures"]
    bad = clearest(archive, "2020-11")["id"]
    assert re.fullmatch(rf"http://127\.0\.0\.1:\d+/files/{bad}/B08\.tif", entry.pop("href"))
    assert "404" in entry.pop("reason")
    assert entry == {"unit": MONTHS[1], "item": bad, "asset": "B08", "attempts": 3}


def test_finished_months_are_kept(one_bad: tuple[Shell, Done, Done]) -> None:
    partial = one_bad[0].cwd / "monthly-mosaic.partial"
    for month in (MONTHS[0], MONTHS[2]):
        assert read_json(partial / month / f"{month}.json")["id"] == month
    assert not (partial / MONTHS[1]).exists()
    assert not (partial / "catalog.json").exists()
    done = {name: unit["done"] for name, unit in read_json(partial / "run.json")["units"].items()}
    assert done == {MONTHS[0]: True, MONTHS[1]: False, MONTHS[2]: True}


@pytest.mark.long
def test_a_failure_that_is_allowed(one_bad: tuple[Shell, Done, Done]) -> None:
    shell, _, allowed = one_bad
    assert allowed.returncode == 0, allowed.stderr
    assert f"Warning: {MONTHS[1]} failed. " in allowed.stderr
    assert "Error" not in allowed.stderr
    output = shell.cwd / "allowed"
    links = [link["href"] for link in read_json(output / "catalog.json")["links"] if link["rel"] == "item"]
    assert links == [f"./{month}/{month}.json" for month in (MONTHS[0], MONTHS[2])]
    assert not (output / MONTHS[1]).exists()
    result = json.loads(allowed.stdout)
    assert [item["id"] for item in result["items"]] == [MONTHS[0], MONTHS[2]]
    assert result["failures"] == read_json(output / "failures.json")["failures"]
    assert [entry["unit"] for entry in result["failures"]] == [MONTHS[1]]


# ----------------------------------------------------------------------------------------------------
# All that can be wrong with a file

FAULTS = {
    "403": "the server answered 403",
    "500": "the server answered 500",
    "truncate": "a part of it can't be fetched or decoded",
    "short-file": "a part of it can't be fetched or decoded",
    "not-tiff": "it isn't a raster file",
    "html": "it isn't a raster file (an error page, perhaps)",
}


@pytest.fixture(scope="module")
def all_bad(archive: Archive, tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Shell, Done]]:
    """Runs in which each month has a fault of its own."""
    found = {}
    kinds = list(FAULTS)
    for three in (kinds[:3], kinds[3:]):
        shell = make_shell(tmp_path_factory.mktemp("bad"))
        with DemoServer(archive, faults=faults_of(archive, *three)) as server:
            done = shell.mosaic("--stac", server.url, "--max-failures", "3")
        found |= dict.fromkeys(three, (shell, done))
    return found


@pytest.mark.long
@pytest.mark.parametrize("fault", FAULTS)
def test_each_kind_of_bad_file_is_told(fault: str, all_bad: dict[str, tuple[Shell, Done]], archive: Archive) -> None:
    shell, done = all_bad[fault]
    # more were allowed than there are, but a product without anything in it isn't one
    assert done.returncode == 6
    assert error_of(done).startswith("3 of 3 units failed.")
    ledger = {f["unit"]: f for f in read_json(shell.cwd / "monthly-mosaic.partial" / "failures.json")["failures"]}
    assert sorted(ledger) == MONTHS
    entry = ledger[MONTHS[list(FAULTS).index(fault) % 3]]
    assert FAULTS[fault] in entry["reason"]
    assert entry["reason"].endswith(".")
    assert (entry["item"], entry["asset"]) == (clearest(archive, entry["unit"][-7:])["id"], "B08")
    assert entry["attempts"] == 3
    assert shell.files()[0] == "monthly-mosaic.partial"
    shell.assert_tidy()


@pytest.mark.long
def test_a_file_that_is_not_what_its_item_says(
    shell: Shell, calm: DemoServer, items_file: Callable[[Callable[[dict[str, Any]], object]], Path]
) -> None:
    path = items_file(lambda item: item["assets"]["B08"].update({"proj:shape": [100, 100]}))
    done = shell.mosaic("--stac", calm.url, "--items", path)
    assert done.returncode == 6
    assert "'B08' of item" in error_of(done)
    assert "has 512 × 512 pixels, but its item says 100 × 100" in error_of(done)


@pytest.mark.long
def test_faults_that_pass_are_recovered_from(shell: Shell, archive: Archive) -> None:
    faults = faults_of(archive, "403-then-ok:1", "truncate-then-ok:1", "503-then-ok:2") | {"SCL": "500-then-ok:1"}
    with DemoServer(archive, faults=faults) as server:
        done = shell.mosaic("--stac", server.url)
    assert done.returncode == 0, done.stderr
    assert "Warning" not in done.stderr
    assert read_json(shell.cwd / "monthly-mosaic" / "failures.json") == {"failures": [], "left_out": []}


@pytest.mark.long
def test_the_same_command_again_when_the_source_is_well(one_bad: tuple[Shell, Done, Done], calm: DemoServer) -> None:
    shell, _, _ = one_bad
    done = shell.mosaic("--stac", calm.url)
    assert done.returncode == 0, done.stderr
    assert not (shell.cwd / "monthly-mosaic.partial").exists()
    assert read_json(shell.cwd / "monthly-mosaic" / "failures.json") == {"failures": [], "left_out": []}
    shell.assert_tidy()


# ----------------------------------------------------------------------------------------------------
# Secrets


class Canary(DemoServer):
    """A server that asks for signatures, and remembers those it gave out."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, sign=True, **options)
        self.secrets: list[str] = []

    def make_token(self) -> tuple[str, datetime]:
        """Issue a token."""
        token, expires = super().make_token()
        self.secrets += [token, token.partition("-")[2]]
        return token, expires


def assert_no_secret(server: Canary, shell: Shell, done: Done) -> None:
    """Look for signatures in everything that a command said or wrote."""
    assert server.secrets
    places = {"stdout": done.stdout.encode(), "stderr": done.stderr.encode()}
    places |= {str(path): path.read_bytes() for path in shell.cwd.rglob("*") if path.is_file()}
    for place, content in places.items():
        for secret in ("sig=", "sig%3", *server.secrets):
            assert secret.encode() not in content, (place, secret)


@pytest.mark.long
def test_no_secret_gets_out_of_a_run(shell: Shell, archive: Archive) -> None:
    with Canary(archive) as server:
        done = shell.mosaic("--stac", server.url, "-vv", "--json")
        assert done.returncode == 0, done.stderr
        assert server.stats.ranges
        assert_no_secret(server, shell, done)
    # so that a replay signs anew
    assert read_json(shell.cwd / "monthly-mosaic" / "items.json")["eoap:signing"]["kind"] == "token"


@pytest.mark.long
def test_no_secret_gets_out_of_a_failure(shell: Shell, archive: Archive) -> None:
    with Canary(archive, faults=faults_of(archive, "403", "truncate", "not-tiff")) as server:
        done = shell.mosaic("--stac", server.url, "-v")
        assert done.returncode == 6
        assert "Traceback" in done.stderr
        assert (shell.cwd / "monthly-mosaic.partial" / "failures.json").is_file()
        assert_no_secret(server, shell, done)


@pytest.mark.long
def test_tokens_that_expire_in_the_middle(shell: Shell, archive: Archive) -> None:
    with Canary(archive, faults={"/B03": "slow:0.4"}) as server:
        process = shell.start("cloudless-mosaic", "--stac", server.url, "-v")
        while not server.stats.ranges:
            assert process.poll() is None
            time.sleep(0.01)
        before = len(server.secrets)
        server.revoke_tokens()
        late = threading.Timer(1.0, server.revoke_tokens)
        late.start()
        done = shell.wait(process)
        late.join()
        assert done.returncode == 0, done.stderr
        assert len(server.secrets) > before
        assert_no_secret(server, shell, done)


@pytest.mark.long
def test_tokens_that_are_soon_over(shell: Shell, archive: Archive) -> None:
    with Canary(archive, token_lifetime_s=1.0, latency_s=0.02) as server:
        done = shell.mosaic("--stac", server.url)
        assert done.returncode == 0, done.stderr
        assert_no_secret(server, shell, done)
