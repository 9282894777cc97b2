"""Start the Dask cluster of a CWL step, or say why not; calrissian's init container runs it in the tool's own image.

It needs dask-gateway and nothing else of ours: one config map serves all tools of a platform, and their images differ.
Its settings are calrissian's variables, and two of ours that ``--pod-env-vars`` may add:

EOAP_DASK_INIT_WORKERS   how many workers to wait for: a number, or "all"; by default none, the tool waits.
EOAP_DASK_INIT_TIMEOUT   seconds for the scheduler to start and, from then on, for the workers; by default 300.

calrissian shows nothing of what an init container says, and ends with an error of its own when one fails. One that
can't start a cluster therefore succeeds, and leaves word of it, for the sidecar to fail with:

init_failed, in the directory of DASK_CLUSTER_NAME_PATH   its exit code, and on the next line the sentence
DASK_CLUSTER_NAME_PATH                                    a name that no cluster has: no tool takes it for none at all
dask-init-failed.txt, in the step's working directory     the sentence, on a volume that outlives the pod
"""

from __future__ import annotations

import asyncio
import getpass
import os
import re
import signal
import sys
import time
import warnings
from collections.abc import Awaitable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

FIELDS = {
    "workerCores": "DASK_GATEWAY_WORKER_CORES",
    "workerCoresLimit": "DASK_GATEWAY_WORKER_CORES_LIMIT",
    "workerMemory": "DASK_GATEWAY_WORKER_MEMORY",
    "clusterMaxCores": "DASK_GATEWAY_CLUSTER_MAX_CORES",
    "clusterMaxMemory": "DASK_GATEWAY_CLUSTER_MAX_RAM",
}
"""Field of the requirement → calrissian's variable."""
POWERS = "KMGT"
TERMINATION_LOG = Path("/dev/termination-log")
"""What is written here is in the pod's status, and so in calrissian's log: it doesn't show what init containers say."""
REQUEST_TIMEOUT_S = 30
SUBMIT_TIMEOUT_S = 30
LATE_ANSWER_S = 30
"""How long to wait for the name of a new cluster still when we give up: without it, nobody can stop the cluster."""
STOP_ATTEMPTS = 4
CANCEL_TIMEOUT_S = 3
FAILED, FAILED_HERE = "init_failed", "dask-init-failed.txt"
NO_CLUSTER = "none-was-started"


class Refused(Exception):  # noqa: N818 - it is one
    """What can't be, in a sentence."""

    code = 2


class Failed(Refused):
    """What went wrong with the Gateway or the cluster, in a sentence."""

    code = 5


def main() -> int:
    """Start the cluster and write its name.

    Returns
    -------
    int
        0 when its name is written, or why there is none; 143 stopped: nothing is left then. Where not even that can be
        written: 1 a bug, 2 a setting, 5 the Gateway or the cluster.
    """
    try:
        wanted = Wanted(os.environ)
        return asyncio.run(start_or_stop(wanted))
    except Refused as exc:
        return failed(exc.code, str(exc))
    except Exception as exc:  # noqa: BLE001 - the last line of defence
        return failed(1, f"The Dask cluster can't be started: {type(exc).__name__}: {exc}")


def failed(code: int, why: str) -> int:
    """Say why there is no cluster, to all who may be asked; return 0 when the sidecar will end with the code."""
    say(f"Error: {why}", last=True)
    sentence = " ".join(why.split())
    with suppress(OSError):
        Path(FAILED_HERE).write_text(f"{sentence}\n")
    path = os.environ.get("DASK_CLUSTER_NAME_PATH", "").strip()
    if not path:
        return code
    try:
        write(f"{Path(path).parent / FAILED}", f"{code}\n{sentence}\n")
        write(path, NO_CLUSTER)
    except OSError:
        return code
    return 0


