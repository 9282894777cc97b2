"""Faults of an asset that can't be read, or doesn't match its item: the same words for every reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eoap_dask.errors import AssetError
from eoap_dask.redact import redact
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.scenes.model import Source

NOT_A_RASTER = "it isn't a raster file (an error page, perhaps)."
BROKEN_PART = "a part of it can't be fetched or decoded (a file cut short, perhaps)."


def other_bands(count: int, source: Source) -> str:
    """Return what is wrong with a file of too few bands, for `refused`."""
    return f"has {plural(count, 'band')}, but its item says that the band is number {source.band}"


def unreadable(source: Source, item_id: str, reason: str, attempts: int) -> AssetError:
    """Return the fault of an asset whose last attempt failed; `reason` is the rest of a sentence, with full stop."""
    tried = f"after {plural(attempts, 'attempt')}"
    return AssetError(
        f"The asset {source.asset!r} of item {item_id!r} can't be read {tried}: {reason}",
        hint="Try again later, or leave its date out.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        attempts=attempts,
    )


def refused(source: Source, item_id: str, what: str, attempts: int = 1) -> AssetError:
    """Return the fault of an asset that can be read but is unfit; `what` follows "The asset … of item …", no stop."""
    return AssetError(
        f"The asset {source.asset!r} of item {item_id!r} {what}.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        attempts=attempts,
    )
