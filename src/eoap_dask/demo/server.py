"""A STAC API and a file server with range requests, on loopback: real protocols, and faults on demand.

It shares the interpreter's lock with its client: in one process with it, rasterio needs
GDAL_DISABLE_READDIR_ON_OPEN=EMPTY_DIR, or waits for ever; see `eoap_dask.demo.process`.
"""

from __future__ import annotations

import contextlib
import hashlib
import hmac
import json
import re
import secrets
import socket
import threading
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import TracebackType
from typing import Any, ClassVar, Self
from urllib.parse import parse_qs, quote, unquote, urlsplit

from eoap_dask.demo.catalogue import GEOJSON, ApiError, Catalogue, CatalogueLike, StacApi, from_query_string
from eoap_dask.errors import UsageError

_MAX_BODY = 4_000_000
_CORRUPT_BYTES = 64
_TOKEN_PATH = "/token"  # noqa: S105  (a path)
_HTML = b"<!DOCTYPE html><html><head><title>Sign in</title></head><body>Please sign in.</body></html>"

FAULTS = (
    "403",
    "404",
    "429",
    "500",
    "503",
    "403-then-ok:N",  # for the first N requests of a path
    "429-then-ok:N",
    "500-then-ok:N",
    "503-then-ok:N",
    "truncate",  # a body cut in the middle, its announced length is right
    "truncate-then-ok:N",
    "short-file",  # a file that ends in its middle
    "corrupt",  # wrong bytes in the middle of a body
    "corrupt-then-ok:N",
    "html",  # a page of HTML with status 200
    "not-tiff",
    "no-range",  # Range is ignored
    "slow:S",  # an answer S seconds late; the same as hang
    "hang:S",
)
"""What can go wrong, per path."""


