"""What all applications write about a product in STAC: files and items of its units, collection and catalog."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any

import shapely

from eoap_dask.__about__ import __version__
from eoap_dask.files import sha256_of
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.footprint import footprint_4326, shape_footprint_4326
from eoap_dask.geo.inside import count_inside
from eoap_dask.geo.window import grid_bounds
from eoap_dask.output.layout import LAYOUT, UNIT
from eoap_dask.run.raster import finest_pixel, raster_of
from eoap_dask.scenes.sensor import sensor_of, sensors
from eoap_dask.stac.attribution import credit, processor, producers_of
from eoap_dask.stac.catalog import build_catalog, build_collection
from eoap_dask.stac.item import build_item, write_item
from eoap_dask.stac.records import COG, PNG, AssetRecord, ItemRecord, OutputRecord

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox
    from shapely.geometry.base import BaseGeometry

    from eoap_dask.kernels.pixels import BandSums
    from eoap_dask.run.raster import WrittenImage
    from eoap_dask.run.written import WrittenUnit
    from eoap_dask.scenes.model import Pass, Scene

LEFT_OUT = "eoap:left_out"
"""Item property: ids of the scenes that stayed bad, and are missing from it."""

CORRECTED = "eoap:corrected_grids"
"""Item property: items and assets whose files lie elsewhere than the catalogue says; the files count."""

VALID_PERCENT = "eoap:valid_percent"
"""Item property: share of pixels with data, of those of the grid, or in the area that it is cut to.

An item with 0 is said to be empty.
"""

OUTPUT_BYTES = "eoap:output_bytes"
"""Item property: bytes of the files of its outputs."""


def image_assets(
    written: WrittenUnit, class_pixels: Mapping[str, Mapping[int, int]] | None = None
) -> tuple[AssetRecord, ...]:
    """Return the records of all images of a unit, in the order of its recipe.

    `class_pixels` are pixels by value of the class, for each image of classes (by its name) of which they are known.
    """
    counted = class_pixels or {}
    images = written.made.images.values()
    return tuple(image_asset(image, written.folder, counted.get(image.spec.name)) for image in images)


def image_asset(image: WrittenImage, folder: Path, class_pixels: Mapping[int, int] | None = None) -> AssetRecord:
    """Return the record of an image in a unit's directory; `class_pixels` are pixels by value of the class."""
    spec, geobox = image.spec, image.geobox
    shape = (int(geobox.shape[0]), int(geobox.shape[1]))
    return AssetRecord(
        key=spec.asset_key,
        filename=image.path.relative_to(folder).as_posix(),
        title=spec.title,
        media_type=COG,
        roles=spec.roles,
        image=spec,
        statistics=tuple(_statistics(sums, shape[0] * shape[1]) for sums in image.sums),
        class_pixels=class_pixels or {},
        size=image.size,
        sha256=image.sha256,
        shape=shape,
        transform=_transform(geobox),
    )


def thumbnail_asset(path: Path) -> AssetRecord:
    """Return the record of a thumbnail."""
    return file_asset("thumbnail", path, "Thumbnail", PNG, ("thumbnail",))


def file_asset(key: str, path: Path, title: str, media_type: str, roles: tuple[str, ...]) -> AssetRecord:
    """Return the record of a file that isn't on the grid."""
    return AssetRecord(key, path.name, title, media_type, roles, size=path.stat().st_size, sha256=sha256_of(path))


def _statistics(sums: BandSums, pixels: int) -> dict[str, float] | None:
    """Return the statistics of the valid pixels of a band, as STAC has them; None when there are none."""
    number, total, squares, low, high = sums
    if not number:
        return None
    # in whole numbers up to the last step: the variance of a large image has no room for rounding
    if isinstance(total, tuple):
        total, squares = Fraction(math.fsum(total)), Fraction(math.fsum(squares))
    variance = max(squares * number - total * total, 0) / (number * number)
    return {
        "minimum": low,
        "maximum": high,
        "mean": round(float(total / number), 6),
        "stddev": round(math.sqrt(variance), 6),
        "valid_percent": round(100 * number / pixels, 4),
    }


