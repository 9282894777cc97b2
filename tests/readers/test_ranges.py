"""Parts of files over HTTP: servers that fail, lie, dawdle, or send us where we mustn't go."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
import warnings
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from tests.support.files import ramp, source, write_tifffile

from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.process import ServerProcess
from eoap_dask.errors import AssetError, SigningError
from eoap_dask.geo.window import Window
from eoap_dask.net import connections, deadline
from eoap_dask.net.hrefs import peer_is_refused
from eoap_dask.net.retry import Retry
from eoap_dask.net.signing import NoSigner, TokenSigner
from eoap_dask.readers import faults, ranges
from eoap_dask.readers import tiles as tile_reader
from eoap_dask.readers.faults import unreadable
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.ranges import FileState, HttpFile, LocalFile
from eoap_dask.readers.tiles import TileReader

HERE = frozenset({"127.0.0.1"})
QUICK = Retry(attempts=3, backoff_s=0.01)
OTHER = "its server sent another byte range than was requested."
CONTENT = bytes(range(256)) * 400


def http_file(href: str, retry: Retry = QUICK, *, signer: Any = None, hosts: frozenset[str] = HERE) -> HttpFile:
    def fault(reason: str, attempts: int) -> AssetError:
        return unreadable(source(href, (1, 1)), "item", reason, attempts)

    return HttpFile(href, signer or NoSigner(), retry, hosts, fault)


def read(file: HttpFile, start: int = 100, stop: int = 300) -> bytes:
    body, size = file.read(start, stop, lambda body, state: (bytes(body), state.size))
    assert size == len(CONTENT)
    return body


@dataclass
class Answer:
    """What a server says, whatever it is asked."""

    status: int = 206
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes | None = None
    """None: what was asked for."""
    length: int | None = None
    """Announced; None: the right one."""
    pause_s: float = 0.0
    """Between two bytes of the body."""


class Liar(ThreadingHTTPServer):
    """Gives the answers of a list, one after the other, and the last one again and again."""

    daemon_threads = True

    def __init__(self, answers: list[Answer], content: bytes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.answers, self.content = answers, content
        self.asked: list[tuple[str, str]] = []
        self.logins: list[tuple[str, str]] = []
        self.sent = 0
        self.ending = threading.Event()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Liar

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def do_GET(self) -> None:
        server = self.server
        server.asked.append((self.path, self.headers.get("Range", "")))
        server.logins.append((self.headers.get("Authorization", ""), self.headers.get("Proxy-Authorization", "")))
        answer = server.answers[min(len(server.asked), len(server.answers)) - 1]
        first, last = (int(v) for v in self.headers["Range"].removeprefix("bytes=").split("-"))
        body = server.content[first : last + 1] if answer.body is None else answer.body
        self.send_response(answer.status)
        headers = {
            "Content-Length": str(len(body) if answer.length is None else answer.length),
            "Content-Range": f"bytes {first}-{min(last + 1, len(server.content)) - 1}/{len(server.content)}",
            **answer.headers,
        }
        for name, value in headers.items():
            if value:
                self.send_header(name, value)
        self.end_headers()
        step = 1 if answer.pause_s else 1 << 16
        for at in range(0, len(body), step):
            self.wfile.write(body[at : at + step])
            server.sent += step
            if answer.pause_s and server.ending.wait(answer.pause_s):
                break
        if answer.length is not None and answer.length != len(body):
            self.close_connection = True


@contextmanager
def liar(*answers: Answer, content: bytes = CONTENT) -> Iterator[Liar]:
    server = Liar(list(answers) or [Answer()], content)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.ending.set()
        server.shutdown()
        server.server_close()
        thread.join()


def test_a_part_is_had_and_its_connection_kept() -> None:
    with liar() as server:
        file = http_file(f"{server.url}/a.tif")
        assert read(file) == CONTENT[100:300]
        assert read(file, 1000, 1001) == CONTENT[1000:1001]
        assert server.asked == [("/a.tif", "bytes=100-299"), ("/a.tif", "bytes=1000-1000")]
        pool = connections._manager(HERE, None, *connections._certificates()).connection_from_url(server.url)
        assert pool.num_connections == 1


def test_answers_that_are_not_read_take_no_connections() -> None:
    many = 2 * connections.CONNECTIONS
    with liar(*[Answer(501, body=bytes(1 << 20))] * many, Answer()) as server:
        file = http_file(server.url, Retry(attempts=1))
        for _ in range(many):
            with pytest.raises(AssetError, match="answered 501"):
                read(file)
        assert read(file) == CONTENT[100:300]


def test_a_part_that_ends_with_the_file_is_shorter() -> None:
    with liar() as server:
        assert read(http_file(server.url), len(CONTENT) - 5, len(CONTENT) + 500) == CONTENT[-5:]


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (Answer(404), "the server answered 404."),
        (Answer(403), "the server answered 403."),
        (Answer(501), "the server answered 501."),
        (Answer(204, body=b""), "the server answered 204."),
        (Answer(416), faults.BROKEN_PART),
        (Answer(body=bytes(100), length=200), faults.BROKEN_PART),
        (Answer(headers={"Content-Range": ""}), OTHER),
        (Answer(headers={"Content-Range": "bytes 0-199/999"}), OTHER),
        (Answer(headers={"Content-Range": "bytes 100-150/102400"}), OTHER),
        (Answer(headers={"Content-Range": "bytes 100-299/*"}), OTHER),
        (Answer(headers={"Content-Range": f"bytes {'1' * 5000}-{'1' * 5000}/{'1' * 5000}"}), OTHER),
        (Answer(headers={"Content-Encoding": "gzip"}), "its server adds a compression of its own (Content-Encoding)."),
    ],
)  # fmt: skip
def test_what_may_pass_is_tried_again(answer: Answer, why: str) -> None:
    with liar(answer, answer, Answer()) as server:
        assert read(http_file(server.url)) == CONTENT[100:300]
        assert len(server.asked) == 3
    with liar(answer) as server, pytest.raises(AssetError) as caught:
        read(http_file(server.url))
    assert caught.value.what == f"The asset 'B04' of item 'item' can't be read after 3 attempts: {why}"
    assert caught.value.attempts == len(server.asked) == 3
    assert caught.value.__context__ is None


@pytest.mark.parametrize("status", [429, 500, 502, 503, 504])
def test_a_busy_server_is_waited_for(status: int) -> None:
    once = Retry(attempts=1)
    with liar(Answer(status), Answer(status), Answer()) as server:
        assert read(http_file(server.url, once)) == CONTENT[100:300]
        assert len(server.asked) == 3
    with (
        liar(Answer(status)) as server,
        pytest.raises(AssetError, match=f"after 1 attempt: the server answered {status}"),
    ):
        read(http_file(server.url, once))
    assert len(server.asked) == 3


def test_a_server_may_say_how_long() -> None:
    with liar(Answer(429, headers={"Retry-After": "2"}), Answer()) as server:
        began = time.monotonic()
        assert read(http_file(server.url)) == CONTENT[100:300]
        assert time.monotonic() - began >= 2
    with liar(Answer(429, headers={"Retry-After": "9999"})) as server, pytest.raises(AssetError, match="answered 429"):
        read(http_file(server.url, Retry(attempts=1, deadline_s=3)))  # not worth waiting for
    assert len(server.asked) == 1


def test_what_cannot_be_used_is_fetched_again() -> None:
    seen = []

    def use(body: memoryview, state: FileState) -> str:
        seen.append(len(body))
        if len(seen) < 3:
            raise ranges.RetryableReadError("it is broken.")
        return "used"

    with liar() as server:
        assert http_file(server.url).read(0, 9, use) == "used"
        assert seen == [9, 9, 9]
        seen.clear()
        with pytest.raises(AssetError, match=r"after 2 attempts: it is broken\."):
            http_file(server.url, Retry(2, 0.01)).read(0, 9, use)


def test_a_server_that_knows_no_parts_is_refused_and_not_read() -> None:
    content = b"II*\0" + bytes(200 << 20)
    with liar(Answer(200, body=content), content=content) as server:
        for start in (0, 500):
            with pytest.raises(AssetError, match="sends whole files only"):
                http_file(server.url).read(start, start + 1000, lambda body, state: None)
        assert len(server.asked) == 2  # it won't learn
        # what it wrote into the socket's buffers before we hung up, and not the file
        assert server.sent < 100 << 20


def test_a_file_that_is_shorter_than_the_part_may_come_whole() -> None:
    content = b"II*\0" + bytes(1000)
    with liar(Answer(200), content=content) as server:
        assert http_file(server.url).read(0, 5000, lambda body, state: (bytes(body), state.size)) == (
            content,
            len(content),
        )


def test_a_page_is_no_file() -> None:
    with liar(Answer(200, body=b"<html>Sign in</html>")) as server, pytest.raises(AssetError, match="isn't a raster"):
        http_file(server.url).read(0, 5000, lambda body, state: None)


def test_a_dead_server_is_told() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        href = f"http://127.0.0.1:{unused.getsockname()[1]}/a.tif"
        with pytest.raises(AssetError, match=r"after 3 attempts: its server can't be reached\."):
            read(http_file(href))


@pytest.mark.parametrize(
    "answer",
    [Answer(pause_s=30.0), Answer(pause_s=0.05), Answer(headers={"X-Slow": "1"}, pause_s=0.05, body=CONTENT[100:300])],
)
def test_a_server_that_dawdles_is_given_up_at_the_deadline(answer: Answer) -> None:
    began = time.monotonic()
    with liar(answer) as server, pytest.raises(AssetError, match=r"in time|fetched or decoded"):
        read(http_file(server.url, Retry(9, 0.01, deadline_s=1.0)))
    assert 0.9 < time.monotonic() - began < 60


def test_the_watch_lets_go_of_what_is_done() -> None:
    with liar() as server:
        read(http_file(server.url))
    assert not deadline.WATCH._ends
    assert not deadline.WATCH._sockets


def test_the_watch_lets_nobody_read_what_is_encrypted() -> None:
    """An SSL socket that is shut down in its own way hands on what comes then as it is."""

    class Sealed(socket.socket):
        def shutdown(self, how: int) -> None:
            raise AssertionError("the watch breaks the seal")

    ours, theirs = socket.socketpair()
    sealed = Sealed(fileno=ours.detach())
    with sealed, theirs:
        theirs.settimeout(20)
        with deadline.WATCH.holding(time.monotonic() + 0.05):
            deadline.WATCH.uses(sealed)
            assert theirs.recv(1) == b""  # hung up
        assert deadline.WATCH._thread is not None
        assert deadline.WATCH._thread.is_alive()


def test_a_forked_process_reads_by_itself(tmp_path: Path) -> None:
    with liar() as server:
        file = http_file(server.url)
        read(file)
        waiting, done = threading.Event(), threading.Event()

        def hold() -> None:
            with deadline.WATCH._changed:
                waiting.set()
                done.wait(60)

        holder = threading.Thread(target=hold)
        holder.start()
        waiting.wait(60)
        tile_reader._helpers().submit(int).result()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            child = os.fork()
        if not child:  # where the watch's lock is held by nobody who could let it go
            signal.alarm(30)
            good = read(file) == CONTENT[100:300] and tile_reader._helpers().submit(int).result() == 0
            os._exit(0 if good else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        done.set()
        holder.join()


@pytest.mark.parametrize(
    ("url", "hosts", "sent"),
    [
        ("https://data.example/a.tif", frozenset(), True),
        ("http://data.example/a.tif", frozenset(), False),  # in clear
        ("http://data.example/a.tif", frozenset({"data.example"}), True),
        ("https://other.example/a.tif", frozenset(), False),  # although there is a default
    ],
)
def test_a_login_goes_where_it_belongs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, hosts: frozenset[str], sent: bool
) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine data.example login me password open\ndefault login you password all\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    assert connections.login_for(url, hosts) == (("me", "open") if sent else None)


def test_a_login_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login me password open\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))
    with liar() as server:
        read(http_file(server.url))
    assert server.logins == [("Basic " + b64encode(b"me:open").decode(), "")]


# ----------------------------------------------------------------------------------------------------
# Where it leads


def moved(url: str, status: int = 302) -> Answer:
    return Answer(status, {"Location": url, "Content-Range": ""}, body=b"")


def test_a_redirect_is_followed_and_remembered() -> None:
    with liar() as there, liar(moved(f"{there.url}/b.tif?sig=1")) as here:
        file = http_file(f"{here.url}/a.tif")
        assert read(file) == read(file) == CONTENT[100:300]
        assert [path for path, _ in here.asked] == ["/a.tif"]
        assert [path for path, _ in there.asked] == ["/b.tif?sig=1"] * 2


def test_a_redirect_may_be_relative() -> None:
    with liar(moved("../b.tif", 307), Answer()) as server:
        assert read(http_file(f"{server.url}/x/a.tif")) == CONTENT[100:300]
        assert [path for path, _ in server.asked] == ["/x/a.tif", "/b.tif"]


@pytest.mark.parametrize(
    "target",
    [
        "http://169.254.169.254/latest/meta-data",
        "http://10.0.0.1/a.tif",
        "http://127.0.0.2/a.tif",
        "http://localhost:1/a.tif",
        "http://[::1]/a.tif",
        "file:///etc/passwd",
        "ftp://example.org/a.tif",
        "http://user:secret@example.org/a.tif",
    ],
)
def test_a_redirect_to_where_a_catalogue_may_not_send_us_is_refused(target: str) -> None:
    with liar(moved(target)) as server, pytest.raises(AssetError) as caught:
        read(http_file(server.url))
    assert len(server.asked) == 1
    assert "The href" in caught.value.what
    assert "secret" not in str(caught.value)


def test_gdal_is_not_sent_where_we_would_not_go() -> None:
    """Only what is there is GDAL's to read: it would follow a redirect anywhere."""
    with liar(content=b"secret") as hidden:
        away = hidden.url.replace("127.0.0.1", "127.0.0.2")
        with liar(moved(f"{away}/internal")) as server, pytest.raises(AssetError, match=r"private host '127\.0\.0\.2'"):
            GdalReader(NoSigner(), QUICK, HERE).open(source(f"{server.url}/a.jp2", (1, 1)), "item").read(
                0, Window(0, 1, 0, 1), np.zeros((1, 1), np.uint16)
            )
        assert hidden.asked == []
    assert len(server.asked) == 1


