"""Killing runs at points taken from their event stream, and running them again: ``python -m benchmarks.kills``.

Each trial starts a run in a process of its own, waits for the n-th event in ``events.jsonl`` and a moment more, both
drawn by a seeded generator, and kills the client, a worker, all workers or the scheduler with SIGKILL. Then it runs the
same command again, and everything must be as if nothing had happened: see `Arena.try_kill`.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self

import psutil

from benchmarks.processes import SchedulerAndWorkers
from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.changes import CELLS_FILE, make_changes
from eoap_dask.demo.fields import FIELDS_FILE, make_fields
from eoap_dask.demo.process import ServerProcess
from eoap_dask.run.events import EVENTS_FILE, read_events

Where = Literal["local", "scheduler", "gateway"]
Victim = Literal["client", "worker", "workers", "scheduler"]

MONTHS = ("2020-09", "2020-10", "2020-11", "2020-12")
MONTHS_BEFORE = 2
"""Of a product that a trial brings up to date."""


@dataclass(frozen=True)
class Subject:
    """What is killed: an application with an archive, a product, and one of some of its units, which is updated."""

    application: str
    make: Callable[[Path], object]
    """Makes the archive in a directory."""
    arguments: Callable[[Path, bool], Sequence[object]]
    """Options for an archive; the flag says whether all of the product is made."""


def _mosaic_arguments(_: Path, whole: bool) -> Sequence[object]:
    months = MONTHS if whole else MONTHS[:MONTHS_BEFORE]
    dates = ("--start-date", f"{months[0]}-01", "--end-date", f"{months[-1]}-28")
    return (*dates, "--bands", "red", "--resolution", 200)


def _chips_arguments(archive: Path, whole: bool) -> Sequence[object]:
    # all are for training: with other cells, others would be, and no cell would stay as it was
    splits = ("--split", 1, "--split", 0, "--split", 0)
    cells = ("--grid", 3, "--chip-size", 64, "--max-chips", 2, "--min-fields", 1 if whole else 14)
    return ("--fields", archive / FIELDS_FILE, *cells, *splits, "--bands", "red", "--bands", "swir16")


def _changes_arguments(archive: Path, whole: bool) -> Sequence[object]:
    return (
        "--grid",
        archive / CELLS_FILE,
        "--years",
        "2022-2024" if whole else "2022-2023",
        "--bands",
        "red",
        "--bands",
        "nir",
    )


SUBJECTS = {
    "cloudless-mosaic": Subject(
        "cloudless-mosaic",
        lambda folder: make_archive(
            folder, size_px=256, resolution_m=60.0, dates_per_month=2, months=MONTHS, reprocessed=False
        ),
        _mosaic_arguments,
    ),
    "crop-chips": Subject("crop-chips", lambda folder: make_fields(folder, size_px=512), _chips_arguments),
    "change-detection": Subject(
        "change-detection",
        lambda folder: make_changes(folder, rows=1, cols=3, cell_px=64, passes=2),
        _changes_arguments,
    ),
}
"""By the names of the applications."""
KINDS: tuple[tuple[Where, Victim], ...] = (
    ("local", "client"),
    ("scheduler", "scheduler"),
    ("local", "worker"),
    ("gateway", "client"),
    ("scheduler", "client"),
    ("scheduler", "workers"),
    ("local", "client"),
    ("gateway", "scheduler"),
    ("scheduler", "worker"),
    ("scheduler", "scheduler"),
    ("gateway", "worker"),
    ("local", "client"),
)
"""Which cluster, and who is killed; one after the other. An embedded cluster's scheduler is in the client."""

LATENCY_S = 0.02
"""Of the server, so that there is something to kill."""
PATIENCE_S = 3.0
"""What a run is told for ``--cluster-timeout`` where its workers are killed for good."""
IDLE_S = 20.0
"""After which a Gateway stops a cluster whose client was killed."""
RUN_S = 180.0
GONE_S = 60.0
VOLATILE = {"processing:datetime", "timings", "started_at", "completed_at"}
"""Fields of JSON that tell when: all that equal runs may write differently."""
NOT_COMPARED = {EVENTS_FILE, "run.log", "download.log", "store.log", "change.log"}


