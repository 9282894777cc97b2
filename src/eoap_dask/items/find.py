"""From an API, a static catalog or a file to an `ItemSet`, with one meaning of a search.

`find_items` is the only entry; a `Query` says what is wanted, and a `QueryFilter` applies it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from loguru import logger

from eoap_dask.errors import ItemError, SearchError, UsageError
from eoap_dask.items.api import Api, no_such_collection
from eoap_dask.items.catalogues import EARTH_SEARCH
from eoap_dask.items.files import ItemDocument, read_items
from eoap_dask.items.item import Item, cloud_cover, without_signatures
from eoap_dask.items.itemset import ItemSet, file_faults
from eoap_dask.items.query import Query, QueryFilter
from eoap_dask.items.static_catalog import CatalogWalk
from eoap_dask.net.hrefs import private_hosts_of
from eoap_dask.net.http import HttpPolicy, Wording, check_url, parse_json
from eoap_dask.net.resolve import is_file_url, is_url, resolve_href
from eoap_dask.net.signing import detect_signing, origin
from eoap_dask.redact import redact
from eoap_dask.text import option as as_written
from eoap_dask.text import plural

_CATALOG_NAMES = ("catalog.json", "collection.json")
_OF_PRODUCTS = ("items.json", "run.json")
"""Files by which a product of ours is known; the first has the items that it was made from."""
_KINDS = "a static catalog, an item collection, ndjson or stac-geoparquet"
_A_TIME = "Expected a datetime as in RFC 3339, or a start_datetime and an end_datetime."
_OTHER_ITEM = "Take the item from another catalogue."
_ITEM = Wording(
    "STAC item",
    "Expected the URL of one STAC item, as JSON.",
    "Check the URL of the item",
    "take the item from another catalogue",
)


def find_items(
    source: str | Path | ItemSet,
    query: Query,
    *,
    timeout_s: float = 30.0,
    retries: int = 5,
    page_size: int = 100,
    option: str = "stac",
) -> ItemSet:
    """Return the items that a query wants, sorted and unique, hrefs absolute and unsigned; maybe none.

    Raises `UsageError`, `CollectionError`, `SearchError`, `HrefError`; `option` is the parameter that gave the source.
    With more than `max_items`, an API chooses which it leaves out; other sources leave out the earliest.
    """
    if page_size < 1:
        raise UsageError(f"page_size must be 1 or more, got {page_size}.")
    if isinstance(source, ItemSet):
        return source.filtered(query)
    place = check_source(str(source), option)
    if not is_url(place):
        return _from_path(Path(place), query, timeout_s, retries)
    how = HttpPolicy(private_hosts_of(place), timeout_s, retries, named=place)
    return _from_url(place, query, how, page_size)


def explain_nothing(source: str | Path | ItemSet, query: Query, *, timeout_s: float = 30.0) -> str:
    """Return in a sentence or two why a search found nothing, and what to try.

    It searches again; a catalogue that can't be reached doesn't make it raise.
    """
    known: list[float] = []
    any_cloud = replace(query, max_cloud_cover=100, max_items=None)
    try:
        if isinstance(source, ItemSet) and not source.features and source.lowest_cloud_cover is not None:
            known = [source.lowest_cloud_cover]  # of what the filter dropped
        matching = _any_cloud(source, any_cloud, timeout_s)
        if query.filter.strip() and not matching and _any_cloud(source, replace(any_cloud, filter=""), timeout_s):
            return f"The filter drops all that match otherwise. Try without {as_written('filter')}."
    except (SearchError, UsageError):
        return f"Try other dates, a larger area or a higher {as_written('max_cloud_cover')}."
    if not matching and not known:
        return "There are none at any cloud cover. Try other dates or a larger area."
    covers = known + [cover for item in matching if (cover := cloud_cover(item)) is not None]
    if not covers and not query.is_any_cloud:
        return f"The cloud cover of those in the catalogue isn't known. Try {as_written('max_cloud_cover', 100)}."
    if not covers or min(covers) < query.max_cloud_cover:
        return f"Try other dates, a larger area or a higher {as_written('max_cloud_cover')}."
    lowest = min(covers)
    enough = min(100, int(lowest // 10) * 10 + 10)
    return f"Lowest cloud cover seen: {lowest:.3g} %. Try {as_written('max_cloud_cover', enough)}."


def check_source(text: str, option: str = "stac") -> str:
    """Return a source's URL without surrounding blanks and slashes, or its path (in a directory, its catalog's).

    Contacts nothing. `option` is the parameter that gave it. Raises `UsageError`.
    """
    text = text.strip()
    if is_file_url(text):
        text = resolve_href("/", text)
    if is_url(text):
        return check_url(text, "STAC API, static catalog or file of items", option, EARTH_SEARCH)
    if not text:
        raise UsageError(
            f"{as_written(option)} is empty.",
            f"Expected the URL of a STAC API, or {_KINDS}.",
            f"Try {as_written(option, EARTH_SEARCH)}.",
        )
    try:
        path = Path(text).expanduser()
        is_folder, is_there = path.is_dir(), path.exists()
    except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, an unknown ~user
        path, is_folder, is_there = Path(text), False, False
    if not is_there:
        raise UsageError(
            f"There is no file or directory {redact(text)!r}, given as {as_written(option)}.",
            f"Expected {_KINDS} on this machine, or the URL of a STAC API.",
            "Check the path; a URL begins with https://.",
        )
    if is_folder:
        is_product = option == "items" and all((path / name).is_file() for name in _OF_PRODUCTS)
        names = _OF_PRODUCTS[:1] if is_product else _CATALOG_NAMES
        found = next((path / name for name in names if (path / name).is_file()), None)
        if found is None:
            more = " The directory of a run does as well." if option == "items" else ""
            raise UsageError(
                f"The directory {redact(text)!r} has no {' or '.join(_CATALOG_NAMES)}.",
                "Expected the directory of a static STAC catalog.",
                f"If it has a file of items, give the path of that file.{more}",
            )
        path = found
    return str(path)


def item_from_url(source: str | Path, *, timeout_s: float = 30.0, retries: int = 5, option: str = "stac") -> ItemSet:
    """Return the STAC item at a URL or path as a set of one; `option` is the parameter that gave it.

    Its host, its links, or its landing page (on the same host) tell how it is signed. Raises `UsageError`,
    `SearchError` or `HrefError`.
    """
    text = str(source).strip()
    if not is_url(text) or is_file_url(text):
        place = check_source(text, option)
        found = ItemSet.load(place)
        if found.odd_items:
            raise ItemError(found.odd_items[0].reason, _A_TIME, _OTHER_ITEM)
        if len(found) != 1:
            raise UsageError(
                f"The file {place!r} has {plural(len(found), 'item')}.",
                "Expected one STAC item.",
                "Save the wanted item as a file of its own.",
            )
        return _named(found)
    url = check_url(text, "STAC item", option, f"{EARTH_SEARCH}/collections/sentinel-2-l2a/items/…")
    how = HttpPolicy(private_hosts_of(url), timeout_s, retries, _ITEM, url)
    document = parse_json(how.get(url), url, how)
    kind = ItemDocument(document, ()).kind
    if kind != "Feature":
        what = {"Catalog": "a STAC catalog", "Collection": "a STAC collection", "FeatureCollection": "a list of items"}
        raise how.refused(url, f"is {what[kind]}, not an item" if kind in what else "is JSON, but not STAC")
    try:
        found = ItemSet.collected([(document, url)], url, signing=_signing_of(url, document, how))
    except ValueError as fault:
        raise how.refused(url, f"can't be used: {redact(fault)}") from None
    if found.odd_items:
        raise how.refused(url, f"can't be used: {redact(found.odd_items[0].reason.removesuffix('.'))}")
    return _named(found)


def _from_path(path: Path, query: Query, timeout_s: float, retries: int) -> ItemSet:
    """Return the items in a file, or those of a catalog on this machine."""
    with file_faults(path):
        held = read_items(path, query.start, query.end)
        if not held.is_catalog:
            return ItemSet.from_document(held, path, query)
    how = HttpPolicy(frozenset(), timeout_s, retries)
    return _from_catalog(str(path.absolute()), held.head, query, how, stac=str(path))


def _from_url(url: str, query: Query, how: HttpPolicy, page_size: int) -> ItemSet:
    """Return the items of whatever is at a URL."""
    held = _held_at(url, query, how)
    if held.is_catalog:
        api = Api.of(url, held.head, how)
        if api is not None:
            return _from_api(api, query, page_size)
        return _from_catalog(url, held.head, query, how, stac=redact(url))
    links = held.head.get("links")
    if any(isinstance(link, Mapping) and link.get("rel") == "next" for link in _list(links)):
        raise how.refused(url, "is one page of many", f"Give the landing page of the API as {as_written('stac')}.")
    raw = ((item, url) for item in held.items)
    try:
        return ItemSet.collected(raw, redact(url), query=query, signing=_known(detect_signing(url)), head=held.head)
    except ValueError as fault:
        raise how.refused(url, f"can't be used: {redact(fault)}") from None


def _held_at(url: str, query: Query, how: HttpPolicy) -> ItemDocument:
    content = how.get(url)
    try:
        held = read_items(content, query.start, query.end)
    except ValueError:
        parse_json(content, url, how)  # raises with what it is, if it isn't JSON
        raise how.refused(url, "is JSON, but not STAC") from None
    if not held.is_catalog and held.kind not in ("Items", "Feature", "FeatureCollection"):
        raise how.refused(url, "is JSON, but not STAC")
    return held


def _from_api(api: Api, query: Query, page_size: int) -> ItemSet:
    if query.collection is not None:
        api.check_collection(query.collection)
    parameters = api.parameters(query)
    sieve = QueryFilter(query)
    # one more than wanted shows whether there are more
    is_sifted = not query.filter.strip() and (query.is_any_cloud or "query" in parameters)
    limit = min(page_size, query.max_items + 1) if is_sifted and query.max_items is not None else page_size
    found = api.items(parameters, limit)
    for item in found:
        sieve.offer(item)
        if sieve.is_over:
            break
    signing = detect_signing(api.url, api.links)
    items = sieve.items()
    return ItemSet(
        tuple(without_signatures(item) for item in items) if signing["kind"] != "none" else items,
        redact(api.url),
        query.collection or "",
        signing,
        sieve.is_over or found.missing > 0,
        sieve.lowest_cloud_cover,
        odd_items=(*found.odd_items, *sieve.odd_items),
        missing=found.missing,
    )


def _from_catalog(root: str, document: Mapping[str, Any], query: Query, how: HttpPolicy, *, stac: str) -> ItemSet:
    walk = CatalogWalk(query, how)
    is_local = not is_url(root)
    links = document.get("links")
    signing = None if is_local else detect_signing(root, _list(links))
    try:
        found = ItemSet.collected(
            walk.items(root, document),
            stac,
            query=query,
            signing=_known(signing),
            from_file=is_local,
            folder=Path(root).parent if is_local else None,
        )
    except ValueError as fault:
        raise how.refused(root, f"leads to something that can't be used: {redact(fault)}") from None
    if not found.features and query.collection and walk.collections and query.collection not in walk.collections:
        raise no_such_collection(query.collection, walk.collections, str(urlsplit(root).hostname or root))
    return found


def _known(signing: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return how a place signs, or None where it doesn't, so that the items' own links decide."""
    return None if signing is None or signing["kind"] == "none" else signing


