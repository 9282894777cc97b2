"""A STAC API with item search: landing page, collections, pages of items."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from eoap_dask.errors import CollectionError, SearchError, StatusError
from eoap_dask.items.files import matched
from eoap_dask.items.item import Item, OddItem, fit_items, item_key
from eoap_dask.items.query import Query
from eoap_dask.net.http import HttpPolicy, parse_json
from eoap_dask.net.resolve import resolve_href
from eoap_dask.redact import redact
from eoap_dask.text import option, plain

if TYPE_CHECKING:
    from pystac_client.stac_api_io import StacApiIO

_MOST_EMPTY = 1000
"""Pages without items in a row, after which a search counts as endless."""


@dataclass(frozen=True)
class Page:
    """A page of a search."""

    items: list[Item]
    matched: int | None
    """Items that match the search in all, as the API says; None where it doesn't."""
    is_last: bool
    """Whether it leads to no other."""
    odd_items: tuple[OddItem, ...] = ()
    """What isn't a STAC item, among others that are."""


@dataclass
class FoundItems:
    """The items of a search, each once."""

    api: Api
    parameters: Mapping[str, Any]
    limit: int
    missing: int = 0
    """After the last page: how many more items match, as the API says, than its pages had."""
    odd_items: tuple[OddItem, ...] = ()
    """After the last page: what wasn't a STAC item, among others that were."""

    def __iter__(self) -> Iterator[Item]:
        """Yield the items; raises `SearchError` when pages repeat, or go on without items."""
        seen: set[tuple[str, str]] = set()
        known: int | None = None
        empty, self.odd_items = 0, ()
        for page in self.api.pages(self.parameters, self.limit):
            known = known if page.matched is None else page.matched
            before = len(seen)
            self.odd_items += page.odd_items
            for item in page.items:
                key = item_key(item)
                if key not in seen:
                    seen.add(key)
                    yield item
            # an empty page that leads on is none of the end: what a filter drops may leave pages empty
            empty = 0 if page.items or page.odd_items else empty + 1
            if not page.is_last and (empty >= _MOST_EMPTY or (page.items and len(seen) == before)):
                raise self.api.loop()
        if self.odd_items and not seen:
            raise self.api.how.refused(
                self.api.url, f"answered nothing that is a STAC item: {redact(self.odd_items[0].reason).rstrip('.')}"
            )
        # what comes twice hides what doesn't come
        self.missing = max(0, (known or 0) - len(seen) - len(self.odd_items))


