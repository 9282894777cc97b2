"""Progress on stderr: a bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any

import click
from loguru import logger

from eoap_dask.run.events import Event
from eoap_dask.text import plural

EVERY_S = 30.0
FEWEST = 5
"""Blocks that must be done before they say anything of the rest."""


class Progress:
    """Listens to a run and shows how far it is. A context manager."""

    def __init__(self, quiet: bool = False) -> None:
        self._quiet = quiet
        self._bar: Any = None
        self._said = self._started = time.monotonic()

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end_bar()

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.kind == "todo":
            self._end_bar()
            self._started = time.monotonic()
            logger.info("{}", event.message)
        elif event.kind == "unit-checking":
            self._check(event)
        elif event.kind == "unit-started":
            logger.debug("{}: {}", event.unit, event.message)
            self._show_bar("blocks", event.blocks_total)
        elif event.kind == "unit-skipped":
            logger.debug("{} is finished already", event.unit)
        elif event.kind == "block-done":
            if self._bar is not None:
                self._bar.update(1)
            elif time.monotonic() - self._said >= EVERY_S:
                self._say(event)
        elif event.kind == "unit-failed":
            if self._bar is not None:
                click.echo(err=True)  # below the bar, which goes on in a line of its own
            logger.warning("{} failed. {}", event.unit, event.message)  # whether it is an error is said at the end
        else:
            logger.debug("{}", ": ".join(part for part in (event.kind, event.unit, event.message) if part))

    def _check(self, event: Event) -> None:
        """Show how far the checking of an earlier run's units is."""
        self._show_bar("checking", event.blocks_total)
        if self._bar is not None:
            self._bar.update(event.blocks_done - self._bar.pos)
        elif time.monotonic() - self._said >= EVERY_S:
            self._said = time.monotonic()
            done = f"{event.blocks_done} of {plural(event.blocks_total, 'block')}"
            logger.info("Comparing what is finished with its checksums, {} so far", done)

    def _show_bar(self, label: str, length: int) -> None:
        if self._bar is None and sys.stderr.isatty() and not self._quiet:
            self._bar = click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True)
            self._bar.render_progress()

    def _end_bar(self) -> None:
        if self._bar is not None:
            self._bar.render_finish()
            self._bar = None

    def _say(self, event: Event) -> None:
        self._said = time.monotonic()
        done = f"{event.blocks_done} of {plural(event.blocks_total, 'block')} done"
        if event.blocks_done < FEWEST:
            logger.info("{}", done)
            return
        rate = event.blocks_done / max(self._said - self._started, 1e-9)
        logger.info("{}, about {:.0f} s left", done, (event.blocks_total - event.blocks_done) / rate)
