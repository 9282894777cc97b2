"""The server speaks STAC and HTTP as the public ones do, and breaks as they do when it is told to."""

import http.client
import json
import socket
import time
import urllib.error
import urllib.request
from datetime import datetime
from urllib.parse import urlsplit

import pytest
import rasterio
from pystac_client import Client
from pystac_client.exceptions import APIError
from shapely.geometry import box, mapping

from eoap_dask.demo.archive import make_archive
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import UsageError


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    return make_archive(
        tmp_path_factory.mktemp("archive"),
        months=("2020-10", "2020-11"),
        dates_per_month=5,
        bands=("red",),
        size_px=128,
        resolution_m=120,
        workers=1,
    )


@pytest.fixture(scope="module")
def server(archive):
    with DemoServer(archive, page_size=4) as running:
        yield running


@pytest.fixture
def files(tmp_path):
    """A hundred bytes, and no items."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "bytes.tif").write_bytes(bytes(range(100)))
    return Catalogue(tmp_path, [], "sentinel-2-l2a")


def ask(url, method="GET", body=None, headers=None):
    """Status, headers and body, whatever the status."""
    request = urllib.request.Request(url, method=method, headers=headers or {}, data=body)  # noqa: S310
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:  # noqa: S310
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        with error:
            return error.status, error.headers, error.read()


def post(server, **body):
    status, _, content = ask(
        f"{server.url}/search", "POST", json.dumps(body).encode(), {"Content-Type": "application/json"}
    )
    return status, json.loads(content)


def ids(items):
    return [item.id for item in items]


# --- the STAC API ---


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_pages_through_all(archive, server, method):
    search = Client.open(server.url).search(collections=[server.collection], method=method)
    found = ids(search.items())
    assert len(list(search.pages())) == -(-len(archive.items) // 4)
    assert len(found) == len(archive.items)
    assert set(found) == {item["id"] for item in archive.items}
    assert search.matched() == len(archive.items)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_queries(archive, server, method):
    def expected(test):
        return {item["id"] for item in archive.items if test(item["properties"])}

    def found(**query):
        search = Client.open(server.url).search(collections=[server.collection], method=method, **query)
        return set(ids(search.items()))

    clear = expected(lambda p: p["eo:cloud_cover"] < 25)
    assert 0 < len(clear) < len(archive.items)
    assert found(query={"eo:cloud_cover": {"lt": 25}}) == clear
    assert found(query={"eo:cloud_cover": {"gte": 25}}) == expected(lambda p: p["eo:cloud_cover"] >= 25)
    assert found(query={"platform": {"eq": "Sentinel-2A"}}) == expected(lambda p: p["platform"] == "Sentinel-2A")
    assert found(query={"s2:mgrs_tile": {"in": ["10TET"]}}) == expected(lambda p: p["s2:mgrs_tile"] == "10TET")
    assert found(query={"eo:cloud_cover": {"lt": "many"}}) == set()
    assert found(datetime="2020-11") == expected(lambda p: p["datetime"].startswith("2020-11"))
    assert found(datetime="../2020-10-31") == expected(lambda p: p["datetime"].startswith("2020-10"))
    assert found(ids=[archive.items[3]["id"]]) == {archive.items[3]["id"]}


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_sorts(server, method):
    search = Client.open(server.url).search(
        collections=[server.collection],
        method=method,
        sortby=[{"field": "properties.eo:cloud_cover", "direction": "desc"}],
    )
    covers = [item.properties["eo:cloud_cover"] for item in search.items()]
    assert covers == sorted(covers, reverse=True)
    newest = [item.datetime for item in Client.open(server.url).search(method=method).items()]
    assert newest == sorted(newest, reverse=True)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_pystac_client_searches_by_area(archive, server, method):
    client = Client.open(server.url)
    west = min(item["bbox"][0] for item in archive.items)
    only_west = (west - 1, 47, west + 0.01, 48)
    found = list(client.search(bbox=only_west, method=method).items())
    assert found
    assert {item.properties["s2:mgrs_tile"] for item in found} == {"10TET"}
    again = client.search(intersects=mapping(box(*only_west)), method=method).items()
    assert ids(found) == ids(again)
    # The same area, as a box that goes east from the other side of the antimeridian.
    around = client.search(bbox=(170, 47, west + 0.01, 48), method=method).items()
    assert ids(found) == ids(around)
    assert ids(client.search(bbox=(0, 0, 1, 1), method=method).items()) == []
    whole = client.search(bbox=archive.aoi_bbox, method=method).items()
    assert {item.properties["s2:mgrs_tile"] for item in whole} == {"10TET", "11TJN"}


def test_collections_and_items(archive, server):
    client = Client.open(server.url)
    collection = client.get_collection(server.collection)
    assert [c.id for c in client.get_collections()] == [server.collection]
    assert len(list(collection.get_items())) == len(archive.items)
    item = collection.get_item(archive.items[0]["id"])
    assert item.assets["B04"].href == f"{server.files_url}/{archive.items[0]['assets']['B04']['href']}"
    west, south, east, north = collection.extent.spatial.bboxes[0]
    assert (west, south) == pytest.approx((min(i["bbox"][0] for i in archive.items), 47.5), abs=0.2)
    assert east > west
    assert north > south


def test_hrefs_can_be_read(archive, server):
    item = next(iter(Client.open(server.url).search(max_items=1).items()))
    # Without this option rasterio lists the directory while it holds the interpreter's lock, which the server needs.
    with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"), rasterio.open(item.assets["B04"].href) as remote:
        pixels = remote.read(1)
    local = next(i for i in archive.items if i["id"] == item.id)
    with rasterio.open(archive.root / local["assets"]["B04"]["href"]) as dataset:
        assert (dataset.read(1) == pixels).all()


def test_serves_the_directory_of_an_archive(archive):
    with DemoServer(archive.root) as server:
        assert len(list(Client.open(server.url).search().items())) == len(archive.items)
        assert server.collection == archive.collection


@pytest.mark.parametrize(
    ("body", "word"),
    [
        ({"bbox": [1, 2, 3]}, "bbox"),
        ({"bbox": [1, 2, 3, "x"]}, "bbox"),
        ({"bbox": [1, 5, 2, 4]}, "south"),
        ({"bbox": [1, 2, 3, 4], "intersects": {"type": "Point", "coordinates": [1, 2]}}, "both"),
        ({"intersects": {"type": "Blob"}}, "intersects"),
        ({"intersects": "here"}, "intersects"),
        ({"datetime": "yesterday"}, "datetime"),
        ({"datetime": "2020-10-01T00:00:00"}, "datetime"),
        ({"datetime": ".."}, "datetime"),
        ({"datetime": "2020-12-01T00:00:00Z/2020-10-01T00:00:00Z"}, "ends before"),
        ({"query": ["eo:cloud_cover<25"]}, "query"),
        ({"query": {"eo:cloud_cover": {"below": 25}}}, "below"),
        ({"sortby": [{"field": "id", "direction": "up"}]}, "up"),
        ({"sortby": "id"}, "sortby"),
        ({"limit": 0}, "limit"),
        ({"limit": "ten"}, "limit"),
        ({"ids": "one"}, "ids"),
        ({"token": "prev:3"}, "token"),
        ({"filter": {"op": "="}}, "filter"),
    ],
)
def test_malformed_searches(server, body, word):
    status, answer = post(server, **body)
    assert status == 400
    assert word in answer["description"]


def test_requests_that_make_no_sense(server):
    for path, expected in [
        ("/search?bbox=1,2,x,4", 400),
        ("/search?query=%7B", 400),
        ("/collections/landsat", 404),
        ("/collections/landsat/items", 404),
        (f"/collections/{server.collection}/items/none", 404),
        ("/nothing", 404),
        ("/collections/a/b/c/d", 404),
    ]:
        status, headers, body = ask(server.url + path)
        assert status == expected, path
        assert headers["Content-Type"] == "application/json"
        assert json.loads(body)["description"]
    assert ask(f"{server.url}/search", "POST", b"{not json")[0] == 400
    assert ask(f"{server.url}/search", "POST", b"[]")[0] == 400
    assert ask(f"{server.url}/collections", "POST", b"{}")[0] == 405
    assert ask(f"{server.origin}/elsewhere")[0] == 404


def test_api_faults(archive):
    with DemoServer(archive, api_fault="500") as server, pytest.raises(APIError):
        Client.open(server.url)
    with DemoServer(archive, api_fault="html") as server:
        status, headers, body = ask(server.url)
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert body.startswith(b"<!DOCTYPE html>")
    with DemoServer(archive, api_fault="503-then-ok:2") as server:
        assert [ask(server.url)[0] for _ in range(4)] == [503, 503, 200, 200]
        assert server.stats.api_requests == 4


def test_a_hanging_api_ends_with_the_server(archive):
    with DemoServer(archive, api_fault="hang:60") as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=0.2)
        connection.request("GET", "/stac")
        with pytest.raises(TimeoutError):
            connection.getresponse()
        connection.close()
        began = time.monotonic()
    assert time.monotonic() - began < 5


# --- files ---


@pytest.mark.parametrize(
    ("wanted", "status", "first", "last"),
    [
        (None, 200, 0, 99),
        ("bytes=0-9", 206, 0, 9),
        ("bytes=90-", 206, 90, 99),
        ("bytes=-5", 206, 95, 99),
        ("bytes=-500", 206, 0, 99),
        ("bytes=50-5000", 206, 50, 99),
        ("bytes=99-99", 206, 99, 99),
        ("bytes=9-3", 200, 0, 99),
        ("bytes=0-1,5-6", 200, 0, 99),
        ("lines=0-1", 200, 0, 99),
        ("bytes=-", 200, 0, 99),
    ],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_ranges(files, method, wanted, status, first, last):
    with DemoServer(files) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        got, headers, body = ask(url, method, headers={"Range": wanted} if wanted else {})
        assert got == status
        assert body == (bytes(range(first, last + 1)) if method == "GET" else b"")
        assert int(headers["Content-Length"]) == last + 1 - first
        assert headers["Accept-Ranges"] == "bytes"
        assert headers["Content-Type"] == "image/tiff"
        assert headers["ETag"]
        assert headers["Content-Range"] == (f"bytes {first}-{last}/100" if status == 206 else None)


@pytest.mark.parametrize("wanted", ["bytes=100-", "bytes=100-200", "bytes=-0"])
def test_ranges_beyond_the_end(files, wanted):
    with DemoServer(files) as server:
        status, headers, body = ask(f"{server.files_url}/folder/bytes.tif", headers={"Range": wanted})
        assert (status, headers["Content-Range"], body) == (416, "bytes */100", b"")
        assert server.stats.bytes_sent == 0


def test_a_stale_etag_gives_the_whole_file(files):
    with DemoServer(files) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        etag = ask(url, "HEAD")[1]["ETag"]
        assert ask(url, headers={"Range": "bytes=0-9", "If-Range": etag})[0] == 206
        assert ask(url, headers={"Range": "bytes=0-9", "If-Range": '"old"'})[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "../secret",
        "folder/../../secret",
        "%2e%2e/secret",
        "/etc/passwd",
        "folder/%2e%2e%2f%2e%2e%2fsecret",
        "link",
        "folder",
        "",
        "a%00b",
        "none.tif",
        "x" * 5000,
    ],
)
def test_nothing_outside_of_the_root(tmp_path, path):
    root = tmp_path / "root"
    (root / "folder").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "link").symlink_to(tmp_path / "secret")
    with DemoServer(Catalogue(root, [], "c")) as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
        connection.request("GET", f"/files/{path}")
        assert connection.getresponse().status == 404
        connection.close()


def test_a_connection_serves_many_requests_and_they_are_counted(files):
    with DemoServer(files) as server:
        address = urlsplit(server.url)
        connection = http.client.HTTPConnection(address.hostname, address.port, timeout=5)
        connection.connect()
        port = connection.sock.getsockname()[1]
        for start in (0, 30, 60):
            connection.request("GET", "/files/folder/bytes.tif", headers={"Range": f"bytes={start}-{start + 9}"})
            assert connection.getresponse().read() == bytes(range(start, start + 10))
            assert connection.sock.getsockname()[1] == port
        connection.close()
        assert server.stats.requests == 3
        assert server.stats.bytes_sent == 30
        assert server.stats.ranges == {"folder/bytes.tif": [(0, 10), (30, 40), (60, 70)]}
        server.stats.reset()
        assert (server.stats.requests, server.stats.bytes_sent, server.stats.ranges) == (0, 0, {})


def test_latency(files):
    with DemoServer(files, latency_s=0.2) as server:
        began = time.monotonic()
        ask(f"{server.files_url}/folder/bytes.tif")
        assert time.monotonic() - began >= 0.2


def test_nothing_is_printed_and_nothing_is_left(files, capfd):
    with DemoServer(files) as server:
        ask(f"{server.files_url}/none")
        address = urlsplit(server.url)
        open_connection = socket.create_connection((address.hostname, address.port))
        open_connection.sendall(b"HEAD /files/none HTTP/1.1\r\n\r\n")
        assert open_connection.recv(4096).startswith(b"HTTP/1.1 404")
    assert open_connection.recv(1) == b""  # the server has closed it
    open_connection.close()
    with pytest.raises(OSError):
        socket.create_connection((address.hostname, address.port), timeout=1)
    assert capfd.readouterr() == ("", "")


# --- faults ---


def test_statuses_and_flaky_files(files):
    faults = {"bytes": "403"}
    with DemoServer(files, faults=faults) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        for fault in ("403", "404", "429", "500", "503"):
            server.faults["bytes"] = fault
            assert ask(url)[0] == int(fault)
            assert ask(url, "HEAD")[0] == int(fault)
        for fault in ("429-then-ok:2", "503-then-ok:2", "403-then-ok:2"):
            server = DemoServer(files, faults={"folder/": fault})
            with server:
                url = f"{server.files_url}/folder/bytes.tif"
                assert [ask(url)[0] for _ in range(4)] == [int(fault[:3])] * 2 + [200, 200]


def test_bodies_that_are_wrong(files):
    with DemoServer(files) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        server.faults["bytes"] = "truncate"
        with pytest.raises(http.client.IncompleteRead) as cut:
            ask(url, headers={"Range": "bytes=20-39"})
        assert cut.value.partial == bytes(range(20, 30))
        server.faults["bytes"] = "short-file"
        assert ask(url)[2] == bytes(range(50))
        assert ask(url, headers={"Range": "bytes=60-69"})[0] == 416
        server.faults["bytes"] = "html"
        status, headers, body = ask(url, headers={"Range": "bytes=0-9"})
        assert (status, headers["Content-Type"]) == (200, "text/html; charset=utf-8")
        assert body.startswith(b"<!DOCTYPE html>")
        server.faults["bytes"] = "not-tiff"
        assert ask(url)[::2] == (200, bytes(255 - n for n in range(100)))
        server.faults["bytes"] = "corrupt"
        body = ask(url)[2]
        assert body[:50] == bytes(range(50))
        assert body[50:] == bytes(255 - n for n in range(50, 100))
        assert len(ask(url, headers={"Range": "bytes=0-9"})[2]) == 10
        server.faults["bytes"] = "no-range"
        assert ask(url, headers={"Range": "bytes=0-9"})[::2] == (200, bytes(range(100)))
        server.faults["bytes"] = "slow:0.2"
        began = time.monotonic()
        assert ask(url)[0] == 200
        assert time.monotonic() - began >= 0.2
        server.faults.clear()
        server.faults["other"] = "500"
        assert ask(url)[0] == 200


def test_a_body_that_is_cut_once(files):
    with DemoServer(files, faults={"bytes": "truncate-then-ok:1"}) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        with pytest.raises(http.client.IncompleteRead):
            ask(url)
        assert ask(url)[2] == bytes(range(100))


@pytest.mark.parametrize("fault", ["", "teapot", "503-then-ok", "503-then-ok:many", "slow", "slow:x", "403:3", "418"])
def test_unknown_faults(files, fault):
    with pytest.raises(UsageError, match="isn't a fault"):
        DemoServer(files, faults={"x": fault})


# --- signatures ---


def test_signed_files(archive):
    with DemoServer(archive, sign=True) as server:
        client = Client.open(server.url)
        (link,) = client.get_links("eoap:token")
        assert link.href == f"{server.origin}/token"
        item = next(iter(client.search(max_items=1).items()))
        href = item.assets["B04"].href
        assert "sig=" not in href
        assert ask(href)[0] == ask(href, "HEAD")[0] == 403
        assert (
            ask(f"{href}?sig=0-abc")[0] == ask(f"{href}?sig=nonsense")[0] == ask(f"{href}?sig=%C3%A9-%C3%A9")[0] == 403
        )
        answer = json.loads(ask(link.href)[2])
        assert set(answer) == {"token", "expires"}
        assert ask(f"{href}?{answer['token']}")[0] == 200
        left = datetime.fromisoformat(answer["expires"]).timestamp() - time.time()
        assert 3500 < left <= 3600
        later = answer["token"].replace("sig=", "sig=9")  # the expiry is signed too
        assert ask(f"{href}?{later}")[0] == 403
        server.revoke_tokens()
        assert ask(f"{href}?{answer['token']}")[0] == 403
        assert ask(f"{href}?{json.loads(ask(link.href)[2])['token']}")[0] == 200


def test_tokens_expire(files):
    with DemoServer(files, sign=True, token_lifetime_s=0.3) as server:
        url = f"{server.files_url}/folder/bytes.tif"
        token = json.loads(ask(f"{server.origin}/token")[2])["token"]
        assert ask(f"{url}?{token}")[0] == 200
        time.sleep(0.35)
        assert ask(f"{url}?{token}")[0] == 403


def test_a_token_service_that_fails(files):
    with DemoServer(files, sign=True, faults={"/token": "503-then-ok:1"}) as server:
        assert [ask(f"{server.origin}/token")[0] for _ in range(2)] == [503, 200]


def test_unsigned_server_has_no_token_link(server):
    assert not list(Client.open(server.url).get_links("eoap:token"))


# --- a process of its own ---


def test_server_in_a_process(archive):
    """Also with what waits for ever when the server is in this process: rasterio as it comes."""
    with ServerProcess(archive, sign=True, page_size=3) as server:
        client = Client.open(server.url)
        items = list(client.search(collections=[server.collection]).items())
        assert len(items) == len(archive.items)
        token = json.loads(ask(f"{server.origin}/token")[2])["token"]
        href = f"{items[0].assets['B04'].href}?{token}"
        with rasterio.open(href) as dataset:
            assert dataset.read(1).any()
        (path,) = server.stats.ranges
        assert path.endswith("B04.tif")
        assert server.stats.requests > server.stats.api_requests > 1
        assert server.stats.bytes_sent > 0
        server.stats.reset()
        assert server.stats.requests == 0
        server.faults = {"B04": "500"}
        assert ask(href)[0] == 500
        server.faults = {}
        server.api_fault = "503"
        assert ask(server.url)[0] == 503
        assert ask(href)[0] == 200
        server.revoke_tokens()
        assert ask(href)[0] == 403
        address = urlsplit(server.url)
    with pytest.raises(OSError):
        socket.create_connection((address.hostname, address.port), timeout=1)
    with pytest.raises(RuntimeError, match="isn't running"):
        server.revoke_tokens()


def test_server_in_a_process_knows_its_faults(files):
    with pytest.raises(UsageError, match="isn't a fault"):
        ServerProcess(files, faults={"x": "teapot"})
