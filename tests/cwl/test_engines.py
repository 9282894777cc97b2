"""Container engines: the plumbing, with an engine that runs the command itself.

What images do is tested with real containers, where there are any.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
from tests.support.command_line import Shell
from tests.support.cwl import assert_nothing_left, clusters, last_line, shell_tool, write

from eoap_dask.cluster.gateway.server import LocalGateway

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("runner"), pytest.mark.long]

ENGINE = """#!{python}
import json, os, subprocess, sys
words = sys.argv[1:]
with open("{log}", "a") as log:
    log.write(json.dumps(words) + "\\n")
if words[0] == "inspect":
    print('[{{"Id": "toy"}}]')
if words[0] != "run":
    sys.exit(0)  # images, stats, kill
image = words.index("example.org/toy:7")
env, volumes = {{"PATH": os.environ["PATH"]}}, {{}}
for word in words[1:image]:
    if word.startswith("--env="):
        name, equals, value = word.removeprefix("--env=").partition("=")
        env[name] = value if equals else os.environ[name]
    if word.startswith("--mount="):
        given = dict(part.split("=", 1) for part in word.removeprefix("--mount=").split(",") if "=" in part)
        volumes[given["target"]] = given["source"]
    if word.startswith("--cidfile="):
        open(word.removeprefix("--cidfile="), "w").write("toy")
workdir = next(word.partition("=")[2] for word in words if word.startswith("--workdir="))
env["SHARED"] = volumes.get("/shared", "")
sys.exit(subprocess.call(words[image + 1:], cwd=volumes[workdir], env=env))
"""


@pytest.fixture
def engine(shell: Shell) -> Path:
    """A command docker and podman; the log of what it was told."""
    log = shell.cwd.parent / "engine.log"
    folder = shell.cwd.parent / "bin"
    folder.mkdir()
    for name in ("docker", "podman"):
        (folder / name).write_text(ENGINE.format(python=sys.executable, log=log))
        (folder / name).chmod(0o755)
    shell.env["PATH"] = f"{folder}:/usr/bin:/bin"
    return log


@pytest.mark.parametrize("option", ["--docker", "--podman"])
def test_a_tool_in_a_container(
    option: str, shell: Shell, engine: Path, elsewhere: list[str], foreign: LocalGateway
) -> None:
    tool = shell_tool(
        'env > out; cat "$SHARED/dask_cluster_name.txt" >> out',
        hints={"DockerRequirement": {"dockerPull": "example.org/toy:7"}, "NetworkAccess": {"networkAccess": True}},
    )
    path = write(shell.cwd / "tool.cwl", tool)
    done = shell.run("run-cwl", *elsewhere, option, "--disable-pull", path.name, timeout=170)
    assert done.returncode == 0, done.stderr
    told = (shell.cwd / "out").read_text().splitlines()
    (name,) = clusters(done)
    assert f"DASK_CLUSTER={name}" in told
    assert "DASK_CLUSTER_NAME_PATH=/shared/dask_cluster_name.txt" in told
    assert told[-1] == name
    access = foreign.client_environment
    assert {f"{key}={value}" for key, value in access.items()} <= set(told)
    (words,) = [one for one in map(json.loads, engine.read_text().splitlines()) if one[0] == "run"]
    assert "--net=host" in words  # the Gateway is on this machine
    password = access["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
    assert password not in " ".join(words)
    assert password not in done.stderr
    assert_nothing_left(shell)


@pytest.mark.parametrize("options", [["--singularity"], ["--user-space-docker-cmd", "udocker"]])
def test_other_engines_have_no_network_of_their_own(options: list[str], shell: Shell) -> None:
    hints = {"DockerRequirement": {"dockerPull": "example.org/toy:7"}}
    path = write(shell.cwd / "tool.cwl", shell_tool("true", hints=hints))
    done = shell.run("run-cwl", *options, path.name, timeout=170)  # neither is on the path
    assert done.returncode != 0
    assert "starting the Dask cluster" in done.stderr
    assert "--custom-net" not in done.stderr
    assert_nothing_left(shell)


def test_the_code_of_a_tool_in_a_container(shell: Shell, engine: Path, elsewhere: list[str]) -> None:
    hints = {"DockerRequirement": {"dockerPull": "example.org/toy:7"}}
    path = write(shell.cwd / "tool.cwl", shell_tool("exit 3", hints=hints))
    done = shell.run("run-cwl", *elsewhere, "--podman", "--disable-pull", path.name, timeout=170)
    assert done.returncode == 3
    assert_nothing_left(shell)


def test_an_image_that_is_a_hint_is_ignored_without_an_engine(shell: Shell, engine: Path, elsewhere: list[str]) -> None:
    hints = {"DockerRequirement": {"dockerPull": "example.org/toy:7"}}
    path = write(shell.cwd / "tool.cwl", shell_tool("pwd > out", hints=hints))
    done = shell.run("run-cwl", *elsewhere, path.name, timeout=170)
    assert done.returncode == 0, done.stderr
    assert not engine.exists()


def test_an_image_that_is_required_is_used(shell: Shell, engine: Path) -> None:
    tool = shell_tool("exit 6", None)
    tool["requirements"]["NetworkAccess"] = {"networkAccess": True}
    tool["requirements"]["DockerRequirement"] = {"dockerPull": "example.org/toy:7"}
    path = write(shell.cwd / "tool.cwl", tool)
    assert shell.run("run-cwl", "--no-container", path.name, timeout=170).returncode == 33
    assert not engine.exists()
    assert shell.run("run-cwl", "--disable-pull", path.name, timeout=170).returncode == 6
    assert engine.exists()


def test_an_image_that_cannot_be_had(shell: Shell, engine: Path, elsewhere: list[str]) -> None:
    for path in engine.parent.joinpath("bin").iterdir():
        path.write_text("#!/bin/sh\nexit 1\n")
    hints = {"DockerRequirement": {"dockerPull": "example.org/toy:7"}}
    path = write(shell.cwd / "tool.cwl", shell_tool("exit 3", hints=hints))
    done = shell.run("run-cwl", *elsewhere, "--podman", path.name, timeout=170)
    assert done.returncode == 1
    assert last_line(done).startswith("Error: Step toy couldn't begin: Docker is not available for this tool, ")
    assert_nothing_left(shell)
