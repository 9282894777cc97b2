"""A mask of change as a picture that any program reads: 255 is change, 0 none, and what isn't seen is transparent."""

from __future__ import annotations

from pathlib import Path
from xml.sax.saxutils import escape

from eoap_dask.applications.change_detection.science import CHANGED, NOTHING, UNCHANGED
from eoap_dask.files import write_bytes

_BAND = """<VRTRasterBand dataType="Byte" band="{number}"><ColorInterp>{colour}</ColorInterp><ComplexSource>
<SourceFilename relativeToVRT="0">{file}</SourceFilename><SourceBand>1</SourceBand><LUT>{table}</LUT>
</ComplexSource></VRTRasterBand>"""
_GREY = {NOTHING: 0, UNCHANGED: 0, CHANGED: 255}
_ALPHA = {NOTHING: 0, UNCHANGED: 255, CHANGED: 255}


def write_mask_png(mask: Path, target: Path) -> tuple[Path, Path]:
    """Write a mask of `Change` as PNG, grey and alpha, with a world file beside it; return both.

    It goes row by row, whatever its size.
    """
    import rasterio
    import rasterio.shutil

    # what a viewer would keep beside it isn't part of a product
    with rasterio.Env(GDAL_PAM_ENABLED="NO"), rasterio.open(mask) as file:
        bands = "".join(
            _BAND.format(
                number=number,
                colour=colour,
                file=escape(str(mask.resolve())),
                table=",".join(f"{one}:{other}" for one, other in sorted(table.items())),
            )
            for number, colour, table in ((1, "Gray", _GREY), (2, "Alpha", _ALPHA))
        )
        a, b, c, d, e, f = tuple(file.transform)[:6]
        place = f"<GeoTransform>{c}, {a}, {b}, {f}, {d}, {e}</GeoTransform>"  # nobody is to warn that there is none
        xml = f'<VRTDataset rasterXSize="{file.width}" rasterYSize="{file.height}">{place}{bands}</VRTDataset>'
        with rasterio.open(xml) as shown:
            rasterio.shutil.copy(shown, target, driver="PNG")
    # steps, then the centre of the upper left pixel
    lines = (a, d, b, e, c + (a + b) / 2, f + (d + e) / 2)
    return target, write_bytes(target.with_suffix(".pgw"), "".join(f"{line:.10f}\n" for line in lines).encode())
