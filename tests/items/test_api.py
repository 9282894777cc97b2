import json
import threading
from contextlib import suppress
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, date, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping
from tests.support.stac_api import CONFORMS, Api, item, serving

from eoap_dask.errors import CollectionError, HrefError, OutputError, SearchError, UsageError
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.items import api as api_module
from eoap_dask.items.find import explain_nothing, find_items
from eoap_dask.items.item import footprint, instant, normalised, ordered
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.options import SearchParams
from eoap_dask.items.query import Query
from eoap_dask.items.search import Search
from eoap_dask.net import http as fetch_module
from eoap_dask.net.connections import login_for

pytestmark = pytest.mark.usefixtures("slept")

SECRET = "hunter2SECRET"
AOI = parse_aoi("12,41,13,42")
START, END = date(2021, 7, 1), date(2021, 7, 31)


@pytest.fixture
def api():
    clear = [item(f"s{n:02}", day=n, cloud=float(n)) for n in range(1, 26)]
    cloudy = [item("cloudy", 3, 80.0), item("unknown", 4, None)]
    elsewhere = [item("far", 5, 1.0, west=40.0), item("landsat", 6, 1.0, collection="landsat-c2-l2")]
    late = [{**item("late"), "properties": {"datetime": "2021-08-01T00:00:00Z", "eo:cloud_cover": 1}}]
    with serving(Api(clear + cloudy + elsewhere + late)) as running:
        yield running


def find(api, **options):
    options = {"max_cloud_cover": 20, "max_items": 1000, "timeout_s": 5.0, "retries": 3, **options}
    collection = options.pop("collection", "sentinel-2-l2a")
    aoi = options.pop("aoi", AOI)
    stac = options.pop("stac") if "stac" in options else api.url
    query = Query(collection, aoi, START, END, options.pop("max_cloud_cover"), options.pop("max_items"))
    return find_items(stac, query, **options)


def ids(found):
    return [one["id"] for one in found]


