"""The images of `science.Burn`, described: what files, items, legends and tables say of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date

from eoap_dask.applications.bai.science import BANDS, NBR_PER_UNIT, PICKS, RDNBR_PER_UNIT
from eoap_dask.kernels.pixels import NO_NUMBER
from eoap_dask.kernels.severity import NODATA, SeverityClass
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec

NO_DATA = ClassSpec(NODATA, "nodata", "No data", "Cloud, shadow, water, snow or nothing, in either scene", nodata=True)
"""The class of what isn't compared."""

_SHOWN = tuple(BANDS[i] for i in PICKS)


def burn_images(classes: Sequence[SeverityClass], before: date, after: date) -> tuple[ImageSpec, ...]:
    """Return the images of `science.BurnImages`, in their order; the days are those of the two scenes."""
    return (
        ImageSpec(
            "bai",
            (
                BandSpec("bai_pre", "Burned Area Index before the fire", unit="1"),
                BandSpec("bai_post", "Burned Area Index after the fire", unit="1"),
                BandSpec("dbai", "Burned Area Index, after - before", unit="1"),
            ),
            "float32",
            "mean",
            float("nan"),
            title="Burned Area Index",
            expression="1 / max((0.1 - red)**2 + (0.06 - nir)**2, 1e-8)",
        ),
        _steps(
            "nbr",
            "Normalized Burn Ratio",
            "(nir - swir22) / (nir + swir22)",
            {
                "nbr_pre": "Normalized Burn Ratio before the fire",
                "nbr_post": "Normalized Burn Ratio after the fire",
            },
        ),
        _steps(
            "dnbr",
            "Change of the Normalized Burn Ratio (dNBR)",
            "nbr_pre - nbr_post",
            {"dnbr": "Differenced Normalized Burn Ratio, before - after"},
        ),
        _steps(
            "rdnbr",
            "Relative dNBR",
            "dnbr / sqrt(abs(nbr_pre))",
            {"rdnbr": "Relative dNBR, dNBR / √|NBR before|"},
            per_unit=RDNBR_PER_UNIT,
        ),
        _steps(
            "rbr",
            "Relativized Burn Ratio",
            "dnbr / (nbr_pre + 1.001)",
            {"rbr": "Relativized Burn Ratio, dNBR / (NBR before + 1.001)"},
        ),
        ImageSpec(
            "severity",
            (
                BandSpec(
                    "severity",
                    "Class of burn severity by dNBR, after Key & Benson (2006), doi:10.2737/RMRS-GTR-164",
                    classes=(NO_DATA, *map(_class, classes)),
                ),
            ),
            "uint8",
            "nearest",
            NODATA,
            title="Burn severity",
        ),
        _picture("visual-pre", f"{before:%Y-%m-%d}, before the fire"),
        _picture("visual-post", f"{after:%Y-%m-%d}, after the fire"),
    )


def _steps(name: str, title: str, expression: str, bands: Mapping[str, str], per_unit: int = NBR_PER_UNIT) -> ImageSpec:
    """Return an index that is stored in whole steps; `bands` are descriptions by name."""
    specs = tuple(BandSpec(band, text, unit="1", scale=1 / per_unit, offset=0) for band, text in bands.items())
    return ImageSpec(name, specs, "int16", "mean", NO_NUMBER, title=title, expression=expression)


def _class(one: SeverityClass) -> ClassSpec:
    return ClassSpec(one.value, one.name, one.title, f"dNBR {one.range_text}", one.colour)


def _picture(name: str, title: str) -> ImageSpec:
    bands = tuple(BandSpec(band, f"{band}, 0 to 0.3") for band in _SHOWN)
    title = f"{title}: {', '.join(_SHOWN)} as red, green, blue"
    return ImageSpec(name, bands, "uint8", "mean", 0, roles=("visual",), title=title)
