"""One item by its URL or path, and two of them as one set."""

import json
from dataclasses import replace

import pytest
from tests.support.stac_api import Api, item, serving

from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import HrefError, SearchError, UsageError
from eoap_dask.items.find import item_from_url
from eoap_dask.items.itemset import ItemSet
from eoap_dask.net.signing import NoSigner, PlanetaryComputerSigner, SeveralSigners, TokenSigner, signer_from
from eoap_dask.scenes.parse import read_scenes
from eoap_dask.scenes.sensor import sensor_for

pytestmark = pytest.mark.usefixtures("slept")

SECRET = "hunter2SECRET"
PATH = "/collections/sentinel-2-l2a/items/one"
PC = "https://planetarycomputer.microsoft.com/api/stac/v1"


@pytest.fixture
def api():
    with serving(Api()) as running:
        yield running


def answering(api, value, status=200):
    api.always[PATH] = (status, value if isinstance(value, bytes) else json.dumps(value).encode())
    return f"{api.url}{PATH}"


def refused(kind, source):
    with pytest.raises(kind) as caught:
        item_from_url(source, timeout_s=1, retries=1, option="pre_fire_url")
    assert SECRET not in str(caught.value)
    assert caught.value.expected
    assert caught.value.hint
    assert caught.value.__cause__ is None
    return str(caught.value)


# ------------------------------------------------------------ by URL


def test_an_item_by_its_url(api):
    url = answering(api, item("one", assets={"B04": {"href": "B04.tif"}}))
    found = item_from_url(f" {url}/ ")
    assert [one["id"] for one in found] == ["one"]
    assert found.stac == url
    assert found.collection == "sentinel-2-l2a"
    assert found.signing == {"kind": "none"}
    assert not found.from_file
    assert found.private_hosts() == {"127.0.0.1"}
    assert found.features[0]["assets"]["B04"]["href"] == f"{api.url}/collections/sentinel-2-l2a/items/B04.tif"
    assert api.asked == [("GET", PATH)]


def test_bad_moments_are_retried(api, slept):
    url = answering(api, item("one"))
    api.faults = [(PATH, 503, b"", {}), (PATH, 429, b"", {"Retry-After": "7"}), (PATH, 302, b"", {"Location": PATH})]
    assert len(item_from_url(url)) == 1
    assert len(slept) == 2
    assert 7.0 in slept


@pytest.mark.parametrize(
    "name",
    [
        "earthsearch_v0_S2A_28QCH_20200714_0_L2A.json",
        "earthsearch_v1_S2A_13TDE_20231008_0_L2A.json",
        "earthsearch_v1_c1_S2B_T38XNF_20250422T091553_L2A.json",
        "planetary_computer_S2B_MSIL2A_20190629T212529_T06VVN.json",
    ],
)
def test_real_items_of_all_versions_become_scenes(api, shared, tmp_path, name):
    """1.0.0-beta, 1.0 and 1.1, as their APIs answer them, also without a collection of their own."""
    text = (shared / "stac" / name).read_text()
    document = json.loads(text)
    document["links"] = [one for one in document["links"] if one["rel"] != "root"]  # which is elsewhere
    by_url = item_from_url(answering(api, document))
    (tmp_path / "item.json").write_text(text)
    by_path = item_from_url(tmp_path / "item.json")
    for found in (by_url, by_path):
        assert found.collection == document["collection"]
        private = frozenset()
        (scene,) = read_scenes(
            found, ["red", "swir22"], sensor_for("sentinel-2-l2a"), cloud_mask=True, private_hosts=private
        )
        assert scene.id == document["id"]
        assert scene.tile
    # what an older STAC says more or less
    old = json.loads(text) | {"stac_version": "0.9.0", "links": []}
    del old["bbox"], old["stac_extensions"]
    assert len(item_from_url(answering(api, old))) == 1


def test_a_collection_that_only_a_link_names(api):
    one = item("one", links=[{"rel": "collection", "href": f"{api.url}/collections/sentinel-s2-l2a-cogs/"}])
    del one["collection"]
    found = item_from_url(answering(api, one))
    assert found.collection == found.features[0]["collection"] == "sentinel-s2-l2a-cogs"
    one["links"] = []
    assert item_from_url(answering(api, one)).collection == ""


