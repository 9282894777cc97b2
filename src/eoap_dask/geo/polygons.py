"""Polygons of a vector file, with an attribute of each: streamed, never the whole file in memory."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import numpy.typing as npt
import shapely
from pyproj import CRS
from pyproj.exceptions import CRSError

from eoap_dask.errors import UsageError
from eoap_dask.geo.cleaning import PolygonFilter, Shapes, Tally
from eoap_dask.geo.layers import Bounds, Column, LayerHead, LayerInfo, layer_heads, layer_info, layer_rows
from eoap_dask.geo.options import as_crs
from eoap_dask.geo.vector import VectorError, existing_layer, reason
from eoap_dask.text import nearest, option, shorten

_FORMATS = "Expected GeoPackage, GeoParquet, Shapefile, FlatGeobuf, GeoJSON or another format of GDAL."
_PEEKED = 1000
"""Rows that tell whether a layer of any geometries is one of polygons."""


@dataclass(frozen=True)
class PolygonWords:
    """What a file of polygons is called in sentences, and how its parameters are."""

    noun: str = "field"
    """What each polygon is."""
    parameter: str = "fields"
    """Which names the file."""
    layer: str = "layer"
    """Which names its layer; empty where there is none."""
    attribute: str = "class_attribute"
    """Which names the attribute."""
    meaning: str = "the codes"
    """What the attribute holds."""
    likely: tuple[str, ...] = ("hcat", "crop", "code", "class", "label")
    """What names of attributes contain that may hold it, the likeliest first."""

    @property
    def expected(self) -> str:
        """What a file is to hold."""
        return f"Expected {self.noun} polygons."

    def try_layer(self, file: Path, name: str) -> str:
        """Return how to name a layer of a file."""
        own = option(self.layer, name) if self.layer else option(self.parameter, f"{file}|layername={name}")
        return f"Try {own}."


FIELDS = PolygonWords()
"""Fields with what grows there."""


@dataclass(frozen=True)
class Polygons:
    """Some polygons of a file, in its order."""

    ids: npt.NDArray[np.int64]
    """As the file has them; the row's number, from 0, where it has none."""
    codes: Column
    """Of the attribute, as text; None for none."""
    originals: Column | None
    """Of the other attribute, empty for none; None where the layer has no such."""
    shapes: Shapes
    """Valid polygons or multipolygons in the file's CRS, in two dimensions."""

    def __len__(self) -> int:
        return len(self.ids)


