"""Files of items: JSON, newline-delimited JSON or stac-geoparquet, recognised by content, not by name."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    import pyarrow.parquet as pq

_FILE_BYTES = 2 * 1024**3
_PARQUET_MAGIC = b"PAR1"
_BATCH_ROWS = 1000
# columns that stac-geoparquet must have for items that can be used here
_COLUMNS = ("id", "geometry", "bbox", "assets")


@dataclass(frozen=True)
class ItemDocument:
    """The content of a file."""

    head: dict[str, Any]
    """The document without its items; empty for a file of nothing but items."""
    items: Iterable[object]
    """Its items, unchecked; iterating may raise ValueError."""

    @property
    def is_catalog(self) -> bool:
        """Whether it is a STAC catalog or collection, which holds no items but leads to them."""
        return self.kind in ("Catalog", "Collection")

    @property
    def kind(self) -> str:
        """Type of the document in STAC's words, `Items` for a file of nothing but items, or an empty text."""
        if not self.head:
            return "Items"
        kind = self.head.get("type")
        if isinstance(kind, str):
            return kind
        # before version 1.0 catalogs and collections had no type
        if {"stac_version", "conformsTo"} & set(self.head) and isinstance(self.head.get("links"), list):
            return "Collection" if "extent" in self.head else "Catalog"
        return ""


