"""What is known of ``crop-chips`` without importing it."""

from __future__ import annotations

from eoap_dask.applications.crop_chips.parameters import CropChipsParams
from eoap_dask.applications.entry import ON_PLATFORMS, Entry, Example, Package

CROP_CHIPS = Entry(
    name="crop-chips",
    module="eoap_dask.applications.crop_chips.application",
    function="crop_chips",
    params=CropChipsParams,
    title="Training chips of crops from Sentinel-2",
    summary="Cuts Sentinel-2 image chips and label masks from field polygons, with splits for training, validation and "
    "test, an index and a STAC catalog.",
    help="""Cut image chips and label masks for training from field polygons.

    Fields of any vector file, by default with EuroCrops' HCAT3 codes, are sorted into cells; in each some are chosen,
    by a seed, and a chip is made around them: a composite of Sentinel-2 (uint16, reflectance × 10000, 0 = no data)
    and a mask of classes (uint8, 0 = background, 255 = ignored), as Cloud-Optimized GeoTIFFs of the same name. Writes
    splits, an index (GeoParquet) and pictures, with a STAC catalog. Prints the path of the catalog.
    """,
    examples=(
        Example(
            "What would be done for Spain's fields of 2023",
            ("crop-chips --fields es_2023_all.gpkg --dry-run",),
        ),
        Example(
            "Chips of cells of 5 km, with classes of your own by the names of crops",
            ("crop-chips --fields fields.gpkg --class-attribute crop --classes table.csv --cell-size 5000",),
        ),
    ),
    page="docs/crop-chips.md",
    output_dir="crop-chips",
    package=Package(
        id="training-chips",
        file="crop-chips",
        step="cut",
        keywords=("Sentinel-2", "crops", "training data", "segmentation", "EuroCrops", "STAC", "COG", "Dask"),
        docs={
            **ON_PLATFORMS,
            "fields": "Vector file of field polygons, in any CRS.",
            "classes": "Table of classes, as CSV; without one the eight classes of EuroCrops' HCAT3 codes.",
            "cells": "Vector file of polygons that are the cells, instead of a grid.",
        },
    ),
)
