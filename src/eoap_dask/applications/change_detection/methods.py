"""Methods that find change between two images: statistics over the whole of both, in passes, then a score per pixel."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eoap_dask.kernels import change
from eoap_dask.kernels.change import Centre, Floats, Moments, Pixels, Variates
from eoap_dask.render.resources import Resource

SURELY = 4.0
"""Times the least threshold: magnitudes beyond are changes, and how far beyond doesn't matter."""


@dataclass(frozen=True)
class Where:
    """Where pixels lie that get a score."""

    corner: tuple[int, int]
    """Row and column of the first one in the grid; below zero where it lies before that."""
    shape: tuple[int, int]
    """Height and width of the grid."""
    tools: Any = None
    """What `Method.set_up` returned."""


@dataclass(frozen=True)
class Method:
    """A method: the base of frozen dataclasses whose fields decide pixels, and are part of a unit's digest.

    Images are (band, y, x), uint16, 0 = no data; both see a pixel or it has no score.
    """

    bands: int = 6
    """How many the images have; a threshold depends on it."""
    name: ClassVar[str]
    title: ClassVar[str]
    version: ClassVar[int]
    """Raised when the same fields make other scores."""
    meaning: ClassVar[str] = "Standard deviations of no change"
    """Of a score."""
    step: ClassVar[float] = 0.01
    """What a score is stored in; the least one is a step, for 0 is no data."""
    most: ClassVar[float] = math.inf
    """What scores are at most."""

    @property
    def reach(self) -> int:
        """Pixels around a pixel that its score depends on."""
        return 0

    @property
    def passes(self) -> int:
        """Passes of statistics, at most; 0 for a method that needs none."""
        return 0

    @property
    def resources(self) -> tuple[Resource, ...]:
        """Files that every worker needs."""
        return ()

    @property
    def modules(self) -> tuple[str, ...]:
        """Packages that workers need beside ours."""
        return ()

    @property
    def worker_bytes(self) -> int:
        """Memory of a worker for what it is set up with, however many threads it has."""
        return 0

    @property
    def task_bytes(self) -> int:
        """Memory of a task beside what its pixels take."""
        return 0

    @property
    def tools_key(self) -> object:
        """See `Science.tools_key`."""
        return None

    @property
    def heading(self) -> str:
        """Its title, with what must stand beside it wherever its pictures are shown."""
        return self.title

    def check_worker(self) -> str:
        """See `Science.check_worker`."""
        return ""

    def set_up(self, files: Mapping[str, Path]) -> Any:  # noqa: ARG002
        """Return `Where.tools`, made once on each worker; `files` are the resources by name."""
        return None

    def check(self, image: Pixels) -> None:
        """Raise ValueError for an image of another number of bands."""
        if len(image) != self.bands:
            raise ValueError(f"{self.title} of {self.bands} bands got an image of {len(image)}.")

    def survey(self, before: Pixels, after: Pixels, state: Any) -> Any:
        """Return what a pass of statistics needs to know of some pixels; None of none."""
        raise NotImplementedError

    def merge(self, one: Any, other: Any) -> Any:
        """Return what two notes of `survey` come to."""
        raise NotImplementedError

    def reduce(self, note: Any, state: Any) -> tuple[Any, bool]:
        """Return what a pass came to, and whether there is another one; the note is None where nothing is seen."""
        raise NotImplementedError

    def score(self, before: Pixels, after: Pixels, state: Any, where: Where | None = None) -> Floats:  # noqa: ARG002
        """Return how sure a change is: (y, x), 0 or more, NaN where either date is blind, as all is without a state.

        It is right for pixels that lie `reach` from all borders. Methods with a reach need to know where they are.
        """
        return np.full(before.shape[1:], np.nan) if state is None else self._score(before, after, state)

    def threshold(self, state: Any) -> float:
        """Return the score above which a pixel has changed."""
        raise NotImplementedError

    def facts(self, state: Any) -> dict[str, Any]:
        """Return what the statistics came to, as JSON-like values; nothing without any."""
        return {} if state is None else self._facts(state)

    def lineage(self, bands: Sequence[str]) -> str:
        """Return how scores come about, in a sentence."""
        raise NotImplementedError

    def _score(self, before: Pixels, after: Pixels, state: Any) -> Floats:
        raise NotImplementedError

    def _facts(self, state: Any) -> dict[str, Any]:
        raise NotImplementedError


@dataclass(frozen=True)
class CvaState:
    """Statistics of CVA."""

    centre: Centre
    otsu: float = 0.0
    """Threshold that parts the magnitudes in two."""


