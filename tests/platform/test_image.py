"""The image as strictly as a platform runs it; skips where podman or the image isn't there: see images.sh."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.support.images import IMAGE, image_or_skip, podman
from tests.support.pod import REQUIREMENT, SHELL_LINE, UID, VARIABLES

from eoap_dask import __version__
from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.changes import make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.demo.server import DemoServer

pytestmark = pytest.mark.long

STRICT = [
    *("--pull=never", "--network", "host", "--user", f"{UID}:{UID}", "--passwd=false"),
    *("--read-only", "--read-only-tmpfs=false", "--tmpfs", "/tmp:mode=1777", "--cap-drop=all"),  # noqa: S108
    *("--security-opt", "no-new-privileges"),
]
"""Without --passwd=false podman invents a name for the user, and plain --read-only leaves /run writable."""

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session", autouse=True)
def image() -> dict[str, Any]:
    """What podman says of the image, or skip."""
    return image_or_skip()


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A working directory that belongs to the user of the container."""
    folder = tmp_path / "work"
    folder.mkdir(mode=0o700)
    os.chown(folder, UID, UID)
    return folder


@pytest.fixture
def run(work: Path) -> Iterator[Run]:
    """Run a command in a container; no container is left."""
    label = f"eoap-dask-test={work}"

    def run(*command: object, options: tuple[object, ...] = (), image: str = IMAGE) -> subprocess.CompletedProcess[str]:
        volume = ("-v", f"{work}:/w", "-w", "/w", "-e", "HOME=/w")
        return podman("run", "--rm", "--label", label, *STRICT, *volume, *options, image, *command)

    yield run
    left = podman("ps", "--all", "--quiet", "--filter", f"label={label}").stdout.split()
    for container in left:
        podman("rm", "--force", "--time", 1, container)
    assert left == []


def test_its_labels_and_settings(image: dict[str, Any]) -> None:
    labels = image["Labels"]
    assert labels["org.opencontainers.image.version"] == __version__
    assert labels["org.opencontainers.image.licenses"] == "MIT"
    assert image["User"] == "10001:10001"
    assert image.get("Entrypoint") is None
    assert "LOGNAME=eoap" in image["Env"]


def test_nothing_of_the_index_is_in_it(run: Run) -> None:
    done = run("sh", "-c", "ls /etc/pip.conf /run/secrets /build; command -v pip")
    assert done.stdout == ""
    assert done.stderr.count("No such file") == 3
    history = podman("history", "--no-trunc", "--format", "{{.CreatedBy}}", IMAGE).stdout
    assert "index-url" not in history


def test_a_user_without_a_name_on_a_read_only_root(run: Run) -> None:
    done = run(
        "sh", "-c", "id -u; python -c 'import getpass; print(getpass.getuser())'; touch /here || touch /run/here"
    )
    assert done.stdout.split() == [str(UID), "eoap"]
    assert done.stderr.count("Read-only file system") == 2


def test_the_standard_library_is_compiled(run: Run) -> None:
    program = "import asyncio, os; print(os.path.exists(asyncio.__cached__))"
    assert run("python", "-c", program).stdout.strip() == "True"


@pytest.mark.parametrize("command", ["dask-scheduler", "dask-worker"])
def test_the_commands_that_a_gateway_starts(command: str, run: Run) -> None:
    done = run(command, "--version")
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith(f"{command}, version 20")


def test_the_default_command_says_what_there_is(run: Run) -> None:
    done = run()
    assert done.stdout.startswith("Usage: eoap-dask")