def test_a_redirect_to_nowhere_is_refused() -> None:
    with liar(moved("http://[::1/x")) as server, pytest.raises(AssetError, match="redirects to an invalid address"):
        read(http_file(server.url))
    assert len(server.asked) == 1


def test_redirects_end() -> None:
    with liar(moved("/again")) as server, pytest.raises(AssetError, match="redirects more than 3 times"):
        read(http_file(server.url))
    assert len(server.asked) == 4


def test_an_href_that_leads_to_a_private_host_is_not_asked() -> None:
    with liar() as server, pytest.raises(AssetError, match="leads to the private host"):
        read(http_file(server.url, hosts=frozenset()))
    assert server.asked == []


def test_a_name_that_has_turned_private_is_hung_up_on(monkeypatch: pytest.MonkeyPatch) -> None:
    with liar() as server:
        port = urlsplit(server.url).port
        real = socket.getaddrinfo

        def rebound(host: str, *more: Any, **options: Any) -> Any:
            return real("127.0.0.1" if host == "rebound.example" else host, *more, **options)

        # the check of hrefs looked when it still was a public address
        monkeypatch.setattr("eoap_dask.net.hrefs._resolve", lambda name: ())
        monkeypatch.setattr(socket, "getaddrinfo", rebound)
        with pytest.raises(AssetError, match=r"The server 'rebound.example' has the private address 127.0.0.1"):
            read(http_file(f"http://rebound.example:{port}/a.tif", hosts=frozenset()), 0, 10)
        assert server.asked == []


