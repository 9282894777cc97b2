"""The answers of a STAC API over a list of items: pure functions, no HTTP."""

from __future__ import annotations

import json
import math
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import quote, urlencode, urlsplit

from shapely.errors import ShapelyError
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

CONFORMS_TO = (
    "https://api.stacspec.org/v1.0.0/core",
    "https://api.stacspec.org/v1.0.0/collections",
    "https://api.stacspec.org/v1.0.0/item-search",
    "https://api.stacspec.org/v1.0.0/item-search#query",
    "https://api.stacspec.org/v1.0.0/item-search#sort",
    "https://api.stacspec.org/v1.0.0/ogcapi-features",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/core",
    "http://www.opengis.net/spec/ogcapi-features-1/1.0/conf/geojson",
)

GEOJSON = "application/geo+json"

FIELDS_DIRECTORY = "fields"
"""Where an archive may have one of fields beside its own files."""
CHANGES_DIRECTORY = "changes"
"""Where it may have one of change."""


class CatalogueLike(Protocol):
    """What can be served: an `Archive`, a `Catalogue`, or anything alike."""

    @property
    def root(self) -> Path:
        """Directory of the files."""
        ...

    @property
    def items(self) -> list[dict[str, Any]]:
        """STAC items, hrefs relative to `root`."""
        ...

    @property
    def collection(self) -> str:
        """Id of the collection that the items are of."""
        ...


@dataclass(frozen=True, eq=False)
class Catalogue:
    """Files and the items that describe them."""

    root: Path
    """Directory of the files."""
    items: list[dict[str, Any]]
    """STAC items, hrefs relative to `root` (absolute ones are left alone)."""
    collection: str
    """Id of the collection that the items are of."""

    @classmethod
    def from_directory(cls, root: Path | str) -> Catalogue:
        """Open what `make_archive` wrote, with what may lie beside; the collection is that of the first item."""
        root = Path(root)
        items = json.loads((root / "items.json").read_text())["features"]
        for below in (FIELDS_DIRECTORY, CHANGES_DIRECTORY):
            if (root / below / "items.json").exists():
                for item in json.loads((root / below / "items.json").read_text())["features"]:
                    for asset in item["assets"].values():
                        asset["href"] = f"{below}/{asset['href']}"
                    items.append(item)
        return cls(root, items, items[0]["collection"] if items else "sentinel-2-l2a")


class ApiError(Exception):
    """A request that can't be answered: HTTP status, and a sentence for the client."""

    def __init__(self, status: int, description: str) -> None:
        super().__init__(status, description)
        self.status = status
        self.description = description


@dataclass(frozen=True)
class _Record:
    """An item as it is served, and what it is found by."""

    item: dict[str, Any]
    geometry: BaseGeometry
    start: datetime
    end: datetime


