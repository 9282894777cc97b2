"""Where an href of a catalogue may lead: catalogues aren't trusted."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import unicodedata
from collections.abc import Iterable
from functools import lru_cache
from urllib.parse import unquote, urlsplit

from eoap_dask.errors import HrefError, UsageError
from eoap_dask.redact import redact, show_href
from eoap_dask.text import option, show

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


# Metadata services give a cloud machine its credentials: never a place of imagery, even for a private catalogue.
_METADATA_NAMES = frozenset(
    {
        "metadata",
        "metadata.google.internal",
        "metadata.goog",
        "metadata.azure.internal",
        "metadata.azure.com",
        "instance-data",
        "instance-data.ec2.internal",
    }
)
_METADATA_ADDRESSES: frozenset[_Address] = frozenset(
    {
        ipaddress.ip_address("100.100.100.200"),  # Alibaba
        ipaddress.ip_address("168.63.129.16"),  # Azure
        ipaddress.ip_address("192.0.0.192"),  # Oracle
        ipaddress.ip_address("fd00:ec2::254"),  # Amazon
    }
)
_PRIVATE_SUFFIXES = (".localhost", ".internal", ".local", ".localdomain", ".home.arpa")
_SHARED = ipaddress.ip_network("100.64.0.0/10")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_RESOLVE_S = 2.0


def check_href(href: str, *, private_hosts: frozenset[str] = frozenset()) -> str:
    """Return an href of a catalogue, unsigned or signed, or raise `HrefError` where it may not be opened.

    It must be http(s), without `..` and credentials, on a public host or one of `private_hosts` (`private_hosts_of`).
    Cloud metadata services are always refused.
    """
    if not isinstance(href, str) or not href:
        raise _refused(str(href), "is empty or not text", "")
    if href.startswith("/") and not href.lower().startswith("/vsi"):  # in which blanks are letters
        raise _refused(href, _why_scheme(href), _hint_scheme(href))
    if any(ord(char) <= 0x20 or 0x7F <= ord(char) <= 0xA0 or unicodedata.category(char) in _UNSEEN for char in href):
        raise _refused(href, "contains blanks or control characters", "")
    if "\\" in href:
        raise _refused(href, "contains a backslash", "")
    scheme, has_scheme, _ = href.partition("://")
    if href.lower().startswith("/vsi"):
        raise _refused(href, "is a path of GDAL's virtual file systems", "")
    if scheme.lower() not in ("http", "https") or not has_scheme:
        raise _refused(href, _why_scheme(href), _hint_scheme(href))
    try:
        parts = urlsplit(href)
        host, _ = parts.hostname, parts.port
    except ValueError:
        raise _refused(href, "has a malformed host or port", "") from None
    if "@" in parts.netloc:
        raise _refused(href, "contains a user name or password", "")
    if not host or "%" in parts.netloc:
        raise _refused(href, "has no valid host", "")
    if fault := _fault_of_path(parts.path):
        raise _refused(href, fault, "")
    _check_host(href, host, private_hosts)
    return href


_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Cs", "Cn", "Co"})


def _why_scheme(href: str) -> str:
    named = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*(?=:)", href)
    return f"has the scheme {named.group().lower()!r}" if named else "is a path, not a URL"


def _hint_scheme(href: str) -> str:
    if href.lower().startswith(("s3:", "gs:", "az:", "abfs:")):
        return "Choose a collection whose assets are offered over https."
    if "://" not in href or href.lower().startswith("file:"):
        return "Only an item file or a catalog on this machine may name files, and only within its own directory."
    return ""


def _fault_of_path(path: str) -> str:
    """Return what is wrong with a path, decoded until it no longer changes, or an empty text."""
    for _ in range(6):
        if ".." in re.split(r"[/\\;]", path):
            return "climbs with '..'"
        if "\\" in path or any(ord(char) < 0x20 or ord(char) == 0x7F for char in path):
            return "contains encoded control characters or backslashes"
        following = unquote(path)
        if following == path:
            return ""
        path = following
    return "is percent-encoded too often"


def _check_host(href: str, host: str, private_hosts: frozenset[str]) -> None:
    name = canonical_host(host)
    if not name:
        raise _refused(href, "has no valid host", "")
    addresses = _addresses_of(name)
    if name in _METADATA_NAMES or any(_is_forbidden(address) for address in addresses):
        raise _refused(href, "leads to a link-local address or a metadata service", "")
    allowed = {canonical_host(one) for one in private_hosts}
    if name in allowed:
        return
    if _is_private_name(name) or any(_is_private(one) and str(one) not in allowed for one in addresses):
        raise _refused(
            href,
            f"leads to the private host {name!r}",
            f"If it is yours, name it: {option('allow_hosts', [name])}.",
        )


def host_is_private(host: str) -> bool:
    """Tell whether a host name or address (any notation, no port) is this machine or lies in a private network.

    Also true for link-local, multicast, reserved and unspecified addresses; false where it doesn't resolve within 2 s.
    """
    name = canonical_host(host)
    if _is_private_name(name) or name in _METADATA_NAMES:
        return True
    return any(_is_private(address) for address in _addresses_of(name))


def peer_is_refused(host: str, address: str, *, private_hosts: frozenset[str] = frozenset()) -> bool:
    """Tell whether the address that a connection to a host led to is forbidden, or private without being allowed."""
    peer = _parse_address(address.partition("%")[0])
    if peer is None or _is_forbidden(peer):
        return True
    allowed = {canonical_host(one) for one in private_hosts}
    return _is_private(peer) and canonical_host(host) not in allowed and str(peer) not in allowed


def private_hosts_of(catalogue_url: str) -> frozenset[str]:
    """Return the name and addresses of a catalogue's host if it is private, else nothing: it may lead to itself."""
    try:
        host = urlsplit(catalogue_url).hostname if "://" in catalogue_url else None
    except ValueError:
        return frozenset()
    if not host or not host_is_private(host):
        return frozenset()
    name = canonical_host(host)
    return frozenset({name, *(str(one) for one in _addresses_of(name) if not _is_forbidden(one))})


