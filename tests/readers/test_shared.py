"""What threads share: made once at a time, kept within a budget, gone when it is used up."""

from __future__ import annotations

import threading
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.readers.shared import Kept, MemoryBudget, Shared


def test_who_needs_more_room_than_is_left_waits() -> None:
    room = MemoryBudget(100)
    with room.of(60), ThreadPoolExecutor(1) as pool:
        with room.of(40):
            had = threading.Event()

            def take() -> int:
                with room.of(30):
                    had.set()
                    return room.taken

            taken = pool.submit(take)
            assert not had.wait(0.1)
        assert taken.result(20) == 90
    with room.of(500):  # more than there is, once nobody else has any
        assert room.taken == 500
    assert room.taken == 0


def test_who_comes_first_makes_it_and_the_others_wait() -> None:
    shared: Shared[str] = Shared(100)
    assert shared.claim("a") is None
    waiting = [shared.claim("a") for _ in range(3)]
    assert all(isinstance(one, Future) and not one.done() for one in waiting)
    shared.settle("a", "value", 10)
    assert [one.result(0) for one in waiting if isinstance(one, Future)] == ["value"] * 3
    kept = shared.claim("a")
    assert isinstance(kept, Kept)
    assert kept.value == "value"


def test_who_waits_for_what_fails_is_told_and_may_make_it() -> None:
    shared: Shared[str] = Shared(100)
    assert shared.claim("a") is None
    waiting = shared.claim("a")
    shared.fail("a")
    assert isinstance(waiting, Future)
    with pytest.raises(LookupError):
        waiting.result(0)
    assert shared.claim("a") is None
    shared.settle("a", "value", 1)
    shared.fail("a")  # says nothing of what is there
    assert "a" in shared


def test_what_is_used_up_goes() -> None:
    shared: Shared[str] = Shared(100)
    shared.claim("a")
    shared.settle("a", "value", 60, share=0.25)
    for expected in (True, True, False):
        assert isinstance(shared.claim("a", share=0.25), Kept)
        assert ("a" in shared) is expected
    assert shared.size == 0
    shared.claim("b")
    shared.settle("b", "value", 60, share=1.0)
    assert len(shared) == 0


def test_what_is_too_large_is_not_kept() -> None:
    shared: Shared[str] = Shared(100)
    shared.claim("a")
    shared.settle("a", "value", 101)
    assert len(shared) == shared.size == 0


@given(
    st.lists(st.tuples(st.integers(0, 20), st.sampled_from("mud"), st.integers(1, 60), st.floats(0, 1)), max_size=60)
)
def test_the_budget_holds_and_the_books_agree(steps: list[tuple[int, str, int, float]]) -> None:
    shared: Shared[int] = Shared(100)
    for key, step, size, share in steps:
        if step == "d":
            shared.drop(key)
        elif shared.claim(key, share) is None:
            if step == "m":
                shared.settle(key, size, size, share)
            else:
                shared.fail(key)
        assert 0 <= shared.size <= 100
        assert shared.size == sum(kept.size for kept in shared._kept.values())
        assert sorted(shared._keys) == sorted(shared._kept)
        assert all(shared._keys[place] == key for key, place in shared._places.items())
        assert all(kept.left > 0 for kept in shared._kept.values())
        assert not shared._making
    shared.clear()
    assert len(shared) == shared.size == 0


def test_many_threads_make_it_once() -> None:
    shared: Shared[int] = Shared(1000)
    made: list[int] = []
    start = threading.Barrier(8)

    def ask(_: int) -> int:
        start.wait()
        found = shared.claim("a")
        if found is None:
            made.append(1)
            shared.settle("a", 7, 1)
            return 7
        return found.result(10) if isinstance(found, Future) else found.value

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(ask, range(8))) == [7] * 8
    assert made == [1]
