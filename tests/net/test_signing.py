import json
import pickle
import socket
import threading
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from eoap_dask.errors import SigningError, UsageError
from eoap_dask.net import signing
from eoap_dask.net.signing import (
    NoSigner,
    PlanetaryComputerSigner,
    TokenSigner,
    detect_signing,
    origin,
    signer_from,
    unsigned,
)

SECRET = "hunter2SECRET"
BLOB = "https://sentinel2l2a01.blob.core.windows.net/sentinel2-l2/06/V/VN/B04.tif"
PC = "https://planetarycomputer.microsoft.com/api/stac/v1"


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    monkeypatch.setattr(signing, "_BACKOFF_S", 0.001)
    monkeypatch.setattr(signing, "_TIMEOUT_S", 5.0)
    signing._TOKENS.clear()
    signing._FETCHED.clear()


@contextmanager
def dripping():
    """A server that sends a byte of its answer every now and then, without end."""
    server = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def drip():
        with suppress(OSError):
            while True:
                connection, _ = server.accept()
                threading.Thread(target=send, args=(connection,), daemon=True).start()

    def send(connection):
        with suppress(OSError), connection:
            connection.recv(9999)
            connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 60000\r\n\r\n")
            while not over.wait(0.05):
                connection.sendall(b" ")

    threading.Thread(target=drip, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"
    finally:
        over.set()
        server.close()


@contextmanager
def serving(*answers):
    """A server that gives these (status, body) answers in turn, the last one for ever."""
    left = list(answers)

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            server.asked.append(self.path)
            status, body = left.pop(0) if len(left) > 1 else left[0]
            if callable(body):
                body = body(len(server.asked))
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            if status == 302:
                self.send_header("Location", "http://127.0.0.1:1/")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.asked = []
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()


def expiry(seconds):
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat().replace("+00:00", "Z")


def token(seconds):
    return lambda n: {"token": f"sig={SECRET}{n}", "expires": expiry(seconds)}


def test_no_signer_leaves_everything():
    assert NoSigner().sign(BLOB, fresh=True) == BLOB
    assert signer_from({}) == NoSigner()
    assert signer_from({"kind": "none"}) == NoSigner()


def test_a_token_is_cached_and_renewed():
    with serving((200, token(3600))) as server:
        signer = TokenSigner(f"{server.url}/token")
        href = f"{server.url}/a/B04.tif"
        assert signer.sign(href) == f"{href}?sig={SECRET}1"
        assert pickle.loads(pickle.dumps(signer)).sign(href) == f"{href}?sig={SECRET}1"  # noqa: S301
        assert len(server.asked) == 1
        assert signer.sign(f"{href}?x=1") == f"{href}?x=1&sig={SECRET}1"
        assert signer.sign(href, fresh=True) == f"{href}?sig={SECRET}2"
        assert signer.sign(href) == f"{href}?sig={SECRET}2"
        # a signed href is signed anew, not twice
        assert signer.sign(f"{href}?sig=old&se=1") == f"{href}?sig={SECRET}2"
        assert len(server.asked) == 2


def test_a_token_is_renewed_a_minute_before_it_expires():
    with serving((200, token(59))) as server:
        signer = TokenSigner(f"{server.url}/token")
        assert signer.sign(f"{server.url}/x") != signer.sign(f"{server.url}/x")


def test_a_token_goes_to_its_own_origin_only():
    with serving((200, token(3600))) as server:
        signer = TokenSigner(f"{server.url}/token")
        for href in (
            BLOB,
            f"http://localhost:{server.server_port}/x",
            "http://127.0.0.1:1/x",
            "/x",
            "s3://a/b",
        ):
            assert signer.sign(href) == href
        assert server.asked == []


def test_many_threads_ask_once_also_for_a_fresh_one():
    with serving((200, token(3600))) as server:
        signer = TokenSigner(f"{server.url}/token")
        threads = 12
        barrier = threading.Barrier(threads)
        found = []

        def work(*, fresh):
            barrier.wait()
            found.append(signer.sign(f"{server.url}/x", fresh=fresh))

        for fresh in (False, True):
            workers = [threading.Thread(target=work, kwargs={"fresh": fresh}) for _ in range(threads)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join()
        assert len(found) == 2 * threads
        assert len(set(found[:threads])) == 1
        assert len(server.asked) < 1 + threads


def test_hiccups_are_retried():
    with serving((503, {}), (429, {}), (200, token(3600))) as server:
        assert TokenSigner(f"{server.url}/token").sign(f"{server.url}/x").endswith("3")


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ((500, {}), "it answered 500, 4 times"),
        ((403, {"token": SECRET}), "it answered 403"),
        ((302, {}), "it answered 302"),
        ((200, b"<html>" + SECRET.encode()), "has no token"),
        ((200, [SECRET]), "has no token"),
        ((200, {"token": SECRET}), "has no token"),
        ((200, {"token": SECRET, "expires": "soon"}), "has no token"),
        ((200, {"token": f"a b{SECRET}", "expires": "2100-01-01T00:00:00Z"}), "has no token"),
        ((200, {"token": 5, "expires": "2100-01-01T00:00:00Z"}), "has no token"),
        ((200, b" " * 200_000), "has no token"),
    ],
)
def test_faults_tell_the_endpoint_and_no_secret(answer, says):
    with serving(answer) as server:
        with pytest.raises(SigningError) as caught:
            TokenSigner(f"{server.url}/token?key={SECRET}").sign(f"{server.url}/x?sig={SECRET}")
        assert says in str(caught.value)
        assert f"{server.url}/token" in str(caught.value)
        assert SECRET not in str(caught.value)
        assert SECRET not in repr(caught.value)
        assert caught.value.exit_code == 4