def check_host_names(names: Iterable[str]) -> None:
    """Raise `UsageError` for what is no list of names or addresses of hosts; resolves nothing."""
    if not isinstance(names, list | tuple | set | frozenset) or not all(isinstance(one, str) for one in names):
        tries = [names] if isinstance(names, str) and names else ["minio.example.org"]
        raise UsageError(
            f"{option('allow_hosts')} must be a list of names or addresses of hosts, got {show(names)}.",
            "",
            f"Try {option('allow_hosts', tries)}.",
        )
    for name in names:
        bare = name[1:-1] if name.startswith("[") and name.endswith("]") else name
        address = _parse_address(bare)
        labels = bare.removesuffix(".").split(".")
        if address is None and not all(re.fullmatch(r"[\w-]{1,63}", label) for label in labels):
            host = re.sub(r"^[\w+.-]*://|[:/].*$", "", redact(name)) or "minio.example.org"
            raise UsageError(
                f"{option('allow_hosts')} must be names or addresses of hosts, got {redact(name)!r}.",
                "Expected no scheme, no port and no path.",
                f"Try {option('allow_hosts', [host])}.",
            )


def named_hosts(names: Iterable[str]) -> frozenset[str]:
    """Return hosts that the user named, and their addresses as far as they resolve here, for `check_href`."""
    hosts = [canonical_host(name) for name in names]
    addresses = (str(one) for host in hosts for one in _addresses_of(host) if not _is_forbidden(one))
    return frozenset((*hosts, *addresses))


def canonical_host(host: str) -> str:
    """Return a host in the form for comparing: lower case, no brackets or trailing dots, numbers as addresses."""
    name = unicodedata.normalize("NFKC", host).replace("\u3002", ".")  # the ideographic full stop of IDNA
    name = name.strip("[]").rstrip(".").lower()
    address = _parse_address(name)
    return str(address) if address else name


def _parse_address(name: str) -> _Address | None:
    try:
        address: _Address = ipaddress.ip_address(name)
    except ValueError:
        pass
    else:
        return getattr(address, "ipv4_mapped", None) or address
    # the notations of inet_aton, which resolvers and curl still take: 2130706433, 0x7f.1, 0177.0.0.1
    if re.fullmatch(r"(0x[0-9a-f]*|\d+)(\.(0x[0-9a-f]*|\d+)){0,3}", name):
        try:
            return ipaddress.IPv4Address(socket.inet_aton(name))
        except (OSError, ValueError):
            return None
    return None


def _embedded(address: _Address) -> tuple[_Address, ...]:
    """Return an address and the IPv4 addresses embedded in it."""
    if isinstance(address, ipaddress.IPv4Address):
        return (address,)
    inner: list[_Address] = [address]
    if address.sixtofour:
        inner.append(address.sixtofour)
    if address.teredo:
        inner.extend(address.teredo)
    if address in _NAT64 or int(address) >> 32 == 0:
        inner.append(ipaddress.IPv4Address(int(address) & 0xFFFFFFFF))
    return tuple(inner)


def _is_forbidden(address: _Address) -> bool:
    return any(one.is_link_local or one in _METADATA_ADDRESSES for one in _embedded(address))


def _is_private(address: _Address) -> bool:
    return _is_forbidden(address) or any(
        one.is_private
        or one.is_loopback
        or one.is_unspecified
        or one.is_multicast
        or (one.is_reserved and one not in _NAT64)
        or one in _SHARED
        for one in _embedded(address)
    )


def is_loopback(host: str) -> bool:
    """Tell whether a host name or address, in any notation, is this machine itself; resolves nothing."""
    name = canonical_host(host)
    address = _parse_address(name)
    if address is None:
        return name == "localhost" or name.endswith(".localhost")
    return any(one.is_loopback or one.is_unspecified for one in _embedded(address))


def _is_private_name(name: str) -> bool:
    return name == "localhost" or name.endswith(_PRIVATE_SUFFIXES)


def _addresses_of(name: str) -> tuple[_Address, ...]:
    address = _parse_address(name)
    return (address,) if address else _resolve(name)


@lru_cache(maxsize=4096)
def _resolve(name: str) -> tuple[_Address, ...]:
    """Return the addresses of a name, or none where it doesn't resolve in time."""
    found: list[_Address] = []

    def look_up() -> None:
        try:
            answers = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError):
            return
        for answer in answers:
            address = _parse_address(str(answer[4][0]).partition("%")[0])
            if address and address not in found:
                found.append(address)

    # getaddrinfo has no timeout; a thread that hangs in it may be left behind
    thread = threading.Thread(target=look_up, daemon=True, name="eoap-resolve")
    thread.start()
    thread.join(_RESOLVE_S)
    return tuple(found)


def _refused(href: str, why: str, hint: str) -> HrefError:
    return HrefError(
        f"The href {show_href(href)} {why}.",
        "A catalogue may only lead to http and https addresses on the public network, or on its own host.",
        hint or "Check the item in the catalogue.",
    )
