"""A catalogue is not trusted: where an href may lead."""

from __future__ import annotations

import ipaddress
import re
import socket
import threading
import unicodedata
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit

from eoap_dask.errors import HrefError
from eoap_dask.redact import show_href

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


# ----------------------------------------------------------------------------------------------------
# Where an href may lead

# From here a machine in a cloud learns who it is: never a place of imagery, even for a private catalogue.
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
    """Return an href that came from a catalogue if it may be opened.

    A name is resolved (best effort, and a name that doesn't resolve passes), but the reader resolves it again
    later: this keeps honest software away from wrong places and is no replacement for a network policy.

    Parameters
    ----------
    href
        The href, unsigned or signed.
    private_hosts
        Hosts that may be opened although they are private, such as those of a private catalogue
        (`private_hosts_of`). Addresses of cloud metadata services are refused even then.

    Returns
    -------
    str
        The href, unchanged.

    Raises
    ------
    HrefError
        When it isn't http(s), is a local path, climbs with `..`, carries credentials or control characters,
        or leads to a private, loopback, link-local or otherwise special address.
    """
    if not isinstance(href, str) or not href:
        raise _refused(str(href), "is empty or no text", "")
    if any(ord(char) <= 0x20 or 0x7F <= ord(char) <= 0xA0 or unicodedata.category(char) in _UNSEEN for char in href):
        raise _refused(href, "holds blanks or control characters", "")
    if "\\" in href:
        raise _refused(href, "holds a backslash", "")
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
        raise _refused(href, "carries a user name or password", "")
    if not host or "%" in parts.netloc:
        raise _refused(href, "has no proper host", "")
    if fault := _fault_of_path(parts.path):
        raise _refused(href, fault, "")
    _check_host(href, host, private_hosts)
    return href


def resolve_href(base: str, href: str) -> str:
    """Return where an href leads from an address; the href itself where that can't be said.

    Parameters
    ----------
    base
        Address of the document that it is in.
    href
        Of a catalogue, so anything; `check_href` refuses what `urljoin` can't read.

    Returns
    -------
    str
    """
    try:
        return urljoin(base, href)
    except ValueError:  # brackets of an IPv6 address that isn't one
        return href


_UNSEEN = frozenset({"Cc", "Cf", "Zs", "Zl", "Zp", "Cs", "Cn", "Co"})


def _why_scheme(href: str) -> str:
    named = re.match(r"[A-Za-z][A-Za-z0-9+.\-]*(?=:)", href)
    return f"has the scheme {named.group().lower()!r}" if named else "is a path, not a URL"


def _hint_scheme(href: str) -> str:
    if href.lower().startswith(("s3:", "gs:", "az:", "abfs:")):
        return "Take a collection whose assets are offered over https."
    if "://" not in href or href.lower().startswith("file:"):
        return "Only an item file or a catalog on this machine may name files, and only within its own directory."
    return ""


def _fault_of_path(path: str) -> str:
    """Return what is wrong with a path, decoded however often it was encoded."""
    for _ in range(6):
        if ".." in re.split(r"[/\\;]", path):
            return "climbs with '..'"
        if "\\" in path or any(ord(char) < 0x20 or ord(char) == 0x7F for char in path):
            return "holds encoded control characters or backslashes"
        following = unquote(path)
        if following == path:
            return ""
        path = following
    return "is percent-encoded too often"


def _check_host(href: str, host: str, private_hosts: frozenset[str]) -> None:
    name = _canonical(host)
    if not name:
        raise _refused(href, "has no proper host", "")
    addresses = _addresses_of(name)
    if name in _METADATA_NAMES or any(_is_forbidden(address) for address in addresses):
        raise _refused(href, "leads to a link-local address or a metadata service", "")
    allowed = {_canonical(one) for one in private_hosts}
    if name in allowed:
        return
    if _is_private_name(name) or any(_is_private(one) and str(one) not in allowed for one in addresses):
        raise _refused(
            href,
            f"leads to the private host {name!r}",
            "If it is yours, search the catalogue at that host with --stac.",
        )


def host_is_private(host: str) -> bool:
    """Tell whether a host is this machine, or lies in a private network.

    Parameters
    ----------
    host
        A name or an address in any notation, without port. Names are resolved, within two seconds.

    Returns
    -------
    bool
        Also true for link-local, multicast, reserved and unspecified addresses; false where nothing resolves.
    """
    name = _canonical(host)
    if _is_private_name(name) or name in _METADATA_NAMES:
        return True
    return any(_is_private(address) for address in _addresses_of(name))


def peer_is_refused(host: str, address: str, *, private_hosts: frozenset[str] = frozenset()) -> bool:
    """Tell whether a connection may not be used, because of the address it leads to.

    What `check_href` found may have changed since: a name may resolve to another address now, or here.

    Parameters
    ----------
    host
        The name it was opened by.
    address
        The other end's.
    private_hosts
        As for `check_href`.

    Returns
    -------
    bool
    """
    peer = _parse_address(address.partition("%")[0])
    if peer is None or _is_forbidden(peer):
        return True
    allowed = {_canonical(one) for one in private_hosts}
    return _is_private(peer) and _canonical(host) not in allowed and str(peer) not in allowed


def private_hosts_of(catalogue_url: str) -> frozenset[str]:
    """Return the hosts a catalogue may send us to although they are private: its own.

    Parameters
    ----------
    catalogue_url
        URL of the catalogue as the user gave it.

    Returns
    -------
    frozenset of str
        The name and the addresses of its host if that is private; empty for a public one, or for a path.
    """
    try:
        host = urlsplit(catalogue_url).hostname if "://" in catalogue_url else None
    except ValueError:
        return frozenset()
    if not host or not host_is_private(host):
        return frozenset()
    name = _canonical(host)
    return frozenset({name, *(str(one) for one in _addresses_of(name) if not _is_forbidden(one))})


def _canonical(host: str) -> str:
    """Return a host as it is compared: lower case, no brackets or trailing dots, numbers as addresses."""
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
    """Return an address and the IPv4 addresses that it wraps."""
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


def _is_private_name(name: str) -> bool:
    return name == "localhost" or name.endswith(_PRIVATE_SUFFIXES)


def _addresses_of(name: str) -> tuple[_Address, ...]:
    address = _parse_address(name)
    return (address,) if address else _resolve(name)


@lru_cache(maxsize=4096)
def _resolve(name: str) -> tuple[_Address, ...]:
    """Return the addresses of a name; none where it doesn't resolve in time."""
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

    # getaddrinfo knows no timeout; a thread that hangs in it may be left behind
    thread = threading.Thread(target=look_up, daemon=True, name="eoap-resolve")
    thread.start()
    thread.join(_RESOLVE_S)
    return tuple(found)


def _refused(href: str, why: str, hint: str) -> HrefError:
    return HrefError(
        f"The href {show_href(href)} {why}.",
        "A catalogue may lead to http and https addresses on the public network, or on its own host, only.",
        hint or "Check the item in the catalogue.",
    )