def refused(api, kind=SearchError, **options):
    with pytest.raises(kind) as caught:
        find(api, **options)
    assert SECRET not in str(caught.value)
    assert SECRET not in repr(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.expected
    assert caught.value.hint
    return str(caught.value)


# ------------------------------------------------------------ what is found


@pytest.mark.parametrize("page_size", [1, 4, 100])
def test_search_pages_filters_and_sorts(api, page_size):
    found = find(api, page_size=page_size)
    assert ids(found) == [f"s{n:02}" for n in range(1, 20)]
    assert not found.truncated
    assert found.stac == api.url
    assert found.collection == "sentinel-2-l2a"
    assert found.signing == {"kind": "none"}
    assert found.lowest_cloud_cover == 1
    assert found.private_hosts() == {"127.0.0.1"}
    body = api.searches[0]
    assert body["query"] == {"eo:cloud_cover": {"lt": 20}}
    assert body["datetime"] == "2021-07-01T00:00:00Z/2021-07-31T23:59:59.999999Z"
    assert body["bbox"] == [12, 41, 13, 42]
    assert body["limit"] == page_size


@pytest.mark.parametrize(("max_items", "truncated"), [(5, True), (18, True), (19, False), (20, False)])
def test_max_items(api, max_items, truncated):
    found = find(api, max_items=max_items, page_size=4)
    assert len(found) == min(max_items, 19)
    assert found.truncated == truncated


def test_max_items_asks_for_one_more_only(api):
    assert len(find(api, max_items=5)) == 5
    assert [body["limit"] for body in api.searches] == [6]


@pytest.mark.parametrize("odd", ["no query", "ignores all"])
def test_an_api_that_cannot_filter_is_filtered_here(api, odd):
    if odd == "no query":
        api.conforms = [one for one in CONFORMS if "#query" not in one]
    else:
        api.obeys = False
    found = find(api, page_size=3)
    assert ids(found) == [f"s{n:02}" for n in range(1, 20)]
    assert ("query" in api.searches[0]) == (odd == "ignores all")
    if odd == "no query":
        assert find(api, page_size=3, max_cloud_cover=0.5).lowest_cloud_cover == 1
        assert len(find(api, max_items=3)) == 3
        assert find(api, max_items=3).truncated


def test_a_cloud_cover_of_100_keeps_all(api):
    assert len(find(api, max_cloud_cover=100)) == 27
    assert "query" not in api.searches[0]


def test_a_shape_is_sent_as_intersects(api):
    assert len(find(api, aoi=parse_aoi("POLYGON ((12 41, 13 41, 12 42, 12 41))"))) == 19
    assert api.searches[0]["intersects"]["type"] == "Polygon"
    assert "bbox" not in api.searches[0]


def test_across_the_antimeridian(api):
    api.features = [item("west", west=178.5), item("east", west=-179.9), item("no", west=170.0)]
    assert ids(find(api, aoi=parse_aoi("178,41,-179,42"))) == ["east", "west"]
    assert api.searches[0]["intersects"]["type"] == "MultiPolygon"


def test_an_api_without_post(api):
    api.post = False
    assert len(find(api, page_size=100)) == 19
    assert ("GET", "/search") in api.asked


def test_an_api_that_announces_get_only(api):
    api.landing_of = api.landing

    def landing():
        found = api.landing_of()
        found["links"][0]["method"] = "GET"
        return found

    api.landing = landing
    assert len(find(api)) == 19
    assert ("POST", "/search") not in api.asked


def test_hrefs_are_absolute_and_keep_their_query(api):
    assets = {
        "a": {"href": "../B04.tif?key=1"},
        "b": {"href": "https://example.org/x.tif?sig=1&se=2"},
        "c": {"href": "s3://bucket/x"},
        "d": {"no": "href"},
    }
    links = [{"rel": "self", "href": "https://example.org/collections/c/items/one"}]
    api.features = [item("one", assets=assets, links=links), item("two", 2, assets={"a": {"href": "B.tif"}})]
    one, two = find(api)
    assert {key: asset["href"] for key, asset in one["assets"].items()} == {
        "a": "https://example.org/collections/c/B04.tif?key=1",
        "b": "https://example.org/x.tif?sig=1&se=2",
        "c": "s3://bucket/x",
    }
    assert two["assets"]["a"]["href"] == f"{api.url}/B.tif"


def test_a_token_endpoint_is_noted_and_signatures_are_dropped(api):
    api.links = [{"rel": "eoap:token", "href": f"{api.url}/token"}]
    api.features = [item("one", assets={"a": {"href": f"{api.url}/x.tif?sig={SECRET}&se=2"}})]
    found = find(api)
    assert found.signing == {"kind": "token", "endpoint": f"{api.url}/token"}
    assert found.features[0]["assets"]["a"]["href"] == f"{api.url}/x.tif"
    assert found.signer(found.private_hosts()).endpoint == f"{api.url}/token"
    assert ("GET", "/token") not in api.asked


def test_nothing(api):
    found = find(api, max_cloud_cover=0.5)
    assert len(found) == 0
    assert found.lowest_cloud_cover is None


def test_a_slash_and_a_page_in_the_url_do_no_harm(api):
    assert len(find(api, stac=f" {api.url}/ ")) == 19


def test_not_a_number_is_no_json_but_common(api):
    api.features[0]["properties"]["eo:snow_cover"] = float("nan")
    assert find(api).features[0]["properties"]["eo:snow_cover"] is None


# ------------------------------------------------------------ retries


def test_bad_moments_are_retried_also_for_post(api, slept):
    api.faults = [
        ("/", 503, b"", {}),
        ("/search", 500, b"<html>", {}),
        ("/search", 429, b"", {"Retry-After": "7"}),
        ("/search", 502, b"", {"Retry-After": "100000"}),
        ("/collections/sentinel-2-l2a", 504, b"", {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}),
    ]
    assert len(find(api)) == 19
    assert 7.0 in slept
    assert 60.0 in slept
    assert 0.0 in slept
    assert max(slept) <= 60


def test_answers_that_break_off_are_retried(api):
    api.drops = 2
    assert len(find(api)) == 19
    api.drops = 9
    assert "can't be reached: the connection was lost." in refused(api)


def test_retries_come_to_an_end(api, slept):
    api.always["/search"] = (503, json.dumps({"detail": f"down, see https://h/x?sig={SECRET}"}).encode())
    text = refused(api)
    assert f"The catalogue at {api.url}/search answered 503 (down, see https://h/x)." in text
    assert "Try again later" in text
    assert api.asked.count(("POST", "/search")) == 4
    assert len(slept) == 3


def test_a_slow_answer(api):
    api.answer = lambda path, body: threading.Event().wait(0.6)
    assert "no answer within 0.2 s" in refused(api, timeout_s=0.2, retries=1)


def test_nobody_listens(slept):
    with serving(Api()) as api:
        pass
    assert "the connection was refused" in refused(api)
    assert len(slept) == 3


def test_an_unknown_host_is_told_soon(monkeypatch, slept):
    api = Api()
    text = refused(api, stac="http://no-such-host.invalid/stac", retries=9)
    assert "the name no-such-host.invalid can't be resolved" in text
    assert len(slept) == 2


# ------------------------------------------------------------ answers that are wrong


@pytest.mark.parametrize("path", ["/", "/search"])
@pytest.mark.parametrize(
    ("status", "body", "says"),
    [
        (200, b"<!DOCTYPE html><p>Sign in", "answered a web page instead of JSON"),
        (200, b"", "answered something else instead of JSON"),
        (200, b"[1, 2]", "is JSON, but not STAC"),
        (200, b'"text"', "is JSON, but not STAC"),
        (400, b'{"description": "bad bbox"}', "answered 400 (bad bbox)."),
        (
            401,
            b"",
            "answered 401. Expected status 200. Put user name and password into ~/.netrc",
        ),
        (403, b"", "answered 403."),
        (500, b"oops", "answered 500."),
        (501, b'{"code": 1, "description": ["a"]}', "answered 501"),
    ],
)
def test_answers_that_are_no_stac(api, path, status, body, says):
    api.always[path] = (status, body)
    text = refused(api)
    assert says in text
    assert api.url in text


@pytest.mark.parametrize(
    ("page", "says"),
    [
        ({}, "no list of features"),
        ({"features": {"a": 1}}, "no list of features"),
        ({"features": [1]}, "n entry isn't a GeoJSON feature"),
        ({"features": [{"type": "Feature"}]}, " feature has no id"),
        ({"features": [{"type": "Feature", "id": "x"}]}, "no properties or no assets"),
        ({"features": [item("x")], "links": [{"rel": "next"}]}, "links that can't be followed"),
        ({"features": [item("x")], "links": [{}]}, "links that can't be followed"),
        ({"features": [item("x")], "links": 5}, "links that can't be followed"),
    ],
)
def test_pages_that_are_wrong(api, page, says):
    api.always["/search"] = (200, json.dumps(page).encode())
    assert says in refused(api)


@pytest.mark.parametrize(
    ("landing", "says"),
    [
        ({"hello": 1}, "is JSON, but not STAC"),
        (
            {"links": [], "type": "Collection", "stac_version": "1.0.0"},
            "a STAC Collection without item search, and without",
        ),
        (
            {"links": [], "type": "Catalog", "stac_version": "1.0.0"},
            "a STAC Catalog without item search, and without",
        ),
        (
            {"links": [5, {"rel": "search"}], "stac_version": "1.0.0"},
            "a STAC Catalog without item search, and without",
        ),
    ],
)
def test_landing_pages_that_are_wrong(api, landing, says):
    api.always["/"] = (200, json.dumps(landing).encode())
    assert says in refused(api)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    empty=st.frozensets(st.integers(0, 12), max_size=8),
    size=st.integers(1, 30),
    counts=st.sampled_from([None, "numberMatched", "context"]),
    ends=st.none() | st.integers(0, 12),
)
def test_pages_end_where_none_follows(api, empty, size, counts, ends):
    """Which pages are empty, how large they are, whether they tell how many match, and where they end too early."""
    api.empty, api.counts, api.ends = empty, counts, ends
    found = find(api, page_size=size)
    left, pages = 19, 0  # of those below 20 % of cloud; pages as the server makes them
    while left and pages != ends:
        left -= 0 if pages in empty else min(size, left)
        pages += 1
    if left and pages == ends and pages not in empty:
        left -= min(size, left)
    assert len(found) == 19 - left
    assert found.missing == (left if counts else 0)
    assert found.truncated is bool(left and counts)


