"""Reading through GDAL: any format it knows, with window reads, overviews and HTTP ranges."""

from __future__ import annotations

import math
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

import numpy as np
import numpy.typing as npt
import rasterio
from rasterio.enums import ColorInterp, MaskFlags
from rasterio.errors import RasterioError
from rasterio.windows import Window as RasterioWindow

from eoap_dask.errors import AssetError, SigningError
from eoap_dask.net.connections import gdal_options
from eoap_dask.net.resolve import path_part
from eoap_dask.net.retry import Attempt, Retry, retrying
from eoap_dask.readers.faults import BROKEN_PART, NOT_A_RASTER, other_bands, refused, unreadable
from eoap_dask.readers.ranges import FinalReadError, HttpFile, RetryableReadError
from eoap_dask.readers.reader import FileGrid
from eoap_dask.readers.tiff import TILE_BYTES, whole_number
from eoap_dask.redact import redact
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.geo.window import Window
    from eoap_dask.net.signing import Signer
    from eoap_dask.scenes.model import Source

T = TypeVar("T")

_OPTIONS: dict[str, Any] = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",  # no probing for sidecar files: 15 → 5 requests per file
    "GDAL_HTTP_MULTIPLEX": "YES",
    "GDAL_HTTP_VERSION": "2TLS",
    "GDAL_HTTP_MAX_RETRY": "2",  # 429 and 5xx, at once and in the same request
    "GDAL_HTTP_RETRY_DELAY": "0.5",
    "GDAL_HTTP_CONNECTTIMEOUT": "20",
    "GDAL_HTTP_LOW_SPEED_TIME": "60",
    "GDAL_HTTP_LOW_SPEED_LIMIT": "1",
    "GDAL_INGESTED_BYTES_AT_OPEN": "32768",
    "VSI_CACHE": "FALSE",
    "GDAL_CACHEMAX": 64,  # MB: whole windows are read once, so a large cache only costs memory
    "GDAL_PAM_ENABLED": "NO",
}


@dataclass(frozen=True)
class GdalReader:
    """Opens sources with rasterio; an asset that fails is tried again with a fresh signature."""

    signer: Signer
    retry: Retry = Retry()
    private_hosts: frozenset[str] = frozenset()
    """Hosts that may be asked although they are private: those of a private catalogue."""

    def open(self, source: Source, item_id: str) -> GdalRaster:
        """Return a raster that opens the file on its first use."""
        return GdalRaster(self, source, item_id)


