"""cwltool's tools and jobs, with a Dask cluster where they ask for one, and with their exit codes noted.

It needs cwltool to be imported.
"""

from __future__ import annotations

import os
import shutil
import sys
import sysconfig
import threading
from collections.abc import Generator, Mapping, MutableMapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from cwltool.command_line_tool import CallbackJob, CommandLineTool
from cwltool.context import LoadingContext, RuntimeContext
from cwltool.docker import DockerCommandLineJob
from cwltool.errors import UnsupportedRequirement, WorkflowException
from cwltool.job import CommandLineJob, JobBase
from cwltool.process import Process, shortname
from cwltool.secrets import SecretStore
from cwltool.workflow import default_make_tool
from loguru import logger
from ruamel.yaml.comments import CommentedMap

from eoap_dask.applications.entry import Entry
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cluster.guard import Guard
from eoap_dask.cluster.name_file import NAME_FILE
from eoap_dask.cwl.clusters import SHARED, Clusters, StepCluster
from eoap_dask.cwl.describe import check_request, is_tool_of
from eoap_dask.cwl.generate import NAME
from eoap_dask.cwl.requirement import CLASS, FIELDS, ClusterSize, remarks, understood
from eoap_dask.errors import ClusterError, EoapError, StepFailedError, UsageError


@dataclass(frozen=True)
class Failure:
    """A step that failed."""

    step: str
    exit_code: int
    """Exit code of its tool (128 and the number of a signal), or of the fault which kept it from running."""
    returned: int | None
    """What its tool returned, if it ran."""
    error: EoapError | None = None
    """Why it didn't run at all."""
    logs: Path | None = None
    """Logs of its cluster."""
    command: str = ""


@dataclass
class Session:
    """What the tools of a run share."""

    clusters: Clusters
    guard: Guard
    wants_container: bool
    """Whether a container engine was chosen: an image that is only a hint is ignored otherwise."""
    stopping: threading.Event = field(default_factory=threading.Event)
    failures: list[Failure] = field(default_factory=list)
    has_begun: bool = False
    """Whether any tool was started: what cwltool says from then on isn't about the request."""

    def make_tool(self, toolpath_object: CommentedMap, loadingContext: LoadingContext) -> Process:  # noqa: N803
        """Return a process, as cwltool's ``construct_tool_object``."""
        if isinstance(toolpath_object, MutableMapping) and toolpath_object.get("class") == "CommandLineTool":
            return DaskTool(toolpath_object, loadingContext, self)
        return default_make_tool(toolpath_object, loadingContext)


class DaskTool(CommandLineTool):
    """A command-line tool that may ask for a Dask cluster."""

    def __init__(self, spec: Any, context: LoadingContext, session: Session) -> None:
        super().__init__(spec, context)
        self._session = session

    def job(
        self,
        job_order: Any,
        output_callbacks: Any,
        runtimeContext: RuntimeContext,  # noqa: N803 - as cwltool has it
    ) -> Generator[JobBase | CallbackJob, None, None]:
        """Yield the job, outside of a container where the image is only a hint and no engine was chosen."""
        docker, is_required = self.get_requirement("DockerRequirement")
        if docker and not is_required and not self._session.wants_container:
            runtimeContext = runtimeContext.copy()  # noqa: N806
            runtimeContext.use_container = False
        yield from super().job(job_order, output_callbacks, runtimeContext)

    def make_job_runner(self, runtimeContext: RuntimeContext) -> type[JobBase]:  # noqa: N803
        """Return cwltool's class for the job, with our `StepJob` mixed in."""
        base = super().make_job_runner(runtimeContext)
        asked, _ = self.get_requirement(CLASS)
        docker, _ = self.get_requirement("DockerRequirement")
        command = self.tool.get("baseCommand")
        name = str(command[0] if isinstance(command, list) and command else command or "")
        application = APPLICATIONS.get(name)
        about = {
            "session": self._session,
            "asked": asked,
            "image": str((docker or {}).get("dockerPull") or ""),
            "outputs": tuple(shortname(one["id"]) for one in self.tool["outputs"]),
            "command": name,
            "application": application if application and is_tool_of(application, self.tool, (NAME,)) else None,
        }
        return type(f"Step{base.__name__}", (StepJob, base), about)