def test_pages_without_items_and_without_an_end(api, monkeypatch):
    monkeypatch.setattr(api_module, "_MOST_EMPTY", 20)
    api.empty = frozenset(range(19))
    assert len(find(api)) == 19
    api.empty = frozenset(range(10_000))
    assert "over and over" in refused(api)


def test_the_clearest_is_looked_for_behind_empty_pages(api):
    api.empty = frozenset({0, 1})
    query = Query("sentinel-2-l2a", AOI, START, END, 0.5)
    assert explain_nothing(api.url, query, timeout_s=5.0) == "Lowest cloud cover seen: 1 %. Try max_cloud_cover=10."


def test_what_a_catalogue_keeps_back_is_said_and_recorded(api, tmp_path, said):
    api.counts, api.ends, api.most = "numberMatched", 0, 10
    search = Search.of(SearchParams(stac=api.url))
    found = search.find(search.query(AOI, START, END))
    assert said == [
        f"The search is incomplete: {api.url} says that 14 items more match, but doesn't give them. "
        "Try again, or fewer dates."
    ]
    assert len(found) == 10
    again = ItemSet.load(found.save(tmp_path / "items.json"))
    assert (again.missing, again.truncated) == (found.missing, True)


def test_a_saved_page_of_many_is_incomplete(tmp_path):
    path = tmp_path / "page.json"
    for told in (
        {"numberMatched": 12},
        {"numberMatched": "12"},
        {"context": {"matched": 12}},
        {"search:metadata": {"matched": 12}},
    ):
        path.write_text(json.dumps({"type": "FeatureCollection", "features": [item("a"), item("b")], **told}))
        found = find_items(path, Query())
        assert (len(found), found.missing, found.truncated) == (2, 10, True)