@dataclass(frozen=True)
class Cva(Method):
    """Robust change vector analysis: how far a pixel's change is from that of most pixels."""

    least_mad: float = 20.0
    """Floor of the MAD of a band, stored units: noise that is borne even where most pixels are equal."""
    name: ClassVar[str] = "cva"
    title: ClassVar[str] = "Robust change vector analysis"
    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """Medians and MADs, then magnitudes."""
        return 2

    def survey(self, before: Pixels, after: Pixels, state: CvaState | None) -> Any:
        """Count differences, then magnitudes."""
        self.check(before)
        if state is None:
            counted = change.count_differences(before, after)
            return counted if len(counted[0][0]) else None
        found = change.count_magnitudes(change.magnitude(before, after, state.centre, self.least_mad))
        return found if found.any() else None

    def merge(self, one: Any, other: Any) -> Any:
        """Add counts up."""
        if one is None or other is None:
            return other if one is None else one
        if isinstance(one, list):
            return [change.merge_counted(a, b) for a, b in zip(one, other, strict=True)]
        return one + other

    def reduce(self, note: Any, state: CvaState | None) -> tuple[CvaState | None, bool]:
        """Return medians and MADs; then the threshold too."""
        if note is None:
            return state, False
        if state is None:
            return CvaState(Centre.of(note)), True
        return CvaState(state.centre, change.otsu(note, SURELY * change.least_threshold(self.bands))), False

    def _score(self, before: Pixels, after: Pixels, state: CvaState) -> Floats:
        """Return the magnitude of the change vector, in standard deviations of no change."""
        return change.magnitude(before, after, state.centre, self.least_mad)

    def threshold(self, state: CvaState | None) -> float:
        """Return Otsu's threshold, but no less than what 99 % of unchanged pixels stay below."""
        return max(change.least_threshold(self.bands), 0.0 if state is None else state.otsu)

    def _facts(self, state: CvaState) -> dict[str, Any]:
        """Return medians, MADs, and thresholds."""
        return {
            "median": list(state.centre.median),
            "mad": list(state.centre.mad),
            "otsu": state.otsu,
            "threshold": round(self.threshold(state), 4),
        }

    def lineage(self, bands: Sequence[str]) -> str:
        """Return how scores come about."""
        return (
            f"Robust change vector analysis of {', '.join(bands)}: per band the difference less its median, over "
            f"1.4826 times its MAD (at least {self.least_mad:g} stored units) of all pixels; the score is the length "
            "of that vector; the threshold is Otsu's, and at least the square root of the 99 % quantile of χ²"
        )


@dataclass(frozen=True)
class MadState:
    """Statistics of IR-MAD."""

    variates: Variates
    rounds: int = 1
    moved: float = 1.0
    """How far the correlations moved in the last round."""
    stop: str = ""
    """Why it ended."""


@dataclass(frozen=True)
class IrMad(Method):
    """Iteratively reweighted multivariate alteration detection; linear changes of any band on a date don't matter."""

    rounds: int = 30
    """Passes over all pixels, at most."""
    still: float = 1e-4
    """It has settled when no canonical correlation moves by more."""
    least_effective: float = 0.01
    """Share of pixels that must still tell something; with less, the weights have collapsed."""
    name: ClassVar[str] = "irmad"
    title: ClassVar[str] = "Iteratively reweighted multivariate alteration detection"
    version: ClassVar[int] = 1

    @property
    def passes(self) -> int:
        """As many as it may take to settle."""
        return self.rounds

    def survey(self, before: Pixels, after: Pixels, state: MadState | None) -> Moments | None:
        """Return weighted sums."""
        self.check(before)
        found = change.moments(before, after, None if state is None else state.variates)
        return found if found.pixels else None

    def merge(self, one: Moments | None, other: Moments | None) -> Moments | None:
        """Add them up."""
        if one is None or other is None:
            return other if one is None else one
        return one + other

    def reduce(self, note: Moments | None, state: MadState | None) -> tuple[MadState | None, bool]:
        """Return new variates, until they stay."""
        if note is None:
            return state, False
        if state is None:
            return MadState(change.canonical(note, None)), self.rounds > 1
        if note.effective < max(self.least_effective * note.pixels, 4 * self.bands):
            return MadState(state.variates, state.rounds, state.moved, "too few pixels that stayed alike"), False
        found = change.canonical(note, state.variates)
        moved = float(np.abs(found.correlation - state.variates.correlation).max())
        rounds = state.rounds + 1
        stop = "settled" if moved < self.still else "most rounds" if rounds >= self.rounds else ""
        return MadState(found, rounds, moved, stop), not stop

    def _score(self, before: Pixels, after: Pixels, state: MadState) -> Floats:
        """Return the square root of Σ MAD²/σ²."""
        return change.mad_score(before, after, state.variates)

    def threshold(self, state: MadState | None) -> float:  # noqa: ARG002
        """Return the square root of the 99 % quantile of χ²."""
        return change.least_threshold(self.bands)

    def _facts(self, state: MadState) -> dict[str, Any]:
        """Return correlations, and how the rounds ended."""
        return {
            "correlation": [round(float(one), 6) for one in state.variates.correlation],
            "rounds": state.rounds,
            "stop": state.stop or "one round",
            "threshold": round(self.threshold(state), 4),
        }

    def lineage(self, bands: Sequence[str]) -> str:
        """Return how scores come about."""
        return (
            f"IR-MAD of {', '.join(bands)}: differences of canonical variates, reweighted by the chance of no change "
            f"until correlations stay within {self.still:g} (at most {self.rounds} rounds), variances corrected for "
            "what weights take of them; the score is the square root of the sum of squares over variances, the "
            "threshold that of the 99 % quantile of χ²"
        )
