"""Every fault a user can act on: one class each, with its exit code.

A message has three parts, each a sentence: what happened (with the value), what was expected, what to try.
"""

from __future__ import annotations

import re

EXIT_CODES = {
    0: "complete",
    1: "a bug",
    2: "usage",
    3: "nothing usable found",
    4: "search or signing failed",
    5: "the cluster failed",
    6: "a unit failed, or memory ran out",
}
"""Meaning of the applications' exit codes; help texts, messages and documentation take it from here."""


class EoapError(Exception):
    """Base of all faults that are shown as one message, without a traceback.

    Parameters
    ----------
    what
        What happened, with the offending value, as a full sentence.
    expected
        What was expected instead, as a full sentence; may be empty.
    hint
        What to try, as a full sentence; may be empty.
    """

    exit_code = 1

    def __init__(self, what: str, expected: str = "", hint: str = "") -> None:
        super().__init__(what, expected, hint)
        self.what = what
        self.expected = expected
        self.hint = hint

    def __str__(self) -> str:
        return " ".join(part for part in (self.what, self.expected, self.hint) if part)


class UsageError(EoapError):
    """The request itself is wrong; nothing was contacted or written."""

    exit_code = 2


class AoiError(UsageError):
    """The area of interest can't be read, or isn't an area on Earth."""


class DateError(UsageError):
    """A date is malformed, or the range of dates makes no sense."""


class GridError(UsageError):
    """CRS and resolution don't give a usable grid over the area."""


class GridMismatchError(GridError):
    """Arrays that are to be combined don't show the same pixels."""


class BandError(UsageError):
    """A band isn't offered by the collection."""


class CollectionError(UsageError):
    """The catalogue doesn't have the collection."""


class NetworkSettingError(UsageError):
    """A variable of the environment that says how the network is reached can't be used."""


class WeightsError(UsageError):
    """A network's weights can't be used."""


class OutputError(UsageError):
    """The output directory can't be used."""


class NoRunError(UsageError):
    """The directory holds no run of this package."""


class OtherRunError(UsageError):
    """A file holds the events of another run than was asked for."""


class TilesError(EoapError):
    """A worker couldn't write its tiles to the output's disk; fails the unit."""

    exit_code = 6


class ResourceError(EoapError):
    """A file that every worker needs didn't reach one; fails the unit."""

    exit_code = 6


class NothingFoundError(EoapError):
    """The search found no item in any period."""

    exit_code = 3


class SearchError(EoapError):
    """The catalogue couldn't be searched, or what it answered can't be used."""

    exit_code = 4


class StatusError(SearchError):
    """The catalogue answered with an HTTP error status."""

    status = 0


class ItemError(SearchError):
    """An item lacks what is needed to place or read its pixels."""

    exit_code = 3  # the same search will find it again


class HrefError(SearchError):
    """An href in an item points where a catalogue may not lead."""

    exit_code = 3  # as for `ItemError`


class DownloadError(SearchError):
    """A network's weights couldn't be fetched."""


class SigningError(SearchError):
    """An asset couldn't be signed."""


class ClusterError(EoapError):
    """The Dask cluster couldn't be started, or went away."""

    exit_code = 5


class RefusedError(ClusterError):
    """A Dask Gateway refused a request.

    Parameters
    ----------
    where
        Address of the Gateway, redacted.
    problem
        Its answer.
    """

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(f"The Dask Gateway at {where} refuses: {problem}")
        self.args = (where, problem)
        self.problem = problem

    @property
    def is_unknown(self) -> bool:
        """Whether the Gateway doesn't know the cluster."""
        return bool(re.match(r"Cluster .* not found", self.problem))


class OutOfMemoryError(EoapError):
    """The command used up the memory of its container."""

    exit_code = 6


class AssetError(EoapError):
    """An asset couldn't be read, after all retries; fails its unit.

    Parameters
    ----------
    what, expected, hint
        As in `EoapError`.
    item_id, asset
        Id of the item and key of the asset.
    href
        Unsigned href of the asset.
    attempts
        How often it was tried.
    """

    exit_code = 6

    def __init__(
        self,
        what: str,
        expected: str = "",
        hint: str = "",
        item_id: str = "",
        asset: str = "",
        href: str = "",
        attempts: int = 1,
    ) -> None:
        super().__init__(what, expected, hint)
        self.args = (
            what,
            expected,
            hint,
            item_id,
            asset,
            href,
            attempts,
        )  # what pickle gives back to __init__
        self.item_id = item_id
        self.asset = asset
        self.href = href
        self.attempts = attempts


class ContradictionError(AssetError):
    """A source is other than the catalogue says, which isn't to become silent pixels.

    Parameters
    ----------
    what, expected, hint, item_id, asset, href, attempts
        As in `AssetError`, of the first source that was found.
    found
        For each such source of the unit what it really is: a tuple of item id, asset, CRS and affine transform.
    """

    def __init__(
        self,
        what: str,
        expected: str = "",
        hint: str = "",
        item_id: str = "",
        asset: str = "",
        href: str = "",
        attempts: int = 1,
        found: tuple[tuple[str, str, str, tuple[float, ...]], ...] = (),
    ) -> None:
        super().__init__(what, expected, hint, item_id, asset, href, attempts)
        self.args = (*self.args, found)
        self.found = found


class UnitsFailedError(EoapError):
    """More units of work failed than were allowed."""

    exit_code = 6


class StoppedError(EoapError):
    """A run was drained or stopped by its control; what is finished is kept."""

    exit_code = 130


class StepFailedError(EoapError):
    """A step of a workflow failed.

    Parameters
    ----------
    what, expected, hint
        As in `EoapError`.
    exit_code
        Exit code of the step's tool; 128 + signal number for one that was killed.
    """

    def __init__(self, what: str, expected: str = "", hint: str = "", exit_code: int = 1) -> None:
        super().__init__(what, expected, hint)
        self.args = (what, expected, hint, exit_code)  # what pickle gives back to __init__
        self.exit_code = exit_code
