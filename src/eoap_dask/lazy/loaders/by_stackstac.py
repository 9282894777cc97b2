"""The reader of stackstac, guarded."""

from __future__ import annotations

from typing import Any

from stackstac.rio_reader import AutoParallelRioReader

from eoap_dask.lazy.loaders.guarded import guarded


class GuardedReader(AutoParallelRioReader):  # type: ignore[misc, unused-ignore]
    """Reads as stackstac does, after a check of the file."""

    def read(self, window: Any, **more: Any) -> Any:
        """Return the pixels of a window."""
        return guarded(self.url, lambda: super(GuardedReader, self).read(window, **more))
