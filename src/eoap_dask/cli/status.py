"""``eoap-dask status``."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click
from loguru import logger

from eoap_dask.cli.options import verbosity_options
from eoap_dask.errors import NoRunError
from eoap_dask.params import ENV_PREFIX
from eoap_dask.text import shorten

if TYPE_CHECKING:
    from eoap_dask.run.status import Status


@click.command(
    epilog="""\b
Examples:
  # How far the run is that writes monthly-mosaic
  eoap-dask status monthly-mosaic
\b
  # Look again every five seconds until it is over
  eoap-dask status monthly-mosaic --watch --every 5
"""
)
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--watch",
    is_flag=True,
    envvar=f"{ENV_PREFIX}WATCH",
    help="Look again and again until the run is over; one that hasn't begun is waited for.",
)
@click.option(
    "--every",
    type=click.FloatRange(0.1, 3600),
    default=2.0,
    show_default=True,
    metavar="SECONDS",
    envvar=f"{ENV_PREFIX}EVERY",
    help="How often, with --watch.",
)
@click.option("--json", "as_json", is_flag=True, envvar=f"{ENV_PREFIX}JSON", help="Print JSON, one line each time.")
@verbosity_options
def status(output: Path, watch: bool, every: float, as_json: bool, verbose: int, quiet: bool) -> None:
    """Say how far a run is, or how it ended: units, blocks, rate, time left, failures, cluster.

    OUT is the --output-dir of the run, on this machine or another: only files are read. The exit code tells
    whether the question could be answered, not how the run went.
    """
    from eoap_dask.logs import set_up_logging
    from eoap_dask.run.status import read_status

    set_up_logging(-1 if quiet else verbose)
    is_waiting = False
    screen = _Screen(is_json=as_json)
    seen: Status | None = None
    while True:
        try:
            found = read_status(output)
        except NoRunError:
            if not watch:
                raise
            if seen is not None:
                found = replace(seen, state="stopped", message="it had finished nothing, and left nothing")
                screen.show(found)
                return
            if not is_waiting:
                logger.info("No run has written to {} yet: waiting for one. Ctrl-C stops.", output)
                is_waiting = True
            time.sleep(every)
            continue
        screen.show(found)
        seen = found
        if not watch or found.state != "running":
            return
        time.sleep(every)


class _Screen:
    """Prints a status again and again: on a terminal in place, elsewhere one after the other."""

    def __init__(self, *, is_json: bool) -> None:
        self._is_json = is_json
        self._in_place = not is_json and sys.stdout.isatty()
        self._lines = 0

    def show(self, status: Status) -> None:
        """Print a status, over the one before."""
        text = json.dumps(status.to_dict()) if self._is_json else str(status)
        if self._in_place:
            # a line that the terminal would break would make the way back up too short
            width = shutil.get_terminal_size().columns
            text = "\n".join(shorten(line, width - 1) for line in text.splitlines())
            if self._lines:
                text = f"\x1b[{self._lines}A\x1b[J{text}"
            self._lines = len(text.splitlines())
        click.echo(text)
