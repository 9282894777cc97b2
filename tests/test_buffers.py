"""Memory that is used again."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from eoap_dask.buffers import Buffers

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
    again = [buffers.take((MIB,), np.uint8)[1] for _ in range(4)]
    assert [any(one is old for old in taken[2:]) for one in again] == [True, True, True, False]  # the oldest ones went
    _, huge = buffers.take((4 * MIB,), np.uint8)
    buffers.give(huge)
    assert buffers.take((4 * MIB,), np.uint8)[1] is not huge


@pytest.mark.parametrize("drop_misfits", [False, True])
def test_misfits_go_where_that_is_asked(drop_misfits: bool) -> None:
    buffers = Buffers(64 * MIB, drop_misfits=drop_misfits)
    _, small = buffers.take((MIB,), np.uint8)
    buffers.give(small)
    buffers.take((2 * MIB,), np.uint8)  # isn't there
    assert (buffers.take((MIB,), np.uint8)[1] is small) is not drop_misfits


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
            buffers.take((3,), np.uint8)
            os._exit(0)
    assert os.waitpid(pid, 0)[1] == 0
