"""A pod of calrissian's on this machine: its containers are processes in namespaces of their own.

Each has its own process 1, a root file system that is read-only, the user that a platform gives it, and calrissian's
mounts: ``/shared``, ``/etc/dask``, ``/controller``, ``/tmp`` and a working directory that is its home. What they run is
word for word what calrissian has them run. The network is the machine's.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from uuid import uuid4

import psutil

from eoap_dask.cluster.gateway.server import LocalGateway
from eoap_dask.cwl.document import load
from eoap_dask.cwl.validate import derived
from tests.support.cwl import WORKFLOWS, write

ROOT = Path(__file__).parents[2]
HARDENED = ROOT / "deploy" / "calrissian"
BUILTIN = ROOT / "tests" / "platform" / "builtin"
UID = 12345
"""Nobody's."""
HOME = "/qwerty"
"""Working directory of a step: six letters, anew each time."""
STAGED = "/var/lib/cwl/stg2f1c1c9e-0f5b-4a5e-9a53-6f6d1d0c9b1e"
"""Where an input is, read-only; another name each time."""
CGROUP = Path("/sys/fs/cgroup/memory")

REQUIREMENT = {
    "workerCores": "1",
    "workerCoresLimit": "1",
    "workerMemory": "1G",
    "clusterMaxCores": "1",
    "clusterMaxMemory": "1G",
}
VARIABLES = {
    "workerCores": "DASK_GATEWAY_WORKER_CORES",
    "workerCoresLimit": "DASK_GATEWAY_WORKER_CORES_LIMIT",
    "workerMemory": "DASK_GATEWAY_WORKER_MEMORY",
    "clusterMaxCores": "DASK_GATEWAY_CLUSTER_MAX_CORES",
    "clusterMaxMemory": "DASK_GATEWAY_CLUSTER_MAX_RAM",
}
SHELL_LINE = (
    'set -e; trap "touch /shared/completed" EXIT;export DASK_CLUSTER=$(cat /shared/dask_cluster_name.txt) ; {command}'
)
"""The argument of ``/bin/sh -c`` in calrissian's main container."""


