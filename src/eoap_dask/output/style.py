"""Styles for QGIS, which takes a ``.qml`` file beside a raster of the same name when it opens that."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.etree import ElementTree as ET

if TYPE_CHECKING:
    from eoap_dask.render.images import ImageSpec


def qgis_style(spec: ImageSpec) -> bytes:
    """Return the style of an image of one band of classes: their colours, which its file has too, and their names."""
    (band,) = spec.bands
    qgis = ET.Element("qgis", version="3.0", styleCategories="Symbology")
    renderer = ET.SubElement(
        ET.SubElement(qgis, "pipe"),
        "rasterrenderer",
        {"type": "paletted", "band": "1", "opacity": "1", "alphaBand": "-1"},
    )
    palette = ET.SubElement(renderer, "colorPalette")
    for one in band.classes:
        if not one.nodata:
            entry = {"value": str(one.value), "color": f"#{one.color_hint or '000000'}".lower(), "alpha": "255"}
            ET.SubElement(palette, "paletteEntry", entry | {"label": one.title or one.name})
    ET.indent(qgis)
    body: bytes = ET.tostring(qgis, "utf-8")
    return b"<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>\n" + body + b"\n"
