"""Variables of the environment: what they set, and in which order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from eoap_dask.applications.change_detection.environment import settings
from eoap_dask.cluster.options import ClusterOptions
from eoap_dask.cluster.size import local_size
from eoap_dask.errors import UsageError


@pytest.mark.parametrize(
    ("environ", "given", "expected"),
    [
        ({}, (), {}),
        ({"MAX_WORKERS": "4", "MEMORY_LIMIT_GB": "2.5"}, (), {"cores": 4, "memory": 5 << 29}),
        ({"MAX_WORKERS": "4", "MEMORY_LIMIT_GB": "2.5"}, ("workers", "worker_memory"), {}),
        ({"DATA_DIR": " data "}, (), {"output_dir": Path("data")}),
        ({"DATA_DIR": "data"}, ("output_dir",), {}),
        ({"DATA_DIR": "", "MAX_WORKERS": " "}, (), {}),
        ({"LOG_LEVEL": "debug"}, (), {"level": "DEBUG"}),
        ({"LOG_LEVEL": "WARNING"}, (), {"level": "WARNING"}),
        ({"LOG_LEVEL": "WARNING"}, ("verbose",), {}),
        ({"PIPELINE_MODE": "local_only"}, (), {}),
        (
            {"BTC_MODEL_CHECKPOINT": "me/mine", "BTC_THRESHOLD": "0.5"},
            (),
            {"weights": "me/mine", "threshold": 0.5},
        ),
        ({"BTC_MODEL_CHECKPOINT": "me/mine", "BTC_THRESHOLD": "0.5"}, ("weights", "threshold"), {}),
    ],
)
def test_what_variables_set(environ: dict[str, str], given: tuple[str, ...], expected: dict[str, Any]) -> None:
    assert settings(environ, given) == (expected, [])


def test_what_is_read_by_nothing_is_said() -> None:
    found, said = settings({"DB_HOST": "db", "MONITORING_PORT": "8080", "BTC_BATCH": "2"}, ())
    assert found == {}
    assert [sentence.split(" is read by nothing")[0] for sentence in said] == [
        "DB_HOST",
        "MONITORING_PORT",
        "BTC_BATCH",
    ]
    assert "db" not in " ".join(said).split()


@pytest.mark.parametrize(
    ("name", "value", "sentence"),
    [
        ("MAX_WORKERS", "0", "MAX_WORKERS of the environment must be a whole number above 0, got '0'"),
        ("MAX_WORKERS", "2.5", "a whole number above 0"),
        ("MEMORY_LIMIT_GB", "lots", "MEMORY_LIMIT_GB of the environment must be a number above 0"),
        ("LOG_LEVEL", "loud", "LOG_LEVEL of the environment must be DEBUG or INFO"),
        ("PIPELINE_MODE", "hybrid", "needs a database, which is still to come"),
        ("PIPELINE_MODE", "database_only", "needs a database, which is still to come"),
        ("PIPELINE_MODE", "cloud", "must be local_only, got 'cloud'"),
    ],
)
def test_what_makes_no_sense_is_refused(name: str, value: str, sentence: str) -> None:
    with pytest.raises(UsageError, match=sentence):
        settings({name: value}, ())


def test_limits_are_of_all_workers_together() -> None:
    whole = local_size()
    one = local_size(cores=1, memory=1 << 30)
    assert (one.slots, one.memory_per_worker) == (1, 1 << 30)
    assert local_size(cores=10_000, memory=1 << 60) == whole
    assert local_size(workers=2, cores=2, memory=1 << 30).memory_per_worker == 1 << 29


@pytest.mark.parametrize(
    ("how", "workers"),
    [
        ({}, None),
        ({"cores": 8}, 8),
        ({"cores": 8, "worker_cores": 2.0}, 4),
        ({"cores": 8, "memory": 3 << 30, "worker_memory": "1G"}, 3),
        ({"cores": 8, "workers": 2}, 2),
        ({"memory": 3 << 30}, 2),
        ({"cores": 1, "worker_cores": 4.0}, 1),
    ],
)
def test_a_gateway_starts_as_many_workers_as_fit(how: dict[str, Any], workers: int | None) -> None:
    assert ClusterOptions(**how).gateway_workers == workers
