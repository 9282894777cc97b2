"""Stop the Dask cluster of a CWL step when its tool has ended, however it ended; calrissian's sidecar runs it.

Its exit code becomes the step's. It needs dask-gateway and nothing else of ours: one config map serves all tools of a
platform, and their images differ. Beside calrissian's variables there is one setting, for ``--pod-env-vars``:

EOAP_DASK_HEARTBEAT_TIMEOUT   seconds without a heartbeat after which a tool that has one is taken for dead; by
                              default 60. A tool without heartbeat is waited for, as calrissian's own script does.

In the directory of DASK_CLUSTER_NAME_PATH:
completed   is made by calrissian's shell when the tool has ended, unless the whole container is killed
heartbeat   is there while a command of eoap-dask runs, and its time changes every few seconds
exit_code   is how that command ended; one that is killed writes none
init_failed is why there is no cluster: the exit code that the step shall have, and on the next line the sentence
"""

from __future__ import annotations

import math
import os
import re
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path

POLL_S = 0.5
DISPOSE_WITHIN_S = 60.0
STOP_WITHIN_S = 20.0
"""After SIGTERM: Kubernetes kills us after 30."""
KILLED, TERMINATED = 137, 143
FORBIDDEN = 403
FORBIDDEN_S = 5.0
"""How long a refusal is asked about again: a proxy's may pass, that of a Gateway stays."""
TERMINATION_LOG = Path("/dev/termination-log")
"""What is written here is in the pod's status, and so in calrissian's log."""


def main() -> int:
    """Wait for the tool, and stop its cluster.

    Returns
    -------
    int
        That of the init container where it failed. Else the tool's exit code where it wrote one. Else 137 when its
        heartbeat shows that it was killed, 143 when we were stopped first, 0 when it has no heartbeat: then its output
        tells. 5 when such a tool's cluster couldn't be stopped.
    """
    stops: list[int] = []
    for number in (signal.SIGTERM, signal.SIGINT):
        # as process 1 of a container we get no signal without a handler
        signal.signal(number, lambda caught, _: stops.append(caught))
    path = Path(os.environ.get("DASK_CLUSTER_NAME_PATH", "/shared/dask_cluster_name.txt"))
    shared = path.parent
    say("Waiting for the tool to end.")
    timeout_s = patience(os.environ.get("EOAP_DASK_HEARTBEAT_TIMEOUT", ""))
    failure = failure_of_init(shared)
    if failure is not None:
        # one that knows of it ends at once; another may look for a cluster for ever, or do without
        wait(shared, stops, timeout_s, at_most_s=timeout_s)
        say(f"The tool had no Dask cluster. Error: {failure[1]}", last=True)
        return failure[0]
    why = wait(shared, stops, timeout_s)
    code = exit_code(shared)
    if code is None and why == "completed":
        code = KILLED if has_heartbeat(shared) else None
    elif code is None:
        code = KILLED if why == "silent" else TERMINATED
    say(
        {
            "completed": "The tool has ended{}.",
            "silent": "The tool's heartbeat has stopped{}.",
            "stopped": "Stopped by a signal{}.",
        }[why].format("" if code is None else f", exit code {code}")
    )
    is_gone = dispose(path, STOP_WITHIN_S if why == "stopped" else DISPOSE_WITHIN_S)
    if code is None:
        return 0 if is_gone else 5
    if code:
        say("The tool failed with exit code {}{}.".format(code, ": it was killed" if code == KILLED else ""), last=True)
    return code


def patience(text: str) -> float:
    """Return the seconds without a heartbeat after which a tool is taken for dead."""
    try:
        value = float(text or "60")
    except ValueError:
        value = 0.0
    if value <= 0:
        say(f"EOAP_DASK_HEARTBEAT_TIMEOUT can't be {text!r}: it is taken for 60.")
        return 60.0
    return value


