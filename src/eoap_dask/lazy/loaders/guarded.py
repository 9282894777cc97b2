"""Files that other people's loaders read: looked at before, and with faults in our words, without signatures."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TypeVar

import rasterio

from eoap_dask.errors import AssetError
from eoap_dask.readers.gdal import driver_of, plain_reason
from eoap_dask.redact import redact

T = TypeVar("T")


def guarded(url: str, read: Callable[[], T]) -> T:
    """Return what a loader reads from a file, if that is of a format that refers to no other files.

    Parameters
    ----------
    url
        Signed, as the loader opens it.
    read
        Reads it, by whatever way.

    Returns
    -------
    T

    Raises
    ------
    AssetError
        Where it can't be read, whatever the loader raises.
    """
    try:
        # a VRT could read local files. The loader opens it anew, but GDAL keeps the beginning of what it fetched
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            file = rasterio.open(url, driver=driver_of(url.partition("?")[0]), sharing=False)
        with file:
            return read()
    except AssetError:
        raise
    except Exception as fault:  # noqa: BLE001 - loaders raise of everything
        cause = fault
        while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        reason = plain_reason(redact(" ".join(str(cause).split())))
    # outside, so that nothing with a signature travels along
    raise AssetError(
        f"The file {redact(url)} can't be read: {reason}",
        hint="Try again later, or leave its date out.",
        href=redact(url),
    )


class Redacting(logging.Filter):
    """Lets records of a logger pass without signatures."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True
