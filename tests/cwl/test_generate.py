"""The committed files are what the parameters and the version say, and a build puts them beside its wheel."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.command_line import Shell
from tests.support.cwl import DASK, ROOT, WORKFLOWS

from eoap_dask.__about__ import __version__
from eoap_dask.applications.entry import Entry
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cwl.describe import inputs_of
from eoap_dask.cwl.generate import files, package, scattered, to_text, tool


def test_committed_files_are_up_to_date() -> None:
    committed = {path.name: path.read_text() for path in WORKFLOWS.glob("*.cwl")}
    assert committed == files(), "run eoap-dask cwl generate"


@pytest.mark.parametrize("name", sorted(files()))
def test_a_file_says_what_platforms_ask_for(name: str) -> None:
    document = yaml.safe_load(files()[name])
    workflow, tool = document["$graph"]
    assert document["cwlVersion"] == "v1.2"
    assert document["s:softwareVersion"] == __version__
    assert tool["hints"]["DockerRequirement"]["dockerPull"].endswith(
        f":{__version__}-btc" if name == "change-detection.cwl" else f":{__version__}"
    )
    assert list(tool["requirements"][DASK]) == [
        *("workerCores", "workerCoresLimit", "workerMemory", "clusterMaxCores", "clusterMaxMemory")
    ]
    assert tool["temporaryFailCodes"] == [4, 5]
    assert tool["permanentFailCodes"] == [1, 2, 3, 6]
    assert tool["requirements"]["EnvVarRequirement"]["envDef"]["LOGNAME"]
    assert tool["arguments"] == ["--output-dir", tool["outputs"]["stac-catalog"]["outputBinding"]["glob"]]
    for process in (workflow, tool):
        assert process["requirements"]["NetworkAccess"] == {"networkAccess": True}
        assert set(process["requirements"]["ResourceRequirement"]) == {"coresMin", "coresMax", "ramMin", "ramMax"}
        for about in [process, *process["inputs"].values(), *process["outputs"].values()]:
            assert about["label"]
            assert about["doc"]
        assert not [one for one in process["inputs"].values() if one["type"] == "boolean"]
    (step,) = workflow["steps"].values()
    assert step["run"] == f"#{tool['id']}"
    assert set(step["in"]) == set(tool["inputs"])
    assert len(workflow["id"]) < 30


@pytest.mark.parametrize("name", sorted(files()))
def test_docs_speak_of_inputs_not_of_options(name: str) -> None:
    for process in yaml.safe_load(files()[name])["$graph"]:
        for about in [process, *process["inputs"].values(), *process["outputs"].values()]:
            assert "--" not in about["doc"]
            assert "any vector file" not in about["doc"]


@pytest.mark.parametrize("entry", APPLICATIONS.values(), ids=list(APPLICATIONS))
def test_docs_of_the_registry_are_of_inputs_there_are(entry: Entry) -> None:
    assert set(entry.package.docs) <= {one.id for one in inputs_of(entry.params)}


def test_the_owners_job_is_enough() -> None:
    inputs = yaml.safe_load(files()["monthly-composite.cwl"])["$graph"][0]["inputs"]
    needed = [name for name, about in inputs.items() if "default" not in about and not str(about["type"]).endswith("?")]
    assert needed == []
    job = yaml.safe_load((WORKFLOWS / "monthly-composite.yml").read_text())
    assert set(job) == {"resolution", "start-date", "end-date"}


def test_the_scattered_variant_takes_names_and_values() -> None:
    document = yaml.safe_load(files()["monthly-composite-scatter.cwl"])
    workflow, tool = document["$graph"]
    (step,) = workflow["steps"].values()
    assert step["scatter"] == ["name", "aoi"]
    assert step["in"]["aoi"] == "areas"
    assert workflow["inputs"]["areas"]["type"] == "string[]"
    assert "aoi" not in workflow["inputs"]
    assert workflow["outputs"]["stac-catalog"]["type"] == {"type": "array", "items": ["null", "Directory"]}
    assert tool["arguments"] == ["--output-dir", "$(inputs.name)"]
    assert "inputBinding" not in tool["inputs"]["name"]
    assert "InlineJavascriptRequirement" not in str(workflow)


def test_the_same_document_is_the_same_text() -> None:
    for entry in APPLICATIONS.values():
        for make in (package, tool, *((scattered,) if entry.package.scatter else ())):
            text = to_text(make(entry), entry)
            assert text == to_text(make(entry), entry)
            assert yaml.safe_load(text) == plain(make(entry))
            assert "&id" not in text
            assert max(map(len, text.splitlines())) < 130


def plain(node: Any) -> Any:
    """A document of nothing but what YAML has."""
    if isinstance(node, dict):
        return {key: plain(value) for key, value in node.items()}
    return [plain(one) for one in node] if isinstance(node, list | tuple) else node


def test_generate_writes_and_checks(shell: Shell) -> None:
    done = shell.call("cwl", "generate")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [f"cwl-workflows/{name}" for name in files()]
    assert shell.call("cwl", "generate", "--check").returncode == 0
    path = shell.cwd / "cwl-workflows" / "monthly-composite.cwl"
    path.write_text(path.read_text().replace("workerMemory: 4G", "workerMemory: 8G"))
    done = shell.call("cwl", "generate", "--check")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "Error: cwl-workflows/monthly-composite.cwl isn't what the parameters and the version say. "
        "Try eoap-dask cwl generate.\n"
    )


def test_generate_for_another_image(shell: Shell) -> None:
    assert shell.call("cwl", "generate", "--image", "localhost:5000/mine").returncode == 0
    text = (shell.cwd / "cwl-workflows" / "monthly-composite.cwl").read_text()
    assert f"dockerPull: localhost:5000/mine:{__version__}\n" in text
    assert shell.call("cwl", "generate", "--image", "mine:7", "--output-dir", "x").returncode == 0
    assert "dockerPull: mine:7\n" in (shell.cwd / "x" / "monthly-composite.cwl").read_text()


@pytest.mark.parametrize("name", APPLICATIONS)
def test_a_command_prints_its_tool(shell: Shell, name: str) -> None:
    done = shell.call(name, "--cwl")
    assert done.returncode == 0
    assert done.stderr == ""
    document = yaml.safe_load(done.stdout)
    assert document == plain(tool(APPLICATIONS[name]))
    assert (document["class"], document["id"], document["baseCommand"]) == ("CommandLineTool", name, name)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of what a build needs."""
    copy = tmp_path / "project"
    copy.mkdir()
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "CHANGELOG.md"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(WORKFLOWS, copy / "cwl-workflows")
    (copy / "src" / "eoap_dask").mkdir(parents=True)
    for name in ("__init__.py", "__about__.py"):
        shutil.copy(ROOT / "src" / "eoap_dask" / name, copy / "src" / "eoap_dask")
    return copy


