"""cwltool, with a Dask cluster for each step that asks for one.

``run_cwl`` checks the files, starts a Gateway meanwhile, lets cwltool work, cleans up, and ends with the code of the
first failing tool.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urldefrag, urlsplit

from loguru import logger

from eoap_dask.__about__ import __version__
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cwl.document import Document, entries, id_of, inputs_of, load, parse_yaml, short, understood
from eoap_dask.cwl.jobs import check_file, check_inputs, check_job, check_names, names_of_results
from eoap_dask.cwl.remote import fetch, is_elsewhere
from eoap_dask.cwl.requirement import CWL_NAME, remarks
from eoap_dask.cwl.validate import check_cwltool, find_node, register_extension
from eoap_dask.errors import EXIT_CODES, EoapError, StepFailedError, UsageError

if TYPE_CHECKING:
    from eoap_dask.cwl.tools import Failure, Session

PROGRAM = "eoap-dask run-cwl"
PATIENCE_S = 15.0
"""How long a tool may take to end in order after SIGTERM."""
_OWN_NETWORK = ("docker", "podman")
"""Engines whose containers don't share this machine's network unless told so."""
_UNSUPPORTED = 33
"""What runners of CWL exit with when they lack what a workflow requires."""


@dataclass(frozen=True)
class RunCwlOptions:
    """How a workflow is run, beside cwltool's own options."""

    gateway: str | None = None
    """Address of the Gateway; by default a private one."""
    timeout_s: float = 300.0
    """How long to wait for a scheduler."""
    logs: Path | None = None
    """Where the logs of all clusters are kept."""
    docker: bool = False
    """Run tools in their images, with Docker."""


def run_cwl(arguments: Sequence[str], options: RunCwlOptions | None = None, *, is_last: bool = False) -> None:
    """Run a workflow or a tool with cwltool's arguments; cwltool writes outputs, and their description to stdout.

    With `is_last`, this process has nothing else to do, and signals stay without effect once cwltool has ended.
    """
    options = options or RunCwlOptions()
    check_cwltool()
    args = _parse(arguments)
    needs_cluster = _look(args)
    from eoap_dask.cluster.guard import Guard
    from eoap_dask.cwl.clusters import Clusters

    kept = args.preserve_environment or []
    engine = _engine(args, options.docker)
    with (
        contextlib.ExitStack() as at_the_end,
        _scratch(args) as (scratch, *others),
        Guard(scratch, others) as guard,
        Clusters(
            options.gateway,
            environment={name: os.environ[name] for name in kept if name in os.environ},
            timeout_s=options.timeout_s,
            logs=options.logs,
            failure_logs=Path(args.outdir or ".", "dask-logs"),
            scratch=scratch,
            guard=guard,
        ) as clusters,
    ):
        if needs_cluster:
            clusters.begin()
        from eoap_dask.cwl.tools import Session

        session = Session(clusters, guard, wants_container=bool(engine))
        if engine in _OWN_NETWORK and needs_cluster and clusters.is_on_loopback and not args.custom_net:
            logger.info("The Gateway is on this machine: containers share its network (--custom-net host)")
            args.custom_net = "host"
        code = _stoppable(lambda: _cwltool(args, session), session, contextlib.ExitStack() if is_last else at_the_end)
    _conclude(code, session)


def _parse(arguments: Sequence[str]) -> Namespace:
    """Return cwltool's arguments, whose options may also follow the files."""
    from cwltool.argparser import arg_parser

    parser = arg_parser()
    parser.prog = PROGRAM
    parser.allow_abbrev = False  # an input that is given as an option may begin like one of cwltool's
    given = [*os.environ.get("CWLTOOL_OPTIONS", "").split(), *arguments]
    args: Namespace = parser.parse_args(given)
    rest = _joined(args.job_order)  # all that follows the CWL file
    args.job_order = rest
    job = rest[:1] if rest and not rest[0].startswith("-") else []
    before = given[: len(given) - len(rest) - 1]
    options, unknown = parser.parse_known_args([*before, *rest[len(job) :]])
    extra = [*unknown, *([options.workflow] if options.workflow else [])]
    if job and extra:
        raise UsageError(
            f"cwltool has no option {extra[0]}.",
            "Expected its options, or nothing, after the job file.",
            "Inputs go into the job file.",
        )
    if rest and not extra:
        workflow, args = args.workflow, options
        args.workflow, args.job_order = workflow, job
    args.enable_color = args.enable_color and sys.stderr.isatty()
    if args.record_container_id:
        args.cidfile_dir = args.cidfile_dir or str(Path.cwd())
    del args.record_container_id
    if args.version or args.print_supported_versions:
        return args
    if not args.workflow:
        raise UsageError("No workflow was given.", "Expected a CWL file and a job file.", f"Try {PROGRAM} --help.")
    return args


