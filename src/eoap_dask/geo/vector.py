"""Shapes from vector files: all layers of a file, and all files of a directory or a zip archive."""

from __future__ import annotations

import io
import json
import os
import re
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapely

from eoap_dask.errors import UsageError
from eoap_dask.overlap import warnings_filtered
from eoap_dask.text import shorten

_PARQUET = (".parquet", ".geoparquet")
_VECTOR = (".shp", ".gpkg", ".geojson", ".fgb", ".kml", ".kmz", ".gml", ".tab", ".mif", ".gdb", *_PARQUET)
"""What is looked for in directories and archives. Other JSON there may be anything."""
_MOST_ENTRIES = 10_000
"""A directory with more entries isn't looked through: it is a home directory, or an archive of scenes."""


class VectorError(Exception):
    """A vector file can't be read; why, as the end of a sentence."""


class NoLayerError(VectorError):
    """The file doesn't have the layer that was named."""

    def __init__(self, layers: Sequence[str]) -> None:
        super().__init__()
        self.layers = layers
        """Names of those that it has, without those that have no geometry."""


def existing_layer(text: str) -> tuple[Path, str] | None:
    """Return a file that exists, and the layer of it that ``file|layername=x`` names; None without such a file."""
    if path := _existing(text):
        return path, ""
    file, bar, rest = text.partition("|")
    path = _existing(file) if bar else None
    if path is None:
        return None
    key, _, name = rest.partition("=")
    if key.strip().lower() != "layername" or not name or "|" in name:
        raise UsageError(
            f"{shorten('|' + rest, 80)!r} after the file {shorten(file, 80)!r} isn't understood.",
            "Expected the name of a layer, as in file.gpkg|layername=fields.",
            "Leave it out.",
        )
    return path, name


def _existing(text: str) -> Path | None:
    try:
        path = Path(text).expanduser()
        return path if path.exists() else None
    except (OSError, ValueError, RuntimeError):  # too long for a name, a null byte, an unknown ~user
        return None


def reason(fault: VectorError, path: Path) -> str:
    """Return why a file can't be read, without what is for those who call GDAL."""
    why = str(fault).partition("; It might help")[0].rstrip(".")  # to name a driver, which can't be given here
    why = re.sub(r"sqlite3_\w+\(.*\) failed: ([^;]*).*", r"\1", why)
    return shorten(" ".join(why.replace(f"'{path}' not", "it is not").split()), 120)


@dataclass(frozen=True)
class Layer:
    """The shapes of a layer, as they stand in it."""

    name: str
    shapes: Sequence[shapely.Geometry]
    crs: Any
    """Whatever names it; None where the file doesn't tell."""


def read_layers(path: Path, name: str = "") -> list[Layer]:
    """Return all layers with geometry of a vector file, of a directory of such files, or of a zip archive of them.

    Parameters
    ----------
    path
        What GDAL reads, or GeoParquet; a directory or an archive is looked through with all that is below it.
    name
        Only layers of this name.

    Returns
    -------
    list of Layer
        At least one, perhaps without a shape.

    Raises
    ------
    VectorError
        when any of the files can't be read; `NoLayerError` without a layer of the name
    """
    found = [layer for source in sources(path) for layer in _layers_of(source)]
    if name:
        chosen = [one for one in found if one.name == name]
        if not chosen:
            raise NoLayerError(list(dict.fromkeys(one.name for one in found)))
        return chosen
    return found


@dataclass(frozen=True)
class Source:
    """A file to be read."""

    gdal: Path | str
    """As GDAL names it."""
    name: str
    """For sentences: where it stands in the directory or archive; empty for a file that was named."""
    stem: str
    parquet: Path | bytes | None = None
    """What is GeoParquet, which isn't read by GDAL."""

    def opened(self) -> Any:
        """Return its GeoParquet as pyarrow takes it."""
        return io.BytesIO(self.parquet) if isinstance(self.parquet, bytes) else self.parquet


