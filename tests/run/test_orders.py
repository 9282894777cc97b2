"""Orders to a run: taken once each, told of, and not ended by a disk that is full meanwhile."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from eoap_dask.run.control import Control
from eoap_dask.run.orders import Orders


def wait_for(what: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not what():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def give(scratch: Path, order: object, known: str) -> None:
    draft = scratch / "draft"
    draft.write_text(json.dumps({"order": order, "id": known}))
    draft.replace(scratch / "order.json")


def test_orders_are_taken_and_told(tmp_path: Path) -> None:
    control, told = Control(), list[str]()
    with Orders(tmp_path, control, told.append):
        give(tmp_path, "pause", "1")
        wait_for(lambda: told == ["paused"])
        assert control.is_paused
        wait_for(lambda: json.loads((tmp_path / "order-taken.json").read_text())["id"] == "1")
        give(tmp_path, "dance", "2")
        (tmp_path / "order.json").write_text("[1")
        give(tmp_path, "resume", "3")
        wait_for(lambda: told == ["paused", "resumed"])
        control.pause()  # as a signal does
        wait_for(lambda: told[-1] == "paused" and len(told) == 3)
        give(tmp_path, "stop", "4")
        wait_for(lambda: bool(control.reason))
    with pytest.raises(Exception, match="stopped before its end"):
        control.check()


def test_a_full_disk_does_not_end_them(tmp_path: Path) -> None:
    control, told = Control(), list[str]()

    def changed(kind: str) -> None:
        told.append(kind)
        if len(told) == 1:
            raise OSError(28, "No space left on device")

    with Orders(tmp_path, control, changed):
        give(tmp_path, "pause", "1")
        wait_for(lambda: told == ["paused"])
        give(tmp_path, "resume", "2")
        wait_for(lambda: told == ["paused", "resumed"])
    assert not control.is_paused
