"""The application package through run-cwl, its tool in a container as a platform runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from tests.support.images import IMAGE, SETTINGS, image_or_skip, podman
from tests.support.pod import UID

from eoap_dask.demo.server import DemoServer

pytestmark = [pytest.mark.cluster, pytest.mark.long]

WORKFLOW = Path(__file__).parents[2] / "cwl-workflows" / "monthly-composite.cwl"
ENGINE = ("--podman", "--disable-pull", "--custom-net", "host")


@pytest.fixture(scope="session", autouse=True)
def image() -> None:
    """Skip without the image, or without cwltool and the Gateway server."""
    pytest.importorskip("cwltool")
    pytest.importorskip("dask_gateway_server")
    image_or_skip()


@pytest.fixture
def workflow(tmp_path: Path) -> Path:
    """The committed package, for the image of the tests and with one small worker."""
    text = re.sub(r"(dockerPull:) \S+", rf"\1 {IMAGE}", WORKFLOW.read_text())
    for field, value in {"Cores": "1", "CoresLimit": "1", "Memory": "1G"}.items():
        text, changed = re.subn(rf"(worker{field}:) \S+", rf"\1 {value}", text)
        assert changed == 1
    text = re.sub(r"(clusterMaxCores:) \S+", r"\1 1", re.sub(r"(clusterMaxMemory:) \S+", r"\1 1G", text))
    path = tmp_path / "workflow.cwl"
    path.write_text(text)
    return path


def run(workflow: Path, job: dict[str, object], *options: str) -> subprocess.CompletedProcess[str]:
    """Run a workflow; as root with a wrapper that has the tool run as nobody."""
    folder = workflow.parent
    (folder / "job.yml").write_text(json.dumps(job))
    (folder / "tmp").mkdir()
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "EOAP_DASK_"))}
    kept |= {"CONTAINERS_CONF": SETTINGS, "TMPDIR": str(folder / "tmp")}
    if os.geteuid() == 0:
        kept |= {"PATH": f"{Path(__file__).with_name('bin')}:{kept['PATH']}", "EOAP_TEST_UID": str(UID)}
    return subprocess.run(
        [sys.executable, "-m", "eoap_dask", "run-cwl", *ENGINE, *options, str(workflow), "job.yml", "--outdir", "out"],
        cwd=folder,
        env=kept,
        capture_output=True,
        text=True,
        check=False,
        timeout=170,
    )


def assert_nothing_left(folder: Path) -> None:
    """No container of a run, and no temporary file."""
    assert str(folder) not in podman("ps", "--all", "--format", "{{.Mounts}}").stdout
    assert list((folder / "tmp").iterdir()) == []


def test_from_a_job_to_a_catalog(workflow: Path, catalogue: DemoServer) -> None:
    job = {"stac": catalogue.url, "resolution": 200, "start-date": "2020-10-01", "end-date": "2020-10-31"}
    done = run(workflow, job, "--strict-memory-limit", "--strict-cpu-limit")
    assert done.returncode == 0, done.stderr
    (output,) = json.loads(done.stdout).values()
    catalog = Path(output["path"]) / "catalog.json"
    assert [link["rel"] for link in json.loads(catalog.read_text())["links"]].count("item") == 1
    if os.geteuid() == 0:
        assert catalog.stat().st_uid == UID
    assert_nothing_left(workflow.parent)


def test_a_tool_that_finds_nothing_fails_with_its_own_code(workflow: Path, catalogue: DemoServer) -> None:
    job = {"stac": catalogue.url, "start-date": "2019-01-01", "end-date": "2019-01-31"}
    done = run(workflow, job)
    assert done.returncode == 3, done.stderr
    assert "Error: No items of sentinel-2-l2a" in done.stderr
    assert not (workflow.parent / "out" / "monthly-mosaic").exists()
    assert_nothing_left(workflow.parent)
