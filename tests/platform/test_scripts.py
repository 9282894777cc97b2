"""The hardened scripts, function by function and as programs: what they check, and what becomes of it."""

from __future__ import annotations

import ast
import os
import runpy
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tests.support.pod import HARDENED, REQUIREMENT, VARIABLES

from eoap_dask.cli.heartbeat import failure_of_init

INIT, DISPOSE = HARDENED / "init-dask.py", HARDENED / "dispose-dask.py"


def run(script: Path, tmp_path: Path, env: dict[str, str]) -> subprocess.CompletedProcess[str]:
    """Run a script with what calrissian sets, and some of it changed; an empty value takes a variable away."""
    given = {
        **{variable: REQUIREMENT[field] for field, variable in VARIABLES.items()},
        "DASK_GATEWAY_URL": "http://127.0.0.1:9",
        "DASK_GATEWAY_IMAGE": "ghcr.io/eoap/eoap-dask:test",
        "DASK_CLUSTER_NAME_PATH": str(tmp_path / "dask_cluster_name.txt"),
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "LOGNAME": "eoap",
        **env,
    }
    return subprocess.run(
        [sys.executable, str(script)],
        env={name: value for name, value in given.items() if value},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


def assert_init_failed(done: subprocess.CompletedProcess[str], shared: Path, code: int) -> None:
    """The init container has left word, for tool and sidecar and on the volume, why there is no cluster."""
    assert done.returncode == 0
    why = done.stderr.splitlines()[-1].removeprefix("Error: ")
    assert {path.name: path.read_text() for path in shared.iterdir()} == {
        "init_failed": f"{code}\n{why}\n",
        "dask_cluster_name.txt": "none-was-started",
        "dask-init-failed.txt": f"{why}\n",
    }


@pytest.mark.parametrize(
    ("field", "value", "says"),
    [
        (
            "workerCores",
            "",
            "workerCores is missing from the DaskGatewayRequirement. It has five fields: workerCores, ",
        ),
        ("clusterMaxCores", "None", "clusterMaxCores is missing"),  # of clusterMaxCore, calrissian makes this
        ("workerCores", "0", "workerCores can't be '0'. Expected a whole number, 1 or more."),
        ("workerCores", "0.5", "workerCores can't be '0.5'."),
        ("workerCores", "2", "workerCores 2 is more than workerCoresLimit 1."),
        ("workerCoresLimit", "-1", "workerCoresLimit can't be '-1'."),
        ("workerMemory", "1GB", "workerMemory can't be '1GB'. Expected a whole number with K, M, G or T, such as 4G; "),
        ("workerMemory", "1024", "workerMemory can't be '1024'."),
        ("clusterMaxMemory", "2Gi", "clusterMaxMemory can't be '2Gi'."),
        ("clusterMaxMemory", "1.5G", "clusterMaxMemory can't be '1.5G'."),
        ("workerMemory", "$(inputs.memory)", "workerMemory is the expression '$(inputs.memory)', which calrissian"),
        ("workerMemory", "2G", "Not one worker fits: workerMemory 2G is more than clusterMaxMemory 1G."),
        ("workerCoresLimit", "3", "Not one worker fits: workerCoresLimit 3 is more than clusterMaxCores 1."),
    ],
)
def test_init_checks_the_fields_before_anything_is_contacted(field: str, value: str, says: str, tmp_path: Path) -> None:
    done = run(INIT, tmp_path, {VARIABLES[field]: value})
    assert_init_failed(done, tmp_path, 2)
    assert done.stderr.startswith(f"Error: {says}")
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize(
    ("env", "says"),
    [
        ({"DASK_GATEWAY_IMAGE": ""}, "The step has no image: its DockerRequirement needs a dockerPull"),
        ({"DASK_CLUSTER_NAME_PATH": ""}, "DASK_CLUSTER_NAME_PATH isn't set"),
        ({"EOAP_DASK_INIT_WORKERS": "some"}, "EOAP_DASK_INIT_WORKERS can't be 'some'. Expected a number, or all."),
        ({"EOAP_DASK_INIT_TIMEOUT": "soon"}, "EOAP_DASK_INIT_TIMEOUT can't be 'soon'. Expected seconds."),
        ({"EOAP_DASK_INIT_TIMEOUT": "0"}, "EOAP_DASK_INIT_TIMEOUT can't be '0'."),
    ],
)
def test_init_checks_its_settings(env: dict[str, str], says: str, tmp_path: Path) -> None:
    done = run(INIT, tmp_path, env)
    if "DASK_CLUSTER_NAME_PATH" in env:  # there is nobody to tell
        assert done.returncode == 2
    else:
        assert_init_failed(done, tmp_path, 2)
    assert done.stderr.startswith(f"Error: {says}"), done.stderr


def test_a_tool_that_knows_nothing_of_it_is_not_waited_for_long(tmp_path: Path) -> None:
    (tmp_path / "init_failed").write_text("5\nThe Gateway is away.\n")
    began = time.monotonic()
    done = run(DISPOSE, tmp_path, {"EOAP_DASK_HEARTBEAT_TIMEOUT": "1"})
    assert (done.returncode, time.monotonic() - began < 20) == (5, True)


def test_an_init_that_can_leave_no_word_fails_itself(tmp_path: Path) -> None:
    done = run(INIT, tmp_path, {"DASK_GATEWAY_IMAGE": "", "DASK_CLUSTER_NAME_PATH": "/nowhere/dask_cluster_name.txt"})
    assert done.returncode == 2
    assert (tmp_path / "dask-init-failed.txt").read_text().startswith("The step has no image: ")


@pytest.mark.parametrize(
    ("text", "code", "says"),
    [
        *(("5\nThe Gateway is away.\n", 5, "The Gateway is away."), ("143\nx", 143, "x"), ("", 1, "")),
        *(("0\nx", 1, "x"), ("x\ny", 1, "y"), ("²\nx", 1, "x"), ("256\nx", 1, "x"), ("9999\nx", 1, "x")),
    ],
)
def test_the_failure_of_init_is_the_steps(text: str, code: int, says: str, tmp_path: Path) -> None:
    for name, content in {"dask_cluster_name.txt": "none-was-started", "completed": "", "exit_code": "0\n"}.items():
        (tmp_path / name).write_text(content)
    (tmp_path / "init_failed").write_text(text)
    done = run(DISPOSE, tmp_path, {})
    why = failure_of_init(tmp_path)  # as the tool has it
    assert why is not None
    assert (why.exit_code, why.what.endswith(f"wasn't started. {says}".rstrip())) == (code, True)
    assert done.returncode == code
    assert done.stderr.splitlines()[-1] == f"The tool had no Dask cluster. Error: {says}"


@pytest.fixture(scope="module")
def init() -> dict[str, Any]:
    """What the init script defines."""
    return runpy.run_path(str(INIT), run_name="init")


@pytest.mark.parametrize(
    ("text", "size"), [("1K", 1024), ("512M", 512 << 20), ("4G", 4 << 30), ("2T", 2 << 40), ("16G", 16 << 30)]
)
def test_memory_is_binary_as_calrissian_reads_it(text: str, size: int, init: dict[str, Any]) -> None:
    assert init["memory"]("workerMemory", {"workerMemory": text}) == size


@pytest.mark.parametrize(
    ("change", "workers"),
    [
        ({}, 1),
        ({"clusterMaxCores": "5", "clusterMaxMemory": "20G", "workerMemory": "4G"}, 5),
        ({"clusterMaxCores": "8", "clusterMaxMemory": "20G", "workerMemory": "4G", "workerCoresLimit": "2"}, 4),
        ({"clusterMaxCores": "9", "clusterMaxMemory": "10G", "workerMemory": "4G", "workerCoresLimit": "2"}, 2),
    ],
)
def test_workers_are_as_many_as_fit(change: dict[str, str], workers: int, init: dict[str, Any]) -> None:
    fields = {**REQUIREMENT, **change}
    environ = {VARIABLES[name]: value for name, value in fields.items()}
    wanted = init["Wanted"](environ | {"DASK_GATEWAY_IMAGE": "image", "DASK_CLUSTER_NAME_PATH": "/shared/name"})
    assert wanted.workers == workers
    assert wanted.options() == {
        "image": "image",
        "worker_cores": float(fields["workerCores"]),
        "worker_cores_limit": int(fields["workerCoresLimit"]),
        "worker_memory": fields["workerMemory"],
    }


@pytest.fixture
def dispose(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What the dispose script defines."""
    return runpy.run_path(str(DISPOSE), run_name="dispose")


def test_a_heart_that_beats_is_waited_for(dispose: dict[str, Any], tmp_path: Path) -> None:
    beat, stops = tmp_path / "heartbeat", [0]
    beat.touch()
    os.utime(beat, (1, 1))  # long ago by the clock: what counts is whether it changes
    assert dispose["wait"](tmp_path, stops, 60) == "stopped"
    began = time.monotonic()
    assert dispose["wait"](tmp_path, [], 1.0) == "silent"
    assert time.monotonic() - began >= 1
    (tmp_path / "completed").touch()
    assert dispose["wait"](tmp_path, stops, 60) == "completed"


def test_without_a_heartbeat_nothing_is_taken_for_dead(dispose: dict[str, Any], tmp_path: Path) -> None:
    stops: list[int] = []
    looks = iter(range(4))

    class Stops(list):  # type: ignore[type-arg]
        def __bool__(self) -> bool:
            return next(looks) == 3

    assert dispose["wait"](tmp_path, Stops(stops), 0.1) == "stopped"


@pytest.mark.parametrize(
    ("text", "code"), [("0\n", 0), ("143\n", 143), ("", None), ("nonsense", None), ("-9", None), ("999", None)]
)
def test_the_exit_code_of_the_tool(text: str, code: int | None, dispose: dict[str, Any], tmp_path: Path) -> None:
    assert dispose["exit_code"](tmp_path) is None
    (tmp_path / "exit_code").write_text(text)
    assert dispose["exit_code"](tmp_path) == code


@pytest.mark.parametrize(("text", "seconds"), [("", 60), ("5", 5), ("never", 60), ("-1", 60)])
def test_patience(text: str, seconds: float, dispose: dict[str, Any]) -> None:
    assert dispose["patience"](text) == seconds


@pytest.mark.long
def test_a_gateway_that_is_gone_does_not_change_how_the_tool_ended(tmp_path: Path) -> None:
    shorter = tmp_path / "dispose.py"
    shorter.write_text(DISPOSE.read_text().replace("DISPOSE_WITHIN_S = 60.0", "DISPOSE_WITHIN_S = 2.0"))
    for name, content in {"dask_cluster_name.txt": "0123", "completed": "", "exit_code": "0\n"}.items():
        (tmp_path / name).write_text(content)
    done = run(shorter, tmp_path, {})
    assert done.returncode == 0
    assert "The Dask cluster 0123 couldn't be stopped and may still run. ClientConnectorError" in done.stderr
    (tmp_path / "exit_code").unlink()  # a tool that says nothing
    assert run(shorter, tmp_path, {}).returncode == 5


def test_nothing_to_dispose_of(tmp_path: Path) -> None:
    (tmp_path / "completed").touch()
    done = run(DISPOSE, tmp_path, {})
    assert (done.returncode, done.stderr.splitlines()[-1]) == (
        0,
        "No Dask cluster is known: No such file or directory.",
    )


@pytest.mark.parametrize("script", [INIT, DISPOSE], ids=["init", "dispose"])
def test_they_need_nothing_but_dask_gateway(script: Path) -> None:
    imported = set()
    for node in ast.walk(ast.parse(script.read_text())):
        if isinstance(node, ast.Import):
            imported |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            imported.add(str(node.module).partition(".")[0])
    assert imported - sys.stdlib_module_names == {"dask_gateway"}


def test_while_it_waits_the_sidecar_needs_next_to_no_memory(tmp_path: Path) -> None:
    body = (
        "import runpy, sys\n"
        f"d = runpy.run_path({str(DISPOSE)!r}, run_name='dispose')\n"
        "status = dict(line.split(':', 1) for line in open('/proc/self/status'))\n"
        "print(status['VmRSS'].split()[0], 'asyncio' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", body], capture_output=True, text=True, check=True, timeout=60)
    kilobytes, heavy = done.stdout.split()
    assert int(kilobytes) < 32 << 10
    assert heavy == "False"


STUBBORN = """
import asyncio, os, runpy, signal, sys
names = runpy.run_path(sys.argv[1], run_name="init")["start"].__globals__

class Gateway:
    address = "nowhere"
    async def __aenter__(self): return self
    async def __aexit__(self, *error): print("closed")
    async def cluster_options(self, **named): return dict.fromkeys(names["Wanted"](os.environ).options())
    async def submit(self, options): return "abc"
    async def stop_cluster(self, name): print("stopped", name)

async def bring_up(*arguments):
    os.kill(os.getpid(), signal.SIGTERM)
    try:
        await asyncio.sleep(60)
    except asyncio.CancelledError:
        await asyncio.sleep(60)  # as libraries do that connect again and again

names.update(access=lambda wanted: Gateway(), bring_up=bring_up)
sys.exit(names["main"]())
"""


def test_an_init_is_stopped_also_where_its_cancellation_is_swallowed(tmp_path: Path) -> None:
    program = tmp_path / "stubborn.py"
    program.write_text(STUBBORN.replace("sys.argv[1]", repr(str(INIT))))
    began = time.monotonic()
    done = run(program, tmp_path, {})
    assert (done.returncode, done.stdout.splitlines()) == (143, ["stopped abc", "closed"]), done.stderr
    assert time.monotonic() - began < 30
    assert not (tmp_path / "dask_cluster_name.txt").exists()
