"""calrissian's sequence of containers, as real processes: what becomes of a step, its exit code and its Dask cluster.

With the built-in scripts, to know what a tool of ours makes of them, and with the hardened ones.
"""

from __future__ import annotations

import json
import os
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest
from tests.support.pod import BUILTIN, HARDENED, HOME, STAGED, UID, Container, Pod, left_in_tmp

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer

pytestmark = pytest.mark.cluster

MakePod = Callable[..., Pod]
OUT = "monthly-mosaic"
OCTOBER = ("--start-date", "2020-10-01", "--end-date", "2020-10-31")
NAMELESS = {"DASK_GATEWAY__AUTH__KWARGS__USERNAME": None}
"""Who asks the Gateway is who the process is."""
OTHER = {"DASK_GATEWAY__AUTH__KWARGS__USERNAME": "other"}
"""Another user, whom the Gateway knows as well."""
GRACE_S = 6.0
"""In place of Kubernetes' 30."""
QUICK = {"EOAP_DASK_HEARTBEAT_TIMEOUT": "6"}

both = pytest.mark.parametrize("scripts", [BUILTIN, HARDENED], ids=["builtin", "hardened"])


def mosaic(server: DemoServer, *more: object) -> list[object]:
    """Return the command of a small mosaic."""
    return ["cloudless-mosaic", "--stac", server.url, "--resolution", 200, "--output-dir", OUT, *OCTOBER, *more]


def with_a_change(change: str, server: DemoServer) -> list[object]:
    """Return the command of a mosaic in a process that was changed beforehand, to provoke a fault in its middle."""
    program = (
        f"import eoap_dask.run.engine as engine\n{change}\nfrom eoap_dask.cli.main import cloudless_mosaic as m; m()"
    )
    return ["python", "-c", program, *mosaic(server)[1:]]


CRASH = """
def crash(*arguments, **named): raise RuntimeError("a bug of ours")
engine.Engine._take = crash
"""
CRASH_LATE = """
from eoap_dask.cli import application
def crash(*arguments, **named): raise RuntimeError("a bug of ours")
application.str = crash
"""
"""When there is nothing left but to say where the output is."""
EAT = """
import time
eaten = []
def eat(*arguments, **named):
    while True:
        eaten.append(bytearray(b"x") * (1 << 20))
        time.sleep(0.01)  # 100 MB a second: some memory is left when it is looked at next, also on a busy machine
engine.Engine._take = eat
"""


BUSY = """
import time
def work(*arguments, **named):
    open("busy", "w").close()
    time.sleep(3600)
engine.Engine._take = work
"""
"""As a tool that works for long without its cluster."""

WAIT = """
import time, click, eoap_dask.cli.main as cli
@click.command()
def wait(): time.sleep(3600)
cli._run(wait, "wait")
"""
"""A command of ours, for containers that are killed: quicker to start than a mosaic."""


def begin_waiting(pod: Pod) -> tuple[Container, Container]:
    """Start a pod whose tool waits, until its heart beats."""
    main, sidecar = pod.begin("python", "-c", WAIT)
    wait_until(lambda: (pod.shared / "heartbeat").exists() or not main.runs)
    assert main.runs, main.said
    return main, sidecar


def status(gateway: LocalGateway, name: str) -> str:
    """Return what the Gateway says of a cluster."""
    with gateway.configured(), GatewayApi() as api:
        found = api.cluster(name)
    return found.status if found else "unknown"


def assert_disposed(pod: Pod, name: str | None = None, timeout: float = 60) -> None:
    """The cluster of a pod is gone, or about to."""
    name, end = name or pod.cluster, time.monotonic() + timeout
    while status(pod.gateway, name) not in {"stopped", "unknown", "failed"}:
        assert time.monotonic() < end, status(pod.gateway, name)
        time.sleep(0.1)


def wait_until(is_true: Callable[[], object], timeout: float = 60) -> None:
    """Wait for something that comes about by itself."""
    end = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < end, "it didn't come about"
        time.sleep(0.05)


