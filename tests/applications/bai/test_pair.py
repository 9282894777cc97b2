"""Where two scenes can be compared, also at the edge of the map."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from eoap_dask.applications.bai.pair import common_ground
from eoap_dask.errors import UsageError
from eoap_dask.scenes.model import Pass, Scene, Source


def one_pass(name: str, left: float, crs: str = "EPSG:32601") -> Pass:
    source = Source("B04", "https://x", crs, (10.0, 0.0, left, 0.0, -10.0, 40_000.0), (1000, 1000), 0, 0)
    when = datetime(2021, 7, 1, tzinfo=UTC)
    return Pass(name, when, (Scene(name, "", when, name, "", (5, 0), (source,), None, ()),))


def test_common_ground_is_what_both_show() -> None:
    found = common_ground((one_pass("a", 165_000.0), one_pass("b", 168_000.0)), "EPSG:32601")
    assert found == (168_000.0, 30_000.0, 175_000.0, 40_000.0)


def test_scenes_apart_share_no_ground() -> None:
    with pytest.raises(UsageError, match="share no ground"):
        common_ground((one_pass("a", 165_000.0), one_pass("b", 180_000.0)), "EPSG:32601")


def test_ground_across_the_antimeridian_needs_a_crs_that_goes_on_there() -> None:
    passes = one_pass("a", 162_000.0), one_pass("b", 163_000.0)  # 180° is at 166 000 m
    with pytest.raises(UsageError, match=r"can't be placed in EPSG:4326\..* Try another crs, or give an aoi\."):
        common_ground(passes, "EPSG:4326")
    assert common_ground(passes, "EPSG:32601") == (163_000.0, 30_000.0, 172_000.0, 40_000.0)