def wait(shared: Path, stops: list[int], timeout_s: float, at_most_s: float = math.inf) -> str:
    """Wait until the tool has ended, is dead, or we are told to stop.

    Returns
    -------
    str
        ``completed``, ``silent`` (also after `at_most_s`) or ``stopped``.
    """
    end = time.monotonic() + at_most_s
    # changes are counted by our own clock: another one may have been set, or both of us have slept
    seen, since = heartbeat(shared), time.monotonic()
    while True:
        if (shared / "completed").exists():
            return "completed"
        if stops:
            return "stopped"
        now = heartbeat(shared)
        if now != seen:
            seen, since = now, time.monotonic()
        elif now is not None and time.monotonic() - since > timeout_s:
            return "silent"
        if time.monotonic() > end:
            return "silent"
        time.sleep(POLL_S)


def heartbeat(shared: Path) -> int | None:
    """Return the time of the last heartbeat, or None."""
    try:
        return (shared / "heartbeat").stat().st_mtime_ns
    except OSError:
        return None


def has_heartbeat(shared: Path) -> bool:
    """Tell whether a command had a heartbeat and didn't end it."""
    return heartbeat(shared) is not None


def failure_of_init(shared: Path) -> tuple[int, str] | None:
    """Return with which exit code the init container failed, and why; None where it didn't."""
    text = read(shared / "init_failed")
    if text is None:
        return None
    code, _, why = text.partition("\n")
    return int(code) if re.fullmatch("[1-9][0-9]{0,2}", code) and int(code) < 256 else 1, why.strip()


def exit_code(shared: Path) -> int | None:
    """Return the exit code that the tool wrote, or None."""
    text = (read(shared / "exit_code") or "").strip()
    return int(text) if re.fullmatch("[0-9]{1,3}", text) and int(text) < 256 else None


def read(path: Path) -> str | None:
    """Return the beginning of a file, or None where it can't be read."""
    try:
        with path.open(errors="replace") as file:
            return file.read(4096)
    except OSError:
        return None


def dispose(path: Path, within_s: float) -> bool:
    """Stop the cluster that the file names.

    Returns
    -------
    bool
        Whether it is gone; also when it was gone before, as after the Gateway's idle timeout.
    """
    try:
        with path.open() as file:
            name = file.read(1024).strip()
    except OSError as exc:
        say(f"No Dask cluster is known: {exc.strerror}.")
        return True
    if not name:
        say("No Dask cluster is known.")
        return True
    import asyncio  # only now: while we wait we need next to no memory

    began, pause = time.monotonic(), 0.5
    deadline = began + within_s
    while True:
        try:
            was = asyncio.run(asyncio.wait_for(stop(name), max(5.0, deadline - time.monotonic())))
        except Exception as exc:  # noqa: BLE001 - tried again, then told
            if getattr(exc, "status", None) == FORBIDDEN and time.monotonic() > began + min(FORBIDDEN_S, within_s / 2):
                say(
                    f"The Dask Gateway doesn't let us stop the Dask cluster {name}, and it may still run: "
                    "403 Forbidden. It may belong to another of its users; access must be the same in all containers.",
                    last=True,
                )
                return False
            problem = f"{type(exc).__name__}: {exc}"
        else:
            say("The Dask cluster {} {}.".format(name, "is stopped" if was else "was gone already"))
            return True
        if time.monotonic() + pause > deadline:
            say(f"The Dask cluster {name} couldn't be stopped and may still run. {problem}", last=True)
            return False
        time.sleep(pause)
        pause = min(8.0, pause * 2)


async def stop(name: str) -> bool:
    """Stop a cluster; tell whether it was live."""
    from dask_gateway import Gateway

    async with Gateway(os.environ.get("DASK_GATEWAY_URL") or None, asynchronous=True) as gateway:
        try:
            report = await gateway.get_cluster(name)
        except ValueError as exc:
            if "not found" in str(exc):
                return False
            raise
        if report.status.name in ("STOPPED", "FAILED"):
            return False
        await gateway.stop_cluster(name)
        return True


def say(text: str, last: bool = False) -> None:
    """Say something to the container's log and, if it is why we end as we do, to the pod's status."""
    sys.stderr.write(text + "\n")
    sys.stderr.flush()
    if last:
        with suppress(OSError), TERMINATION_LOG.open("a") as file:  # Kubernetes makes it
            file.write(text + "\n")


if __name__ == "__main__":
    sys.exit(main())
