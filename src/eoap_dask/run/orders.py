"""Orders to a run from elsewhere, such as another terminal: pause, resume, stop. They are a file that the run looks at.

Whoever shares the disk of the output can give them. The file lies among the run's temporary ones, and goes with these.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, Self
from uuid import uuid4

from loguru import logger

from eoap_dask.errors import NoRunError, OutputError
from eoap_dask.files import write_json
from eoap_dask.publish.holdings import read_object, resolve, sibling
from eoap_dask.publish.lock import is_held
from eoap_dask.publish.publication import SCRATCH
from eoap_dask.run.control import Control
from eoap_dask.text import option

Order = Literal["pause", "resume", "stop"]
EVERY_S = 0.2
"""How often a run looks for an order."""
PATIENCE_S = 10.0
"""How long a run may take until it looks."""
_ORDER, _TAKEN = "order.json", "order-taken.json"


def give_order(out: Path, order: Order, patience_s: float = PATIENCE_S) -> None:
    """Give an order to the run that makes an output, and wait until it has taken it.

    Raises
    ------
    NoRunError
        when no run is at work there, or it ends meanwhile
    """
    place = resolve(out)
    scratch = sibling(place, ".partial") / SCRATCH
    lock = sibling(place, ".lock")
    if not is_held(lock):
        raise NoRunError(
            f"No run is at work on {out}, or it still searches.",
            f"Expected the {option('output_dir')} of a run that works, on a disk that it shares with this machine.",
            "See what became of it with status, or try again in a moment.",
        )
    known = uuid4().hex
    deadline = time.monotonic() + patience_s
    try:
        write_json(scratch / _ORDER, {"order": order, "id": known})
        while is_held(lock):
            if read_object(scratch / _TAKEN)[0].get("id") == known:
                return
            if time.monotonic() > deadline:
                break
            time.sleep(EVERY_S / 4)
    except FileNotFoundError:  # it is not far enough, or about to publish
        pass
    except OSError as error:
        raise OutputError(
            f"The run on {out} can't be given an order: {error.strerror or error}.",
            "An order is a file among the run's own.",
            "Give it as the user whose run it is.",
        ) from error
    raise NoRunError(
        f"The run on {out} didn't take the order to {order}.",
        "It may just begin, or end.",
        "See how far it is with status, and try again.",
    )


class Orders:
    """Looks for orders to a run, and carries them out by its control. A context manager.

    Parameters
    ----------
    scratch
        Directory of the run's temporary files.
    control
        What is told.
    changed
        Called with ``paused`` or ``resumed``, whoever did that.
    """

    def __init__(
        self, scratch: Path, control: Control, changed: Callable[[Literal["paused", "resumed"]], None]
    ) -> None:
        self._scratch, self._control, self._changed = scratch, control, changed
        self._seen, self._was_paused = "", False
        self._end = threading.Event()
        self._thread = threading.Thread(target=self._watch, name="orders", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._end.wait(EVERY_S):
            try:
                self._look()
            except Exception as exc:  # noqa: BLE001 - a disk that is full meanwhile isn't to end it
                logger.debug("An order can't be looked at: {}", exc)

    def _look(self) -> None:
        try:
            content = (self._scratch / _ORDER).read_text()
        except OSError:
            content = ""
        if content and content != self._seen:
            self._seen = content
            self._take(content)
        if self._control.is_paused != self._was_paused:
            self._was_paused = not self._was_paused
            self._changed("paused" if self._was_paused else "resumed")

    def _take(self, content: str) -> None:
        try:
            document = json.loads(content)
            order, known = document["order"], document["id"]
        except (ValueError, KeyError, TypeError):
            return
        if order == "pause":
            self._control.pause()
        elif order == "resume":
            self._control.resume()
        elif order == "stop":
            self._control.stop()
        else:
            return
        try:
            write_json(self._scratch / _TAKEN, {"id": known})
        except OSError:  # a full disk, perhaps
            return
