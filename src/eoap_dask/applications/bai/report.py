"""What a fire comes to: hectares per class, perimeters, and one picture of it all."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely

from eoap_dask.applications.bai.images import NO_DATA
from eoap_dask.applications.bai.science import NBR_PER_UNIT, BlockNote
from eoap_dask.files import write_bytes
from eoap_dask.geo.crs import crs_name
from eoap_dask.geo.grid import pixel_hectares
from eoap_dask.geo.outlines import Perimeter, join_pieces
from eoap_dask.kernels.severity import NODATA, SeverityClass
from eoap_dask.output.picture import contact_sheet
from eoap_dask.output.style import qgis_style
from eoap_dask.scenes.sensor import sensors
from eoap_dask.stac.attribution import producers_of, source_note
from eoap_dask.stac.records import CSV, GEOJSON, PARQUET, PNG, QML

if TYPE_CHECKING:
    from geopandas import GeoDataFrame
    from odc.geo.geobox import GeoBox

    from eoap_dask.run.raster import WrittenImage
    from eoap_dask.run.unit import Unit
    from eoap_dask.scenes.model import Pass

_HA_DECIMALS = 4


@dataclass(frozen=True)
class BurnReport:
    """Areas and perimeters of a pair of scenes."""

    title: str
    dates: tuple[str, str]
    """Days before and after, as YYYY-MM-DD."""
    classes: tuple[SeverityClass, ...]
    class_pixels: tuple[int, ...]
    """By value of the class, no data first."""
    pixel_ha: float
    perimeters: tuple[Perimeter, ...]
    geobox: GeoBox
    credit: str
    """What is said of the sources."""

    @property
    def clear_pixels(self) -> int:
        """Pixels that both scenes see."""
        return sum(self.class_pixels) - self.class_pixels[NODATA]

    @property
    def hectares(self) -> dict[str, float]:
        """Hectares of each class, by its name."""
        return {c.name: self._ha(self.class_pixels[c.value]) for c in self.classes}

    @property
    def burned_ha(self) -> float:
        """Hectares of all classes that are burned."""
        return self._ha(sum(self.class_pixels[c.value] for c in self.classes if c.burned))

    @property
    def cut_perimeters(self) -> int:
        """Perimeters that touch the edge of the area or of the data."""
        return sum(p.cut for p in self.perimeters)

    def _ha(self, pixels: int) -> float:
        return round(pixels * self.pixel_ha, _HA_DECIMALS)

    def to_csv(self) -> str:
        """Return a table of the classes: value, name, title, dNBR from and to, burned, pixels, hectares."""
        text = io.StringIO()
        table = csv.writer(text, lineterminator="\n")
        table.writerow(("value", "name", "title", "dnbr_from", "dnbr_to", "burned", "pixels", "hectares"))
        pixels = self.class_pixels[NODATA]
        table.writerow(
            (NO_DATA.value, NO_DATA.name, NO_DATA.title, "", "", "", pixels, f"{self._ha(pixels):.{_HA_DECIMALS}f}")
        )
        for c in self.classes:
            pixels = self.class_pixels[c.value]
            edges = ["" if not np.isfinite(edge) else f"{edge:g}" for edge in (c.lower, c.upper)]
            burned = "yes" if c.burned else "no"
            hectares = f"{self._ha(pixels):.{_HA_DECIMALS}f}"
            table.writerow((c.value, c.name, c.title, *edges, burned, pixels, hectares))
        return text.getvalue()

    def to_geopandas(self) -> GeoDataFrame:
        """Return the perimeters in the grid's CRS: id, area_ha, dnbr_mean, pre_date, post_date, cut, geometry."""
        import geopandas

        a, _, c, _, e, f = (float(v) for v in tuple(self.geobox.transform)[:6])
        outlines = shapely.transform(
            np.array([p.outline for p in self.perimeters], object), lambda xy: xy * (a, e) + (c, f)
        )
        numbers = range(1, len(self.perimeters) + 1)
        table = {
            "id": np.array(numbers, np.int32),
            "area_ha": np.array([self._ha(p.pixels) for p in self.perimeters], float),
            "dnbr_mean": np.array([round(p.weight / p.pixels / NBR_PER_UNIT, 4) for p in self.perimeters], float),
            "pre_date": [self.dates[0] for _ in numbers],
            "post_date": [self.dates[1] for _ in numbers],
            "cut": np.array([p.cut for p in self.perimeters], bool),
        }
        return geopandas.GeoDataFrame(table, geometry=geopandas.GeoSeries(outlines, crs=crs_name(self.geobox)))


