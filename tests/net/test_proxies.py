"""One rule for proxies, certificates and logins: for searches, tokens, files, GDAL, and on workers."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Iterator
from datetime import date
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from distributed import Client, LocalCluster
from hypothesis import given
from hypothesis import strategies as st
from tests.support.command_line import Shell
from tests.support.files import ramp, source, write_tifffile
from tests.support.proxy import certified, proxying
from tests.support.stac_api import Api, item, serving

from eoap_dask.demo.archive import Archive
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError, NetworkSettingError, SearchError, SigningError
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.window import Window
from eoap_dask.items.find import find_items
from eoap_dask.items.query import Query
from eoap_dask.net import http
from eoap_dask.net.http import HttpPolicy
from eoap_dask.net.proxies import Proxy, _parsed, proxy_for
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner, TokenSigner
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.tiles import TileReader

SECRET = "o@p:en/hunter2SECRET"
QUOTED = "o%40p%3Aen%2Fhunter2SECRET"
FAR = "imagery.example"
VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """No proxy is named, names resolve to nothing, and pauses are short."""
    for name in (*VARIABLES, *(one.upper() for one in VARIABLES), "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    monkeypatch.setattr("eoap_dask.net.hrefs._resolve", lambda name: ())
    monkeypatch.setattr(http, "_sleep", lambda seconds: None)


# ----------------------------------------------------------------------------------------------------
# Which proxy


@pytest.mark.parametrize(
    ("environment", "url", "found"),
    [
        ({}, "http://far.example/", None),
        ({"http_proxy": "http://p:3128"}, "http://far.example/", ("http_proxy", "http://p:3128")),
        ({"http_proxy": "http://p:3128"}, "https://far.example/", None),
        ({"HTTPS_PROXY": "p:3128"}, "https://far.example/", ("HTTPS_PROXY", "http://p:3128")),
        ({"https_proxy": "https://p", "HTTPS_PROXY": "q"}, "https://far.example/", ("https_proxy", "https://p:443")),
        ({"https_proxy": "", "HTTPS_PROXY": "http://q"}, "https://far.example/", None),
        ({"ALL_PROXY": "http://p/"}, "http://far.example/", ("ALL_PROXY", "http://p:80")),
        ({"http_proxy": "http://[::1]:8"}, "http://far.example/", ("http_proxy", "http://[::1]:8")),
        ({"HTTP_PROXY": "http://p", "REQUEST_METHOD": "GET"}, "http://far.example/", None),
    ],
)
def test_the_variable_that_counts(
    monkeypatch: pytest.MonkeyPatch, environment: dict[str, str], url: str, found: tuple[str, str] | None
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    proxy = proxy_for(url)
    assert found == (None if proxy is None else (proxy.variable, proxy.url))


@pytest.mark.parametrize(
    ("no_proxy", "url", "is_direct"),
    [
        ("*", "http://far.example/", True),
        ("far.example", "http://far.example/", True),
        (".far.example, x", "http://a.FAR.example./", True),
        ("*.far.example", "http://a.far.example/", True),
        ("far.example", "http://nofar.example/", False),
        ("far.example:8080", "http://far.example:8080/", True),
        ("far.example:8080", "http://far.example/", False),
        ("far.example:443", "https://far.example/", True),
        ("10.0.0.0/8", "http://10.1.2.3/", True),
        ("10.0.0.0/8", "http://11.1.2.3/", False),
        ("fd00::/8", "http://[fd12::1]/", True),
        ("[fd12::1]:80", "http://[fd12::1]/", True),
        ("10.0.0.0/nonsense", "http://10.1.2.3/", False),
        ("", "http://far.example/", False),
    ],
)
def test_what_is_reached_directly(monkeypatch: pytest.MonkeyPatch, no_proxy: str, url: str, is_direct: bool) -> None:
    monkeypatch.setenv("ALL_PROXY", "http://p:1")
    monkeypatch.setenv("NO_PROXY", no_proxy)
    assert (proxy_for(url) is None) is is_direct


@pytest.mark.parametrize(
    "host",
    ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "2130706433", "[::1]", "[::ffff:7f00:1]"],
)
def test_this_machine_is_never_reached_through_a_proxy(monkeypatch: pytest.MonkeyPatch, host: str) -> None:
    monkeypatch.setenv("ALL_PROXY", "socks5://nonsense")
    assert proxy_for(f"https://{host}:8443/x") is None


UNFIT = [
    ("ALL_PROXY", "socks5://p:1080", "its scheme 'socks5' isn't supported"),
    ("all_proxy", "socks5h://me:SECRET@p:1080", "its scheme 'socks5h' isn't supported"),
    ("http_proxy", "foo:bar", "its host or port is malformed"),
    ("HTTP_PROXY", "http://", "its host or port is malformed"),
    ("http_proxy", "http://me:SEC/RET@p:3128", "its host or port is malformed"),
    ("http_proxy", "http://p:99999", "its host or port is malformed"),
    ("http_proxy", "http://a b:80", "its host or port is malformed"),
    ("http_proxy", "http://[::1", "its host or port is malformed"),
]


@pytest.mark.parametrize(("variable", "value", "why"), UNFIT)
def test_a_variable_that_names_no_proxy_is_blamed(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str, why: str
) -> None:
    monkeypatch.setenv(variable, value)
    reader = TileReader(NoSigner(), Retry(attempts=1))
    for ask in (
        lambda: find_items(f"http://{FAR}/stac", Query()),
        lambda: TokenSigner(f"http://{FAR}/token").sign(f"http://{FAR}/a.tif"),
        lambda: reader.open(source(f"http://{FAR}/{variable}.tif", (1, 1)), "item").shapes,
        lambda: GdalReader(NoSigner(), Retry(attempts=1)).open(source(f"http://{FAR}/a.tif", (1, 1)), "item").shapes,
    ):
        with pytest.raises((NetworkSettingError, SigningError, AssetError)) as refused:
            ask()
        assert f"that {variable} names can't be used: {why}." in str(refused.value)
        assert f"Correct {variable}, or name hosts that are reached without it in NO_PROXY." in str(refused.value)
        assert "--stac" not in str(refused.value)
        assert "SEC" not in repr(refused.value)


@given(password=st.text(min_size=1, max_size=20), name=st.sampled_from(["http_proxy", "HTTPS_PROXY"]))
def test_a_password_is_never_shown(password: str, name: str) -> None:
    """Whatever it holds, encoded or not: what is refused doesn't show it either."""
    marked = f"S3CR{password}3T"
    try:
        shown = repr(_parsed(name, f"http://me:{marked}@proxy.example:3128"))
    except NetworkSettingError as refused:
        shown = repr(refused)
    assert "S3CR" not in shown
    assert "3T" not in shown or "@" in password


