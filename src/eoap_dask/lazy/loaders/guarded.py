"""Files that stackstac and odc-stac read: checked before, with plain faults and without signatures in them."""

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
    """Return what `read` reads from a file at a signed URL, if its format refers to no other files; else AssetError."""
    try:
        # a VRT could read local files. The loader opens the file again, but GDAL has its beginning cached
        with rasterio.Env(GDAL_DISABLE_READDIR_ON_OPEN="EMPTY_DIR"):
            file = rasterio.open(url, driver=driver_of(url.partition("?")[0]), sharing=False)
        with file:
            return read()
    except AssetError:
        raise
    except Exception as fault:  # noqa: BLE001 - loaders raise anything
        cause = fault
        while cause.__cause__ is not None and isinstance(cause.__cause__, Exception):
            cause = cause.__cause__
        reason = plain_reason(redact(" ".join(str(cause).split())))
    # outside, so that no signature travels along in the context
    raise AssetError(
        f"The file {redact(url)} can't be read: {reason}",
        hint="Try again later, or leave its date out.",
        href=redact(url),
    )


class Redacting(logging.Filter):
    """Removes signatures from a logger's records."""

    def filter(self, record: logging.LogRecord) -> bool:
        """Redact a record."""
        record.msg, record.args = redact(record.getMessage()), ()
        return True