def report_on(
    notes: Sequence[BlockNote],
    classes: Sequence[SeverityClass],
    geobox: GeoBox,
    unit: Unit,
    passes: Sequence[Pass],
    min_pixels: int,
) -> BurnReport:
    """Return areas and perimeters of a pair from the notes of all its rows of tiles.

    Burned areas of fewer than `min_pixels` have no perimeter; areas are true on `geobox`.
    """
    return BurnReport(
        title=unit.title,
        dates=(f"{unit.start:%Y-%m-%d}", f"{unit.end:%Y-%m-%d}"),
        classes=tuple(classes),
        class_pixels=tuple(int(n) for n in np.sum([note.class_pixels for note in notes], axis=0)),
        pixel_ha=pixel_hectares(geobox),
        perimeters=join_pieces(
            (piece for note in notes for piece in note.pieces),
            (int(geobox.shape[0]), int(geobox.shape[1])),
            min_pixels,
            (side for note in notes for side in note.sides),
        ),
        geobox=geobox,
        credit=source_note(producers_of((s.producers for p in passes for s in p.scenes), sensors()), sensors()),
    )


def write_report(
    folder: Path, report: BurnReport, images: dict[str, WrittenImage]
) -> tuple[tuple[str, Path, str, str, tuple[str, ...]], ...]:
    """Write areas, perimeters and the picture, and return for each what `file_asset` takes."""
    table = report.to_geopandas()
    table.to_parquet(folder / "perimeters.parquet", index=False, write_covering_bbox=True)
    table.to_crs("EPSG:4326").to_file(
        folder / "perimeters.geojson",
        driver="GeoJSON",
        engine="pyogrio",
        RFC7946="YES",
        COORDINATE_PRECISION=7,
        geometry_type="Polygon",
    )
    write_bytes(folder / "areas.csv", report.to_csv().encode())
    write_bytes(folder / "severity.qml", qgis_style(images["severity"].spec))
    write_picture(folder / "picture.png", report, images)
    return (
        ("perimeters", folder / "perimeters.parquet", "Burned perimeters", PARQUET, ("data",)),
        ("perimeters-geojson", folder / "perimeters.geojson", "Burned perimeters", GEOJSON, ("data",)),
        ("areas", folder / "areas.csv", "Hectares per class of severity", CSV, ("data",)),
        ("severity-style", folder / "severity.qml", "Style of severity.tif for QGIS", QML, ("metadata",)),
        ("picture", folder / "picture.png", "Before, after, and severity", PNG, ("overview",)),
    )


def write_picture(path: Path, report: BurnReport, images: dict[str, WrittenImage]) -> Path:
    """Write both dates and the severity side by side, with legend and scale."""
    severity, pictures = images["severity"], (images["visual-pre"], images["visual-post"])
    colours = np.zeros((3, 256), np.uint8)
    for value, colour in severity.spec.palette.items():
        colours[:, value] = colour
    summary = f"{report.burned_ha:,.1f} ha burned of {report.clear_pixels * report.pixel_ha:,.1f} ha seen clearly"
    if report.perimeters:
        summary += f"; the largest perimeter has {report.perimeters[0].pixels * report.pixel_ha:,.1f} ha"
    pixels = int(report.geobox.shape[1]) / severity.smallest.shape[2]
    return contact_sheet(
        path,
        [
            *((one.spec.title.replace(": ", "\n"), one.smallest) for one in pictures),
            ("Burn severity by dNBR\nchecked: cloud, shadow, water, snow, no data", colours[:, severity.smallest[0]]),
        ],
        report.title,
        summary,
        f"Classes after Key & Benson (2006). {report.credit}",
        [(f"{c.title} ({report.hectares[c.name]:,.1f} ha)", severity.spec.palette[c.value]) for c in report.classes],
        abs(report.geobox.transform.a) * _metres(report.geobox) * pixels,
    )


def _metres(geobox: GeoBox) -> float:
    crs: Any = geobox.crs
    return float(crs.proj.axis_info[0].unit_conversion_factor)
