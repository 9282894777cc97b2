"""From a STAC API to an `ItemSet`: paged, retried, checked, and unsigned."""

from __future__ import annotations

import difflib
import json
import random
import re
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urljoin, urlsplit

from loguru import logger

from eoap_dask.aoi import Aoi
from eoap_dask.errors import CollectionError, SearchError, UsageError
from eoap_dask.itemset import Item, ItemSet, cloud_cover, is_clear, is_match, normalised, ordered
from eoap_dask.signing import detect_signing
from eoap_dask.trust import check_href, private_hosts_of, redact

if TYPE_CHECKING:
    from pystac_client.stac_api_io import StacApiIO

_TRANSIENT = frozenset({408, 429, 500, 502, 503, 504})
_BACKOFF_S = 0.5
_LONGEST_PAUSE_S = 20.0
_LONGEST_WAIT_S = 60.0  # that a Retry-After may ask for
_CONNECT_S = 10.0
# A misspelt host shouldn't take as long to be told as a server that is down for a moment.
_RETRIES_UNKNOWN_HOST = 2
_REDIRECTS = 5
# 1000 items of Sentinel-2 are some 50 MB; an answer without end must not fill the memory.
_ANSWER_BYTES = 512 * 1024**2
_EXPECTED_API = "The landing page of a STAC API with item search is needed."
_TRY_API = "Try --stac https://earth-search.aws.element84.com/v1."


def search_items(
    stac: str,
    collection: str,
    aoi: Aoi,
    start: date,
    end: date,
    *,
    max_cloud_cover: float,
    max_items: int,
    timeout_s: float = 30.0,
    retries: int = 5,
    page_size: int = 100,
) -> ItemSet:
    """Return the items of a collection over an area and a range of days.

    Parameters
    ----------
    stac
        URL of the landing page of a STAC API.
    collection
        Id of the collection.
    aoi
        The area; a plain box is sent as `bbox`, anything else as `intersects`.
    start, end
        First and last day, both inclusive, in UTC.
    max_cloud_cover
        Items with a smaller `eo:cloud_cover` are kept, in percent; 100 keeps all.
    max_items
        At most that many items are returned. Reaching it sets `truncated`; which ones are left out is the
        API's choice, mostly the earliest.
    timeout_s
        Longest wait for an answer, in seconds.
    retries
        How often a request is repeated after 429, 5xx, timeouts and lost connections, with growing pauses.
    page_size
        Items asked for per request.

    Returns
    -------
    ItemSet
        Sorted, unique, hrefs absolute and unsigned; empty when nothing matches (`explain_nothing` says why).

    Raises
    ------
    UsageError
        When `stac` isn't an http(s) URL, or a number makes no sense.
    CollectionError
        When the catalogue doesn't have the collection.
    SearchError
        When the catalogue can't be reached, or what it answers can't be used.
    HrefError
        When the catalogue sends the search to a host that it may not.
    """
    _check_numbers(max_cloud_cover, max_items, page_size)
    api = _Api.open(stac, timeout_s, retries)
    api.check_collection(collection)
    signing = detect_signing(api.url, api.links)
    asks_cover = max_cloud_cover < 100 and api.conforms("query")
    filters = _filters(aoi, collection, start, end)
    if asks_cover:
        # as a number in the dict form: pgstac compares the text form as text, and "9" > "25"
        filters["query"] = {"eo:cloud_cover": {"lt": _plain(max_cloud_cover)}}
    found: dict[tuple[str, str], Item] = {}
    lowest: float | None = None
    # one more than wanted tells whether there are more
    limit = min(page_size, max_items + 1) if asks_cover or max_cloud_cover >= 100 else page_size
    for item in api.items(filters, limit, strip=signing["kind"] != "none"):
        if not is_match(item, aoi, start, end, collection):
            continue
        cover = cloud_cover(item)
        if cover is not None:
            lowest = cover if lowest is None else min(lowest, cover)
        if is_clear(item, max_cloud_cover):
            found[(str(item.get("collection", "")), item["id"])] = item
            if len(found) > max_items:
                break
    kept = list(found.values())[:max_items]
    return ItemSet(
        ordered(kept),
        redact(api.url),
        collection,
        signing,
        truncated=len(found) > max_items,
        lowest_cloud_cover=lowest,
    )