def test_which_peers_are_refused() -> None:
    assert not peer_is_refused("example.org", "93.184.215.14")
    assert not peer_is_refused("data.local", "10.0.0.7", private_hosts=frozenset({"data.local"}))
    assert not peer_is_refused("x", "10.0.0.7", private_hosts=frozenset({"10.0.0.7"}))
    assert not peer_is_refused("x", "::ffff:93.184.215.14")
    for peer in ("10.0.0.7", "127.0.0.1", "::1", "fe80::1%eth0", "::ffff:10.0.0.1", "100.64.0.1", "nonsense", ""):
        assert peer_is_refused("example.org", peer), peer
    assert peer_is_refused("data.local", "169.254.169.254", private_hosts=frozenset({"data.local"}))


# ----------------------------------------------------------------------------------------------------
# Signatures, and all of it together


@pytest.fixture(scope="module")
def signed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    root = tmp_path_factory.mktemp("signed")
    write_tifffile(root / "a.tif", ramp(256, 256), compression="zlib")
    with ServerProcess(Catalogue(root, [], "sentinel-2-l2a"), sign=True) as server:
        yield server


def test_an_expired_signature_is_renewed(signed: ServerProcess) -> None:
    reader = TileReader(TokenSigner(f"{signed.origin}/token"), Retry(attempts=2, backoff_s=0.01), HERE)
    raster = reader.open(source(f"{signed.files_url}/a.tif", (256, 256)), "item")
    assert raster.shapes == ((256, 256),)
    signed.revoke_tokens()
    out = np.zeros((256, 256), np.uint16)
    raster.read(0, Window(0, 256, 0, 256), out)
    np.testing.assert_array_equal(out, ramp(256, 256))


