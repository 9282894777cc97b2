"""What is asked of a source of items: one meaning, whether an API answers or a file."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import accumulate
from typing import Any

from loguru import logger

from eoap_dask.errors import UsageError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.items.item import Item, cloud_cover, finite_number, footprint, item_key, item_version, moments, ordered
from eoap_dask.redact import redact

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
    """Which items are wanted. What is left out lets everything pass."""

    collection: str | None = None
    """Items of this collection, and those that name none."""
    aoi: Aoi | None = None
    """Items whose footprint touches it; antimeridian-safe."""
    start: date | None = None
    """First day, inclusive, in UTC."""
    end: date | None = None
    """Last day, inclusive, in UTC."""
    max_cloud_cover: float = 100.0
    """Items with a smaller `eo:cloud_cover`, in percent; 100 keeps all, also those that don't tell."""
    max_items: int | None = None
    """At most that many, the latest; of items of one moment those with the greatest ids."""
    filter: str = ""
    """An expression in CQL2, text or JSON; items for which it is true."""

    def __post_init__(self) -> None:
        if not 0 <= self.max_cloud_cover <= 100:
            raise UsageError(
                f"A cloud cover of {self.max_cloud_cover:g} % makes no sense.",
                "It lies between 0 and 100.",
                "Try --max-cloud-cover 20.",
            )
        if self.max_items is not None and self.max_items < 1:
            raise UsageError(
                f"A limit of {self.max_items} items makes no sense.",
                "At least one item is needed.",
                "Try --max-items 1000.",
            )
        check_filter(self.filter)

    @property
    def is_any_cloud(self) -> bool:
        """Whether items pass whatever their cloud cover."""
        return self.max_cloud_cover >= 100

    def is_place_and_time(self, item: Mapping[str, Any]) -> bool:
        """Tell whether an item is of the collection, within the days, and touches the area.

        Parameters
        ----------
        item
            A STAC item.

        Returns
        -------
        bool
        """
        if self.collection is not None and item.get("collection") not in (None, self.collection):
            return False
        first, last = moments(item)
        if (self.start is not None and last.date() < self.start) or (self.end is not None and first.date() > self.end):
            return False
        if self.aoi is None:
            return True
        shown = footprint(item)
        return shown is not None and self.aoi.intersects(shown)

    def is_clear(self, item: Mapping[str, Any]) -> bool:
        """Tell whether the cloud cover of an item is below the limit.

        Parameters
        ----------
        item
            A STAC item.

        Returns
        -------
        bool
            False where the item doesn't tell and there is a limit: an API would not return it either.
        """
        cover = cloud_cover(item)
        return self.is_any_cloud or (cover is not None and cover < self.max_cloud_cover)


@dataclass
class QueryFilter:
    """Takes items one by one and keeps those that a query wants: the same for an API and for a file."""

    query: Query
    lowest_cloud_cover: float | None = None
    """Lowest cloud cover of what came, in percent, also of items that are too cloudy."""
    _kept: dict[tuple[str, str], Item] = field(default_factory=dict)
    _versions: dict[tuple[str, str], tuple[str, bytes]] = field(default_factory=dict)
    _passes: Callable[[Mapping[str, Any]], bool] | None = None

    def __post_init__(self) -> None:
        self._passes = _compiled(self.query.filter) if self.query.filter.strip() else None

    def offer(self, item: Item) -> None:
        """Look at an item, and keep it if it is wanted; of an item that comes again the last updated counts.

        Parameters
        ----------
        item
            A STAC item as `items.normalised` gives it.
        """
        key, version = item_key(item), item_version(item)
        if key in self._versions and version <= self._versions[key]:
            return
        self._versions[key] = version
        self._kept.pop(key, None)
        if not self.query.is_place_and_time(item) or not (self._passes is None or self._passes(item)):
            return
        cover = cloud_cover(item)
        if cover is not None and (self.lowest_cloud_cover is None or cover < self.lowest_cloud_cover):
            self.lowest_cloud_cover = cover
        if self.query.is_clear(item):
            self._kept[key] = item

    @property
    def is_over(self) -> bool:
        """Whether there are more items than are wanted."""
        return self.query.max_items is not None and len(self._kept) > self.query.max_items

    def items(self) -> tuple[Item, ...]:
        """Return what is kept, in order of time, at most as many as wanted: the latest.

        Returns
        -------
        tuple of dict
        """
        found = ordered(self._kept.values())
        return found[-self.query.max_items :] if self.query.max_items is not None else found


def check_filter(text: str) -> None:
    """Refuse what isn't a condition in CQL2.

    Parameters
    ----------
    text
        CQL2 text or JSON; empty means no condition.

    Raises
    ------
    UsageError
    """
    if not text.strip():
        return
    expression = _parsed(text)
    tree = expression.to_json()
    operator = str(tree.get("op", "")).lower() if isinstance(tree, dict) else ""
    if not isinstance(tree, bool) and operator not in _TRUTHS and not operator.startswith(_TRUTH_PREFIXES):
        raise _no_filter(text, "is no condition")


def _compiled(text: str) -> Callable[[Mapping[str, Any]], bool]:
    """Return a filter as a function of an item."""
    expression = _parsed(text)

    def passes(item: Mapping[str, Any]) -> bool:
        properties = {key: value for key, value in item["properties"].items() if _is_plain(value)}
        # assets and links are most of an item, and nothing to be asked for; over objects the library stumbles
        asked = {key: value for key, value in item.items() if key in ("geometry", "bbox") or _is_plain(value)}
        try:
            return bool(expression.matches({**asked, "properties": properties}))
        except Exception as fault:  # noqa: BLE001 - the library's errors have no class of their own
            # of an item that lacks a property, or has one of another kind: in CQL2 that makes the condition unknown,
            # and what isn't true is left out
            logger.debug("The filter says nothing of {!r}: {}", str(item.get("id"))[:80], redact(fault))
            return False

    return passes


def _is_plain(value: object) -> bool:
    """Tell whether a value is one that a condition can compare: a scalar, or a list of such."""
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
        raise _no_filter(text, f"has more than {_MOST_BRACKETS} brackets in each other")
    if not is_json and _SIGNS.search(text):
        raise _no_filter(text, f"has more than {_MOST_BRACKETS} signs in a row")
    try:
        return cql2.Expr(text)
    except Exception as fault:
        raise _no_filter(text, "can't be read") from fault


def _depth(text: str) -> int:
    """Return how many brackets are open at once."""
    return max(accumulate((one in "([{") - (one in ")]}") for one in text), default=0)


def _no_filter(text: str, why: str) -> UsageError:
    shown = " ".join(redact(text).split())
    return UsageError(
        f"The filter {shown if len(shown) <= 80 else shown[:79] + '…'!r} {why}.",
        "A condition in CQL2 is needed, as text or JSON.",
        "Try --filter 's2:nodata_pixel_percentage < 50 AND eo:cloud_cover < 5'.",
    )