def _joined(words: Sequence[str]) -> list[str]:
    """Return words in which a value that begins with a minus is joined to its option: a western longitude is none."""
    found: list[str] = []
    for word in words:
        is_value = found and re.fullmatch(r"--[\w-]+", found[-1]) and re.match(r"-[\d.]", word)
        if is_value:
            found[-1] += f"={word}"
        else:
            found.append(word)
    return found


def _look(args: Namespace) -> bool:
    """Refuse files that can't be used, choose the process, and tell whether it needs a cluster."""
    if not args.workflow or args.version or args.print_supported_versions:
        return False
    place, name = urldefrag(args.workflow)
    is_remote = is_elsewhere(place)
    if is_remote:
        path = Path(_name_of(place))
        document = understood(parse_yaml(fetch(place, "CWL file", cached=args.doc_cache), path, "CWL file"), path)
    else:
        path = Path(urlsplit(place).path if place.startswith("file:") else place)
        document, place = load(path), path.resolve().as_uri()
    process = document.process(name)
    find_node(document)
    if "$graph" in document.data:
        args.workflow = f"{place}#{id_of(process)}"
    needs_cluster = _look_at_requirements(document)
    if is_remote and (others := document.others()):
        logger.warning("{} isn't checked before cwltool reads it.", " and ".join(others))
        needs_cluster = True  # perhaps: a Gateway that isn't needed does no harm
    _look_at_job(args, process, id_of(process) or path.name, document.processes)
    return needs_cluster and not _only_prints(args)


def _name_of(url: str) -> str:
    return urlsplit(url).path.rsplit("/", 1)[-1] or url


def _look_at_job(
    args: Namespace, process: Mapping[str, Any], name: str, processes: Sequence[Mapping[str, Any]]
) -> None:
    """Refuse unknown inputs, of a job file or given as options."""
    job: Sequence[str] = args.job_order
    if len(job) == 1 and is_elsewhere(job[0]):
        path = Path(_name_of(job[0]))
        text = fetch(job[0], "job file", cached=args.doc_cache)
        check_inputs(parse_yaml(text, path, "job file"), path, process, name, processes)
    elif len(job) == 1 and job[0].startswith("file://"):
        check_job(Path(unquote(urlsplit(job[0]).path)), process, name, processes)
    elif len(job) == 1 and "://" not in job[0] and not job[0].startswith("-"):
        check_job(Path(job[0]), process, name, processes)
    known = inputs_of(process)
    given = [word.removeprefix("--").partition("=")[0] for word in job if word.startswith("--")]
    unknown = [one for one in given if one not in known and one != "help"]
    if unknown and _is_of_cwltool(f"--{unknown[0]}"):
        raise UsageError(
            f"--{unknown[0]} is an option of cwltool, and comes after inputs.",
            "Where inputs are given as options, cwltool's come before the CWL file.",
            f"Try {PROGRAM} --{unknown[0]} … FILE.",
        )
    if unknown:
        raise UsageError(
            f"--{unknown[0]} is neither an option of cwltool nor an input of {name}.",
            f"Expected {', '.join(known) or 'no inputs'}.",
            "Where inputs are given as options, those of cwltool come before the CWL file.",
        )
    for key, about in entries(process.get("inputs"), "id", "type"):
        if str(about.get("type")).removesuffix("?") == "File":
            for one in _given(job, short(key)):
                check_file(short(key), {"location" if "://" in one else "path": one}, Path(), PROGRAM)
    for key in names_of_results(process, processes):
        check_names(key, _given(job, key), PROGRAM)


def _given(words: Sequence[str], key: str) -> list[str]:
    """Return the values of an input that are given as options."""
    after = [words[i + 1] for i, word in enumerate(words[:-1]) if word == f"--{key}"]
    return after + [word.partition("=")[2] for word in words if word.startswith(f"--{key}=")]


