"""Any tool on a cluster: what it is told, and how its failures are seen. No cluster is left in any case."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import pytest
from tests.support.command_line import Shell
from tests.support.cwl import (
    DASK,
    SMALL,
    assert_nothing_left,
    clusters,
    in_workflow,
    last_line,
    outputs,
    shell_tool,
    write,
)

from eoap_dask.__about__ import __version__
from eoap_dask.cluster.gateway.server import LocalGateway

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("runner")]


def run(shell: Shell, elsewhere: list[str], tool: dict[str, Any], *arguments: object) -> Any:
    """Run a document as a workflow of its own."""
    path = write(shell.cwd / "tool.cwl", tool)
    return shell.run("run-cwl", *elsewhere, *arguments, path.name, timeout=170)


@pytest.mark.long
def test_what_a_tool_is_told(shell: Shell, elsewhere: list[str], foreign: LocalGateway) -> None:
    hints = {"DockerRequirement": {"dockerPull": "example.org/toy:7"}}
    script = 'env > out; cat "$DASK_CLUSTER_NAME_PATH" > name'
    tool = shell_tool(
        script,
        hints=hints,
        outputs={name: {"type": "File", "outputBinding": {"glob": name}} for name in ("out", "name")},
    )
    done = run(shell, elsewhere, tool)
    assert done.returncode == 0, done.stderr
    told = dict(line.split("=", 1) for line in (shell.cwd / "out").read_text().splitlines() if "=" in line)
    (name,) = clusters(done)
    assert (shell.cwd / "name").read_text() == name  # the bare name, as calrissian writes it
    path = told.pop("DASK_CLUSTER_NAME_PATH")
    assert Path(path).name == "dask_cluster_name.txt"
    expected = {
        "DASK_CLUSTER": name,
        "DASK_GATEWAY_URL": foreign.address,
        "DASK_GATEWAY_IMAGE": "example.org/toy:7",
        "DASK_GATEWAY_WORKER_CORES": "1",
        "DASK_GATEWAY_WORKER_CORES_LIMIT": "1",
        "DASK_GATEWAY_WORKER_MEMORY": "512M",
        "DASK_GATEWAY_CLUSTER_MAX_CORES": "1",
        "DASK_GATEWAY_CLUSTER_MAX_RAM": "512M",
    }
    assert {key: value for key, value in told.items() if key in expected} == expected
    access = foreign.client_environment
    assert {key: value for key, value in told.items() if key in access} == access
    assert Path(told["PATH"].split(":")[0], "python").exists()
    password = access["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
    assert password not in done.stderr + done.stdout
    assert_nothing_left(shell)


@pytest.mark.long
@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ("echo x > out; exit 7", 7, "toy ended with exit code 7."),
        ("exit 5", 5, "toy ended with exit code 5."),
        ("kill -9 $$", 137, "toy was killed by SIGKILL."),
        ("kill -TERM $$", 143, "toy was killed by SIGTERM."),
        ("true", 1, "toy didn't give the outputs that were expected of it."),
        (
            f"{sys.executable} -c 'import resource as r; r.setrlimit(r.RLIMIT_AS, (1 << 28,) * 2); bytearray(1 << 29)'",
            1,
            "toy ended with exit code 1.",
        ),
    ],
    ids=["fails", "fails temporarily", "killed", "terminated", "no output", "out of memory"],
)
def test_a_tool_that_fails(shell: Shell, elsewhere: list[str], script: str, code: int, says: str) -> None:
    tool = shell_tool(script, baseCommand="toy", arguments=[], temporaryFailCodes=[5], permanentFailCodes=[7])
    program = shell.cwd.parent / "bin" / "toy"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\n{script}\n")
    program.chmod(0o755)
    path = write(shell.cwd / "tool.cwl", in_workflow(tool))
    env = {"PATH": f"{program.parent}:/usr/bin:/bin"}
    done = shell.run("run-cwl", *elsewhere, path.name, "--outdir", "results", env=env, timeout=170)
    assert done.returncode == code, done.stderr
    (name,) = clusters(done)
    said = "" if script == "true" else "What it said is above. "
    assert last_line(done) == (
        f"Error: Step one: {says} {said}The logs of its cluster are in results/dask-logs/one-{name}."
    )
    assert ("Traceback" in done.stderr) is ("MemoryError" in done.stderr)  # the tool's own
    assert outputs(done)["out"] is None or code == 7
    assert (shell.cwd / "results" / "dask-logs" / f"one-{name}" / "scheduler.log").stat().st_size > 0
    assert_nothing_left(shell)


@pytest.mark.long
def test_a_tool_that_is_not_there(shell: Shell, elsewhere: list[str]) -> None:
    done = run(shell, elsewhere, shell_tool("", baseCommand="no-such-command", arguments=[]))
    assert done.returncode == 1
    assert "'no-such-command' not found" in done.stderr
    assert "Error: Step toy: no-such-command couldn't be started." in last_line(done)
    assert_nothing_left(shell)


WORKER_DIES = """
import os
from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_client

