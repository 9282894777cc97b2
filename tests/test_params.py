"""Parameters, declared once: what a field says of itself, and what is refused before anything starts."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from pathlib import Path
from typing import Any, ClassVar

import pytest
from jsonschema import Draft202012Validator

from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cluster.options import ClusterOptions
from eoap_dask.errors import UsageError
from eoap_dask.params import (
    as_json,
    check_choices,
    declarations,
    inherited,
    json_schema,
    local_files,
    param,
    refuse_local_files,
)
from eoap_dask.periods import parse_day
from eoap_dask.run.options import OutputOptions, RunOptions
from eoap_dask.scenes.sensor import sensor_for


@dataclasses.dataclass(frozen=True)
class Example:
    name: str = param("a", "The name.", choices=("a", "b"))
    places: tuple[str, ...] = param((), "Some places.", multiple=True, metavar="PLACE")
    where: Path = param(Path("x/y"), "Where.")
    number: float = param(1.5, "A number.")
    nothing: str | None = param(None, "Nothing.")
    hidden: int = 3


def test_declared_fields_come_in_order_and_others_stay_out() -> None:
    found = declarations(Example)
    assert list(found) == ["name", "places", "where", "number", "nothing"]
    field, declared = found["places"]
    assert (field.name, field.default) == ("places", ())
    assert (declared.help, declared.metavar, declared.multiple, declared.choices) == ("Some places.", "PLACE", True, ())


def test_what_is_declared_becomes_json() -> None:
    found = as_json(Example(places=("p", "q")))
    assert found == {"name": "a", "places": ["p", "q"], "where": "x/y", "number": 1.5, "nothing": None}
    assert json.loads(json.dumps(found)) == found


@pytest.mark.parametrize("cls", [MosaicParams, RunOptions])
def test_every_declaration_can_be_shown(cls: type) -> None:
    for name, (field, declared) in declarations(cls).items():
        assert re.fullmatch(r"[A-Z].*[.\])]", declared.help), name  # a sentence; its default may follow
        assert field.default is not dataclasses.MISSING, f"{name} has no default: a CWL job may give just two dates"
        if declared.choices:
            assert field.default in declared.choices
        assert declared.multiple == isinstance(field.default, tuple)
        if isinstance(field.default, bool):
            assert declared.negative, f"{name} can't be turned off"
    json.dumps(as_json(cls()))


@pytest.mark.parametrize("cls", [MosaicParams, RunOptions])
def test_options_are_frozen(cls: Any) -> None:
    for field in dataclasses.fields(cls):
        with pytest.raises(dataclasses.FrozenInstanceError):
            setattr(cls(), field.name, None)


def test_what_decides_pixels_and_what_does_not_share_no_name() -> None:
    assert not set(declarations(MosaicParams)) & set(declarations(RunOptions))


def test_the_defaults_of_a_mosaic_can_be_run() -> None:
    params = MosaicParams()
    check_choices(params)
    assert parse_day(params.start_date) < parse_day(params.end_date)
    sensor = sensor_for(params.collection)
    assert all(sensor.band(name) for name in params.bands)


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (Example(name="c"), "name must be a or b, got 'c'."),
        (MosaicParams(cloud_mask="yes"), "cloud_mask must be scl or none, got 'yes'."),
    ],
)
def test_a_value_that_is_no_choice_is_refused(params: Any, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        check_choices(params)
    assert str(refused.value).startswith(sentence.rstrip("."))
    assert refused.value.exit_code == 2


def test_good_options_pass() -> None:
    for cluster in declarations(RunOptions)["cluster"][1].choices:
        RunOptions(cluster=cluster).check()
    for block in (None, 512, 1024, 2048, 4096):
        RunOptions(block=block, workers=1, max_failures=0, worker_memory="256MiB").check()


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"workers": 0}, "workers must be 1 or more, got 0. Try workers=1."),
        ({"workers": -3}, "workers must be 1 or more, got -3. Try workers=1."),
        ({"max_failures": -1}, "max_failures must be 0 or more, got -1. Try max_failures=0."),
        ({"sink": "disk"}, "sink must be auto or client or workers, got 'disk'."),
        ({"reads": 0}, "reads must be 1 to 32, got 0. Try reads=8."),
        ({"reads": 33}, "reads must be 1 to 32, got 33. Try reads=8."),
        ({"block": 500}, "block must be 512 pixels, or 512 times a power of two, got 500. Try block=2048."),
        ({"block": 256}, "block must be 512 pixels, or 512 times a power of two, got 256. Try block=2048."),
        ({"block": 1536}, "block must be 512 pixels, or 512 times a power of two, got 1536. Try block=2048."),
        ({"block": 0}, "block must be 512 pixels, or 512 times a power of two, got 0. Try block=2048."),
        ({"worker_memory": "much"},
         "worker_memory: 'much' isn't an amount of memory. Expected a number with K, M, G or T. Try 4G."),
        ({"worker_memory": "10MB"}, "worker_memory must be at least 256M, got '10MB'. Try worker_memory='2G'."),
        ({"worker_cores": -1.0}, "worker_cores must be more than 0, got -1. Try worker_cores=1."),
        ({"performance_report": Path("/")},
         "performance_report / is a directory. Expected an HTML file. Try performance_report='/report.html'."),
        ({"cluster_timeout": math.inf},
         "cluster_timeout must be more than 0 seconds and finite, got inf. Try cluster_timeout=300."),
        ({"cluster_timeout": 0.0},
         "cluster_timeout must be more than 0 seconds and finite, got 0. Try cluster_timeout=300."),
        ({"retry_deadline": -1.0},
         "retry_deadline must be more than 0 seconds and finite, got -1. Try retry_deadline=300."),
    ],
)  # fmt: skip
def test_numbers_that_make_no_sense_are_refused(options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        RunOptions(**options).check()
    assert str(refused.value) == sentence


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("s3://bucket/mosaic", "s3://bucket/mosaic"),
        ("s3://", "s3://"),
        (Path("s3://bucket/mosaic"), "s3://bucket/mosaic"),  # which pathlib writes with one slash
        ("gs://bucket", "gs://bucket"),
        ("https://user:secret@host/mosaic", "https://host/mosaic"),
        ("file:///data/mosaic", "file://data/mosaic"),
    ],
)
def test_an_output_is_no_url(given: str | Path, told: str) -> None:
    with pytest.raises(UsageError) as refused:
        RunOptions(output_dir=given)  # type: ignore[arg-type]
    assert str(refused.value) == (
        f"output_dir must be a directory of this machine, got '{told}'. Products aren't written to URLs: make it here, "
        "and copy it. Try output_dir='output'."
    )


@pytest.mark.parametrize("path", ["C:/mosaic", "./a/s3:/x", "s3", "2021-07:x/y", "/s3:/bucket"])
def test_an_output_of_any_other_name(path: str) -> None:
    assert RunOptions(output_dir=Path(path)).output_dir == Path(path)


@pytest.mark.parametrize(
    ("text", "size"), [(None, None), ("4G", 4 << 30), ("2GiB", 2 << 30), ("2GB", 2 * 10**9), ("300 MiB", 300 << 20)]
)
def test_memory_in_bytes(text: str | None, size: int | None) -> None:
    assert RunOptions(worker_memory=text).worker_bytes() == size


def test_a_copy_with_changes() -> None:
    options = RunOptions(workers=2)
    assert options.replace(workers=3) == RunOptions(workers=3)
    assert options == RunOptions(workers=2)


def test_where_the_product_goes_comes_first() -> None:
    """A path by itself is the output's, in Python as in --help."""
    names = [field.name for field in dataclasses.fields(RunOptions)]
    assert names[:3] == ["output_dir", "cluster", "workers"]
    rest = [name for name in declarations(RunOptions) if name not in {"output_dir", *declarations(ClusterOptions)}]
    assert names == list(
        dict.fromkeys(
            [
                *declarations(OutputOptions),
                *declarations(ClusterOptions),
                "cores",
                "memory",
                *rest,
                "retry_failed",
                "block",
                "budget",
            ]
        )
    )