def build(project: Path, target: str = "wheel") -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "hatchling", "build", "-t", target, "-d", "dist"]
    return subprocess.run(command, cwd=project, capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.long
def test_a_build_puts_the_packages_beside_the_wheel(project: Path) -> None:
    done = build(project)
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in (project / "dist").iterdir()) == sorted(
        [f"eoap_dask-{__version__}-py3-none-any.whl"]
        + [f"{name.removesuffix('.cwl')}.{__version__}.cwl" for name in files()]
    )
    asset = project / "dist" / f"monthly-composite.{__version__}.cwl"
    assert asset.read_text() == files()["monthly-composite.cwl"]


@pytest.mark.long
def test_a_build_refuses_the_packages_of_another_version(project: Path) -> None:
    about = project / "src" / "eoap_dask" / "__about__.py"
    about.write_text(re.sub(r'__version__ = ".*"', '__version__ = "99.1"', about.read_text()))
    done = build(project)
    assert done.returncode != 0
    assert "isn't of version 99.1. Try eoap-dask cwl generate." in done.stderr
    assert not list((project / "dist").glob("*"))


@pytest.mark.long
def test_the_sdist_has_all_that_is_versioned(tmp_path: Path) -> None:
    command = ["git", "ls-files"]
    asked = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if asked.returncode:
        pytest.skip("not a git checkout")
    wanted = {name for name in asked.stdout.splitlines() if (ROOT / name).is_file()}
    for name in wanted:
        (tmp_path / "project" / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / "project" / name)
    done = build(tmp_path / "project", "sdist")
    assert done.returncode == 0, done.stderr
    (path,) = (tmp_path / "project" / "dist").iterdir()
    with tarfile.open(path) as sdist:
        packed = {name.partition("/")[2] for name in sdist.getnames()}
    assert wanted - packed == set()
