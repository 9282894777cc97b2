"""Private hosts that the user names: a store of assets beside the STAC API, never one that a catalogue names."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.support.command_line import Shell
from tests.support.stac_api import Api, serving

import eoap_dask as eo
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.fire import fire_pair
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import HrefError, UsageError
from eoap_dask.items.find import find_items, item_from_url
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.query import Query
from eoap_dask.net.hrefs import check_host_names, check_href, named_hosts

STORE = "127.0.0.2"


@pytest.mark.parametrize(
    "name", ["minio", "minio.storage.svc", "a_b", "10.1.2.3", "[fd12::1]", "fd12::1", "Grün.example."]
)
def test_names_and_addresses_are_hosts(name: str) -> None:
    check_host_names([name])


@pytest.mark.parametrize(
    ("name", "tries"),
    [
        ("http://minio.local:9000/bucket", "minio.local"),
        ("minio.local:9000", "minio.local"),
        ("minio/bucket", "minio"),
        ("https://me:SECRET@minio/x", "minio"),
        ("", "minio.example.org"),
        ("*", "\\*"),
        ("a b", "a b"),
    ],
)
def test_what_is_no_host_is_refused(name: str, tries: str) -> None:
    with pytest.raises(UsageError, match=rf"must be names or addresses of hosts.*Try allow_hosts=\['{tries}'\]") as no:
        check_host_names(["minio", name])
    assert "SECRET" not in str(no.value)


@pytest.mark.parametrize(
    "given", [None, 5, True, "127.0.0.1", b"x", [None], [b"x"], range(3), iter(["minio"]), object()]
)
def test_what_is_no_list_of_hosts_is_refused(given: Any) -> None:
    with pytest.raises(UsageError, match="allow_hosts must be a list of names or addresses of hosts"):
        check_host_names(given)


@given(name=st.sampled_from(["169.254.169.254", "metadata.google.internal", "fd00:ec2::254", "100.100.100.200"]))
def test_a_metadata_service_is_refused_though_it_is_named(name: str) -> None:
    host = f"[{name}]" if ":" in name else name
    with pytest.raises(HrefError, match="metadata service"):
        check_href(f"http://{host}/x", private_hosts=named_hosts([name]))


@given(named=st.sampled_from(["10.0.0.1", "127.0.0.2", "fd12::1"]), other=st.sampled_from(["10.0.0.2", "127.0.0.1"]))
def test_one_host_is_not_another(named: str, other: str) -> None:
    hosts = named_hosts([named])
    assert check_href(f"http://{f'[{named}]' if ':' in named else named}:9000/b/a.tif", private_hosts=hosts)
    with pytest.raises(HrefError, match=rf"the private host '{other}'.*name it: allow_hosts=\['{other}'\]"):
        check_href(f"http://{other}/a.tif", private_hosts=hosts)


@pytest.fixture
def store(archive: Archive) -> Iterator[DemoServer]:
    """The archive on a host of its own."""
    with DemoServer(archive, host=STORE) as running:
        yield running


def test_pixels_of_a_host_that_is_named(store: DemoServer, tmp_path: Path, shell: Shell) -> None:
    """The API at 127.0.0.1 leads to a store at another private host."""
    features = [dict(one) for one in find_items(store.url, Query(store.collection))]
    for one in features:
        one["links"] = []
    with serving(Api(features)) as api:
        api.obeys = False
        options = ["--stac", api.url, "--start-date", "2020-10-01", "--end-date", "2020-10-31", "--dry-run"]
        refused = shell.call("cloudless-mosaic", *options)
        assert refused.returncode == 3
        assert f"leads to the private host '{STORE}'" in refused.stderr
        assert f"If it is yours, name it: --allow-host {STORE}." in refused.stderr
        planned = shell.call("cloudless-mosaic", *options, "--allow-host", STORE)
        assert planned.returncode == 0, planned.stderr
        assert shell.call("cloudless-mosaic", *options, "--allow-host", f"http://{STORE}").returncode == 2
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    items = ItemSet.load(path)
    area = {"aoi": features[0]["bbox"], "resolution": 600.0}
    with pytest.raises(HrefError, match="private host"):
        eo.load(items, ["red"], **area)
    cube = eo.load(items, ["red"], **area, allow_hosts=[STORE], cloud_mask="none")
    assert float(cube["red"].isel(time=0).max()) > 0


def test_a_fire_on_a_host_that_is_named(fire: Any, tmp_path: Path) -> None:
    with DemoServer(fire.archive, host=STORE) as running:
        scenes = []
        for item in fire_pair(running.catalogue.items):
            (one,) = item_from_url(running.item_url(item["id"]))
            path = tmp_path / f"{one['id']}.json"
            path.write_text(json.dumps(one | {"links": []}))
            scenes.append(path)
        with pytest.raises(HrefError, match=rf"allow_hosts=\['{STORE}'\]"):
            eo.burned_area(*scenes, resolution=600)
        found = eo.burned_area(*scenes, resolution=600, allow_hosts=[STORE])
        assert float(found["dnbr"].max()) > 0.44
