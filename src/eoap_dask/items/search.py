"""A search as parameters describe it: checked before anything is contacted, and explained where it finds nothing."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Literal

from loguru import logger

from eoap_dask.errors import ItemError, NothingFoundError
from eoap_dask.items.find import check_source, explain_nothing, find_items
from eoap_dask.items.odd import nothing_left
from eoap_dask.items.query import Query
from eoap_dask.net.hrefs import private_hosts_of
from eoap_dask.redact import redact
from eoap_dask.text import option, plain, plural

if TYPE_CHECKING:
    from datetime import date

    from eoap_dask.geo.aoi import Aoi
    from eoap_dask.items.itemset import ItemSet
    from eoap_dask.items.options import SearchParams


@dataclass(frozen=True)
class Search:
    """What `SearchParams` mean."""

    source: str | ItemSet
    """What is searched: a URL, a path of this machine, or items that a Python caller has."""
    given_as: Literal["items", "stac"]
    """The parameter that gave the source."""
    wanted: Query
    """Collection, limits and filter, of any place and time."""
    on_odd_item: str
    """``skip`` or ``fail``."""
    named: tuple[str, ...]
    """All sources that the user named, also the one that `items` replaces: their hosts are trusted."""

    @classmethod
    def of(cls, params: SearchParams) -> Search:
        """Check parameters without contacting anything.

        Raises
        ------
        UsageError
            for limits, a filter or a source that can't be used
        """
        wanted = Query(
            params.collection,
            max_cloud_cover=params.max_cloud_cover,
            max_items=params.max_items,
            filter=params.filter,
        )
        if params.max_cloud_cover < 1:
            logger.warning(
                "{} is {:g} percent, not a share of 1. Perhaps {} is meant.",
                option("max_cloud_cover", params.max_cloud_cover),
                params.max_cloud_cover,
                option("max_cloud_cover", plain(round(100 * params.max_cloud_cover, 6))),
            )
        stac = check_source(params.stac)  # also beside items, where it only names a trusted host: it is recorded
        given: str | ItemSet = params.items or "" if isinstance(params.items, str | None) else params.items
        if given == "":
            return cls(stac, "stac", wanted, params.on_odd_item, (stac,))
        if not isinstance(given, str):
            own = given
            return cls(
                own, "items", wanted, params.on_odd_item, (stac, *(() if own.from_file else (own.stac, *own.also)))
            )
        items = check_source(given, "items")
        return cls(items, "items", wanted, params.on_odd_item, (stac, items))

    @cached_property
    def private_hosts(self) -> frozenset[str]:
        """Hosts on private networks that the user named, so that items may lead there. Their names are looked up."""
        return frozenset().union(*(private_hosts_of(one) for one in self.named))

    def query(self, aoi: Aoi, start: date, end: date) -> Query:
        """Return what is searched for over an area, from a first to a last day."""
        return replace(self.wanted, aoi=aoi, start=start, end=end)

    def find(self, query: Query, when: str = "", hint: str = "") -> ItemSet:
        """Search; warn where `max_items` cut it.

        Parameters
        ----------
        query : Query
            From `query`.
        when : str
            What the days are, for messages, such as ``before the fire``.
        hint : str
            What else to try where nothing is found.

        Returns
        -------
        ItemSet
            With one item or more.

        Raises
        ------
        NothingFoundError
            when there is none, or none without a time: with the reason
        ItemError
            for an item without a time, where odd items make a run fail
        UsageError, CollectionError, SearchError, HrefError
            see `find_items`
        """
        when = when and f" {when}"
        if self.given_as == "items":
            logger.info("Reading {}", self.source)
        else:
            logger.info("Searching {} for {}{}", self.source, query.collection, when)
        found = find_items(self.source, query, option=self.given_as)
        if found.missing:
            logger.warning(
                "The search{} is incomplete: {} says that {} more match, but doesn't give them. "
                "Try again, or fewer dates.",
                when,
                redact(self.source),
                plural(found.missing, "item"),
            )
        if found.odd_items and self.on_odd_item == "fail":
            first = found.odd_items[0]
            raise ItemError(first.reason, first.expected, first.hint or "Try another catalogue.")
        if found.odd_items and not len(found):
            raise nothing_left(found.odd_items, hint)
        if not len(found):
            raise self.nothing(query, when.strip(), hint)
        if found.truncated and not found.missing:
            logger.warning(
                "The search{} was cut at {}: some are missing. Try a larger {}, or fewer dates.",
                when,
                plural(query.max_items or len(found), "item"),
                option("max_items"),
            )
        return found

    def nothing(self, query: Query, when: str = "", hint: str = "") -> NothingFoundError:
        """Return the fault of a search without a result; it searches again for the reason."""
        days = f"{when}, {query.start} to {query.end}," if when else f"from {query.start} to {query.end}"
        where = f" over {query.aoi.source}" if query.aoi else ""
        return NothingFoundError(
            f"No items of {query.collection} {days}{where}.", explain_nothing(self.source, query), hint
        )
