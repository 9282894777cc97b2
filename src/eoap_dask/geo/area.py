"""The area of a product: parsed, gridded and projected once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import shapely

from eoap_dask.geo.aoi import Aoi, parse_aoi
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.grid import grid_and_shape, project_aoi
from eoap_dask.geo.options import BBOX

if TYPE_CHECKING:
    from odc.geo.geobox import GeoBox

    from eoap_dask.geo.options import AreaParams


@dataclass(frozen=True)
class Area:
    """What `AreaParams` mean."""

    aoi: Aoi
    """The area; its bounding box where nothing is to be cut."""
    geobox: GeoBox
    """The grid over it."""
    shape: shapely.Geometry | None
    """What the product is cut to, in the CRS of the grid; None for a bounding box."""
    given: Any
    """The area as it was given."""

    @classmethod
    def of(cls, params: AreaParams, geobox: GeoBox | None = None) -> Area:
        """Resolve parameters without contacting anything.

        Parameters
        ----------
        params : AreaParams
            Of any application.
        geobox : GeoBox, optional
            A grid that is given; resolution and CRS of the parameters then mean nothing.

        Returns
        -------
        Area

        Raises
        ------
        AoiError, GridError
            when the area can't be read, or can't be put on such a grid
        """
        aoi = parse_aoi(params.aoi)
        if not params.clip:
            aoi = aoi.boxed()
        if geobox is None:
            geobox, shape = grid_and_shape(aoi, params.crs, params.resolution)
        else:
            shape = None if aoi.is_box else project_aoi(aoi, crs_name(geobox))
        return cls(aoi, geobox, None if aoi.is_box else shape, params.aoi)

    @property
    def json(self) -> str | dict[str, Any]:
        """The area for records: a bounding box that was given as text, or else GeoJSON, also of what a file held."""
        return text if BBOX.fullmatch(text := str(self.given)) else self.aoi.geojson
