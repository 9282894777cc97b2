"""The reader of odc-stac, guarded."""

from __future__ import annotations

import logging
from typing import Any

from odc.loader import RioDriver
from odc.loader._rio import RioReader

from eoap_dask.lazy.loaders.guarded import Redacting, guarded


class _GuardedReader(RioReader):  # type: ignore[misc, unused-ignore]
    def read(self, *args: Any, **more: Any) -> Any:
        """Return where pixels lie, and the pixels."""
        return guarded(self._src.uri, lambda: super(_GuardedReader, self).read(*args, **more))


class GuardedDriver(RioDriver):  # type: ignore[misc, unused-ignore]
    """Reads as odc-stac does, after a check of the file."""

    def open(self, src: Any, ctx: Any) -> Any:
        """Return a reader of a file."""
        log = logging.getLogger("odc.loader._rio")
        if not any(isinstance(one, Redacting) for one in log.filters):
            log.addFilter(Redacting())
        return _GuardedReader(src, ctx)