def test_authorities_that_are_not_there_are_blamed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere/ca.pem")
    with serving(Api([item("a")])) as api, pytest.raises(NetworkSettingError) as refused:
        find_items(api.url, Query())
    assert str(refused.value).startswith("The certificates '/nowhere/ca.pem' that REQUESTS_CA_BUNDLE names")


# ----------------------------------------------------------------------------------------------------
# A real proxy


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("far")
    for name in ("a.tif", "b.tif"):  # GDAL remembers what it has read
        write_tifffile(root / name, ramp(256, 256), compression="zlib")
    with ServerProcess(Catalogue(root, [], "sentinel-2-l2a"), sign=True) as server:
        yield server


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def pixels(reader: Any, href: str) -> Any:
    raster = reader.open(source(href, (256, 256)), "item")
    out = np.zeros((256, 256), np.uint16)
    raster.read(0, Window(0, 256, 0, 256), out)
    raster.close()
    return out


@pytest.mark.parametrize("login", ["", f"me:{SECRET}"])
def test_searches_tokens_and_files_take_it(
    monkeypatch: pytest.MonkeyPatch, files: ServerProcess, login: str, said: list[str]
) -> None:
    mine = f"me:{QUOTED}@" if login else ""
    href = f"http://{FAR}/files/{'b' if login else 'a'}.tif"
    with serving(Api([item("a")])) as api:
        names = {"stac.example": port_of(api.url), FAR: port_of(files.origin)}
        with proxying(names, login) as proxy:
            monkeypatch.setenv("http_proxy", f"http://{mine}{proxy.place}")
            api.url, direct = "http://stac.example", api.url
            whole = Query("sentinel-2-l2a", parse_aoi("12,41,13,42"), date(2021, 7, 1), date(2021, 7, 31))
            assert len(find_items("http://stac.example", whole)) == 1
            signer = TokenSigner(f"http://{FAR}/token")
            for reader in (TileReader(signer, Retry(2, 0.01)), GdalReader(signer, Retry(2, 0.01))):
                np.testing.assert_array_equal(pixels(reader, href), ramp(256, 256))
            # itself is reached directly
            before = len(proxy.asked)
            assert HttpPolicy(frozenset({"127.0.0.1"})).get(direct + "/")
            assert len(proxy.asked) == before
    assert {host for _, host, _ in proxy.asked} == {"stac.example", FAR}
    assert any("GDAL" in agent for _, _, agent in proxy.asked)
    assert set(proxy.logins) == {"Basic " + b64encode(login.encode()).decode() if login else ""}
    assert "hunter2" not in str(said)