@dataclass
class GdalRaster:
    """A source read through GDAL; any call may open the file, and opens it again after a fault."""

    reader: GdalReader
    source: Source
    item_id: str
    _open: dict[int, Any] = field(default_factory=dict)
    _shapes: tuple[tuple[int, int], ...] = ()
    _grid: FileGrid | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _attempt: Attempt = Attempt(1, math.inf)
    _found: str = ""
    """Signed address after redirects, for as long as the file is open."""

    @property
    def shapes(self) -> tuple[tuple[int, int], ...]:
        """Height and width of each level, native first."""
        if not self._shapes:
            self._retried(lambda: self._dataset(0))
        return self._shapes

    @property
    def grid(self) -> FileGrid:
        """Where the file says that it lies."""
        if self._grid is None:
            self._retried(lambda: self._dataset(0))
        return self._grid or FileGrid()

    @property
    def nodata(self) -> int | None:
        """The file's own number of missing pixels, as `Raster.nodata`."""

        def find() -> int | None:
            values = self._dataset(0).nodatavals
            return whole_number(values[self.source.band - 1])

        return self._retried(find)

    def read(
        self,
        level: int,
        window: Window,
        out: npt.NDArray[np.generic],
        rest: Window | None = None,  # noqa: ARG002 - GDAL has its own block cache
        *,
        is_shared: bool = False,  # noqa: ARG002
    ) -> None:
        """Fill `out` with the pixels of a window of a level, as `Raster.read`."""
        area = RasterioWindow(window.col, window.row, window.shape[1], window.shape[0])  # type: ignore[call-arg,unused-ignore]

        def attempt() -> None:
            dataset, band = self._dataset(level), self.source.band
            dataset.read(band, window=area, out=out)
            if MaskFlags.per_dataset in dataset.mask_flag_enums[band - 1]:  # of the file, or in an alpha band
                out[dataset.read_masks(band, window=area) == 0] = 0

        self._retried(attempt)

    def close(self) -> None:
        """Release the file."""
        with self._lock:
            self._forget()

    def _retried(self, action: Callable[[], T]) -> T:
        def attempt(this: Attempt) -> T:
            self._attempt = this
            try:
                where = self._where()
                with rasterio.Env(**self._options(this, where)):
                    return action()
            except (RasterioError, OSError, SigningError):
                self._forget()
                raise

        with self._lock, rasterio.Env(**_OPTIONS):
            return retrying(attempt, self.reader.retry, (RasterioError, OSError, SigningError), self._fault)

    def _options(self, attempt: Attempt, where: str) -> dict[str, str]:
        left = str(math.ceil(attempt.left_s))
        options = {"GDAL_HTTP_TIMEOUT": left}
        if self._found:
            options |= gdal_options(where, self.reader.private_hosts)
        if attempt.left_s < float(_OPTIONS["GDAL_HTTP_LOW_SPEED_TIME"]):
            options["GDAL_HTTP_LOW_SPEED_TIME"] = left
        if attempt.number > 1:
            # GDAL caches that a file "doesn't exist": a later attempt must ask again
            options["CPL_VSIL_CURL_NON_CACHED"] = f"/vsicurl/{self.source.href}"
        return options

    def _dataset(self, level: int) -> Any:
        if level not in self._open:
            options = {"overview_level": level - 1} if level else {}
            dataset = rasterio.open(self._where(), driver=driver_of(self.source.href), **options)
            self._open[level] = dataset
            self._check_blocks(dataset)
            if level == 0:
                self._check(dataset)
                self._grid = _grid_of(dataset)
                # shapes as opened: GDAL rounds the sides of a COG's overviews down, and of others up
                levels = range(1, len(dataset.overviews(1)) + 1)
                self._shapes = (dataset.shape, *(self._dataset(one).shape for one in levels))
        return self._open[level]

    def _where(self) -> str:
        """Return the signed address: GDAL follows redirects anywhere, so they are followed and checked here first."""
        href, reader = self.source.href, self.reader
        if urlsplit(href).scheme not in ("http", "https"):
            return reader.signer.sign(href, fresh=self._attempt.number > 1)
        if not self._found:
            file = HttpFile(href, reader.signer, reader.retry, reader.private_hosts, self._unreadable)
            try:
                self._found = file.leads_to(self._attempt, fresh=self._attempt.number > 1)
            except FinalReadError as error:
                fault: Exception = self._unreadable(error.why, self._attempt.number)
            except RetryableReadError as error:
                fault = OSError(error.why)
            else:
                return self._found
            raise fault
        return self._found

    def _check_blocks(self, dataset: Any) -> None:
        """Refuse files whose tiles are too large: GDAL decodes whole tiles."""
        height, width = dataset.block_shapes[0]
        bands = dataset.count if str(dataset.profile.get("interleave", "")).lower() == "pixel" else 1
        if height * width * bands * np.dtype(dataset.dtypes[0]).itemsize > TILE_BYTES:
            what = f"can't be read: its tiles of {height} × {width} pixels are too large"
            raise refused(self.source, self.item_id, what)

    def _check(self, dataset: Any) -> None:
        if dataset.shape != self.source.shape:
            height, width = dataset.shape
            expected = f"{self.source.shape[0]} × {self.source.shape[1]}"
            what = f"has {height} × {width} pixels, but its item says {expected}"
            raise refused(self.source, self.item_id, what)
        if self.source.band > dataset.count:
            raise refused(self.source, self.item_id, other_bands(dataset.count, self.source))
        if self.source.is_only and sum(found != ColorInterp.alpha for found in dataset.colorinterp) > 1:
            what = f"has {plural(dataset.count, 'band')}, but its item doesn't say which of them is meant"
            raise refused(self.source, self.item_id, what)
        if not np.issubdtype(np.dtype(dataset.dtypes[0]), np.integer):
            what = f"has {dataset.dtypes[0]} pixels, but must have integers"
            raise refused(self.source, self.item_id, what)

    def _fault(self, exc: Exception, attempts: int) -> AssetError:
        reason = exc.what if isinstance(exc, SigningError) else redact(" ".join(str(exc.__cause__ or exc).split()))
        return self._unreadable(plain_reason(reason), attempts)

    def _unreadable(self, reason: str, attempts: int) -> AssetError:
        return unreadable(self.source, self.item_id, reason, attempts)

    def _forget(self) -> None:
        for dataset in self._open.values():
            dataset.close()
        self._open.clear()
        self._found = ""


def _grid_of(dataset: Any) -> FileGrid:
    code = dataset.crs.to_epsg() if dataset.crs else None
    transform = tuple(float(v) for v in tuple(dataset.transform)[:6])
    placed = transform != (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)  # what GDAL says of a file without a place
    a, b, c, d, e, f = transform
    return FileGrid(f"EPSG:{code}" if code else None, (a, b, c, d, e, f) if placed else None)


def driver_of(href: str) -> str:
    """Name the only format that a file may have: VRTs, and others that refer to files, could read local ones."""
    return "JP2OpenJPEG" if path_part(href).lower().endswith((".jp2", ".j2k")) else "GTiff"


def plain_reason(reason: str) -> str:
    """Translate GDAL's error into words for users."""
    status = re.search(r"(?:HTTP response code|response_code=|HTTP error code\s*:?)\D{0,3}(\d{3})", reason)
    if status:
        return f"the server answered {status[1]}."
    if (
        "not recognized as being in a supported file format" in reason
        or "not recognized as a supported file format" in reason
    ):
        return NOT_A_RASTER
    if re.search(r"IReadBlock failed|TIFFRead\w+\(\)|TIFFFetch", reason):
        return BROKEN_PART
    return reason if reason.endswith(".") else f"{reason}."
