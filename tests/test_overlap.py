"""State of the process that overlapping runs change: right while any of them lasts, and as before after the last."""

from __future__ import annotations

import logging
import os
import warnings
from contextlib import AbstractContextManager
from itertools import permutations
from typing import Any

import dask
import distributed  # noqa: F401 - has its defaults in dask's configuration
import pytest

from eoap_dask.cluster.environment import dask_configured
from eoap_dask.cluster.local import _environment_with
from eoap_dask.logs import quiet
from eoap_dask.overlap import overlapping, warnings_filtered

SETTING = "eoap-dask.test"
"""Of no cluster: other tests of this process may have one."""


def level() -> int:
    return logging.getLogger("eoap.test").level


def heap() -> str | None:
    return os.environ.get("EOAP_TEST_HEAP")


def setting() -> Any:
    return dask.config.get(SETTING, None)


def is_a_fault() -> bool:
    try:
        warnings.warn("shallow", SyntaxWarning, stacklevel=1)
    except SyntaxWarning:
        return True
    return False


KINDS = {
    "quiet": (level, logging.CRITICAL, lambda: quiet("eoap.test")),
    "heap": (heap, "1", lambda: overlapping("test", lambda: _environment_with({"EOAP_TEST_HEAP": "1"}))),
    "dask": (setting, "changed", lambda: dask_configured({SETTING: "changed"})),
    "warnings": (is_a_fault, True, lambda: warnings_filtered("error", SyntaxWarning)),
}


@pytest.mark.parametrize("order", [*permutations(range(3))], ids=str)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.filterwarnings("ignore:shallow:SyntaxWarning")
def test_three_that_overlap_may_end_in_any_order(kind: str, order: tuple[int, ...]) -> None:
    state, changed, make = KINDS[kind]
    before = state()
    assert before != changed
    for _ in range(2):  # once is as often as again
        contexts: list[AbstractContextManager[None]] = [make() for _ in range(3)]
        for context in contexts:
            context.__enter__()
            assert state() == changed
        for number in order:
            assert state() == changed
            contexts[number].__exit__(None, None, None)
        assert state() == before


def test_a_change_that_fails_leaves_nothing() -> None:
    def fail() -> AbstractContextManager[None]:
        raise OSError("no")

    for _ in range(2):
        with pytest.raises(OSError, match="no"), overlapping("fails", fail):
            pytest.fail("it isn't entered")


def test_other_filters_of_warnings_stay(recwarn: pytest.WarningsRecorder) -> None:
    """Those that somebody adds meanwhile aren't taken away, as `warnings.catch_warnings` would."""
    with warnings_filtered("error", SyntaxWarning):
        warnings.simplefilter("ignore", BytesWarning)
        mine = warnings.filters[0]
    assert mine in warnings.filters
    assert not any(one[2] is SyntaxWarning for one in warnings.filters)
