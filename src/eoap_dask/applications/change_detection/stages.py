"""The stages of change detection one by one, from Python: look at a year's images, store them, compare them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import xarray as xr

from eoap_dask.applications.base import check_client, check_kinds
from eoap_dask.applications.change_detection.application import APPLICATION, find_items
from eoap_dask.applications.change_detection.names import cell_and_year, is_change
from eoap_dask.applications.change_detection.parameters import ChangeParams
from eoap_dask.applications.change_detection.request import Request, understand
from eoap_dask.errors import UsageError
from eoap_dask.geo.rasterize import rasterize_window
from eoap_dask.geo.window import Window
from eoap_dask.items.itemset import ItemSet
from eoap_dask.lazy.composites import composite
from eoap_dask.lazy.cube import load, mask_clouds
from eoap_dask.run.control import Control
from eoap_dask.run.options import RunOptions
from eoap_dask.run.plan import Plan
from eoap_dask.run.produce import Hooks, apply_changes
from eoap_dask.run.raster import RasterWork
from eoap_dask.run.result import Run
from eoap_dask.text import option, show
from eoap_dask.values import as_integer

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.applications.change_detection.cells import GridCell
    from eoap_dask.run.events import Listener

T = TypeVar("T")


class ChangeStages:
    """Change detection in its stages, each by itself: `download` → `store` → `change`.

    What a stage makes is added to the product; what is there stays. Each has a coroutine of the same name with
    ``_async``: cancelling it stops the run, and what is finished is kept.

    Parameters
    ----------
    params : ChangeParams, optional
        What decides the product; its fields may also be given by name (``grid`` and ``years`` above all).
    options : RunOptions, optional
        How it is made; its fields may also be given by name (``output_dir`` above all).
    client : distributed.Client, optional
        Where to work. By default the active client, else an embedded cluster for each stage.
    listener : callable, optional
        Gets an `Event` whenever something happens.
    **changes
        Fields of `ChangeParams` and `RunOptions`.

    Raises
    ------
    UsageError
        for parameters that make no sense, before anything is contacted
    """

    def __init__(
        self,
        params: ChangeParams | None = None,
        options: RunOptions | None = None,
        *,
        client: Client | None = None,
        listener: Listener | None = None,
        **changes: Any,
    ) -> None:
        check_kinds(params=(params, ChangeParams), options=(options, RunOptions))
        check_client(client)
        if listener is not None and not callable(listener):
            raise UsageError(f"listener must be a function, got {show(listener)}.", "", "Try listener=print.")
        default = RunOptions(output_dir=APPLICATION.output_dir)
        self._params, self._options = apply_changes(params or ChangeParams(), options or default, changes)
        self._client, self._listener = client, listener
        self._request: Request = replace(understand(self._params), allow_hosts=self._options.allow_hosts)
        self._found: ItemSet | None = None

    @property
    def years(self) -> tuple[int, ...]:
        """The years that there are stages for."""
        return tuple(int(one.key) for one in self._request.years)

    def download(self, year: int) -> dict[str, xr.Dataset]:
        """Return the image of each cell in a year, by the cell's id; searches, and reads no more than headers.

        Returns
        -------
        dict of xr.Dataset, (y, x), lazy
            Bands as `store` writes them, uint16, reflectance × 10000, 0 = nodata, and ``count``; no entry for a cell
            without scenes.

        Raises
        ------
        UsageError, NothingFoundError, SearchError
            as `eoap_dask.change_detection`
        """
        request, month = self._request, self._request.years[self._place(year)]
        if self._found is None:
            self._found = find_items(request)
        found = self._found
        plan = APPLICATION.plan_for(request, found, self._options, self._client)
        by_id = {str(one["id"]): one for one in found}
        bands, images = request.bands_in(found.features), {}
        works = {cell_and_year(u.unit.key): u.work for u in plan.units if not is_change(u.unit.key)}
        for cell in request.cells:
            work = works.get((cell.name, month.key))
            if isinstance(work, RasterWork):
                features = tuple(by_id[scene.id] for scene in work.recipe.stack.scenes)
                images[cell.id] = self._image(cell, replace(found, features=features), bands)
        return images

    def _image(self, cell: GridCell, items: ItemSet, bands: tuple[str, ...]) -> xr.Dataset:
        params = self._request.params
        cube = load(
            items,
            bands,
            geobox=cell.geobox,
            raw=True,
            cloud_mask="scl" if params.cloud_mask == "scl" else "none",
            stac=params.stac,
            allow_hosts=self._options.allow_hosts,
            on_odd_item="skip" if params.on_odd_item == "skip" else "fail",
        )
        if params.cloud_mask == "scl":
            cube = mask_clouds(cube)
        image = composite(cube, method=params.composite).isel(time=0, drop=True)
        if cell.clip_wkb is None:
            return image
        import shapely

        height, width = (int(side) for side in cell.geobox.shape)
        inside = rasterize_window(shapely.from_wkb(cell.clip_wkb), cell.geobox, Window(0, height, 0, width))
        if inside is None:
            return image
        kept = xr.DataArray(np.asarray(inside), dims=("y", "x"))
        return image.map(lambda band: band.where(kept, 0).astype(band.dtype).assign_attrs(band.attrs))

    def store(self, year: int) -> Run:
        """Make the images of all cells in a year, and add them to the product; returns the run.

        Raises
        ------
        UsageError, NothingFoundError, SearchError, ClusterError, StoppedError, UnitsFailedError
            as `eoap_dask.change_detection`
        """
        return self._make(self._store(year), Control())

    def change(self, year: int) -> Run:
        """Make the changes of all cells that end in a year, and add them to the product; returns the run.

        Images that they need and that aren't stored yet are made as well.

        Raises
        ------
        UsageError
            also for the first of the years, which has none before it
        NothingFoundError, SearchError, ClusterError, StoppedError, UnitsFailedError
            as `eoap_dask.change_detection`
        """
        return self._make(self._change(year), Control())

    def run(self) -> Run:
        """Make all years: the same as `eoap_dask.change_detection`."""
        return self._make(None, Control())

    async def download_async(self, year: int) -> dict[str, xr.Dataset]:
        """Do as `download`, without blocking the event loop."""
        return await _awaited(lambda _: self.download(year))

    async def store_async(self, year: int) -> Run:
        """Do as `store`, without blocking the event loop."""
        chosen = self._store(year)
        return await _awaited(lambda control: self._make(chosen, control))

    async def change_async(self, year: int) -> Run:
        """Do as `change`, without blocking the event loop."""
        chosen = self._change(year)
        return await _awaited(lambda control: self._make(chosen, control))

    async def run_async(self) -> Run:
        """Do as `run`, without blocking the event loop."""
        return await _awaited(lambda control: self._make(None, control))

    # ------------------------------------------------------------------------------------------------

    def _place(self, year: object) -> int:
        number = as_integer(year, "year", self.years[-1])
        if number not in self.years:
            raise UsageError(
                f"{option('year')} must be one of the years {', '.join(map(str, self.years))}, got {show(number)}."
            )
        return self.years.index(number)

    def _store(self, year: int) -> Callable[[Plan], list[str]]:
        wanted = str(self.years[self._place(year)])

        def chosen(plan: Plan) -> list[str]:
            keys = [one.unit.key for one in plan.units]
            return [key for key in keys if not is_change(key) and cell_and_year(key)[1] == wanted]

        return chosen

    def _change(self, year: int) -> Callable[[Plan], list[str]]:
        place = self._place(year)
        if not place:
            raise UsageError(
                f"{year} is the first of the years, and has none before it to be compared with.",
                f"Expected one of {', '.join(map(str, self.years[1:]))}.",
                "",
            )
        wanted = str(self.years[place])

        def chosen(plan: Plan) -> list[str]:
            found = [one.unit for one in plan.units if is_change(one.unit.key) and f"/{wanted}/" in one.unit.key]
            return [*(key for unit in found for key in unit.needs), *(unit.key for unit in found)]

        return chosen

    def _make(self, only: Callable[[Plan], list[str]] | None, control: Control) -> Run:
        hooks = Hooks(control=control)
        return APPLICATION.run(
            self._params, self._options, client=self._client, listener=self._listener, hooks=hooks, only=only
        )


async def _awaited(work: Callable[[Control], T]) -> T:
    """Run something in a thread; where that is cancelled, stop it by its control, and wait until it has cleaned up."""
    control = Control()
    future = asyncio.get_running_loop().run_in_executor(None, work, control)
    try:
        return await asyncio.shield(future)
    except asyncio.CancelledError:
        control.stop("It was cancelled.")
        while not future.done():  # also where it is cancelled once more
            with suppress(asyncio.CancelledError, Exception):
                await asyncio.shield(future)
        raise
