"""Where an href leads from the document that holds it: one rule for URLs, one for paths of this machine."""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterator
from urllib.parse import unquote, urljoin, urlsplit

_URL = re.compile(r"[a-z][a-z0-9+.\-]*://", re.I)
_SCHEME = re.compile(r"[a-z][a-z0-9+.\-]+:", re.I)
# RFC 8089 has all three; Java writes the shortest
_FILE = re.compile(r"file:(?://(?:localhost)?(?=/)|(?=/(?!/)))", re.I)


def is_url(text: str) -> bool:
    """Tell whether an href or address begins with a scheme, so that it can't be a path."""
    return _URL.match(text) is not None


def is_file_url(text: str) -> bool:
    """Tell whether an href is the URL of a file of this machine; a `file://` URL of another host isn't."""
    return _FILE.match(text) is not None


def path_part(href: str) -> str:
    """Return the path of a URL, still encoded, or the whole of a path, in which `#` and `?` are letters."""
    return urlsplit(href).path if is_url(href) else href


def resolve_href(base: str, href: str) -> str:
    """Return an href resolved against the document that holds it.

    Parameters
    ----------
    base : str
        URL or absolute path of the document.
    href : str
        What it says: a URL, a path, or relative to it.

    Returns
    -------
    str
        A URL or an absolute path, not yet allowed (`check_href`); unchanged where it is absolute, or makes no sense.
        From a URL it is never a path. From a path, a relative or `file:` href is a path. People write paths into
        hrefs as they are, and encoded: of the two readings the one that exists is taken, for a path first that to the
        letter, for a `file:` URL first the decoded one.
    """
    if is_file_url(base):
        base = resolve_href("/", base)
    return _from_url(base, href) if is_url(base) else _from_path(base, href)


def _from_url(base: str, href: str) -> str:
    if is_url(href) or href.startswith("/vsi"):
        return href  # urljoin would rewrite it, and not for the better
    try:
        # a blank can't be meant otherwise: catalogs that are written on a disk and served later have them
        return urljoin(base, href.strip(" ").replace(" ", "%20"))
    except ValueError:  # brackets of an IPv6 address that isn't one
        return href


def _from_path(base: str, href: str) -> str:
    named = _FILE.match(href)
    if not href or (not named and (is_url(href) or href.startswith(("//", "/vsi")))):
        return href
    text = href[named.end() :] if named else href
    folder = os.path.dirname(base)  # noqa: PTH120 - thousands of hrefs: a Path is slow
    places = [os.path.join(folder, one) for one in _readings(text, decoded_first=named is not None)]  # noqa: PTH118
    if len(places) == 1 and not _SCHEME.match(text):
        return places[0]
    found = next((place for place in places if os.path.exists(place)), None)  # noqa: PTH110 - also a null byte is False
    if found is None:
        return href if not named and _SCHEME.match(text) else places[0]
    return found


def _readings(text: str, *, decoded_first: bool) -> tuple[str, ...]:
    """Return what a path may mean, the likeliest first."""
    bare = re.split(r"[?#]", text, maxsplit=1)[0]
    without_query = text.rpartition("?")[0] or text
    whole = (text, unquote(text), without_query, unquote(without_query), bare, unquote(bare))
    found = (unquote(bare), unquote(text), text) if decoded_first else whole
    return tuple(dict.fromkeys(form for one in found if one for form in _forms(one)))


def _forms(name: str) -> Iterator[str]:
    """Yield a name as it is, and with its accents composed and decomposed: disks distinguish them, people don't."""
    yield name
    if not name.isascii():
        yield unicodedata.normalize("NFC", name)
        yield unicodedata.normalize("NFD", name)
