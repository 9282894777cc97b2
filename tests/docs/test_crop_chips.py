"""The page about chips: its code, from top to bottom, on the demo's farmland; with PyTorch where it is installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio

from eoap_dask.demo.fields import make_fields
from eoap_dask.demo.process import ServerProcess

PAGE = Path(__file__).parents[2] / "docs" / "crop-chips.md"
pytestmark = [pytest.mark.cluster, pytest.mark.long]

MAKE, LAZY, PLAIN, TORCHGEO = (
    part for part in re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A directory with the fields, and the chips that the page makes of them."""
    folder = tmp_path_factory.mktemp("chips")
    archive = make_fields(folder / "farm", size_px=1024)
    shutil.copy(archive.fields, folder / "fields.gpkg")
    with ServerProcess(archive) as server, pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("EOAP_DASK_STAC", server.url)
        code = MAKE.replace('fields="fields.gpkg",', f'fields="fields.gpkg", stac="{server.url}",')
        known: dict[str, Any] = {"__name__": "__main__"}
        run(code, known)
        assert len(known["index"]) > 5
        index = known["index"]
        assert list(known["vineyards"].id) == [
            one.id for one in index.itertuples() if one.split == "train" and one.pixels_vineyards > 5000
        ]
        lazy = re.sub(r'"https://\S+"', f'"{server.url}"', LAZY).replace('"-4.8,41.5,-4.6,41.7"', repr(box(archive)))
        run(lazy, known)
        chips = known["chips"]
        assert known["nir"].dtype == np.uint16
        assert chips.sizes["chip"] >= len(known["index"])
        yield folder


def run(code: str, known: dict[str, Any]) -> None:
    exec(compile(code, str(PAGE), "exec"), known)  # noqa: S102 - our own page


def box(archive: Any) -> str:
    return ",".join(str(edge) for edge in archive.aoi_bbox)


def pairs(folder: Path) -> dict[tuple[float, float], tuple[Any, Any]]:
    """Image and mask of each chip for training, by the upper left corner."""
    found = {}
    for line in (folder / "chips" / "splits" / "train.txt").read_text().split():
        with rasterio.open(folder / "chips" / line) as image:
            corner = image.bounds.left, image.bounds.top
            with rasterio.open(folder / "chips" / line.replace("/images/", "/masks/")) as mask:
                found[corner] = image.read(), mask.read(1)
    assert len(found) > 3
    return found


def test_a_plain_data_set_loads_and_trains(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    monkeypatch.chdir(place)
    known: dict[str, Any] = {}
    run(PLAIN, known)
    data, expected = known["train"].dataset, pairs(place)
    assert len(data) == len(expected)
    for (image, mask), (pixels, classes) in zip(data, expected.values(), strict=True):
        np.testing.assert_allclose(image.numpy(), pixels / 10_000, rtol=1e-6)
        np.testing.assert_array_equal(mask.numpy(), np.where((pixels == 0).all(axis=0), 255, classes))
    torch.manual_seed(1)
    model = torch.nn.Conv2d(10, 9, 1)
    step = torch.optim.Adam(model.parameters(), lr=0.3)
    images, masks = next(iter(known["train"]))
    losses = []
    for _ in range(40):
        loss = known["loss"](model(images), masks)
        step.zero_grad()
        loss.backward()
        step.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]  # there is something to learn


def test_torchgeo_loads_the_same_pixels(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")
    pytest.importorskip("torchgeo")
    # beside a build of torch for processors alone, torchvision's own operators don't load; nothing here calls them
    operators = torch.library.Library("torchvision", "FRAGMENT")
    for name in ("nms", "qnms"):
        if not hasattr(torch.ops.torchvision, name):
            operators.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    monkeypatch.chdir(place)
    known: dict[str, Any] = {"__name__": "page"}
    run(PLAIN, known)
    run(TORCHGEO, known)
    expected, seen = pairs(place), set()
    for batch in known["batches"]:
        for image, mask, bounds in zip(batch["image"], batch["mask"], batch["bounds"], strict=True):
            x, y = bounds[0].start, bounds[1].stop
            pixels, classes = expected[x, y]
            np.testing.assert_array_equal(image.numpy(), pixels)
            np.testing.assert_array_equal(mask.numpy(), classes)
            seen.add((x, y))
    assert seen == set(expected)
