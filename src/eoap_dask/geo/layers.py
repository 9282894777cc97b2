"""Layers of vector files: what they are, and their rows, streamed: some at a time, never a whole layer."""

from __future__ import annotations

import re
from collections.abc import Generator, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import shapely

from eoap_dask.geo.vector import Source, VectorError, geo_column, sources
from eoap_dask.overlap import warnings_filtered
from eoap_dask.text import plain

_PAGE = 1 << 20
_AT_ONCE = 50_000
Column = npt.NDArray[np.object_]
Bounds = tuple[float, float, float, float]


@dataclass(frozen=True)
class LayerHead:
    """A layer with geometry of a file."""

    source: Source
    number: int
    """Within its file: folders of KML may share a name."""
    name: str
    kind: str
    """Of its geometries, as the file declares it, such as ``Polygon`` or ``Unknown``."""

    @property
    def has_polygons(self) -> bool | None:
        """Whether its geometries are polygons; None where the file leaves it open."""
        if re.search("Polygon|Surface|Triangle|TIN", self.kind):
            return True
        return None if re.search("Unknown|Geometry|Collection", self.kind) else False


@dataclass(frozen=True)
class LayerInfo:
    """What the file says of a layer."""

    crs: Any
    """Whatever names it; None where the file doesn't tell."""
    bounds: Bounds | None
    """In the CRS; None where no row has a place."""
    count: int
    """Rows, with geometry or without."""
    attributes: tuple[str, ...]
    encoding: str
    """Of texts."""


@dataclass(frozen=True)
class Rows:
    """Some rows of a layer, as they stand in it."""

    ids: npt.NDArray[np.int64]
    """As the file has them; the row's number, from 0, where it has none."""
    texts: tuple[Column, ...]
    """Of each attribute: text, whole numbers without a point, and None for what is blank."""
    shapes: Column
    """In two dimensions; None for none."""
    unreadable: int
    """How many of those without a shape have one that can't be read."""


def layer_heads(path: Path) -> list[LayerHead]:
    """Return the layers with geometry of a file, directory or zip archive; `VectorError` for what can't be read."""
    found: list[LayerHead] = []
    for source in sources(path):
        with _told(source):
            found += [_parquet_head(source)] if source.parquet is not None else _gdal_heads(source)
    return found


def layer_info(head: LayerHead) -> LayerInfo:
    """Return what is known of a layer; its bounds are computed from all rows where the file doesn't tell them."""
    with _told(head.source):
        info = _gdal_info(head) if head.source.parquet is None else _parquet_info(head)
    if info.bounds is not None:
        return info
    each = [shapely.bounds(some.shapes) for some in layer_rows(head, info, (), _AT_ONCE)]
    known = [some[np.isfinite(some).all(axis=1)] for some in each]
    known = [np.hstack([some[:, :2].min(axis=0), some[:, 2:].max(axis=0)]) for some in known if len(some)]
    if not known:
        return info
    west, south, _, _ = np.min(known, axis=0)
    _, _, east, north = np.max(known, axis=0)
    return replace(info, bounds=_bounds([west, south, east, north]))


