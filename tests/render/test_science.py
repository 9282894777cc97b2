"""What a science is set up with: once per process, however many threads ask."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from eoap_dask.errors import ResourceError
from eoap_dask.render.resources import STORE, Resource
from eoap_dask.render.science import Science, Strip
from eoap_dask.render.tools import KEPT, TOOLS

made: Counter[int] = Counter()


@dataclass(frozen=True)
class Slow(Science):
    number: int
    needed: tuple[Resource, ...] = field(default=())

    @property
    def resources(self) -> tuple[Resource, ...]:
        return self.needed

    def set_up(self, files: Mapping[str, Path]) -> tuple[int, list[str]]:
        time.sleep(0.05)
        made[self.number] += 1
        return threading.get_ident(), sorted(files)


def test_a_science_is_set_up_once_for_all_threads(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"model")
    science = Slow(1, (Resource.of("model", tmp_path / "a"),))
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(TOOLS.of, [science] * 20))
    assert len({one[0] for one in found}) == 1
    assert found[0][1] == ["model"]
    assert made == {1: 1}
    STORE.clear()


def test_what_does_not_come_fails_the_task(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("eoap_dask.render.resources.PATIENCE_S", 0.1)
    monkeypatch.setattr(type(STORE), "wait", lambda self, one: _wait(self, one))
    science = Slow(2, (Resource("model", "0" * 64, 1, tmp_path / "nowhere"),))
    with pytest.raises(ResourceError):
        TOOLS.of(science)
    assert 2 not in made


_real_wait = type(STORE).wait


def _wait(store: object, resource: Resource) -> Path:
    return _real_wait(store, resource, 0.1)  # type: ignore[arg-type]


def test_several_sciences_keep_their_set_ups() -> None:
    """Those that need none push nothing out, and one that waits holds up nobody."""
    TOOLS.clear()
    made.clear()
    sciences = [Slow(10 + n) for n in range(KEPT)]
    for _ in range(3):
        for science in sciences:
            assert TOOLS.of(science)[1] == []
            assert TOOLS.of(Science()) is None
    assert made == {10 + n: 1 for n in range(KEPT)}
    TOOLS.of(Slow(99))  # one more: the oldest goes
    TOOLS.of(sciences[0])
    assert made[10] == 2


def test_a_science_whose_file_does_not_come_holds_up_no_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(type(STORE), "wait", lambda self, one: _real_wait(self, one, 1.0))
    stuck = Slow(3, (Resource("model", "0" * 64, 1, tmp_path / "nowhere"),))
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(TOOLS.of, stuck)
        time.sleep(0.1)
        begun = time.monotonic()
        TOOLS.of(Slow(4))
        assert time.monotonic() - begun < 0.6
        with pytest.raises(ResourceError):
            waiting.result()


def test_a_plain_science_needs_nothing() -> None:
    science = Science()
    assert (science.halo, science.resources, science.versions(), science.set_up({})) == (0, (), {}, None)
    assert science.note((), 0, 0) is None
    for unwritten in (lambda: science.survey(None), lambda: science.merge(1, 2), lambda: science.reduce(1, None)):  # type: ignore[arg-type]
        with pytest.raises(NotImplementedError):
            unwritten()
    with pytest.raises(NotImplementedError):
        science.compose(Strip(None, None, ()), ())  # type: ignore[arg-type]
