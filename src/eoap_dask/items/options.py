"""Which items an application takes: the parameters of a search, which all of them share. Importing it is cheap."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from eoap_dask.errors import UsageError
from eoap_dask.items.catalogues import PLANETARY_COMPUTER
from eoap_dask.params import Declared, param
from eoap_dask.text import option, show
from eoap_dask.values import as_path, is_a

if TYPE_CHECKING:
    from eoap_dask.items.itemset import ItemSet


def as_source(value: object, name: str) -> str | ItemSet:
    """Return a source of items as text, or the items that a Python caller has; `UsageError` for anything else."""
    if isinstance(value, str):
        return str(value)
    if isinstance(value, os.PathLike):
        return str(as_path(value, name, "items.json"))
    from eoap_dask.items.itemset import ItemSet

    return ItemSet.of(value, name=name)


def _items_or_none(value: object, name: str) -> str | ItemSet | None:
    return None if value is None else as_source(value, name)


def as_filter(value: object, name: str) -> str:
    """Return a CQL2 condition as text, of a mapping or an `Expr` of cql2 as JSON; or raise `UsageError`."""
    if value is None or isinstance(value, str):
        return str(value or "")
    tree = value.to_json() if is_a(value, "cql2.Expr") else value  # type: ignore[attr-defined]
    if isinstance(tree, Mapping):
        try:
            return json.dumps(tree)
        except (TypeError, ValueError, RecursionError):
            pass  # values that aren't JSON, or that hold themselves
    raise UsageError(
        f"{option(name)} must be a condition in CQL2, as text or a dict, got {show(value)}.",
        "",
        f"Try {option(name, 'eo:cloud_cover < 5')}.",
    )


@dataclass(frozen=True, kw_only=True)
class SearchParams(Declared):
    """Where items come from, and which of them; `items.search.Search` is what they mean."""

    HEADING: ClassVar = "Scenes"

    collection: str = param("sentinel-2-l2a", "STAC collection.", metavar="ID")
    stac: str = param(
        PLANETARY_COMPUTER,
        "What to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.",
        metavar="URL|PATH",
        local_file=True,
        picks_scenes=True,
    )
    items: str | None = param(
        None,
        "File of items to use instead, such as the items.json of an earlier run, or that run's directory; what --stac "
        "takes will do too.",
        metavar="FILE",  # also in CWL, where it is staged in
        local_file=True,
        picks_scenes=True,
        accepts=_items_or_none,
    )
    max_items: int = param(
        1000, "At most this many items are used; reaching it is said and recorded.", metavar="N", picks_scenes=True
    )
    max_cloud_cover: float = param(
        25.0, "Only scenes with less cloud than this, in percent.", metavar="PERCENT", picks_scenes=True
    )
    on_odd_item: str = param(
        "skip",
        "What becomes of items that lack what is needed (a time, a band, a projection, a baseline or an offset): skip "
        "sets them aside and names them, fail stops.",
        choices=("skip", "fail"),
        picks_scenes=True,
    )
    filter: str = param(
        "",
        "Only items for which this is true, in CQL2 (text or JSON), whatever is searched.",
        metavar="CQL2",
        picks_scenes=True,
        accepts=as_filter,
    )