with gateway_client(GatewayOptions(name=os.environ["DASK_CLUSTER"])) as client:
    client.run_on_scheduler(lambda dask_scheduler: setattr(dask_scheduler, "allowed_failures", 0))
    print(client.submit(lambda: len(bytearray(os.urandom(1)) * (2 << 30)), pure=False).result())
"""


@pytest.mark.long
def test_workers_that_run_out_of_memory(shell: Shell, elsewhere: list[str]) -> None:
    program = shell.cwd.parent / "program.py"
    program.write_text(WORKER_DIES)
    done = run(shell, elsewhere, shell_tool(f"{sys.executable} {program} && echo x > out"), "--dask-logs", "kept")
    assert done.returncode == 1
    assert "KilledWorker" in done.stderr
    (logs,) = (shell.cwd / "kept").iterdir()
    assert logs.name == f"toy-{clusters(done)[0]}"
    assert_nothing_left(shell)


@pytest.mark.long
def test_logs_of_a_success_are_kept_when_asked_for(shell: Shell, elsewhere: list[str]) -> None:
    done = run(shell, elsewhere, shell_tool("echo x > out"), "--dask-logs", "kept")
    assert done.returncode == 0, done.stderr
    assert (shell.cwd / "kept" / f"toy-{clusters(done)[0]}" / "scheduler.log").is_file()
    done = run(shell, elsewhere, shell_tool("echo x > out"))
    assert done.returncode == 0, done.stderr
    assert sorted(path.name for path in shell.cwd.iterdir()) == ["kept", "out", "tool.cwl"]


TALKATIVE = """
import os
from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_client

def say():
    print("read https://me:hunter2@example.org/scene.tif?sig=c0ffee of", os.getpid(), flush=True)

with gateway_client(GatewayOptions(name=os.environ["DASK_CLUSTER"])) as client:
    client.run(say)