@pytest.mark.parametrize("loops", ["token", "items"])
def test_a_paging_loop_is_noticed(api, loops):
    api.loops = loops
    assert "returns the same page of items over and over" in refused(api, page_size=2)
    assert len(api.searches) < 5


@pytest.mark.parametrize("where", ["search", "next"])
def test_the_catalogue_cannot_send_us_anywhere(api, where):
    bad = f"http://169.254.169.254/latest?sig={SECRET}"
    if where == "search":
        landing = api.landing()
        landing["links"][0]["href"] = bad
        api.always["/"] = (200, json.dumps(landing).encode())
    else:
        page = {"type": "FeatureCollection", "features": [item("x")], "links": [{"rel": "next", "href": bad}]}
        api.always["/search"] = (200, json.dumps(page).encode())
    assert "link-local" in refused(api, HrefError)


def test_redirects_keep_the_body_and_are_checked(api):
    api.faults = [
        ("/", 301, b"", {"Location": "/"}),
        ("/search", 302, b"", {"Location": f"{api.url}/search"}),
    ]
    assert len(find(api)) == 19
    assert api.asked.count(("POST", "/search")) == 2
    api.faults = [("/search", 307, b"", {"Location": "http://127.0.0.2:1/"})]
    assert "private host '127.0.0.2'" in refused(api, HrefError)
    api.faults = [("/", 301, b"", {"Location": "/"})] * 9
    assert "redirects more than 5 times" in refused(api)


HOSTS = frozenset({"198.51.100.7", "198.51.100.8"})  # of nobody


@pytest.fixture
def netrc(monkeypatch, tmp_path):
    path = tmp_path / "netrc"
    path.write_text("".join(f"machine {host} login u password {SECRET}\n" for host in HOSTS))
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


def test_links_of_an_encrypted_catalogue_are_encrypted():
    with pytest.raises(SearchError, match="would be read over http, though what leads to it is https"):
        fetch_module.HttpPolicy(HOSTS, named="https://198.51.100.7/").get("http://198.51.100.7/next")


def test_a_password_goes_in_clear_only_where_the_user_said_so(netrc):
    named = "http://198.51.100.7/stac"
    urls = ("http://198.51.100.7/a", "http://198.51.100.8/a", "https://198.51.100.8/a", "http://198.51.100.7:81/a")
    sent = [login_for(url, frozenset(), named) is not None for url in urls]
    assert sent == [True, False, True, False]
    assert login_for("http://198.51.100.8/a", HOSTS) is not None  # private, and named by the user


def test_a_redirect_to_what_is_no_url(api):
    api.faults = [("/", 301, b"", {"Location": "http://[::1/x"})]
    assert "redirects to something that isn't a URL" in refused(api)


def test_a_link_to_what_is_no_url(api):
    page = {"type": "FeatureCollection", "features": [item("x")], "links": [{"rel": "next", "href": "http://[::1"}]}
    api.always["/search"] = (200, json.dumps(page).encode())
    assert "links that can't be followed" in refused(api)


