"""From declarations to inputs: every type, and the command line that comes out of it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from tests.support.cwl import WORKFLOWS

from eoap_dask.applications.base import Application
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cli.main import cli
from eoap_dask.cli.options import picked
from eoap_dask.cwl.describe import check_request, inputs_of, is_tool_of
from eoap_dask.cwl.generate import scattered, tool
from eoap_dask.errors import SearchError, UsageError
from eoap_dask.params import declarations, param
from eoap_dask.run.options import RunOptions


@dataclass(frozen=True)
class ToyParams:
    """One of each kind."""

    start_date: str = param("2020-10-01", "First day.")
    pre_fire_url: str | None = param(None, "An item.", metavar="URL")
    aoi: Any = param("1,2,3,4", "Where.")
    items: str | None = param(None, "Items.", metavar="FILE")
    clip: bool = param(True, "Cut.", negative="no-clip")
    strict: bool = param(False, "Be strict.", negative="lenient")
    bands: tuple[str, ...] = param(("red", "nir"), "Band. Repeat for more.", multiple=True)
    thresholds: tuple[float, ...] = param((0.1, 2.0), "Limits. Repeat for more.", multiple=True)
    days: tuple[int, ...] | None = param(None, "Days. Repeat for more.", multiple=True)
    resolution: float = param(20.0, "Side.")
    share: float | None = param(None, "Share.")
    most: int = param(5, "Most.")
    least: int | None = param(None, "Least.")
    mode: str = param("fast", "How.", choices=("fast", "good"), flag="how")
    where: Path = param(Path("a/b"), "Place.")


def test_every_kind_of_parameter() -> None:
    found = {one.id: one for one in inputs_of(ToyParams)}
    assert {name: one.type for name, one in found.items()} == {
        "start-date": "string",
        "pre-fire-url": "string?",
        "aoi": "string",
        "items": "File?",
        "clip": {"type": "enum", "symbols": ["clip", "no-clip"]},
        "strict": {"type": "enum", "symbols": ["strict", "lenient"]},
        "bands": "string[]",
        "thresholds": "double[]",
        "days": "int[]?",
        "resolution": "double",
        "share": "double?",
        "most": "int",
        "least": "int?",
        "how": {"type": "enum", "symbols": ["fast", "good"]},
        "where": "string",
    }
    assert {name: one.default for name, one in found.items() if one.default is not None} == {
        "start-date": "2020-10-01",
        "aoi": "1,2,3,4",
        "clip": "clip",
        "strict": "lenient",
        "bands": ["red", "nir"],
        "thresholds": [0.1, 2],
        "resolution": 20,
        "most": 5,
        "how": "fast",
        "where": "a/b",
    }
    assert found["bands"].doc == "Band."
    assert found["clip"].for_tool(3)["inputBinding"] == {"position": 3, "valueFrom": "--$(self)"}
    assert found["how"].for_tool(1)["inputBinding"] == {"position": 1, "prefix": "--how"}
    assert found["bands"].for_tool(2) == {
        "type": {"type": "array", "items": "string", "inputBinding": {"prefix": "--bands"}},
        "label": "Bands",
        "doc": "Band.",
        "default": ["red", "nir"],
        "inputBinding": {"position": 2},
    }
    assert found["days"].for_tool(9)["type"] == [
        "null",
        {"type": "array", "items": "int", "inputBinding": {"prefix": "--days"}},
    ]
    assert [found[name].label for name in ("aoi", "pre-fire-url", "start-date")] == [
        "Area of interest",
        "Pre fire URL",
        "Start date",
    ]


def test_what_is_said_of_an_input_can_be_replaced() -> None:
    assert {one.id: one.doc for one in inputs_of(ToyParams, {"aoi": "Only text."})}["aoi"] == "Only text."


def test_a_type_without_a_word_in_cwl_is_refused() -> None:
    @dataclass(frozen=True)
    class Odd:
        pair: dict[str, int] | None = param(None, "No.")

    with pytest.raises(TypeError, match="the parameter pair has the type"):
        inputs_of(Odd)


def test_parameters_become_inputs_and_run_options_do_not() -> None:
    ids = {one.id for one in inputs_of(MosaicParams)}
    assert ids == {name.replace("_", "-") for name in declarations(MosaicParams)}
    assert not ids & {name.replace("_", "-") for name in declarations(RunOptions)}


def test_applications_and_commands_are_the_same() -> None:
    for name, entry in APPLICATIONS.items():
        command = cli.commands[name]
        defaults = {one.name: one.default for one in command.params}
        assert str(defaults["output_dir"]) == entry.output_dir
        assert set(declarations(entry.params)) <= set(defaults)
        assert "cwl" in defaults


JOBS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "the defaults": ({}, {}),
    "the owner's": (
        {"resolution": 60, "start-date": "2021-01-01", "end-date": "2021-02-28"},
        {"resolution": 60.0, "start_date": "2021-01-01", "end_date": "2021-02-28"},
    ),
    "arrays": ({"bands": ["B04"]}, {"bands": ("B04",)}),
    "text that a shell would mind": (
        {"aoi": '{"type": "Point", "coordinates": [1, $HOME]}', "stac": "http://127.0.0.1/$(id);`id`"},
        {"aoi": '{"type": "Point", "coordinates": [1, $HOME]}', "stac": "http://127.0.0.1/$(id);`id`"},
    ),
    "text like an option": ({"aoi": "-122,47,-121,48", "crs": "--help"}, {"aoi": "-122,47,-121,48", "crs": "--help"}),
    "a switch": ({"clip": "no-clip"}, {"clip": False}),
    "choices": ({"cloud-mask": "none"}, {"cloud_mask": "none"}),
    "numbers": ({"max-cloud-cover": 12.5, "max-items": 7}, {"max_cloud_cover": 12.5, "max_items": 7}),
}


@pytest.mark.parametrize("which", JOBS)
def test_the_command_understands_what_cwltool_makes_of_a_job(cwltool: None, which: str) -> None:
    given, expected = JOBS[which]
    words = command_line("cloudless-mosaic", given)
    command = cli.commands["cloudless-mosaic"]
    values = dict(command.make_context("cloudless-mosaic", words[1:]).params)
    assert words[:3] == ["cloudless-mosaic", "--output-dir", "monthly-mosaic"]
    assert picked(MosaicParams, values) == MosaicParams(**expected)


def test_a_request_is_checked_by_its_application(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = APPLICATIONS["cloudless-mosaic"]
    seen: list[tuple[MosaicParams, bool]] = []
    monkeypatch.setattr(Application, "check", lambda self, params, ask: seen.append((params, ask)))
    check_request(entry, {"resolution": 100, "clip": "no-clip", "bands": ["red"], "items": None})
    check_request(entry, {"clip": "clip", "items": {"class": "File", "location": "_:literal", "contents": "{}"}})
    (first, asks), (second, asks_then) = seen
    assert (first.resolution, first.clip, first.bands, first.items, asks) == (100.0, False, ("red",), None, True)
    assert (second.clip, second.items, asks_then) == (True, None, False)


def test_what_makes_no_sense_is_refused_and_the_rest_left_to_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = APPLICATIONS["cloudless-mosaic"]
    with pytest.raises(UsageError, match="resolution"):
        check_request(entry, {"resolution": -1})

    def away(*_: object, **__: object) -> None:
        raise SearchError("The catalogue is away.")

    monkeypatch.setattr(Application, "check", away)
    check_request(entry, {"bands": ["B04_20m"]})


def test_only_tools_like_ours_are_checked() -> None:
    for entry in APPLICATIONS.values():
        for document in (tool(entry), *(scattered(entry)["$graph"][1:] if entry.package.scatter else ())):
            assert is_tool_of(entry, document, ("name",))
            for change in (
                {"arguments": ["--output-dir", "x", "--stac", "http://own/stac"]},
                {"requirements": {"InitialWorkDirRequirement": {}}},
                {"inputs": {}},
                {"inputs": {**document["inputs"], "aoi": {"type": "string", "inputBinding": {"valueFrom": "x"}}}},
            ):
                assert not is_tool_of(entry, {**document, **change}, ("name",))


def command_line(tool: str, job: dict[str, Any]) -> list[str]:
    """The words that cwltool would run."""
    from cwltool.context import LoadingContext, RuntimeContext
    from cwltool.load_tool import load_tool
    from cwltool.workflow import default_make_tool

    from eoap_dask.cwl.validate import register_extension

    register_extension()
    place = (WORKFLOWS / "monthly-composite.cwl").as_uri()
    process = load_tool(f"{place}#{tool}", LoadingContext({"construct_tool_object": default_make_tool}))
    with TemporaryDirectory() as scratch:
        places = {"tmpdir_prefix": f"{scratch}/t", "tmp_outdir_prefix": f"{scratch}/o"}
        context = RuntimeContext({"basedir": str(WORKFLOWS), "use_container": False, **places})
        return list(next(iter(process.job(job, None, context))).command_line)
