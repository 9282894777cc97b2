"""A run that is stopped, or killed: its tools end, and nothing of it is left, on whatever Gateway it was."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import cast

import pytest
from tests.support.command_line import Done, Shell
from tests.support.cwl import SMALL, assert_nothing_left, in_workflow, shell_tool, write

from eoap_dask.cluster.gateway.api import GatewayApi, Lease
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.guard import Guard
from eoap_dask.cwl.clusters import Clusters
from eoap_dask.cwl.runner import _end_tools

pytestmark = [pytest.mark.cluster, pytest.mark.usefixtures("runner"), pytest.mark.long]

LONG = "sleep 300 & echo $$ > started; wait"
"""A tool with a process of its own."""


class Going:
    """A run under way, and what it has said so far."""

    def __init__(self, shell: Shell, *arguments: object) -> None:
        self.shell = shell
        self._log = (shell.cwd.parent / "stderr").open("w+")
        self.process = shell.start("run-cwl", *arguments, stderr=self._log)

    @property
    def said(self) -> str:
        """Its stderr."""
        return Path(self._log.name).read_text()

    def until(self, is_true: Callable[[], bool]) -> None:
        """Wait for something that comes about by itself."""
        deadline = time.monotonic() + 120
        while not is_true():
            assert self.process.poll() is None, self.said
            assert time.monotonic() < deadline, self.said
            time.sleep(0.05)

    def until_working(self, tools: int = 1) -> None:
        """Wait until its tools run."""
        self.until(lambda: len(list(self.shell.tmp.rglob("started"))) == tools)

    def end(self, number: signal.Signals, *, whole_group: bool = False) -> Done:
        """Send a signal, and wait."""
        (os.killpg if whole_group else os.kill)(self.process.pid, number)
        out, _ = self.process.communicate(timeout=100)
        return subprocess.CompletedProcess(self.process.args, self.process.returncode, out, self.said)


@pytest.mark.parametrize(
    ("number", "whole_group", "code", "says"),
    [
        (signal.SIGINT, True, 130, "Stopped."),  # as a terminal does it
        (signal.SIGINT, False, 130, "Stopped."),
        (signal.SIGTERM, False, 143, "Stopped by SIGTERM."),
    ],
    ids=["Ctrl-C", "SIGINT", "SIGTERM"],
)
def test_stopped(number: signal.Signals, whole_group: bool, code: int, says: str, shell: Shell) -> None:
    going = Going(shell, write(shell.cwd / "flow.cwl", in_workflow(shell_tool(LONG))).name)
    going.until_working()
    done = going.end(number, whole_group=whole_group)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (code, says)
    assert "Traceback" not in done.stderr
    assert_nothing_left(shell)
    assert not (shell.cwd / "out").exists()


@pytest.mark.parametrize("words", ["Resolved ", "starting the Dask cluster"])
def test_stopped_before_the_tool_begins(words: str, shell: Shell) -> None:
    witness = shell.cwd.parent / "witness"
    going = Going(shell, write(shell.cwd / "tool.cwl", shell_tool(f"touch {witness}; echo x > out")).name)
    going.until(lambda: words in going.said)
    done = going.end(signal.SIGTERM)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (143, "Stopped by SIGTERM.")
    assert "Traceback" not in done.stderr
    assert not witness.exists()
    assert_nothing_left(shell)


def test_the_terminal_goes_away(shell: Shell) -> None:
    witness = shell.cwd.parent / "witness"
    script = f"trap 'echo bye > {witness}; exit 5' TERM; touch started; while true; do sleep 0.1; done"
    going = Going(shell, write(shell.cwd / "tool.cwl", shell_tool(script, None)).name)
    going.until_working()
    assert going.end(signal.SIGHUP).returncode == 129
    assert witness.read_text() == "bye\n"
    assert_nothing_left(shell)


def test_a_tool_may_end_in_order(shell: Shell) -> None:
    witness = shell.cwd.parent / "witness"
    script = f"trap 'echo bye > {witness}; exit 5' TERM; touch started; while true; do sleep 0.1; done"
    going = Going(shell, write(shell.cwd / "tool.cwl", shell_tool(script)).name)
    going.until_working()
    assert going.end(signal.SIGTERM).returncode == 143
    assert witness.read_text() == "bye\n"
    assert_nothing_left(shell)


def test_a_tool_that_says_all_is_well_when_it_is_stopped(shell: Shell) -> None:
    script = "trap 'echo half > out; exit 0' TERM; touch started; while true; do sleep 0.1; done"
    going = Going(shell, write(shell.cwd / "flow.cwl", in_workflow(shell_tool(script))).name)
    going.until_working()
    done = going.end(signal.SIGTERM)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (143, "Stopped by SIGTERM.")
    assert "Final process status is success" not in done.stderr
    assert json.loads(done.stdout) == {"out": None}
    assert "out" not in shell.files()
    assert_nothing_left(shell)


TOO_LATE = """
import os, signal, sys
from importlib import import_module
module, name = sys.argv.pop(1).rsplit(".", 1)
module = import_module(module)
real = getattr(module, name)
def late(*arguments, **named):
    open("../signalled", "w").close()
    os.kill(os.getpid(), signal.SIGINT)
    return real(*arguments, **named)
