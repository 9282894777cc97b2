"""The query for items, with one meaning for APIs and files."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date, datetime
from itertools import accumulate
from typing import Any

from loguru import logger

from eoap_dask.errors import UsageError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.items.item import (
    Item,
    OddItem,
    cloud_cover,
    finite_number,
    footprint,
    item_key,
    item_version,
    moments,
    ordered,
)
from eoap_dask.redact import redact
from eoap_dask.text import must_be, option

# operators of CQL2 whose value is true or false; the spatial, temporal and array ones have a prefix
_TRUTHS = frozenset({"and", "or", "not", "=", "<>", "<", "<=", ">", ">=", "like", "between", "in", "isnull"})
_TRUTH_PREFIXES = ("s_", "t_", "a_")
# cql2 0.6 takes twice as long for each bracket around a mistake, and overflows its stack over a text without end
_LONGEST_TEXT = 4000
_LONGEST_JSON = 100_000
_MOST_BRACKETS = 12
# each sign, or NOT, before a value goes one deeper too
_SIGNS = re.compile(rf"(?:[-+~^]\s*){{{_MOST_BRACKETS + 1}}}|(?:\bnot\b\s*){{{_MOST_BRACKETS + 1}}}", re.I)


@dataclass(frozen=True)
class Query:
    """Which items are wanted; a field left out selects everything."""

    collection: str | None = None
    """Id of the collection; items that name none pass too."""
    aoi: Aoi | None = None
    """Area that footprints must touch, also across the antimeridian."""
    start: date | None = None
    """First day, inclusive, in UTC."""
    end: date | None = None
    """Last day, inclusive, in UTC."""
    max_cloud_cover: float = 100.0
    """Items with a smaller `eo:cloud_cover`, in percent; 100 keeps all, also those without one."""
    max_items: int | None = None
    """At most this many, the latest; at the same time those with the greatest ids."""
    filter: str = ""
    """A CQL2 expression, text or JSON, that must be true."""

    def __post_init__(self) -> None:
        if not 0 < self.max_cloud_cover <= 100:  # below 0 % there is nothing: a search for it would always be in vain
            raise must_be(
                "max_cloud_cover",
                "more than 0 and at most 100",
                self.max_cloud_cover,
                20,
                "It is in percent; 100 keeps all items.",
            )
        if self.max_items is not None and self.max_items < 1:
            raise must_be(
                "max_items", "1 or more", self.max_items, 1000, "It is the largest number of items that are used."
            )
        check_filter(self.filter)

    @property
    def is_any_cloud(self) -> bool:
        """Whether items pass at any cloud cover."""
        return self.max_cloud_cover >= 100

    def is_time(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item is within the days; ValueError where it has no readable time."""
        first, last = moments(item)
        return not (
            (self.start is not None and last.date() < self.start) or (self.end is not None and first.date() > self.end)
        )

    def is_place(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item is of the collection and touches the area; ValueError where its place isn't told."""
        if self.collection is not None and item.get("collection") not in (None, self.collection):
            return False
        if self.aoi is None:
            return True
        shown = footprint(item)
        if shown is None:
            raise ValueError(f"the item {str(item.get('id'))[:80]!r} has no readable geometry or bbox")
        return self.aoi.intersects(shown)

    def is_clear(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item's cloud cover is below the limit; False where unknown, as an API answers too."""
        cover = cloud_cover(item)
        return self.is_any_cloud or (cover is not None and cover < self.max_cloud_cover)


@dataclass
class QueryFilter:
    """Takes items one by one and keeps those that a query wants, for APIs and files alike."""

    query: Query
    lowest_cloud_cover: float | None = None
    """Lowest cloud cover offered, in percent, also of items that are too cloudy."""
    _kept: dict[tuple[str, str], Item] = field(default_factory=dict)
    _versions: dict[tuple[str, str], tuple[datetime, bytes]] = field(default_factory=dict)
    _odd: dict[tuple[str, str], OddItem] = field(default_factory=dict)
    _passes: Callable[[Mapping[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        self._passes = _compiled(self.query.filter) if self.query.filter.strip() else None

    def offer(self, item: Item) -> None:
        """Keep a normalised item if it is wanted; of an item that comes again, the version last updated counts.

        One that would be wanted, but for a time or a place that can't be read, is set aside.
        """
        key, version = item_key(item), item_version(item)
        if key in self._versions and version <= self._versions[key]:
            return
        self._versions[key] = version
        self._kept.pop(key, None)
        self._odd.pop(key, None)
        try:
            if not self.query.is_time(item):
                return
            odd = None
        except ValueError:
            odd = OddItem(str(item["id"]), _no_time(item), "Expected a datetime as in RFC 3339.")
        try:
            if not self.query.is_place(item):
                return
        except ValueError:
            reason = f"Item {item['id'][:80]!r} has no readable geometry or bbox."
            odd = odd or OddItem(str(item["id"]), reason, "Expected GeoJSON in degrees.")
        if self._passes is not None and not self._passes(item):
            return
        if odd is not None:
            if self.query.is_clear(item):
                self._odd[key] = odd
            return
        cover = cloud_cover(item)
        if cover is not None and (self.lowest_cloud_cover is None or cover < self.lowest_cloud_cover):
            self.lowest_cloud_cover = cover
        if self.query.is_clear(item):
            self._kept[key] = item

    @property
    def is_over(self) -> bool:
        """Whether more items match than are wanted."""
        return self.query.max_items is not None and len(self._kept) > self.query.max_items

    @property
    def odd_items(self) -> tuple[OddItem, ...]:
        """Items that were set aside, by id."""
        return tuple(self._odd[key] for key in sorted(self._odd, key=lambda key: key[::-1]))

    def items(self) -> tuple[Item, ...]:
        """Return what is kept in order of time, at most `max_items`, the latest."""
        found = ordered(self._kept.values())
        return found[-self.query.max_items :] if self.query.max_items is not None else found


def _no_time(item: Mapping[str, Any]) -> str:
    """Return why an item has no time, as a sentence."""
    properties = item["properties"]
    names = ("datetime",) if properties.get("datetime") is not None else ("start_datetime", "end_datetime")
    told = ", ".join(f"{name} is {properties.get(name)!r:.60}" for name in names)
    return f"Item {item['id'][:80]!r} has no readable time: {told}."


def check_filter(text: str) -> None:
    """Raise `UsageError` for what isn't a CQL2 condition, as text or JSON; an empty text is no condition."""
    if not text.strip():
        return
    expression = _parsed(text)
    tree = expression.to_json()
    operator = str(tree.get("op", "")).lower() if isinstance(tree, dict) else ""
    if not isinstance(tree, bool) and operator not in _TRUTHS and not operator.startswith(_TRUTH_PREFIXES):
        raise _no_filter(text, "isn't a condition")


def _compiled(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a filter as a function of an item."""
    expression = _parsed(text)

    def passes(item: Mapping[str, Any]) -> bool:
        properties = {key: value for key, value in item["properties"].items() if _is_plain(value)}
        # assets and links are most of an item, and no conditions use them; the library fails on objects
        asked = {key: value for key, value in item.items() if key in ("geometry", "bbox") or _is_plain(value)}
        try:
            return bool(expression.matches({**asked, "properties": properties}))
        except Exception as fault:  # noqa: BLE001 - the library's errors have no class of their own
            # the item lacks a property, or has one of another type: in CQL2 the condition is then unknown, not true
            logger.debug("The filter can't be applied to {!r}: {}", str(item.get("id"))[:80], redact(fault))
            return False

    return passes


def _is_plain(value: object) -> bool:
    """Tell whether a condition can compare a value: a scalar, or a list of scalars."""
    if isinstance(value, list):
        return all(isinstance(one, str) or _is_plain_number(one) for one in value)
    return value is None or isinstance(value, str) or _is_plain_number(value)


def _is_plain_number(value: object) -> bool:
    return isinstance(value, bool) or finite_number(value) is not None


def _parsed(text: str) -> Any:
    import cql2

    is_json = text.lstrip().startswith("{")
    if len(text) > (_LONGEST_JSON if is_json else _LONGEST_TEXT):
        raise _no_filter(text, "is too long")
    if not is_json and _depth(text) > _MOST_BRACKETS:
        raise _no_filter(text, f"nests more than {_MOST_BRACKETS} brackets")
    if not is_json and _SIGNS.search(text):
        raise _no_filter(text, f"has more than {_MOST_BRACKETS} signs in a row")
    try:
        return cql2.Expr(text)
    except Exception as fault:
        raise _no_filter(text, "can't be read") from fault


def _depth(text: str) -> int:
    """Return the largest number of brackets open at once."""
    return max(accumulate((one in "([{") - (one in ")]}") for one in text), default=0)


def _no_filter(text: str, why: str) -> UsageError:
    shown = " ".join(redact(text).split())
    return UsageError(
        f"The filter {shown if len(shown) <= 80 else shown[:79] + '…'!r} {why}.",
        "Expected a condition in CQL2, as text or JSON.",
        f"Try {option('filter', 's2:nodata_pixel_percentage < 50 AND eo:cloud_cover < 5')}.",
    )