class Wanted:
    """What calrissian asks for, checked before anything is contacted."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        given = {field: environ.get(variable, "").strip() for field, variable in FIELDS.items()}
        for field, value in given.items():
            if not value or value == "None":
                raise Refused(
                    "{} is missing from the DaskGatewayRequirement. It has five fields: {}.".format(
                        field, ", ".join(FIELDS)
                    )
                )
            if "$(" in value or "${" in value:
                raise Refused(
                    f"{field} is the expression {value!r}, which calrissian hands on as it is written. Use a literal."
                )
        self.worker_cores = whole("workerCores", given)
        self.worker_cores_limit = whole("workerCoresLimit", given)
        self.worker_memory = given["workerMemory"]
        if self.worker_cores > self.worker_cores_limit:
            raise Refused(f"workerCores {self.worker_cores} is more than workerCoresLimit {self.worker_cores_limit}.")
        by_cores = whole("clusterMaxCores", given) // self.worker_cores_limit
        by_memory = memory("clusterMaxMemory", given) // memory("workerMemory", given)
        self.workers = min(by_cores, by_memory)
        if self.workers < 1:
            what, most = (
                ("workerCoresLimit", "clusterMaxCores") if by_cores < 1 else ("workerMemory", "clusterMaxMemory")
            )
            raise Refused(f"Not one worker fits: {what} {given[what]} is more than {most} {given[most]}.")
        self.text = ", ".join("{} {}".format(*one) for one in given.items())
        self.image = environ.get("DASK_GATEWAY_IMAGE", "").strip()
        self.address = environ.get("DASK_GATEWAY_URL", "").strip() or None
        self.path = environ.get("DASK_CLUSTER_NAME_PATH", "").strip()
        if not self.image or self.image == "None":
            raise Refused("The step has no image: its DockerRequirement needs a dockerPull, for the workers too.")
        if not self.path:
            raise Refused("DASK_CLUSTER_NAME_PATH isn't set: there is no place for the cluster's name.")
        text = environ.get("EOAP_DASK_INIT_WORKERS", "").strip().lower() or "0"
        if text != "all" and not re.fullmatch("[0-9]{1,6}", text):
            raise Refused(f"EOAP_DASK_INIT_WORKERS can't be {text!r}. Expected a number, or all.")
        self.awaits_all = text == "all"
        self.awaited = self.workers if self.awaits_all else min(int(text), self.workers)
        self.timeout_s = seconds(environ.get("EOAP_DASK_INIT_TIMEOUT", "") or "300")

    def options(self) -> dict[str, Any]:
        """Return the cluster options as calrissian sets them."""
        return {
            "image": self.image,
            "worker_cores": float(self.worker_cores),
            "worker_cores_limit": self.worker_cores_limit,
            "worker_memory": self.worker_memory,
        }


def whole(field: str, given: dict[str, str]) -> int:
    """Return a field that is a positive whole number."""
    if not re.fullmatch("[0-9]{1,6}", given[field]) or not int(given[field]):
        raise Refused(f"{field} can't be {given[field]!r}. Expected a whole number, 1 or more.")
    return int(given[field])


def memory(field: str, given: dict[str, str]) -> int:
    """Return the bytes of a field that is an amount of memory as calrissian and Gateways both read it."""
    match = re.fullmatch("([1-9][0-9]{0,6})([KMGT])", given[field])
    if not match:
        raise Refused(
            f"{field} can't be {given[field]!r}. "
            "Expected a whole number with K, M, G or T, such as 4G; neither GB nor Gi."
        )
    return int(match.group(1)) << 10 * (POWERS.index(match.group(2)) + 1)


def seconds(text: str) -> float:
    """Return a positive number of seconds."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise Refused(f"EOAP_DASK_INIT_TIMEOUT can't be {text!r}. Expected seconds.")
    return value


async def start_or_stop(wanted: Wanted) -> int:
    """Start the cluster; stop it again when anything goes wrong, or when we are told to stop."""
    told = asyncio.Event()
    # as process 1 of a container we get no signal without a handler
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, told.set)
    async with access(wanted) as gateway:
        submissions: list[asyncio.Future[str]] = []
        work = asyncio.ensure_future(start(gateway, wanted, submissions))
        is_told = asyncio.ensure_future(told.wait())
        await asyncio.wait({work, is_told}, return_when=asyncio.FIRST_COMPLETED)
        is_told.cancel()
        if work.done() and work.exception() is None:
            return 0
        work.cancel()
        await asyncio.wait({work}, timeout=CANCEL_TIMEOUT_S)  # not more: libraries may swallow a cancellation
        for submission in submissions:
            await give_back(gateway, submission)
        Path(wanted.path).unlink(missing_ok=True)
        if told.is_set():
            say("Stopped before the Dask cluster was there; nothing of it is left.", last=True)
            return 143
        work.result()
    return 1


def access(wanted: Wanted) -> Any:
    """Return a Gateway, as dask's configuration says how to use it."""
    from dask_gateway import Gateway

    try:
        return Gateway(wanted.address, asynchronous=True)
    except Exception as exc:
        if not has_name():
            raise Refused(
                f"The user {os.getuid()} of this container has no name. Set LOGNAME in the image, in the CWL file "
                "(EnvVarRequirement) or with --pod-env-vars."
            ) from None
        # without its text, which may hold what is secret
        raise Failed(f"The configured access to the Dask Gateway can't be used ({type(exc).__name__}).") from exc


async def start(gateway: Any, wanted: Wanted, submissions: list[asyncio.Future[str]]) -> None:
    """Start the cluster, ask for its workers, and write its name."""
    where = f"The Dask Gateway at {gateway.address}"
    options = await ask(gateway.cluster_options(use_local_defaults=False), where)
    for name, value in wanted.options().items():
        if name not in options:
            offered = ", ".join(options) or "none"
            raise Failed(f"{where} has no cluster option {name}; it has {offered}.")
        try:
            options[name] = value
        except (TypeError, ValueError) as exc:
            raise Failed(f"{where} doesn't take {name} {value!r}: {exc}.") from None
    say(f"Starting a Dask cluster of {count(wanted.workers)} at {gateway.address}: {wanted.text}")
    submissions.append(asyncio.ensure_future(gateway.submit(options)))
    # shielded, from our patience too: once it is on its way, there may be a cluster, and its name must come
    cluster = await ask(asyncio.shield(submissions[0]), where, SUBMIT_TIMEOUT_S)
    await bring_up(gateway, cluster, wanted)
    (Path(wanted.path).parent / FAILED).unlink(missing_ok=True)  # of an earlier try
    write(wanted.path, cluster)
    say(f"The Dask cluster {cluster} is started.")


