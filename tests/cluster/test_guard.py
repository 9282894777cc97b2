"""The guard: what it makes of a run's last words."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import psutil

from eoap_dask.cluster.guard import Guard, guarded_directory, watch


def lines(*said: dict[str, object]) -> io.StringIO:
    return io.StringIO("".join(json.dumps(one) + "\n" for one in said))


def test_an_orderly_end_is_left_alone(tmp_path: Path) -> None:
    assert watch(lines({"scratch": str(tmp_path), "others": []}, {"done": True}))
    assert tmp_path.exists()
    with Guard(tmp_path):
        pass
    assert tmp_path.exists()


def test_what_was_said_before_the_end_counts_even_when_cut(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "deep").mkdir(parents=True)
    cut = io.StringIO(json.dumps({"scratch": str(scratch), "others": []}) + '\n{"clus')
    assert not watch(cut)
    assert not scratch.exists()
    assert not watch(io.StringIO(""))


def test_tools_are_known_by_their_mark(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    sleep = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(300)"]
    marks = (Guard(scratch).mark, {"HOME": f"{scratch}/out", **Guard(tmp_path).mark})
    ours, other = (subprocess.Popen(sleep, env={**os.environ, **env}, stdout=subprocess.PIPE) for env in marks)
    try:
        for one in (ours, other):
            assert one.stdout is not None
            one.stdout.readline()
        assert not watch(lines({"scratch": str(scratch), "others": []}))
        assert not psutil.pid_exists(ours.pid)  # and waited for, since this process is its parent
        assert other.poll() is None
    finally:
        for one in (ours, other):
            one.kill()
            one.wait()
            assert one.stdout is not None
            one.stdout.close()


def test_it_outlives_what_is_sent_to_the_group_of_the_run(tmp_path: Path) -> None:
    guard = Guard(tmp_path)
    with guard:
        deadline = time.monotonic() + 10
        while not (found := [p for p in psutil.Process().children() if "eoap_dask.cluster.guard" in str(p.cmdline())]):
            assert time.monotonic() < deadline
        (process,) = found
        assert os.getpgid(process.pid) != os.getpgid(0)
    while process.is_running() and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not process.is_running()


def test_directories_elsewhere_go_too_and_their_neighbours_stay(tmp_path: Path) -> None:
    scratch, other, neighbour = (tmp_path / name for name in ("scratch", "given-1", "given-2"))
    for folder in (scratch, other, neighbour):
        (folder / "deep").mkdir(parents=True)
    assert not watch(lines({"scratch": str(scratch), "others": [str(other)]}))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["given-2"]


def test_containers_are_known_by_what_their_engine_wrote(tmp_path: Path) -> None:
    engine, log = tmp_path / "engine", tmp_path / "log"
    engine.write_text(f'#!/bin/sh\necho "$@" >> {log}\n')
    engine.chmod(0o755)
    for name in ("ours", "another"):
        (tmp_path / f"{name}.cid").write_text(f"{name}\n")
    said = [{"container": str(tmp_path / f"{name}.cid"), "engine": str(engine)} for name in ("ours", "none-yet")]
    assert not watch(lines({"scratch": str(tmp_path / "scratch"), "others": []}, *said))
    assert log.read_text() == "kill ours\n"


MAKING = """
import multiprocessing, os, sys, time
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from eoap_dask.cluster.guard import end_with_parent, guarded_directory

def write(folder):
    number = 0
    while True:
        (folder / f"{os.getpid()}-{number}").touch()
        number += 1
        time.sleep(0.001)

if __name__ == "__main__":
    with guarded_directory("outer-", Path(sys.argv[1])), guarded_directory("inner-", Path(sys.argv[1])) as made:
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(2, mp_context=spawn, initializer=end_with_parent) as pool:
            print(pool.submit(os.getpid).result(), flush=True)
            pool.submit(write, made).result()
"""


def test_directories_and_processes_go_with_one_that_is_killed(tmp_path: Path) -> None:
    program = tmp_path / "making.py"
    program.write_text(MAKING)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    making = subprocess.Popen([sys.executable, str(program), str(scratch)], stdout=subprocess.PIPE, text=True)
    assert making.stdout is not None
    pid = int(making.stdout.readline())
    assert {path.name.partition("-")[0] for path in scratch.iterdir()} == {"outer", "inner"}
    making.kill()
    making.wait()
    end = time.monotonic() + 30
    while list(scratch.iterdir()) or psutil.pid_exists(pid):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_directory_goes_in_order_and_leaves_the_environment(tmp_path: Path) -> None:
    before = dict(os.environ)
    with guarded_directory("guarded-", tmp_path) as made:
        assert made.is_dir()
        assert dict(os.environ) == before
    assert list(tmp_path.iterdir()) == []
