"""What readers say about an asset that can't be had, or isn't what its item says: in the same words, whoever reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eoap_dask.errors import AssetError
from eoap_dask.redact import redact
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.scenes.model import Source

NOT_A_RASTER = "it isn't a raster file (an error page, perhaps)."
BROKEN_PART = "a part of it can't be fetched or decoded (a file cut short, perhaps)."


def unreadable(source: Source, item_id: str, reason: str, attempts: int) -> AssetError:
    """Return the fault of an asset that stayed bad.

    Parameters
    ----------
    source : Source
    item_id
    reason
        What was wrong in the last attempt, as the rest of a sentence, with its full stop.
    attempts
        How often it was tried.

    Returns
    -------
    AssetError
    """
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
    """Return the fault of an asset that was had, and isn't what it should be: another attempt wouldn't help.

    Parameters
    ----------
    source : Source
    item_id
    what
        The rest of the sentence after "The asset … of item …", without its full stop.
    attempts
        How often it was tried.

    Returns
    -------
    AssetError
    """
    return AssetError(
        f"The asset {source.asset!r} of item {item_id!r} {what}.",
        item_id=item_id,
        asset=source.asset,
        href=redact(source.href),
        attempts=attempts,
    )