def sources(path: Path) -> list[Source]:
    """Return the files to be read: of a directory or a zip archive those in it, otherwise the file alone."""
    if path.is_dir():
        inner = [] if path.suffix.lower() == ".gdb" else _files_below(path)
        files = [Source(one, str(one.relative_to(path)), one.stem, one if _is_parquet(one) else None) for one in inner]
    elif path.suffix.lower() == ".zip":
        files = list(_members(path))
    else:
        files = []
    return files or [Source(path, "", path.stem, path if _is_parquet(path) else None)]


def _is_parquet(path: Path | PurePosixPath) -> bool:
    return path.suffix.lower() in _PARQUET


def _files_below(folder: Path) -> list[Path]:
    found, seen = [], 0
    for parent, folders, files in os.walk(folder):
        seen += len(folders) + len(files)
        if seen > _MOST_ENTRIES:
            raise VectorError(f"it holds more than {_MOST_ENTRIES} files")
        bases = [name for name in folders if name.lower().endswith(".gdb")]
        folders[:] = [name for name in folders if not (name.startswith(".") or name in bases)]
        found += [Path(parent, name) for name in (*bases, *files) if _is_vector(PurePosixPath(name))]
    return sorted(found)


def _is_vector(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") or part == "__MACOSX" for part in path.parts)
    return path.suffix.lower() in _VECTOR and not hidden


def _members(path: Path) -> Iterator[Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
            inside = {base for one in names for base in one.parents if base.suffix.lower() == ".gdb"}
            plain = [one for one in names if not inside.intersection(one.parents)]
            for one in sorted((*inside, *filter(_is_vector, plain))):
                content = archive.read(str(one)) if _is_parquet(one) else None
                yield Source(f"/vsizip/{{{path.resolve()}}}/{one}", str(one), one.stem, content)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as fault:  # RuntimeError: a password
        raise VectorError(str(fault)) from None


def _layers_of(source: Source) -> list[Layer]:
    try:
        layers = [_from_parquet(source)] if source.parquet is not None else list(_from_gdal(source))
    except VectorError as fault:
        raise VectorError(f"{source.name}: {fault}" if source.name else str(fault)) from None
    return layers


def _from_gdal(source: Source) -> Iterator[Layer]:
    import pyogrio
    import pyogrio.raw

    try:
        # its warnings are of what doesn't matter for an area, such as a measure at each vertex
        with warnings_filtered("ignore", RuntimeWarning):
            for number, (name, kind) in enumerate(pyogrio.list_layers(source.gdal)):
                if kind is None:  # a table
                    continue
                # by its number: folders of KML may share a name
                meta, _, wkb, _ = pyogrio.raw.read(source.gdal, layer=number, columns=[], force_2d=True)
                yield Layer(str(name), _present(shapely.from_wkb([] if wkb is None else wkb)), meta.get("crs") or None)
    except (ValueError, RuntimeError, OSError, shapely.errors.ShapelyError) as fault:  # GDAL's are of RuntimeError
        raise VectorError(str(fault)) from None


def _from_parquet(source: Source) -> Layer:
    import geopandas
    import pyarrow as pa
    from pyarrow import parquet

    try:
        column, _ = geo_column(parquet.read_schema(source.opened()))
        shapes = geopandas.read_parquet(source.opened(), columns=[column])[column]
    except (ValueError, KeyError, TypeError, OSError, NotImplementedError, pa.ArrowException) as fault:
        raise VectorError(str(fault)) from None
    return Layer(source.stem, _present(np.asarray(shapes)), shapes.crs)


def geo_column(schema: Any) -> tuple[str, Mapping[str, Any]]:
    """Return the column of geometries of a Parquet file, and what GeoParquet's metadata say of it."""
    stored = (schema.metadata or {}).get(b"geo")
    if stored is None:
        raise VectorError("it is Parquet without the metadata of GeoParquet")
    told = json.loads(stored)
    name = told["primary_column"]
    return name, told["columns"][name]


def _present(shapes: Any) -> list[shapely.Geometry]:
    return [one for one in shapes if one is not None]