def explain_nothing(
    source: str | ItemSet,
    collection: str,
    aoi: Aoi,
    start: date,
    end: date,
    *,
    max_cloud_cover: float,
    timeout_s: float = 30.0,
) -> str:
    """Return in a sentence or two why a search found nothing, and what to try.

    A catalogue that can't be reached doesn't make it raise.

    Parameters
    ----------
    source
        URL of the API, which is asked again, without the filter for clouds; or the items,
        filtered or not.
    collection, aoi, start, end, max_cloud_cover
        As they were searched.
    timeout_s
        Longest wait for an answer, in seconds.

    Returns
    -------
    str
        Such as `Lowest cloud cover seen: 34 %. Try --max-cloud-cover 40.`
    """
    known: list[float] = []
    if isinstance(source, ItemSet):
        if not source.features and source.lowest_cloud_cover is not None:
            known = [source.lowest_cloud_cover]  # of what the filter dropped
        matching = [item for item in source.features if is_match(item, aoi, start, end, collection)]
    else:
        try:
            api = _Api.open(source, timeout_s, retries=1)
            filters = _filters(aoi, collection, start, end)
            if api.conforms("sort"):
                filters["sortby"] = [{"field": "properties.eo:cloud_cover", "direction": "asc"}]
            page = next(api.pages(filters, 100), [])
            matching = [item for item in page if is_match(item, aoi, start, end, collection)]
        except (SearchError, UsageError):
            return "Try other dates, a larger area or a higher --max-cloud-cover."
    if not matching and not known:
        return "There are none there at any cloud cover. Try other dates or a larger area."
    covers = known + [cover for item in matching if (cover := cloud_cover(item)) is not None]
    if not covers or min(covers) < max_cloud_cover:
        return "Try other dates, a larger area or a higher --max-cloud-cover."
    lowest = min(covers)
    enough = min(100, int(lowest // 10) * 10 + 10)
    return f"Lowest cloud cover seen: {lowest:.3g} %. Try --max-cloud-cover {enough}."


def _check_numbers(max_cloud_cover: float, max_items: int, page_size: int) -> None:
    if not 0 <= max_cloud_cover <= 100:
        raise UsageError(
            f"A cloud cover of {max_cloud_cover:g} % makes no sense.",
            "It lies between 0 and 100.",
            "Try --max-cloud-cover 20.",
        )
    if max_items < 1 or page_size < 1:
        raise UsageError(
            f"A limit of {min(max_items, page_size)} items makes no sense.",
            "At least one item is needed.",
            "Try --max-items 1000.",
        )


def _filters(aoi: Aoi, collection: str, start: date, end: date) -> dict[str, Any]:
    filters: dict[str, Any] = {
        "collections": [collection],
        "datetime": f"{start}T00:00:00Z/{end}T23:59:59Z",
    }
    # pgstac searches the wrong side of the world for west > east in a bbox (stac-utils/pgstac#428), and many
    # catalogues run on it: a shape that is split at the antimeridian is understood by all
    if aoi.is_box and not aoi.crosses_antimeridian:
        filters["bbox"] = list(aoi.bbox)
    else:
        filters["intersects"] = aoi.simplified_for_search()
    return filters


def _plain(number: float) -> float | int:
    return int(number) if float(number).is_integer() else float(number)


# ----------------------------------------------------------------------------------------------------
# The API


@dataclass(frozen=True)
class _Api:
    """A STAC API whose landing page has been read."""

    url: str
    links: tuple[Mapping[str, Any], ...]
    conforms_to: tuple[str, ...]
    io: StacApiIO

    @classmethod
    def open(cls, stac: str, timeout_s: float, retries: int) -> _Api:
        url = check_api_url(stac)
        private = private_hosts_of(url)
        io = _make_io(url, _Requests(private, timeout_s, retries))
        check_href(url, private_hosts=private)
        landing = io.read_json(url)
        links = landing.get("links")
        if not isinstance(links, list) or not ("stac_version" in landing or "conformsTo" in landing):
            raise _not_stac(url, "holds JSON, but no STAC")
        kind = landing.get("type", "Catalog")
        if kind != "Catalog":
            raise _not_stac(url, f"is a STAC {kind if isinstance(kind, str) else 'object'}, no landing page")
        plain = tuple(link for link in links if isinstance(link, dict) and isinstance(link.get("href"), str))
        conforms = landing.get("conformsTo")
        texts = tuple(one for one in conforms if isinstance(one, str)) if isinstance(conforms, list) else ()
        api = cls(url, plain, texts, io)
        if api._link("search") is None:
            raise _not_stac(url, "is a STAC catalog without item search")
        return api

    def _link(self, *rels: str) -> str | None:
        found = next((str(link["href"]) for link in self.links if link.get("rel") in rels), None)
        return None if found is None else urljoin(self.url + "/", found)

    def conforms(self, extension: str) -> bool:
        """Tell whether item search has an extension, in any version of the API."""
        return any(re.search(rf"/item-search/?#{extension}\b", one) for one in self.conforms_to)

    def check_collection(self, collection: str) -> None:
        """Raise CollectionError, naming what there is, when the catalogue lacks the collection."""
        collections = (self._link("data", "collections") or f"{self.url}/collections").rstrip("/")
        try:
            self.io.read_json(f"{collections}/{quote(collection, safe='')}")
        except _StatusError as fault:
            if fault.status not in (404, 410):
                raise
        else:
            return
        try:
            listed = self.io.read_json(collections).get("collections")
        except _StatusError:
            listed = None
        if not isinstance(listed, list):
            return  # an API without collections: the search will tell
        ids = [one["id"] for one in listed if isinstance(one, dict) and isinstance(one.get("id"), str)]
        if collection in ids:
            return
        shown = redact(collection)
        near = difflib.get_close_matches(collection, ids, n=8, cutoff=0.4)
        offered = [*near, *(one for one in ids if one not in near)][:8]
        host = urlsplit(self.url).hostname
        raise CollectionError(
            f"There is no collection {shown!r} at {host}.",
            f"Offered are: {', '.join(offered)}{', …' if len(ids) > 8 else ''}." if offered else "It offers none.",
            f"Try --collection {offered[0]}." if near else "Check the name of the collection.",
        )

    def items(self, filters: Mapping[str, Any], limit: int, *, strip: bool) -> Iterator[Item]:
        """Yield all items that match, page by page, each once."""
        seen: set[tuple[str, str]] = set()
        for page in self.pages(filters, limit, strip=strip):
            new = 0
            for item in page:
                key = (str(item.get("collection", "")), item["id"])
                if key not in seen:
                    seen.add(key)
                    new += 1
                    yield item
            if not new:
                raise _loop(self.url)

    def pages(self, filters: Mapping[str, Any], limit: int, *, strip: bool = False) -> Iterator[list[Item]]:
        """Yield the pages of a search; POST, or GET where that is all there is."""
        methods = {
            str(link["method"]).upper() for link in self.links if link.get("rel") == "search" and "method" in link
        }
        if methods == {"GET"}:
            yield from self._pages("GET", filters, limit, strip=strip)
            return
        pages = self._pages("POST", filters, limit, strip=strip)
        try:
            first = next(pages, None)
        except _StatusError as fault:
            if fault.status not in (405, 501):
                raise
            yield from self._pages("GET", filters, limit, strip=strip)
            return
        if first is not None:
            yield first
            yield from pages

    def _pages(self, method: str, filters: Mapping[str, Any], limit: int, *, strip: bool) -> Iterator[list[Item]]:
        import pystac
        from pystac_client import ItemSearch

        url = self._link("search") or ""
        search = ItemSearch(url, method=method, limit=limit, stac_io=self.io, **filters)
        # what follows the first page is the library's: links that lack this or that raise these
        broken = (AttributeError, KeyError, TypeError, ValueError, pystac.STACError)
        pages = search.pages_as_dicts()
        asked: set[str] = set()
        while True:
            try:
                page = next(pages, None)
            except broken:
                raise _not_stac(self.url, "answered a search with links that can't be followed") from None
            if page is None:
                return
            try:
                yield [normalised(feature, url, strip=strip) for feature in page["features"]]
            except ValueError as fault:
                raise _not_stac(url, f"answered with what isn't a STAC item: {redact(fault)}") from None
            links = page.get("links")
            plain = [one for one in links if isinstance(one, dict)] if isinstance(links, list) else []
            follow = [link for link in plain if link.get("rel") == "next"]
            mark = json.dumps(follow[:1], sort_keys=True)
            if follow and mark in asked:
                raise _loop(self.url)
            asked.add(mark)


def check_api_url(stac: str) -> str:
    """Return the URL of a STAC API without blanks and slashes around it; contacts nothing.

    Raises
    ------
    UsageError
        when it can't be one
    """
    text = stac.strip()
    expected = "It must be the http(s) URL of a STAC API."
    if "://" not in text:
        raise UsageError(
            f"The STAC API {redact(text)!r} isn't a URL.",
            expected,
            "For items in a file use --items.",
        )
    try:
        parts = urlsplit(text)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host, parts = None, urlsplit("")
    if parts.scheme not in ("http", "https") or not host or re.search(r"\s", text):
        raise UsageError(f"The STAC API {redact(text)!r} isn't a usable URL.", expected, _TRY_API)
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise UsageError(
            f"The URL of the STAC API {redact(text)} carries a user name, a query or a fragment.",
            "It is written into the results, so it must be the bare URL of the landing page.",
            "Put user name and password into ~/.netrc.",
        )
    return text.rstrip("/")


# ----------------------------------------------------------------------------------------------------
# Requests


class _StatusError(SearchError):
    """The catalogue answered with an error status."""

    status = 0


class _TransientError(Exception):
    """A request that may go better next time, with the fault to show when it doesn't."""

    def __init__(self, fault: SearchError, wait_s: float | None = None, retries: int | None = None) -> None:
        super().__init__(fault)
        self.fault = fault
        self.wait_s = wait_s
        self.retries = retries


@dataclass(frozen=True)
class _Requests:
    """How requests are sent: which hosts may be private, how long and how often."""

    private_hosts: frozenset[str]
    timeout_s: float
    retries: int


def _make_io(base: str, how: _Requests) -> StacApiIO:
    """Return pystac-client's reader and writer with a request that retries, checks and tells what went wrong.

    Retries through urllib3 leave out POST unless told, never repeat an answer that broke off in
    its body, wait as long as a Retry-After says, and hide the status behind a text.
    """
    from pystac_client.stac_api_io import StacApiIO

    class Io(StacApiIO):
        def request(
            self,
            href: str,
            method: str | None = None,
            headers: dict[str, str] | None = None,
            parameters: dict[str, Any] | None = None,
        ) -> str:
            import tenacity

            def stop(state: tenacity.RetryCallState) -> bool:
                fault = state.outcome.exception() if state.outcome else None
                limit = fault.retries if isinstance(fault, _TransientError) else None
                return state.attempt_number > (how.retries if limit is None else min(limit, how.retries))

            attempts = tenacity.Retrying(
                retry=tenacity.retry_if_exception_type(_TransientError),
                stop=stop,
                wait=_wait,
                sleep=_sleep,
                before_sleep=_say_retry,
                reraise=True,
            )
            verb = (method or "GET").upper()
            try:
                return attempts(_send, self.session, how, verb, urljoin(base + "/", href), headers, parameters)
            except _TransientError as fault:
                raise fault.fault from None

        def read_json(self, source: Any, *args: Any, **kwargs: Any) -> dict[str, Any]:
            text = self.read_text(source, *args, **kwargs)
            href = source if isinstance(source, str) else base
            try:
                # NaN isn't JSON, but some catalogues write it
                found = json.loads(text, parse_constant=lambda _: None)
            except (ValueError, RecursionError):
                what = "a web page" if re.match(r"\s*<(!doctype|html)", text, re.I) else "something else"
                raise _not_stac(href, f"answered {what} instead of JSON") from None
            if not isinstance(found, dict):
                raise _not_stac(href, "holds JSON, but no STAC")
            # the library takes an answer without features for the end of the search
            if "parameters" in kwargs and not isinstance(found.get("features"), list):
                raise _not_stac(href, "answered a search with no list of features")
            return found

    return Io(timeout=how.timeout_s, max_retries=None)


def _say_retry(state: Any) -> None:
    fault = state.outcome.exception()
    what = fault.fault.what if isinstance(fault, _TransientError) else str(fault)
    logger.info("{} Asking again in {:.0f} s.", what, state.next_action.sleep)


def _sleep(seconds: float) -> None:
    time.sleep(seconds)


def _wait(state: Any) -> float:
    """Return the pause before the next attempt: what the server asked for, else growing and random."""
    fault = state.outcome.exception()
    if isinstance(fault, _TransientError) and fault.wait_s is not None:
        return min(fault.wait_s, _LONGEST_WAIT_S)
    pause = _BACKOFF_S * 2.0 ** min(int(state.attempt_number) - 1, 10)
    return min(_LONGEST_PAUSE_S, pause) + random.uniform(0, _BACKOFF_S)  # noqa: S311  no secret depends on it


def _send(
    session: Any,
    how: _Requests,
    verb: str,
    href: str,
    headers: dict[str, str] | None,
    parameters: dict[str, Any] | None,
) -> str:
    """Return the body of an answer as text; redirects keep method and body, which those of requests don't."""
    import requests

    for _ in range(_REDIRECTS + 1):
        check_href(href, private_hosts=how.private_hosts)
        body = {"json": parameters} if verb in ("POST", "PUT", "PATCH") else {"params": parameters or {}}
        prepared = session.prepare_request(requests.Request(verb, href, headers=headers, **body))
        settings = session.merge_environment_settings(prepared.url, {}, True, None, None)
        settings["stream"] = True
        timeout = (min(_CONNECT_S, how.timeout_s), how.timeout_s)
        try:
            with session.send(prepared, timeout=timeout, allow_redirects=False, **settings) as response:
                target = response.headers.get("Location") if response.is_redirect else None
                content = b"" if target else _read(response, href)
        except requests.RequestException as fault:
            raise _explained(fault, href, how.timeout_s) from None
        if target is None:
            return _checked_answer(response, content, href)
        href, parameters = urljoin(prepared.url or href, target), parameters if "json" in body else None
    raise SearchError(
        f"The catalogue at {redact(href)} redirects without end.",
        _EXPECTED_API,
        "Check the URL given with --stac.",
    )


def _read(response: Any, href: str) -> bytes:
    chunks, size = [], 0
    for chunk in response.iter_content(1 << 16):
        chunks.append(chunk)
        size += len(chunk)
        if size > _ANSWER_BYTES:
            raise SearchError(
                f"The answer of {redact(href)} is larger than {_ANSWER_BYTES // 1024**2} MiB.",
                "A page of items is a few MB.",
                "Check the URL given with --stac.",
            )
    return b"".join(chunks)


def _checked_answer(response: Any, content: bytes, href: str) -> str:
    status = int(response.status_code)
    if 200 <= status < 300:
        return content.decode("utf-8", "replace")
    said = _message(content)
    hint = "Check the URL given with --stac, and the options of the search."
    if status in (401, 403):
        hint = "Put user name and password into ~/.netrc, or take another catalogue."
    elif status in _TRANSIENT:
        hint = "Try again later, or take another catalogue with --stac."
    fault = _StatusError(
        f"The catalogue at {redact(href)} answered {status}{f' ({said})' if said else ''}.",
        "An answer with status 200 is needed.",
        hint,
    )
    fault.status = status
    if status in _TRANSIENT:
        raise _TransientError(fault, _retry_after(response.headers.get("Retry-After")))
    raise fault


def _message(content: bytes) -> str:
    """Return what an error answer says, if it says it in JSON."""
    try:
        answer = json.loads(content[:20_000])
    except (ValueError, RecursionError):
        return ""
    if not isinstance(answer, dict):
        return ""
    said = next((answer[key] for key in ("description", "detail", "message") if answer.get(key)), "")
    text = " ".join(redact(said if isinstance(said, str) else json.dumps(said)).split())
    return text if len(text) <= 200 else text[:199] + "…"


def _retry_after(value: str | None) -> float | None:
    """Return the seconds that a Retry-After header asks to wait."""
    if not value:
        return None
    if value.strip().isdigit():
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time.time())
    except (TypeError, ValueError, OverflowError):
        return None


def _explained(fault: Exception, href: str, timeout_s: float) -> _TransientError:
    """Return a fault of requests in words; its own text holds the whole URL, and may hold a secret."""
    import requests

    chain = list(_chain(fault))
    names = {type(one).__name__ for one in chain}
    host = urlsplit(href).hostname or href
    retries: int | None = None
    hint = "Try again later, or take another catalogue with --stac."
    if "NameResolutionError" in names or "gaierror" in names:
        why, retries = f"the name {host} can't be resolved", _RETRIES_UNKNOWN_HOST
        hint = "Check the URL given with --stac, and the network."
    elif isinstance(fault, requests.exceptions.SSLError):
        why, retries = "its certificate can't be verified", 0
        hint = "Check the URL given with --stac, and the certificates of this machine."
    elif isinstance(fault, requests.exceptions.ProxyError):
        why, hint = "the proxy can't be reached", "Check HTTPS_PROXY."
    elif isinstance(fault, requests.Timeout) or names & {"ReadTimeoutError", "ConnectTimeoutError"}:
        why = f"no answer within {timeout_s:g} s"
    elif any(isinstance(one, ConnectionRefusedError) for one in chain):
        why, hint = "the connection was refused", "Check the URL and its port, or try again later."
    elif isinstance(fault, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema)):
        why, retries, hint = "its URL is malformed", 0, "Check the URL given with --stac."
    else:
        why = "the connection was lost"
    shown = SearchError(f"The catalogue at {redact(href)} can't be reached: {why}.", _EXPECTED_API, hint)
    return _TransientError(shown, retries=retries)


def _chain(fault: BaseException) -> Iterator[BaseException]:
    """Yield a fault and all that it came from."""
    waiting, seen = [fault], set()
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        yield one
        inner = [one.__cause__, one.__context__, getattr(one, "reason", None), *one.args]
        waiting.extend(part for part in inner if isinstance(part, BaseException))


def _not_stac(href: str, why: str) -> SearchError:
    return SearchError(f"The catalogue at {redact(href)} {why}.", _EXPECTED_API, _TRY_API)


def _loop(url: str) -> SearchError:
    return SearchError(
        f"The catalogue at {redact(url)} returns the same page of items over and over.",
        "Each page must lead to the next.",
        "Try a shorter range of dates or a smaller area, or another catalogue with --stac.",
    )