@dataclass(frozen=True)
class Output:
    """One of several outputs of a unit, such as a chip, which has an item of its own."""

    key: str
    """Its item's id."""
    title: str
    geobox: GeoBox
    assets: Sequence[AssetRecord]
    valid_pixels: int
    properties: Mapping[str, Any] = field(default_factory=dict)
    passes: Sequence[Pass] = ()
    """Those that it is made of, where they aren't all of the unit's: they tell its time and sources."""


def write_unit_item(
    application: str,
    written: WrittenUnit,
    assets: Sequence[AssetRecord],
    lineage: str,
    *,
    valid_pixels: int | None,
    properties: Mapping[str, Any],
    outputs: Sequence[Output] = (),
) -> dict[str, Any]:
    """Write the item of a unit, the last of its files, and return it; `valid_pixels` is None for one without images.

    The items of its `outputs` are written before, and listed in it.
    """
    planned, work = written.plan, raster_of(written.plan)
    keys = [one.key for one in outputs]
    if len({*keys, LAYOUT.name(planned.unit.key)}) <= len(keys):
        raise ValueError(f"Outputs of {planned.unit.key} must have keys of their own, got {keys}.")
    clip = work.recipe.stack.clip
    scenes = tuple(s.href for s in work.recipe.stack.scenes)
    records = [_write_output(application, written, one, lineage, scenes) for one in outputs]
    whole = {
        "eoap:digest": planned.digest,
        "eoap:digest_parts": dict(planned.parts),
        **({UNIT: planned.unit.key} if LAYOUT.is_shared(planned.unit.key) else {}),
        **({LEFT_OUT: list(planned.left_out)} if planned.left_out else {}),
        **({CORRECTED: [" ".join(one) for one in work.contradictions]} if work.contradictions else {}),
        **(_valid(valid_pixels, work.geobox, clip) if valid_pixels is not None else {}),
        **properties,
        **({OUTPUT_BYTES: sum(a.size for one in outputs for a in one.assets)} if outputs else {}),
        "eoap:resampled_scenes": work.resampled,
        "eoap:reprojected_scenes": work.reprojected,
        "eoap:levels_read": written.made.levels,
        "eoap:dropped_classes": list(work.recipe.stack.dropped_classes or ()),
    }
    record = _record(written, LAYOUT.name(planned.unit.key), planned.unit.title, work.geobox, assets, lineage, whole)
    units = (f"{LAYOUT.to_root(planned.unit.key)}{LAYOUT.item_of(key)}" for key in planned.unit.needs)
    item = _build(application, replace(record, derived_from=(*scenes, *units), outputs=tuple(records)))
    write_item(written.folder, item)
    return item


def _write_output(
    application: str, written: WrittenUnit, output: Output, lineage: str, scenes: tuple[str, ...]
) -> OutputRecord:
    clip = raster_of(written.plan).recipe.stack.clip
    own = {**_valid(output.valid_pixels, output.geobox, clip), **output.properties, UNIT: written.plan.unit.key}
    record = _record(written, output.key, output.title, output.geobox, output.assets, lineage, own)
    record = replace(record, derived_from=scenes)
    if output.passes:
        times = [s.datetime for p in output.passes for s in p.scenes]
        seen = tuple(s.href for p in output.passes for s in p.scenes)
        record = replace(record, start=min(times), end=max(times), derived_from=seen)
    item = _build(application, record)
    del item["properties"]["processing:datetime"]  # the unit's item has it: outputs of equal runs are equal
    path = write_item(written.folder, item)
    return OutputRecord(path.name, output.title, path.stat().st_size, sha256_of(path))


