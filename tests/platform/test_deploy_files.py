"""The files that a platform applies and builds: they fit their schemas, and one another."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tomllib
from typing import Any

import pytest
import yaml
from packaging.requirements import Requirement
from tests.support.pod import HARDENED, ROOT

from eoap_dask.cluster.environment import HEAP

IMAGE = ROOT / "deploy" / "image"


def manifests(text: str) -> list[dict[str, Any]]:
    """Return the documents of a file."""
    return [one for one in yaml.safe_load_all(text) if one]


def validate(documents: list[dict[str, Any]]) -> None:
    """Check documents against the schemas of Kubernetes, of the oldest version that we mean and of the newest."""
    checker = pytest.importorskip("kubernetes_validate")
    for document in documents:
        for version in ("1.30", checker.latest_version()):
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
    assert [one["kind"] for one in documents] == ["ServiceAccount", "Role", "RoleBinding"]
    validate(documents)
    rules = {tuple(rule["resources"]): set(rule["verbs"]) for rule in documents[1]["rules"]}
    assert rules == {
        ("pods",): {"create", "get", "list", "watch", "delete"},
        ("pods/log",): {"get"},
        ("configmaps",): {"create", "get", "delete"},
    }


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