@pytest.fixture
def slow(archive: Archive) -> Iterator[DemoServer]:
    """A server whose files take a while: there is something to interrupt."""
    with DemoServer(archive, faults={"MSIL2A_2020": "slow:30"}) as running:
        yield running


def begin_reading(pod: Pod, server: DemoServer) -> tuple[Container, Container, psutil.Process]:
    """Start a pod, and wait until the workers of its tool read."""
    main, sidecar = pod.begin(*mosaic(server))
    wait_until(lambda: server.stats.requests - server.stats.api_requests >= 2 or not main.runs)
    assert main.runs, main.said
    return main, sidecar, main.tool("cloudless-mosaic")


# ----------------------------------------------------------------------------------------------------
# It goes well


@pytest.mark.long
@both
def test_success(scripts: Path, make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = pod.begin(*mosaic(catalogue))
    assert main.wait() == 0, main.said
    assert sidecar.wait() == 0, sidecar.said
    assert pod.verdict(0) == ("success", True)
    catalog = json.loads((pod.home / OUT / "catalog.json").read_text())
    assert [link["href"] for link in catalog["links"] if link["rel"] == "item"] == [
        "./monthly-mosaic-2020-10/monthly-mosaic-2020-10.json"
    ]
    assert main.said.splitlines()[-1] == f"{HOME}/{OUT}/catalog.json"
    assert_disposed(pod)
    # nothing but the output, and what dask-gateway keeps in the home of a user
    assert {path.name for path in pod.home.iterdir()} <= {OUT, ".config"}
    assert left_in_tmp(pod.folder) == []
    assert sorted(path.name for path in pod.shared.iterdir()) == ["completed", "dask_cluster_name.txt", "exit_code"]
    assert (pod.shared / "exit_code").read_text() == "0\n"
    assert {path.stat().st_uid for path in pod.home.rglob("*")} == {UID}
    assert stat.S_IMODE(pod.home.stat().st_mode) == 0o700


@pytest.mark.long
@both
def test_a_tool_leaves_its_cluster_and_the_sidecar_stops_it(
    scripts: Path, make_pod: MakePod, catalogue: DemoServer
) -> None:
    pod = make_pod(scripts=scripts)
    assert pod.init().wait() == 0
    assert (pod.shared / "dask_cluster_name.txt").read_text().isalnum()
    main = pod.main(*mosaic(catalogue))
    assert main.wait() == 0, main.said
    assert status(pod.gateway, pod.cluster) == "running"
    sidecar = pod.sidecar()
    assert sidecar.wait() == 0, sidecar.said
    assert_disposed(pod)


@pytest.mark.long
def test_an_input_is_read_where_it_is_staged(make_pod: MakePod, catalogue: DemoServer, tmp_path: Path) -> None:
    staged = tmp_path / "staged"
    staged.mkdir()
    found = [one for one in catalogue.catalogue.items if "2020-10" in one["properties"]["datetime"]]
    items = {
        "type": "FeatureCollection",
        "features": [catalogue.api.item(catalogue.catalogue.collection, one["id"]) for one in found],
    }
    (staged / "items.json").write_text(json.dumps(items))
    pod = make_pod(staged=staged)
    main, sidecar = pod.begin(*mosaic(catalogue, "--items", f"{STAGED}/items.json"))
    assert main.wait() == 0, main.said
    assert sidecar.wait() == 0, sidecar.said
    assert pod.verdict(0) == ("success", True)
    assert [path.name for path in staged.iterdir()] == ["items.json"]
    assert STAGED not in (pod.home / OUT / "catalog.json").read_text()


@pytest.mark.long
@pytest.mark.parametrize(
    ("scripts", "verdict"),
    [(BUILTIN, ("permanentFail", True)), (HARDENED, ("success", True))],
    ids=["builtin", "hardened"],
)
def test_a_cluster_that_was_gone_when_the_tool_had_ended(
    scripts: Path, verdict: tuple[str, bool], make_pod: MakePod, catalogue: DemoServer
) -> None:
    pod = make_pod(scripts=scripts)
    assert pod.init().wait() == 0
    main = pod.main(*mosaic(catalogue))
    assert main.wait() == 0, main.said
    with pod.gateway.configured(), GatewayApi() as api:
        api.stop(pod.cluster, wait=True)
    sidecar = pod.sidecar()
    code = sidecar.wait()
    assert pod.verdict(code) == verdict, sidecar.said
    if scripts == HARDENED:
        assert "was gone already" in sidecar.said


# ----------------------------------------------------------------------------------------------------
# The tool fails


@pytest.mark.long
@pytest.mark.parametrize(
    ("scripts", "code", "with_any_glob"),
    [(BUILTIN, 0, "success"), (HARDENED, 1, "permanentFail")],
)
def test_a_crash(scripts: Path, code: int, with_any_glob: str, make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = pod.begin(*with_a_change(CRASH, catalogue))
    assert main.wait() == 1
    assert "This is a bug in eoap-dask: RuntimeError: a bug of ours." in main.said
    assert sidecar.wait() == code, sidecar.said
    assert_disposed(pod)
    assert not (pod.home / OUT).exists()
    assert pod.verdict(code) == ("permanentFail", False)
    assert pod.verdict(code, ".")[0] == with_any_glob  # why an output needs a name that only success gives


@pytest.mark.long
@pytest.mark.parametrize(
    ("scripts", "verdict"),
    [(BUILTIN, ("success", True)), (HARDENED, ("permanentFail", True))],
    ids=["builtin", "hardened"],
)
def test_a_crash_when_the_output_is_there_already(
    scripts: Path, verdict: tuple[str, bool], make_pod: MakePod, catalogue: DemoServer
) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = pod.begin(*with_a_change(CRASH_LATE, catalogue))
    assert main.wait() == 1
    assert "This is a bug in eoap-dask: RuntimeError: a bug of ours." in main.said
    assert (pod.home / OUT / "catalog.json").is_file()
    assert pod.verdict(sidecar.wait()) == verdict, sidecar.said
    assert_disposed(pod)


@pytest.mark.long
@both
def test_nothing_found_is_exit_code_3(scripts: Path, make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = pod.begin(*mosaic(catalogue, "--max-cloud-cover", 0.001))
    assert main.wait() == 3, main.said
    assert "Error: No items of sentinel-2-l2a" in main.said
    assert sidecar.wait() == (3 if scripts == HARDENED else 0), sidecar.said
    assert_disposed(pod)
    assert list(pod.home.glob(OUT + "*")) == []


@both
def test_a_usage_error_is_exit_code_2(scripts: Path, make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = pod.begin(*mosaic(catalogue, "--no-such-option"))
    assert main.wait() == 2, main.said
    assert sidecar.wait() == (2 if scripts == HARDENED else 0), sidecar.said
    assert_disposed(pod)


@pytest.mark.long
@both
def test_the_tool_is_killed(scripts: Path, make_pod: MakePod, slow: DemoServer) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar, tool = begin_reading(pod, slow)
    tool.kill()
    assert main.wait() == 137
    code = sidecar.wait()
    assert code == (137 if scripts == HARDENED else 0), sidecar.said
    assert_disposed(pod)
    assert pod.verdict(code) == ("permanentFail", False)
    if scripts == HARDENED:
        assert "it was killed" in sidecar.said


@pytest.mark.long
def test_the_tool_is_stopped(make_pod: MakePod, slow: DemoServer) -> None:
    pod = make_pod()
    main, sidecar, tool = begin_reading(pod, slow)
    tool.terminate()
    assert main.wait() == 143
    assert main.said.splitlines()[-1].startswith("Stopped by SIGTERM. ")
    assert sidecar.wait() == 143, sidecar.said
    assert_disposed(pod)


# ----------------------------------------------------------------------------------------------------
# Memory


@pytest.fixture
def limited() -> int:
    """A limit of memory, where one can be set."""
    if not os.access("/sys/fs/cgroup/memory", os.W_OK):
        pytest.skip("no control groups of version 1 for memory")
    return 384 << 20


@pytest.mark.long
@both
def test_memory_runs_out_in_order(scripts: Path, limited: int, make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=scripts, memory=limited)
    main, sidecar = pod.begin(*with_a_change(EAT, catalogue))
    assert main.wait() == 6, main.said
    assert "of the 384 MiB of memory that it may use." in main.said
    assert "ramMin" in main.said
    assert sidecar.wait() == (6 if scripts == HARDENED else 0), sidecar.said
    assert_disposed(pod)
    assert not (pod.home / OUT).exists()


@pytest.mark.long
def test_one_allocation_far_above_the_limit_fails_in_order(
    limited: int, make_pod: MakePod, catalogue: DemoServer
) -> None:
    pod = make_pod(memory=limited)
    change = "def crash(*arguments, **named): return bytearray(4 << 30)\nengine.Engine._take = crash"
    main, sidecar = pod.begin(*with_a_change(change, catalogue))
    assert main.wait() == 6, main.said
    assert "This command asked for more than the 384 MiB of memory that it may use." in main.said
    assert sidecar.wait() == 6, sidecar.said
    assert_disposed(pod)


@pytest.mark.long
@both
def test_without_the_guard_the_kernel_kills(
    scripts: Path, limited: int, make_pod: MakePod, catalogue: DemoServer
) -> None:
    pod = make_pod(scripts=scripts, memory=limited, env={"EOAP_DASK_MEMORY_GUARD": "off"})
    main, sidecar = pod.begin(*with_a_change(EAT, catalogue))
    assert main.wait() == 137, main.said
    assert sidecar.wait() == (137 if scripts == HARDENED else 0), sidecar.said
    assert_disposed(pod)


# ----------------------------------------------------------------------------------------------------
# Containers and pods are killed


@pytest.mark.long
def test_the_whole_container_is_killed_and_its_heart_stops(make_pod: MakePod) -> None:
    pod = make_pod(env=QUICK)
    main, sidecar = begin_waiting(pod)
    main.kill()
    assert main.wait() == 137
    assert sidecar.wait() == 137, sidecar.said
    assert "The tool's heartbeat has stopped" in sidecar.said
    assert not (pod.shared / "completed").exists()
    assert_disposed(pod)


@pytest.mark.long
def test_with_the_built_in_scripts_a_killed_container_leaves_its_cluster(make_pod: MakePod) -> None:
    pod = make_pod(scripts=BUILTIN)
    main, sidecar = begin_waiting(pod)
    main.kill()
    main.wait()
    time.sleep(6)  # more than its period
    assert sidecar.runs
    assert status(pod.gateway, pod.cluster) == "running"


@pytest.fixture
def impatient_gateway(can_make_pods: None) -> Iterator[LocalGateway]:
    """A Gateway that stops a cluster when it has no work, though not before a loaded machine has begun with it."""
    with LocalGateway(idle_timeout_s=15) as running:
        yield running


@pytest.mark.long
def test_the_idle_timeout_of_the_gateway_is_the_last_resort(impatient_gateway: LocalGateway, make_pod: MakePod) -> None:
    pod = make_pod(scripts=BUILTIN, gateway=impatient_gateway)
    main, sidecar = pod.begin("sleep", 3600)
    main.kill()
    assert_disposed(pod, timeout=120)
    assert sidecar.runs


@pytest.mark.long
@pytest.mark.parametrize("is_short_of_memory", [False, True], ids=["killed", "out of memory"])
def test_the_idle_timeout_ends_what_a_dead_sidecar_leaves(
    is_short_of_memory: bool,
    impatient_gateway: LocalGateway,
    make_pod: MakePod,
    catalogue: DemoServer,
    request: pytest.FixtureRequest,
) -> None:
    if is_short_of_memory:
        request.getfixturevalue("limited")
    # as of ramMax 40: enough to wait, but not to speak to the Gateway
    pod = make_pod(gateway=impatient_gateway, sidecar_memory=40 << 20 if is_short_of_memory else None)
    main, sidecar = pod.begin(*mosaic(catalogue))
    wait_until(lambda: "Waiting" in sidecar.said)
    if not is_short_of_memory:
        sidecar.kill()
    assert main.wait() == 0, main.said  # a tool never stops its cluster
    assert sidecar.wait() == 137, sidecar.said
    assert status(impatient_gateway, pod.cluster) == "running"
    assert_disposed(pod, timeout=120)


@pytest.mark.long
@both
def test_the_pod_is_deleted(scripts: Path, make_pod: MakePod) -> None:
    pod = make_pod(scripts=scripts)
    main, sidecar = begin_waiting(pod)
    if scripts == HARDENED:
        wait_until(lambda: "Waiting" in sidecar.said)
    for container in (main, sidecar):
        container.terminate()
    if scripts == HARDENED:
        assert sidecar.wait() == 143, sidecar.said
        assert_disposed(pod)
    for container in (main, sidecar):  # after 30 s
        container.kill()
        container.wait()
    if scripts == BUILTIN:
        assert status(pod.gateway, pod.cluster) == "running"


@pytest.mark.long
@pytest.mark.parametrize("outlasts", [False, True], ids=["loses its cluster", "outlasts the grace period"])
def test_the_pod_is_deleted_while_its_tool_works(
    outlasts: bool, make_pod: MakePod, catalogue: DemoServer, slow: DemoServer
) -> None:
    pod = make_pod()
    if outlasts:
        main, sidecar = pod.begin(*with_a_change(BUSY, catalogue))
        wait_until(lambda: (pod.home / "busy").exists() or not main.runs)
        assert main.runs, main.said
    else:
        main, sidecar, _ = begin_reading(pod, slow)
    wait_until(lambda: "Waiting" in sidecar.said)
    for container in (main, sidecar):
        container.terminate()  # of which the tool hears nothing: process 1 is a shell
    assert sidecar.wait() == 143, sidecar.said
    assert_disposed(pod)
    if outlasts:
        time.sleep(GRACE_S)
        assert main.runs, main.said
        main.kill()
        assert main.wait() == 137
    else:
        assert main.wait() == 5, main.said
        assert (pod.shared / "exit_code").read_text() == "5\n"
    assert not (pod.home / OUT).exists()


# ----------------------------------------------------------------------------------------------------
# Another user of the Gateway


@pytest.mark.long
def test_a_sidecar_that_is_another_user_says_so(make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod()
    assert pod.init().wait() == 0
    main = pod.main(*mosaic(catalogue))
    assert main.wait() == 0, main.said
    pod.env = OTHER
    began = time.monotonic()
    sidecar = pod.sidecar()
    assert sidecar.wait() == 0, sidecar.said  # how the tool ended
    assert time.monotonic() - began < 30  # it isn't tried again and again
    assert (
        f"The Dask Gateway doesn't let us stop the Dask cluster {pod.cluster}, and it may still run: "
        "403 Forbidden. It may belong to another of its users;"
    ) in sidecar.said
    assert status(pod.gateway, pod.cluster) == "running"
    (pod.shared / "exit_code").unlink()  # a tool that says nothing
    shutil.rmtree(pod.folder / "root-sidecar")
    assert pod.sidecar().wait() == 5


@pytest.mark.long
def test_a_tool_that_is_another_user_says_so(make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod()
    assert pod.init().wait() == 0
    pod.env = OTHER
    main = pod.main(*mosaic(catalogue))
    assert main.wait() == 5, main.said
    assert (
        "doesn't let us in: 403 Forbidden. Expected it to take the configured user and password, or token, "
        in main.said
    )
    assert "clusters to be that user's own." in main.said
    pod.env = {}
    sidecar = pod.sidecar()
    assert sidecar.wait() == 5, sidecar.said
    assert_disposed(pod)
    assert not (pod.home / OUT).exists()


@pytest.mark.long
def test_with_the_built_in_scripts_a_sidecar_that_is_another_user_fails(make_pod: MakePod) -> None:
    pod = make_pod(scripts=BUILTIN)
    assert pod.init().wait() == 0
    (pod.shared / "completed").touch()
    pod.env = OTHER
    sidecar = pod.sidecar()
    assert sidecar.wait() == 1, sidecar.said
    assert status(pod.gateway, pod.cluster) == "running"


@pytest.mark.long
def test_another_user_sees_no_clusters_and_is_told_why(make_pod: MakePod) -> None:
    pod = make_pod(env=OTHER)
    init = pod.init()
    assert init.wait() == 0, init.said  # a cluster of the other user's
    pod.env = {}
    listed = pod.main("eoap-dask", "cluster", "list")
    assert listed.wait() == 0, listed.said
    assert "There is no cluster of yours; those of other users aren't listed.\n" in listed.said
    assert pod.cluster not in listed.said.replace(f"DASK_CLUSTER={pod.cluster}", "")
    pod.env = OTHER
    sidecar = pod.sidecar()
    assert sidecar.wait() == 0, sidecar.said
    assert "is stopped." in sidecar.said


# ----------------------------------------------------------------------------------------------------
# The cluster doesn't come, or has no room


@pytest.mark.long
def test_what_the_built_in_init_makes_and_leaves(make_pod: MakePod) -> None:
    pod = make_pod(scripts=BUILTIN, requirement={"clusterMaxMemory": "2Gi"})
    with pod.gateway.configured(), GatewayApi() as api:
        before = {one.name for one in api.clusters()}
    init = pod.init()
    assert init.wait() == 1
    assert "KeyError: 'Gi'" in init.said
    with pod.gateway.configured(), GatewayApi() as api:
        assert len({one.name for one in api.clusters()} - before) == 1


@pytest.mark.long
@pytest.mark.parametrize(
    ("requirement", "env", "logname", "code", "says"),
    [
        ({"clusterMaxMemory": "2Gi"}, {}, "eoap", 2, "clusterMaxMemory can't be '2Gi'."),
        ({}, NAMELESS, None, 2, "The user 12345 of this container has no name. Set LOGNAME"),
        (  # more than a cluster of the Gateway may have: it isn't waited for
            {"workerCores": "3", "workerCoresLimit": "3", "clusterMaxCores": "3"},
            {"EOAP_DASK_INIT_TIMEOUT": "9999"},
            "eoap",
            5,
            "allows 0 workers of such a cluster, and 1 worker is needed. Its limits may count the scheduler as well. ",
        ),
        (  # less than a worker needs to start
            {},
            {"EOAP_DASK_INIT_WORKERS": "all", "EOAP_DASK_INIT_TIMEOUT": "0.1"},
            "eoap",
            5,
            "0 of 1 worker came within 0.1 s. Asked for was workerCores 1, workerCoresLimit 1, workerMemory 1G",
        ),
        ({}, {"DASK_GATEWAY__AUTH__KWARGS__PASSWORD": "wrong"}, "eoap", 5, "401"),
        ({}, {"DASK_GATEWAY_URL": "http://127.0.0.1:9"}, "eoap", 5, "The Dask Gateway at http://127.0.0.1:9: "),
    ],
)
def test_the_hardened_init_says_why_to_all_and_leaves_no_cluster(
    requirement: dict[str, str],
    env: dict[str, str | None],
    logname: str | None,
    code: int,
    says: str,
    make_pod: MakePod,
    catalogue: DemoServer,
) -> None:
    pod = make_pod(requirement=requirement, env=env, logname=logname)
    with pod.gateway.configured(), GatewayApi() as api:
        before = {one.name for one in api.clusters()}
    main, sidecar = pod.begin(*mosaic(catalogue))
    init = pod.containers[0]
    assert says in init.said
    assert "Traceback" not in init.said
    with pod.gateway.configured(), GatewayApi() as api:
        assert {one.name for one in api.clusters()} <= before
    why = init.said.splitlines()[-1].removeprefix("Error: ")
    assert (main.wait(), main.said) == (code, f"Error: The Dask cluster of this step wasn't started. {why}\n")
    assert sidecar.wait() == code
    assert sidecar.said.splitlines()[-1] == f"The tool had no Dask cluster. Error: {why}"
    assert (pod.home / "dask-init-failed.txt").read_text() == f"{why}\n"
    assert pod.verdict(code) == ("temporaryFail" if code == 5 else "permanentFail", False)


@pytest.mark.long
def test_an_unknown_user_ends_the_built_in_init(make_pod: MakePod) -> None:
    pod = make_pod(scripts=BUILTIN, logname=None, env=NAMELESS)
    init = pod.init()
    assert init.wait() == 1
    assert "getpwuid(): uid not found: 12345" in init.said


@pytest.mark.long
def test_the_hardened_init_waits_for_workers(make_pod: MakePod) -> None:
    pod = make_pod(env={"EOAP_DASK_INIT_WORKERS": "all"})
    init = pod.init()
    assert init.wait() == 0, init.said
    assert init.said.splitlines()[-1] == f"The Dask cluster {pod.cluster} is started."
    with pod.gateway.configured(), GatewayApi() as api:
        info = api.cluster(pod.cluster)
    assert info is not None
    from distributed import Client

    with Client(info.scheduler, security=info.security, set_as_default=False) as client:
        assert len(client.nthreads()) == 1
    sidecar = pod.sidecar()
    wait_until(lambda: "Waiting" in sidecar.said)
    sidecar.terminate()
    assert sidecar.wait() == 143
    assert_disposed(pod)


@pytest.mark.long
def test_an_init_that_is_stopped_leaves_no_cluster(make_pod: MakePod) -> None:
    pod = make_pod(
        env={"EOAP_DASK_INIT_WORKERS": "all"},
    )
    with pod.gateway.configured(), GatewayApi() as api:
        before = {one.name for one in api.clusters()}
        init = pod.init()
        wait_until(lambda: {one.name for one in api.clusters() if one.status == "running"} - before)
        init.terminate()
        assert init.wait() == 143, init.said
        assert "nothing of it is left" in init.said
        assert {one.name for one in api.clusters()} <= before


@pytest.mark.long
def test_the_idle_timeout_ends_what_a_killed_init_leaves(impatient_gateway: LocalGateway, make_pod: MakePod) -> None:
    pod = make_pod(gateway=impatient_gateway, env={"EOAP_DASK_INIT_WORKERS": "all"})
    with impatient_gateway.configured(), GatewayApi() as api:
        init = pod.init()
        wait_until(lambda: [one for one in api.clusters() if one.status == "running"])
        (left,) = api.clusters()
        init.kill()
        assert init.wait() == 137
        assert [one.name for one in api.clusters()] == [left.name]  # it doesn't die with who made it
    assert_disposed(pod, left.name, timeout=120)


@pytest.mark.long
def test_a_cluster_without_workers_is_noticed_by_the_tool(make_pod: MakePod, catalogue: DemoServer) -> None:
    pod = make_pod(scripts=BUILTIN, requirement={"workerMemory": "4G", "clusterMaxMemory": "2G"})
    main, sidecar = pod.begin(*mosaic(catalogue, "--cluster-timeout", 4))
    assert main.wait() == 5, main.said
    assert "No worker came within 4 s; " in main.said
    assert "workerMemory 4G" in main.said
    assert "clusterMaxMemory 2G" in main.said
    assert sidecar.wait() == 0, sidecar.said
    assert_disposed(pod)
