"""The images of `science.Change`, described: what files and items say of them."""

from __future__ import annotations

from eoap_dask.applications.change_detection.methods import Method
from eoap_dask.applications.change_detection.science import CHANGED, NOTHING, UNCHANGED
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec

CLASSES = (
    ClassSpec(NOTHING, "nodata", "Not seen on both dates", nodata=True),
    ClassSpec(UNCHANGED, "unchanged", "No change", colour=(225, 225, 225)),
    ClassSpec(CHANGED, "changed", "Change", colour=(213, 62, 79)),
)


def change_images(method: Method, name: str) -> tuple[ImageSpec, ...]:
    """Return score and mask, in the order of `Change`; their files begin with a name."""
    score = BandSpec("score", method.meaning, scale=method.step)
    mask = BandSpec("change", "Change, or none", classes=CLASSES)
    return (
        ImageSpec(
            f"{name}_score", (score,), "uint16", "mean", 0, key="score", title=f"Score of change: {method.title}"
        ),
        ImageSpec(name, (mask,), "uint8", "nearest", NOTHING, key="change", title="Mask of change"),
    )
