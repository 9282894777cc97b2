"""The requests of docs/cwl.md are for the packages as they are."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from tests.support.cwl import ROOT, WORKFLOWS

from eoap_dask.cwl.document import load

PAGE = (ROOT / "docs" / "cwl.md").read_text()
SECTION = PAGE[PAGE.index("\n## On a platform") :]
JSON_TYPES = {"string": str, "int": int, "double": (int, float)}


def workflows() -> dict[str, Any]:
    """The workflows that a platform may be given, by their names."""
    found = {}
    for path in WORKFLOWS.glob("*.cwl"):
        if "scatter" not in path.name:
            process = load(path).process("")
            found[str(process["id"])] = process
    return found


def requests() -> list[tuple[str, Any]]:
    """Each request of the page: where it is sent, and its body."""
    pattern = r"```http\nPOST (/\S+)\n[^`]*```\n\n```json\n(.*?)```"
    return [(path, json.loads(body)) for path, body in re.findall(pattern, SECTION, re.DOTALL)]


def fits(value: Any, kind: Any) -> bool:
    """Tell whether a value of JSON is of a type of CWL."""
    if isinstance(kind, dict) and kind["type"] == "enum":
        return value in kind["symbols"]
    if isinstance(kind, str) and kind.endswith("[]"):
        return isinstance(value, list) and len(value) > 1 and all(fits(one, kind[:-2]) for one in value)
    return isinstance(value, JSON_TYPES[kind]) and not isinstance(value, bool)


def test_every_block_of_json_is_a_request() -> None:
    assert PAGE.count("```json") == len(requests()) == 3


def test_a_deployment_names_a_released_package() -> None:
    (unit,) = (body["executionUnit"] for path, body in requests() if path == "/processes")
    name = unit["href"].rsplit("/", 1)[-1]
    assert (WORKFLOWS / name.replace(".VERSION", "")).is_file()
    assert unit["href"].startswith(str(load(WORKFLOWS / "monthly-composite.cwl").data["s:codeRepository"]))


@pytest.mark.parametrize("name", ["monthly-composite", "burned-area"])
def test_an_execution_has_inputs_of_the_workflow(name: str) -> None:
    (body,) = (body for path, body in requests() if path == f"/processes/{name}/execution")
    inputs = workflows()[name]["inputs"]
    assert body["inputs"]
    for key, value in body["inputs"].items():
        assert fits(value, inputs[key]["type"]), key


def test_what_is_said_of_inputs_and_outputs() -> None:
    for name, process in workflows().items():
        of_fields = ["fields", "classes", "cells"] if name == "training-chips" else []
        files = {"training-chips": of_fields, "yearly-changes": ["grid", "weights"]}.get(name, [])
        kinds = {key: one["type"] for key, one in process["inputs"].items()}
        assert "Directory" not in str(kinds)
        assert "boolean" not in str(kinds)
        assert [key for key, kind in kinds.items() if "File" in str(kind)] == [*files, "items"]
        sized = ["cell-size"] if of_fields else []
        without = {key for key, one in process["inputs"].items() if "default" not in one}
        assert without == {*files, *sized, "items"}
        assert [key for key in of_fields if kinds[key] == "File"] == of_fields[:1]
        assert kinds["items"] == "File?"
        assert list(process["outputs"]) == ["stac-catalog"]


def test_what_is_said_of_exit_codes_is_in_the_tools() -> None:
    said: dict[str, set[int]] = {}
    for codes, status in re.findall(
        r"^\| ends with ([\d, or]+)(?:: [^|]*)?\| (?:\w+ )?(\w+) \|", SECTION, re.MULTILINE
    ):
        said.setdefault(status.strip(), set()).update(map(int, re.findall(r"\d", codes)))
    for path in WORKFLOWS.glob("*.cwl"):
        (tool,) = (one for one in load(path).processes if one["class"] == "CommandLineTool")
        expected = {kind: set(tool[f"{kind}Codes"]) for kind in ("temporaryFail", "permanentFail")}
        assert said == {"success": {0}, **expected}