setattr(module, name, late)
from eoap_dask.cli.main import main
main()
"""
"""A run that gets Ctrl-C when one of its functions is called."""


MOVED = "cwltool.executors.relocateOutputs"
"""Called when no tool runs any more."""
ENDED = "eoap_dask.cluster.gateway.server._stop_family"
"""When all is said."""
CLEANED_UP = "eoap_dask.cwl.runner._conclude"
"""When nothing is left to be done."""


@pytest.mark.parametrize(
    ("when", "script", "code", "says"),
    [
        (MOVED, "echo x > out", 0, "Final process status is success"),
        (ENDED, "echo x > out", 0, "Final process status is success"),
        (CLEANED_UP, "echo x > out", 0, "Final process status is success"),
        (ENDED, "exit 3", 3, "Error: Step toy: sh ended with exit code 3. What it said is above."),
        (CLEANED_UP, "exit 3", 3, "Error: Step toy: sh ended with exit code 3. What it said is above."),
    ],
)
def test_too_late_to_be_stopped(when: str, script: str, code: int, says: str, shell: Shell) -> None:
    path = write(shell.cwd / "tool.cwl", shell_tool(script))
    done = shell.wait(shell.start(when, "run-cwl", "--outdir", "results", path.name, program=("-c", TOO_LATE)))
    assert (shell.cwd.parent / "signalled").is_file()
    assert done.returncode == code, done.stderr
    assert says in done.stderr.splitlines()[-1]
    assert "Stopped" not in done.stderr
    assert "Traceback" not in done.stderr
    assert (shell.cwd / "results" / "out").is_file() == (code == 0)
    assert (json.loads(done.stdout)["out"] is None) == (code != 0)
    assert_nothing_left(shell)


def test_a_tool_that_ends_still_has_its_cluster(shell: Shell, elsewhere: list[str]) -> None:
    witness = shell.cwd.parent / "witness"
    program = shell.cwd.parent / "program.py"
    program.write_text(
        "import os, signal, sys, threading\n"
        "from eoap_dask.cluster.gateway.client import GatewayOptions, gateway_client\n"
        "stop = threading.Event()\n"
        "signal.signal(signal.SIGTERM, lambda *_: stop.set())\n"
        "with gateway_client(GatewayOptions(name=os.environ['DASK_CLUSTER'])) as client:\n"
        "    open('started', 'w').close()\n"
        "    while not stop.wait(0.1):\n"
        "        pass\n"
        f"    open({str(witness)!r}, 'w').write(str(client.submit(sum, [1, 2]).result()))\n"
        "sys.exit(5)\n"
    )
    tool = shell_tool("", baseCommand=[sys.executable, str(program)])
    going = Going(shell, *elsewhere, write(shell.cwd / "tool.cwl", tool).name)
    going.until_working()
    assert going.end(signal.SIGTERM).returncode == 143
    assert witness.read_text() == "3"
    assert_nothing_left(shell)


TRAPPING = """
import signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), sys.exit(7)))
print(1, flush=True)
while True:
    time.sleep(0.1)
