"""Five fields, calrissian's arithmetic with them, and a sentence for each way to get them wrong."""

from __future__ import annotations

from typing import Any

import pytest

from eoap_dask.cwl.requirement import CLASS, ClusterSize, is_requirement, remarks, understood

GOOD: dict[str, Any] = {
    "class": CLASS,
    "workerCores": 2,
    "workerCoresLimit": 2,
    "workerMemory": "4G",
    "clusterMaxCores": 8,
    "clusterMaxMemory": "16G",
}


@pytest.mark.parametrize(
    ("fields", "workers"),
    [
        ({}, 4),
        ({"clusterMaxCores": 9}, 4),  # 9 // 2
        ({"clusterMaxCores": 80}, 4),  # 16G // 4G
        ({"clusterMaxMemory": "17G"}, 4),
        ({"workerCoresLimit": 3}, 2),  # 8 // 3: the limit counts, not the request
        ({"workerMemory": "512M", "clusterMaxMemory": "1T"}, 4),
        ({"workerMemory": "1500M", "clusterMaxMemory": "2G", "clusterMaxCores": 99}, 1),  # 2048 // 1500
        ({"workerMemory": "1000000K", "clusterMaxMemory": "1G", "clusterMaxCores": 99}, 1),
    ],
)
def test_the_number_of_workers_is_calrissians(fields: dict[str, Any], workers: int) -> None:
    given = GOOD | fields
    assert remarks(given) == []
    assert understood(given).workers == workers


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"workerCores": None}, "has workerCores None, where a whole number was expected, such as workerCores: 2"),
        ({"workerCores": 1.5}, "has workerCores 1.5, where a whole number was expected, such as workerCores: 2"),
        ({"workerCores": True}, "has workerCores True, where a whole number was expected, such as workerCores: 2"),
        ({"clusterMaxCores": "8"}, "has clusterMaxCores '8', where a whole number was expected, such as"),
        ({"clusterMaxCores": 0}, "has clusterMaxCores 0, where at least 1 was expected, such as clusterMaxCores: 2"),
        ({"workerMemory": 4}, "has workerMemory 4, where text was expected, such as workerMemory: 4G"),
        ({"workerMemory": "much"}, "has workerMemory 'much', which isn't an amount of memory, such as"),
        ({"extra": 1}, "has no field extra; expected workerCores, workerCoresLimit, workerMemory, clusterMaxCores,"),
        ({"workerCores": 4}, "asks for workers of 4 cores with a limit of 2; workerCoresLimit was expected to be"),
        ({"clusterMaxMemory": "2G"}, "leaves room for no worker: clusterMaxMemory 2G is less than workerMemory 4G"),
        ({"clusterMaxCores": 1}, "leaves room for no worker: clusterMaxCores 1 is less than workerCoresLimit 2"),
    ],
)
def test_what_nobody_could_run(fields: dict[str, Any], text: str) -> None:
    first = remarks(GOOD | fields)[0]
    assert first.is_fatal
    assert first.text.startswith(text)


@pytest.mark.parametrize("name", ["workerCores", "workerCoresLimit", "workerMemory", "clusterMaxCores"])
def test_a_missing_field(name: str) -> None:
    (only,) = remarks({key: value for key, value in GOOD.items() if key != name})
    assert only.is_fatal
    assert only.text.startswith(f"lacks the field {name}, such as {name}: ")


@pytest.mark.parametrize("wrong", ["clusterMaxCore", "clustermaxCore", "clusterMaxcores"])
def test_a_misspelt_field_is_one_mistake_and_not_two(wrong: str) -> None:
    fields = {wrong if key == "clusterMaxCores" else key: value for key, value in GOOD.items()}
    (only,) = remarks(fields)
    assert only.text == f"has no field {wrong}, did you mean clusterMaxCores?"


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        (
            {"workerMemory": "2Gi"},
            "has workerMemory '2Gi': calrissian reads only a whole number with K, M, G or T; try 2G",
        ),
        ({"clusterMaxMemory": "16GB"}, "has clusterMaxMemory '16GB': calrissian reads only a whole number"),
        ({"workerMemory": "1.5G"}, "has workerMemory '1.5G': calrissian reads only a whole number"),
        ({"workerMemory": "4g"}, "has workerMemory '4g': calrissian reads only a whole number"),
        ({"workerMemory": "4294967296"}, "has workerMemory '4294967296': calrissian reads only a whole number"),
        ({"workerCores": "$(inputs.n)"}, "has the expression '$(inputs.n)' as workerCores: calrissian hands it"),
        ({"workerMemory": "${return '4G';}"}, "has the expression \"${return '4G';}\" as workerMemory: calrissian"),
    ],
)
def test_what_only_calrissian_takes_amiss(fields: dict[str, Any], text: str) -> None:
    (only,) = remarks(GOOD | fields)
    assert not only.is_fatal
    assert only.text.startswith(text)


def test_what_to_write_instead() -> None:
    assert [remarks(GOOD | {"workerMemory": text})[0].text.rsplit(" ", 1)[1] for text in ("2Gi", "1.5G", "2GB")] == [
        "2G",
        "1536M",
        "1907M",  # 2 * 10**9 // 2**20
    ]


def test_the_variables_are_calrissians() -> None:
    size = ClusterSize(1, 2, "4G", 8, "16G")
    assert size.environment == {
        "DASK_GATEWAY_WORKER_CORES": "1",
        "DASK_GATEWAY_WORKER_CORES_LIMIT": "2",
        "DASK_GATEWAY_WORKER_MEMORY": "4G",
        "DASK_GATEWAY_CLUSTER_MAX_CORES": "8",
        "DASK_GATEWAY_CLUSTER_MAX_RAM": "16G",
    }


@pytest.mark.parametrize(
    ("name", "is_ours"),
    [
        (CLASS, True),
        ("calrissian:DaskGatewayRequirement", True),
        ("DaskGatewayRequirement", True),
        ("other:DaskGatewayRequirement", False),
        ("calrissian:DaskGateway", False),
        (7, False),
    ],
)
def test_its_names(name: object, is_ours: bool) -> None:
    assert is_requirement(name, {"calrissian": "https://calrissian-cwl.github.io/schema#"}) is is_ours
