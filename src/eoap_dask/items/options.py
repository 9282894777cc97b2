"""Which items an application takes: the parameters of a search, which all of them share. Importing it is cheap."""

from __future__ import annotations

from dataclasses import dataclass

from eoap_dask.items.catalogues import PLANETARY_COMPUTER
from eoap_dask.params import param


@dataclass(frozen=True, kw_only=True)
class SearchParams:
    """Where items come from, and which of them; `items.search.Search` is what they mean."""

    collection: str = param("sentinel-2-l2a", "STAC collection.", metavar="ID")
    stac: str = param(
        PLANETARY_COMPUTER,
        "What to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.",
        metavar="URL|PATH",
        local_file=True,
    )
    items: str | None = param(
        None,
        "File of items to use instead, such as the items.json of an earlier run; what --stac takes will do too.",
        metavar="FILE",  # also in CWL, where it is staged in
        local_file=True,
    )
    max_items: int = param(1000, "At most this many items are used; reaching it is said and recorded.", metavar="N")
    max_cloud_cover: float = param(25.0, "Only scenes with less cloud than this, in percent.", metavar="PERCENT")
    on_odd_item: str = param(
        "skip",
        "What becomes of items that lack what is needed (a time, a band, a projection, a baseline or an offset): skip "
        "sets them aside and names them, fail stops.",
        choices=("skip", "fail"),
    )
    filter: str = param(
        "", "Only items for which this is true, in CQL2 (text or JSON), whatever is searched.", metavar="CQL2"
    )
