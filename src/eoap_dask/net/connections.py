"""Requests over HTTP, of catalogues, tokens and files alike: one rule for proxies, logins, certificates and peers."""

from __future__ import annotations

import netrc
import os
import re
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag, urlsplit

import urllib3
from urllib3.connection import HTTPConnection, HTTPSConnection

from eoap_dask.__about__ import __version__
from eoap_dask.errors import HrefError, NetworkSettingError
from eoap_dask.net.deadline import WATCH
from eoap_dask.net.hrefs import peer_is_refused
from eoap_dask.net.proxies import Proxy, proxy_for
from eoap_dask.text import option

CONNECTIONS = 48
"""Kept per process and server: one for each thread that may fetch, `limits.MOST_READS` and the helpers."""

_WORTH_READING = 16 << 10
"""Unread bytes of an answer up to which draining it is cheaper than a new connection."""

_CERTIFICATES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")


class ProxyError(Exception):
    """A proxy is in the way of a request.

    `why` follows a colon, without a full stop; `hint` is a sentence that names the variable to correct; `is_final`
    tells that trying again can't help.
    """

    def __init__(self, why: str, hint: str, *, is_final: bool) -> None:
        super().__init__(why, hint)
        self.why = why
        self.hint = hint
        self.is_final = is_final


@contextmanager
def answered(
    verb: str,
    url: str,
    *,
    private_hosts: frozenset[str],
    timeout: urllib3.Timeout,
    headers: Mapping[str, str] | None = None,
    body: bytes | None = None,
    named: str = "",
) -> Iterator[urllib3.BaseHTTPResponse]:
    """Send a request, and yield the answer with its body unread; the connection is kept if it was read to the end.

    Parameters
    ----------
    verb, url, headers, body
        What is sent. Redirects aren't followed.
    private_hosts : frozenset of str
        Hosts that may be private, and may get a login unencrypted: those that the user named.
    timeout : urllib3.Timeout
        Longest wait for the connection, and for each part of the answer.
    named : str
        URL that the user gave: its origin may get a login unencrypted too.

    Raises
    ------
    HrefError
        when the connection leads to an address that isn't allowed; behind a proxy, that is the proxy's to decide
    NetworkSettingError
        for a variable of the environment that can't be used
    ProxyError
        when the proxy fails, or lets us not through
    urllib3.exceptions.HTTPError
        for all else
    """
    proxy = proxy_for(url)
    login = login_for(url, private_hosts, named)
    sent = {"User-Agent": f"eoap-dask/{__version__}", **(headers or {})}
    if login is not None and not any(name.lower() == "authorization" for name in sent):
        sent["Authorization"] = _basic(*login)
    fault: ProxyError
    try:
        response = _manager(private_hosts, proxy, *_certificates()).request(
            verb,
            urldefrag(url).url,
            headers=sent,
            body=body,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=timeout,
        )
    except urllib3.exceptions.HTTPError as error:
        found = proxy and _proxy_fault(error, proxy)
        if not found:
            raise
        fault = found
    else:
        try:
            if proxy and response.status == 407:
                raise _refused_by(proxy, 407)
            yield response
        finally:
            left = getattr(response, "length_remaining", None)
            if left is not None and left <= _WORTH_READING:
                response.drain_conn()
            response.close()  # does nothing to a connection that was released already
            response.release_conn()  # a closed one too takes a place in the pool
        return
    raise fault  # without a context, whose text may hold what is secret


def gdal_options(url: str, private_hosts: frozenset[str]) -> dict[str, str]:
    """Return the options with which GDAL reaches a URL by the same rules; its own would differ in all of them.

    Raises NetworkSettingError.
    """
    proxy = proxy_for(url)
    found = {"GDAL_HTTP_PROXY": "", "GDAL_HTTPS_PROXY": "", "GDAL_HTTP_NETRC": "NO"}
    if proxy is not None:
        found |= {"GDAL_HTTP_PROXY": proxy.url, "GDAL_HTTPS_PROXY": proxy.url}
        if proxy.user:
            found |= {"GDAL_HTTP_PROXYUSERPWD": f"{proxy.user}:{proxy.password}", "GDAL_PROXY_AUTH": "BASIC"}
    login = login_for(url, private_hosts)
    if login is not None:
        found |= {"GDAL_HTTP_USERPWD": ":".join(login), "GDAL_HTTP_AUTH": "BASIC"}
    path, _ = _certificates()
    if not Path(path).is_dir():
        found["CURL_CA_BUNDLE"] = path
    return found


# ----------------------------------------------------------------------------------------------------
# Proxies


def _proxy_fault(error: Exception, proxy: Proxy) -> ProxyError | None:
    """Return the fault of a proxy, or None for one of whom it leads to."""
    refused = re.search(r"Tunnel connection failed: (\d{3})", str(error))
    if refused:
        return _refused_by(proxy, int(refused[1]))
    if isinstance(error, urllib3.exceptions.ProxyError):
        return ProxyError(f"the proxy {proxy.url} of {proxy.variable} can't be reached", _hint(proxy), is_final=False)
    return None


