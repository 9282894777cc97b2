"""Texts for logs and messages, without signatures, credentials and query strings."""

from __future__ import annotations

import re
from urllib.parse import unquote

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
    """Return `str(text)` without signatures and credentials, and its URLs without user info, query and fragment.

    URLs are found anywhere, also percent-encoded or after `/vsicurl/`. Redacting again changes nothing.
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


def show_href(href: str, length: int = 200) -> str:
    """Return an href for a message: redacted, quoted, control characters escaped, cut to `length` characters."""
    shown = redact(href)
    return repr(shown if len(shown) <= length else shown[: length - 1] + "…")