def why_not() -> str | None:
    """Return why pods can't be made here, if so."""
    if os.geteuid() != 0:
        return "only root can make the namespaces of a pod"
    unshare = shutil.which("unshare")
    if not unshare or not shutil.which("chroot"):
        return "unshare and chroot are not here"
    tried = subprocess.run(
        [unshare, "--mount", "--pid", "--fork", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
        capture_output=True,
        text=True,
        check=False,
    )
    return None if tried.returncode == 0 else f"no namespaces here: {tried.stderr.strip()}"


@dataclass
class Container:
    """A container that was started."""

    process: subprocess.Popen[bytes]
    log: Path
    is_killed: bool = False

    def wait(self, timeout: float = 90) -> int:
        """Wait for its end, and return its exit code as Kubernetes has it."""
        code = self.process.wait(timeout)
        # unshare can't end as its child did when that was killed
        return 137 if self.is_killed or "unshare: sigprocmask unblock failed" in self.said else code

    @property
    def runs(self) -> bool:
        """Whether its process 1 lives."""
        return self.process.poll() is None

    @property
    def said(self) -> str:
        """Everything it wrote so far."""
        return self.log.read_text(errors="replace")

    def processes(self) -> list[psutil.Process]:
        """Return its processes, process 1 first."""
        with contextlib.suppress(psutil.NoSuchProcess):
            return psutil.Process(self.process.pid).children(recursive=True)
        return []

    def tool(self, name: str) -> psutil.Process:
        """Return the process of a Python program."""
        found = [one for one in self.processes() if name in {Path(word).name for word in one.cmdline()[1:2]}]
        assert len(found) == 1, self.said
        return found[0]

    def terminate(self) -> None:
        """Send SIGTERM to process 1, as the kubelet does first."""
        self.processes()[0].terminate()

    def kill(self) -> None:
        """Kill the container with all that is in it, as the kubelet does last, and the kernel out of memory."""
        for process in self.processes()[:1]:
            self.is_killed = True
            process.kill()


@dataclass
class Pod:
    """A step of a workflow with a Dask cluster."""

    folder: Path
    gateway: LocalGateway
    scripts: Path = HARDENED
    """Whose scripts start and dispose of the cluster."""
    requirement: Mapping[str, str] = field(default_factory=dict)
    """Fields of the requirement that are otherwise than in `REQUIREMENT`."""
    env: Mapping[str, str | None] = field(default_factory=dict)
    """From ``--pod-env-vars`` and the image, for containers that start from now on; None takes a variable away."""
    logname: str | None = "eoap"
    memory: int | None = None
    """Limit of the main container, bytes."""
    sidecar_memory: int | None = None
    staged: Path | None = None
    """Directory of an input."""
    containers: list[Container] = field(default_factory=list)

    def __post_init__(self) -> None:
        for name in ("shared", "tmp", "home", "config", "logs"):
            (self.folder / name).mkdir(parents=True)
        for name in ("shared", "tmp"):
            (self.folder / name).chmod(0o1777 if name == "tmp" else 0o777)
        (self.folder / "home").chmod(0o700)
        os.chown(self.folder / "home", UID, UID)
        # the address, and nothing else, is in a file; JSON is YAML
        (self.folder / "config" / "gateway.yaml").write_text(json.dumps({"gateway": {"address": self.gateway.address}}))
        (self.folder / "config" / "gateway.yaml").chmod(0o644)

    @property
    def shared(self) -> Path:
        """What is ``/shared`` inside."""
        return self.folder / "shared"

    @property
    def home(self) -> Path:
        """The working directory of the step: where its outputs are collected."""
        return self.folder / "home"

    @property
    def cluster(self) -> str:
        """Name of its cluster, as init wrote it."""
        return (self.shared / "dask_cluster_name.txt").read_text()

    def init(self) -> Container:
        """Start the init container."""
        return self._start("init", self._script("init-dask.py"), None)

    def main(self, *command: object) -> Container:
        """Start the main container."""
        line = SHELL_LINE.format(command=shlex.join(map(str, command)))
        return self._start("main", ["/bin/sh", "-c", line], self.memory)

    def sidecar(self) -> Container:
        """Start the sidecar."""
        return self._start("sidecar", self._script("dispose-dask.py"), self.sidecar_memory)

    def begin(self, *command: object) -> tuple[Container, Container]:
        """Run the init container, and start the two others as Kubernetes does: when it has succeeded."""
        init = self.init()
        assert init.wait() == 0, init.said
        return self.main(*command), self.sidecar()

    def verdict(self, sidecar_code: int, glob: str = "monthly-mosaic") -> tuple[str, bool]:
        """Return what becomes of the step, and whether an output is delivered.

        calrissian lets cwltool collect what the mosaic's package asks for, with the sidecar's code: so here.
        """
        document = derived(load(WORKFLOWS / "monthly-composite.cwl"), as_hint=False)
        (tool,) = (dict(one) for one in document["$graph"] if one["class"] == "CommandLineTool")
        tool["outputs"]["stac-catalog"]["outputBinding"]["glob"] = glob
        # as a step that left the same files, and ended so
        tool |= {"baseCommand": ["sh", "-c", 'cp -R "$0/." . && exit "$1"'], "inputs": {}, "hints": {}}
        tool["arguments"] = [str(self.home), str(sidecar_code)]
        step = write(self.folder / "step.cwl", {"cwlVersion": document["cwlVersion"], **tool})
        command = [sys.executable, "-m", "cwltool", "--disable-color", "--outdir", self.folder / "outputs", step]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)
        (status,) = re.findall(r"completed (\w+)", done.stderr)
        return status, json.loads(done.stdout or "{}").get("stac-catalog") is not None

    def close(self) -> None:
        """Kill what still runs."""
        for container in self.containers:
            container.kill()
            container.wait()
        for group in CGROUP.glob(f"eoap-test-{os.getpid()}-*"):
            with contextlib.suppress(OSError):
                group.rmdir()

    def _script(self, name: str) -> list[str]:
        if self.scripts == BUILTIN:
            return ["python", "-c", (BUILTIN / name).read_text()]
        return ["python", f"/controller/{name}"]

    def _environment(self) -> dict[str, str]:
        asked = {**REQUIREMENT, **self.requirement}
        own = {
            "PATH": f"{Path(sys.prefix, 'bin')}:/usr/bin:/bin",
            "LANG": "C.UTF-8",
            "HOME": HOME,
            "TMPDIR": "/tmp",  # noqa: S108 - the container's own
            "DASK_GATEWAY_URL": self.gateway.address,
            "DASK_GATEWAY_IMAGE": "ghcr.io/eoap/eoap-dask:test",
            "DASK_CLUSTER_NAME_PATH": "/shared/dask_cluster_name.txt",
            **{variable: asked[name] for name, variable in VARIABLES.items()},
        }
        access = {k: v for k, v in self.gateway.client_environment.items() if k != "DASK_GATEWAY__ADDRESS"}
        logname = {} if self.logname is None else {"LOGNAME": self.logname}
        return {k: v for k, v in {**own, **access, **logname, **self.env}.items() if v is not None}

    def _start(self, name: str, command: Sequence[str], memory: int | None) -> Container:
        root = self.folder / f"root-{name}"
        root.mkdir()
        log = self.folder / "logs" / f"{name}.log"
        variables = [f"{key}={value}" for key, value in self._environment().items()]
        script = "\n".join(["set -e", *self._mounts(root, memory)])
        enter = ["chroot", f"--userspec={UID}:{UID}", "--groups=", str(root)]
        inner = ["env", "-i", f"--chdir={HOME}", *variables, *command]
        with log.open("wb") as file:
            process = subprocess.Popen(
                [
                    *("unshare", "--mount", "--pid", "--fork", "--kill-child=KILL", "--propagation", "private"),
                    *("sh", "-c", f'{script}\nexec "$@"', "sh", *enter, *inner),
                ],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        container = Container(process, log)
        self.containers.append(container)
        return container

    def _mounts(self, root: Path, memory: int | None) -> Iterator[str]:
        def inside(path: str | Path) -> str:
            return shlex.quote(f"{root}{path}")

        def bind(source: Path, target: str | Path, *, read_only: bool = False) -> Iterator[str]:
            yield f"mkdir -p {inside(target)}"
            yield f"mount --bind {shlex.quote(str(source))} {inside(target)}"
            if read_only:
                yield f"mount -o remount,bind,ro {inside(target)}"

        yield "umask 022"
        yield f"mount -t tmpfs -o mode=0755 tmpfs {inside('')}"
        for name in ("bin", "sbin", "lib", "lib64", "usr"):
            path = Path("/", name)
            if path.is_symlink():
                yield f"cp -P {path} {inside('/')}"
            elif path.is_dir():
                yield from bind(path, path, read_only=True)
        yield f"mkdir -p {inside('/etc')} {inside('/proc')} {inside('/dev')}"
        for name in ("passwd", "group", "hosts", "nsswitch.conf", "resolv.conf", "ld.so.cache", "alternatives", "ssl"):
            if Path("/etc", name).exists():
                yield f"cp -a /etc/{name} {inside('/etc/')}"
        yield f"mount -t proc proc {inside('/proc')}"
        yield f"mount --rbind /dev {inside('/dev')}"
        yield from bind(self.folder / "tmp", "/tmp")  # noqa: S108 - before Python, which may lie in the host's
        for path in _python():
            yield from bind(path, path, read_only=True)
        yield from bind(self.folder / "config", "/etc/dask", read_only=True)
        yield from bind(self.scripts, "/controller", read_only=True)
        yield from bind(self.shared, "/shared")
        yield from bind(self.home, HOME)
        if self.staged is not None:
            yield from bind(self.staged, STAGED, read_only=True)
        if memory is not None:
            group = CGROUP / f"eoap-test-{os.getpid()}-{uuid4().hex[:8]}"
            yield f"mkdir {group}"
            yield f"echo {memory} > {group}/memory.limit_in_bytes"
            yield f"echo 0 > {group}/cgroup.procs"
            yield from bind(group, CGROUP)  # as container engines do it
        yield f"mount -o remount,ro {inside('')}"


def left_in_tmp(folder: Path) -> list[Path]:
    """Return what the containers of a pod left in their /tmp, without where our Python was mounted, if it is there."""
    mounted = {path.parts[2] for path in _python() if path.parts[:2] == ("/", "tmp")}
    return [path for path in (folder / "tmp").iterdir() if path.name not in mounted]


def _python() -> list[Path]:
    """Return the directories of this Python and of our source."""
    wanted = {Path(one).resolve() for one in (sys.prefix, sys.base_prefix, ROOT / "src")}
    wanted |= {Path(one).resolve() for one in sys.path if one.endswith("site-packages") and Path(one).is_dir()}
    wanted |= {Path(sys.prefix)}
    return [one for one in sorted(wanted) if not any(other in one.parents for other in wanted)]
