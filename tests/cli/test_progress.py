"""Progress: a bar on a terminal, a line now and then elsewhere, nothing when quiet."""

from __future__ import annotations

import os
import pty
import re
import select
import time
from collections.abc import Iterator

import pytest
from loguru import logger
from tests.support.command_line import Shell

from eoap_dask.cli import progress as module
from eoap_dask.cli.progress import Progress
from eoap_dask.demo.server import DemoServer
from eoap_dask.run.events import Event


@pytest.fixture
def said() -> Iterator[list[str]]:
    """The log lines of a test."""
    lines: list[str] = []
    handler = logger.add(lambda message: lines.append(str(message).rstrip()), format="{level}: {message}", level=0)
    logger.enable("eoap_dask")
    yield lines
    logger.disable("eoap_dask")
    logger.remove(handler)


def on_terminal(shell: Shell, *arguments: object) -> tuple[int, str, str]:
    """Run a command with its stderr on a terminal; return exit code, stdout and what the terminal got."""
    ours, theirs = pty.openpty()
    try:
        process = shell.start(*arguments, stderr=theirs)
    finally:
        os.close(theirs)
    got, end = b"", time.monotonic() + 60
    while time.monotonic() < end:
        if select.select([ours], [], [], 0.1)[0]:
            try:
                part = os.read(ours, 65536)
            except OSError:  # how Linux says that the other side is closed
                break
            if not part:
                break
            got += part
    os.close(ours)
    done = shell.wait(process)
    return done.returncode, done.stdout, got.decode()


def test_a_bar_on_a_terminal(shell: Shell, calm: DemoServer) -> None:
    code, out, terminal = on_terminal(shell, "cloudless-mosaic", "--stac", calm.url)
    assert code == 0, terminal
    assert out == f"{shell.cwd / 'monthly-mosaic' / 'catalog.json'}\n"
    bars = re.findall(r"blocks +\[[#-]+\] +(\d)/3", terminal)
    assert {int(number) for number in bars} == {0, 1, 2, 3}
    assert "\x1b[?25h\r\n" in terminal  # the cursor is shown again, before the summary


def test_no_bar_when_quiet(shell: Shell, calm: DemoServer) -> None:
    code, out, terminal = on_terminal(shell, "cloudless-mosaic", "--stac", calm.url, "-q", "--resolution", "400")
    assert (code, terminal) == (0, "")
    assert out


def blocks(number: int) -> Iterator[Event]:
    """The events of a run of one unit."""
    yield Event("run", blocks_total=number, message=f"1 unit, {number} blocks")
    yield Event("todo", blocks_total=number, message=f"1 unit, {number} blocks to do")
    yield Event("unit-started", "one", 0, number, "3 scenes")
    for done in range(1, number + 1):
        yield Event("block-done", "one", done, number)
    yield Event("unit-done", "one", number, number)


def test_a_line_now_and_then(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter(range(0, 1000, 10))  # each look at it takes ten seconds
    monkeypatch.setattr(module.time, "monotonic", lambda: float(next(clock)))
    monkeypatch.setattr(module, "EVERY_S", 30.0)
    with Progress() as progress:
        for event in blocks(12):
            progress(event)
    lines = [line for line in said if "blocks done" in line]
    assert 1 < len(lines) < 6
    assert all(re.fullmatch(r"INFO: \d+ of 12 blocks done(, about \d+ s left)?", line) for line in lines)
    assert [("left" in line) for line in lines] == [int(line.split()[1]) >= module.FEWEST for line in lines]


def test_a_short_run_says_only_what_it_does(said: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with Progress() as progress:
        for event in blocks(12):
            progress(event)
    assert [line for line in said if line.startswith("INFO")] == ["INFO: 1 unit, 12 blocks to do"]
    assert capfd.readouterr().out == ""


def test_every_block_may_be_said(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    with Progress() as progress:
        for event in blocks(3):
            progress(event)
    assert [line.split(" blocks")[0] for line in said if "blocks done" in line] == [
        f"INFO: {n} of 3" for n in (1, 2, 3)
    ]


def test_a_unit_that_failed_is_told(said: list[str]) -> None:
    with Progress() as progress:
        progress(Event("unit-failed", "one", 0, 4, "Its source is gone."))
    assert said == ["WARNING: one failed. Its source is gone."]


def test_checking_what_is_finished_is_shown(said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "EVERY_S", 0.0)
    with Progress() as progress:
        progress(Event("run", blocks_total=8, message="2 units, 8 blocks"))
        for number, unit in enumerate(("one", "two")):
            progress(Event("unit-checking", unit, 4 * number, 8))
            progress(Event("unit-skipped", unit, 4 * number + 4, 8))
        progress(Event("todo", message="Nothing to do, 2 finished before"))
    assert [line for line in said if line.startswith("INFO")] == [
        "INFO: Comparing what is finished with its checksums, 0 of 8 blocks so far",
        "INFO: Comparing what is finished with its checksums, 4 of 8 blocks so far",
        "INFO: Nothing to do, 2 finished before",
    ]


@pytest.mark.long
def test_checking_has_a_bar_of_its_own(shell: Shell, calm: DemoServer) -> None:
    asked = ("cloudless-mosaic", "--stac", calm.url, "--resolution", "400")
    assert shell.run(*asked, "--end-date", "2020-11-30").returncode == 0
    code, _, terminal = on_terminal(shell, *asked)
    assert code == 0, terminal
    assert re.search(r"checking +\[[#-]+\] +[0-3]/3", terminal)
    assert re.search(r"blocks +\[#+\] +1/1", terminal)
    assert "1 unit, 1 block to do, 2 finished before" in terminal