# ----------------------------------------------------------------------------------------------------
# Parents and children


@dataclasses.dataclass(frozen=True, kw_only=True)
class Parent:
    size: float = param(1.0, "The size.", metavar="NUMBER")
    source: str = param("", "The source.", local_file=True)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Child(Parent):
    ORDER: ClassVar = ("first", "source", "size")
    first: str = param("f", "The first.")
    size: float = inherited(Parent, "size", default=2.0)
    source: str = inherited(Parent, "source", help="Another source.")


def test_a_child_has_its_own_order_default_and_help() -> None:
    assert list(declarations(Parent)) == ["size", "source"]
    found = declarations(Child)
    assert list(found) == ["first", "source", "size"]
    assert (found["size"][0].default, found["size"][1].help, found["size"][1].metavar) == (2.0, "The size.", "NUMBER")
    assert (found["source"][0].default, found["source"][1].help) == ("", "Another source.")
    assert found["source"][1].local_file
    assert list(as_json(Child())) == ["first", "source", "size"]


@pytest.mark.parametrize(
    ("order", "odd"),
    [
        (("first", "size"), "source"),
        (("x", "size"), "x"),
        (("first", "first", "size", "source"), "first"),
    ],
)
def test_an_order_that_is_not_one_of_all_names_is_refused(order: tuple[str, ...], odd: str) -> None:
    other = dataclasses.make_dataclass("Other", [], bases=(Child,), namespace={"ORDER": order}, frozen=True)
    with pytest.raises(TypeError, match=rf"ORDER of Other must name each declared field once: see .*{odd}"):
        declarations(other)