def _record(
    written: WrittenUnit,
    key: str,
    title: str,
    geobox: GeoBox,
    assets: Sequence[AssetRecord],
    lineage: str,
    properties: Mapping[str, Any],
) -> ItemRecord:
    """Return the record of an item on a grid, of the unit's period and sources."""
    unit, scenes = written.plan.unit, raster_of(written.plan).recipe.stack.scenes
    shape, transform = (int(geobox.shape[0]), int(geobox.shape[1])), _transform(geobox)
    geometry, bbox = _footprint(geobox, raster_of(written.plan).recipe.stack.clip)
    return ItemRecord(
        id=key,
        title=title,
        start=unit.start,
        end=unit.end,
        crs=crs_name(geobox),
        shape=shape,
        transform=transform,
        geometry=geometry,
        bbox=bbox,
        assets=tuple(assets),
        lineage=lineage,
        to_root=LAYOUT.to_root(unit.key),
        properties={
            **_source_properties(scenes),
            **_ground_sample_distance(geobox, scenes),
            **properties,
        },
    )


def _ground_sample_distance(geobox: GeoBox, scenes: Sequence[Scene]) -> dict[str, float]:
    """Return ``gsd``: the side of the product's pixels, or of the data's where those are larger."""
    if not parse_crs(crs_name(geobox)).is_projected:
        return {}
    return {"gsd": max(_transform(geobox)[0], finest_pixel(scenes) or 0.0)}


def _build(application: str, record: ItemRecord) -> dict[str, Any]:
    return build_item(record, collection_id=application, software_version=__version__, now=datetime.now(UTC))


def _footprint(geobox: GeoBox, clip: BaseGeometry | None) -> tuple[dict[str, Any], list[float]]:
    """Return geometry and bbox of a grid, or of the part of it that is within the shape that it is cut to."""
    crs, whole = crs_name(geobox), shapely.box(*grid_bounds(geobox))
    if clip is not None and not shapely.contains(clip, whole):
        part = clip if shapely.covers(whole, clip) else shapely.intersection(shapely.make_valid(clip), whole)
        with suppress(ValueError):  # nothing of it lies here, or less than degrees can tell
            return shape_footprint_4326(crs, part)
    return footprint_4326(crs, _transform(geobox), (int(geobox.shape[0]), int(geobox.shape[1])))


def _valid(pixels: int, geobox: GeoBox, clip: BaseGeometry | None) -> dict[str, float]:
    """Return the share of pixels with data, of those whose centre lies in the shape that the grid is cut to."""
    whole = int(geobox.shape[0]) * int(geobox.shape[1])
    if clip is not None:
        whole = count_inside(shapely.to_wkb(clip), geobox)
    return {VALID_PERCENT: round(100 * pixels / whole, 4) if whole else 0.0}


def collection_and_catalog(
    application: str,
    items: Sequence[Mapping[str, Any]],
    *,
    title: str,
    description: str,
    keywords: Sequence[str],
    catalog_title: str,
) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the STAC collection and catalog of finished items, of which there is at least one."""
    note, producers, links = credit(items, sensors())
    collection = build_collection(
        application,
        title,
        f"{description} {note}",
        items,
        providers=[*producers, processor(__version__)],
        keywords=keywords,
        license_links=links,
    )
    return collection, build_catalog(f"{application}-catalog", catalog_title, f"Made by eoap-dask. {note}", items)


def _source_properties(scenes: Sequence[Scene]) -> dict[str, Any]:
    """Return what an item says of where its scenes are from, if any: constellation, instruments, providers.

    Without providers the data are of the provider of the constellation's sensor; see `credit`.
    """
    if not scenes:
        return {}
    flown = [sensor_of(name) for name in dict.fromkeys(s.sensor for s in scenes)]
    providers = producers_of((s.producers for s in scenes), sensors())
    instruments = list(dict.fromkeys(name for one in flown for name in one.instruments))
    told = {"providers": providers} if [one["name"] for one in providers] != [flown[0].provider.name] else {}
    return {"constellation": flown[0].constellation, "instruments": instruments, **told}


def _transform(geobox: GeoBox) -> tuple[float, ...]:
    """Return the affine transform of a grid: a, b, c, d, e, f."""
    return tuple(float(v) for v in tuple(geobox.transform)[:6])