"""


@pytest.mark.long
def test_logs_of_a_private_gateway_are_kept_without_secrets(shell: Shell) -> None:
    program = shell.cwd.parent / "program.py"
    program.write_text(TALKATIVE)
    done = run(shell, [], shell_tool(f"{sys.executable} {program} && exit 7"))
    assert done.returncode == 7, done.stderr
    (logs,) = (shell.cwd / "dask-logs").iterdir()
    kept = "".join(path.read_text() for path in logs.iterdir())
    assert "read https://example.org/scene.tif of" in kept
    assert "hunter2" not in kept
    assert "c0ffee" not in kept
    assert_nothing_left(shell)


def test_a_tool_without_the_requirement_gets_no_cluster(shell: Shell) -> None:
    done = run(shell, [], shell_tool("env > out; exit 4", None))
    assert done.returncode == 4
    assert clusters(done) == []
    assert last_line(done) == "Error: Step toy: sh ended with exit code 4. What it said is above."
    done = run(shell, [], shell_tool("env > out", None))
    assert done.returncode == 0
    assert "DASK_CLUSTER" not in (shell.cwd / "out").read_text()
    assert "private Gateway" not in done.stderr
    assert_nothing_left(shell)


@pytest.mark.long
def test_each_step_has_a_cluster_and_the_first_failure_counts(shell: Shell, elsewhere: list[str]) -> None:
    tool = shell_tool("", baseCommand=["sh", "-c"], inputs={"script": {"type": "string", "inputBinding": {}}})
    document = in_workflow(
        tool,
        inputs={"scripts": "string[]"},
        requirements={"ScatterFeatureRequirement": {}},
        outputs={"out": {"type": {"type": "array", "items": ["null", "File"]}, "outputSource": "one/out"}},
        steps={"one": {"run": "#toy", "scatter": "script", "in": {"script": "scripts"}, "out": ["out"]}},
    )
    path = write(shell.cwd / "flow.cwl", document)
    job = write(shell.cwd / "job.json", {"scripts": ["echo $DASK_CLUSTER > out", "exit 9", "exit 8"]})
    done = shell.run("run-cwl", *elsewhere, "--on-error", "continue", path.name, job.name, timeout=170)
    assert done.returncode == 9
    assert len(set(clusters(done))) == 3
    assert "2 steps failed: one_2, one_3." in done.stderr
    assert_nothing_left(shell)


@pytest.mark.long
def test_where_calrissian_would_fail_it_is_said(shell: Shell, elsewhere: list[str]) -> None:
    fields = {**SMALL, "workerMemory": "512Mi", "workerCores": "$(inputs.cores)"}
    tool = shell_tool("env > out", None, hints={DASK: fields}, inputs={"cores": {"type": "int", "default": 1}})
    done = run(shell, elsewhere, tool)
    assert done.returncode == 0, done.stderr
    assert "DASK_GATEWAY_WORKER_CORES=1\n" in (shell.cwd / "out").read_text()
    for said in (
        "Warning: toy has the expression '$(inputs.cores)' as workerCores: calrissian hands it to the Gateway as text.",
        "Warning: toy has workerMemory '512Mi': calrissian reads only a whole number with K, M, G or T; try 512M.",
        "Warning: toy has calrissian:DaskGatewayRequirement in hints, on which calrissian fails: move it to "
        "requirements.",
    ):
        assert said in done.stderr.splitlines()
    assert_nothing_left(shell)


@pytest.mark.long
def test_an_expression_that_gives_nonsense(shell: Shell, elsewhere: list[str]) -> None:
    fields = {**SMALL, "workerCores": "$(inputs.cores)"}
    done = run(shell, elsewhere, shell_tool("env > out", fields, inputs={"cores": {"type": "int", "default": 2}}))
    assert done.returncode == 2
    assert last_line(done) == (
        "Error: toy asks for workers of 2 cores with a limit of 1; workerCoresLimit was expected to be at least "
        "workerCores."
    )
    assert clusters(done) == []


@pytest.mark.long
def test_a_gateway_without_room(shell: Shell, elsewhere: list[str]) -> None:
    fields = {**SMALL, "workerCores": 8, "workerCoresLimit": 8, "clusterMaxCores": 8}
    done = run(shell, elsewhere, shell_tool("env > out", fields))
    assert done.returncode == 5
    assert last_line(done).endswith("allows no worker of 1 worker of 8 cores and 512M.")
    assert "Final process status is temporaryFail" in done.stderr
    assert not (shell.cwd / "out").exists()
    fields = {**SMALL, "clusterMaxCores": 6, "clusterMaxMemory": "8G"}
    done = run(shell, elsewhere, shell_tool("env > out", fields))
    assert done.returncode == 0, done.stderr
    assert "Warning: toy: the Gateway allows 4 of 6 workers." in done.stderr.splitlines()
    assert_nothing_left(shell)


@pytest.mark.long
def test_what_is_preserved_reaches_the_tool_and_its_workers(shell: Shell) -> None:
    program = shell.cwd.parent / "program.py"
    program.write_text(
        "import os\n"
        "from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_client\n"
        "with gateway_client(GatewayOptions(name=os.environ['DASK_CLUSTER'])) as client:\n"
        "    print(os.environ['TOY'], client.submit(os.environ.get, 'TOY').result(), os.environ.get('OTHER'))\n"
    )
    tool = shell_tool(f"{sys.executable} {program} > out")
    path = write(shell.cwd / "tool.cwl", tool)
    env = {"TOY": "blue", "OTHER": "red"}
    done = shell.run("run-cwl", "--preserve-environment", "TOY", path.name, env=env, timeout=170)
    assert done.returncode == 0, done.stderr
    assert (shell.cwd / "out").read_text() == "blue blue None\n"
    assert_nothing_left(shell)


@pytest.mark.long
def test_options_of_cwltool_work_before_and_after_the_files(shell: Shell, elsewhere: list[str]) -> None:
    tool = shell_tool("echo $0 > out", inputs={"word": {"type": "string", "inputBinding": {}}})
    path = write(shell.cwd / "tool.cwl", tool)
    job = write(shell.cwd / "job.json", {"word": "hello"})
    done = shell.run("run-cwl", *elsewhere, path.name, job.name, "--outdir", "after", "--quiet", timeout=170)
    assert done.returncode == 0, done.stderr
    assert (shell.cwd / "after" / "out").read_text() == "hello\n"
    assert done.stderr == ""
    done = shell.run("run-cwl", "--outdir", "before", *elsewhere, path.name, "--word", "there", timeout=170)
    assert done.returncode == 0, done.stderr
    assert (shell.cwd / "before" / "out").read_text() == "there\n"
    done = shell.run("run-cwl", "--validate", path.name)
    assert done.returncode == 0
    assert "is valid CWL" in done.stdout
    done = shell.run("run-cwl", "--version")
    assert done.stdout.startswith(f"eoap-dask, version {__version__}, cwltool ")
    assert_nothing_left(shell)


@pytest.mark.long
def test_what_fails_after_the_tools_is_not_called_usage(shell: Shell) -> None:
    tool = shell_tool(
        "mkdir d; echo x > d/f",
        None,
        inputs={"n": "int"},
        outputs={"out": {"type": "Directory", "outputBinding": {"glob": "d"}}},
    )
    document = in_workflow(
        tool,
        inputs={"n": "int[]"},
        requirements={"ScatterFeatureRequirement": {}},
        outputs={"out": {"type": "Directory[]", "outputSource": "one/out"}},
        steps={"one": {"run": "#toy", "scatter": "n", "in": {"n": "n"}, "out": ["out"]}},
    )
    path = write(shell.cwd / "flow.cwl", document)
    job = write(shell.cwd / "job.json", {"n": [1, 2]})
    done = shell.run("run-cwl", path.name, job.name)  # two directories of one name
    assert done.returncode == 1, done.stderr
    assert last_line(done) == "Error: cwltool failed after tools had run; see above. Try --debug, which says more."
    done = shell.run("run-cwl", "--outdir", "/proc/not-here", path.name, job.name)
    assert done.returncode == 1, done.stderr
    assert_nothing_left(shell)


@pytest.mark.long
@pytest.mark.parametrize(
    ("options", "env"), [(["-q"], {}), (["--quiet"], {}), ([], {"EOAP_DASK_QUIET": "1"})], ids=["-q", "--quiet", "env"]
)
def test_a_quiet_run_says_nothing_but_errors(options: list[str], env: dict[str, str], shell: Shell) -> None:
    path = write(shell.cwd / "tool.cwl", shell_tool("echo x > out", None))
    done = shell.run("run-cwl", path.name, *options, env=env)
    assert (done.returncode, done.stderr) == (0, "")
    write(path, shell_tool("exit 4", None))
    done = shell.run("run-cwl", path.name, *options, env=env)
    assert (done.returncode, last_line(done)) == (
        4,
        "Error: Step toy: sh ended with exit code 4. What it said is above.",
    )


@pytest.mark.long
def test_a_verbose_run_says_more(shell: Shell) -> None:
    path = write(shell.cwd / "tool.cwl", shell_tool("exit 4", None))
    done = shell.run("run-cwl", path.name, "-v")
    assert done.returncode == 4
    assert "DEBUG" in done.stderr
    assert "Traceback" in done.stderr
