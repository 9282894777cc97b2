"""Shapes from vector files: all layers of a file, and all files of a directory or a zip archive."""

from __future__ import annotations

import io
import json
import os
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import shapely

from eoap_dask.overlap import warnings_filtered

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
    found = [layer for source in _sources(path) for layer in _layers_of(source)]
    if name:
        chosen = [one for one in found if one.name == name]
        if not chosen:
            raise NoLayerError(list(dict.fromkeys(one.name for one in found)))
        return chosen
    return found


@dataclass(frozen=True)
class _Source:
    """A file to be read."""

    gdal: Path | str
    """As GDAL names it."""
    name: str
    """For sentences: where it stands in the directory or archive; empty for a file that was named."""
    stem: str
    parquet: Path | bytes | None = None


def _sources(path: Path) -> list[_Source]:
    if path.is_dir():
        inner = [] if path.suffix.lower() == ".gdb" else _files_below(path)
        files = [_Source(one, str(one.relative_to(path)), one.stem, one if _is_parquet(one) else None) for one in inner]
    elif path.suffix.lower() == ".zip":
        files = list(_members(path))
    else:
        files = []
    return files or [_Source(path, "", path.stem, path if _is_parquet(path) else None)]


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


def _members(path: Path) -> Iterator[_Source]:
    try:
        with zipfile.ZipFile(path) as archive:
            names = [PurePosixPath(name) for name in archive.namelist() if not name.endswith("/")]
            inside = {base for one in names for base in one.parents if base.suffix.lower() == ".gdb"}
            plain = [one for one in names if not inside.intersection(one.parents)]
            for one in sorted((*inside, *filter(_is_vector, plain))):
                content = archive.read(str(one)) if _is_parquet(one) else None
                yield _Source(f"/vsizip/{{{path.resolve()}}}/{one}", str(one), one.stem, content)
    except (zipfile.BadZipFile, RuntimeError, NotImplementedError, OSError) as fault:  # RuntimeError: a password
        raise VectorError(str(fault)) from None


def _layers_of(source: _Source) -> list[Layer]:
    try:
        layers = [_from_parquet(source)] if source.parquet is not None else list(_from_gdal(source))
    except VectorError as fault:
        raise VectorError(f"{source.name}: {fault}" if source.name else str(fault)) from None
    return layers


def _from_gdal(source: _Source) -> Iterator[Layer]:
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


def _from_parquet(source: _Source) -> Layer:
    import geopandas
    import pyarrow as pa
    from pyarrow import parquet

    def opened() -> Any:
        return io.BytesIO(source.parquet) if isinstance(source.parquet, bytes) else source.parquet

    try:
        stored = (parquet.read_schema(opened()).metadata or {}).get(b"geo")
        if stored is None:
            raise VectorError("it is Parquet without the metadata of GeoParquet")
        column = json.loads(stored)["primary_column"]
        shapes = geopandas.read_parquet(opened(), columns=[column])[column]
    except (ValueError, KeyError, TypeError, OSError, NotImplementedError, pa.ArrowException) as fault:
        raise VectorError(str(fault)) from None
    return Layer(source.stem, _present(np.asarray(shapes)), shapes.crs)


def _present(shapes: Any) -> list[shapely.Geometry]:
    return [one for one in shapes if one is not None]