def _bounds(told: Sequence[float] | None) -> Bounds | None:
    """Return bounds that a file tells, if they are any."""
    if told is None or len(told) not in (4, 6):  # 6 with heights
        return None
    west, south, east, north = (float(told[at]) for at in (0, 1, len(told) // 2, len(told) // 2 + 1))
    return (west, south, east, north) if west <= east and np.isfinite([west, south, east, north]).all() else None


def layer_rows(head: LayerHead, info: LayerInfo, attributes: Sequence[str], at_once: int) -> Generator[Rows]:
    """Yield the rows of a layer in its order, at most so many at once, with some attributes.

    Raises `VectorError` where the file ends before all rows that it announces: GDAL stops at damage without a word.
    """
    rows = _parquet_rows if head.source.parquet is not None else _gdal_rows
    stream = rows(head, info, tuple(dict.fromkeys(attributes)), at_once)
    seen = 0
    try:
        while True:
            with _told(head.source):
                some = next(stream, None)
            if some is None:
                break
            seen += len(some.ids)
            yield some
    finally:
        stream.close()
    if seen < info.count:
        with _told(head.source):
            raise VectorError(f"it ends after {seen} of {info.count} rows")


@contextmanager
def _told(source: Source) -> Iterator[None]:
    """Let whatever libraries raise be a `VectorError` that names the file."""
    import pyarrow as pa

    try:
        # GDAL's warnings are of what doesn't matter for outlines, such as a measure at each vertex
        with warnings_filtered("ignore", RuntimeWarning):
            yield
    except VectorError as fault:
        raise VectorError(f"{source.name}: {fault}" if source.name else str(fault)) from None
    except (
        *(ValueError, RuntimeError, OSError, KeyError, TypeError, NotImplementedError),
        *(pa.ArrowException, shapely.errors.ShapelyError),
    ) as fault:  # GDAL's are of RuntimeError
        raise VectorError(f"{source.name}: {fault}" if source.name else str(fault)) from None


# ----------------------------------------------------------------------------------------------------
# By GDAL


def _gdal_heads(source: Source) -> list[LayerHead]:
    import pyogrio

    found = enumerate(pyogrio.list_layers(source.gdal))
    return [LayerHead(source, number, str(name), str(kind)) for number, (name, kind) in found if kind is not None]


def _gdal_info(head: LayerHead) -> LayerInfo:
    import pyogrio

    if isinstance(head.source.gdal, Path) and head.source.gdal.suffix.lower() == ".shp":
        _check_length(head.source.gdal)
    told = pyogrio.read_info(head.source.gdal, layer=head.number, force_feature_count=True, force_total_bounds=True)
    return LayerInfo(
        told["crs"] or None,
        _bounds(told["total_bounds"]),
        int(told["features"]),
        tuple(str(one) for one in told["fields"]),
        told["encoding"] or "utf-8",
    )


def _check_length(path: Path) -> None:
    """Refuse a Shapefile that lacks its end: GDAL takes such shapes for none."""
    with path.open("rb") as file:
        announced = 2 * int.from_bytes(file.read(28)[24:], "big")
    if announced > path.stat().st_size:
        raise VectorError(f"it ends after {path.stat().st_size} of {announced} bytes")


def _gdal_rows(head: LayerHead, info: LayerInfo, attributes: Sequence[str], at_once: int) -> Generator[Rows]:
    import pyogrio

    with pyogrio.open_arrow(
        head.source.gdal,
        layer=head.number,
        columns=list(attributes),
        return_fids=True,
        batch_size=at_once,
        use_pyarrow=True,
    ) as (_, reader):
        for batch in reader:
            names = batch.schema.names  # the id comes first, and the geometry last
            ids = np.asarray(batch.column(0), np.int64)
            column = batch.column(len(names) - 1)
            _check_offsets(column)
            shapes, present = _from_wkb(column)
            lost = np.flatnonzero(present & shapely.is_missing(shapes))
            if len(lost):
                shapes[lost] = _straight(head, ids[lost])
            columns = [batch.column(names.index(one, 1)) for one in attributes]
            # of a field with a list of meanings Arrow has the meaning; the index is the code
            texts = tuple(_texts(getattr(one, "indices", one), info.encoding) for one in columns)
            yield Rows(ids, texts, shapely.force_2d(shapes), int((present & shapely.is_missing(shapes)).sum()))


def _check_offsets(column: Any) -> None:
    """Refuse rows without geometry among others in FlatGeobuf: GDAL 3.12 writes the next shape over the first."""
    import pyarrow as pa

    try:
        column.validate(full=True)
    except pa.ArrowInvalid:
        raise VectorError("it has rows without geometry, which GDAL mistakes in FlatGeobuf") from None


def _from_wkb(column: Any) -> tuple[Column, npt.NDArray[np.bool_]]:
    """Return shapes, None for those that can't be read, and where there is any."""
    stored = column.to_numpy(zero_copy_only=False)
    try:
        shapes = shapely.from_wkb(stored, on_invalid="ignore")
    except (NotImplementedError, shapely.errors.ShapelyError):  # one of them has arcs
        shapes = np.array([_one_from_wkb(one) for one in stored], object)
    return shapes, np.array([bool(one) for one in stored], bool)


def _one_from_wkb(stored: bytes | None) -> shapely.Geometry | None:
    try:
        return shapely.from_wkb(stored, on_invalid="ignore")
    except (NotImplementedError, shapely.errors.ShapelyError):
        return None


def _straight(head: LayerHead, ids: npt.NDArray[np.int64]) -> Column:
    """Return shapes whose arcs GDAL makes straight, which it does in one by one reading only."""
    import pyogrio.raw

    _, _, stored, _ = pyogrio.raw.read(head.source.gdal, layer=head.number, columns=[], fids=ids, force_2d=True)
    return np.array([_one_from_wkb(one) for one in stored], object)


# ----------------------------------------------------------------------------------------------------
# GeoParquet


def _parquet_head(source: Source) -> LayerHead:
    from pyarrow import parquet

    _, told = geo_column(parquet.read_schema(source.opened()))
    return LayerHead(source, 0, source.stem, ", ".join(told.get("geometry_types") or ["Unknown"]))


def _parquet_info(head: LayerHead) -> LayerInfo:
    from pyarrow import parquet

    with parquet.ParquetFile(head.source.opened()) as file:
        column, told = geo_column(file.schema_arrow)
        return LayerInfo(
            told.get("crs", "OGC:CRS84"),
            _bounds(told.get("bbox")),
            file.metadata.num_rows,
            tuple(name for name in file.schema_arrow.names if name != column),
            "utf-8",
        )


def _parquet_rows(head: LayerHead, info: LayerInfo, attributes: Sequence[str], at_once: int) -> Generator[Rows]:
    from pyarrow import parquet

    with parquet.ParquetFile(head.source.opened(), buffer_size=_PAGE) as file:
        column, told = geo_column(file.schema_arrow)
        seen = 0
        for batch in file.iter_batches(at_once, columns=[*attributes, column]):
            if told["encoding"] == "WKB":
                shapes, present = _from_wkb(batch.column(column))
            else:
                shapes = _from_native(batch.column(column), told["encoding"])
                present = ~shapely.is_missing(shapes)
            columns = [batch.column(one) for one in attributes]
            texts = tuple(
                _texts(one.dictionary_decode() if hasattr(one, "indices") else one, info.encoding) for one in columns
            )
            ids = np.arange(seen, seen + batch.num_rows)
            seen += batch.num_rows
            yield Rows(ids, texts, shapely.force_2d(shapes), int((present & shapely.is_missing(shapes)).sum()))


def _from_native(column: Any, encoding: str) -> Column:
    """Return the shapes of a column that is encoded as GeoArrow has it."""
    import geopandas
    import pyarrow as pa

    told = {"ARROW:extension:name": f"geoarrow.{encoding.lower()}"}
    table = pa.table([column], schema=pa.schema([pa.field("geometry", column.type, metadata=told)]))
    shapes: Column = np.asarray(geopandas.GeoDataFrame.from_arrow(table).geometry, object)
    return shapes


# ----------------------------------------------------------------------------------------------------
# Attributes


def _texts(column: Any, encoding: str) -> Column:
    """Return a column as texts; many rows share few of them."""
    import pyarrow as pa

    if pa.types.is_string(column.type) or pa.types.is_large_string(column.type):
        column = column.cast(pa.large_binary())  # GDAL passes on what isn't UTF-8
    packed = column.dictionary_encode()
    texts: Column = np.array([*(_text(one, encoding) for one in packed.dictionary.to_pylist()), None], object)
    spread: Column = texts[packed.indices.fill_null(-1).to_numpy(zero_copy_only=False)]
    return spread


def _text(value: Any, encoding: str) -> str | None:
    if isinstance(value, bytes):
        value = value.decode(encoding, "replace")
    elif isinstance(value, float):
        value = "" if np.isnan(value) else plain(value)
    return str(value).strip() or None
