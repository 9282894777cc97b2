"""A catalogue is not trusted: where an href may lead, what may be logged, what may name a file."""

from __future__ import annotations

import hashlib
import ipaddress
import re
import socket
import threading
import unicodedata
from functools import lru_cache
from urllib.parse import unquote, urljoin, urlsplit

from eoap_dask.errors import HrefError

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address

# ----------------------------------------------------------------------------------------------------
# What may be logged

_URL = re.compile(r"(?P<scheme>[a-z][a-z0-9+.\-]*)://(?P<rest>[^\s\"'<>`]*)", re.I)
_ENCODED_URL = re.compile(r"[a-z][a-z0-9+.\-]*%(?:25)*3A%(?:25)*2F%(?:25)*2F[^\s\"'<>&`]*", re.I)
_PATH_QUERY = re.compile(r"(?P<path>/[^\s?#\"'<>`]*)\?[^\s\"'<>`]*=[^\s\"'<>`]*")
_CHAIN = re.compile(r"[\w.%\-]+=[^\s&\"'<>`]*(?:&(?:amp;)?[\w.%\-]+=[^\s&\"'<>`]*)+")
_HIDDEN_KEY = (
    r"sig|signature|(?:[\w\-]*[_\-])?token|x-(?:amz|goog)-(?:signature|credential|security-token)|awsaccesskeyid"
    r"|(?:subscription|access|api|account|secret)[_\-]?key|password|passwd|secret|client_secret"
)
# an encoded ? or & ends in letters and digits, so it is named
_ONE = re.compile(rf"(?:(?<![\w.\-])|(?<=3F)|(?<=26))(?P<key>{_HIDDEN_KEY})(?:=|%(?:25)*3D)[^\s&\"'<>`]+", re.I)
_JSON = re.compile(rf"(?P<key>[\"'](?:{_HIDDEN_KEY})[\"']\s*:\s*)(?P<quote>[\"'])[^\"']*(?P=quote)", re.I)
_HEADER = re.compile(r"\b(?P<kind>Bearer|Basic|SharedKey)\s+[\w.\-+/=:~]{8,}")
SAS_KEYS = frozenset(
    {"sig", "st", "se", "sp", "sv", "sr", "spr", "sip", "ss", "srt", "si", "sdd", "ses", "scid"}
    | {"skoid", "sktid", "skt", "ske", "sks", "skv", "saoid", "suoid"}
)
"""Parameters of an Azure shared-access signature, any of which may stand first.

https://learn.microsoft.com/rest/api/storageservices/create-user-delegation-sas
"""
_HIDDEN = "[redacted]"


def redact(text: object) -> str:
    """Return a text without signatures, credentials and query strings.

    Parameters
    ----------
    text
        Anything; its `str` is used. May hold URLs anywhere, also percent-encoded or after `/vsicurl/`.

    Returns
    -------
    str
        The text, in which every URL has lost its user info, query and fragment, and the values of `sig=`,
        `token=` and the like are hidden. Redacting it again changes nothing.
    """
    found = str(text)
    for _ in range(10):  # what one rule uncovers is another's
        hidden = _redact_once(found)
        if hidden == found:
            break
        found = hidden
    return found


def _redact_once(text: str) -> str:
    found = _ENCODED_URL.sub(lambda match: _bare(_decoded(match.group())), text)
    found = _URL.sub(lambda match: _bare(match.group()), found)
    found = _PATH_QUERY.sub(lambda match: match.group("path"), found)
    found = _CHAIN.sub(_hide_chain, found)
    found = _JSON.sub(lambda match: f"{match['key']}{match['quote']}{_HIDDEN}{match['quote']}", found)
    found = _ONE.sub(lambda match: f"{match['key']}={_HIDDEN}", found)
    return _HEADER.sub(lambda match: f"{match['kind']} {_HIDDEN}", found)


def _decoded(text: str) -> str:
    for _ in range(5):
        following = unquote(text)
        if following == text:
            break
        text = following
    return re.sub(r"[\s\"'<>`]", "", text)


def _bare(url: str) -> str:
    """Return a URL without user info, query and fragment."""
    scheme, _, rest = url.partition("://")
    rest = re.split(r"[?#]|%(?:25)*3F|%(?:25)*23", rest, maxsplit=1, flags=re.I)[0]
    host, slash, path = rest.partition("/")
    host = re.split(r"@|%(?:25)*40", host, flags=re.I)[-1]
    # a URL within the path, such as that of a proxy, is a URL too
    if "://" in path:
        before, _, _ = path.partition("://")
        cut = re.search(r"[a-z][a-z0-9+.\-]*$", before, re.I)
        start = cut.start() if cut else len(before)
        path = path[:start] + _bare(path[start:])
    return f"{scheme}://{host}{slash}{path}"


def _hide_chain(match: re.Match[str]) -> str:
    keys = {part.removeprefix("amp;").split("=")[0].lower() for part in match.group().split("&")}
    hides = keys & SAS_KEYS or any(re.fullmatch(_HIDDEN_KEY, key, re.I) for key in keys)
    return _HIDDEN if hides else match.group()


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


def joined(base: str, href: str) -> str:
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


def show_href(href: str, length: int = 200) -> str:
    """Return an href as it may be shown: redacted, in quotes, control characters escaped, of bounded length.

    Parameters
    ----------
    href
        Any href.
    length
        The longest text that is shown in full.

    Returns
    -------
    str
    """
    shown = redact(href)
    return repr(shown if len(shown) <= length else shown[: length - 1] + "…")


# ----------------------------------------------------------------------------------------------------
# What may name a file

_NAME_LENGTH = 120


def safe_name(text: str) -> str:
    """Return a name that any file system takes, made of an untrusted id.

    Parameters
    ----------
    text
        Any text.

    Returns
    -------
    str
        Lower case, of `a-z 0-9 . _ -` only, not starting with a dot or dash, at most 120 characters. A text
        that fits apart from its case stays as it is; otherwise a short hash is appended, so that names stay
        distinct.
    """
    lower = text.lower()
    plain = unicodedata.normalize("NFKD", lower).encode("ascii", "ignore").decode()
    name = re.sub(r"[^a-z0-9._\-]+", "-", plain)
    name = re.sub(r"\.{2,}", ".", name).strip("-.")
    if name == lower and name and len(name) <= _NAME_LENGTH:
        return name
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[: _NAME_LENGTH - 9].rstrip('-.') or 'item'}-{digest}"