def test_signing_is_told_by_the_landing_page_of_the_same_host(api):
    api.links = [{"rel": "eoap:token", "href": f"{api.url}/token"}]
    assets = {"B04": {"href": f"{api.url}/x.tif?sig={SECRET}&se=2"}}
    url = answering(api, item("one", assets=assets, links=[{"rel": "root", "href": f"{api.url}/"}]))
    found = item_from_url(url)
    assert found.signing == {"kind": "token", "endpoint": f"{api.url}/token"}
    assert found.features[0]["assets"]["B04"]["href"] == f"{api.url}/x.tif"
    elsewhere = item("one", assets=assets, links=[{"rel": "root", "href": "http://127.0.0.2:1/"}])
    assert item_from_url(answering(api, elsewhere)).signing == {"kind": "none"}
    api.always["/gone"] = (404, b"")
    gone = item("one", links=[{"rel": "root", "href": f"{api.url}/gone"}])
    assert item_from_url(answering(api, gone)).signing == {"kind": "none"}


def test_signing_is_told_by_the_links_of_a_copy(api, tmp_path):
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B04.tif"
    links = [{"rel": "root", "href": PC}]
    one = item("one", links=links, assets={"B04": {"href": f"{href}?st=1&se=2&sp=rl&sig={SECRET}"}})
    (tmp_path / "one.json").write_text(json.dumps(one))
    for found in (item_from_url(answering(api, one)), item_from_url(tmp_path / "one.json")):
        assert found.signing == {"kind": "planetary-computer"}
        assert found.features[0]["assets"]["B04"]["href"] == href


def test_an_item_of_the_demo(archive):
    with DemoServer(archive) as server:
        name = archive.items[0]["id"]
        found = item_from_url(f"{server.url}/collections/{archive.collection}/items/{name}")
        assert [one["id"] for one in found] == [name]
        text = refused(SearchError, f"{server.url}/collections/{archive.collection}/items/nothing")
    assert "answered 404" in text


# ------------------------------------------------------------ what is no item


@pytest.mark.parametrize(
    ("answer", "status", "says"),
    [
        (b"<!DOCTYPE html><p>Sign in", 200, "answered a web page instead of JSON"),
        (b"hello", 200, "answered something else instead of JSON"),
        (b"[]", 200, "is JSON, but not STAC"),
        ({"hello": 1}, 200, "is JSON, but not STAC"),
        ({"type": "Collection", "id": "c", "links": []}, 200, "is a STAC collection, not an item"),
        ({"type": "Catalog", "id": "c", "links": []}, 200, "is a STAC catalog, not an item"),
        ({"type": "FeatureCollection", "features": []}, 200, "is a list of items, not an item"),
        ({"type": "Feature", "id": "a"}, 200, "isn't a STAC item"),
        ({**item("one"), "properties": {}}, 200, "has no readable time"),
        (b'{"detail": "no such item"}', 404, "answered 404 (no such item)."),
        (b"", 401, "answered 401."),
        (b"", 503, "answered 503."),
    ],
)
def test_answers_that_are_no_item(api, answer, status, says):
    text = refused(SearchError, answering(api, answer, status))
    assert says in text
    assert text.startswith(f"The STAC item at {api.url}{PATH} ")
    assert "Expected the URL of one STAC item, as JSON." in text or "status 200" in text


def test_places_that_are_none(api, tmp_path):
    with serving(Api()) as gone:
        pass
    assert "the connection was refused" in refused(SearchError, f"{gone.url}{PATH}")
    assert "can't be resolved" in refused(SearchError, "http://no-such-host.invalid/item.json")
    api.faults = [(PATH, 302, b"", {"Location": "http://169.254.169.254/"})]
    assert "link-local" in refused(HrefError, f"{api.url}{PATH}")
    assert "of pre_fire_url isn't valid" in refused(UsageError, "ftp://example.org/x")
    assert "contains a user name, a query" in refused(UsageError, f"https://example.org/x?sig={SECRET}")
    assert "given as pre_fire_url" in refused(UsageError, "none.json")
    path = tmp_path / "items.json"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [item("a"), item("b")]}))
    assert "has 2 items" in refused(UsageError, path)
    path.write_text(json.dumps({"type": "Collection", "id": "c"}))
    assert "it is a STAC Collection" in refused(UsageError, path)


# ------------------------------------------------------------ two as one


TOKEN = {"kind": "token", "endpoint": "https://one.example.org/token"}
OTHER = {"kind": "token", "endpoint": "https://two.example.org/token"}
AZURE = {"kind": "planetary-computer"}
NONE = {"kind": "none"}


def one_of(name, signing=NONE, stac="https://example.org/stac", **more):
    return ItemSet((item(name),), stac, "sentinel-2-l2a", signing, **{"lowest_cloud_cover": 10.0, **more})


