"""The same application from Python, on a cluster that is somebody else's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from distributed import Client, LocalCluster
from tests.support.command_line import Done, Shell, read_json

from eoap_dask import MosaicParams, RunOptions, cloudless_mosaic
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import NothingFoundError, UsageError
from eoap_dask.files import sha256_of
from eoap_dask.run.events import Event


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    """An active client of a cluster of processes: the reading mustn't happen where the server is."""
    with (
        LocalCluster(n_workers=1, threads_per_worker=2, processes=True, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


def test_the_active_client_is_used_and_left_running(
    client: Client, calm: DemoServer, tmp_path: Path, asked: tuple[Shell, Done]
) -> None:
    before = set(client.scheduler_info()["workers"])
    events: list[Event] = []
    run = cloudless_mosaic(stac=calm.url, output_dir=tmp_path / "out", listener=events.append)
    assert client.status == "running"
    assert set(client.scheduler_info()["workers"]) == before
    assert client.submit(sum, [1, 2]).result() == 3
    assert client.run_on_scheduler(lambda dask_scheduler: len(dask_scheduler.tasks)) <= 1  # nothing is held
    assert run.output == tmp_path / "out"
    assert run.catalog.is_file()
    assert [item["id"] for item in run.items] == [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]
    kinds = [event.kind for event in events]
    assert kinds[0] == "run"
    assert [kinds.count(kind) for kind in ("unit-started", "block-done", "unit-done")] == [3, 3, 3]
    # the same bytes as through the command line, with its own cluster
    for item in run.items:
        name = f"{item['id']}/{item['id']}.tif"
        assert sha256_of(run.output / name) == sha256_of(asked[0].cwd / "monthly-mosaic" / name)


def test_a_given_client_and_declared_parameters(client: Client, calm: DemoServer, tmp_path: Path) -> None:
    params = MosaicParams(stac=calm.url, bands=("red",), resolution=400.0, start_date="2020-12-01")
    run = cloudless_mosaic(params, RunOptions(output_dir=tmp_path / "out"), client=client, bands="green")
    assert read_json(run.output / "run.json")["params"]["bands"] == ["green"]
    assert len(run.items) == 1
    assert client.status == "running"


def test_an_unknown_keyword(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"There is no parameter 'band'\. Expected one of .*bands"):
        cloudless_mosaic(band="red", output_dir=tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"period": "daily"}, "such as 10d, got 'daily'"),
        ({"cluster": "moon"}, "cluster must be auto, local, gateway or a scheduler's address, got 'moon'"),
        ({"composite": "best"}, "composite must be one of median, mean, "),
        ({"block": 1000}, "block must be 512 pixels, or 512 times a power of two, got 1000"),
        ({"bands": ()}, "No band"),
        ({"bands": ("red", "red")}, "'red' was asked for twice"),
        ({"crs": "mercator"}, "'mercator'"),
        ({"crs": "EPSG:4978"}, "EPSG:4978"),
        ({"resolution": float("nan")}, "resolution must be above 0 and finite, got nan"),
        ({"resolution": 1e6}, "larger than the area"),
        ({"resolution": 0.9, "crs": "EPSG:4326"}, "0.9 degrees is larger than the area"),
        ({"max_items": 0}, "max_items must be 1 or more, got 0. It is the largest"),
        ({"max_failures": -1}, "max_failures must be 0 or more, got -1"),
        ({"workers": 0}, "workers must be 1 or more, got 0"),
        ({"worker_memory": "much"}, "'much'"),
        ({"items": "nowhere.json"}, "'nowhere.json'"),
        ({"stac": "catalogue"}, "'catalogue'"),
    ],
    ids=str,
)
def test_values_that_cannot_be_meant(wrong: dict[str, object], says: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError) as fault:
        cloudless_mosaic(output_dir=tmp_path / "out", **wrong)
    assert says in str(fault.value)
    assert list(tmp_path.iterdir()) == []


def test_faults_are_exceptions(calm: DemoServer, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(NothingFoundError, match="Lowest cloud cover seen"):
        cloudless_mosaic(stac=calm.url, output_dir=tmp_path / "out", max_cloud_cover=0.01)
    assert list(tmp_path.iterdir()) == []
    assert capfd.readouterr() == ("", "")  # a library is silent