def test_without_a_signature_there_is_none(signed: ServerProcess) -> None:
    reader = TileReader(TokenSigner(f"{signed.origin}/no-token"), Retry(attempts=1), HERE)
    tile_reader._HEADERS.clear()
    with pytest.raises(AssetError, match="Assets couldn't be signed through"):
        _ = reader.open(source(f"{signed.files_url}/a.tif", (256, 256)), "item").shapes


@dataclass(frozen=True)
class Counting:
    """Signs with a number, and fails when told to."""

    asked: list[bool] = field(default_factory=list)
    fails: Callable[[int], bool] = lambda number: False

    def sign(self, href: str, *, fresh: bool = False) -> str:
        self.asked.append(fresh)
        if self.fails(len(self.asked)):
            raise SigningError("It broke.")
        return f"{href}?n={len(self.asked)}"


def test_only_a_refusal_asks_for_a_fresh_signature() -> None:
    signer = Counting()
    with liar(Answer(503), Answer(403), Answer()) as server:
        read(http_file(server.url, signer=signer))
        assert [path for path, _ in server.asked] == ["/?n=1", "/?n=1", "/?n=2"]
    assert signer.asked == [False, True]


def test_a_signer_that_stumbles_is_asked_again() -> None:
    signer = Counting(fails=lambda number: number < 3)
    with liar() as server:
        assert read(http_file(server.url, signer=signer)) == CONTENT[100:300]
    with liar() as server, pytest.raises(AssetError, match=r"after 2 attempts: It broke\."):
        read(http_file(server.url, Retry(2, 0.01), signer=Counting(fails=lambda number: True)))