def has_name() -> bool:
    """Tell whether the user of this process has a name."""
    try:
        return bool(getpass.getuser())
    except (KeyError, OSError):
        return False


async def bring_up(gateway: Any, name: str, wanted: Wanted) -> None:
    """Wait for the scheduler, ask for workers, and wait for those that we are to wait for."""
    where = f"The Dask Gateway at {gateway.address}"
    deadline = time.monotonic() + wanted.timeout_s
    while True:
        report = await ask(gateway.get_cluster(name, wait=True), where)
        status = report.status.name.lower()
        if status == "running":
            break
        if status != "pending":
            raise Failed(f"The Dask cluster {name} ended before it had begun: it is {status}.")
        if time.monotonic() > deadline:
            raise Failed(
                f"The Dask cluster {name} didn't start within {wanted.timeout_s:g} s. "
                "The platform may have no room for it."
            )
        await asyncio.sleep(0.2)
    allowed = await scale(gateway, name, wanted, where)
    awaited = allowed if wanted.awaits_all else wanted.awaited
    if allowed < max(1, awaited):
        raise Failed(
            f"{where} allows {count(allowed)} of such a cluster, and {count(max(1, awaited))} "
            f"{'is' if awaited < 2 else 'are'} needed. Its limits may count the scheduler as well. "
            f"Asked for was {wanted.text}."
        )
    if not awaited:
        return
    async with (
        gateway.connect(name, shutdown_on_close=False) as cluster,
        cluster.get_client(set_as_default=False) as client,
    ):
        try:
            await client.wait_for_workers(awaited, timeout=wanted.timeout_s)
        except TimeoutError:
            came = len(await client.nthreads())
            raise Failed(
                f"{came} of {count(awaited)} came within {wanted.timeout_s:g} s. Asked for was {wanted.text}."
            ) from None


async def scale(gateway: Any, name: str, wanted: Wanted, where: str) -> int:
    """Ask for the workers; return how many the Gateway allows, which it tells in a warning where they are fewer."""
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        await ask(gateway.scale_cluster(name, wanted.workers), where)
    allowed = wanted.workers
    for one in said:
        limit = re.search(r"limit of (\d+) workers", str(one.message))
        allowed = min(allowed, int(limit[1])) if limit else allowed
        say(f"{where} says: {one.message}" if limit else f"Warning: {one.message}")
    return allowed


async def ask(question: Awaitable[Any], where: str, timeout_s: float = REQUEST_TIMEOUT_S) -> Any:
    """Wait for a Gateway's answer; what it answers otherwise becomes a sentence."""
    try:
        return await asyncio.wait_for(question, timeout_s)
    except TimeoutError:
        raise Failed(f"{where} didn't answer within {timeout_s:g} s.") from None
    except Refused:
        raise
    except Exception as exc:
        text = str(exc).strip().splitlines()
        raise Failed("{}: {}.".format(where, (text[0] if text else type(exc).__name__).rstrip("."))) from exc


async def give_back(gateway: Any, submission: asyncio.Future[str]) -> None:
    """Stop the cluster that was submitted, if there is one."""
    await asyncio.wait({submission}, timeout=LATE_ANSWER_S)
    if not submission.done():
        submission.cancel()
        say(f"The Dask Gateway at {gateway.address} hasn't said whether it started a cluster: one may be left.")
        return
    try:
        name = submission.result()
    except Exception:  # noqa: BLE001 - then there is none, and that was said
        return
    for attempt in range(STOP_ATTEMPTS):
        try:
            await asyncio.wait_for(gateway.stop_cluster(name), REQUEST_TIMEOUT_S / STOP_ATTEMPTS)
        except Exception as exc:  # noqa: BLE001 - tried again, then told
            say(f"The Dask cluster {name} couldn't be stopped ({type(exc).__name__}).")
            await asyncio.sleep(0.25 * 2**attempt)
        else:
            say(f"The Dask cluster {name} is stopped again.")
            return


def write(path: str, text: str) -> None:
    """Write a file that appears whole or not at all."""
    draft = Path(f"{path}.{os.getpid()}.tmp")
    draft.write_text(text)
    draft.replace(path)


def count(workers: int) -> str:
    """Return a number of workers in words."""
    return "{} worker{}".format(workers, "" if workers == 1 else "s")


def say(text: str, last: bool = False) -> None:
    """Say something to the container's log and, if it is why we end, to the pod's status."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    if last:
        with suppress(OSError), TERMINATION_LOG.open("a") as file:  # Kubernetes makes it
            file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
