"""Composites of lazy cubes: time steps are sorted into periods, and each period becomes one image."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from eoap_dask.errors import BandError, UsageError
from eoap_dask.kernels.composites import Composite, check_composite, count_joint, count_valid
from eoap_dask.kernels.pixels import to_reflectance
from eoap_dask.lazy.checks import as_stored, check_cube
from eoap_dask.lazy.nodata import encode_all
from eoap_dask.periods import Period, check_period, parse_day, split_periods
from eoap_dask.text import few
from eoap_dask.values import as_flag, as_text


def composite(
    cube: xr.Dataset,
    method: str = "median",
    *,
    period: str = "monthly",
    start: Any = None,
    date_band: bool = False,
) -> xr.Dataset:
    """Compose the observations of each period into one.

    Parameters
    ----------
    cube : xr.Dataset, (time, y, x)
        From `load`, usually after `mask_clouds`; reflectance or raw. A remaining ``cloud_mask`` is dropped, not
        applied.
    method
        Of the valid observations of each band: ``median`` (an even number averages the two middle ones), ``mean``, or
        ``percentile:25`` and the like (the nearest rank: the smallest one with at least so many at or below it). Half a
        unit of 1/10000 rounds up. Of the observations that have all bands: ``medoid`` (the one with the least sum of
        distances to the others), ``geomedian`` (the geometric median), ``max-ndvi`` (by ``red`` and ``nir``),
        ``latest``; of equal ones the earliest. ``clearest-3`` is the median of the three time steps with most valid
        pixels in the whole cube, ``clearest-1`` that step itself: Dask holds the cube meanwhile.
    period
        As `period_groups` takes it.
    start
        As `period_groups` takes it.
    date_band
        Also give ``date``, where observations are picked: ``medoid``, ``max-ndvi``, ``latest``, ``clearest-1``.

    Returns
    -------
    xr.Dataset, (time, y, x), lazy if the input is
        Per band the composite, of the input's dtype, grid and nodata, also for ``.odc`` and ``.rio``; ``count``,
        uint16, observations of the first band (of all bands where they are looked at together), without nodata;
        ``date``, uint16, days since 1970-01-01, 0 = no data. ``time`` is the first day of the period. Periods without
        an observation are left out.

    Raises
    ------
    UsageError
        when period or method isn't known; when computed, where a value isn't a reflectance from 0 to 6.5535
    BandError
        when a band is missing that the method looks at
    """
    kind = check_composite(as_text(method, "method", "median"), "method", has_days=as_flag(date_band, "date_band"))
    check_cube(cube)
    cube = cube.drop_vars("cloud_mask", errors="ignore")
    lacking = [band for band in kind.needs if band not in cube]
    if lacking:
        raise BandError(
            f"{kind.name} looks at {' and '.join(kind.needs)}, and the dataset has no {lacking[0]}.",
            f"It has {few([str(name) for name in cube.data_vars], 5)}.",
            "Load it as well.",
        )
    found = []
    for one, steps in period_groups(cube, period, start=start):  # each in order of time
        part = cube.isel(time=steps).chunk(time=-1) if cube.chunks else cube.isel(time=steps)
        made = _composed(part, kind, has_days=date_band)
        found.append(made.expand_dims(time=[np.datetime64(one.first, "ns")]))
    return encode_all(xr.concat(found, "time", data_vars="all", coords="minimal", compat="override", join="override"))


def period_groups(cube: xr.Dataset, period: str = "monthly", *, start: Any = None) -> list[tuple[Period, list[int]]]:
    """Sort the time steps of a cube into periods.

    Parameters
    ----------
    cube : xr.Dataset, (time, y, x)
        From `load`.
    period
        ``monthly``, ``weekly`` (of ISO 8601), ``dekad``, ``seasonal`` (December to February, and so on), ``yearly``,
        ``all``, or a number of days such as ``10d``.
    start
        First day of the range, by default that of the first time step; it decides where periods of days begin.

    Returns
    -------
    list of (Period, list of int)
        Periods that have time steps, and the numbers of these, all in order of time.

    Raises
    ------
    UsageError
        when the period isn't known, there are no dates, or one lies before the start
    """
    period = as_text(period, "period", "monthly")
    check_period(period)
    check_cube(cube)
    times = _times(cube)
    days = [moment.date() for moment in times]
    first = min(days) if start is None else parse_day(start, "start")
    if first > min(days):
        raise UsageError(f"The first time step is of {min(days)}, before the start {first}.", "", "Leave start out.")
    ordered = [int(step) for step in np.argsort(times.to_numpy(), kind="stable")]
    groups = [(one, [i for i in ordered if days[i] in one]) for one in split_periods(first, max(days), period)]
    return [(one, steps) for one, steps in groups if steps]


def _composed(part: xr.Dataset, kind: Composite, *, has_days: bool) -> xr.Dataset:
    """Return the composite of all time steps, without time."""
    if kind.by_band is not None and not kind.clearest:
        layers = {str(name): _reduce(band, kind.by_band) for name, band in part.data_vars.items()}
        layers["count"] = _reduce(next(iter(part.data_vars.values())), count_valid, counts=True)
    else:
        layers = _reduce_together(part, kind, has_days=has_days)
    return xr.Dataset(layers, {name: one for name, one in part.coords.items() if "time" not in one.dims})


def _reduce_together(part: xr.Dataset, kind: Composite, *, has_days: bool) -> dict[str, xr.DataArray]:
    """Return the bands, count and perhaps days of a composite that looks at all bands of an observation."""
    names = [str(name) for name in part.data_vars]
    cube = part.to_dataarray("band")
    cube = cube.chunk(band=-1) if cube.chunks else cube
    floating = cube.dtype.kind == "f"
    further = []
    if kind.clearest:
        seen = cube.notnull() if floating else cube != 0
        counts = seen.all("band").sum(("y", "x"))  # of each time step, over the whole grid
        further = [counts.chunk(time=-1) if counts.chunks else counts]
    days = part["time"].to_numpy().astype("datetime64[D]").astype(np.int64).astype(np.uint16)
    needs = [names.index(one) for one in kind.needs]

    def on_block(block: np.ndarray[Any, Any], *clear: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        stack = np.ascontiguousarray(np.moveaxis(block, (-2, -1), (0, 1)))
        layers = as_stored(stack) if floating else stack
        own = days
        for counts in clear:
            ranked = np.argsort(-counts.reshape(-1, counts.shape[-1])[0], kind="stable")
            used = np.sort(ranked[: kind.clearest])
            layers, own = layers[:, used], days[used]
        data = np.empty((len(names), *layers.shape[2:]), np.uint16)
        picked = kind.compose(layers, data, tuple(layers[number] for number in needs))
        count = count_valid(layers[0]) if kind.by_band is not None else count_joint(layers)
        parts = [to_reflectance(data) if floating else data, count[None]]
        if has_days and picked is not None:
            parts.append(np.append(own, np.uint16(0))[picked][None])
        return np.moveaxis(np.concatenate(parts, dtype=block.dtype, casting="unsafe"), 0, -1)

    out = xr.apply_ufunc(
        on_block,
        cube,
        *further,
        input_core_dims=[["band", "time"], *[["time"] for _ in further]],
        output_core_dims=[["layer"]],
        dask="parallelized",
        output_dtypes=[cube.dtype],
        dask_gufunc_kwargs={"output_sizes": {"layer": len(names) + 1 + has_days}},
    )
    layers = {}
    for number, name in enumerate([*names, "count", *(["date"] if has_days else [])]):
        layer = out.isel(layer=number)
        layers[name] = layer.assign_attrs(part[name].attrs) if name in names else layer.astype(np.uint16)
    return layers


def _times(cube: xr.Dataset) -> Any:
    """Return the times of a cube's steps, or raise `UsageError`."""
    times = cube["time"].to_index() if "time" in cube.dims and "time" in cube.coords else None
    if times is None or times.dtype.kind != "M" or not len(times) or times.hasnans:
        raise UsageError(
            "The dataset has no dimension time of dates.",
            "Expected a cube as load() returns it.",
            "Compose it before you reduce it.",
        )
    lacking = [str(name) for name, array in cube.data_vars.items() if "time" not in array.dims]
    if lacking or not cube.data_vars:
        what = f"{lacking[0]} has no dimension time" if lacking else "The dataset has no bands"
        raise UsageError(f"{what}.", "Expected bands as load() returns them, each with a time.")
    return times


def _reduce(array: xr.DataArray, kernel: Any, *, counts: bool = False) -> xr.DataArray:
    floating = array.dtype.kind == "f"

    def on_block(block: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
        stack = np.ascontiguousarray(np.moveaxis(block, -1, 0))
        if floating:
            stack = as_stored(stack)
        out = kernel(stack)
        return to_reflectance(out) if floating and not counts else out

    out: xr.DataArray = xr.apply_ufunc(
        on_block,
        array,
        input_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.uint16 if counts else array.dtype],
        keep_attrs=not counts,
    )
    return out
