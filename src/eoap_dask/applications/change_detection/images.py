"""The images of `science.Change`, described: what files and items say of them."""

from __future__ import annotations

from eoap_dask.applications.change_detection.methods import Method
from eoap_dask.applications.change_detection.science import CHANGED, NOTHING, SCORE_STEP, UNCHANGED
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec

CLASSES = (
    ClassSpec(NOTHING, "nodata", "Not seen on both dates", nodata=True),
    ClassSpec(UNCHANGED, "unchanged", "No change", colour=(225, 225, 225)),
    ClassSpec(CHANGED, "changed", "Change", colour=(213, 62, 79)),
)


def change_images(method: Method) -> tuple[ImageSpec, ...]:
    """Return score and mask, in the order of `Change`."""
    score = BandSpec("score", "Standard deviations of no change", scale=SCORE_STEP)
    return (
        ImageSpec("score", (score,), "uint16", "mean", 0, title=f"Score of change: {method.title}"),
        ImageSpec(
            "change",
            (BandSpec("change", "Change, or none", classes=CLASSES),),
            "uint8",
            "nearest",
            NOTHING,
            title="Mask of change",
        ),
    )
