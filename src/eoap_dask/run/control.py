"""Control of a run from other threads: pause it, let it go on, drain it, stop it."""

from __future__ import annotations

import threading

from eoap_dask.errors import StoppedError


class Control:
    """What others want of a run, which looks at it each tick. Any thread may use it.

    Examples
    --------
    >>> control = Control()
    >>> control.pause()
    >>> control.is_paused
    True
    >>> control.resume()
    >>> control.drain("The node goes down.")
    >>> control.is_draining, control.reason
    (True, 'The node goes down.')
    """

    def __init__(self) -> None:
        self._lock = threading.RLock()  # a signal may come while it is held
        self._is_paused = self._is_draining = self._is_stopped = False
        self._reason = ""

    def pause(self) -> None:
        """Send no more blocks until `resume`; those under way are finished."""
        with self._lock:
            self._is_paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        with self._lock:
            self._is_paused = False

    def drain(self, reason: str = "It was asked to drain.") -> None:
        """Finish the units that have begun, and begin no other; the run then ends with `StoppedError`."""
        with self._lock:
            self._is_draining, self._is_paused = True, False
            self._reason = self._reason or reason

    def stop(self, reason: str = "It was asked to stop.") -> None:
        """End with `StoppedError` at once; finished units are kept for the next run."""
        with self._lock:
            self._is_stopped = True
            self._reason = self._reason or reason

    @property
    def is_paused(self) -> bool:
        """Whether nothing is to be sent; never while it drains or stops."""
        return self._is_paused and not (self._is_draining or self._is_stopped)

    @property
    def is_draining(self) -> bool:
        """Whether no unit is to be begun."""
        return self._is_draining

    @property
    def reason(self) -> str:
        """Why it was drained or stopped, as a sentence."""
        return self._reason

    def check(self) -> None:
        """Raise `StoppedError` after `stop`."""
        if self._is_stopped:
            raise self.fault()

    def fault(self) -> StoppedError:
        """Return the error of a run that was drained or stopped."""
        return StoppedError(
            f"The run was stopped before its end. {self._reason}",
            "What is finished is kept.",
            "Run the same again to go on.",
        )
