"""Asking a BTC network: pairs of pictures to probabilities of change, in whole steps."""

from __future__ import annotations

import ctypes
import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from eoap_dask.errors import ClusterError, WeightsError
from eoap_dask.kernels.windows import Pair, Steps
from eoap_dask.networks.architecture import SIDE, STEPS
from eoap_dask.networks.instructions import instructions, pin_instructions
from eoap_dask.networks.weights import INSTALL, lacking, load
from eoap_dask.text import show_bytes

if TYPE_CHECKING:
    import torch

MEANS, DEVIATIONS = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
"""Of ImageNet's red, green and blue, as weights were trained with."""
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
KEPT_BYTES = 32 << 20
"""What a process remembers of windows, for strips and blocks that share them."""


class Predictor:
    """A network on a device. Any thread may use it.

    Pictures are asked one by one on processors, so that bytes don't depend on which come together; on CUDA in batches.
    """

    def __init__(self, path: Path, device: str, batch: int, threads: int) -> None:
        self._device = device_of(device)
        is_cuda = self._device.type == "cuda"
        self._batch, self._threads = batch if is_cuda else 1, threads
        keep_memory()
        self._network = load(path).to(self._device)
        self._lock = threading.Lock()
        self._turn: AbstractContextManager[object] = threading.Lock() if is_cuda else nullcontext()
        self._kept: OrderedDict[bytes, Steps] = OrderedDict()

    def __call__(self, pairs: Sequence[Pair]) -> list[Steps]:
        """Return the probability of change of each pair, (y, x), uint16 in steps of a ten-thousandth.

        A pair that was asked of late is remembered by what it shows.
        """
        keys = [hashlib.blake2b(one.tobytes() + other.tobytes(), digest_size=16).digest() for one, other in pairs]
        with self._lock:
            found = {key: self._kept[key] for key in keys if key in self._kept}
        asked = {key: pair for key, pair in zip(keys, pairs, strict=True) if key not in found}
        names = list(asked)
        for first in range(0, len(names), self._batch):
            some = names[first : first + self._batch]
            for key, steps in zip(some, self._ask([asked[key] for key in some]), strict=True):
                found[key] = steps
                self._keep(key, steps)
        return [found[key] for key in keys]

    def _keep(self, key: bytes, steps: Steps) -> None:
        with self._lock:
            self._kept[key] = steps
            while len(self._kept) * steps.nbytes > KEPT_BYTES and len(self._kept) > 1:
                self._kept.popitem(last=False)

    def _ask(self, pairs: Sequence[Pair]) -> list[Steps]:
        import torch
        from torch.nn import functional as fn

        side = pairs[0][0].shape[-1]
        with self._turn, _threads(self._threads), torch.inference_mode():
            dates = [self._prepared(np.stack([pair[date] for pair in pairs])) for date in (0, 1)]
            found = torch.sigmoid(self._network(*dates).double())
            if found.shape[-1] != side:
                found = fn.adaptive_avg_pool2d(found, side)
            if not bool(found.isfinite().all()):
                raise WeightsError(
                    "The network answers with no numbers.",
                    "Its weights overflow single precision.",
                    "Try those of an earlier state of the training.",
                )
            steps = torch.floor(found * STEPS + 0.5).to("cpu", torch.int32)
        return list(steps.numpy().astype(np.uint16))

    def _prepared(self, pictures: np.ndarray[tuple[int, ...], np.dtype[np.uint8]]) -> torch.Tensor:
        """Return pictures as the network sees them."""
        import torch
        from torch.nn import functional as fn

        means, deviations = (torch.tensor(one, device=self._device)[:, None, None] for one in (MEANS, DEVIATIONS))
        images = torch.from_numpy(pictures).to(self._device)
        whole = (images.float() / 255 - means) / deviations
        if whole.shape[-1] < SIDE:
            whole = fn.interpolate(whole, (SIDE, SIDE), mode="bilinear", align_corners=False)
        return whole


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Ask with so many threads, and leave the caller's number as it was."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def keep_memory() -> None:
    """Let glibc keep what a question took for the next one: asking for it page by page takes an eighth of the time."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, 32 << 20)
        mallopt(_M_TRIM_THRESHOLD, 256 << 20)


def check_device(wanted: str, needed: int) -> str:
    """Return what this process computes with, such as ``x86_64 AVX2``; `ClusterError` where it can't.

    `needed` are the bytes that a CUDA device must have free.
    """
    device = device_of(wanted)
    if device.type == "cpu":
        return instructions()
    import torch

    free, _ = torch.cuda.mem_get_info()
    if free < needed:
        raise ClusterError(
            f"A worker's CUDA device has {show_bytes(free)} free.",
            f"The network and a batch of windows take about {show_bytes(needed)}.",
            "Try fewer of them (batch size), smaller windows, or the processor (device).",
        )
    return torch.cuda.get_device_name()


def device_of(wanted: str) -> torch.device:
    """Return the device of this process, ``cpu``, ``cuda``, or whichever is there for ``auto``.

    Raises `ClusterError` where it is missing, or PyTorch is.
    """
    if missing := lacking():
        raise ClusterError(f"A worker has no {' and no '.join(missing)}, which a network needs.", "", INSTALL)
    pin_instructions()
    import torch

    if wanted == "cpu" or torch.cuda.is_available():
        return torch.device("cpu" if wanted == "cpu" else "cuda")
    if wanted == "cuda":
        raise ClusterError(
            "A worker has no CUDA device that PyTorch can use, and cuda was asked for.",
            "",
            "Try the device cpu.",
        )
    return torch.device("cpu")