def _refused_by(proxy: Proxy, status: int) -> ProxyError:
    who = f"the proxy {proxy.url} of {proxy.variable}"
    if status == 407:
        why = f"{who} doesn't take the user and password" if proxy.user else f"{who} wants a user and a password"
        hint = f"Put them into {proxy.variable} as http://user:password@host:port, percent-encoded."
        return ProxyError(why, hint, is_final=True)
    return ProxyError(f"{who} answered {status}", _hint(proxy), is_final=400 <= status < 500)


def _hint(proxy: Proxy) -> str:
    return f"Check {proxy.variable}, or name hosts that are reached without it in NO_PROXY."


# ----------------------------------------------------------------------------------------------------
# Logins and certificates


def login_for(url: str, private_hosts: frozenset[str], named: str = "") -> tuple[str, str] | None:
    """Return user and password that the netrc file has for a host, or None.

    They go over https to the host that the file names, over http only to private hosts that the user named, and to the
    origin of `named`. The file's default is nobody's: a catalogue may name any host.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    if parts.scheme.lower() != "https" and host not in private_hosts and not _same_origin(url, named):
        return None
    path = os.path.expanduser(os.environ.get("NETRC") or "~/.netrc")  # noqa: PTH111 - for each request: a Path is slow
    try:
        return _netrc(path, os.stat(path).st_mtime_ns).get(host)  # noqa: PTH116
    except OSError:
        return None


def _same_origin(url: str, named: str) -> bool:
    one, two = urlsplit(url), urlsplit(named)
    # both are http here
    return bool(named) and (one.scheme, one.hostname, one.port or 80) == (two.scheme, two.hostname, two.port or 80)


@lru_cache(1)
def _netrc(path: str, _: int) -> dict[str, tuple[str, str]]:
    """Return the logins of a netrc file by host."""
    try:
        hosts = netrc.netrc(path).hosts
    except (netrc.NetrcParseError, UnicodeError):
        return {}
    return {name: (login, word or "") for name, (login, _account, word) in hosts.items() if name != "default"}


def _basic(name: str, word: str) -> str:
    return f"Basic {b64encode(f'{name}:{word}'.encode()).decode()}"


def _certificates() -> tuple[str, str]:
    """Return the path of the trusted authorities, and the variable that names it: what requests and curl take."""
    for variable in _CERTIFICATES:
        if path := os.environ.get(variable, ""):
            return path, variable
    import certifi

    return certifi.where(), ""


# ----------------------------------------------------------------------------------------------------
# Connections


@lru_cache(16)
def _manager(private_hosts: frozenset[str], proxy: Proxy | None, certificates: str, variable: str) -> Any:
    """Return this process's connections to hosts that are reached in one way."""
    place = Path(certificates)
    if not place.exists():
        raise NetworkSettingError(
            f"The certificates {certificates!r} that {variable} names can't be read: there is no such file.",
            "Expected a file of trusted authorities in PEM, or a directory of them.",
            f"Correct {variable}, or unset it for those that come with Python.",
        )
    options: dict[str, Any] = {"num_pools": 32, "maxsize": CONNECTIONS, "block": True}
    options |= {"ca_cert_dir" if place.is_dir() else "ca_certs": certificates}
    manager: urllib3.PoolManager
    if proxy is not None:
        headers = {"Proxy-Authorization": _basic(proxy.user, proxy.password)} if proxy.user else None
        manager = urllib3.ProxyManager(proxy.url, proxy_headers=headers, **options)
        kind: type = _Watched
    else:
        manager = urllib3.PoolManager(**options)
        kind = type("Checked", (_Checked,), {"allowed": private_hosts})
    plain = type("Plain", (kind, HTTPConnection), {})
    secure = type("Secure", (kind, HTTPSConnection), {})
    manager.pool_classes_by_scheme = {
        "http": type("Pool", (urllib3.HTTPConnectionPool,), {"ConnectionCls": plain}),
        "https": type("SecurePool", (urllib3.HTTPSConnectionPool,), {"ConnectionCls": secure}),
    }
    return manager


os.register_at_fork(after_in_child=_manager.cache_clear)  # the parent's connections


class _Watched:
    """A connection that ends at its thread's deadline."""

    sock: Any

    def getresponse(self) -> Any:
        WATCH.uses(self.sock)
        return super().getresponse()  # type: ignore[misc]


class _Checked(_Watched):
    """A connection that also checks its peer's address."""

    allowed: frozenset[str] = frozenset()
    host: str

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]
        peer = str(self.sock.getpeername()[0])
        if peer_is_refused(self.host, peer, private_hosts=self.allowed):
            self.sock.close()
            raise HrefError(
                f"The server {self.host!r} has the private address {peer}.",
                "A catalogue may only lead to addresses on the public network, or to its own host.",
                f"If it is yours, name it: {option('allow_hosts', [self.host])}.",
            )
