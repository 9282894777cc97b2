"""The pages of docs/ run: their code, from top to bottom, on the demo's fire instead of one far away."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import matplotlib as mpl
import pytest
from distributed import Client
from PIL import Image

from eoap_dask.cluster import Size, local_client

DOCS = Path(__file__).parents[1] / "docs"


def code_of(page: str) -> list[str]:
    return re.findall(r"^```python\n(.*?)^```$", (DOCS / page).read_text(), re.MULTILINE | re.DOTALL)


@pytest.mark.cluster
def test_the_page_on_burned_area(
    fire: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    mpl.use("agg")
    blocks = code_of("burned-area.md")
    assert len(blocks) >= 6
    said, names = [], {"__name__": "page"}
    with local_client(Size(1, 2, 2 << 30)) as client:
        assert Client.current() is client
        urls = dict(zip(re.findall(r'"(https://[^"]+/items/[^"]+)"', blocks[0]), fire.urls, strict=True))
        for number, block in enumerate(blocks):
            code = re.sub(r'"(https://[^"]+)"', lambda found: repr(urls[found[1]]), block)
            exec(compile(code, f"burned-area.md, block {number + 1}", "exec"), names)  # noqa: S102 - our own page
            said.append(capsys.readouterr().out)
    true = fire.archive.burned_ha("2021-08")
    assert (names["before"], names["after"]) == fire.urls
    assert names["burned_ha"] == pytest.approx(true, rel=0.02)
    assert f"{names['burned_ha']:.0f} ha burned" in said[1]
    (item,) = names["run"].items
    assert item["properties"]["eoap:burned_ha"] == pytest.approx(names["burned_ha"])
    by_title = {c.title: item["properties"]["eoap:severity_ha"][c.name] for c in names["classes"]}
    assert by_title == pytest.approx(names["hectares"])
    assert names["perimeters"].area_ha.min() >= 2
    assert 0.66 < float(names["dnbr"].max()) < 1.5
    with Image.open(tmp_path / "severity.png") as picture:
        assert len(picture.convert("RGB").getcolors(1 << 24) or []) > 6
    assert (tmp_path / "fire" / "catalog.json").is_file()
