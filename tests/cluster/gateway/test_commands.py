"""``eoap-dask cluster`` and ``eoap-dask gateway``, start-dask.sh and end-dask.sh, as a user runs them."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import dask
import pytest
import urllib3
from click.testing import CliRunner
from loguru import logger
from tests.support.gateway import clean_environment, end, names, start_program, wait_until

from eoap_dask.cli.cluster import cluster as cluster_group
from eoap_dask.cli.gateway import gateway as gateway_group
from eoap_dask.cli.types import duration
from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.client import RunningCluster
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cluster.name_file import ClusterName, read_name_file, write_name_file
from eoap_dask.errors import EoapError

ROOT = Path(__file__).parents[3]
FILE = "dask_cluster_name.txt"
BASH = shutil.which("bash") or "bash"

Run = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def run(gateway: LocalGateway, tmp_path: Path) -> Run:
    """Run eoap-dask in an empty directory, with the private Gateway in the environment."""

    def run(*arguments: object, program: list[str] | None = None, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*(program or [sys.executable, "-m", "eoap_dask"]), *map(str, arguments)],
            env=clean_environment(gateway) | variables,
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )

    return run


@dataclass
class Done:
    """How a command ended."""

    code: int
    stdout: str
    stderr: str


@pytest.fixture
def invoke(default: LocalGateway, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Done]]:
    """Run eoap-dask cluster in this process, in an empty directory: quicker than `run`."""
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("EOAP_DASK_", "DASK_"))]:
        monkeypatch.delenv(name)

    def invoke(*arguments: object, **variables: str) -> Done:
        result = CliRunner().invoke(cluster_group, [str(one) for one in arguments], env=variables)
        error = result.exception
        if isinstance(error, EoapError):
            return Done(error.exit_code, result.stdout, result.stderr + str(error))
        assert error is None or isinstance(error, SystemExit), error
        return Done(result.exit_code, result.stdout, result.stderr)

    yield invoke
    logger.remove()
    logger.disable("eoap_dask")


@pytest.mark.long
def test_a_session_of_the_scripts(run: Run, default: LocalGateway, tmp_path: Path) -> None:
    bin_dir = tmp_path / "bin"
    bin_dir.mkdir()
    (bin_dir / "eoap-dask").write_text(f"#!{sys.executable}\nfrom eoap_dask.cli.main import main\nmain()\n")
    (bin_dir / "eoap-dask").chmod(0o755)
    path = f"{bin_dir}{os.pathsep}{os.environ['PATH']}"
    start, stop = [str(ROOT / "start-dask.sh")], [str(ROOT / "end-dask.sh")]

    first = run("--workers", 1, "--worker-memory", "512MiB", program=start, PATH=path)
    assert first.returncode == 0, first.stderr
    name = first.stdout.strip()
    assert name in names(default)
    noted = tmp_path / FILE
    assert stat.S_IMODE(noted.stat().st_mode) == 0o600
    assert read_name_file(noted) == ClusterName(name, default.address)
    password = default.client_environment["DASK_GATEWAY__AUTH__KWARGS__PASSWORD"]
    assert password not in first.stdout + first.stderr + noted.read_text()

    again = run("--workers", 1, "--json", program=start, PATH=path)
    assert again.returncode == 0, again.stderr
    assert "is alive: no other is started" in again.stderr
    result = json.loads(again.stdout)
    assert (result["name"], result["reused"], result["workers"], result["file"]) == (name, True, 1, FILE)
    assert names(default) >= {name}

    use = (
        f"source {FILE}; {sys.executable} -c 'from eoap_dask.cluster.gateway.client import *; "
        "with_ = gateway_client(GatewayOptions(name=name_from_environment())); "
        "print(with_.__enter__().submit(sum, [1, 2]).result()); with_.__exit__(None, None, None)'"
    )
    used = run(program=[BASH, "-euc", use])
    assert used.stdout.strip() == "3", used.stderr

    for expected in (name, ""):
        done = run(program=stop, PATH=path)
        assert done.returncode == 0, done.stderr
        assert done.stdout.strip() == expected
        assert name not in names(default)
        assert not noted.exists()
    assert run(program=start, PATH="/usr/bin:/bin").returncode == 127


@pytest.mark.long
def test_a_cluster_that_is_gone_is_replaced_and_a_lost_worker_brought_back(
    invoke: Callable[..., Done], tmp_path: Path
) -> None:
    write_name_file(tmp_path / FILE, ClusterName("0123456789abcdef"))
    started = invoke("start", "--workers", 1, "--worker-memory", "512M")
    assert started.code == 0, started.stderr
    assert "0123456789abcdef of dask_cluster_name.txt is gone" in started.stderr
    name = started.stdout.strip()
    assert invoke("scale", 0).stdout.strip() == "0"
    again = invoke("start", "--workers", 1, "--json")
    assert again.code == 0, again.stderr
    assert json.loads(again.stdout)["workers"] == 1
    assert invoke("stop", "--quiet").stdout.strip() == name


@pytest.mark.long
def test_an_interrupted_start_leaves_neither_cluster_nor_file(default: LocalGateway, tmp_path: Path) -> None:
    program = "import sys; sys.argv[1:] = ['cluster', 'start']; from eoap_dask.cli.main import main; main()"
    process = start_program(program, clean_environment(default), tmp_path)
    wait_until((tmp_path / FILE).exists, timeout=60)
    code, said = end(process, signal.SIGTERM)
    assert code == 143, said
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["start", "--workers", 0], 2, "--workers"),
        (["start", "--worker-memory", "64G"], 5, "allows no worker: 2 workers with 64G of memory each"),
        (["start", "--cluster-option", "colour=red"], 2, "no cluster option 'colour'"),
        (["start", "--cluster-option", "colour"], 2, "isn't NAME=VALUE"),
        (["start", "--worker-memory", "much"], 2, "isn't an amount of memory"),
        (["start", "--timeout", "soon"], 2, "isn't a time"),
        (["start", "--gateway", "http://127.0.0.1:1"], 5, "can't be reached"),
        (["start", "--file", "missing/name"], 2, "missing/name can't be used: No such file"),
        (["list", "--gateway", "x"], 2, "can't be the address"),
        (["scale", 2], 2, "No cluster was named."),
        (["scale", 2, "nobody"], 5, "knows no cluster nobody"),
        (["dashboard", "no;body"], 2, "can't be the name"),
        (["stop", "--all"], 2, "Expected --mine"),
        (["stop", "--older-than", "2h"], 2, "Expected --all"),
        (["stop", "--all", "--mine", "some"], 2, "no name"),
    ],
)
def test_wrong_use(invoke: Callable[..., Done], arguments: list[Any], code: int, message: str) -> None:
    done = invoke(*arguments)
    assert done.code == code, done.stderr
    assert message in re.sub(r"\s+", " ", done.stderr)
    assert done.stdout == ""


@pytest.mark.long
def test_a_wrong_password_is_told(run: Run) -> None:
    done = run("cluster", "list", DASK_GATEWAY__AUTH__KWARGS__PASSWORD="guessed")
    assert done.returncode == 5
    assert "doesn't let us in: 401" in done.stderr
    assert "guessed" not in done.stderr


def test_hostile_files_are_refused(invoke: Callable[..., Done], tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("export DASK_CLUSTER=$(touch pwned)\n")
    for arguments in (["start"], ["stop"], ["dashboard"]):
        done = invoke(*arguments)
        assert done.code == 2, done.stderr
        assert not (tmp_path / "pwned").exists()


@pytest.mark.long
def test_a_file_of_another_gateway_is_not_overwritten(
    invoke: Callable[..., Done], default: LocalGateway, tmp_path: Path
) -> None:
    write_name_file(tmp_path / FILE, ClusterName("abc", "http://gateway.example:8000"))
    for command in ("start", "stop"):
        done = invoke(command, "--gateway", default.address)
        assert done.code == 2
        assert "http://gateway.example:8000, not of" in done.stderr
    assert read_name_file(tmp_path / FILE) == ClusterName("abc", "http://gateway.example:8000")


@pytest.mark.long
def test_looking_at_a_cluster(
    invoke: Callable[..., Done], default: LocalGateway, shared_cluster: RunningCluster, tmp_path: Path
) -> None:
    name = shared_cluster.name
    listed = invoke("list")
    assert re.search(rf"^{name}  running   \d+ (s|min)$", listed.stdout, re.M), listed.stderr
    found = {one["name"]: one for one in json.loads(invoke("list", "--json").stdout)}
    assert found[name]["status"] == "running"
    assert found[name]["age_s"] >= 0
    assert json.loads(invoke("list", "--older-than", "9h", "--json").stdout) == []
    nothing = invoke("stop", "--all", "--mine", "--older-than", "9h")
    assert (nothing.code, nothing.stdout) == (0, "")

    (tmp_path / FILE).write_text(name)  # as calrissian leaves it
    assert invoke("dashboard").stdout.strip() == shared_cluster.dashboard
    assert invoke("dashboard", "--json", name).code == 0
    written = invoke("logs", "--directory", "there")
    assert written.code == 0, written.stderr
    assert "there/scheduler.log" in written.stdout.splitlines()
    assert all((tmp_path / line).is_file() for line in written.stdout.splitlines())
    (tmp_path / FILE).unlink()
    assert invoke("dashboard", DASK_CLUSTER=name).stdout.strip() == shared_cluster.dashboard
    limited = invoke("scale", 9, "--json", DASK_CLUSTER=name)
    assert json.loads(limited.stdout) == {"name": name, "workers": 4}
    assert invoke("scale", 2, name).stdout.strip() == "2"


@pytest.mark.long
def test_stopping_all_of_mine(
    invoke: Callable[..., Done], default: LocalGateway, shared_cluster: RunningCluster
) -> None:
    someone = {"username": "someone", "password": dask.config.get("gateway.auth.kwargs.password")}
    with dask.config.set({"gateway.auth.kwargs": someone}), GatewayApi() as api:
        leases = []
        for _ in range(2):
            with api.submitted({}) as lease:
                lease.keep()
            leases.append(lease.name)
        done = invoke("stop", "--all", "--mine", "--no-wait")
        assert done.code == 0, done.stderr
        assert set(done.stdout.split()) == set(leases)
        assert api.clusters() == []
    assert shared_cluster.name in names(default)


# ----------------------------------------------------------------------------------------------------
# eoap-dask gateway


@pytest.mark.long
@pytest.mark.parametrize("with_file", [True, False])
def test_a_gateway_is_served_until_it_is_stopped(server: None, with_file: bool, tmp_path: Path) -> None:
    arguments = ["gateway", "serve", *(["--env-file", "gateway.env"] if with_file else [])]
    program = f"import sys; sys.argv[1:] = {arguments}; from eoap_dask.cli.main import main; main()"
    process = start_program(program, clean_environment() | {"TMPDIR": str(tmp_path)}, tmp_path)
    assert process.stdout is not None
    if with_file:
        assert process.stdout.readline() == "gateway.env\n"
        lines = (tmp_path / "gateway.env").read_text()
        assert stat.S_IMODE((tmp_path / "gateway.env").stat().st_mode) == 0o600
    else:
        lines = "".join(process.stdout.readline() for _ in range(5))
    listing = f"eval {shlex.quote(lines)}; {sys.executable} -m eoap_dask cluster list --json"
    listed = subprocess.run([BASH, "-euc", listing], env=clean_environment(), capture_output=True, text=True)
    assert listed.stdout.strip() == "[]", listed.stderr
    code, said = end(process, signal.SIGINT if with_file else signal.SIGTERM)
    assert code == (130 if with_file else 143), said
    password = lines.split("PASSWORD=")[1].split()[0]
    assert password not in said
    assert not list(tmp_path.iterdir())


@pytest.mark.long
def test_a_gateway_that_cannot_be_served_is_told(run: Run, gateway: LocalGateway) -> None:
    done = run("gateway", "serve", "--env", "NO_SUCH_VARIABLE")
    assert done.returncode == 2
    assert "'NO_SUCH_VARIABLE' isn't in the environment" in done.stderr


# ----------------------------------------------------------------------------------------------------
# Help


def _commands() -> list[tuple[str, click.Command]]:
    return [(f"{g.name} {name}", c) for g in (cluster_group, gateway_group) for name, c in g.commands.items()]


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name for name, _ in _commands()])
def test_help_reads_alike(name: str, command: click.Command) -> None:
    assert command.epilog is not None
    assert "Examples:" in command.epilog
    assert f"eoap-dask {name}" in command.epilog
    for option in command.params:
        if isinstance(option, click.Option):
            assert option.help, option.name
            assert option.envvar or option.name == "version", option.name
            assert option.is_flag or option.count or option.metavar, option.name
            assert option.is_flag or option.count or option.show_default or option.multiple or "[default" in option.help


@pytest.mark.parametrize(("name", "command"), _commands(), ids=[name for name, _ in _commands()])
def test_examples_of_the_help_are_understood(name: str, command: click.Command) -> None:
    assert command.epilog is not None
    lines = re.findall(r"^\s*eoap-dask (.*)$", command.epilog, re.M)
    assert lines
    for line in lines:
        group, sub, *arguments = line.split()
        chosen = {"cluster": cluster_group, "gateway": gateway_group}[group].commands[sub]
        chosen.make_context(sub, arguments, resilient_parsing=False)


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("5m", 300), ("2h", 7200), ("1.5 d", 129600), ("10min", 600)]
)
def test_times(text: str, seconds: float) -> None:
    assert duration(text) == seconds


@pytest.mark.parametrize("text", ["", "h", "-1", "1 week", "1h30m"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        duration(text)


@pytest.mark.long
def test_the_dashboard_is_made_when_somebody_looks_at_it(shared_cluster: RunningCluster) -> None:
    answer = urllib3.request("GET", shared_cluster.dashboard, retries=False)
    assert (answer.status, b"bokeh" in answer.data.lower()) == (200, True)