@pytest.mark.parametrize(
    ("given_as", "says", "advice"),
    [
        ("", "the proxy http://{place} of http_proxy wants a user and a password", "Put them into http_proxy as"),
        ("me:wrongSECRET@", "the proxy http://{place} of http_proxy doesn't take the user and password", "Put them"),
    ],
)
def test_a_proxy_that_wants_a_password(
    monkeypatch: pytest.MonkeyPatch, files: ServerProcess, given_as: str, says: str, advice: str
) -> None:
    with proxying({FAR: port_of(files.origin)}, f"me:{SECRET}") as proxy:
        monkeypatch.setenv("http_proxy", f"http://{given_as}{proxy.place}")
        for ask in (
            lambda: HttpPolicy(frozenset()).get(f"http://{FAR}/stac"),
            lambda: TokenSigner(f"http://{FAR}/token/{len(given_as)}").sign(f"http://{FAR}/a.tif"),
            lambda: pixels(TileReader(NoSigner(), Retry(1)), f"http://{FAR}/files/{len(given_as)}.tif"),
            lambda: pixels(GdalReader(NoSigner(), Retry(1)), f"http://{FAR}/files/a.tif"),
        ):
            before = len(proxy.asked)
            with pytest.raises((SearchError, AssetError)) as refused:
                ask()
            assert says.format(place=proxy.place) in str(refused.value)
            assert advice in str(refused.value)
            assert "SECRET" not in repr(refused.value)
            assert len(proxy.asked) == before + 1  # asking again can't help


def test_gdal_reaches_this_machine_directly(monkeypatch: pytest.MonkeyPatch, files: ServerProcess) -> None:
    """A proxy that the environment names would be asked for 127.0.0.1 by GDAL's own rule."""
    with proxying({}) as proxy:
        for name in ("http_proxy", "ALL_PROXY"):
            monkeypatch.setenv(name, f"http://{proxy.place}")
        reader = GdalReader(TokenSigner(f"{files.origin}/token"), Retry(1), frozenset({"127.0.0.1"}))
        np.testing.assert_array_equal(pixels(reader, f"{files.files_url}/a.tif"), ramp(256, 256))
    assert proxy.asked == []


def test_a_proxy_that_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    with proxying({}) as proxy:
        monkeypatch.setenv("ALL_PROXY", f"http://me:{QUOTED}@{proxy.place}")
    for scheme in ("http", "https"):
        with pytest.raises(SearchError) as refused:
            HttpPolicy(frozenset(), retries=1).get(f"{scheme}://{FAR}/stac")
        assert f"the proxy http://{proxy.place} of ALL_PROXY can't be reached" in str(refused.value)
        assert "Check ALL_PROXY" in str(refused.value)
        assert "hunter2" not in repr(refused.value)


