"""Another pair, another area: what there is of burned areas stays."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from distributed import Client

from eoap_dask import Run, burned_area_map
from eoap_dask.applications.bai.application import APPLICATION
from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.cluster.local import local_client
from eoap_dask.cluster.size import Size
from eoap_dask.errors import UsageError
from eoap_dask.run.options import RunOptions

UNIT = "bai-20210713-20210812"


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with local_client(Size(1, 1, 2 << 30)) as client:
        yield client


def files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_another_pair_is_added_and_another_area_refused(fire: Any, client: Client, tmp_path: Path) -> None:
    before, after = fire.archive.fire_pair()
    days = {item["properties"]["datetime"][:10]: item["id"] for item in fire.archive.items if "10TET" in item["id"]}
    later = max(day for day in days if day not in ("2021-07-13", "2021-08-12") and day > "2021-07-13")
    west, south, east, north = before["bbox"]
    box = f"{west},{south},{east},{north}"
    options = RunOptions(output_dir=tmp_path / "fire")

    def asked(*ids: str, **changes: Any) -> BurnedAreaParams:
        first, second = map(fire.server.item_url, ids)
        return BurnedAreaParams(
            **{"pre_fire_url": first, "post_fire_url": second, "aoi": box, "resolution": 60.0, **changes}
        )

    def run(params: BurnedAreaParams, **how: Any) -> Run:
        return burned_area_map(params, options.replace(**how), client=client)

    pair, other = (before["id"], after["id"]), (before["id"], days[later])
    run(asked(*pair))
    made = files(tmp_path)
    smaller = f"{west},{south},{(west + east) / 2},{north}"
    for params, words in (
        (asked(*pair, aoi=smaller), "was made with other parameters: aoi differs."),
        (asked(*pair, min_area_ha=2.0), "was made with other parameters: min_area_ha was 1, is 2."),
        (asked(*other), f"holds {UNIT}, which this run wouldn't make. Nothing is dropped from a product unasked."),
        (asked(*other, resolution=30.0), "was made with other parameters: resolution was 60, is 30."),
    ):
        for refused in (lambda params=params: run(params), lambda params=params: APPLICATION.dry_run(params, options)):
            with pytest.raises(UsageError) as why:
                refused()
            assert words in str(why.value)
    with pytest.raises(UsageError, match="was made with other parameters: resolution was 60, is 30"):
        run(asked(*other, resolution=30.0), update=True)
    with pytest.raises(UsageError, match=f"holds {UNIT}, which this run wouldn't make, with other parameters: resol"):
        run(asked(*other, resolution=30.0), overwrite=True)
    assert files(tmp_path) == made

    run(asked(*other), update=True)
    added = f"bai-20210713-{later.replace('-', '')}"
    assert files(tmp_path / "fire" / UNIT) == {
        name.removeprefix(f"fire/{UNIT}/"): content for name, content in made.items() if name.startswith(f"fire/{UNIT}")
    }
    catalog = json.loads((tmp_path / "fire" / "catalog.json").read_text())
    listed = [link["href"] for link in catalog["links"] if link["rel"] == "item"]
    assert listed == sorted(f"./{key}/{key}.json" for key in (UNIT, added))
    assert catalog["title"] == "Burned areas of 2 pairs"
    (state,) = APPLICATION.dry_run(asked(*pair), options.replace(update=True)).states.values()
    assert state.kind == "skip"

    run(asked(*pair, aoi=smaller), resume=False)
    assert [path.name for path in (tmp_path / "fire").iterdir() if path.is_dir()] == [UNIT]