def test_an_answer_that_drips_ends_in_time(monkeypatch):
    monkeypatch.setattr(fetch_module, "_WHOLE_ANSWER", 0.1)
    over = threading.Event()

    class Slow(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "60000")
            self.end_headers()
            with suppress(OSError):
                while not over.wait(0.05):
                    self.wfile.write(b" ")

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Slow) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        try:
            asking = fetch_module.HttpPolicy(frozenset({"127.0.0.1"}), 5.0)
            with pytest.raises(SearchError, match=r"its answer didn't end within 0\.5 s"):
                asking.get(f"http://127.0.0.1:{server.server_port}/")
        finally:
            over.set()
            server.shutdown()


def test_an_answer_without_end(api, monkeypatch):
    monkeypatch.setattr(fetch_module, "_ANSWER_BYTES", 1000)
    assert "is larger than" in refused(api)


# ------------------------------------------------------------ requests that are wrong


def test_a_collection_that_is_not_there(api):
    text = refused(api, CollectionError, collection="sentinel-2-l2")
    assert "There is no collection 'sentinel-2-l2' at 127.0.0.1." in text
    assert "Offered are: sentinel-2-l2a, " in text
    assert "landsat-c2-l2" in text
    assert "Try collection='sentinel-2-l2a'." in text
    assert api.searches == []
    assert "Check the name of the collection." in refused(api, CollectionError, collection="zzz")


def test_an_api_without_collections(api):
    api.always = {"/collections": (404, b""), "/collections/sentinel-2-l2a": (404, b"")}
    assert len(find(api)) == 19


@pytest.mark.parametrize(
    ("stac", "says"),
    [
        ("no-such-catalog.json", "There is no file or directory 'no-such-catalog.json', given as stac."),
        ("earth-search.aws.element84.com/v1", "a URL begins with https://"),
        ("", "stac is empty."),
        ("ftp://example.org", "of stac isn't valid."),
        ("http://", "of stac isn't valid."),
        ("http://[::1", "of stac isn't valid."),
        ("http://a.org:99999", "of stac isn't valid."),
        ("http://a b.org", "of stac isn't valid."),
        (f"https://u:{SECRET}@example.org", "~/.netrc"),
        (f"https://example.org/?token={SECRET}", "a query"),
    ],
)
def test_urls_that_are_wrong(stac, says):
    assert says in refused(None, UsageError, stac=stac)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"max_cloud_cover": 0}, "max_cloud_cover must be more than 0 and at most 100, got 0."),
        ({"max_cloud_cover": -1}, "max_cloud_cover must be more than 0 and at most 100, got -1."),
        ({"max_cloud_cover": float("nan")}, "max_cloud_cover must be more than 0 and at most 100, got nan."),
        ({"max_cloud_cover": 101}, "max_cloud_cover must be more than 0 and at most 100, got 101."),
        ({"max_items": 0}, "max_items must be 1 or more, got 0."),
    ],
)
def test_numbers_that_are_wrong(options, says):
    assert says in refused(None, UsageError, stac="http://127.0.0.1:1", **options)


# ------------------------------------------------------------ nothing found


@pytest.mark.parametrize("sorts", [True, False])
def test_explain_nothing(api, sorts):
    if not sorts:
        api.conforms = [one for one in CONFORMS if "#sort" not in one]
    api.features = [item("a", cloud=34.2), item("b", 2, 90), item("c", 3, None)]

    def explain(limit, aoi=AOI, source=api.url):
        return explain_nothing(source, Query("sentinel-2-l2a", aoi, START, END, limit))

    assert explain(20) == "Lowest cloud cover seen: 34.2 %. Try max_cloud_cover=40."
    assert len(api.searches) == 1
    assert "query" not in api.searches[0]
    assert explain(50) == "Try other dates, a larger area or a higher max_cloud_cover."
    nowhere = parse_aoi("50,0,51,1")
    assert explain(20, nowhere).startswith("There are none at any cloud cover.")
    assert explain(20, source="http://127.0.0.1:1").startswith("Try other dates")
    local = ItemSet(tuple(api.features), "x", "sentinel-2-l2a")
    assert explain(20, source=local) == "Lowest cloud cover seen: 34.2 %. Try max_cloud_cover=40."
    dropped = ItemSet((item("a", cloud=34.2),), "x", "c").filtered(Query(max_cloud_cover=20))
    assert len(dropped) == 0
    assert explain(20, source=dropped).startswith("Lowest cloud cover seen: 34.2 %.")
    full = ItemSet((item("a", cloud=100.0),), "x", "sentinel-2-l2a")
    assert explain(20, source=full).endswith("Try max_cloud_cover=100.")


