"""The files that a platform applies and builds: they fit their schemas, and one another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from packaging.requirements import Requirement
from tests.support.pod import HARDENED, ROOT

from eoap_dask.__about__ import __version__
from eoap_dask.cli.main import cli
from eoap_dask.cli.variables import READ_ELSEWHERE, variables_of
from eoap_dask.cluster.environment import HEAP
from eoap_dask.cwl.document import load

IMAGE = ROOT / "deploy" / "image"
PAGE = (ROOT / "docs" / "calrissian.md").read_text()


def manifests(text: str) -> list[dict[str, Any]]:
    """Return the documents of a file."""
    return [one for one in yaml.safe_load_all(text) if one]


def validate(documents: list[dict[str, Any]], oldest: str = "1.30") -> None:
    """Check documents against the schemas of Kubernetes, of the oldest version that we mean and of the newest."""
    checker = pytest.importorskip("kubernetes_validate")
    for document in documents:
        for version in (oldest, checker.latest_version()):
            checker.validate(document, version, strict=True)


def test_the_config_map_holds_the_scripts_under_the_names_that_calrissian_runs() -> None:
    about = yaml.safe_load((HARDENED / "kustomization.yaml").read_text())
    (generated,) = about["configMapGenerator"]
    assert generated["files"] == ["init-dask.py", "dispose-dask.py"]
    assert about["generatorOptions"]["disableNameSuffixHash"] is True  # calrissian is told one name, always the same
    files = {name: (HARDENED / name).read_text() for name in generated["files"]}
    assert sum(map(len, files.values())) < 1 << 20  # what a config map may hold
    validate([{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": generated["name"]}, "data": files}])


def test_the_manifests_fit_the_schemas() -> None:
    documents = manifests((HARDENED / "rbac.yaml").read_text())
    assert [one["kind"] for one in documents] == ["ServiceAccount", "ServiceAccount", "Role", "RoleBinding"]
    validate(documents)
    calrissian, steps, role, binding = documents
    assert steps["automountServiceAccountToken"] is False
    assert [one["name"] for one in binding["subjects"]] == [calrissian["metadata"]["name"]]
    rules = {tuple(rule["resources"]): set(rule["verbs"]) for rule in role["rules"]}
    assert rules == {
        ("pods",): {"create", "get", "list", "watch", "delete"},
        ("pods/log",): {"get"},
        ("configmaps",): {"create", "get", "delete"},
    }


@pytest.mark.parametrize("path", sorted((HARDENED / "policies").iterdir()), ids=lambda path: path.stem)
def test_the_policies_are_for_the_pods_of_steps_in_namespaces_that_ask(path: Path) -> None:
    policy, binding = documents = manifests(path.read_text())
    validate(documents, oldest="1.36")
    (condition,) = policy["spec"]["matchConditions"]
    assert "sidecar-container" in condition["expression"]
    (asked,) = binding["spec"]["matchResources"]["namespaceSelector"]["matchLabels"]
    assert f"{asked}=true" in PAGE
    assert str(path.relative_to(ROOT)) in PAGE
    assert binding["spec"]["policyName"] == policy["metadata"]["name"] == binding["metadata"]["name"]


def test_the_pod_of_calrissian_runs_the_documented_command() -> None:
    (pod,) = manifests((HARDENED / "calrissian-pod.yaml").read_text())
    validate([pod])
    (container,) = pod["spec"]["containers"]
    command = re.findall(r"^calrissian --max-ram(?:.*\\\n)*.*$", PAGE, re.MULTILINE)[0].replace("\\\n", " ").split()
    *options, workflow, job = container["args"]
    assert [*options, workflow.rpartition("/")[2], job.rpartition("/")[2]] == command[1:]
    name, process = command[-2].split("#")
    assert load(ROOT / "cwl-workflows" / name).process(process)["class"] == "Workflow"
    flags = {one for one in options if one.startswith("--")} - {"--outdir", "--tmp-outdir-prefix"}
    assert flags <= set(re.findall(r"`(--[a-z-]+)`", PAGE))
    accounts = {one["metadata"]["name"] for one in manifests((HARDENED / "rbac.yaml").read_text())}
    assert {pod["spec"]["serviceAccountName"], options[options.index("--pod-serviceaccount") + 1]} <= accounts


def test_what_the_pages_for_platforms_name_is_there() -> None:
    for text in (PAGE, (ROOT / "docs" / "cwl.md").read_text()):
        known = variables_of(cli) | READ_ELSEWHERE
        assert set(re.findall(r"EOAP_DASK_[A-Z_]*[A-Z]", text)) <= known
        for path in re.findall(r"deploy/[\w./-]+\w", text):
            assert (ROOT / path).exists(), path
        for line in re.findall(r"^(?:eoap-dask|cloudless-mosaic|bai) .*$", text, re.MULTILINE):
            name, *words = line.partition("  #")[0].split()
            command: click.Command = cli if name == "eoap-dask" else cli.commands[name]
            while isinstance(command, click.Group):
                command = command.commands[words.pop(0)]
            if command.name != "run-cwl":  # cwltool's are its as well
                flags = {flag for one in command.params for flag in [*one.opts, *one.secondary_opts]}
                assert {word for word in words if word.startswith("--")} <= flags, line


def test_calrissian_comes_from_one_place() -> None:
    files = [ROOT / "README.md", *(ROOT / "docs").glob("*.md"), *HARDENED.rglob("*.*")]
    text = "\n".join(path.read_text() for path in files)
    assert set(re.findall(r"github\.com/(\w[\w-]*)/calrissian", text)) == {"GeoLabs"}
    assert len({commit[:7] for commit in re.findall(r"calrissian[@:]([0-9a-f]{7,40})", text)}) == 1


def test_one_tag_everywhere() -> None:
    said = re.findall(r"(?:eoap-dask:|VERSION=)(\d[\w.]+)", (ROOT / "Dockerfile").read_text())
    assert set(said) == {__version__}
    for path in (ROOT / "cwl-workflows").glob("*.cwl"):
        assert set(re.findall(r"eoap-dask:([\w.]+)", path.read_text())) == {__version__}
    # what asks for PyTorch runs the image that has it, and no other does
    tags = {
        path.stem: set(re.findall(r"eoap-dask:([\w.-]+)", path.read_text()))
        for path in (ROOT / "cwl-workflows").glob("*.cwl")
    }
    assert tags.pop("change-detection") == {f"{__version__}-btc"}
    assert set().union(*tags.values()) == {__version__}
    assert re.findall(r"^FROM .* AS (\w+)$", (ROOT / "Dockerfile").read_text(), re.M) == [
        "packages",
        "build",
        "torch",
        "runtime",
        "btc",
    ]


def test_kustomize_makes_what_is_to_be_applied() -> None:
    kubectl = shutil.which("kubectl")
    if kubectl is None:
        pytest.skip("kubectl is not here")
    made = subprocess.run([kubectl, "kustomize", str(HARDENED)], capture_output=True, text=True, check=True, timeout=60)
    documents = manifests(made.stdout)
    validate(documents)
    (config_map,) = (one for one in documents if one["kind"] == "ConfigMap")
    assert config_map["metadata"]["name"] == "eoap-dask-scripts"
    assert config_map["data"] == {path.name: path.read_text() for path in HARDENED.glob("*-dask.py")}


def test_the_dockerfile_is_clean() -> None:
    hadolint = shutil.which("hadolint", path=os.pathsep.join([sysconfig.get_path("scripts"), os.environ["PATH"]]))
    if hadolint is None:
        pytest.skip("hadolint is not here")
    done = subprocess.run([hadolint, str(ROOT / "Dockerfile")], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_workers_in_the_image_use_their_memory_again() -> None:
    words = (ROOT / "Dockerfile").read_text().split()
    assert {f"{name}={value}" for name, value in HEAP.items()} <= set(words)


def pinned() -> dict[str, str]:
    """Return the versions that the image installs."""
    lines = (line.strip() for line in (IMAGE / "requirements.txt").read_text().splitlines())
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def test_the_requirements_of_the_image_are_those_of_the_package() -> None:
    asked = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    versions = {re.sub(r"[-_.]+", "-", name).lower(): version for name, version in pinned().items()}
    for text in asked:
        requirement = Requirement(text)
        assert requirement.name.lower() in versions, f"{requirement.name}: run deploy/image/pin.sh"
        assert requirement.specifier.contains(versions[requirement.name.lower()]), text


def test_nothing_secret_or_superfluous_enters_the_image() -> None:
    kept = {
        line.removeprefix("!") for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")
    }
    assert kept == {"pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "src", "deploy/image"}
    assert all((ROOT / name).exists() for name in kept)
    text = (ROOT / "Dockerfile").read_text()
    copied = {name for line in re.findall(r"^COPY (?!--from)(.*)$", text, re.M) for name in line.split()[:-1]}
    assert {name for name in copied if not name.startswith("--")} <= {
        *kept,
        *(f"deploy/image/{path.name}" for path in IMAGE.iterdir()),
    }
    assert "ENTRYPOINT" not in text


@pytest.mark.parametrize("name", ["scheduler", "worker"])
def test_the_commands_that_a_gateway_starts(name: str) -> None:
    script = IMAGE / f"dask-{name}"
    assert script.stat().st_mode & 0o111 == 0o111
    done = subprocess.run(
        [sys.executable, str(script), "--help"], capture_output=True, text=True, check=True, timeout=60
    )
    assert "--preload" in done.stdout  # dask-gateway gives it
