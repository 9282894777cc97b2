"""Memory that is used again."""

from __future__ import annotations

import gc
import os
import signal
import weakref
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eoap_dask.render.buffers import Buffers

MIB = 1 << 20


def test_the_next_one_gets_the_same_memory() -> None:
    buffers = Buffers(8 * MIB)
    first, buffer = buffers.take((3, 100, 7), np.uint16)
    assert (first.shape, first.dtype, buffer.nbytes) == ((3, 100, 7), np.uint16, 4200)
    buffers.give(buffer)
    second, other = buffers.take((2, 1000), np.bool_)
    assert other is buffer
    assert np.shares_memory(first, second)
    third, _ = buffers.take((2, 1000), np.bool_)  # while it is in use
    assert not np.shares_memory(second, third)


def test_much_too_large_ones_are_left() -> None:
    buffers = Buffers(64 * MIB)
    _, large = buffers.take((20 * MIB,), np.uint8)
    buffers.give(large)
    assert buffers.take((4 * MIB,), np.uint8)[1] is not large
    assert buffers.take((5 * MIB,), np.uint8)[1] is large


def test_no_more_is_kept_than_is_said() -> None:
    buffers = Buffers(3 * MIB)
    taken = [buffers.take((MIB,), np.uint8)[1] for _ in range(5)]
    for one in taken:
        buffers.give(one)
    buffers.give(np.empty(4 * MIB, np.uint8))  # nobody goes for one that can't be kept
    again = [buffers.take((MIB,), np.uint8)[1] for _ in range(4)]
    assert [any(one is old for old in taken[2:]) for one in again] == [True, True, True, False]  # the oldest ones went


def test_old_ones_are_replaced_where_that_is_asked() -> None:
    for replace in (False, True):
        buffers = Buffers(64 * MIB, slack=1.5, replace=replace)
        small = [buffers.take((MIB * n,), np.uint8)[1] for n in (2, 3, 4)]
        for one in small:
            buffers.give(one)
        assert buffers.take((5 * MIB,), np.uint8)[1].size == 5 * MIB  # isn't there: the first two go for it
        assert buffers.take((4 * MIB,), np.uint8)[1] is small[2]
        assert (buffers.take((2 * MIB,), np.uint8)[1] is small[0]) is not replace


def test_free_and_lent_ones_are_not_much_more_than_was_in_use() -> None:
    rng = np.random.default_rng(1)
    buffers = Buffers(1 << 40, slack=1.5, replace=True)
    most = 0
    for _ in range(60):
        sizes = rng.integers(MIB, 40 * MIB, 2)
        taken = [buffers.take((size,), np.uint8)[1] for size in sizes]
        most = max(most, int(sizes.sum()))
        held = sum(one.size for one in [*taken, *buffers._free])
        assert held <= 1.5 * most + 2 * MIB
        for one in taken:
            buffers.give(one)


def test_what_is_lent_comes_back_also_after_a_fault() -> None:
    buffers = Buffers(MIB)
    with pytest.raises(ValueError, match="no"), buffers.lent((5,), np.float32) as first:
        raise ValueError("no")
    with buffers.lent((5,), np.float32) as second:
        assert np.shares_memory(first, second)
        with buffers.lent((5,), np.float32) as third:
            assert not np.shares_memory(second, third)
    buffers.clear()
    with buffers.lent((5,), np.float32) as fourth:
        assert not np.shares_memory(second, fourth)
        assert not np.shares_memory(third, fourth)


def test_nobody_shares_with_another_thread() -> None:
    buffers = Buffers(64 * MIB)

    def work(number: int) -> bool:
        with buffers.lent((50_000,), np.int64) as mine:
            mine[...] = number
            for _ in range(20):
                mine += 1
            return bool((mine == number + 20).all())

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(200)))


@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_fork_isn_t_locked_out() -> None:
    buffers = Buffers(MIB)
    with buffers._lock:  # as if another thread held it
        pid = os.fork()
        if not pid:
            signal.alarm(20)  # ends it, if it waits
            try:
                buffers.take((3,), np.uint8)
                os._exit(0)
            finally:
                os._exit(1)
    assert os.waitpid(pid, 0)[1] == 0


def test_dropped_ones_are_gone() -> None:
    gone = weakref.ref(Buffers(MIB))
    gc.collect()
    assert gone() is None
