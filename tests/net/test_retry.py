"""Trying an asset again: attempts, pauses, deadline; alone, and through GDAL on a server that fails."""

from __future__ import annotations

import pickle
import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile

from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError, UsageError
from eoap_dask.geo.window import Window
from eoap_dask.net.retry import Attempt, Retry, retrying
from eoap_dask.net.signing import NoSigner, TokenSigner
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.scenes.model import Source

HERE = frozenset({"127.0.0.1"})
QUICK = Retry(attempts=3, backoff_s=0.01)
RAMP = np.arange(512 * 512, dtype=np.uint32).reshape(512, 512).astype(np.uint16)
"""512 kB: more than GDAL fetches at once."""
PLACE = [(33550, "d", 3, (10.0, 10.0, 0.0), True), (33922, "d", 6, (0.0, 0.0, 0.0, 5e5, 5e6, 0.0), True)]


@dataclass
class Action:
    """Fails some times, then works."""

    failures: int
    takes_s: float = 0.0
    seen: list[Attempt] = field(default_factory=list)
    at: list[float] = field(default_factory=list)

    def __call__(self, attempt: Attempt) -> str:
        self.seen.append(attempt)
        self.at.append(time.monotonic())
        time.sleep(self.takes_s)
        if len(self.seen) <= self.failures:
            raise OSError(f"fault {len(self.seen)}")
        return "done"


def give_up(fault: Exception, attempts: int) -> Exception:
    return LookupError(f"{fault}, {attempts}")


@pytest.mark.parametrize("failures", [0, 1, 2])
def test_it_goes_on_until_it_works(failures: int) -> None:
    action = Action(failures)

    assert retrying(action, QUICK, (OSError,), give_up) == "done"
    assert [attempt.number for attempt in action.seen] == list(range(1, failures + 2))


def test_after_the_last_attempt_the_last_fault_is_told() -> None:
    action = Action(9)
    with pytest.raises(LookupError, match=r"^fault 3, 3$") as caught:
        retrying(action, QUICK, (OSError,), give_up)

    assert len(action.seen) == 3
    assert caught.value.__context__ is None  # what GDAL raises can't be pickled
    assert caught.value.__cause__ is None


def test_one_attempt_is_none_again() -> None:
    with pytest.raises(LookupError, match=r"^fault 1, 1$"):
        retrying(Action(1), Retry(attempts=1), (OSError,), give_up)


def test_an_unexpected_fault_is_raised_at_once_as_it_is() -> None:
    action = Action(1)
    with pytest.raises(OSError, match="fault 1"):
        retrying(action, QUICK, (KeyError,), give_up)
    assert len(action.seen) == 1


def test_pauses_double() -> None:
    action = Action(3)
    retrying(action, Retry(attempts=4, backoff_s=0.1), (OSError,), give_up)

    pauses = np.diff(action.at)
    for pause, expected in zip(pauses, (0.1, 0.2, 0.4), strict=True):
        assert pause >= 0.5 * expected  # at random by a half; a loaded machine only makes it longer


def test_no_attempt_begins_after_the_deadline() -> None:
    action = Action(99, takes_s=0.05)
    began = time.monotonic()
    with pytest.raises(LookupError) as caught:
        retrying(action, Retry(attempts=99, backoff_s=0.01, deadline_s=0.5), (OSError,), give_up)

    assert 1 < len(action.seen) < 11  # twelve of them don't fit
    assert caught.value.args[0] == f"fault {len(action.seen)}, {len(action.seen)}"
    assert max(action.at) - began < 0.7  # a pause that a busy machine stretched may end late
    assert [a.left_s for a in action.seen] == sorted((a.left_s for a in action.seen), reverse=True)
    assert all(0 < a.left_s <= 0.5 for a in action.seen)


@pytest.mark.parametrize("wrong", [{"attempts": 0}, {"backoff_s": -1.0}, {"deadline_s": 0.0}])
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        replace(Retry(), **wrong).check()
    Retry().check()


# ----------------------------------------------------------------------------------------------------
# Through GDAL


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("files")
    tifffile.imwrite(root / "ramp.tif", RAMP, tile=(64, 64), photometric="minisblack", extratags=PLACE)
    return root


@pytest.fixture
def server(files: Path) -> Iterator[ServerProcess]:
    with ServerProcess(Catalogue(files, [], "none"), sign=True) as running:
        yield running


def source(server: ServerProcess) -> Source:
    return Source(
        asset="B04",
        href=f"{server.files_url}/ramp.tif",
        crs="EPSG:32632",
        shape=(512, 512),
        transform=(10.0, 0.0, 500000.0, 0.0, -10.0, 5000000.0),
        nodata=0,
        offset=0,
    )


def read(raster: Any, row: int = 0) -> int:
    out = np.zeros((64, 64), np.uint16)
    raster.read(0, Window(row, row + 64, 0, 64), out)
    return int(out[0, 1])


def test_a_signature_that_expires_between_two_reads_is_renewed(server: ServerProcess) -> None:
    raster = GdalReader(TokenSigner(f"{server.origin}/token"), QUICK, HERE).open(source(server), "item")
    try:
        assert read(raster) == 1
        server.revoke_tokens()
        server.stats.reset()
        assert read(raster, 448) == RAMP[448, 1]
        assert server.stats.ranges  # of files, which only a good signature opens
    finally:
        raster.close()


def test_without_a_signature_the_asset_is_named_with_its_attempts(server: ServerProcess) -> None:
    raster = GdalReader(NoSigner(), QUICK, HERE).open(source(server), "item")
    with pytest.raises(AssetError, match=r"^The asset 'B04' of item 'item' can't be read after 3 attempts: .*403") as e:
        read(raster)

    assert e.value.attempts == 3
    copy = pickle.loads(pickle.dumps(e.value))  # noqa: S301 - our own
    assert (copy.item_id, copy.asset, copy.attempts) == ("item", "B04", 3)


def test_a_server_that_hangs_is_given_up_at_the_deadline(server: ServerProcess) -> None:
    server.faults = {"ramp": "hang:120"}
    retry = Retry(attempts=3, backoff_s=0.01, deadline_s=1.0)
    raster = GdalReader(TokenSigner(f"{server.origin}/token"), retry, HERE).open(source(server), "item")
    began = time.monotonic()
    with pytest.raises(AssetError, match="can't be read after"):
        read(raster)

    assert time.monotonic() - began < 30  # GDAL's own patience is 60 s for each request