@dataclass(frozen=True)
class PolygonFile:
    """A layer of polygons. `open` checks all that can be told without reading them."""

    path: Path
    layer: str
    crs: CRS
    bounds: Bounds
    """In the CRS, as the file tells them: no row lies outside, but some may be left out."""
    count: int
    """Rows, also those without a polygon."""
    attribute: str | None
    """Which is read; None for shapes alone."""
    original: str | None
    """The other attribute that is read; None where there is none."""
    head: LayerHead
    info: LayerInfo

    @classmethod
    def open(
        cls,
        path: str | os.PathLike[str],
        layer: str | None = None,
        attribute: str | None = "EC_hcat_c",
        original: str = "EC_trans_n",
        words: PolygonWords = FIELDS,
    ) -> PolygonFile:
        """Find the layer of polygons in a file.

        Parameters
        ----------
        path
            Of a file that GDAL reads, GeoParquet, a directory or a zip archive of such files, or
            ``file.gpkg|layername=x``.
        layer
            Its name. May be left out where only one may hold polygons.
        attribute
            Which is read, text or numbers, such as the code of what grows there. None for shapes alone.
        original
            Which is read beside it, such as the original name of it. May be missing.
        words
            For sentences.

        Raises
        ------
        UsageError
            when there is no such file, layer or attribute, or no polygon, or nothing that says where on Earth they are
        """
        text = os.fspath(path)
        shown = repr(shorten(text, 80))
        file = _file(text, layer, shown, words)
        try:
            heads = layer_heads(file[0])
            head = _chosen(heads, file[1], file[0], shown, words)
            what = f"The layer {head.name!r} of {shown}"
            info = layer_info(head)
            if not info.count:
                raise UsageError(f"{what} has no rows.", words.expected, "Check the file.")
            _check_polygons(head, info, what, words)
        except VectorError as fault:
            _refuse(fault, file[0], shown)
        if attribute is not None and attribute not in info.attributes:
            raise _without(attribute, info.attributes, what, words)
        crs = _crs(info, what, words)
        bounds = _on_earth(info, crs, what, words)
        known = original if attribute is not None and original in info.attributes else None
        return cls(file[0], head.name, crs, bounds, info.count, attribute, known, head, info)

    @property
    def crs_text(self) -> str:
        """The CRS as an authority's code where it has one, else as WKT."""
        return as_crs(self.crs, "crs")

    def chunks(
        self,
        at_once: int = 50_000,
        tally: Tally | None = None,
        *,
        is_unique: bool = True,
        left_out: list[str | None] | None = None,
    ) -> Iterator[Polygons]:
        """Yield the polygons in the file's order, at most so many at once.

        Rows are left out that have no polygon, or one in degrees that is wider than 180°, and with `is_unique` those
        with the very polygon of a row before. Polygons that aren't valid are repaired.

        Parameters
        ----------
        at_once
            Rows that are in memory at a time.
        tally
            Counts what is repaired and left out; complete at the end.
        is_unique
            Whether each polygon comes once.
        left_out
            Gets the attribute of each row that is left out.

        Raises
        ------
        UsageError
            when the file turns out to be damaged
        """
        polygons = PolygonFilter(
            Tally() if tally is None else tally, in_degrees=self.crs.is_geographic, is_unique=is_unique
        )
        wanted = tuple(name for name in (self.attribute, self.original) if name is not None)
        try:
            for rows in layer_rows(self.head, self.info, wanted, at_once):
                where, shapes = polygons.keep(rows.shapes, rows.unreadable)
                if left_out is not None and self.attribute:
                    left_out += np.delete(rows.texts[0], where).tolist()
                if len(where):
                    originals = None
                    if self.original is not None:
                        originals = np.array([one or "" for one in rows.texts[-1][where]], object)
                    codes = rows.texts[0][where] if self.attribute else np.full(len(where), None, object)
                    yield Polygons(rows.ids[where], codes, originals, shapes)
        except VectorError as fault:
            _refuse(fault, self.path, repr(shorten(str(self.path), 80)))


def representative_points(shapes: Shapes) -> npt.NDArray[np.float64]:
    """Return a point inside of each polygon, (n, 2): the same for the same polygon."""
    points = shapely.point_on_surface(shapes)
    return np.column_stack([shapely.get_x(points), shapely.get_y(points)])


# ----------------------------------------------------------------------------------------------------
# What isn't a layer of polygons


def _file(text: str, layer: str | None, shown: str, words: PolygonWords) -> tuple[Path, str]:
    """Return the file and the layer that are named; the latter may be empty."""
    found = existing_layer(text)
    if found is None:
        what = f"{shown} is a URL." if "://" in text else f"There is no file {shown}."
        raise UsageError(what, "A path must exist on this machine.", f"Check {option(words.parameter)}.")
    path, named = found
    if layer and named and layer != named:
        raise UsageError(
            f"{option(words.parameter)} names the layer {named!r}, and {option(words.layer)} the layer {layer!r}.",
            "Expected one layer.",
            "Leave one of them out.",
        )
    if path.is_file() and not path.stat().st_size:
        raise UsageError(f"The file {shown} is empty.", _FORMATS, f"Check {option(words.parameter)}.")
    return path, layer or named


def _refuse(fault: VectorError, path: Path, shown: str) -> NoReturn:
    why = reason(fault, path)
    if "database is locked" in why:
        raise UsageError(
            f"The file {shown} is locked by another program.",
            "Expected a file that can be read.",
            "Close the program that writes to it, or copy the file.",
        ) from None
    raise UsageError(
        f"The file {shown} can't be read as vector data: {why}.", _FORMATS, "Check the file with ogrinfo."
    ) from None


