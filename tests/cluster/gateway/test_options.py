"""What is asked for becomes what a Gateway says its options are."""

from __future__ import annotations

from typing import Any

import pytest
from dask_gateway.options import Options

from eoap_dask.cluster.gateway.access import skips_proxy
from eoap_dask.cluster.gateway.client import GatewayOptions, name_from_environment
from eoap_dask.cluster.gateway.options import Memory, fill
from eoap_dask.errors import UsageError


def offered(**changes: Any) -> Options:
    """Options as a Gateway describes them."""
    specs = {
        "worker_cores": {"default": 1.0, "spec": {"type": "float", "min": 0.1}},
        "worker_cores_limit": {"default": 1.0, "spec": {"type": "float"}},
        "worker_memory": {"default": "2G", "spec": {"type": "string"}},
        "image": {"default": "", "spec": {"type": "string"}},
        "threads": {"default": 1, "spec": {"type": "int"}},
        "spot": {"default": False, "spec": {"type": "bool"}},
        "profile": {"default": "small", "spec": {"type": "select", "options": ["small", "large"]}},
        "labels": {"default": {}, "spec": {"type": "mapping"}},
    }
    specs |= changes
    return Options._from_spec([{"field": name, "label": name, **spec} for name, spec in specs.items() if spec])


def filled(wanted: dict[str, Any], **changes: Any) -> dict[str, Any]:
    options = offered(**changes)
    fill(options, wanted, "There is no option")
    return dict(options)


@pytest.mark.parametrize(
    ("name", "text", "value"),
    [
        ("worker_cores", "2", 2.0),
        ("worker_cores", 2, 2.0),
        ("threads", "3", 3),
        ("threads", 3.0, 3),
        ("spot", "True", True),
        ("spot", "no", False),
        ("spot", True, True),
        ("profile", "large", "large"),
        ("image", "1.0", "1.0"),
        ("labels", '{"a": 1}', {"a": 1}),
        ("worker_memory", "4 whatever", "4 whatever"),
    ],
)
def test_text_becomes_what_the_option_is(name: str, text: Any, value: Any) -> None:
    found = filled({name: text})[name]
    assert found == value
    assert type(found) is type(value)


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("worker_cores", "many", "a number"),
        ("worker_cores", "-1", "a number"),
        ("threads", "1.5", "a whole number"),
        ("spot", "perhaps", "true or false"),
        ("profile", "huge", "text"),
        ("labels", "{", "a JSON object"),
        ("labels", "[1]", "a JSON object"),
        ("worker_memory", Memory("4X"), "a number with K"),
    ],
)
def test_a_wrong_value_is_told(name: str, value: Any, expected: str) -> None:
    with pytest.raises(UsageError) as caught:
        filled({name: value})
    assert expected in str(caught.value)


def test_an_unknown_option_is_told_with_those_there_are() -> None:
    with pytest.raises(UsageError, match=r"no option 'colour'.*worker_cores \(a number\).*spot \(true or false\)"):
        filled({"colour": "red"})


@pytest.mark.parametrize(
    ("amount", "field", "value"),
    [
        ("4GiB", {"default": "2G", "spec": {"type": "string"}}, "4G"),
        ("4GB", {"default": "2G", "spec": {"type": "string"}}, "3814M"),
        ("1.5G", {"default": "2G", "spec": {"type": "string"}}, "1536M"),
        ("4G", {"default": 2.0, "spec": {"type": "float"}}, 4.0),
        ("512M", {"default": 2.0, "spec": {"type": "float"}}, 0.5),
        ("4", {"default": 2, "spec": {"type": "int"}}, 4),
        ("4GiB", {"default": 2, "spec": {"type": "int"}}, 4),
    ],
)
def test_memory_is_said_as_the_gateway_reads_it(amount: str, field: dict[str, Any], value: Any) -> None:
    assert filled({"worker_memory": Memory(amount)}, worker_memory=field)["worker_memory"] == value


@pytest.mark.parametrize(
    ("wanted", "limit"),
    [
        ({"worker_cores": 4}, 4.0),
        ({"worker_cores": 0.5}, 1.0),
        ({"worker_cores": 4, "worker_cores_limit": 8}, 8.0),
        ({}, 1.0),
    ],
)
def test_a_limit_is_never_below_the_request(wanted: dict[str, Any], limit: float) -> None:
    assert filled(wanted)["worker_cores_limit"] == limit


@pytest.mark.parametrize(
    "options",
    [
        GatewayOptions(workers=0),
        GatewayOptions(workers=-1),
        GatewayOptions(worker_cores=0),
        GatewayOptions(worker_cores=float("nan")),
        GatewayOptions(worker_memory="much"),
        GatewayOptions(timeout_s=0),
        GatewayOptions(name=""),
        GatewayOptions(name="../escape"),
        GatewayOptions(worker_cores=2, options={"worker_cores": 3}),
    ],
)
def test_what_makes_no_sense_is_refused_before_anything_is_contacted(options: GatewayOptions) -> None:
    with pytest.raises(UsageError):
        options.check()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (GatewayOptions(), "2 workers"),
        (GatewayOptions(workers=1), "1 worker"),
        (GatewayOptions(workers=4, worker_cores=2), "4 workers with 2 cores each"),
        (GatewayOptions(workers=1, worker_cores=1, worker_memory="4G"), "1 worker with 1 core and 4G of memory"),
    ],
)
def test_a_size_in_words(options: GatewayOptions, words: str) -> None:
    assert options.size == words


@pytest.mark.parametrize(("value", "name"), [(None, None), ("", None), ("  ", None), ("abc", "abc")])
def test_the_cluster_of_the_environment(value: str | None, name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DASK_CLUSTER", raising=False)
    if value is not None:
        monkeypatch.setenv("DASK_CLUSTER", value)
    assert name_from_environment() == name


@pytest.mark.parametrize(
    ("address", "no_proxy", "skips"),
    [
        ("http://127.0.0.1:8000", "", True),
        ("http://localhost:8000", "", True),
        ("https://gateway.example.com", "", False),
        ("https://gateway.example.com", ".example.com", True),
    ],
)
def test_proxies_are_skipped_where_they_should_be(
    address: str, no_proxy: str, skips: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example.com:3128")
    monkeypatch.setenv("no_proxy", no_proxy)
    assert skips_proxy(address) is skips