# ----------------------------------------------------------------------------------------------------
# Files that are replaced


@pytest.mark.parametrize(
    ("now", "other"),
    [
        (FileState(9, "a", "x"), False),
        (FileState(8, "a", "x"), True),
        (FileState(9, "b", "y"), True),
        (FileState(9, "b", ""), True),
        (FileState(9, "", "y"), True),
        (FileState(9, "", ""), False),
        (FileState(9, "b", "x"), False),  # of another mirror
    ],
)
def test_when_a_file_is_another_one(now: FileState, other: bool) -> None:
    assert now.is_other(FileState(9, "a", "x")) is other


@pytest.mark.parametrize("answer", [Answer(headers={"ETag": '"2"'}), Answer(416)])
def test_a_part_of_another_file_is_not_taken(answer: Answer) -> None:
    with liar(Answer(headers={"ETag": '"1"'}), answer) as server:
        file = http_file(server.url)
        state = file.read(0, 9, lambda body, state: state)
        assert state == FileState(len(CONTENT), '"1"')
        with pytest.raises(ranges.FileReplacedError):
            file.read(0, 9, lambda body, state: state, state)
        assert len(server.asked) == 2


# ----------------------------------------------------------------------------------------------------
# Files on a disk


def test_a_local_file_that_is_not_there_is_told(tmp_path: Path) -> None:
    def fault(reason: str, attempts: int) -> AssetError:
        return unreadable(source("x", (1, 1)), "item", reason, attempts)

    with pytest.raises(AssetError, match=r"after 1 attempt: No such file or directory\."):
        LocalFile(tmp_path / "none.tif", fault).read(0, 1, lambda body, state: None)
    (tmp_path / "short").write_bytes(b"abc")
    found = LocalFile(tmp_path / "short", fault).read(1, 9, lambda body, state: (bytes(body), state.size))
    assert found == (b"bc", 3)
    with pytest.raises(ranges.FileReplacedError):
        LocalFile(tmp_path / "short", fault).read(1, 9, lambda body, state: None, FileState(4))
    assert LocalFile(tmp_path / "short", fault).read(5, 9, lambda body, state: bytes(body)) == b""