class TrialError(AssertionError):
    """Something isn't as if nothing had happened."""


@dataclass(frozen=True)
class Trial:
    """Who is killed where, and when."""

    number: int
    where: Where
    victim: Victim
    after: int
    """Lines of ``events.jsonl``."""
    moment_s: float
    """And so much later."""
    update: bool
    """Whether there is a product already that is brought up to date."""


@dataclass
class Result:
    """What came of a trial."""

    trial: Trial
    exit_code: int | None = None
    """Of the run that was disturbed; negative for a signal."""
    killed: int = 0
    """Processes; 0 where the run was over too soon."""
    done_before: int = 0
    """Units that were finished when it ended."""
    seconds: float = 0.0
    fault: str = ""
    """Empty when all was well."""


@dataclass
class Arena:
    """An archive, its server, and a product that nobody has disturbed; a context manager.

    Parameters
    ----------
    folder
        For all files; made if need be, and left.
    """

    folder: Path
    seed: int = 1
    subject: Subject = SUBJECTS["cloudless-mosaic"]
    _exit: ExitStack = field(default_factory=ExitStack)
    _server: ServerProcess | None = None
    _gateway: LocalGateway | None = None
    _new: dict[str, str] = field(default_factory=dict)
    _old: dict[str, str] = field(default_factory=dict)
    _events: int = 0

    def __enter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        archive = self._archive
        self.subject.make(archive)
        try:
            self._server = self._exit.enter_context(ServerProcess(archive, latency_s=LATENCY_S))
            for name in ("undisturbed", "before"):
                place = self._place(name)
                code = finish(self._start(place, None, whole=name == "undisturbed"))
                if code:
                    raise TrialError(f"the run that nobody disturbs ended with {code}: {said(place)}")
        except BaseException:
            self._exit.close()
            raise
        self._new = contents(self.folder / "undisturbed" / "out")
        self._old = contents(self.folder / "before" / "out")
        self._events = len(list(read_events(self.folder / "undisturbed" / "out" / EVENTS_FILE)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._exit.close()

    def draw(self, number: int) -> Trial:
        """Return a trial; the same seed and number give the same one."""
        chance = random.Random(f"{self.seed}-{number}")  # noqa: S311 - no secret
        where, victim = KINDS[number % len(KINDS)]
        return Trial(
            number,
            where,
            victim,
            after=chance.randint(1, self._events - 1),  # at its end there is nothing left to kill
            moment_s=round(chance.choice([0.0, chance.uniform(0, 0.3)]), 3),
            update=where == "local" and chance.random() < 0.5,
        )

    def try_kill(self, trial: Trial) -> Result:
        """Disturb a run, run it again, and check both.

        After the kill, the output is absent, or whole: the old product, or the new one. The run whose cluster dies ends
        with code 5, and nothing of it lives on but what a SIGKILL leaves no time for. The second run ends with 0, makes
        no unit again that was finished, and its product equals the undisturbed one byte for byte. In the end there is
        the output and nothing else: no lock, no temporary file, no process, no cluster of the Gateway.

        Returns
        -------
        Result
            A fault is told, not raised.
        """
        result = Result(trial)
        place = self._place(f"trial-{trial.number}")
        began = time.monotonic()
        try:
            with self._cluster(trial, place) as (cluster, restart):
                self._disturb(trial, place, cluster, result)
                restart()
                self._again(place, cluster, result)
            self._check_tidy(trial, place)
        except TrialError as fault:
            result.fault = str(fault)
        else:
            shutil.rmtree(place)
        result.seconds = round(time.monotonic() - began, 1)
        return result

    # ------------------------------------------------------------------------------------------------

    @property
    def _archive(self) -> Path:
        return self.folder / "archive"

    def _place(self, name: str) -> Path:
        place = self.folder / name
        (place / "tmp").mkdir(parents=True)
        return place

    @contextmanager
    def _cluster(self, trial: Trial, place: Path) -> Iterator[tuple[Cluster, Callable[[], None]]]:
        """Yield the cluster of a trial, and how it is made whole again after the kill."""
        if trial.where == "local":
            yield None, lambda: None
        elif trial.where == "gateway":
            if self._gateway is None:
                self._gateway = self._exit.enter_context(LocalGateway(idle_timeout_s=IDLE_S))
            yield self._gateway, lambda: None
        else:
            with SchedulerAndWorkers(place / "cluster", workers=2, memory="512MiB") as cluster:
                cluster.wait_for_workers()

                def restart() -> None:
                    if trial.victim == "scheduler":
                        cluster.close()
                        cluster.start_scheduler()
                    if trial.victim in {"scheduler", "workers"}:
                        cluster.start_worker()

                yield cluster, restart

    def _start(
        self, place: Path, cluster: Cluster, *, whole: bool = True, patience_s: float = RUN_S
    ) -> subprocess.Popen[bytes]:
        assert self._server is not None
        env = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
        options: tuple[object, ...] = ("--cluster", "local", "--workers", 1)
        if isinstance(cluster, SchedulerAndWorkers):
            options = ("--cluster", cluster.address)
        elif isinstance(cluster, LocalGateway):
            options = ("--cluster", "gateway", "--workers", 1, "--worker-memory", "512M")
            env |= cluster.client_environment
        command = [
            *(sys.executable, "-m", "eoap_dask", self.subject.application, "--stac", self._server.url),
            *self.subject.arguments(self._archive, whole),
            *("--output-dir", "out", "--cluster-timeout", patience_s, *options),
        ]
        with (place / "run.log").open("ab") as log:
            return subprocess.Popen(
                list(map(str, command)),
                cwd=place,
                env={**env, "TMPDIR": str(place / "tmp")},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=log,
                start_new_session=True,
            )

    def _disturb(self, trial: Trial, place: Path, cluster: Cluster, result: Result) -> None:
        if trial.update:
            shutil.copytree(self.folder / "before" / "out", place / "out")
        # workers that are gone for good needn't be waited for; those of a Gateway come again
        process = self._start(place, cluster, patience_s=PATIENCE_S if trial.victim == "workers" else RUN_S)
        try:
            self._wait_for_event(trial, place, process)
            time.sleep(trial.moment_s)
            while process.poll() is None and not result.killed:  # who is to be killed may not be there yet
                result.killed = kill(trial.victim, process, cluster)
                time.sleep(0.005)
            result.exit_code = finish(process)
        finally:
            process.kill()
            process.wait()
        expected = {0, 5}
        if not result.killed or (trial.victim == "worker" and trial.where != "gateway"):  # another does its work
            expected = {0}
        if trial.victim == "worker" and "The local Dask cluster didn't start" in said(place):  # it hadn't come yet
            expected = {5}
        if trial.victim == "client" and result.killed:
            expected = {-signal.SIGKILL, 0}
        if result.exit_code not in expected:
            raise TrialError(f"the disturbed run ended with {result.exit_code}: {said(place)}")
        wait_until(lambda: not processes(place / "tmp"), "processes of the killed run live on")
        if is_held(place / "out.lock"):
            raise TrialError("the lock is held by a process that is dead")
        self._check_whole(trial, place)

    def _wait_for_event(self, trial: Trial, place: Path, process: subprocess.Popen[bytes]) -> None:
        files = [place / "out.partial" / EVENTS_FILE, *(() if trial.update else (place / "out" / EVENTS_FILE,))]
        while process.poll() is None:
            if not trial.update and (place / "out").exists() and not (place / "out" / "catalog.json").exists():
                raise TrialError("the output was there before its catalog")
            for file in files:
                with contextlib.suppress(OSError):
                    if file.read_bytes().count(b"\n") >= trial.after:
                        return
            time.sleep(0.002)

    def _check_whole(self, trial: Trial, place: Path) -> None:
        """After a kill, the output is absent, or the old product, or the new one."""
        out = place / "out"
        if not out.exists():
            if trial.update and not (place / "out.old").exists():  # where a file system can't exchange
                raise TrialError("the product that was to be updated is gone")
            return
        found = contents(out)
        if found != self._new and not (trial.update and found == self._old):
            raise TrialError(f"the output is there and isn't whole: {differences(found, self._new)}")

    def _again(self, place: Path, cluster: Cluster, result: Result) -> None:
        partial, out = place / "out.partial" / EVENTS_FILE, place / "out"
        was_published = out.exists() and contents(out) == self._new
        done = finished(partial) if partial.exists() and not was_published else set()
        result.done_before = len(done)
        code = finish(self._start(place, cluster))
        if code:
            raise TrialError(f"the second run ended with {code}: {said(place)}")
        found = contents(out)
        if found != self._new:
            raise TrialError(f"the product differs: {differences(found, self._new)}")
        if was_published:
            return
        events = [(event["kind"], event.get("unit", "")) for event in read_events(out / EVENTS_FILE)]
        lost = [
            unit for unit in sorted(done) if ("unit-skipped", unit) not in events or ("unit-started", unit) in events
        ]
        if lost:
            raise TrialError(f"finished units were made again: {', '.join(lost)}")

    def _check_tidy(self, trial: Trial, place: Path) -> None:
        """In the end, there is the output and nothing else."""
        left = {path.name for path in place.iterdir()} - {"out", "tmp", "run.log", "cluster"}
        if left:
            raise TrialError(f"left in the working directory: {', '.join(sorted(left))}")
        wait_until(lambda: not processes(place / "tmp"), "processes of the second run live on")
        if kept := [path.name for path in (place / "tmp").iterdir()]:
            raise TrialError(f"left among the temporary files: {', '.join(kept)}")
        if trial.where == "gateway" and self._gateway is not None:
            gateway = self._gateway

            def is_empty() -> bool:
                with gateway.configured(), GatewayApi() as api:
                    return not api.clusters()

            wait_until(is_empty, "the Gateway still has a cluster")


Cluster = SchedulerAndWorkers | LocalGateway | None
"""None is the embedded one."""


def kill(victim: Victim, client: subprocess.Popen[bytes], cluster: Cluster) -> int:
    """Kill whom a trial says, and return how many processes that were; 0 where there are none yet."""
    if victim == "client":
        client.kill()
        return 1
    if isinstance(cluster, SchedulerAndWorkers):
        if victim == "scheduler":
            cluster.kill_scheduler()
            return 1
        found = cluster.worker_processes()
    elif isinstance(cluster, LocalGateway):
        found = [
            process
            for process in children(cluster.pid)
            if f"distributed.cli.dask_{victim}" in command_of(process)
            or (victim == "worker" and "spawn_main" in command_of(process))
        ]
    else:
        found = [process for process in children(client.pid) if "spawn_main" in command_of(process)]
    if victim == "worker" and isinstance(cluster, SchedulerAndWorkers):
        found = found[:1]
    for process in found:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.kill()
    return len(found)


def children(pid: int | None) -> list[psutil.Process]:
    """Return all descendants of a process."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return psutil.Process(pid).children(recursive=True)
    return []


def command_of(process: psutil.Process) -> str:
    """Return the command line of a process, empty if it is gone."""
    with contextlib.suppress(psutil.Error):
        return " ".join(process.cmdline())
    return ""


def processes(tmp: Path) -> list[psutil.Process]:
    """Return the processes whose temporary files go to a directory: those of a run, wherever they have gone."""
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error, OSError):
            if process.environ().get("TMPDIR") == str(tmp) and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
    return found


def finish(process: subprocess.Popen[bytes]) -> int:
    """Wait for a run, and return its exit code."""
    try:
        return process.wait(RUN_S)
    except subprocess.TimeoutExpired:
        raise TrialError(f"the run didn't end within {RUN_S:g} s") from None


def wait_until(is_true: Callable[[], bool], otherwise: str) -> None:
    """Wait for something that comes about by itself."""
    deadline = time.monotonic() + GONE_S
    while not is_true():
        if time.monotonic() > deadline:
            raise TrialError(f"{otherwise} after {GONE_S:g} s")
        time.sleep(0.1)


def said(place: Path) -> str:
    """Return the end of what the runs of a trial said."""
    return (place / "run.log").read_text(errors="replace")[-1500:].strip()


def finished(events: Path) -> set[str]:
    """Return the units that were finished, as events tell."""
    return {event["unit"] for event in read_events(events) if event["kind"] in {"unit-done", "unit-skipped"}}


def is_held(lock: Path) -> bool:
    """Tell whether somebody holds a lock."""
    try:
        with lock.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def contents(out: Path) -> dict[str, str]:
    """Return the checksum of every file of a product that equal runs write equally."""
    found = {}
    for path in sorted(out.rglob("*")):
        if path.is_file() and path.name not in NOT_COMPARED:
            content = path.read_bytes()
            if path.suffix == ".json":
                content = json.dumps(without(json.loads(content)), sort_keys=True).encode()
            found[path.relative_to(out).as_posix()] = hashlib.sha256(content).hexdigest()
    return found


def without(document: Any) -> Any:
    """Return JSON without the fields that tell when."""
    if isinstance(document, dict):
        return {key: without(value) for key, value in document.items() if key not in VOLATILE}
    return [without(value) for value in document] if isinstance(document, list) else document


def differences(one: dict[str, str], other: dict[str, str]) -> str:
    """Name the files that differ."""
    return ", ".join(sorted(name for name in one.keys() | other.keys() if one.get(name) != other.get(name))[:9])


def show(result: Result) -> str:
    """Return a line about a trial."""
    trial = result.trial
    when = f"event {trial.after} + {1000 * trial.moment_s:.0f} ms"
    what = f"{trial.where} {trial.victim}{', update' if trial.update else ''}"
    outcome = result.fault or f"exit {result.exit_code}, {result.done_before} units kept"
    return f"{trial.number:4d}  {what:<22} {when:<18} {result.killed} killed  {result.seconds:5.1f} s  {outcome}"


def main(arguments: Sequence[str] | None = None) -> None:
    """Try, print a line each, and end with 1 if anything wasn't as it should be."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__)
    parser.add_argument("--trials", type=int, default=100, help="[%(default)s]")
    parser.add_argument("--seed", type=int, default=1, help="another seed, other moments [%(default)s]")
    parser.add_argument("--first", type=int, default=0, help="number of the first trial [%(default)s]")
    parser.add_argument("--application", choices=tuple(SUBJECTS), default="cloudless-mosaic", help="[%(default)s]")
    parser.add_argument("--folder", type=Path, help="keep what belongs to trials that went wrong here")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all results")
    given = parser.parse_args(arguments)
    results = []
    with ExitStack() as stack:
        folder = given.folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="eoap-kills-")))
        with Arena(folder.resolve(), given.seed, SUBJECTS[given.application]) as arena:
            for number in range(given.first, given.first + given.trials):
                results.append(arena.try_kill(arena.draw(number)))
                print(show(results[-1]), flush=True)
    if given.json:
        given.json.write_text(json.dumps([asdict(result) for result in results], indent=1) + "\n")
    faults = sum(bool(result.fault) for result in results)
    killed = Counter(f"{r.trial.where} {r.trial.victim}" for r in results if r.killed)
    print(f"{len(results)} trials, {sum(killed.values())} with a kill, {faults} faults")
    print(", ".join(f"{name}: {number}" for name, number in sorted(killed.items())))
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
