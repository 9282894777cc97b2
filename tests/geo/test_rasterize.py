"""Pixels to shapes and back, in many threads."""

from __future__ import annotations

import subprocess
import sys

import pytest

HAMMER = """
import sys
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import shapely
from affine import Affine

from eoap_dask.geo.rasterize import rasterize, shapes

sys.setswitchinterval(1e-5)
labels = np.zeros((50, 50), np.int32)
labels[1:3, 2:5] = 7


def once(number):
    ((outline, label),) = shapes(labels, labels > 0, Affine.identity())
    assert label == 7
    painted = rasterize([shapely.geometry.shape(outline)], labels.shape, Affine.identity())
    assert (painted == (labels > 0)).all()


once(0)  # what is imported now has filters of its own, and may warn
warnings.simplefilter("always")
before = list(warnings.filters)
with ThreadPoolExecutor(4) as pool:
    list(pool.map(once, range(3000)))
assert warnings.filters == before
"""


@pytest.mark.long
def test_threads_neither_warn_nor_change_what_the_process_shows() -> None:
    program = [sys.executable, "-W", "ignore", "-c", HAMMER]
    done = subprocess.run(program, capture_output=True, text=True, check=False, timeout=120)
    assert (done.returncode, done.stderr) == (0, "")