def _is_of_cwltool(flag: str) -> bool:
    from cwltool.argparser import arg_parser

    return any(flag in action.option_strings for action in arg_parser()._actions)  # noqa: SLF001 - nothing public tells


def _look_at_requirements(document: Document) -> bool:
    uses = document.uses()
    for use in uses:
        found = remarks(use.fields)
        for remark in found:
            if remark.is_fatal:
                more = sum(one.is_fatal for one in found) - 1
                raise UsageError(
                    f"{use.where} {remark.text}{'' if remark.text.endswith('?') else '.'}",
                    "",
                    f"See eoap-dask cwl validate {document.path} for {more} more." if more else "",
                )
            logger.warning("{} {}.", use.where, remark.text)
        if use.is_hint:
            logger.warning(
                "{} has {} in hints, on which calrissian fails: move it to requirements.", use.where, CWL_NAME
            )
    return bool(uses)


def _only_prints(args: Namespace) -> bool:
    """Tell whether cwltool will print something and run nothing."""
    names = (
        *("validate", "pack", "print_deps", "print_dot", "print_input_deps", "print_pre", "print_rdf"),
        *("print_subgraph", "print_targets", "make_template", "tool_help"),
    )
    return any(getattr(args, name, False) for name in names)


def _engine(args: Namespace, docker: bool) -> str:
    """Return the command of the container engine that was chosen, or an empty string."""
    if args.singularity:
        return "singularity"
    if args.user_space_docker_cmd:
        return str(args.user_space_docker_cmd)
    if args.podman:
        return "podman"
    return "docker" if docker or args.default_container else ""


@contextmanager
def _scratch(args: Namespace) -> Iterator[list[Path]]:
    """Yield directories of our own with cwltool's temporary ones in them, so that a killed run leaves none.

    Below a prefix that was given there is one as well, since other runs may have the same prefix.
    """
    from cwltool.utils import DEFAULT_TMP_PREFIX

    is_kept = not args.rm_tmpdir or args.move_outputs == "leave" or args.cachedir
    with contextlib.ExitStack() as stack:

        def make(prefix: str) -> Path:
            made = tempfile.TemporaryDirectory(
                prefix=os.path.basename(prefix),  # noqa: PTH119 - of "x/" it is nothing
                dir=os.path.dirname(prefix),  # noqa: PTH120
                ignore_cleanup_errors=True,
            )
            return Path(stack.enter_context(made))

        def make_as_told(option: str, prefix: str) -> Path:
            try:
                Path(prefix + "x").absolute().parent.mkdir(parents=True, exist_ok=True)  # as cwltool does
                folders.append(make(str(Path(prefix + "x").absolute()).removesuffix("x")))
            except OSError as exc:
                raise UsageError(f"No files can be made below {option} {prefix}: {exc.strerror}.") from exc
            return folders[-1]

        folders = [make(str(Path(tempfile.gettempdir(), "eoap-dask-cwl-")))]
        if not is_kept:
            of_tools = of_outputs = folders[0]
            if args.tmpdir_prefix != DEFAULT_TMP_PREFIX:
                of_tools = of_outputs = make_as_told("--tmpdir-prefix", args.tmpdir_prefix)
            if args.tmp_outdir_prefix:
                of_outputs = make_as_told("--tmp-outdir-prefix", args.tmp_outdir_prefix)
            args.tmpdir_prefix, args.tmp_outdir_prefix = str(of_tools / "tmp"), str(of_outputs / "out")
        yield folders


def _cwltool(args: Namespace, session: Session) -> int:
    from cwltool.context import LoadingContext, RuntimeContext
    from cwltool.main import main
    from cwltool.secrets import SecretStore

    loading = LoadingContext(vars(args))
    loading.construct_tool_object = session.make_tool
    runtime = RuntimeContext(vars(args))
    runtime.secret_store = SecretStore()
    try:
        return int(
            main(
                args=args,
                loadingContext=loading,
                runtimeContext=runtime,
                custom_schema_callback=register_extension,
                versionfunc=lambda: f"eoap-dask, version {__version__}, cwltool {version('cwltool')}",
            )
        )
    except SystemExit as exc:  # from an option, or a job file that can't be parsed
        return exc.code if isinstance(exc.code, int) else 1