# ----------------------------------------------------------------------------------------------------
# For services

DECLARED = [*(entry.params for entry in APPLICATIONS.values()), RunOptions]


@pytest.mark.parametrize("cls", DECLARED)
def test_the_schema_of_parameters(cls: Any) -> None:
    schema = json.loads(json.dumps(json_schema(cls)))
    Draft202012Validator.check_schema(schema)
    check = Draft202012Validator(schema)
    needed = {name: "fields.gpkg" for name, (_, declared) in declarations(cls).items() if declared.required}
    assert needed == ({"fields": "fields.gpkg"} if cls is CropChipsParams else {})
    assert check.is_valid({}) is not bool(needed)
    check.validate(needed)
    check.validate(json.loads(json.dumps(as_json(cls(**needed)))))
    assert not check.is_valid({**needed, "unknown": 1})
    assert list(schema["properties"]) == list(declarations(cls))
    for name, (field, declared) in declarations(cls).items():
        about = schema["properties"][name]
        assert name in needed or about["default"] == json.loads(json.dumps(as_json(cls())))[name]
        assert "Repeat for more" not in about["description"]
        assert about.get("x-local-file", False) is declared.local_file
        assert not check.is_valid({**needed, name: {"an": "object"}}) or name == "aoi"
        if declared.choices:
            assert not check.is_valid({name: "none of them"})
        if isinstance(field.default, float | int) and not isinstance(field.default, bool):
            assert not check.is_valid({name: str(field.default)})
            assert check.is_valid({**needed, name: 7})
            assert check.is_valid({**needed, name: 7.5}) is isinstance(field.default, float)


def test_which_parameters_may_name_a_file() -> None:
    found = {name for cls in DECLARED for name, (_, declared) in declarations(cls).items() if declared.local_file}
    ours = {"aoi", "stac", "items", "pre_fire_url", "post_fire_url", "output_dir", "performance_report"}
    assert found == {*ours, "fields", "classes", "cells", "grid", "weights"}