class Stats:
    """Counts what the server was asked for; safe to read while it runs."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.reset()

    def reset(self) -> None:
        """Start counting from nothing."""
        with self._lock:
            self._requests = 0
            self._api_requests = 0
            self._bytes_sent = 0
            self._ranges: dict[str, list[tuple[int, int]]] = {}

    @property
    def requests(self) -> int:
        """Requests of all kinds."""
        with self._lock:
            return self._requests

    @property
    def api_requests(self) -> int:
        """Requests to the STAC API."""
        with self._lock:
            return self._api_requests

    @property
    def bytes_sent(self) -> int:
        """Bytes of the bodies of files, as they were sent."""
        with self._lock:
            return self._bytes_sent

    @property
    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        """Per path below the root, what was sent of it: pairs of first byte and the one after the last."""
        with self._lock:
            return {path: list(ranges) for path, ranges in self._ranges.items()}

    def count(self, *, api: bool) -> None:
        """Count a request, to the STAC API or for a file."""
        with self._lock:
            self._requests += 1
            self._api_requests += api

    def sent(self, path: str, start: int, stop: int) -> None:
        """Count a part of a file below the root: first byte, and the one after the last."""
        with self._lock:
            self._bytes_sent += stop - start
            self._ranges.setdefault(path, []).append((start, stop))


class DemoServer:
    """A STAC API at `url` over files at `files_url`, running while the context is open."""

    def __init__(
        self,
        source: CatalogueLike | Path | str,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        latency_s: float = 0.0,  # wait before each answer
        # a part of the path of a file, or of /token → one of `FAULTS`; the first that matches counts; the dictionary
        # may be changed while the server runs
        faults: Mapping[str, str] | None = None,
        api_fault: str | None = None,  # one of `FAULTS` for the STAC API
        # whether files need a token as their query; the landing page links to it with the relation eoap:token
        sign: bool = False,
        token_lifetime_s: float = 3600.0,
        page_size: int = 100,  # the most items of one page, and the default
    ) -> None:
        self.faults: dict[str, str] = dict(faults or {})
        self.api_fault = api_fault
        check_faults(self.faults, api_fault)
        self.catalogue = Catalogue.from_directory(source) if isinstance(source, Path | str) else source
        self.root = Path(self.catalogue.root).resolve()
        self.latency_s = latency_s
        self.sign = sign
        self.token_lifetime_s = token_lifetime_s
        self.page_size = page_size
        self.stats = Stats()
        self._host, self._port = host, port
        self._secret = secrets.token_bytes(32)
        self._failed: Counter[str] = Counter()
        self._failed_lock = threading.Lock()
        self._stopping = threading.Event()
        self._http: _HTTPServer | None = None
        self._thread: threading.Thread | None = None
        self.origin = ""
        self.api: StacApi

    @property
    def url(self) -> str:
        """Root of the STAC API."""
        return f"{self.origin}/stac"

    @property
    def files_url(self) -> str:
        """Where the root directory is served."""
        return f"{self.origin}/files"

    @property
    def collection(self) -> str:
        """Id of the collection."""
        return self.catalogue.collection

    def item_url(self, item_id: str) -> str:
        """Return where the API has an item, as its link ``self`` says."""
        return f"{self.url}/collections/{self.collection}/items/{quote(item_id)}"

    def start(self) -> Self:
        """Listen, and serve in a thread; what entering the context does."""
        self._http = _HTTPServer((self._host, self._port), self)
        host, port = str(self._http.server_address[0]), self._http.server_port
        self.origin = f"http://{host}:{port}"
        token = {"rel": "eoap:token", "href": f"{self.origin}{_TOKEN_PATH}", "type": "application/json"}
        self.api = StacApi(self.catalogue, self.url, self.files_url, self.page_size, [token] if self.sign else [])
        self._stopping.clear()
        self._thread = threading.Thread(
            target=self._http.serve_forever,
            kwargs={"poll_interval": 0.02},
            name="eoap-demo-server",
            daemon=True,
        )
        self._thread.start()
        return self

    def close(self) -> None:
        """Stop serving, and drop the connections that are open; what leaving the context does."""
        self._stopping.set()
        if self._http is not None and self._thread is not None:
            self._http.shutdown()
            self._http.server_close()
            self._thread.join()
        self._http = self._thread = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def make_token(self) -> tuple[str, datetime]:
        """Issue a token: what to append to an href as its query, and when it expires."""
        expiry = time.time() + self.token_lifetime_s
        return f"sig={expiry:.3f}-{self._signature(f'{expiry:.3f}')}", datetime.fromtimestamp(expiry, UTC)

    def revoke_tokens(self) -> None:
        """Make all tokens so far worthless, as if they had expired."""
        self._secret = secrets.token_bytes(32)

    def accepts(self, token: str) -> bool:
        """Tell whether a token (the value of ``sig``) was given out and hasn't expired."""
        expiry, _, signature = token.partition("-")
        good = hmac.compare_digest(signature.encode(), self._signature(expiry).encode())
        return good and float(expiry) > time.time()

    def wait(self, seconds: float) -> None:
        """Sleep, but not longer than the server lives."""
        if seconds > 0:
            self._stopping.wait(seconds)

    def fault_of(self, path: str) -> _Fault | None:
        """Return the fault for a request of a path below the root, or of ``/token``, and count it if it passes."""
        fault = next((fault for part, fault in self.faults.items() if part in path), None)
        return self._due(fault, path) if fault else None

    def fault_of_api(self) -> _Fault | None:
        """Return the fault for a request to the API, and count it if it passes."""
        return self._due(self.api_fault, "") if self.api_fault else None

    def _due(self, text: str, path: str) -> _Fault | None:
        fault = _parse_fault(text)
        if fault.times is not None:
            with self._failed_lock:
                self._failed[path] += 1
                if self._failed[path] > fault.times:
                    return None
        return fault

    def _signature(self, expiry: str) -> str:
        return hmac.new(self._secret, expiry.encode(), hashlib.sha256).hexdigest()


def check_faults(faults: Mapping[str, str], api_fault: str | None) -> None:
    """Raise `UsageError` for a fault that isn't one of `FAULTS`."""
    for fault in [*faults.values(), *([] if api_fault is None else [api_fault])]:
        _parse_fault(fault)


@dataclass(frozen=True)
class _Fault:
    """A fault, parsed."""

    kind: str
    status: int | None = None
    times: int | None = None
    seconds: float = 0.0


@lru_cache
def _parse_fault(text: str) -> _Fault:
    """Read a fault; see `FAULTS`."""
    kind, _, argument = text.partition(":")
    form = f"{kind}:{'S' if kind in ('slow', 'hang') else 'N'}" if argument else kind
    try:
        if form not in FAULTS:
            raise ValueError(text)
        if kind in ("slow", "hang"):
            return _Fault("slow", seconds=float(argument))
        kind = kind.removesuffix("-then-ok")
        times = int(argument) if argument else None
    except ValueError:
        raise UsageError(f"{text!r} isn't a fault.", f"Faults are {', '.join(FAULTS)}.") from None
    return _Fault("status", status=int(kind), times=times) if kind.isdigit() else _Fault(kind, times=times)


