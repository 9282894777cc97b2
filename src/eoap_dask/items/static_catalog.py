"""Static catalogs: JSON files that lead to each other, on this machine or behind a URL."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.parse import urldefrag

from eoap_dask.errors import SearchError
from eoap_dask.items.files import ItemDocument
from eoap_dask.items.query import Query
from eoap_dask.net.hrefs import check_href
from eoap_dask.net.http import HttpPolicy, parse_json
from eoap_dask.net.resolve import is_url, resolve_href
from eoap_dask.redact import show_href
from eoap_dask.text import option

_MOST_DOCUMENTS = 100_000
_MOST_BYTES = 2 * 1024**3
_DOCUMENT_BYTES = 64 * 1024**2
_MOST_LEVELS = 32
_AT_ONCE = 8
_HINT = "Try an item collection, ndjson or stac-geoparquet of its items, or its API."


@dataclass
class CatalogWalk:
    """One pass over a catalog, down its links `child` and `item`, each document once, everything bounded.

    From a URL it goes to URLs that `check_href` allows, never to a path; from a path to paths and to public URLs.
    """

    query: Query
    """Items of other collections aren't read."""
    how: HttpPolicy
    """For documents behind URLs."""
    collections: list[str] = field(default_factory=list)
    """Ids of the collections on the way."""
    _documents: int = 0
    _bytes: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def items(self, root: str, document: Mapping[str, Any]) -> Iterator[tuple[object, str]]:
        """Yield the items, each with the URL or absolute path it was read from; `document` is the root's content.

        Raises `SearchError` for unreadable, foreign, too many or circular documents, `HrefError` for forbidden links.
        """
        waiting: list[tuple[dict[str, Any], tuple[str, ...], bool]] = [(dict(document), (_plain(root),), True)]
        seen = {_plain(root)}
        is_first = True
        while waiting:
            catalog, trail, wanted = waiting.pop()
            if ItemDocument(catalog, ()).kind == "Collection":
                name = str(catalog.get("id", ""))
                self.collections.append(name)
                wanted = self.query.collection in (None, name)
            links = _links(catalog)
            if is_first and not links:
                raise self._leads_nowhere(root, catalog)
            is_first = False
            targets = []
            for rel, href in links:
                if rel == "item" and not wanted:
                    continue
                target = self._resolved(trail[-1], href)
                if target in trail:
                    raise self.how.refused(
                        trail[-1], f"leads back to {target}", "A catalog must not contain itself. " + _HINT
                    )
                if target not in seen:
                    seen.add(target)
                    targets.append(target)
            if targets and len(trail) >= _MOST_LEVELS:
                raise self.how.refused(root, f"is more than {_MOST_LEVELS} levels deep", _HINT)
            deeper = []
            for target, found in self._documents_at(root, targets):
                held = ItemDocument(found, ())
                if held.kind == "Feature":
                    yield found, target
                elif held.is_catalog:
                    deeper.append((found, (*trail, target), wanted))
                else:
                    raise self.how.refused(target, "is neither a STAC item nor a catalog", _HINT)
            waiting.extend(reversed(deeper))

    def _documents_at(self, root: str, addresses: Sequence[str]) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield the documents at these addresses, in their order; from the network several at once."""
        how = replace(self.how, most_bytes=_DOCUMENT_BYTES, came=lambda size: self._count(root, size))
        waiting: deque[tuple[str, Future[bytes]]] = deque()
        left = iter(addresses)
        with ThreadPoolExecutor(_AT_ONCE, "eoap-catalog") as pool:
            try:
                while True:
                    # never more documents than are being read: behind a slow one they would pile up
                    for address in islice(left, _AT_ONCE - len(waiting)):
                        waiting.append((address, pool.submit(self._read, address, how)))
                    if not waiting:
                        return
                    address, reading = waiting.popleft()
                    content = reading.result()
                    self._documents += 1
                    if self._documents > _MOST_DOCUMENTS:
                        raise self.how.refused(root, f"holds more than {_MOST_DOCUMENTS} documents", _HINT)
                    yield address, parse_json(content, address, self.how)
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _count(self, root: str, size: int) -> None:
        """Count bytes while they arrive, in several threads."""
        with self._lock:
            self._bytes += size
        if self._bytes > _MOST_BYTES:
            raise self.how.refused(root, f"holds more than {_MOST_BYTES // 1024**2} MiB", _HINT)

    def _read(self, address: str, how: HttpPolicy) -> bytes:
        if is_url(address):
            return how.get(address)
        path = Path(address)
        try:
            if not path.is_file():  # also no pipe or device, which may never end
                raise self.how.refused(address, "doesn't exist, though a catalog leads to it", _HINT)
            if path.stat().st_size > _DOCUMENT_BYTES:
                raise self.how.refused(address, f"is larger than {_DOCUMENT_BYTES // 1024**2} MiB", _HINT)
            content = path.read_bytes()
        except OSError as fault:
            raise self.how.refused(address, f"can't be read: {fault.strerror}", "Check its permissions.") from None
        if how.came is not None:
            how.came(len(content))
        return content

    def _resolved(self, base: str, href: str) -> str:
        """Return where a link leads, if the walk may go there."""
        found = resolve_href(base, href)
        if is_url(base) or is_url(found):
            return _plain(check_href(found, private_hosts=self.how.private_hosts))
        try:
            return _plain(found)
        except (OSError, ValueError):  # too long for a name, a null byte
            raise self.how.refused(base, f"leads to {show_href(href)}, which can't be a file", _HINT) from None

    def _leads_nowhere(self, root: str, catalog: Mapping[str, Any]) -> SearchError:
        kind = ItemDocument(dict(catalog), ()).kind
        links = [link for link in catalog.get("links") or [] if isinstance(link, Mapping)]
        hrefs = {link.get("rel"): str(link.get("href")) for link in links}
        if "items" in hrefs:
            top = (
                resolve_href(root, hrefs["root"])
                if "root" in hrefs and is_url(resolve_href(root, hrefs["root"]))
                else ""
            )
            shown = check_href(top, private_hosts=self.how.private_hosts) if top else ""
            return self.how.refused(
                root,
                f"is a STAC {kind} of an API, not its landing page",
                f"Try {option('stac', shown.rstrip('/'))}." if shown else "",
            )
        return self.how.refused(root, f"is a STAC {kind} without item search, and without items")


def _links(catalog: Mapping[str, Any]) -> list[tuple[str, str]]:
    links = catalog.get("links")
    return [
        (str(link["rel"]), link["href"])
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, Mapping) and link.get("rel") in ("child", "item") and isinstance(link.get("href"), str)
    ]


def _plain(address: str) -> str:
    return urldefrag(address).url if is_url(address) else str(Path(address).resolve())
