"""What is wrong with a CWL file, said in a sentence each; and what every checker says of ours."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.command_line import Shell
from tests.support.cwl import DASK, SMALL, WORKFLOWS, shell_tool, write

from eoap_dask.cwl.document import load
from eoap_dask.cwl.rules import check_package, check_requirements
from eoap_dask.cwl.validate import check_schema, derived, validate

FILES = sorted(WORKFLOWS.glob("*.cwl"))


def ours() -> dict[str, Any]:
    """The mosaic's package, to be spoilt."""
    return dict(yaml.safe_load((WORKFLOWS / "monthly-composite.cwl").read_text()))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ours_are_fine(cwltool: None, path: Path) -> None:
    assert validate(path) == []


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
@pytest.mark.parametrize("checker", ["ap-validator", "eoap-validator"])
def test_ours_are_fine_for_ogcs_checkers(cwltool: None, path: Path, checker: str) -> None:
    pytest.importorskip({"ap-validator": "ap_validator", "eoap-validator": "eoap_validator"}[checker])
    assert validate(path, (checker,)) == []


@pytest.mark.long
@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_ours_are_fine_for_plain_cwltool(cwltool: None, path: Path, tmp_path: Path) -> None:
    hint = write(tmp_path / "hint.cwl", derived(load(path), as_hint=True))
    for name in [one["id"] for one in load(path).processes]:
        command = [sys.executable, "-m", "cwltool", "--validate", "--strict", f"{hint}#{name}"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
        assert done.returncode == 0, done.stderr
        assert "is valid CWL" in done.stdout


@pytest.mark.long
def test_ogcs_checkers_see_what_is_missing(cwltool: None, tmp_path: Path) -> None:
    pytest.importorskip("ap_validator")
    pytest.importorskip("eoap_validator")
    document = ours()
    del document["s:softwareVersion"]
    del document["$graph"][0]["label"]
    path = write(tmp_path / "spoilt.cwl", document)
    for checker, about in (("ap-validator", "softwareVersion"), ("eoap-validator", "label")):
        found = [str(one) for one in validate(path, (checker,)) if one.where == checker]
        assert any(about in one for one in found), found


def test_copies_lack_nothing_but_the_requirement() -> None:
    document = load(WORKFLOWS / "monthly-composite.cwl")
    for as_hint in (True, False):
        made = derived(document, as_hint=as_hint)
        tool = made["$graph"][1]
        assert DASK not in tool["requirements"]
        assert (DASK in tool["hints"]) is as_hint
        assert "DockerRequirement" in tool["hints"]
        restored = copy.deepcopy(made)
        fields = document.data["$graph"][1]["requirements"][DASK]
        restored["$graph"][1]["requirements"][DASK] = fields
        restored["$graph"][1]["hints"].pop(DASK, None)
        for process in restored["$graph"]:
            process["hints"] = process["hints"] or None
        expected = copy.deepcopy(dict(document.data))
        for process in expected["$graph"]:
            process.setdefault("hints", None)
        assert restored == expected


Spoil = Callable[[dict[str, Any], dict[str, Any], dict[str, Any]], Any]

SPOILT: dict[str, tuple[Spoil, str]] = {
    "misspelt": (
        lambda d, w, t: t["requirements"][DASK].update(clusterMaxCore=t["requirements"][DASK].pop("clusterMaxCores")),
        "cloudless-mosaic has no field clusterMaxCore, did you mean clusterMaxCores?",
    ),
    "in hints": (
        lambda d, w, t: t["hints"].update({DASK: t["requirements"].pop(DASK)}),
        "cloudless-mosaic has calrissian:DaskGatewayRequirement in hints, on which calrissian fails; expected it in "
        "requirements.",
    ),
    "an expression": (
        lambda d, w, t: t["requirements"][DASK].update(workerCores="$(inputs.n)"),
        "cloudless-mosaic has the expression '$(inputs.n)' as workerCores: calrissian hands it to the Gateway as text.",
    ),
    "a unit": (
        lambda d, w, t: t["requirements"][DASK].update(clusterMaxMemory="16Gi"),
        "cloudless-mosaic has clusterMaxMemory '16Gi': calrissian reads only a whole number with K, M, G or T; try "
        "16G.",
    ),
    "no worker": (
        lambda d, w, t: t["requirements"][DASK].update(clusterMaxCores=1),
        "cloudless-mosaic leaves room for no worker: clusterMaxCores 1 is less than workerCoresLimit 2.",
    ),
    "a directory in stdout": (
        lambda d, w, t: t.update(stdout="logs/out.txt"),
        "cloudless-mosaic writes stdout into a directory, 'logs/out.txt', on which calrissian fails for such tools.",
    ),
    "no image": (
        lambda d, w, t: t.pop("hints"),
        "cloudless-mosaic has no DockerRequirement with dockerPull, which calrissian takes for the cluster as well.",
    ),
    "called main": (
        lambda d, w, t: w.update(id="main"),
        "main is no name for a process on a platform; expected one that says what it does.",
    ),
    "no label": (lambda d, w, t: w.pop("label"), "monthly-composite has no label."),
    "an input without words": (
        lambda d, w, t: w["inputs"].update(crs="string?"),
        "monthly-composite has no label and no doc for its input crs.",
    ),
    "no resources": (
        lambda d, w, t: (w["requirements"].pop("ResourceRequirement"), t["requirements"].pop("ResourceRequirement")),
        "cloudless-mosaic doesn't say coresMin, coresMax, ramMin, ramMax in a ResourceRequirement.",
    ),
    "no network": (
        lambda d, w, t: (w["requirements"].pop("NetworkAccess"), t["requirements"].pop("NetworkAccess")),
        "cloudless-mosaic works on a Dask cluster without NetworkAccess; expected networkAccess: true.",
    ),
    "no version": (
        lambda d, w, t: d.pop("s:softwareVersion"),
        "spoilt.cwl doesn't say its version; expected s:softwareVersion, with s: https://schema.org/.",
    ),
    "no command": (lambda d, w, t: t.pop("baseCommand"), "cloudless-mosaic has no baseCommand."),
}

DOUBTFUL: dict[str, tuple[Spoil, str]] = {
    "everything is output": (
        lambda d, w, t: t["outputs"]["stac-catalog"]["outputBinding"].update(glob="."),
        "cloudless-mosaic takes whatever it left as stac-catalog (glob '.'): calrissian says success when such a tool "
        "has failed; expected a directory that exists only when it is complete.",
    ),
    "no LOGNAME": (
        lambda d, w, t: t["requirements"].pop("EnvVarRequirement"),
        "cloudless-mosaic doesn't set LOGNAME in an EnvVarRequirement; a user id without a name fails to start a "
        "cluster.",
    ),
    "little memory": (
        lambda d, w, t: t["requirements"]["ResourceRequirement"].update(ramMin=40),
        "cloudless-mosaic asks for 40 MiB (ramMin); calrissian's sidecar needs at least 256.",
    ),
    "a boolean": (
        lambda d, w, t: w["inputs"].update(clip={"type": "boolean?", "label": "Clip", "doc": "Clip."}),
        'monthly-composite takes the boolean clip; some platforms make true of "false": expected an enum.',
    ),
    "another tag": (
        lambda d, w, t: t["hints"]["DockerRequirement"].update(dockerPull="example.org:5000/a/b:7"),
        "cloudless-mosaic runs the image tag 7, but spoilt.cwl says version 0.1.0.dev0; expected the same.",
    ),
    "no tag": (
        lambda d, w, t: t["hints"]["DockerRequirement"].update(dockerPull="example.org:5000/a/b"),
        "cloudless-mosaic runs the image example.org:5000/a/b, which changes; expected a tag of one version.",
    ),
    "schemas": (
        lambda d, w, t: d.update({"$schemas": ["https://schema.org/version/latest/schemaorg.rdf"]}),
        "spoilt.cwl has $schemas, which every reader would fetch; expected none.",
    ),
    "another file": (
        lambda d, w, t: w["steps"]["mosaic"].update(run="tool.cwl"),
        "monthly-composite runs 'tool.cwl' in its step mosaic; expected a tool of the same file, as #id.",
    ),
    "for all tools": (
        lambda d, w, t: w["requirements"].update({DASK: t["requirements"].pop(DASK)}),
        "monthly-composite hands calrissian:DaskGatewayRequirement down to all of its tools; expected it in those that "
        "use Dask.",
    ),
    "two workflows": (
        lambda d, w, t: d["$graph"].append({**w, "id": "other"}),
        "spoilt.cwl has 2 workflows and 1 tool in its $graph; expected one workflow and at least one tool.",
    ),
}


def _only_text(value: object) -> str:
    return value if isinstance(value, str) else ""


@pytest.mark.parametrize(("cases", "which"), [(c, w) for c in (SPOILT, DOUBTFUL) for w in c], ids=_only_text)
def test_what_is_to_be_mended(cases: dict[str, tuple[Spoil, str]], which: str, tmp_path: Path) -> None:
    spoil, text = cases[which]
    document = ours()
    spoil(document, *document["$graph"])
    loaded = load(write(tmp_path / "spoilt.cwl", document))
    found = check_requirements(loaded) + check_package(loaded)
    level = "error" if cases is SPOILT else "warning"
    assert text in [str(one) for one in found if one.level == level], [str(one) for one in found]
    others = [str(one) for one in found if str(one) != text and one.level == "error"]
    assert others == [], others


def test_requirements_are_found_wherever_they_are(tmp_path: Path) -> None:
    bad = {**SMALL, "workerCores": "one"}
    inner = {key: value for key, value in shell_tool("true", bad).items() if key not in ("cwlVersion", "$namespaces")}
    write(tmp_path / "other.cwl", shell_tool("true", bad, id="elsewhere"))
    listed = shell_tool("true", None, id="listed", requirements=[{"class": DASK, **bad}])
    document = {
        "cwlVersion": "v1.2",
        "$namespaces": listed.pop("$namespaces"),
        "class": "Workflow",
        "id": "flow",
        "inputs": [],
        "outputs": [],
        "steps": [
            {"id": "a", "run": "other.cwl", "in": [], "out": []},
            {"id": "b", "run": {**inner, "id": "inside"}, "in": [], "out": []},
            {"id": "c", "run": listed, "in": [], "out": []},
            {"id": "d", "run": "other.cwl", "requirements": {DASK: bad}, "in": [], "out": []},
        ],
    }
    path = write(tmp_path / "flow.cwl", document)
    assert sorted(use.where for use in load(path).uses()) == ["elsewhere", "flow/d", "inside", "listed"]
    errors = [one for one in check_requirements(load(path)) if one.level == "error" and "workerCores" in one.text]
    assert len(errors) == 4


def test_the_schema_is_asked(cwltool: None, tmp_path: Path) -> None:
    document = ours()
    document["$graph"][0]["steps"]["mosaic"]["in"]["crs"] = "nowhere"
    (found, *_) = check_schema(load(write(tmp_path / "spoilt.cwl", document)))
    assert found.level == "error"
    assert "Field 'source' references unknown identifier 'nowhere'" in found.text
    assert "\n" not in found.text


@pytest.mark.long
def test_the_checkers_leave_nothing(cwltool: None, shell: Shell) -> None:
    pytest.importorskip("ap_validator")
    pytest.importorskip("eoap_validator")
    done = shell.call("cwl", "validate", WORKFLOWS / "bai.cwl")
    assert done.returncode == 0, done.stdout
    assert done.stderr.endswith("bai.cwl is fine, ap-validator and eoap-validator agree.\n")
    shell.assert_tidy()


def test_the_command(cwltool: None, shell: Shell) -> None:
    done = shell.call("cwl", "validate", "--no-ogc", WORKFLOWS / "monthly-composite.cwl")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr.endswith("monthly-composite.cwl is fine.\n")
    document = ours()
    document["$graph"][1]["requirements"][DASK]["workerCores"] = 0.5
    path = write(shell.cwd / "spoilt.cwl", document)
    done = shell.call("cwl", "validate", "--no-ogc", path.name)
    assert done.returncode == 1
    assert done.stdout == (
        "spoilt.cwl: error: cloudless-mosaic has workerCores 0.5, where a whole number was expected, such as "
        "workerCores: 2.\n"
    )
    done = shell.call("cwl", "validate", "--no-ogc", "--json", path.name)
    assert json.loads(done.stdout)["spoilt.cwl"][0]["where"] == "cloudless-mosaic"
    job = shell.cwd / "job.yml"
    job.write_text("resolution: 100\n")
    done = shell.call("cwl", "validate", job.name)
    assert done.returncode == 2
    assert done.stderr.startswith("Error: job.yml isn't a CWL file. Expected cwlVersion, and a class such as ")


def test_a_file_that_is_none_does_not_hide_the_others(cwltool: None, shell: Shell) -> None:
    (shell.cwd / "job.yml").write_text("resolution: 100\n")
    document = ours()
    document["$graph"][1]["requirements"][DASK]["workerCores"] = 0.5
    spoilt = write(shell.cwd / "spoilt.cwl", document).name
    fine = WORKFLOWS / "bai.cwl"
    done = shell.call("cwl", "validate", "--no-ogc", "nowhere.cwl", "job.yml", fine, spoilt)
    assert done.returncode == 2
    assert done.stdout.startswith("spoilt.cwl: error: cloudless-mosaic has workerCores 0.5")
    first, second, third = done.stderr.splitlines()
    assert first.startswith("Error: ")
    assert "nowhere.cwl" in first
    assert second.startswith("Error: job.yml isn't a CWL file.")
    assert third == f"{fine} is fine."
