"""The command line: thin commands over the applications, and one way to end."""

from __future__ import annotations

import contextlib
import errno
import signal
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn

import click

from eoap_dask.__about__ import __version__
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cli.application import application_command, note_early_signals
from eoap_dask.cli.btc import btc
from eoap_dask.cli.cluster import cluster
from eoap_dask.cli.cwl import cwl, run_cwl
from eoap_dask.cli.demo import demo
from eoap_dask.cli.gateway import gateway
from eoap_dask.cli.heartbeat import Heartbeat, failure_of_init, shared_directory
from eoap_dask.cli.memory_guard import MemoryGuard, control_group, is_wanted
from eoap_dask.cli.status import status
from eoap_dask.cli.streams import fault_of_stdout, lasting_streams
from eoap_dask.cli.variables import commands_of, unread_variables
from eoap_dask.cli.verbs import commands as run_commands
from eoap_dask.errors import EoapError, OutputError
from eoap_dask.text import named_by_flags, show_bytes

PATIENCE_S = 15.0
"""A second Ctrl-C within this time is ignored, since cleaning up takes a moment; later, the first one got lost."""


SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""What stops a command in order: Ctrl-C, a process manager, a terminal or connection that goes away."""


FEW_BYTES = 4 << 20
"""A disk with less room counts as full: a write that failed there may have been for more."""


class Stopped(BaseException):
    """A signal of `SIGNALS` came: unwind."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
def cli() -> None:
    """Earth observation on Dask: STAC in, Cloud-Optimized GeoTIFF and STAC out."""


for _entry in APPLICATIONS.values():
    cli.add_command(application_command(_entry))
cli.add_command(status)
for _command in run_commands():
    cli.add_command(_command)
cli.add_command(cluster)
cli.add_command(gateway)
cli.add_command(cwl)
cli.add_command(run_cwl)
cli.add_command(demo)
cli.add_command(btc)
for _command in commands_of(cli):
    if _command is not run_cwl:  # which tells cwltool's as well
        click.version_option(__version__, prog_name="eoap-dask")(_command)


def main() -> NoReturn:
    """Run ``eoap-dask``."""
    _run(cli, "eoap-dask")


def run_application(name: str) -> NoReturn:
    """Run the command of an application by itself, as its console script does."""
    _run(cli.commands[name], name)


def __getattr__(name: str) -> Callable[[], NoReturn]:
    """Return the function that a console script of pyproject.toml names: for each application, as its command."""
    for entry in APPLICATIONS.values():
        if entry.script == name:
            return partial(run_application, entry.name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def _run(command: click.Command, name: str) -> NoReturn:
    """Run a command and leave with the documented exit code; a traceback is only shown with -v."""
    note_early_signals()
    shared = shared_directory()
    with lasting_streams(), Heartbeat(shared) if shared else contextlib.nullcontext() as heartbeat:
        unread = partial(unread_variables, cli)  # for `verbosity_options`, which knows whether it may be said
        code = _guarded(lambda: _act(command, name, unread, shared), in_pod=shared is not None)
        if heartbeat is not None:
            heartbeat.end(code)
    sys.exit(code)


def _act(command: click.Command, name: str, unread: Callable[[], list[str]], shared: Path | None) -> Any:
    if shared is not None and (failure := failure_of_init(shared)) is not None:
        raise failure
    return command.main(prog_name=name, standalone_mode=False, obj=unread)


def _guarded(action: Callable[[], Any], *, in_pod: bool = False) -> int:
    stop, guard = _Stop(), MemoryGuard(None)
    try:
        with stop, named_by_flags():
            guard = MemoryGuard(control_group() if is_wanted(in_pod) else None)
            with guard:
                code = int(action() or 0)
                if fault := fault_of_stdout():
                    raise fault
                return code
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except Stopped as exc:
        if guard.used:
            return _fail(guard.fault())
        start = "\n" if sys.stderr.isatty() else ""  # where the terminal has written ^C
        by = "" if stop.number == signal.SIGINT else f" by {signal.Signals(stop.number).name}"
        with contextlib.suppress(OSError):  # the terminal may be what has gone
            click.echo(" ".join([f"{start}Stopped{by}.", *getattr(exc.__cause__, "__notes__", ())]), err=True)
        return 128 + stop.number
    except click.Abort:
        click.echo("Stopped.", err=True)
        return 130
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except EoapError as exc:
        return _fail(exc)
    except MemoryError:
        return _fail(guard.fault())
    except BrokenPipeError:
        sys.stderr.close()  # who read our output has gone: nothing to say, and nobody to say it to
        return 1
    except Exception as exc:  # noqa: BLE001 - the last line of defence
        full = _full_disk(exc) if isinstance(exc, OSError) else None
        if full is not None:
            return _fail(full)
        _explain(
            f"This is a bug in eoap-dask: {type(exc).__name__}: {exc}. "
            "Please report it, with the output of the same command and -v."
        )
        return 1


def _full_disk(error: OSError) -> EoapError | None:
    """Return the fault of a stdout, or of a directory for temporary files, that is full; None for other errors."""
    import shutil
    import tempfile

    if fault := fault_of_stdout():
        return fault
    place = tempfile.gettempdir()
    free = shutil.disk_usage(place).free
    # libraries that write a part of their data tell no number
    if error.errno not in (errno.ENOSPC, errno.EDQUOT, None) or free > FEW_BYTES:
        return None
    return OutputError(
        f"{place}, where temporary files go, is full: {show_bytes(free)} are free.",
        "Expected room for what a command writes meanwhile.",
        "Make room, or set TMPDIR to another directory.",
    )


def _fail(fault: EoapError) -> int:
    _explain(f"Error: {fault}")
    return fault.exit_code


def _explain(message: str) -> None:
    from eoap_dask.logs import is_verbose
    from eoap_dask.redact import redact

    if is_verbose():
        click.echo(redact(traceback.format_exc()), err=True)
    click.echo(redact(message), err=True)


class _Stop:
    """Lets the signals that stop us raise `Stopped` in its context, whatever else becomes of that on its way out."""

    def __init__(self) -> None:
        self.number = 0
        """Number of the signal that came."""
        self._when = 0.0
        self._is_over = False

    def __enter__(self) -> None:
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup, or the & of a script, asked
                signal.signal(number, self._take)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        self._is_over = True  # and the handlers stay: there is nothing left to be stopped
        if self.number and error is not None:
            raise Stopped from error  # an import, say, makes an ImportError of what interrupts it

    def _take(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 - the signature of a handler
        now = time.monotonic()
        if self._is_over or (self.number and now - self._when < PATIENCE_S):
            return
        self.number, self._when = number, now
        raise Stopped
