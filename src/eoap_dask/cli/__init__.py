"""The command line: thin commands over the applications, and one way to end."""

from __future__ import annotations

import signal
import sys
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Any, NoReturn

import click

from eoap_dask.__about__ import __version__
from eoap_dask.cli.demo import demo
from eoap_dask.cli.mosaic import command as mosaic_command
from eoap_dask.errors import EoapError


class Terminated(BaseException):
    """SIGTERM came: unwind, as for Ctrl-C."""


@click.group(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="eoap-dask")
def cli() -> None:
    """Earth observation on Dask: STAC in, Cloud-Optimized GeoTIFF and STAC out."""


cli.add_command(mosaic_command)
cli.add_command(demo)


def main() -> NoReturn:
    """Run ``eoap-dask``."""
    _run(cli, "eoap-dask")


def cloudless_mosaic() -> NoReturn:
    """Run ``cloudless-mosaic``."""
    _run(mosaic_command, "cloudless-mosaic")


def _run(command: click.Command, name: str) -> NoReturn:
    """Run a command and leave with the documented exit code; a traceback is only shown with -v."""
    signal.signal(signal.SIGTERM, _terminate)
    sys.exit(_guarded(lambda: command.main(prog_name=name, standalone_mode=False)))


def _guarded(action: Callable[[], Any]) -> int:
    try:
        return int(action() or 0)
    except click.exceptions.Exit as exc:
        return exc.exit_code
    except (click.Abort, KeyboardInterrupt):
        click.echo("Stopped.", err=True)
        return 130
    except Terminated:
        click.echo("Stopped by SIGTERM.", err=True)
        return 143
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except EoapError as exc:
        _explain(f"Error: {exc}")
        return exc.exit_code
    except BrokenPipeError:
        sys.stderr.close()  # who read our output has gone: nothing to say, and nobody to say it to
        return 1
    except Exception as exc:  # noqa: BLE001 - the last line of defence
        _explain(
            f"This is a bug in eoap-dask: {type(exc).__name__}: {exc}. "
            "Please report it, with the output of the same command and -v."
        )
        return 1


def _explain(message: str) -> None:
    from eoap_dask.trust import redact

    if any(a in {"--verbose"} or (a.startswith("-v") and not a.startswith("--")) for a in sys.argv[1:]):
        click.echo(redact(traceback.format_exc()), err=True)
    click.echo(redact(message), err=True)


def _terminate(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the signature of a handler
    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # once is enough; cleaning up takes a moment
    raise Terminated