@pytest.mark.cluster
def test_the_mosaic_on_a_cluster_of_its_own(run: Run, work: Path, catalogue: DemoServer) -> None:
    done = run(
        *("cloudless-mosaic", "--stac", catalogue.url, "--resolution", 200, "--cluster", "local", "--workers", 1),
        *("--start-date", "2020-10-01", "--end-date", "2020-10-31"),
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "/w/monthly-mosaic/catalog.json\n"
    assert (work / "monthly-mosaic" / "catalog.json").stat().st_uid == UID
    assert {path.name for path in work.iterdir()} <= {"monthly-mosaic", ".config"}


@pytest.mark.cluster
@pytest.mark.parametrize("has_limits", [False, True], ids=["free", "512 MiB"])
def test_a_step_of_calrissian_in_containers(
    has_limits: bool, run: Run, work: Path, tmp_path: Path, catalogue: DemoServer, platform_gateway: LocalGateway
) -> None:
    shared, config = tmp_path / "shared", tmp_path / "config"
    shared.mkdir()
    shared.chmod(0o777)
    config.mkdir()
    (config / "gateway.yaml").write_text(json.dumps({"gateway": {"address": platform_gateway.address}}))
    scripts = Path(__file__).parents[2] / "deploy" / "calrissian"
    variables = {
        **{variable: REQUIREMENT[field] for field, variable in VARIABLES.items()},
        **{k: v for k, v in platform_gateway.client_environment.items() if k != "DASK_GATEWAY__ADDRESS"},
        "DASK_GATEWAY_URL": platform_gateway.address,
        "DASK_GATEWAY_IMAGE": IMAGE,
        "DASK_CLUSTER_NAME_PATH": "/shared/dask_cluster_name.txt",
    }
    options = (
        *("-v", f"{shared}:/shared", "-v", f"{config}:/etc/dask:ro", "-v", f"{scripts}:/controller:ro"),
        *(word for name, value in variables.items() for word in ("-e", f"{name}={value}")),
    )
    init = run("python", "/controller/init-dask.py", options=options)
    assert init.returncode == 0, init.stderr
    name = (shared / "dask_cluster_name.txt").read_text()
    command = ["cloudless-mosaic", "--stac", catalogue.url, "--resolution", "200"]
    command += ["--start-date", "2020-10-01", "--end-date", "2020-10-31"]
    if has_limits:  # of a small pod: the work is elsewhere
        options += ("--memory", "512m", "--memory-swap", "512m")
    line = SHELL_LINE.format(command=shlex.join(command))
    main = run("/bin/sh", "-c", line, options=options)
    assert main.returncode == 0, main.stderr
    sidecar = run("python", "/controller/dispose-dask.py", options=options)
    assert sidecar.returncode == 0, sidecar.stderr
    assert (work / "monthly-mosaic" / "catalog.json").is_file()
    with platform_gateway.configured(), GatewayApi() as api:
        found = api.cluster(name)
    assert found is None or not found.is_live


@pytest.mark.cluster
def test_the_network_in_the_image_that_has_pytorch(run: Run, work: Path) -> None:
    image_or_skip(f"{IMAGE}-btc")
    land = make_changes(work.parent / "land", rows=1, cols=1, cell_px=64, clouds=0.0)
    shutil.copy(land.cells, work / "cells.gpkg")
    os.chown(work / "cells.gpkg", UID, UID)
    made = run("eoap-dask", "btc", "random", "/w/toy.safetensors", image=f"{IMAGE}-btc")
    assert made.returncode == 0, made.stderr
    with ServerProcess(land.root) as server:
        done = run(
            *("change-detection", "--method", "btc", "--weights", "/w/toy.safetensors", "--window", 32),
            *("--grid", "/w/cells.gpkg", "--years", "2022-2023", "--stac", server.url, "--cluster", "local"),
            image=f"{IMAGE}-btc",
        )
    assert done.returncode == 0, done.stderr
    assert (work / "changes" / "masks" / "2023" / "change_mask_grid_463_2023.png").is_file()


def test_the_image_without_pytorch_says_so(run: Run) -> None:
    done = run("eoap-dask", "btc", "random", "/w/toy.safetensors")
    assert done.returncode == 2
    assert "Weights need torch and safetensors" in done.stderr
