"""The area of a product: parsed, gridded and projected once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import shapely

from eoap_dask.errors import GridError
from eoap_dask.geo.aoi import Aoi
from eoap_dask.geo.crs import crs_name, parse_crs
from eoap_dask.geo.grid import fitting_resolution, grid_and_shape, project_aoi, unit_of
from eoap_dask.geo.inside import holds_a_centre
from eoap_dask.geo.options import BBOX
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.geo.window import grid_bounds
from eoap_dask.text import option

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
    parsed: Aoi
    """What that is, whether it is cut to or not."""

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
            when the area can't be read, can't be put on such a grid, or holds no centre of its pixels
        """
        parsed, is_given = parse_aoi(params.aoi), geobox is not None
        aoi = parsed if params.clip else parsed.boxed()
        if geobox is None:
            geobox, shape = grid_and_shape(aoi, params.crs, params.resolution)
            if aoi.is_box and params.clip and not holds_a_centre(shape, geobox):
                raise _too_small(aoi, geobox, shape, is_given=False)
        else:
            shape = None if aoi.is_box else project_aoi(aoi, crs_name(geobox))
        if aoi.is_box or shape is None:
            return cls(aoi, geobox, None, params.aoi, parsed)
        is_rotated = bool(geobox.transform.b or geobox.transform.d)  # whoever reads on such a grid refuses it
        if not is_rotated and not holds_a_centre(shape, geobox):
            raise _too_small(aoi, geobox, shape, is_given=is_given)
        return cls(aoi, geobox, shape, params.aoi, parsed)

    @property
    def json(self) -> str | dict[str, Any]:
        """The area for records: a bounding box that was given as text, or else GeoJSON, also of what a file held."""
        return text if BBOX.fullmatch(text := str(self.given)) else self.parsed.geojson


def _too_small(aoi: Aoi, geobox: GeoBox, shape: shapely.Geometry, *, is_given: bool) -> GridError:
    """Return the fault of an area on whose pixels a product would be empty."""
    if not shapely.intersects(shape, shapely.box(*grid_bounds(geobox))):
        return GridError(
            "The area lies outside of the grid.", "Expected a grid over it.", f"Check {option('aoi')} and the grid."
        )
    resolution, name = abs(float(geobox.transform.a)), crs_name(geobox)
    hint = "a finer grid"
    if not is_given:
        finer = fitting_resolution(aoi, shape, name, resolution)
        hint = option("resolution", int(finer) if finer >= 1 else finer) if finer else "a larger area"
    kept, expected = "its bounding box", "Expected one at least: pixels count where their centre lies inside."
    if aoi.is_box:
        kept, expected = "every pixel that it touches", "Expected a box with one at least."
    return GridError(
        f"At {resolution:g} {unit_of(parse_crs(name))} the area holds no centre of a pixel.",
        expected,
        f"Try {hint}, or {option('clip', False)} to keep {kept}.",
    )
