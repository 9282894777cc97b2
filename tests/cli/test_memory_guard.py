"""Memory that runs out: noticed below the limit of the container, and an orderly end."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from eoap_dask.cli import memory_guard
from eoap_dask.cli.memory_guard import (
    MOST_RESERVE,
    RESERVE,
    ControlGroup,
    MemoryGuard,
    control_group,
    is_wanted,
)
from eoap_dask.errors import OutOfMemoryError, UsageError

MIB = 1 << 20
V1, V2 = "4:memory:/kubepods/pod1/container1\n1:cpu:/\n", "0::/kubepods/pod1/container1\n"
V1_NONE = 9223372036854771712


def write(folder: Path, **files: object) -> Path:
    """Write files with dots in their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / f"memory.{name}").write_text(f"{content}\n")
    return folder


@pytest.fixture
def membership(tmp_path: Path) -> Path:
    """What says in which groups a process is."""
    return tmp_path / "cgroup"


def test_version_1_as_a_container_sees_it(tmp_path: Path, membership: Path) -> None:
    # the path is the host's, the mount is the container's own group
    membership.write_text(V1)
    mount = write(tmp_path / "sys" / "memory", limit_in_bytes=512 * MIB)
    assert control_group(tmp_path / "sys", membership) == ControlGroup(mount, 512 * MIB, is_v2=False)


def test_version_2_takes_the_tightest_of_the_groups_above(tmp_path: Path, membership: Path) -> None:
    membership.write_text(V2)
    root = tmp_path / "sys"
    write(root / "kubepods" / "pod1" / "container1", max="max")
    pod = write(root / "kubepods" / "pod1", max=256 * MIB)
    write(root / "kubepods", max=4096 * MIB)
    assert control_group(root, membership) == ControlGroup(pod, 256 * MIB, is_v2=True)


@pytest.mark.parametrize("text", ["", "0::/\n", "4:memory:/\n", "nonsense\n"])
def test_no_limit_is_none(text: str, tmp_path: Path, membership: Path) -> None:
    membership.write_text(text)
    write(tmp_path / "memory", limit_in_bytes=V1_NONE)
    write(tmp_path, max="max")
    assert control_group(tmp_path, membership) is None


def test_no_control_groups_at_all(tmp_path: Path) -> None:
    assert control_group(tmp_path, tmp_path / "missing") is None


@pytest.mark.parametrize(("is_v2", "usage", "prefix"), [(True, "current", ""), (False, "usage_in_bytes", "total_")])
def test_the_cache_of_files_is_not_in_use(is_v2: bool, usage: str, prefix: str, tmp_path: Path) -> None:
    stat = f"{prefix}active_file {10 * MIB}\n{prefix}inactive_file {20 * MIB}\n{prefix}mapped_file {5 * MIB}"
    group = ControlGroup(write(tmp_path, **{usage: 99 * MIB, "stat": stat}), 100 * MIB, is_v2)
    assert group.used() == 69 * MIB


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the process of the tests, which is large, go on: the limit of its own data is far away."""
    monkeypatch.setattr(memory_guard, "SLACK", 1 << 40)


@pytest.mark.usefixtures("roomy")
def test_the_threshold_leaves_a_part_free(tmp_path: Path) -> None:
    limit, stopped = 160 * MIB, threading.Event()
    group = ControlGroup(write(tmp_path, current=limit - limit // RESERVE - 1, stat="anon 1"), limit, is_v2=True)
    before = resource.getrlimit(resource.RLIMIT_DATA)
    with MemoryGuard(group, stopped.set) as guard:
        assert resource.getrlimit(resource.RLIMIT_DATA)[0] == limit + memory_guard.SLACK
        assert not stopped.wait(0.3)
        write(tmp_path, current=limit - limit // RESERVE)
        assert stopped.wait(20)
        assert guard.used == limit - limit // RESERVE
        assert str(guard.fault()).startswith("This command used 150 of the 160 MiB of memory that it may use.")
    assert resource.getrlimit(resource.RLIMIT_DATA) == before
    assert limit * RESERVE > MOST_RESERVE


@pytest.mark.usefixtures("roomy")
def test_files_that_cannot_be_read_for_a_while(tmp_path: Path) -> None:
    stopped = threading.Event()
    group = ControlGroup(write(tmp_path, current="garbage", stat="anon 1"), 100 * MIB, is_v2=True)
    with MemoryGuard(group, stopped.set):
        assert not stopped.wait(0.2)
        write(tmp_path, current=100 * MIB)
        assert stopped.wait(20)


@pytest.mark.parametrize(
    ("value", "in_pod", "wanted"),
    [(None, False, False), (None, True, True), ("auto", True, True), ("off", True, False), ("ON", False, True)],
)
def test_when_it_is_wanted(value: str | None, in_pod: bool, wanted: bool) -> None:
    assert is_wanted(in_pod, {} if value is None else {"EOAP_DASK_MEMORY_GUARD": value}) is wanted


def test_an_unknown_wish() -> None:
    with pytest.raises(UsageError, match=r"EOAP_DASK_MEMORY_GUARD must be auto, on or off, got '1g'\."):
        is_wanted(True, {"EOAP_DASK_MEMORY_GUARD": "1G"})


def run(body: str, prelude: str = "", **env: str) -> subprocess.CompletedProcess[str]:
    """Run a command of ours in a process of its own."""
    program = (
        "import sys, time, click, eoap_dask.cli.main as cli\n"
        f"from eoap_dask.cli.memory_guard import ControlGroup\nfrom pathlib import Path\n{prelude}\n"
        f"@click.command()\ndef command():\n    {body}\ncli._run(command, 'command')"
    )
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("DASK_", "EOAP_DASK_"))}
    return subprocess.run(
        [sys.executable, "-c", program], env=kept | env, capture_output=True, text=True, check=False, timeout=60
    )


def test_a_command_that_asks_for_too_much() -> None:
    done = run("bytearray(1 << 60)")
    assert done.returncode == OutOfMemoryError.exit_code
    assert done.stderr == (
        "Error: This command asked for more memory than there is. What is finished is kept. "
        "Give it more (ramMin and ramMax in CWL), or ask for a coarser resolution or a smaller area.\n"
    )


def test_a_command_at_its_limit_unwinds(tmp_path: Path) -> None:
    write(tmp_path, current=95 * MIB, stat="anon 1")
    prelude = f"cli.control_group = lambda: ControlGroup(Path({str(tmp_path)!r}), {100 * MIB}, True)"
    body = "\n    try: time.sleep(60)\n    finally: print('unwound')"
    done = run(body, prelude, EOAP_DASK_MEMORY_GUARD="on")
    assert (done.returncode, done.stdout) == (6, "unwound\n")
    assert done.stderr.startswith("Error: This command used 95 of the 100 MiB of memory that it may use.")
    assert "Stopped" not in done.stderr


def test_nothing_is_guarded_by_default(tmp_path: Path) -> None:
    write(tmp_path, current=100 * MIB, stat="anon 1")
    prelude = f"cli.control_group = lambda: ControlGroup(Path({str(tmp_path)!r}), {100 * MIB}, True)"
    assert run("time.sleep(0.5)", prelude).returncode == 0
