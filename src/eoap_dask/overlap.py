"""State of the process that runs change: of those that overlap, the first changes it and the last restores it."""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Hashable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress

_lock = threading.Lock()
_entered: dict[Hashable, tuple[int, AbstractContextManager[object]]] = {}
"""How many are in a context, and what the first of them entered."""


@contextmanager
def overlapping(key: Hashable, change: Callable[[], AbstractContextManager[object]]) -> Iterator[None]:
    """Change state of the process for as long as anybody is in a context of this key, in whatever order they leave.

    Parameters
    ----------
    key
        Names the state and what becomes of it: equal keys mean equal changes.
    change
        Makes the context manager that changes the state; called for the first, whose thread may not be the last's.
    """
    with _lock:
        number, context = _entered.get(key) or (0, change())
        if not number:
            context.__enter__()
        _entered[key] = number + 1, context
    try:
        yield
    finally:
        with _lock:
            number, context = _entered.pop(key)
            if number > 1:
                _entered[key] = number - 1, context
            else:
                context.__exit__(None, None, None)


@contextmanager
def warnings_filtered(action: str, category: type[Warning]) -> Iterator[None]:
    """Treat warnings of a category in a way, as `warnings.simplefilter`, also where other threads do so.

    `warnings.catch_warnings` would restore all filters, among them those that another thread has set meanwhile.
    """
    with overlapping(("warnings", action, category), lambda: _filter(action, category)):
        yield


@contextmanager
def _filter(action: str, category: type[Warning]) -> Iterator[None]:
    warnings.simplefilter(action, category)  # type: ignore[arg-type]
    added = warnings.filters[0]
    try:
        yield
    finally:
        with suppress(ValueError):  # somebody else has restored all filters
            warnings.filters.remove(added)  # type: ignore[attr-defined]