def read_items(source: Path | bytes, start: date | None = None, end: date | None = None) -> ItemDocument:
    """Return the content of a file, or of its bytes; JSON is read at once, other formats while iterating.

    Of stac-geoparquet, rows outside start and end may be left out. Raises OSError, or ValueError with a reason that
    follows "it".
    """
    if isinstance(source, Path):
        if source.exists() and not source.is_file():
            raise ValueError("it isn't a regular file")  # a pipe or a device may never end
        if source.stat().st_size > _FILE_BYTES:
            raise ValueError(f"it is larger than {_FILE_BYTES // 1024**3} GiB")
        with source.open("rb") as stream:
            magic = stream.read(len(_PARQUET_MAGIC))
    else:
        magic = source[: len(_PARQUET_MAGIC)]
    if magic == _PARQUET_MAGIC:
        return ItemDocument({}, _parquet_items(source, start, end))
    content = source.read_bytes() if isinstance(source, Path) else source
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is neither JSON nor Parquet") from None
    lines = _lines(text)
    if lines is not None:
        return ItemDocument({}, _each_line(lines))
    try:
        # NaN isn't JSON, but some catalogues write it
        document = json.loads(text, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        raise ValueError(f"it isn't JSON{_but(text)}") from None
    if not isinstance(document, dict):
        raise ValueError("it isn't an object")
    if document.get("type") != "FeatureCollection":
        return ItemDocument(document, [document])
    features = document.get("features")
    if not isinstance(features, list):
        raise ValueError("its features aren't a list")
    return ItemDocument({key: value for key, value in document.items() if key != "features"}, features)


def matched(page: Mapping[str, Any]) -> int | None:
    """Return how many items a page of a search says that match, in the notation of any version of the API."""
    told = [page.get("numberMatched")]
    told += [
        one.get("matched") for name in ("context", "search:metadata") if isinstance(one := page.get(name), Mapping)
    ]
    for found in told:
        if isinstance(found, int | str) and re.fullmatch("[0-9]{1,12}", str(found)):
            return int(found)
    return None


def _but(text: str) -> str:
    return ", but a web page" if text.lstrip()[:9].lower().startswith(("<!doctype", "<html")) else ""


def _lines(text: str) -> list[str] | None:
    """Return the lines of newline-delimited JSON; None for anything else, also for a single object."""
    # RFC 8142 puts a record separator before each
    lines = [line for part in text.split("\n") if (line := part.strip(" \t\r\x1e"))]
    if len(lines) < 2 or not (lines[0].startswith("{") and lines[0].endswith("}")):
        return None
    try:
        json.loads(lines[0])
    except (ValueError, RecursionError):
        return None
    return lines


def _each_line(lines: list[str]) -> Iterator[object]:
    for number, line in enumerate(lines, 1):
        try:
            yield json.loads(line, parse_constant=lambda _: None)
        except (ValueError, RecursionError):
            raise ValueError(f"its line {number} isn't JSON") from None


# ----------------------------------------------------------------------------------------------------
# stac-geoparquet


def _parquet_items(source: Path | bytes, start: date | None, end: date | None) -> Iterator[object]:
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
        import stac_geoparquet.arrow  # noqa: F401
    except ImportError as fault:
        raise ValueError(
            f"it is Parquet, which needs the package {fault.name}: pip install 'eoap-dask[geoparquet]'"
        ) from None
    try:
        file = pq.ParquetFile(source if isinstance(source, Path) else pa.BufferReader(source))
        names = file.schema_arrow.names
        if lacking := [name for name in _COLUMNS if name not in names]:
            raise ValueError(f"it is Parquet, but not stac-geoparquet: it has no column {lacking[0]!r}")
        yield from _rows(file, start, end)
    except pa.ArrowException as fault:
        first = (str(fault).splitlines() or [""])[0]
        raise ValueError(f"it is Parquet that can't be read: {first[:200]}") from None


def _rows(file: pq.ParquetFile, start: date | None, end: date | None) -> Iterator[dict[str, Any]]:
    import pyarrow as pa
    import shapely
    from stac_geoparquet.arrow import stac_table_to_items

    for batch in file.iter_batches(batch_size=_BATCH_ROWS):
        # null geometries, which match no area, and null footprints of pixels are more than the library can take
        kept = batch.filter(batch.column("geometry").is_valid())
        kept = _within(
            kept.drop_columns([name for name in ("proj:geometry",) if name in kept.schema.names]), start, end
        )
        if not kept.num_rows:
            continue
        try:
            for row in stac_table_to_items(pa.Table.from_batches([kept])):
                yield _item(row)
        except (AssertionError, AttributeError, KeyError, TypeError, shapely.errors.ShapelyError) as fault:
            # what the library raises over columns of other types than the format says
            raise ValueError(f"it isn't valid stac-geoparquet ({type(fault).__name__})") from None


def _within(batch: pa.RecordBatch, start: date | None, end: date | None) -> pa.RecordBatch:
    """Return the rows that may lie within the days; rows with only a range stay."""
    import pyarrow as pa
    import pyarrow.compute as pc

    names = batch.schema.names
    if "datetime" not in names or not pa.types.is_timestamp(batch.schema.field("datetime").type):
        return batch
    column = batch.column("datetime")
    zone = column.type.tz

    def moment(day: date) -> pa.Scalar:
        instant = datetime.combine(day, time.min, UTC)
        return pa.scalar(instant if zone else instant.replace(tzinfo=None), type=column.type)

    keep = pa.array([True] * batch.num_rows)
    if start is not None:
        keep = pc.and_(keep, pc.greater_equal(column, moment(start)))
    if end is not None and end < date.max:
        keep = pc.and_(keep, pc.less(column, moment(end + timedelta(days=1))))
    return batch.filter(pc.fill_null(keep, True))


def _item(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row as the item that it was made of: a table has every column, an item only its own."""
    found: dict[str, Any] = {"type": "Feature", **_present(row)}
    properties = found.setdefault("properties", {})
    # what an item with a range must have, though it is null
    properties.setdefault("datetime", None)
    for name, value in properties.items():
        if isinstance(value, str) and value.endswith("Z") and name in _TIMES:
            properties[name] = _short(value)
    return found


_TIMES = frozenset(
    {"datetime", "start_datetime", "end_datetime", "created", "updated", "expires", "published", "unpublished"}
)


def _present(value: Any) -> Any:
    """Return a value in the types of JSON, without the nulls of missing properties."""
    if isinstance(value, Mapping):
        return {key: _present(part) for key, part in value.items() if part is not None}
    if isinstance(value, (list, tuple)):
        return [_present(part) for part in value]
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).astimezone(UTC).isoformat().replace("+00:00", "Z")
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, (str, int, bool)):
        return value
    raise ValueError(f"it has a value of the type {type(value).__name__}")


def _short(text: str) -> str:
    """Return a time without the zeros that the table added: with milliseconds or none, as most catalogues write it."""
    head, _, fraction = text.removesuffix("Z").partition(".")
    fraction = fraction.rstrip("0")
    return f"{head}.{fraction.ljust(3, '0')}Z" if fraction else f"{head}Z"