class Tls(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = json.dumps({"agent": self.headers.get("Authorization", "")}).encode()
        self.send_response(302 if self.path == "/down" else 200)
        if self.path == "/down":
            self.send_header("Location", f"http://{FAR}/x")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, Path]]:
    """The port of a server of https that is certified for FAR, and the authority that says so."""
    folder = tmp_path_factory.mktemp("tls")
    server = ThreadingHTTPServer(("127.0.0.1", 0), Tls)
    server.socket = certified(folder, FAR).wrap_socket(server.socket, server_side=True)
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
    yield server.server_port, folder / "cert.pem"
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("variable", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_a_tunnel_and_ones_own_authority(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, sealed: tuple[int, Path], variable: str
) -> None:
    port, authority = sealed
    path = tmp_path / "netrc"
    path.write_text(f"machine {FAR} login me password {QUOTED}\ndefault login any password body\n")
    monkeypatch.setenv("NETRC", str(path))
    with proxying({FAR: port, "other.example": port}, f"me:{SECRET}") as proxy:
        monkeypatch.setenv("https_proxy", f"http://me:{QUOTED}@{proxy.place}")
        with pytest.raises(SearchError, match="its certificate can't be verified"):
            HttpPolicy(frozenset()).get(f"https://{FAR}/")
        monkeypatch.setenv(variable, str(authority))
        answer = json.loads(HttpPolicy(frozenset()).get(f"https://{FAR}/"))
        assert answer["agent"] == "Basic " + b64encode(f"me:{QUOTED}".encode()).decode()
        with pytest.raises(SearchError, match="its certificate can't be verified"):
            HttpPolicy(frozenset()).get("https://other.example/")
        with pytest.raises(SearchError, match="would be read over http, though what leads to it is https"):
            HttpPolicy(frozenset()).get(f"https://{FAR}/down")
        with pytest.raises(SearchError, match=r"the proxy .* of https_proxy answered 502") as refused:
            HttpPolicy(frozenset(), retries=1).get("https://nowhere.example/")
        assert "Check https_proxy" in str(refused.value)
    assert {verb for verb, _, _ in proxy.asked} == {"CONNECT"}


def test_workers_take_it_from_their_environment(monkeypatch: pytest.MonkeyPatch, files: ServerProcess) -> None:
    with proxying({FAR: port_of(files.origin)}, f"me:{SECRET}") as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:{QUOTED}@{proxy.place}")
        signer = TokenSigner(f"http://{FAR}/token")
        with (
            LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster,
            Client(cluster) as client,
        ):
            for reader in (TileReader(signer, Retry(2, 0.01)), GdalReader(signer, Retry(2, 0.01))):
                found = client.submit(pixels, reader, f"http://{FAR}/files/a.tif", pure=False).result(timeout=60)
                np.testing.assert_array_equal(found, ramp(256, 256))
            assert "hunter2" not in str(client.get_worker_logs()) + str(client.get_scheduler_logs())
    assert len(proxy.asked) >= 4


@pytest.mark.long
def test_a_product_is_made_through_it_and_nothing_tells_the_password(archive: Archive, shell: Shell) -> None:
    with ServerProcess(archive) as server, proxying({FAR: port_of(server.origin)}, f"me:{SECRET}") as proxy:
        items = [
            json.loads(json.dumps(one).replace(server.origin, f"http://{FAR}"))
            for one in find_items(server.url, Query(server.collection))
        ]
        (shell.cwd / "items.json").write_text(json.dumps({"type": "FeatureCollection", "features": items}))
        options = ["--items", "items.json", "--start-date", "2020-10-01", "--end-date", "2020-10-31", "--workers", "1"]
        environment = {"http_proxy": f"http://me:{QUOTED}@{proxy.place}"}
        made = shell.run("cloudless-mosaic", *options, "--output-dir", "out", env=environment)
    assert made.returncode == 0, made.stderr
    assert len(set(proxy.logins)) == 1
    assert "hunter2" not in made.stdout + made.stderr
    for path in (shell.cwd / "out").rglob("*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes(), path


def test_a_proxy_can_be_pickled_and_compared() -> None:
    assert Proxy("a", "http://p:1", "u", SECRET) == Proxy("a", "http://p:1", "u", SECRET)
    assert "hunter2" not in repr(Proxy("a", "http://p:1", "u", SECRET))