class _HTTPServer(ThreadingHTTPServer):
    """One thread per connection; open connections are dropped when it closes."""

    request_queue_size = 128
    daemon_threads = True

    def __init__(self, address: tuple[str, int], demo: DemoServer) -> None:
        self.demo = demo
        self._open: set[socket.socket] = set()
        self._open_lock = threading.Lock()
        super().__init__(address, _Handler)

    def server_bind(self) -> None:
        # HTTPServer.server_bind looks the host's name up, which can take seconds where there is no DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()
        self.server_name, self.server_port = str(self.server_address[0]), int(self.server_address[1])

    def process_request(self, request: Any, client_address: Any) -> None:
        with self._open_lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        with self._open_lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def server_close(self) -> None:
        super().server_close()
        with self._open_lock:
            left = list(self._open)
        for connection in left:
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients come and go; the standard library prints each that does."""


class _Handler(BaseHTTPRequestHandler):
    """Requests of one connection."""

    protocol_version = "HTTP/1.1"
    server_version = "eoap-demo"
    disable_nagle_algorithm = True
    server: _HTTPServer
    extensions: ClassVar[dict[str, str]] = {
        ".tif": "image/tiff",
        ".json": "application/json",
        ".png": "image/png",
    }

    @property
    def demo(self) -> DemoServer:
        return self.server.demo

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  (the name is the parent's)
        """No access log."""

    def do_GET(self) -> None:
        self._answer()

    def do_HEAD(self) -> None:
        self._answer()

    def do_POST(self) -> None:
        self._answer()

    def _answer(self) -> None:
        demo = self.demo
        parts = urlsplit(self.path)
        path = unquote(parts.path)
        is_api = path == "/stac" or path.startswith("/stac/")
        demo.stats.count(api=is_api)
        try:
            body = self._body()
            demo.wait(demo.latency_s)
            if is_api:
                if not self._fail(demo.fault_of_api()):
                    self._api(path.removeprefix("/stac").rstrip("/"), parts.query, body)
            elif path == _TOKEN_PATH:
                if not self._fail(demo.fault_of(path)):
                    token, expires = demo.make_token()
                    self._json(200, {"token": token, "expires": expires.isoformat().replace("+00:00", "Z")})
            elif path.startswith("/files/") and self.command != "POST":
                self._file(path.removeprefix("/files/"), parts.query)
            else:
                raise ApiError(404, f"There is nothing at {path}.")
        except ApiError as error:
            if error.status == 413:
                self.close_connection = True
            self._json(error.status, {"code": str(error.status), "description": error.description})

    def _body(self) -> bytes:
        length = self.headers.get("Content-Length", "0")
        if not length.isdecimal() or self.headers.get("Transfer-Encoding"):
            self.close_connection = True
            raise ApiError(400, "The length of the body isn't given.")
        if int(length) > _MAX_BODY:
            raise ApiError(413, f"The body is longer than {_MAX_BODY} bytes.")
        return self.rfile.read(int(length))

    def _api(self, path: str, query: str, body: bytes) -> None:
        api = self.demo.api
        steps = path.strip("/").split("/") if path else []
        if self.command == "POST":
            if steps != ["search"]:
                raise ApiError(405, f"POST isn't for {path or '/'}; search is.")
            self._json(200, api.search(_json_object(body), method="POST"), GEOJSON)
            return
        if steps == ["search"]:
            self._json(200, api.search(_query(query), method="GET"), GEOJSON)
            return
        if len(steps) == 3 and steps[::2] == ["collections", "items"]:
            api.collection(steps[1])
            request = _query(query) | {"collections": [steps[1]]}
            self._json(200, api.search(request, method="GET", path=path), GEOJSON)
            return
        if len(steps) == 4 and steps[::2] == ["collections", "items"]:
            self._json(200, api.item(steps[1], steps[3]), GEOJSON)
            return
        pages: dict[tuple[str, ...], Callable[[], dict[str, Any]]] = {
            (): api.landing,
            ("conformance",): lambda: {"conformsTo": api.landing()["conformsTo"]},
            ("collections",): api.collections,
            ("collections", *steps[1:2]): lambda: api.collection(steps[1]) if steps[1:] else api.collections(),
        }
        page = pages.get(tuple(steps))
        if page is None:
            raise ApiError(404, f"The API has nothing at {path}.")
        self._json(200, page())

    def _file(self, name: str, query: str) -> None:
        demo = self.demo
        fault = demo.fault_of(name)
        if self._fail(fault):
            return
        if demo.sign and not demo.accepts(parse_qs(query).get("sig", [""])[-1]):
            raise ApiError(403, "The signature is missing, wrong or expired.")
        file = _inside(demo.root, name)
        if file is None:
            raise ApiError(404, f"There is no file {name}.")
        kind = fault.kind if fault else ""
        stat = file.stat()
        size = stat.st_size // 2 if kind == "short-file" else stat.st_size
        etag = f'"{stat.st_mtime_ns:x}-{size:x}"'
        wanted = None if kind == "no-range" else self.headers.get("Range")
        if wanted and self.headers.get("If-Range", etag) != etag:
            wanted = None
        span = _parse_range(wanted, size) if wanted else None
        if span is not None and span[0] >= span[1]:
            self._head(416, "application/json", 0, {"Content-Range": f"bytes */{size}"})
            return
        start, stop = span or (0, size)
        extra = {"Accept-Ranges": "none" if kind == "no-range" else "bytes", "ETag": etag}
        if span is not None:
            extra["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
        extra["Last-Modified"] = self.date_time_string(int(stat.st_mtime))
        media_type = self.extensions.get(file.suffix, "application/octet-stream")
        self._head(200 if span is None else 206, media_type, stop - start, extra)
        if self.command == "HEAD":
            return
        cut = (start + stop) // 2 if kind == "truncate" else stop
        with file.open("rb") as stream:
            stream.seek(start)
            content = stream.read(cut - start)
        if kind == "not-tiff":
            content = bytes(255 - byte for byte in content)
        if kind == "corrupt":
            middle = slice(len(content) // 2, len(content) // 2 + _CORRUPT_BYTES)
            content = content[: middle.start] + bytes(255 - byte for byte in content[middle]) + content[middle.stop :]
        demo.stats.sent(name, start, cut)
        self.wfile.write(content)
        if kind == "truncate":
            self.close_connection = True

    def _fail(self, fault: _Fault | None) -> bool:
        """Answer with the fault where it is a whole answer of its own; True when this was done."""
        if fault is None:
            return False
        self.demo.wait(fault.seconds)
        if fault.status is not None:
            self._json(fault.status, {"code": str(fault.status), "description": "A fault, as it was asked for."})
            return True
        if fault.kind == "html":
            self._send(200, _HTML, "text/html; charset=utf-8")
            return True
        return False

    def _json(self, status: int, content: dict[str, Any], media_type: str = "application/json") -> None:
        self._send(status, json.dumps(content).encode(), media_type)

    def _send(self, status: int, body: bytes, media_type: str) -> None:
        self._head(status, media_type, len(body), {})
        if self.command != "HEAD":
            self.wfile.write(body)

    def _head(self, status: int, media_type: str, length: int, extra: Mapping[str, str]) -> None:
        self.send_response(status)
        self.send_header("Content-Type", media_type)
        self.send_header("Content-Length", str(length))
        for name, value in extra.items():
            self.send_header(name, value)
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()


def _query(text: str) -> dict[str, Any]:
    return from_query_string(parse_qs(text, keep_blank_values=True))


def _json_object(body: bytes) -> dict[str, Any]:
    try:
        content = json.loads(body or b"{}")
    except ValueError:
        raise ApiError(400, "The body isn't JSON.") from None
    if not isinstance(content, dict):
        raise ApiError(400, "The body isn't a JSON object.")
    return content


def _inside(root: Path, name: str) -> Path | None:
    """Find the file of this name if it lies below the root, links followed; else None."""
    try:
        file = root.joinpath(name).resolve()
        return file if file.is_relative_to(root) and file.is_file() else None
    except (OSError, ValueError):  # too long, or with a null byte
        return None


def _parse_range(text: str, size: int) -> tuple[int, int] | None:
    """Return the first byte and the one after the last; None = all, as RFC 9110 has it for what isn't understood.

    An empty span can't be satisfied.
    """
    match = re.fullmatch(r"bytes=(\d*)-(\d*)", text.strip())
    if match is None or match.group(1) == match.group(2) == "":
        return None
    first, last = match.groups()
    if not first:
        return max(0, size - int(last)), size
    if last and int(last) < int(first):
        return None
    return int(first), min(size, int(last) + 1) if last else size
