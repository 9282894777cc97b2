"""A real proxy of HTTP on the loopback: it forwards, opens tunnels, resolves names by a table, may want a password."""

from __future__ import annotations

import http.client
import select
import socket
import ssl
import subprocess
import threading
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit


class Proxy(ThreadingHTTPServer):
    """Leads to the ports of `names` on this machine, and answers 502 for others; `login` is user:password."""

    daemon_threads = True

    def __init__(self, names: Mapping[str, int], login: str = "") -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.names = dict(names)
        self.wanted = "Basic " + b64encode(login.encode()).decode() if login else ""
        self.asked: list[tuple[str, str, str]] = []
        """Verb, host, and the agent that asks."""
        self.logins: list[str] = []

    @property
    def place(self) -> str:
        """Host and port."""
        return f"127.0.0.1:{self.server_port}"

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Proxy

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing."""

    def _port(self, host: str) -> int | None:
        """Return where a name leads, or None after an answer that says no."""
        self.server.asked.append((self.command, host, self.headers.get("User-Agent", "")))
        self.server.logins.append(self.headers.get("Proxy-Authorization", ""))
        status = 200
        if self.server.wanted and self.headers.get("Proxy-Authorization") != self.server.wanted:
            status = 407
        elif host not in self.server.names:
            status = 502
        if status == 200:
            return self.server.names[host]
        self.send_response(status)
        if status == 407:
            self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()
        return None

    def do_CONNECT(self) -> None:
        port = self._port(self.path.rpartition(":")[0])
        if port is None:
            return
        with socket.create_connection(("127.0.0.1", port)) as far, suppress(OSError):
            self.send_response(200)
            self.end_headers()
            ends = {self.connection: far, far: self.connection}
            while True:
                for one in select.select(list(ends), [], [])[0]:
                    if not (part := one.recv(1 << 16)):
                        self.close_connection = True
                        return
                    ends[one].sendall(part)

    def do_GET(self) -> None:
        parts = urlsplit(self.path)
        port = self._port(parts.hostname or "")
        if port is None:
            return
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        far = http.client.HTTPConnection("127.0.0.1", port)
        headers = {name: value for name, value in self.headers.items() if not name.lower().startswith("proxy-")}
        path = parts.path + (f"?{parts.query}" if parts.query else "")
        far.request(self.command, path or "/", body or None, headers)
        answer = far.getresponse()
        content = answer.read()
        self.send_response(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("connection", "transfer-encoding", "content-length", "date", "server"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length", "0") if self.command == "HEAD" else str(len(content))
        self.send_header("Content-Length", length)
        self.end_headers()
        self.wfile.write(content)
        far.close()

    do_HEAD = do_POST = do_GET  # noqa: N815


@contextmanager
def proxying(names: Mapping[str, int], login: str = "") -> Iterator[Proxy]:
    """Run a proxy while the context is open."""
    server = Proxy(names, login)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def certified(folder: Path, name: str) -> ssl.SSLContext:
    """Return the context of a server that is certified for a name; its authority is `folder/cert.pem`."""
    files = ["-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")]
    subject = ["-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"]
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    subprocess.run([*command, "-days", "2", *subject, *files], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(folder / "cert.pem", folder / "key.pem")
    return context
