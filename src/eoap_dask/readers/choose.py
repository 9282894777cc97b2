"""Choice of the reader."""

from __future__ import annotations

from typing import TYPE_CHECKING

from eoap_dask.errors import UsageError
from eoap_dask.net.retry import Retry
from eoap_dask.readers.gdal import GdalReader
from eoap_dask.readers.tiles import TileReader

if TYPE_CHECKING:
    from eoap_dask.net.signing import Signer
    from eoap_dask.readers.reader import Reader


def make_reader(
    kind: str, signer: Signer, retry: Retry | None = None, private_hosts: frozenset[str] = frozenset()
) -> Reader:
    """Return a reader: ``auto`` reads plain TIFF files itself and others with GDAL, ``gdal`` all; pixels are equal.

    `private_hosts` are the hosts on private networks that may be asked: those of the catalogue.
    """
    retry = retry or Retry()
    if kind == "auto":
        return TileReader(signer, retry, private_hosts)
    if kind == "gdal":
        return GdalReader(signer, retry, private_hosts)
    raise UsageError(f"There is no reader {kind!r}.", "Expected auto or gdal.")