"""
"""A tool that takes a second to end in order."""


def test_tools_end_in_order_while_the_gateway_does_not_answer(tmp_path: Path) -> None:
    from cwltool.utils import processes_to_kill

    from eoap_dask.cwl.tools import Session

    answer = threading.Event()

    class Slow:
        """Takes the place of a Gateway's client, since a real one answers."""

        def stop(self, name: str) -> None:
            assert answer.wait(60)

    tool = subprocess.Popen([sys.executable, "-c", TRAPPING], stdout=subprocess.PIPE, text=True)
    finished = threading.Event()
    with Clusters("http://127.0.0.1:9") as clusters:
        clusters._opening = Future()
        clusters._opening.set_result(cast(GatewayApi, Slow()))
        clusters._awaited.append(Lease("other"))
        session = Session(clusters, Guard(tmp_path), wants_container=False)
        ender = threading.Thread(target=_end_tools, args=(session, finished))
        try:
            assert tool.stdout is not None
            tool.stdout.readline()
            processes_to_kill.append(tool)
            ender.start()
            assert tool.wait(40) == 7
        finally:
            answer.set()
            finished.set()
            ender.join()
            processes_to_kill.remove(tool)
            tool.kill()
            tool.communicate()


def test_steps_at_once_are_stopped_at_once(shell: Shell, elsewhere: list[str]) -> None:
    tool = shell_tool(LONG, inputs={"n": "int"})
    document = in_workflow(
        tool,
        inputs={"n": "int[]"},
        requirements={"ScatterFeatureRequirement": {}},
        outputs={"out": {"type": "File[]", "outputSource": "one/out"}},
        steps={"one": {"run": "#toy", "scatter": "n", "in": {"n": "n"}, "out": ["out"]}},
    )
    path = write(shell.cwd / "flow.cwl", document)
    job = write(shell.cwd / "job.json", {"n": [1, 2]})
    going = Going(shell, *elsewhere, "--parallel", "--parallel-max", 4, path.name, job.name)
    going.until_working(2)
    done = going.end(signal.SIGTERM)
    assert (done.returncode, done.stderr.splitlines()[-1]) == (143, "Stopped by SIGTERM.")
    assert_nothing_left(shell)


@pytest.mark.parametrize("prefix", [None, "files/of-", "new/"])
def test_killed(prefix: str | None, shell: Shell) -> None:
    given = [word for name in ("--tmpdir-prefix", "--tmp-outdir-prefix") if prefix for word in (name, prefix)]
    going = Going(shell, *given, write(shell.cwd / "tool.cwl", shell_tool(LONG, None if prefix else SMALL)).name)
    witness = shell.cwd if prefix else shell.tmp
    going.until(lambda: bool(list(witness.rglob("started"))))
    assert going.end(signal.SIGKILL).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    while (shell.processes(within_s=1) or list(shell.tmp.iterdir())) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_nothing_left(shell)
    assert shell.files() == sorted(["tool.cwl"] + ([prefix.partition("/")[0]] if prefix else []))


def test_killed_on_a_gateway_that_stays(shell: Shell, elsewhere: list[str], foreign: LocalGateway) -> None:
    going = Going(shell, *elsewhere, write(shell.cwd / "tool.cwl", shell_tool(LONG)).name)
    going.until_working()
    assert going.end(signal.SIGKILL).returncode == -signal.SIGKILL
    deadline = time.monotonic() + 60
    with foreign.configured(), GatewayApi() as api:
        while api.clusters():
            assert time.monotonic() < deadline, "the cluster is still there"
            time.sleep(0.2)
    while shell.processes(within_s=1) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert_nothing_left(shell)
