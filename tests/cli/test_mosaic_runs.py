"""What succeeds: the result, what is said about it and where, and what is left behind."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import signal
import socket
import subprocess
from pathlib import Path

import click
import pytest
import rasterio
from tests.support.command_line import Done, Shell, make_shell, read_json

from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.cli.main import cli as root_command
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.items import DIALECTS
from eoap_dask.demo.server import DemoServer
from eoap_dask.params import declarations
from eoap_dask.run.options import RunOptions

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]
FILES = {"count.tif", "thumbnail.png", "visual.tif"}


def assert_complete(output: Path, units: list[str]) -> None:
    """Check that an output holds these units, whole, and a catalog that lists them."""
    assert {path.name for path in output.iterdir()} == {
        *("catalog.json", "collection.json", "items.json", "run.json", "failures.json", "run.log", "events.jsonl"),
        *units,
    }
    for unit in units:
        assert {path.name for path in (output / unit).iterdir()} == {*FILES, f"{unit}.tif", f"{unit}.json"}
    links = [link["href"] for link in read_json(output / "catalog.json")["links"] if link["rel"] == "item"]
    assert links == [f"./{unit}/{unit}.json" for unit in units]


# ----------------------------------------------------------------------------------------------------
# The command as it is known


def test_the_known_command_works(asked: tuple[Shell, Done]) -> None:
    shell, done = asked
    assert done.returncode == 0, done.stderr
    assert done.stdout == f"{shell.cwd / 'monthly-mosaic' / 'catalog.json'}\n"
    assert_complete(shell.cwd / "monthly-mosaic", MONTHS)
    assert read_json(shell.cwd / "monthly-mosaic" / "failures.json") == {"failures": [], "left_out": []}
    shell.assert_tidy()


def test_it_says_little_and_without_control_characters(asked: tuple[Shell, Done]) -> None:
    _, done = asked
    lines = done.stderr.splitlines()
    assert lines[0].startswith("Searching http://127.0.0.1:")
    assert "items found" in lines[1]
    assert "3 units, 3 blocks" in done.stderr
    assert len(lines) < 10
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]|Traceback|Warning", done.stderr)


def test_it_says_at_the_end_what_it_came_to(asked: tuple[Shell, Done]) -> None:
    shell, done = asked
    output = shell.cwd / "monthly-mosaic"
    lines = done.stderr.splitlines()[-4:]
    whole = 0
    for line, month in zip(lines, MONTHS, strict=False):
        size = sum(path.stat().st_size for path in (output / month).iterdir() if path.suffix != ".json")
        with rasterio.open(output / month / "count.tif") as counts:
            seen = counts.read(1) > 0
        told = re.fullmatch(rf"{month}: (\d+) pass(?:es)?, ([\d.]+) % of the area seen, ([\d.]+) MB, [\d.]+ s", line)
        assert told, line
        assert int(told[1]) == read_json(output / month / f"{month}.json")["properties"]["eoap:passes"]
        assert float(told[2]) == pytest.approx(100 * seen.mean(), abs=0.1)
        assert float(told[3]) == pytest.approx(size / 1e6, abs=0.05)
        whole += size
    assert re.fullmatch(rf"3 units, [\d.]+ MB in {re.escape(str(output))}, [\d.]+ s", lines[-1])
    assert float(lines[-1].split()[2]) == pytest.approx(whole / 1e6, abs=0.05)


def test_the_defaults_are_the_known_command(asked: tuple[Shell, Done], shell: Shell, calm: DemoServer) -> None:
    done = shell.call("cloudless-mosaic", "--dry-run", "--json", env={"EOAP_DASK_STAC": calm.url})
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)["params"] == read_json(asked[0].cwd / "monthly-mosaic" / "run.json")["params"]


# ----------------------------------------------------------------------------------------------------
# Dry runs


@pytest.fixture(scope="module")
def planned(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> tuple[Shell, Done]:
    """A dry run, as JSON."""
    shell = make_shell(tmp_path_factory.mktemp("planned"))
    calm.stats.reset()
    return shell, shell.call("cloudless-mosaic", "--stac", calm.url, "--dry-run", "--json", "--max-cloud-cover", "8")


def test_a_dry_run_reads_and_writes_nothing(planned: tuple[Shell, Done], calm: DemoServer) -> None:
    shell, done = planned
    assert done.returncode == 0, done.stderr
    assert calm.stats.requests == calm.stats.api_requests > 0
    assert shell.files() == []
    shell.assert_tidy()


def test_a_dry_run_tells_the_plan_as_json(planned: tuple[Shell, Done]) -> None:
    plan = json.loads(planned[1].stdout)
    assert [unit["key"] for unit in plan["units"]] == [MONTHS[0], MONTHS[2]]
    assert plan["empty_periods"] == [MONTHS[1]]
    assert plan["grid"]["crs"] == "EPSG:32610"
    assert plan["blocks"] == 2


def test_a_dry_run_tells_the_plan_in_words(shell: Shell, calm: DemoServer) -> None:
    done = shell.call("cloudless-mosaic", "--stac", calm.url, "--dry-run", "-q", "--max-cloud-cover", "8")
    assert done.returncode == 0
    assert done.stderr == ""
    assert done.stdout.startswith("cloudless-mosaic: 2 units, 2 blocks")
    assert f"{MONTHS[1]}  nothing found" in done.stdout


@pytest.mark.parametrize(
    ("resolution", "says"),
    [
        ("30", "Warning: --resolution 30 is finer than the data, whose pixels have 60 m: it shows no more. "),
        ("59", "Warning: --resolution 59 is finer than the data, whose pixels have 60 m: it shows no more. "),
        ("60", ""),
        ("100", ""),
    ],
)
def test_a_grid_that_is_finer_than_the_data_is_said(resolution: str, says: str, shell: Shell, calm: DemoServer) -> None:
    done = shell.call("cloudless-mosaic", "--stac", calm.url, "--dry-run", "--resolution", resolution)
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning")]
    assert warnings == ([f"{says}Try --resolution 60."] if says else [])


def test_degrees_are_not_compared_with_metres(shell: Shell, calm: DemoServer) -> None:
    crs = ("--crs", "EPSG:4326", "--resolution", "0.0001")  # about 10 m
    done = shell.call("cloudless-mosaic", "--stac", calm.url, "--dry-run", *crs)
    assert done.returncode == 0, done.stderr
    assert "finer" not in done.stderr


# ----------------------------------------------------------------------------------------------------
# What is said


@pytest.mark.long
def test_json_alone_on_stdout_and_nothing_on_stderr(shell: Shell, calm: DemoServer) -> None:
    done = shell.mosaic("--stac", calm.url, "--json", "-q", "--max-items", "4", "--output-dir", "out/of/here")
    assert done.returncode == 0
    assert done.stderr == ""
    result = json.loads(done.stdout)
    output = shell.cwd / "out/of/here"
    assert (shell.cwd / result["catalog"]).samefile(output / "catalog.json")
    assert [item["id"] for item in result["items"]] == [MONTHS[2]]
    assert all((shell.cwd / path).is_file() for item in result["items"] for path in item["assets"].values())
    assert result["empty_periods"] == MONTHS[:2]
    assert result["failures"] == []
    # that the search was cut is recorded, though nothing was said
    assert read_json(output / "run.json")["search"] == {
        "stac": calm.url,
        "collection": "sentinel-2-l2a",
        "items": 4,
        "truncated": True,
    }
    assert read_json(output / "items.json")["eoap:truncated"] is True


@pytest.mark.long
def test_what_is_missing_is_said_and_recorded(shell: Shell, calm: DemoServer) -> None:
    done = shell.mosaic("--stac", calm.url, "--max-items", "4", "--resolution", "400")
    assert done.returncode == 0
    warnings = [line for line in done.stderr.splitlines() if line.startswith("Warning: ")]
    assert any("cut at 4 items" in line and "--max-items" in line for line in warnings)
    for month in MONTHS[:2]:
        assert any(f"The search was cut before {month}" in line for line in warnings)
    assert len(warnings) == 3
    output = shell.cwd / "monthly-mosaic"
    assert_complete(output, [MONTHS[2]])
    assert read_json(output / "run.json")["empty_periods"] == MONTHS[:2]


def test_verbose_shows_where_an_error_came_from(shell: Shell) -> None:
    for how in ({"env": {"EOAP_DASK_VERBOSE": "1"}}, {}):
        done = shell.call("cloudless-mosaic", "--collection", "landsat-9", *([] if how else ["-v"]), **how)
        assert done.returncode == 2
        assert "Traceback (most recent call last)" in done.stderr
        assert done.stderr.splitlines()[-1].startswith("Error: The collection 'landsat-9' isn't supported")
        assert done.stdout == ""


# ----------------------------------------------------------------------------------------------------
# Environment variables


def test_every_option_has_an_environment_variable() -> None:
    command = root_command.commands["cloudless-mosaic"]
    assert isinstance(command, click.Command)
    options = [p for p in command.params if isinstance(p, click.Option)]
    assert {p.name for p in options} >= {*declarations(MosaicParams), *declarations(RunOptions), "dry_run", "as_json"}
    for option in options:
        flag = max(option.opts, key=len).removeprefix("--")
        if flag in ("cwl", "version"):  # something else is printed instead of working: nothing to be set for good
            continue
        assert option.envvar == f"EOAP_DASK_{flag.replace('-', '_').upper()}"
        assert option.help


def test_environment_variables_are_taken(shell: Shell, calm: DemoServer) -> None:
    values = {
        "STAC": calm.url,
        "START_DATE": "2020-11-01",
        "END_DATE": "2020-12-15",
        "AOI": "-122.2,47.6,-122.1,47.7",
        "BANDS": "red green",
        "RESOLUTION": "200",
        "CRS": "EPSG:32611",
        "MAX_CLOUD_COVER": "50.5",
        "MAX_ITEMS": "77",
        "CLIP": "false",
        "CLOUD_MASK": "none",
        "WORKERS": "1",
        "JSON": "1",
        "DRY_RUN": "1",
        "QUIET": "1",
    }
    done = shell.call(
        "cloudless-mosaic", "--resolution", "250", env={f"EOAP_DASK_{name}": value for name, value in values.items()}
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    plan = json.loads(done.stdout)
    assert (
        plan["params"]
        | {
            "stac": calm.url,
            "start_date": "2020-11-01",
            "end_date": "2020-12-15",
            "aoi": "-122.2,47.6,-122.1,47.7",
            "bands": ["red", "green"],
            "resolution": 250.0,  # the command line goes before the environment
            "crs": "EPSG:32611",
            "max_cloud_cover": 50.5,
            "max_items": 77,
            "clip": False,
            "cloud_mask": "none",
        }
        == plan["params"]
    )
    assert plan["cluster"]["workers"] == 1


def test_a_wrong_environment_variable_is_named(shell: Shell) -> None:
    done = shell.mosaic(env={"EOAP_DASK_RESOLUTION": "ten"})
    assert done.returncode == 2
    assert "'ten'" in done.stderr
    assert "EOAP_DASK_RESOLUTION" in done.stderr or "--resolution" in done.stderr


# ----------------------------------------------------------------------------------------------------
# The examples of --help


def examples(command: click.Command) -> list[str]:
    """Return the examples in the epilogs of a command and those below it."""
    found = re.findall(r"^  ((?:eoap-dask|cloudless-mosaic)\b.*)$", command.epilog or "", re.MULTILINE)
    if isinstance(command, click.Group):
        for one in command.commands.values():
            found += examples(one)
    return found


@pytest.fixture(scope="module")
def village(calm: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    """Where the examples are run one after the other, with the file that they need."""
    shell = make_shell(tmp_path_factory.mktemp("village"), {"EOAP_DASK_STAC": calm.url})
    ring = [[-122.2, 47.6], [-122.1, 47.6], [-122.1, 47.7], [-122.2, 47.6]]
    (shell.cwd / "area.geojson").write_text(json.dumps({"type": "Polygon", "coordinates": [ring]}))
    return shell


def test_there_are_examples() -> None:
    assert len(examples(root_command)) >= 7


@pytest.mark.long
@pytest.mark.parametrize("example", examples(root_command.commands["cloudless-mosaic"]))
def test_an_example_of_the_mosaic(example: str, village: Shell) -> None:
    arguments = shlex.split(example)
    done = village.run(*arguments)
    assert done.returncode == 0, done.stderr
    village.assert_tidy()
    if "--dry-run" not in arguments:
        assert (village.cwd / done.stdout.strip()).name == "catalog.json"
        assert (village.cwd / done.stdout.strip()).is_file()


DEMOS = [e for e in examples(root_command) if e.startswith("eoap-dask demo run")]


SMALLER = """
from functools import partial
from eoap_dask.cli.main import main
from eoap_dask.demo import showcase
showcase.run_demo = partial(showcase.run_demo, resolution=60, size_px=512, resolution_m=60.0, dates_per_month=4)
main()
"""
"""The same with fewer pixels."""


@pytest.mark.long
@pytest.mark.parametrize("example", DEMOS)
def test_an_example_of_the_demo(example: str, shell: Shell) -> None:
    done = shell.wait(shell.start(*shlex.split(example)[1:], program=("-c", SMALLER)), 120)
    assert done.returncode == 0, done.stderr
    picture = shell.cwd / done.stdout.strip()
    assert picture.name == "picture.png"
    assert picture.is_file()
    assert_complete(picture.parent / "mosaic", MONTHS)
    shell.assert_tidy()


SMALLER_ARCHIVE = """
from functools import partial
from eoap_dask.demo import archive, changes, fields
from eoap_dask.cli.main import main
archive.make_archive = partial(archive.make_archive, months=("2020-10",), dates_per_month=1, size_px=128)
fields.make_fields = partial(fields.make_fields, size_px=256)
changes.make_changes = partial(changes.make_changes, rows=1, cols=1, cell_px=64)
main()
"""


def test_the_demo_offers_all_dialects() -> None:
    (option,) = [p for p in root_command.commands["demo"].commands["serve"].params if p.name == "dialect"]
    assert set(option.type.choices) == set(DIALECTS)


def until_said(process: subprocess.Popen[str], words: str) -> list[str]:
    """Return what a command says on stderr, up to a line with these words."""
    assert process.stderr is not None
    said: list[str] = []
    for line in process.stderr:
        said.append(line.rstrip("\n"))
        if words in line:
            break
    return said


@pytest.mark.long
@pytest.mark.cluster
@pytest.mark.parametrize(
    ("dialect", "options"), [("planetary-computer", ("--sign",)), ("earth-search-v0", ())], ids=["signed", "v0"]
)
def test_the_demo_as_a_server_says_commands_that_work(dialect: str, options: tuple[str, ...], shell: Shell) -> None:
    arguments = ("demo", "serve", "--port", "0", "--dialect", dialect, *options)
    process = shell.start(*arguments, program=("-c", SMALLER_ARCHIVE))
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    said = until_said(process, "change-detection")
    assert said[:2] == ["Making a synthetic Sentinel-2 archive …", "In another terminal:"]
    mosaic, bai, chips, change = said[2:]
    assert f" --stac {url}" in mosaic
    assert "20210713" in bai.partition("--post-fire-url")[0]
    assert f"crop-chips --stac {url} " in chips
    assert ("--collection sentinel-s2-l2a-cogs" in chips) == (dialect == "earth-search-v0")
    assert Path(shlex.split(chips.partition("--fields")[2])[0]).is_file()
    assert f"change-detection --stac {url} " in change
    few = "--grid 2 --min-fields 1 --chip-size 64"  # for so small an archive
    made = {mosaic: "monthly-mosaic", bai: "burned-area", f"{chips} {few}": "crop-chips", change: "changes"}
    for line, output in made.items():
        program, *rest = shlex.split(line)
        done = shell.run(Path(program).name, *rest)
        assert done.returncode == 0, done.stderr
        assert done.stdout == f"{shell.cwd}/{output}/catalog.json\n"
        assert Path(program).is_file() or shutil.which(program)
    process.send_signal(signal.SIGINT)
    assert shell.wait(process).returncode == 130
    shell.assert_tidy()


@pytest.mark.long
def test_the_example_of_the_demo_as_a_server(shell: Shell, archive: Archive) -> None:
    (example,) = [e for e in examples(root_command) if e.startswith("eoap-dask demo serve")]
    arguments = shlex.split(example)[1:]
    with socket.create_server(("127.0.0.1", 0)) as taken:
        arguments[arguments.index("--port") + 1] = str(taken.getsockname()[1])
        refused = shell.run(*arguments)
    assert refused.returncode == 2
    assert "Try --port 0." in refused.stderr
    process = shell.start(*arguments, "--directory", archive.root)
    assert process.stdout is not None
    url = process.stdout.readline().strip()
    said = until_said(process, "--stac")
    assert said[0] == "In another terminal:"
    assert said[1].endswith(f"cloudless-mosaic --stac {url}")
    (follows,) = [e for e in examples(root_command) if "127.0.0.1:8123" in e]
    found = shell.run(*shlex.split(follows.replace("http://127.0.0.1:8123/stac", url)), "--dry-run")
    assert found.returncode == 0, found.stderr
    process.send_signal(signal.SIGINT)
    done = shell.wait(process)
    assert (done.returncode, done.stderr) == (130, "Stopped.\n")
    shell.assert_tidy()
