"""Burned area as lazy xarray: what the application `bai` maps, for people who want to look further.

Examples
--------
With the URLs of two STAC items in `pre` and `post`, and the area of a fire in `aoi`:

>>> fire = burned_area(pre, post, aoi)
>>> {str(name) for name in fire.data_vars} >= {"bai_pre", "bai_post", "dbai", "dnbr", "rdnbr", "rbr", "severity"}
True
>>> burned = fire.severity >= 4  # low severity and more
>>> hectares = burned.sum() * 0.01  # of pixels of 10 m; until here nothing was read
>>> float(hectares) > 1
True
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import xarray as xr

from eoap_dask.applications.bai.pair import check_found, common_ground
from eoap_dask.applications.bai.science import BANDS
from eoap_dask.errors import UsageError
from eoap_dask.geo.area import Area
from eoap_dask.geo.crs import parse_crs
from eoap_dask.geo.grid import check_areas, grid_over
from eoap_dask.geo.options import AreaParams, as_crs, as_resolution
from eoap_dask.items.find import item_from_url
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.odd import nothing_left
from eoap_dask.items.options import as_source
from eoap_dask.kernels.severity import KEY_BENSON
from eoap_dask.lazy import indices
from eoap_dask.lazy.cube import load
from eoap_dask.lazy.nodata import encode_nan
from eoap_dask.net.hrefs import check_host_names, named_hosts
from eoap_dask.readers.choose import make_reader
from eoap_dask.render.headers import settle
from eoap_dask.scenes.model import Pass, group_passes
from eoap_dask.scenes.parse import usable_scenes
from eoap_dask.scenes.sensor import sensor_for
from eoap_dask.values import as_flag

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.geo.aoi import Aoi


def burned_area(
    pre: Any,
    post: Any,
    aoi: Any = None,
    *,
    resolution: float | tuple[float, float] = 10.0,
    crs: Any = "auto",
    clip: bool = True,
    thresholds: Sequence[float] = KEY_BENSON,
    force: bool = False,
    chunks: Mapping[str, Any] | Literal["auto"] | None = None,
    on_odd_item: Literal["skip", "fail"] = "skip",
    allow_hosts: Sequence[str] = (),
) -> xr.Dataset:
    """Compare two scenes of a fire, as a lazy Dataset.

    Parameters
    ----------
    pre, post
        The scene before and the one after the fire: URL or file of a STAC item, or items of one pass as `ItemSet.of`
        takes them.
    aoi
        The area, as `eoap_dask.parse_aoi` takes it; by default what both scenes show.
    resolution
        Side of a pixel in units of the CRS; or two of one size, such as ``(10, -10)``.
    crs
        ``auto`` is the UTM zone that holds most of the area; without an area, the CRS of the scene before.
    clip
        Leave nothing outside the shape of the area, or keep its bounding box.
    thresholds
        Six rising numbers of dNBR where the second to the last class of severity begin.
    force
        Compare different sensors.
    chunks
        Sides of the Dask chunks, ``{"y": …, "x": …}``, or ``"auto"``.
    on_odd_item
        As for `load`: ``skip`` does without items that lack what is needed, where others of the pass are left.
    allow_hosts
        As for `load`: further private hosts, by name or address, from which assets may be read.

    Returns
    -------
    xr.Dataset, (y, x), lazy
        ``bai_pre``, ``bai_post``, ``dbai`` (after − before), ``nbr_pre``, ``nbr_post``, ``dnbr`` (before − after),
        ``rdnbr``, ``rbr``: float32, dimensionless, NaN where either scene doesn't see ground (cloud, shadow, water,
        snow or nothing). ``severity``: uint8, see `severity_classes`, 0 there. The same numbers as the application's,
        but for the rounding with which it stores them. ``.odc`` and ``.rio`` know the grid and nodata of each.

    Raises
    ------
    UsageError, ItemError, HrefError
        before anything is read: also for scenes that can't be compared, and for a CRS in which areas aren't those on
        the ground
    NothingFoundError
        where there are no items before or after
    AssetError
        when computed, where an asset can't be read
    """
    side, crs = as_resolution(resolution, "resolution"), as_crs(crs, "crs")
    asked = AreaParams(aoi=aoi, clip=clip, resolution=side, crs=crs)
    thresholds = tuple(one.lower for one in indices.severity_classes(thresholds)[1:])
    force = as_flag(force, "force")
    check_host_names(allow_hosts)
    before, after = _scene(pre, "pre"), _scene(post, "post")
    check_found(before, after, force=force)
    area = None if aoi is None else Area.of(asked)
    geobox = _common_grid(before, after, crs, side, on_odd_item, allow_hosts) if area is None else area.geobox
    check_areas(geobox)
    kept = None if area is None else area.aoi
    seen = [_reflectance(items, geobox, kept, chunks, on_odd_item, allow_hosts) for items in (before, after)]
    valid = seen[0].red.notnull() & seen[1].red.notnull()
    first, last = (one.where(valid) for one in seen)
    nbr_pre, nbr_post = (indices.nbr(one.nir, one.swir22) for one in (first, last))
    bai_pre, bai_post = (indices.bai(one.red, one.nir) for one in (first, last))
    dbai = encode_nan((bai_post - bai_pre).assign_attrs(long_name="differenced burned area index", units="1"))
    dnbr = indices.dnbr(nbr_pre, nbr_post)
    return xr.Dataset(
        {
            "bai_pre": bai_pre,
            "bai_post": bai_post,
            "dbai": dbai,
            "nbr_pre": nbr_pre,
            "nbr_post": nbr_post,
            "dnbr": dnbr,
            "rdnbr": indices.rdnbr(dnbr, nbr_pre),
            "rbr": indices.rbr(dnbr, nbr_pre),
            "severity": indices.severity(dnbr, thresholds=thresholds),
        }
    )


def _scene(given: object, name: str) -> ItemSet:
    found = as_source(given, name)
    return item_from_url(found, option=name) if isinstance(found, str) else found


def _common_grid(
    before: ItemSet, after: ItemSet, crs: str, resolution: float, on_odd_item: str, allow_hosts: Sequence[str]
) -> GeoBox:
    passes: list[Pass] = []
    for items in (before, after):
        hosts = items.private_hosts() | named_hosts(allow_hosts)
        sensor = sensor_for(items.collection)
        scenes, odd = usable_scenes(
            items.features,
            BANDS,
            sensor,
            cloud_mask=True,
            private_hosts=hosts,
            local_files=items.local_files,
            on_odd_item=on_odd_item,
        )
        if odd and not scenes:
            raise nothing_left(odd)
        reader = make_reader("auto", items.signer(hosts), private_hosts=hosts)
        passes += group_passes(settle(items.features, scenes, reader)[0])  # said by `load`
    if crs != "auto":
        parse_crs(crs)
    name = passes[0].scenes[0].bands[0].crs if crs == "auto" else crs
    return grid_over(common_ground(passes, name), name, resolution)


def _reflectance(
    items: ItemSet,
    geobox: GeoBox,
    aoi: Aoi | None,
    chunks: Any,
    on_odd_item: Literal["skip", "fail"],
    allow_hosts: Sequence[str],
) -> xr.Dataset:
    cube = load(
        items,
        BANDS,
        geobox=geobox,
        aoi=aoi,
        also_mask=("water", "snow"),
        chunks=chunks,
        on_odd_item=on_odd_item,
        allow_hosts=allow_hosts,
    )
    if cube.sizes["time"] != 1:
        raise UsageError(
            f"There are {cube.sizes['time']} passes of the satellite where one was expected.",
            "Expected the items of one pass before and of one after the fire.",
            "Choose one of them.",
        )
    scene = cube.isel(time=0, drop=True)
    return scene.drop_vars("cloud_mask").where(~scene.cloud_mask)