class StacApi:
    """A STAC API over one collection; `ApiError` for requests that it can't answer."""

    def __init__(
        self,
        catalogue: CatalogueLike,
        url: str,
        files_url: str,
        page_size: int,
        extra_links: Sequence[dict[str, str]] = (),
    ) -> None:
        self.url = url
        self.collection_id = catalogue.collection
        self.page_size = page_size
        self.extra_links = list(extra_links)
        self._records = [self._record(item, files_url) for item in catalogue.items]

    def landing(self) -> dict[str, Any]:
        """Return the landing page: a STAC Catalog with ``conformsTo``."""
        links = [
            _link("self", self.url),
            _link("root", self.url),
            _link("conformance", f"{self.url}/conformance"),
            _link("data", f"{self.url}/collections"),
            _link("search", f"{self.url}/search", GEOJSON) | {"method": "GET"},
            _link("search", f"{self.url}/search", GEOJSON) | {"method": "POST"},
            _link("child", f"{self.url}/collections/{self.collection_id}"),
            *self.extra_links,
        ]
        return {
            "type": "Catalog",
            "stac_version": "1.0.0",
            "id": "eoap-dask-demo",
            "title": "eoap-dask demo",
            "description": "A synthetic archive over ground that is known.",
            "conformsTo": list(CONFORMS_TO),
            "links": links,
        }

    def collections(self) -> dict[str, Any]:
        """Return the list of the one collection."""
        links = [_link("self", f"{self.url}/collections"), _link("root", self.url)]
        return {"collections": [self.collection(self.collection_id)], "links": links}

    def collection(self, collection_id: str) -> dict[str, Any]:
        """Return the STAC Collection of an id."""
        self._known(collection_id)
        here = f"{self.url}/collections/{collection_id}"
        boxes = [record.geometry.bounds for record in self._records]
        bbox = [pick(edges) for pick, edges in zip((min, min, max, max), zip(*boxes, strict=True), strict=False)]
        times = [record.start for record in self._records] + [record.end for record in self._records]
        interval = [_rfc3339(pick(times)) for pick in (min, max)] if times else [None, None]
        return {
            "type": "Collection",
            "stac_version": "1.0.0",
            "id": collection_id,
            "title": "Synthetic Sentinel-2 Level-2A",
            "description": "Made by eoap-dask; no satellite was involved.",
            "license": "MIT",
            "extent": {
                "spatial": {"bbox": [bbox or [-180, -90, 180, 90]]},
                "temporal": {"interval": [interval]},
            },
            "links": [
                _link("self", here),
                _link("root", self.url),
                _link("parent", self.url),
                _link("items", f"{here}/items", GEOJSON),
            ],
        }

    def item(self, collection_id: str, item_id: str) -> dict[str, Any]:
        """Return a STAC item with absolute hrefs."""
        self._known(collection_id)
        for record in self._records:
            if record.item["id"] == item_id:
                return record.item
        raise ApiError(404, f"Collection {collection_id} has no item {item_id}.")

    def search(self, request: Mapping[str, Any], *, method: str, path: str = "/search") -> dict[str, Any]:
        """Return one page of the items that match a parsed request: a FeatureCollection with ``numberMatched``.

        A link ``next`` leads on; `method` and `path` (below the API's root) say how it asks.
        """
        if "filter" in request:
            raise ApiError(400, "This API has no filter extension; use query.")
        if request.get("bbox") is not None and request.get("intersects") is not None:
            raise ApiError(400, "Either bbox or intersects can be given, not both.")
        tests = [parse(request[name]) for name, parse in _TESTS.items() if request.get(name) is not None]
        matched = [record for record in self._records if all(test(record) for test in tests)]
        for key, descending in reversed(_sort_keys(request.get("sortby") or [])):
            matched.sort(key=key, reverse=descending)
        limit, offset = self._page(request)
        page = matched[offset : offset + limit]
        links = [_link("root", self.url), _link("self", f"{self.url}{path}", GEOJSON)]
        if offset + limit < len(matched):
            links.append(self._next(request, f"next:{offset + limit}", method, path))
        return {
            "type": "FeatureCollection",
            "features": [record.item for record in page],
            "links": links,
            "numberMatched": len(matched),
            "numberReturned": len(page),
        }

    def _record(self, item: Mapping[str, Any], files_url: str) -> _Record:
        collection = f"{self.url}/collections/{self.collection_id}"
        assets = {}
        for key, asset in item["assets"].items():
            href = asset["href"]
            assets[key] = asset | {"href": href if urlsplit(href).scheme else f"{files_url}/{quote(href)}"}
        links = [
            _link("self", f"{collection}/items/{quote(item['id'])}", GEOJSON),
            _link("root", self.url),
            _link("parent", collection),
            _link("collection", collection),
        ]
        properties = item["properties"]
        start = properties.get("datetime") or properties["start_datetime"]
        end = properties.get("datetime") or properties["end_datetime"]
        served = {**item, "collection": self.collection_id, "assets": assets, "links": links}
        return _Record(served, shape(item["geometry"]), _time(start), _time(end))

    def _known(self, collection_id: str) -> None:
        if collection_id != self.collection_id:
            raise ApiError(404, f"There is no collection {collection_id}; there is {self.collection_id}.")

    def _page(self, request: Mapping[str, Any]) -> tuple[int, int]:
        limit = request.get("limit") if request.get("limit") is not None else self.page_size
        if not isinstance(limit, int) or isinstance(limit, bool) or limit < 1:
            raise ApiError(400, f"limit must be a whole number from 1, not {limit!r}.")
        token = request.get("token") or "next:0"
        offset = token.removeprefix("next:") if isinstance(token, str) else ""
        if not (token.startswith("next:") if isinstance(token, str) else False) or not offset.isdecimal():
            raise ApiError(400, f"token {token!r} isn't one of this API's.")
        return min(limit, self.page_size), int(offset)

    def _next(self, request: Mapping[str, Any], token: str, method: str, path: str) -> dict[str, Any]:
        href = f"{self.url}{path}"
        if method == "POST":
            return _link("next", href, GEOJSON) | {"method": "POST", "merge": True, "body": {"token": token}}
        return _link("next", f"{href}?{to_query_string({**request, 'token': token})}", GEOJSON) | {"method": "GET"}


