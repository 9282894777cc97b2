"""Which proxy the environment names for a URL: one rule for catalogues, tokens, files, and what GDAL reads."""

from __future__ import annotations

import ipaddress
import os
import re
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from eoap_dask.errors import NetworkSettingError
from eoap_dask.net.hrefs import canonical_host, is_loopback

_PORTS = {"http": 80, "https": 443}


@dataclass(frozen=True)
class Proxy:
    """A proxy of HTTP, which resolves names itself and whose own address may be private."""

    variable: str
    """Variable of the environment that names it."""
    url: str
    """Scheme, host and port; safe to show."""
    user: str = ""
    password: str = ""

    def __repr__(self) -> str:
        return f"Proxy({self.variable!r}, {self.url!r})"


def proxy_for(url: str) -> Proxy | None:
    """Return the proxy through which a URL is asked for, or None where it is reached directly.

    As curl and Python do: `https_proxy` or `HTTPS_PROXY` for https, `http_proxy` or `HTTP_PROXY` for http, else
    `all_proxy` or `ALL_PROXY`; none for what `no_proxy` or `NO_PROXY` names, and never for this machine itself.

    Raises
    ------
    NetworkSettingError
        for a variable that counts for this URL, and names no proxy of HTTP
    """
    parts = urlsplit(url)
    named = _named_for(parts.scheme.lower())
    if named is None or _is_direct(parts.hostname or "", parts.port or _PORTS.get(parts.scheme.lower(), 0)):
        return None
    return _parsed(*named)


def _named_for(scheme: str) -> tuple[str, str] | None:
    """Return the variable that counts for a scheme, and its value."""
    for lower in (f"{scheme}_proxy", "all_proxy"):
        # an empty lower-case variable hides the other, as in Python
        name = lower if lower in os.environ else lower.upper()
        value = os.environ.get(name, "").strip()
        # in a CGI script that variable is a header of whoever asks (CVE-2016-5385)
        if value and not (name == "HTTP_PROXY" and "REQUEST_METHOD" in os.environ):
            return name, value
    return None


def _is_direct(host: str, port: int) -> bool:
    if is_loopback(host):
        return True
    names = os.environ.get("no_proxy", os.environ.get("NO_PROXY", ""))
    return any(_matches(one, canonical_host(host), port) for one in re.split(r"[,\s]+", names) if one)


def _matches(entry: str, host: str, port: int) -> bool:
    """Tell whether an entry of `no_proxy` is a host: `*`, a name and all below it, an address, a network."""
    if entry == "*":
        return True
    entry, _, wanted = entry.rpartition(":") if re.search(r"[^:]:\d+$|\]:\d+$", entry) else (entry, "", "")
    if wanted and int(wanted) != port:
        return False
    entry = entry.strip("[]").removeprefix("*").lstrip(".").lower()
    if "/" in entry:
        try:
            return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
        except ValueError:
            return False
    entry = canonical_host(entry)
    return bool(entry) and (host == entry or host.endswith(f".{entry}"))


@lru_cache(16)
def _parsed(variable: str, value: str) -> Proxy:
    text = value if "://" in value else f"http://{value}"
    scheme, _, rest = text.partition("://")
    # a password may hold any character: what is shown begins after the last @
    shown = f"{scheme}://{rest.rpartition('@')[2]}"
    if scheme.lower() not in _PORTS:
        raise _unfit(variable, shown, f"its scheme {scheme.lower()!r} isn't supported")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError:
        raise _unfit(variable, shown, "its host or port is malformed") from None
    if not host or re.search(r"[\s%@/\\]", host) or port == 0:
        raise _unfit(variable, shown, "its host or port is malformed")
    bracketed = f"[{host}]" if ":" in host else host
    url = f"{scheme.lower()}://{bracketed}:{port or _PORTS[scheme.lower()]}"
    return Proxy(variable, url, unquote(parts.username or ""), unquote(parts.password or ""))


def _unfit(variable: str, shown: str, why: str) -> NetworkSettingError:
    return NetworkSettingError(
        f"The proxy {shown[:200]!r} that {variable} names can't be used: {why}.",
        "Expected http://host:port or https://host:port, with user and password percent-encoded.",
        f"Correct {variable}, or name hosts that are reached without it in NO_PROXY.",
    )