# ------------------------------------------------------------ item sets


def test_save_and_load(api, tmp_path):
    found = find(api)
    path = found.save(tmp_path / "items.json")
    assert ItemSet.load(path) == replace(found, from_file=True)
    assert path.read_bytes() == ItemSet.load(path).save(tmp_path / "again.json").read_bytes()
    document = json.loads(path.read_text())
    assert document["eoap:stac"] == api.url
    assert document["eoap:signing"] == {"kind": "none"}
    assert document["eoap:collection"] == "sentinel-2-l2a"
    assert document["eoap:truncated"] is False
    assert sorted(one.name for one in tmp_path.iterdir()) == ["again.json", "items.json"]


def test_save_that_fails_leaves_nothing(tmp_path):
    (tmp_path / "items.json").mkdir()
    for path in (tmp_path / "items.json", tmp_path / "none" / "items.json"):
        with pytest.raises(OutputError, match="can't be written"):
            ItemSet((item("a"),), "x", "c").save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["items.json"]


def test_load_takes_any_items(tmp_path):
    path = tmp_path / "one.json"
    path.write_text(json.dumps(item("a")))
    one = ItemSet.load(str(path))
    assert ids(one) == ["a"]
    assert one.collection == "sentinel-2-l2a"
    assert one.stac == str(path)
    assert one.lowest_cloud_cover == 10
    assert one.private_hosts() == frozenset()
    features = [item("b", collection="x"), item("a"), item("a")]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}), encoding="utf-8-sig")
    assert ids(ItemSet.load(path)) == ["a", "b"]
    assert ItemSet.load(path).collection == ""


def test_load_of_signed_items_of_the_planetary_computer(tmp_path):
    href = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/B04.tif"
    links = [{"rel": "root", "href": "https://planetarycomputer.microsoft.com/api/stac/v1/"}]
    preview = "https://planetarycomputer.microsoft.com/api/data/v1/item/preview.png?collection=x"
    assets = {"B04": {"href": f"{href}?st=1&se=2&sp=rl&sig={SECRET}"}, "preview": {"href": preview}}
    path = tmp_path / "pc.json"
    path.write_text(json.dumps(item("a", links=links, assets=assets)))
    found = ItemSet.load(path)
    assert found.signing == {"kind": "planetary-computer"}
    assert found.features[0]["assets"] == {"B04": {"href": href}, "preview": {"href": preview}}


@pytest.mark.parametrize(
    "signing",
    [
        {"kind": "token", "endpoint": "http://10.0.0.1/token"},
        {"kind": "token", "endpoint": 5},
        {"kind": "other"},
        "token",
    ],
)
def test_load_believes_no_foreign_endpoint(tmp_path, signing):
    path = tmp_path / "x.json"
    document = {"type": "FeatureCollection", "features": [item("a")], "eoap:stac": "https://example.org/stac"}
    path.write_text(json.dumps({**document, "eoap:signing": signing}))
    assert ItemSet.load(path).signing == {"kind": "none"}


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b"", "it isn't JSON"),
        (b"\xff\xfe", "it is neither JSON nor Parquet"),
        (b"[]", "it isn't an object"),
        (b'{"type": "Collection", "id": "c"}', "it is a STAC Collection"),
        (b"{}", "n entry isn't a GeoJSON feature"),
        (b'{"type": "FeatureCollection"}', "its features aren't a list"),
        (b'{"type": "FeatureCollection", "features": [5]}', "n entry isn't a GeoJSON feature"),
        (b'{"type": "Feature", "id": "a", "geometry": null}', "isn't a STAC item"),
    ],
)
def test_load_refuses(tmp_path, content, says):
    path = tmp_path / "x.json"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        ItemSet.load(path)
    assert says in str(caught.value)
    with pytest.raises(UsageError, match="can't be read: No such file or directory"):
        ItemSet.load(tmp_path / "none.json")
    with pytest.raises(UsageError, match="it isn't a regular file"):
        ItemSet.load(tmp_path)