def test_what_a_schema_says() -> None:
    found = json_schema(MosaicParams)["properties"]
    assert found["bands"] == {
        "type": "array",
        "items": {"type": "string"},
        "description": "Band, by common name or asset key.",
        "default": ["nir", "red", "green"],
    }
    assert found["cloud_mask"]["enum"] == ["scl", "none"]
    assert found["items"]["type"] == ["string", "null"]
    assert found["clip"] == {
        "type": "boolean",
        "description": "Cut to the shape of the area, or keep its bounding box.",
        "default": True,
    }
    check = Draft202012Validator(json_schema(MosaicParams))
    area: Any
    for area in ("1,2,3,4", [1, 2, 3, 4.5], {"type": "Polygon", "coordinates": []}):
        assert check.is_valid({"aoi": area})
    for area in (7, [1, 2, 3], ["1", "2", "3", "4"], None):
        assert not check.is_valid({"aoi": area})
    options = Draft202012Validator(json_schema(RunOptions))
    assert options.is_valid({"cluster_options": [["profile", "large"]], "workers": None, "worker_cores": 1})
    assert not options.is_valid({"cluster_options": [["profile"]]})


def test_a_type_without_a_word_in_json_is_refused() -> None:
    @dataclasses.dataclass(frozen=True)
    class Odd:
        pair: dict[str, int] = param(None, "No.")

    with pytest.raises(TypeError, match="the parameter pair has the type"):
        json_schema(Odd)


@pytest.mark.parametrize("cls", [entry.params for entry in APPLICATIONS.values()])
def test_defaults_lead_nowhere_on_this_machine(cls: Any) -> None:
    assert local_files(cls()) == []
    refuse_local_files(cls())


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org/stac",
        " HTTP://example.org/area.geojson",
        "1,2,3,4",
        "POLYGON ((0 0, 1 0, 1 1, 0 0))",
        '{"type": "Polygon"}',
        "[1, 2, 3, 4]",
        {"type": "Polygon"},
        [1, 2, 3, 4],
        "",
        None,
    ],
)
def test_an_area_that_is_no_file(value: Any) -> None:
    assert local_files(MosaicParams(aoi=value)) == []


ELSEWHERE = ["/etc/passwd", "~/x", "..", "items.json", "file:///etc/passwd", "FILE:/x", "file:x", "s3://b/k", "ftp://h/x",
             "/vsicurl/http://h/x", "http:/one-slash", "x http://h"]  # fmt: skip


@pytest.mark.parametrize("value", ELSEWHERE)
def test_a_file_of_this_machine_is_told_and_refused(value: str) -> None:
    assert local_files(MosaicParams(aoi=value)) == [("aoi", value)]
    assert local_files(MosaicParams(stac=value)) == [("stac", value)]
    both = BurnedAreaParams(pre_fire_url=value, post_fire_url=value, items=value, filter=value)
    assert local_files(both) == [("pre_fire_url", value), ("post_fire_url", value), ("items", value)]
    with pytest.raises(UsageError) as refused:
        refuse_local_files(MosaicParams(stac=value))
    assert str(refused.value) == (
        f"stac names a file of this machine, {value!r}. Expected what can be reached from anywhere. "
        "Give a URL of https."
    )
    with pytest.raises(UsageError, match=r"aoi names a file of this machine, .* Give the value itself, as text"):
        refuse_local_files(MosaicParams(aoi=value))


def test_text_that_is_an_area_is_a_path_elsewhere() -> None:
    assert local_files(MosaicParams(stac="1,2,3,4")) == [("stac", "1,2,3,4")]


def test_paths_of_a_run() -> None:
    assert local_files(RunOptions(performance_report=Path("r.html"))) == [
        ("output_dir", "output"),
        ("performance_report", "r.html"),
    ]
    assert local_files(MosaicParams(aoi=Path("area.geojson"))) == [("aoi", "area.geojson")]