@pytest.mark.parametrize(
    ("first", "second", "together"),
    [
        (NONE, NONE, NONE),
        (NONE, AZURE, AZURE),
        (TOKEN, NONE, TOKEN),
        (TOKEN, TOKEN, TOKEN),
        (TOKEN, AZURE, {"kind": "several", "of": [TOKEN, AZURE]}),
        (TOKEN, OTHER, {"kind": "several", "of": [TOKEN, OTHER]}),
        ({"kind": "several", "of": [TOKEN, AZURE]}, AZURE, {"kind": "several", "of": [TOKEN, AZURE]}),
    ],
)
def test_signing_of_two_sets(tmp_path, first, second, together):
    places = ("https://one.example.org/stac", "https://two.example.org/stac")
    merged = one_of("a", first, places[0]).merged(one_of("b", second, places[1]))
    assert merged.signing == together
    assert [one["id"] for one in merged] == ["a", "b"]
    assert ItemSet.load(merged.save(tmp_path / "items.json")) == replace(merged, from_file=True)


def test_each_asset_is_signed_as_its_place_is(monkeypatch):
    signer = signer_from({"kind": "several", "of": [TOKEN, OTHER]})
    assert signer == SeveralSigners((TokenSigner(TOKEN["endpoint"]), TokenSigner(OTHER["endpoint"])))
    monkeypatch.setattr(TokenSigner, "sign", lambda self, href, fresh=False: _signed(self, href))
    assert signer.sign("https://one.example.org/x.tif") == "https://one.example.org/x.tif?by=one"
    assert signer.sign("https://two.example.org/x.tif") == "https://two.example.org/x.tif?by=two"
    assert signer.sign("https://else.example.org/x.tif") == "https://else.example.org/x.tif"
    assert signer_from(NONE) == NoSigner()
    assert PlanetaryComputerSigner() in signer_from({"kind": "several", "of": [AZURE, TOKEN]}).signers


def _signed(signer, href):
    host = signer.endpoint.split("/")[2]
    return f"{href}?by={host.split('.')[0]}" if host in href else href


def test_two_servers_that_sign(archive, tmp_path):
    """Tokens of two servers, each for its own files: real requests, none mixed up."""
    import requests

    with DemoServer(archive, sign=True) as one, DemoServer(archive, sign=True) as two:
        name = archive.items[0]["id"]
        first, second = (
            item_from_url(f"{server.url}/collections/{archive.collection}/items/{name}") for server in (one, two)
        )
        merged = first.merged(replace(second, features=tuple({**item, "id": "other"} for item in second.features)))
        signer = merged.signer(merged.private_hosts())
        hrefs = [asset["href"] for item in merged for asset in item["assets"].values()]
        assert {href.split("/")[2] for href in hrefs} == {one.url.split("/")[2], two.url.split("/")[2]}
        for href in hrefs:
            first_byte = {"Range": "bytes=0-0"}
            assert requests.get(href, headers=first_byte, timeout=10).status_code == 403
            assert requests.get(signer.sign(href), headers=first_byte, timeout=10).status_code == 206


def test_one_place_is_not_signed_in_two_ways():
    other = {"kind": "token", "endpoint": "https://one.example.org/another"}
    with pytest.raises(UsageError, match="Assets of one place would be signed in two ways") as caught:
        one_of("a", TOKEN).merged(one_of("b", other))
    assert "Take both sets of items from the same catalogue." in str(caught.value)


def test_what_else_becomes_of_two_sets():
    first = one_of("a", stac="http://127.0.0.1:1/stac", truncated=True, lowest_cloud_cover=5.0)
    second = one_of("b", stac="http://10.0.0.1/stac", lowest_cloud_cover=3.0)
    merged = first.merged(second)
    assert merged.private_hosts() == {"127.0.0.1", "10.0.0.1"}
    assert merged.private_hosts("https://example.org") == frozenset()
    assert merged.truncated
    assert merged.lowest_cloud_cover == 3
    assert merged.collection == "sentinel-2-l2a"
    assert merged.stac == "http://127.0.0.1:1/stac"
    assert merged.merged(second) == merged
    # what a file claims is no more to be trusted than before
    claim = replace(first, from_file=True)
    assert claim.merged(second).private_hosts() == {"10.0.0.1"}
    assert claim.merged(replace(second, from_file=True)).private_hosts() == frozenset()
    assert replace(first, collection="x").merged(second).collection == ""