def test_an_answer_that_drips_ends_in_time_for_all_who_wait(monkeypatch):
    monkeypatch.setattr(signing, "_TIMEOUT_S", 0.5)
    monkeypatch.setattr(signing, "_ATTEMPTS", 2)
    faults = []

    def sign(url):
        try:
            TokenSigner(f"{url}/token").sign(f"{url}/a.tif")
        except SigningError as fault:
            faults.append(str(fault))

    with dripping() as slow, serving((200, token(3600))) as well:
        waiting = [threading.Thread(target=sign, args=(slow,)) for _ in range(8)]
        for one in waiting:
            one.start()
        # another endpoint isn't waited for
        assert "sig=" in TokenSigner(f"{well.url}/token").sign(f"{well.url}/a.tif")
        assert not faults
        for one in waiting:
            one.join(60)
        assert not any(one.is_alive() for one in waiting)
    assert len(faults) == 8
    assert all("didn't answer within 0.5 s, 2 times" in one for one in faults)


def test_an_endpoint_that_is_gone():
    with serving((200, {})) as server:
        url = server.url
    with pytest.raises(SigningError, match=r"it can't be reached, 4 times"):
        TokenSigner(f"{url}/token").sign(f"{url}/x")


@pytest.fixture
def planetary(monkeypatch):
    """Point the library at a server on the loopback, with nothing in its cache."""
    from planetary_computer import sas

    def point(url):
        monkeypatch.setenv("PC_SDK_SAS_URL", f"{url}/api/sas/v1/token")
        monkeypatch.setenv("PC_SDK_SUBSCRIPTION_KEY", SECRET)
        sas.Settings.get.cache_clear()

    sas.TOKEN_CACHE.clear()
    yield point
    sas.TOKEN_CACHE.clear()
    sas.Settings.get.cache_clear()


def sas_token(seconds):
    return lambda n: {"token": f"st=1&se=2&sp=rl&sig={SECRET}{n}", "msft:expiry": expiry(seconds)}