class StepJob:
    """Mixed into whatever class cwltool chose for a job: local, Docker, Podman, Singularity."""

    session: ClassVar[Session]
    asked: ClassVar[Mapping[str, Any] | None]
    image: ClassVar[str]
    command: ClassVar[str]
    application: ClassVar[Entry | None]
    """Where the tool is as ours."""
    outputs: ClassVar[tuple[str, ...]]

    builder: Any
    collect_outputs: Any
    output_callback: Any
    environment: MutableMapping[str, str]
    name: str
    successCodes: Any  # noqa: N815
    tmpdir: str
    stagedir: str | None

    _returned: int | None = None
    _status: str = ""
    _cluster: StepCluster | None = None

    def run(self, runtimeContext: RuntimeContext, tmpdir_lock: Any = None) -> None:  # noqa: N803
        """Run the tool, on a cluster if it asks for one, and note how it ended."""
        self._watch()
        logs, error = None, None
        try:
            self._check_not_stopping()
            self._find_our_commands()
            self.environment.update(self.session.guard.mark)
            if self.asked is None:
                self.session.has_begun = True
                super().run(runtimeContext, tmpdir_lock)  # type: ignore[misc]
            else:
                self._check_request()
                with self.session.clusters.started(self._size(self.asked), self.image, self.name) as cluster:
                    self._check_not_stopping()
                    self._cluster = cluster
                    self._tell(cluster, runtimeContext)
                    self.session.has_begun = True
                    super().run(runtimeContext, tmpdir_lock)  # type: ignore[misc]
                    logs = self.session.clusters.keep_logs(cluster, failed=self._status != "success")
        except EoapError as exc:
            error = exc
            self._give_up(runtimeContext, "temporaryFail" if isinstance(exc, ClusterError) else "permanentFail")
        except WorkflowException as exc:  # no engine, or no image: cwltool ends the workflow
            if not isinstance(exc, UnsupportedRequirement):
                error = StepFailedError(f"Step {self.name} couldn't begin: {' '.join(str(exc).split()).rstrip('.')}.")
                self.session.failures.append(self._failure(error, None))
            raise
        if self._status != "success":
            self.session.failures.append(self._failure(error, logs))

    def create_runtime(self, env: MutableMapping[str, str], runtime_context: RuntimeContext) -> tuple[list[str], Any]:
        """Return the command of a container engine, which passes secrets on by the names of variables alone."""
        runtime, cidfile = super().create_runtime(env, runtime_context)  # type: ignore[misc]
        env.update(self.session.guard.mark)
        if cidfile:
            self.session.guard.add_container(runtime[0], Path(cidfile))
        if self._cluster is not None and isinstance(self, DockerCommandLineJob):
            for name, value in self._cluster.access.items():
                env[name] = value
                runtime.append(f"--env={name}")
            self.append_volume(runtime, str(self._cluster.shared), SHARED, writable=True)
        return runtime, cidfile

    def _watch(self) -> None:
        """Note the job's exit code and status when cwltool collects its outputs."""
        collect, call_back = self.collect_outputs, self.output_callback

        def collected(outdir: str, code: int) -> Any:
            self._returned = code
            succeeded = code in (self.successCodes or [0])
            if succeeded and self.session.stopping.is_set():  # perhaps with half of its outputs
                raise WorkflowException("It was stopped.")
            try:
                return collect(outdir, code)
            except Exception as exc:
                if succeeded:
                    raise
                logger.debug("The failed tool's outputs can't be collected: {}", exc)  # that it failed is what matters
                return self._no_outputs()

        def called_back(outputs: Any, status: str) -> None:
            self._status = status
            if call_back is not None:
                call_back(outputs or self._no_outputs(), status)

        self.collect_outputs, self.output_callback = collected, called_back

    def _no_outputs(self) -> dict[str, None]:
        return dict.fromkeys(self.outputs)

    def _check_not_stopping(self) -> None:
        if self.session.stopping.is_set():
            raise ClusterError(f"{self.name} was stopped before it began.")

    def _check_request(self) -> None:
        """Let an application of this installation refuse its inputs before a cluster is started for it."""
        if self.application is not None and isinstance(self, CommandLineJob):
            check_request(self.application, {k: v for k, v in self.builder.job.items() if k != NAME})

    def _find_our_commands(self) -> None:
        """Let a tool without a container find the commands of this installation first: its workers run it as well."""
        if isinstance(self, CommandLineJob):
            own = [sysconfig.get_path("scripts"), str(Path(sys.executable).parent)]
            self.environment["PATH"] = os.pathsep.join(dict.fromkeys([*own, self.environment.get("PATH", "")]))

    def _size(self, asked: Mapping[str, Any]) -> ClusterSize:
        """Return the size that is asked for, with expressions evaluated."""
        fields = {name: self.builder.do_eval(asked[name]) for name in FIELDS if name in asked}
        fields |= {name: value for name, value in asked.items() if name not in FIELDS and name != "class"}
        wrong = [one for one in remarks(fields) if one.is_fatal]
        if wrong:
            raise UsageError(f"{self.name} {wrong[0].text}.")
        return understood(fields)

    def _tell(self, cluster: StepCluster, context: RuntimeContext) -> None:
        """Give the tool the variables that calrissian gives it, and the file that calrissian mounts."""
        self.environment.update(cluster.environment)
        if isinstance(self, DockerCommandLineJob):
            self.environment["DASK_CLUSTER_NAME_PATH"] = f"{SHARED}/{NAME_FILE}"
            return
        # cwltool logs what it runs: it knows placeholders for that
        store = context.secret_store
        if isinstance(store, SecretStore):
            self.environment.update({name: str(store.add(value)) for name, value in cluster.access.items()})
        else:
            self.environment.update(cluster.access)

    def _give_up(self, context: RuntimeContext, status: str) -> None:
        """End a job that didn't begin, as cwltool ends one that failed."""
        with context.workflow_eval_lock or threading.Lock():
            self.output_callback(self._no_outputs(), status)
        if context.rm_tmpdir:
            for folder in filter(None, (self.stagedir, self.tmpdir)):
                shutil.rmtree(folder, ignore_errors=True)

    def _failure(self, error: EoapError | None, logs: Path | None) -> Failure:
        returned = self._returned
        code = (128 - returned if returned < 0 else returned) if returned is not None else 1
        return Failure(self.name, error.exit_code if error else code or 1, returned, error, logs, self.command)
