"""The page about change: its code, from top to bottom, on the demo's land."""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.demo.changes import make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.networks.architecture import TOY
from eoap_dask.networks.weights import random_weights

DOCS = Path(__file__).parents[2] / "docs"
PAGE, NETWORK_PAGE = DOCS / "change-detection.md", DOCS / "btc.md"
pytestmark = [pytest.mark.cluster, pytest.mark.long]


def test_its_code_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    product, stages, lazy = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.MULTILINE | re.DOTALL)
    land = make_changes(tmp_path / "land", rows=1, cols=3, cell_px=128, clouds=0.1)
    shutil.copy(land.cells, tmp_path / "cells.gpkg")
    monkeypatch.chdir(tmp_path)
    west, south, east, north = land.items[0]["bbox"]
    aoi = f"{west + (east - west) / 12},{north - (north - south) / 4},{west + (east - west) / 4},{north - 0.003}"
    with ServerProcess(land.root) as server:
        known: dict[str, Any] = {"stac": server.url}
        run(product.replace('grid="cells.gpkg",', f'grid="cells.gpkg", stac="{server.url}",'), known)
        assert capsys.readouterr().out.split()[::2] == [f"change_mask_grid_{cell}_2023" for cell in (463, 464, 465)]
        run(stages.replace('grid="cells.gpkg",', f'grid="cells.gpkg", stac="{server.url}",'), known)
        assert capsys.readouterr().out == "{'463': 128, '464': 128, '465': 128}\n9\n"
        run(re.sub(r'aoi = "\S+"', f'aoi = "{aoi}"', lazy), known)
    changed, score = capsys.readouterr().out.split()
    assert int(changed) > 100
    assert float(score) > 10


def test_the_code_of_the_page_about_the_network_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("torch")
    pytest.importorskip("safetensors")
    (code,) = re.findall(r"^```python\n(.*?)^```$", NETWORK_PAGE.read_text(), re.MULTILINE | re.DOTALL)
    land = make_changes(tmp_path / "land", rows=1, cols=3, cell_px=128, clouds=0.1)
    random_weights(tmp_path / "mine.safetensors", TOY)
    monkeypatch.chdir(tmp_path)
    west, south, east, north = land.items[0]["bbox"]
    aoi = f"{west + (east - west) / 12},{north - (north - south) / 4},{west + (east - west) / 4},{north - 0.003}"
    with ServerProcess(land.root) as server:
        run(re.sub(r'aoi = "\S+"', f'aoi = "{aoi}"', code), {"stac": server.url})
    score, changed = capsys.readouterr().out.split()
    assert 0 < float(score) <= 1
    assert int(changed) >= 0


def run(code: str, known: dict[str, Any]) -> None:
    exec(compile(code, str(PAGE), "exec"), known)  # noqa: S102 - our own page
