"""BTC as a method: a network sees windows of both dates, and says how likely each pixel has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib.metadata import version as version_of
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from eoap_dask.applications.change_detection.methods import Method, Where
from eoap_dask.applications.change_detection.parameters import RGB
from eoap_dask.kernels.change import Floats, Pixels
from eoap_dask.kernels.windows import Lattice, stretch_table
from eoap_dask.networks.architecture import SIDE, STEPS, Architecture
from eoap_dask.networks.weights import Weights
from eoap_dask.render.identity import NO_PIXELS
from eoap_dask.render.resources import Resource

PUBLISHED_THRESHOLD = 0.5
LEAST_SEEN = 0.1
"""Share of a window that must be seen on both dates; windows with less tell nothing."""
_WEIGHTS = "weights"


@dataclass(frozen=True, kw_only=True)
class Btc(Method):
    """Probabilities of change by a network, from windows that overlap and are blended."""

    weights: Resource
    form: Architecture = field(metadata=NO_PIXELS)  # follows from the weights
    limit: float
    """Probability above which a pixel has changed."""
    window: int
    """Side of a window, in pixels."""
    stretch: tuple[float, float]
    """Reflectances that become 0 and 255."""
    device: str
    batch: int
    """Windows that are asked at once on CUDA."""
    threads: int
    """Of PyTorch, for one window."""
    picks: tuple[int, int, int] = (0, 1, 2)
    """Numbers of red, green and blue among the images' bands."""
    least_seen: float = LEAST_SEEN
    source: str = field(default="", metadata=NO_PIXELS)
    """What the weights were asked for by."""
    is_random: bool = field(default=False, metadata=NO_PIXELS)
    is_checkpoint: bool = field(default=False, metadata=NO_PIXELS)
    name: ClassVar[str] = "btc"
    title: ClassVar[str] = "BTC network"
    version: ClassVar[int] = 1
    meaning: ClassVar[str] = "Probability of change"
    step: ClassVar[float] = 1 / STEPS
    most: ClassVar[float] = 1.0

    @classmethod
    def of(cls, weights: Weights, bands: Sequence[str], **given: Any) -> Btc:
        """Return the method with some weights, for images of some bands; reads all of the file."""
        return cls(
            bands=len(bands),
            picks=(bands.index(RGB[0]), bands.index(RGB[1]), bands.index(RGB[2])),
            weights=Resource.of(_WEIGHTS, weights.path),
            form=weights.form,
            source=weights.source,
            is_random=weights.is_random,
            is_checkpoint=weights.is_checkpoint,
            **given,
        )

    @property
    def overlap(self) -> int:
        """Pixels that windows beside each other share, at least."""
        return self.window // 4

    @property
    def reach(self) -> int:
        """As far as the windows reach that see a pixel."""
        return self.window

    @property
    def resources(self) -> tuple[Resource, ...]:
        """The weights."""
        return (self.weights,)

    @property
    def modules(self) -> tuple[str, ...]:
        """PyTorch, and what reads weights."""
        return ("torch", "safetensors")

    @property
    def worker_bytes(self) -> int:
        """PyTorch, the weights in single precision, and a checkpoint's file, which is mapped while it is loaded."""
        return _TORCH_BYTES + 4 * self.form.parameters + (self.weights.size if self.is_checkpoint else 0)

    @property
    def task_bytes(self) -> int:
        """What the network holds of a window's two pictures at its most; on CUDA, that is the device's memory."""
        patches = max(self.window, SIDE) ** 2 // self.form.patch**2
        return _ASKED_BYTES + patches * (300 * self.form.dim + 50 * self.form.decoder)

    @property
    def heading(self) -> str:
        """Its title; random weights mean nothing."""
        return f"{self.title}, with random weights: this means nothing" if self.is_random else self.title

    @property
    def tools_key(self) -> object:
        """What the loaded network depends on: one is kept for all thresholds and stretches."""
        return self.weights.sha256, self.device, self.batch, self.threads

    def check_worker(self) -> str:
        """Return what the worker computes with; raise `ClusterError` where PyTorch, the device or its memory lacks."""
        from eoap_dask.networks.predict import check_device

        return check_device(self.device, 4 * self.form.parameters + self.batch * self.task_bytes)

    def set_up(self, files: Mapping[str, Path]) -> Any:
        """Load the network; raises as `check_worker`, and `WeightsError`."""
        from eoap_dask.networks.predict import Predictor

        return Predictor(files[_WEIGHTS], self.device, self.batch, self.threads)

    def score(self, before: Pixels, after: Pixels, state: Any, where: Where | None = None) -> Floats:  # noqa: ARG002
        """Return the probability of change, in whole steps: (y, x), NaN where either date is blind."""
        self.check(before)
        if where is None:
            raise ValueError("A network must know where in the grid it looks.")
        reach = self.reach
        first, second = (
            np.ascontiguousarray(one[list(self.picks)]).astype(np.uint16, copy=False) for one in (before, after)
        )
        lattice = Lattice(self.window, self.overlap, self.least_seen)
        steps, is_known = lattice.blend(
            (first, second), stretch_table(*self.stretch), where.corner, where.shape, where.tools
        )
        whole = np.full(before.shape[1:], np.nan)
        whole[reach:-reach, reach:-reach] = np.where(is_known, steps / STEPS, np.nan)
        return whole

    def threshold(self, state: Any) -> float:  # noqa: ARG002
        """Return the probability above which a pixel has changed, a whole step."""
        return round(self.limit * STEPS) / STEPS

    def facts(self, state: Any) -> dict[str, Any]:  # noqa: ARG002
        """Return what the network was, and how it was asked."""
        return {
            "threshold": self.threshold(None),
            "pytorch": version_of("torch"),
            "weights": {"source": self.source, "sha256": self.weights.sha256, "random": self.is_random},
            "window": self.window,
            "stretch": list(self.stretch),
            "device": self.device,
        }

    def lineage(self, bands: Sequence[str]) -> str:  # noqa: ARG002
        """Return how scores come about."""
        low, high = self.stretch
        larger = f", enlarged to {SIDE} pixels" if self.window < SIDE else ""
        trained = "The weights are random: what they find means nothing. " if self.is_random else ""
        where = {
            "cpu": "",
            "auto": " Workers with CUDA used it: bytes may differ from those of processors.",
            "cuda": " It ran on CUDA: bytes may differ from those of processors.",
        }[self.device]
        return (
            f"{trained}BTC (Be The Change), doi:10.1109/TGRS.2025.3585342, with the weights {self.source} (SHA-256 "
            f"{self.weights.sha256[:16]}…), of {', '.join(RGB)}: reflectances from {low:g} to {high:g} in 256 greys, "
            f"in windows of {self.window} pixels{larger}, which overlap by {self.overlap} or more and are blended; the "
            f"score is the probability of change, in steps of {self.step:g}; the threshold is "
            f"{self.threshold(None):g}, where {PUBLISHED_THRESHOLD:g} was published.{where} Windows of which less than "
            f"{self.least_seen:.0%} is seen on both dates tell nothing"
        )


_TORCH_BYTES = 256 << 20
_ASKED_BYTES = 24 << 20
"""Memory of PyTorch, and of a question beside what grows with the network; these and the factors were measured."""