def _chosen(heads: Sequence[LayerHead], name: str, file: Path, shown: str, words: PolygonWords) -> LayerHead:
    """Return the layer of that name, or the only one that may hold polygons."""
    if not heads:
        raise UsageError(f"The file {shown} has no layer with geometry.", words.expected, "Check the file.")
    if name:
        fit = [one for one in heads if one.name == name]
        if not fit:
            raise UsageError(
                f"The file {shown} has no layer {shorten(name, 80)!r}.",
                f"Its layers are {_listed([one.name for one in heads])}.",
                words.try_layer(file, nearest(name, [one.name for one in heads], 0.5) or heads[0].name),
            )
    else:
        fit = [one for one in heads if one.has_polygons is not False]
        if not fit:
            kinds = _listed([f"{one.name} ({one.kind})" for one in heads])
            raise UsageError(
                f"The file {shown} has no layer of polygons.",
                f"Its layers are {kinds}.",
                f"Give the outlines of the {words.noun}s.",
            )
    if len(fit) > 1:
        raise UsageError(
            f"The file {shown} has {len(fit)} layers that may hold {words.noun}s: "
            f"{_listed([one.name for one in fit])}.",
            "Expected one of them.",
            words.try_layer(file, fit[0].name) if not name else "Give a file with one layer of that name.",
        )
    return fit[0]


def _check_polygons(head: LayerHead, info: LayerInfo, what: str, words: PolygonWords) -> None:
    found = {head.kind}
    if head.has_polygons is None:
        rows = layer_rows(head, info, (), _PEEKED)
        found = {one.geom_type for one in next(rows).shapes if one is not None}
        rows.close()
        if not found or any(one.endswith(("Polygon", "Collection")) for one in found):
            return
    elif head.has_polygons:
        return
    raise UsageError(
        f"{what} holds {', '.join(sorted(found))}.",
        f"{words.noun.capitalize()}s are of Polygon or MultiPolygon.",
        f"Give the outlines of the {words.noun}s.",
    )


def _without(attribute: str, attributes: Sequence[str], what: str, words: PolygonWords) -> UsageError:
    by_case = [one for one in attributes if one.casefold() == attribute.casefold()]
    alike = nearest(attribute, attributes)
    likely = [one for part in words.likely for one in attributes if part in one.casefold()]
    guess = [*by_case, *([alike] if alike else []), *likely]
    return UsageError(
        f"{what} has no attribute {shorten(attribute, 80)!r}.",
        f"Its attributes are {_listed(attributes)}." if attributes else "It has none.",
        f"Try {option(words.attribute, guess[0])}."
        if guess
        else f"Name the one of {words.meaning} by {option(words.attribute)}.",
    )


def _crs(info: LayerInfo, what: str, words: PolygonWords) -> CRS:
    try:
        crs = None if info.crs is None else CRS.from_user_input(info.crs)
    except CRSError:
        raise UsageError(
            f"{what} has a CRS that isn't known: {shorten(str(info.crs), 80)!r}.",
            "Expected one that PROJ knows.",
            "Reproject it, such as with ogr2ogr.",
        ) from None
    if crs is None or crs.is_engineering or crs.name.startswith("Undefined"):  # as GeoPackages say so
        raise UsageError(
            f"{what} tells no CRS.",
            f"Expected one, so that its {words.noun}s have a place on Earth.",
            "Assign it to the file.",
        )
    return crs


def _on_earth(info: LayerInfo, crs: CRS, what: str, words: PolygonWords) -> Bounds:
    if info.bounds is None:
        raise UsageError(f"{what} has no geometry.", words.expected, "Check the file.")
    west, south, east, north = info.bounds
    if crs.is_geographic and (max(-south, north) > 90 + 1e-6 or max(-west, east) > 360):
        shown = ",".join(f"{one:.10g}" for one in info.bounds)
        raise UsageError(
            f"{what} isn't on Earth (its bounds are {shown}).",
            f"Its CRS, {crs.name}, is in degrees.",
            "Assign the CRS that its coordinates are in.",
        )
    return info.bounds


def _listed(names: Sequence[Any]) -> str:
    return shorten(", ".join(map(str, names)), 200)