@pytest.mark.parametrize("max_cloud_cover", [5, 20.5, 81, 100])
def test_filtered_means_what_the_api_means(api, max_cloud_cover):
    api.conforms = []  # so that the items without cloud cover come too
    everything = ItemSet(ordered(api.features), api.url, "")
    here = everything.filtered(Query("sentinel-2-l2a", AOI, START, END, max_cloud_cover))
    there = find(api, max_cloud_cover=max_cloud_cover)
    assert here.features == there.features
    assert here.lowest_cloud_cover == there.lowest_cloud_cover
    assert here.collection == "sentinel-2-l2a"


def test_filtered_truncates_to_the_latest():
    items = ItemSet(ordered([item(f"i{n}", n) for n in range(1, 6)]), "x", "c")
    assert ids(items.filtered(Query(max_items=2))) == ["i4", "i5"]
    assert items.filtered(Query(max_items=2)).truncated
    assert not items.filtered(Query(max_items=5)).truncated
    assert items.filtered(Query()) == ItemSet(items.features, "x", "c", lowest_cloud_cover=10)


def test_filtered_days_are_those_of_utc():
    def at(text):
        return ItemSet(({**item("a"), "properties": {"datetime": text}},), "x", "c")

    def found(text, first, last):
        return len(at(text).filtered(Query(start=date(2021, 7, first), end=date(2021, 7, last))))

    assert found("2021-07-02T00:30:00+02:00", 1, 1)
    assert not found("2021-07-02T00:30:00+02:00", 2, 2)
    assert found("2021-07-31T23:59:59.999999Z", 31, 31)
    span = {
        "datetime": None,
        "start_datetime": "2021-07-01T00:00:00Z",
        "end_datetime": "2021-07-10T00:00:00Z",
    }
    items = ItemSet(({**item("a"), "properties": span},), "x", "c")
    assert len(items.filtered(Query(start=date(2021, 7, 9), end=date(2021, 7, 20))))
    assert not len(items.filtered(Query(start=date(2021, 7, 11), end=date(2021, 7, 20))))


@given(st.permutations([item(f"i{n}", 1 + n // 2) for n in range(6)] + [item("i0"), item("i0", collection="z")]))
def test_ordered_does_not_depend_on_the_order(items):
    found = ordered(items)
    assert ids(found) == ["i0", "i0", "i1", "i2", "i3", "i4", "i5"]


def test_ordered_keeps_the_last_updated():
    old, new = item("a"), item("a")
    old["properties"]["updated"], new["properties"]["updated"] = (
        "2021-01-01T00:00:00Z",
        "2022-01-01T00:00:00Z",
    )
    assert ordered([new, old]) == ordered([old, new]) == (new,)


def test_footprint():
    around = {"geometry": mapping(box(-179.5, 0, 179.5, 1))}
    assert footprint(around).bounds == (179.5, 0, 180.5, 1)
    world = {"geometry": mapping(box(-180, -90, 180, 90))}
    assert footprint(world).bounds == (-180, -90, 180, 90)
    assert footprint({"geometry": None, "bbox": [179, 0, -179, 1]}).bounds == (179, 0, 181, 1)
    assert footprint({"geometry": None, "bbox": [1, 2, 0, 3, 4, 9]}).bounds == (1, 2, 3, 4)
    for bad in ({}, {"geometry": {"type": "X"}}, {"geometry": 5}, {"bbox": [1]}, {"bbox": "abcd"}):
        assert footprint(bad) is None
    bow = {"geometry": {"type": "Polygon", "coordinates": [[[0, 0], [2, 2], [2, 0], [0, 2], [0, 0]]]}}
    assert footprint(bow).is_valid


def test_normalised_changes_nothing_it_is_given():
    given_item = item("a", assets={"x": {"href": "x.tif?sig=1"}})
    before = deepcopy(given_item)
    assert normalised(given_item, "https://h/a/b", strip=True)["assets"]["x"]["href"] == "https://h/a/x.tif"
    assert given_item == before
    assert instant(given_item) == datetime(2021, 7, 1, 10, tzinfo=UTC)


def test_how_an_item_set_looks():
    items = ItemSet(
        ordered([item(f"<i{n}>", n) for n in range(1, 13)]), f"https://h/?sig={SECRET}", "c", truncated=True
    )
    assert repr(items) == "<ItemSet 12 items of c from https://h/, truncated>"
    assert "&lt;i1&gt;" in items._repr_html_()
    assert "… 2 more" in items._repr_html_()
    assert SECRET not in items._repr_html_()
    assert [one["id"] for one in items][:2] == ["<i1>", "<i2>"]
