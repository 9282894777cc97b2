"""Which instructions of the processor PyTorch computes with: sums come out otherwise with others, in the last bits."""

from __future__ import annotations

import os
import platform
import re
import sys
from pathlib import Path

from loguru import logger

PINNED = {"ATEN_CPU_CAPABILITY": "avx2", "ONEDNN_MAX_CPU_ISA": "AVX2", "MKL_CBWR": "AVX2"}
"""Variables with which PyTorch and its libraries keep to the same instructions on any processor of x86."""


def pin_instructions() -> None:
    """Choose the instructions of PyTorch, before it is imported: AVX2, though there are newer ones.

    Sums come out otherwise with others, in their last bits. It costs some five per cent where there is AVX-512. What
    the environment says goes first.
    """
    try:
        has_them = re.search(r"^flags\s*:.*\bavx2\b", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        return
    if not has_them or all(name in os.environ for name in PINNED):
        return
    if "torch" in sys.modules:
        logger.warning(
            "PyTorch was imported before its instructions could be chosen: probabilities may be off by 0.0001 from "
            "those of the application. Set {}.",
            " ".join(f"{name}={value}" for name, value in PINNED.items()),
        )
    for name, value in PINNED.items():
        os.environ.setdefault(name, value)


def instructions() -> str:
    """Return what PyTorch's instructions here are, such as ``AVX2``."""
    import torch

    return f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
