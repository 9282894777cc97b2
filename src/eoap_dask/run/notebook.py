"""Progress in a notebook: a bar that renews itself in its cell, or a line of text where there is no notebook."""

from __future__ import annotations

import html
import sys
import time
from typing import Any

from eoap_dask.run.events import Event, Listener, ignore

EVERY_S = 0.2
"""Seconds between two pictures of the bar."""


def default_listener() -> Listener:
    """Return a widget in a notebook, and nothing elsewhere: a library is silent."""
    return NotebookProgress() if in_notebook() else ignore


def in_notebook() -> bool:
    """Tell whether this runs in the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython is not None else None
    return shell is not None and hasattr(shell, "kernel")


class NotebookProgress:
    """Shows how far a run is: a listener for ``cloudless_mosaic(listener=…)``.

    In a notebook it is one HTML output that renews itself; elsewhere a line of text for each unit.
    """

    def __init__(self) -> None:
        self._handle: Any = None
        self._shown = 0.0
        self._units: dict[str, str] = {}

    def __call__(self, event: Event) -> None:
        """Take an event."""
        if event.kind.startswith("unit-"):
            self._units[event.unit] = event.kind.removeprefix("unit-")
        if in_notebook():
            if event.kind != "block-done" or time.monotonic() - self._shown >= EVERY_S:
                self._show(self.to_html(event))
        elif event.kind != "block-done":
            unit = f" {event.unit}" if event.unit else ""
            message = f": {event.message}" if event.message else ""
            print(f"{event.kind}{unit}{message}", flush=True)  # noqa: T201 - what a widget is without a notebook

    def to_html(self, event: Event) -> str:
        """Return the state after an event as HTML."""
        share = event.blocks_done / event.blocks_total if event.blocks_total else float(event.kind == "end")
        units = ", ".join(f"{html.escape(unit)} {state}" for unit, state in self._units.items())
        return (
            f"<div><progress value='{share:.4f}' max='1' style='width:60%'></progress> "
            f"{event.blocks_done} of {event.blocks_total} blocks"
            f"<br><small>{units or html.escape(event.message)}</small></div>"
        )

    def _show(self, text: str) -> None:
        from IPython.display import HTML, display

        self._shown = time.monotonic()
        if self._handle is None:
            self._handle = display(HTML(text), display_id=True)
        else:
            self._handle.update(HTML(text))