def test_planetary_computer(planetary):
    with serving((500, {}), (200, sas_token(3600))) as server:
        planetary(server.url)
        signer = signer_from({"kind": "planetary-computer"})
        assert signer.sign(BLOB) == f"{BLOB}?st=1&se=2&sp=rl&sig={SECRET}2"
        assert pickle.loads(pickle.dumps(signer)).sign(BLOB).endswith("2")  # noqa: S301
        assert signer.sign(BLOB, fresh=True).endswith("3")
        assert signer.sign(signer.sign(BLOB)) == signer.sign(BLOB)
        assert server.asked == ["/api/sas/v1/token/sentinel2l2a01/sentinel2-l2"] * 3
        for href in (
            "https://example.org/x",
            "https://ai4edatasetspublicassets.blob.core.windows.net/a/b.png",
        ):
            assert signer.sign(href) == href
        assert len(server.asked) == 3


def test_planetary_computer_with_a_short_token(planetary):
    with serving((200, sas_token(30))) as server:
        planetary(server.url)
        assert PlanetaryComputerSigner().sign(BLOB).endswith("1")
        assert PlanetaryComputerSigner().sign(BLOB).endswith("2")


@pytest.mark.parametrize("answer", [(404, {"detail": SECRET}), (200, {"token": SECRET}), (200, b"<html>")])
def test_planetary_computer_faults(planetary, answer):
    with serving(answer) as server:
        planetary(server.url)
        with pytest.raises(SigningError) as caught:
            PlanetaryComputerSigner().sign(f"{BLOB}?sig={SECRET}")
        assert SECRET not in str(caught.value)


def test_signer_from_checks_the_specification():
    assert signer_from({"kind": "token", "endpoint": "http://127.0.0.1:1/t"}) == TokenSigner("http://127.0.0.1:1/t")
    with pytest.raises(UsageError, match="The kind of signing 'magic' isn't known"):
        signer_from({"kind": "magic"})
    for endpoint in ("", "file:///x", "http://169.254.169.254/token", f"ftp://h/x?sig={SECRET}"):
        with pytest.raises(UsageError) as caught:
            signer_from({"kind": "token", "endpoint": endpoint})
        assert SECRET not in str(caught.value)


def test_detect_signing():
    link = {"rel": "eoap:token", "href": "http://127.0.0.1:9000/token"}
    found = {"kind": "token", "endpoint": "http://127.0.0.1:9000/token"}
    assert detect_signing(PC) == {"kind": "planetary-computer"}
    assert detect_signing("https://earth-search.aws.element84.com/v1") == {"kind": "none"}
    assert detect_signing("http://127.0.0.1:9000", [{"rel": "self"}, link]) == found
    assert detect_signing("http://127.0.0.1:9000", [{"rel": "eoap:token", "href": "token"}]) == found
    for stac in ("http://127.0.0.1:9001", "https://127.0.0.1:9000", "http://localhost:9000", ""):
        assert detect_signing(stac, [link]) == {"kind": "none"}
    item = {"links": [{"rel": "root", "href": PC}], "assets": {"B04": {"href": BLOB}}}
    assert detect_signing("", (), [item]) == {"kind": "planetary-computer"}
    assert detect_signing("https://example.org", (), [item]) == {"kind": "none"}
    assert detect_signing("", (), [{**item, "links": []}, {}]) == {"kind": "none"}


def test_unsigned():
    assert unsigned(f"{BLOB}?st=1&se=2&sp=r&sig=x") == BLOB
    assert unsigned(f"{BLOB}?a=1&sig=x") == f"{BLOB}?a=1"
    assert unsigned(f"{BLOB}?st=1&collection=a") == f"{BLOB}?st=1&collection=a"
    assert unsigned("http://[::1/x?sig=1") == "http://[::1/x?sig=1"


def test_origin():
    assert origin("https://a.org/x") == ("https", "a.org", 443) == origin("https://A.org.:443")
    assert origin("https://a.org:99999") is origin("https://u@a.org") is origin("ftp://a.org") is None