def _any_cloud(source: str | Path | ItemSet, query: Query, timeout_s: float) -> tuple[Item, ...]:
    """Return items at any cloud cover; from an API one page, the clearest first where it can sort."""
    if isinstance(source, ItemSet):
        return source.filtered(query).features
    place = check_source(str(source))
    if is_url(place):
        how = HttpPolicy(private_hosts_of(place), timeout_s, retries=1, named=place)
        held = _held_at(place, query, how)
        api = Api.of(place, held.head, how) if held.is_catalog else None
        if api is not None:
            parameters = api.parameters(query)
            if api.conforms("sort"):
                parameters["sortby"] = [{"field": "properties.eo:cloud_cover", "direction": "asc"}]
            sieve = QueryFilter(query)
            for item in next((page.items for page in api.pages(parameters, 100) if page.items), ()):
                sieve.offer(item)
            return sieve.items()
    return find_items(place, query, timeout_s=timeout_s, retries=1).features


def _named(items: ItemSet) -> ItemSet:
    """Return a set of one item with its collection, also where only a link of the item names it."""
    item = items.features[0]
    if isinstance(item.get("collection"), str) or items.collection:
        return items
    hrefs = [str(link["href"]) for link in item["links"] if link.get("rel") == "collection"]
    names = [href.rstrip("/").rpartition("/collections/")[2] for href in hrefs if "/collections/" in href]
    if not names or "/" in names[0]:
        return items
    return replace(items, features=({**item, "collection": names[0]},), collection=names[0])


def _signing_of(url: str, item: Mapping[str, Any], how: HttpPolicy) -> dict[str, Any] | None:
    """Return how an item's API signs, if it is at the item's own origin and its landing page says so."""
    found = _known(detect_signing(url))
    links = item.get("links")
    plain = [link for link in _list(links) if isinstance(link, Mapping)]
    roots = [resolve_href(url, str(link.get("href"))) for link in plain if link.get("rel") == "root"]
    if found is not None or not roots or origin(roots[0]) != origin(url) or origin(url) is None:
        return found
    root = roots[0].partition("?")[0].rstrip("/")
    try:
        landing = parse_json(how.get(root), root, how)
    except SearchError as fault:
        logger.info(
            "The assets of {} are taken as unsigned, because its landing page failed: {}", redact(root), fault.what
        )
        return None
    named = landing.get("links")
    return _known(detect_signing(root, _list(named)))


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