def from_query_string(parameters: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """Return the parameters of a GET search as the body of a POST search; of repeated ones the last counts."""
    request: dict[str, Any] = {}
    for name, values in parameters.items():
        text = values[-1]
        try:
            if name in ("collections", "ids"):
                request[name] = text.split(",")
            elif name == "bbox":
                request[name] = [float(number) for number in text.split(",")]
            elif name in ("intersects", "query"):
                request[name] = json.loads(text)
            elif name == "limit":
                request[name] = int(text)
            elif name == "sortby":
                request[name] = [_sort_field(field) for field in text.split(",")]
            else:
                request[name] = text
        except ValueError:
            raise ApiError(400, f"{name} can't be read: {text!r}.") from None
    return request


def to_query_string(request: Mapping[str, Any]) -> str:
    """Return search parameters as a query string: the reverse of `from_query_string`."""
    texts = {}
    for name, value in request.items():
        if name in ("collections", "ids", "bbox"):
            texts[name] = ",".join(str(part) for part in value)
        elif name in ("intersects", "query"):
            texts[name] = json.dumps(value)
        elif name == "sortby":
            signs = {"asc": "+", "desc": "-"}
            texts[name] = ",".join(signs[part["direction"]] + part["field"] for part in value)
        else:
            texts[name] = str(value)
    return urlencode(texts)


Test = Callable[[_Record], bool]


def _test_names(key: str) -> Callable[[Any], Test]:
    def parse(names: Any) -> Test:
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ApiError(400, f"{names!r} isn't a list of ids.")
        return lambda record: record.item[key] in names

    return parse


def _test_bbox(bbox: Any) -> Test:
    numbers = isinstance(bbox, list) and all(isinstance(edge, int | float) for edge in bbox)
    if not numbers or len(bbox) not in (4, 6) or not all(math.isfinite(edge) for edge in bbox):
        raise ApiError(400, f"bbox must be 4 or 6 numbers, not {bbox!r}.")
    west, south, east, north = bbox if len(bbox) == 4 else (bbox[0], bbox[1], bbox[3], bbox[4])
    if south > north:
        raise ApiError(400, f"bbox has its south {south} above its north {north}.")
    # West of the antimeridian to east of it: two boxes.
    spans = [(west, east)] if west <= east else [(west, 180), (-180, east)]
    boxes = [box(start, south, stop, north) for start, stop in spans]
    return lambda record: any(part.intersects(record.geometry) for part in boxes)


def _test_intersects(geometry: Any) -> Test:
    try:
        area = shape(geometry)
        area.intersects(box(0, 0, 1, 1))
    except (ShapelyError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise ApiError(400, "intersects isn't a GeoJSON geometry.") from None
    return lambda record: bool(area.intersects(record.geometry))


def _test_datetime(text: Any) -> Test:
    parts = text.split("/") if isinstance(text, str) else []
    open_end = ("", "..")
    try:
        times = [None if part in open_end else _time(part) for part in parts]
    except ValueError:
        times = []
    if len(times) not in (1, 2) or times == [None]:
        raise ApiError(400, f"datetime must be RFC 3339 or an interval of it, not {text!r}.")
    start, end = times[0], times[-1]
    if start is not None and end is not None and start > end:
        raise ApiError(400, f"datetime {text!r} ends before it starts.")
    return lambda record: (end is None or record.start <= end) and (start is None or record.end >= start)


_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "eq": operator.eq,
    "neq": operator.ne,
    "lt": operator.lt,
    "lte": operator.le,
    "gt": operator.gt,
    "gte": operator.ge,
    "in": lambda value, among: value in among,
    "startsWith": lambda value, text: value.startswith(text),
    "endsWith": lambda value, text: value.endswith(text),
    "contains": lambda value, text: text in value,
}


def _test_query(query: Any) -> Test:
    comparisons: list[tuple[str, Callable[[Any, Any], Any], Any]] = []
    if not isinstance(query, dict) or not all(isinstance(rules, dict) for rules in query.values()):
        raise ApiError(400, "query must be an object of objects, like {'eo:cloud_cover': {'lt': 25}}.")
    for field, rules in query.items():
        for name, operand in rules.items():
            if name not in _OPERATORS or (name == "in" and not isinstance(operand, list)):
                raise ApiError(400, f"query can't compare {field} by {name} with {operand!r}.")
            comparisons.append((field, _OPERATORS[name], operand))

    def test(record: _Record) -> bool:
        for field, compare, operand in comparisons:
            value = _value(record.item, field)
            try:
                if value is None or not compare(value, operand):
                    return False
            except (TypeError, AttributeError):  # a number against a text: not a match
                return False
        return True

    return test


_TESTS: dict[str, Callable[[Any], Test]] = {
    "collections": _test_names("collection"),
    "ids": _test_names("id"),
    "bbox": _test_bbox,
    "intersects": _test_intersects,
    "datetime": _test_datetime,
    "query": _test_query,
}


def _sort_field(text: str) -> dict[str, str]:
    """+field, field or -field; a plus that wasn't encoded arrives as a space."""
    return {"field": text.lstrip("+- "), "direction": "desc" if text.startswith("-") else "asc"}


def _sort_keys(sortby: Any) -> list[tuple[Callable[[_Record], Any], bool]]:
    """Keys and whether they descend, most important first; by default the newest and the last id first."""
    keys: list[tuple[Callable[[_Record], Any], bool]] = []
    if not isinstance(sortby, list) or not all(isinstance(rule, dict) and "field" in rule for rule in sortby):
        raise ApiError(400, f"sortby must be a list of fields with directions, not {sortby!r}.")
    for rule in sortby:
        field, direction = str(rule["field"]), rule.get("direction", "asc")
        if direction not in ("asc", "desc"):
            raise ApiError(400, f"sortby can't go in direction {direction!r}.")
        keys.append((_sort_key(field), direction == "desc"))
    if not keys:
        # as pgstac and stac-server do
        return [(lambda record: record.start, True), (lambda record: record.item["id"], True)]
    keys.append((lambda record: record.item["id"], False))
    return keys


def _sort_key(field: str) -> Callable[[_Record], Any]:
    if field.removeprefix("properties.") == "datetime":
        return lambda record: record.start

    def key(record: _Record) -> Any:
        value = _value(record.item, field)
        return (
            value is None,
            isinstance(value, str),
            value if isinstance(value, str | int | float) else str(value),
        )

    return key


def _value(item: Mapping[str, Any], field: str) -> Any:
    if field in ("id", "collection"):
        return item[field]
    return item["properties"].get(field.removeprefix("properties."))


def _time(text: str) -> datetime:
    when = datetime.fromisoformat(text)
    if when.tzinfo is None:
        raise ValueError(text)
    return when.astimezone(UTC)


def _rfc3339(when: datetime) -> str:
    return when.isoformat().replace("+00:00", "Z")


def _link(rel: str, href: str, media_type: str = "application/json") -> dict[str, Any]:
    return {"rel": rel, "href": href, "type": media_type}