@dataclass(frozen=True)
class Api:
    """A STAC API, by its landing page."""

    url: str
    links: tuple[Mapping[str, Any], ...]
    conforms_to: tuple[str, ...]
    how: HttpPolicy
    io: StacApiIO

    @classmethod
    def of(cls, url: str, landing: Mapping[str, Any], how: HttpPolicy) -> Api | None:
        """Return the API of a URL's landing page, or None when it offers no item search."""
        links = landing.get("links")
        plain = tuple(
            link
            for link in (links if isinstance(links, list) else [])
            if isinstance(link, dict) and isinstance(link.get("href"), str)
        )
        conforms = landing.get("conformsTo")
        texts = tuple(one for one in conforms if isinstance(one, str)) if isinstance(conforms, list) else ()
        api = cls(url, plain, texts, how, _make_io(url, how))
        return None if api.link("search") is None else api

    def link(self, *rels: str) -> str | None:
        """Return the absolute href of the landing page's first link with one of these relations."""
        found = next((str(link["href"]) for link in self.links if link.get("rel") in rels), None)
        return None if found is None else resolve_href(self.url + "/", found)

    def conforms(self, extension: str) -> bool:
        """Tell whether item search has an extension, in any version of the API."""
        return any(re.search(rf"/item-search/?#{extension}\b", one) for one in self.conforms_to)

    def check_collection(self, collection: str) -> None:
        """Raise `CollectionError`, naming what is offered, for a collection that the API lacks."""
        collections = (self.link("data", "collections") or f"{self.url}/collections").rstrip("/")
        try:
            self.io.read_json(f"{collections}/{quote(collection, safe='')}")
        except StatusError as fault:
            if fault.status not in (404, 410):
                raise
        else:
            return
        try:
            listed = self.io.read_json(collections).get("collections")
        except StatusError:
            listed = None
        if not isinstance(listed, list):
            return  # an API without collections: the search shows whether it has this one
        ids = [one["id"] for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
        if collection not in ids:
            raise no_such_collection(collection, ids, str(urlsplit(self.url).hostname))

    def parameters(self, query: Query, *, cover: bool = True) -> dict[str, Any]:
        """Return a search's parameters in pystac-client's names; `cover` asks for the cloud cover, where supported.

        The query's filter isn't sent: catalogues differ in their CQL2, and `QueryFilter` applies it to all alike.
        """
        found: dict[str, Any] = {}
        if query.collection is not None:
            found["collections"] = [query.collection]
        if query.start is not None or query.end is not None:
            # to the last instant of the day: items have times of fractions of a second
            start = "" if query.start is None else f"{query.start}T00:00:00Z"
            end = "" if query.end is None else f"{query.end}T23:59:59.999999Z"
            found["datetime"] = f"{start or '..'}/{end or '..'}"
        if query.aoi is not None:
            # pgstac searches the wrong side of the world for west > east in a bbox (stac-utils/pgstac#428), and many
            # catalogues run on it: a shape that is split at the antimeridian is understood by all
            if query.aoi.is_box and not query.aoi.crosses_antimeridian:
                found["bbox"] = list(query.aoi.bbox)
            else:
                found["intersects"] = query.aoi.simplified_for_search()
        if cover and not query.is_any_cloud and self.conforms("query"):
            # as a number in the dict form: pgstac compares the text form as text, and "9" > "25"
            found["query"] = {"eo:cloud_cover": {"lt": plain(query.max_cloud_cover)}}
        return found

    def items(self, parameters: Mapping[str, Any], limit: int) -> FoundItems:
        """Return the matching items, `limit` to a page, as an iterable that asks while it is iterated."""
        return FoundItems(self, parameters, limit)

    def pages(self, parameters: Mapping[str, Any], limit: int) -> Iterator[Page]:
        """Yield the pages of a search with `limit` items each; by POST, or GET where the API has no POST."""
        methods = {
            str(link["method"]).upper() for link in self.links if link.get("rel") == "search" and "method" in link
        }
        if methods == {"GET"}:
            yield from self._pages("GET", parameters, limit)
            return
        pages = self._pages("POST", parameters, limit)
        try:
            first = next(pages, None)
        except StatusError as fault:
            if fault.status not in (405, 501):
                raise
            yield from self._pages("GET", parameters, limit)
            return
        if first is not None:
            yield first
            yield from pages

    def _pages(self, method: str, parameters: Mapping[str, Any], limit: int) -> Iterator[Page]:
        import pystac
        from pystac_client import ItemSearch

        url = self.link("search") or ""
        search = ItemSearch(url, method=method, limit=limit, stac_io=self.io, **parameters)
        # not the library's own pages: they end at the first empty one, also where that leads to a next
        ask = partial(self.io.read_json, url, method=method, parameters=search.get_parameters())
        unfit = self.how.refused(self.url, "answered a search with links that can't be followed")
        # links that lack this or that raise these
        broken = (AttributeError, KeyError, TypeError, ValueError, pystac.STACError)
        asked: set[str] = set()
        while True:
            try:
                page = ask()
            except broken:
                raise unfit from None
            odd: list[OddItem] = []
            items = [item for item, _ in fit_items(((feature, url) for feature in page["features"]), odd, few=True)]
            links = page.get("links", [])
            # a malformed link may be the one that leads on
            if not isinstance(links, list) or not all(isinstance(one, dict) and "rel" in one for one in links):
                raise unfit
            follow = next((link for link in links if link["rel"] == "next"), None)
            yield Page(items, matched(page), is_last=follow is None, odd_items=tuple(odd))
            if follow is None:
                return
            mark = json.dumps(follow, sort_keys=True)
            if mark in asked:
                raise self.loop()
            asked.add(mark)
            try:
                link = pystac.Link.from_dict(follow)
            except broken:
                raise unfit from None
            ask = partial(self.io.read_json, link, parameters=search.get_parameters())

    def loop(self) -> SearchError:
        """Return the fault of pages that don't end."""
        return SearchError(
            f"The catalogue at {redact(self.url)} returns the same page of items over and over.",
            "Expected each page to lead to the next.",
            "Try a shorter range of dates or a smaller area, or another catalogue.",
        )


def no_such_collection(collection: str, ids: Collection[str], where: str) -> CollectionError:
    """Return the fault of a collection that a catalogue lacks, naming up to eight that it has."""
    near = difflib.get_close_matches(collection, ids, n=8, cutoff=0.4)
    offered = [*near, *(one for one in ids if one not in near)][:8]
    return CollectionError(
        f"There is no collection {redact(collection)!r} at {where}.",
        f"Offered are: {', '.join(offered)}{', …' if len(ids) > 8 else ''}." if offered else "It offers none.",
        f"Try {option('collection', offered[0])}." if near else "Check the name of the collection.",
    )


def _make_io(base: str, how: HttpPolicy) -> StacApiIO:
    """Return pystac-client's reader and writer with the requests, checks and faults of `HttpPolicy`."""
    from pystac_client.stac_api_io import StacApiIO

    class Io(StacApiIO):
        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            verb = (method or "GET").upper()
            content = how.send(verb, resolve_href(base + "/", href), headers, parameters)
            return content.decode("utf-8", "replace")

        def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            href = source if isinstance(source, str) else base
            found = parse_json(self.read_text(source, *args, **kwargs), href, how)
            # the library takes an answer without features for the end of the search
            if "parameters" in kwargs and not isinstance(found.get("features"), list):
                raise how.refused(href, "answered a search with no list of features")
            return found

    return Io(timeout=how.timeout_s, max_retries=None)