def _conclude(code: int, session: Session) -> None:
    """Raise the fault of a run that failed."""
    if session.failures:
        raise _explained(session.failures)
    if code == _UNSUPPORTED:
        raise StepFailedError("The workflow needs what cwltool doesn't have; see above.", exit_code=_UNSUPPORTED)
    if code and session.has_begun:
        raise StepFailedError("cwltool failed after tools had run; see above.", "", "Try --debug, which says more.")
    if code:
        raise UsageError("cwltool refuses the workflow or its job; see above.", "", "Try --debug, which says more.")


def _explained(failures: Sequence[Failure]) -> EoapError:
    first = failures[0]
    if len(failures) > 1:
        logger.warning("{} steps failed: {}.", len(failures), ", ".join(one.step for one in failures))
    if first.error is not None:
        return first.error
    who = f"Step {first.step}: {first.command}"
    if first.returned is None:
        what = f"{who} couldn't be started."
    elif first.returned == 0:
        what = f"{who} didn't give the outputs that were expected of it."
    elif first.returned < 0:
        what = f"{who} was killed by {signal.Signals(-first.returned).name}."
    else:
        meaning = EXIT_CODES.get(first.exit_code, "") if first.command in APPLICATIONS else ""
        what = f"{who} ended with exit code {first.exit_code}{f' ({meaning})' if meaning else ''}."
    said = "What it said is above." if first.returned else ""
    logs = f"The logs of its cluster are in {first.logs}." if first.logs else ""
    return StepFailedError(what, said, logs, exit_code=first.exit_code)


# ----------------------------------------------------------------------------------------------------
# Being stopped


def _stoppable(run: Callable[[], int], session: Session, at_the_end: contextlib.ExitStack) -> int:
    """Run cwltool; on a signal, end the tools in order, let cwltool clean up, and then act on the signal.

    A signal does nothing once everything has succeeded, and while a run that wasn't stopped is cleaned up: `at_the_end`
    undoes that.
    """
    if threading.current_thread() is not threading.main_thread():
        return run()
    came: list[int] = []  # an exception in the middle of cwltool would leave its threads waiting for one another
    before: dict[int, Any] = {}
    finished = threading.Event()
    ender = threading.Thread(target=_end_tools, args=(session, finished), daemon=True, name="eoap-stop")

    def take(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
        if not came and not finished.is_set():
            came.append(number)
            session.stopping.set()
            ender.start()

    def give_back() -> None:
        for one, handler in before.items():
            signal.signal(one, handler)

    one: int
    for one in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(one) is not signal.SIG_IGN:
            before[one] = signal.signal(one, take)
    code: int | None = None
    try:
        code = run()
    finally:
        finished.set()
        if came:
            ender.join(PATIENCE_S)
        if code is None or (came and code):
            give_back()
            if came and before[came[0]] is signal.SIG_DFL:
                raise SystemExit(128 + came[0])
            if came:
                signal.raise_signal(came[0])
        else:
            at_the_end.callback(give_back)
    return code


def _end_tools(session: Session, finished: threading.Event) -> None:
    """Ask every tool to end, kill those that don't, and then the processes that they left."""
    import psutil
    from cwltool.utils import processes_to_kill

    session.clusters.abandon()
    families: dict[int, list[psutil.Process]] = {}
    deadlines: dict[int, float] = {}
    while not finished.wait(0.05):
        for process in list(processes_to_kill):
            if process.poll() is not None:
                for one in families.pop(process.pid, []):
                    with contextlib.suppress(psutil.Error):
                        one.kill()
            elif process.pid not in deadlines:
                with contextlib.suppress(psutil.Error):
                    families[process.pid] = psutil.Process(process.pid).children(recursive=True)
                process.terminate()
                deadlines[process.pid] = time.monotonic() + PATIENCE_S
            elif time.monotonic() > deadlines[process.pid]:
                _kill(process)
    for one in [one for family in families.values() for one in family]:
        with contextlib.suppress(psutil.Error):
            one.kill()


def _kill(process: subprocess.Popen[str]) -> None:
    """Kill a tool, and the container that it may be in."""
    words = [str(one) for one in process.args] if isinstance(process.args, list) else []
    for word in words:
        if word.startswith("--cidfile=") and (engine := shutil.which(words[0])):
            with contextlib.suppress(OSError, subprocess.SubprocessError):
                name = Path(word.removeprefix("--cidfile=")).read_text().strip()
                subprocess.run([engine, "kill", name], capture_output=True, timeout=PATIENCE_S, check=False)
    process.kill()
