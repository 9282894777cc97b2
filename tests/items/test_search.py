"""A search as parameters describe it, the same for every application."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
from loguru import logger

from eoap_dask.applications.bai.application import understand as understand_pair
from eoap_dask.applications.bai.parameters import BurnedAreaParams
from eoap_dask.applications.cloudless_mosaic.application import understand as understand_mosaic
from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
from eoap_dask.errors import NothingFoundError, UsageError
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.items.options import SearchParams
from eoap_dask.items.query import Query
from eoap_dask.items.search import Search

AREA = parse_aoi("10,40,11,41")
DAYS = date(2021, 7, 1), date(2021, 7, 31)


def item(number: int, cover: float) -> dict[str, object]:
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": f"scene-{number}",
        "collection": "sentinel-2-l2a",
        "geometry": AREA.geojson,
        "bbox": list(AREA.bbox),
        "properties": {"datetime": datetime(2021, 7, number, tzinfo=UTC).isoformat(), "eo:cloud_cover": cover},
        "links": [],
        "assets": {},
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Five scenes, with 10 to 50 % of cloud."""
    path = tmp_path / "items.json"
    features = [item(number, 10.0 * number) for number in range(1, 6)]
    path.write_text(json.dumps({"type": "FeatureCollection", "features": features}))
    return path


@pytest.fixture
def said() -> Iterator[list[str]]:
    lines: list[str] = []
    logger.enable("eoap_dask")
    sink = logger.add(lambda line: lines.append(str(line)), format="{level}: {message}", level="INFO")
    yield lines
    logger.remove(sink)
    logger.disable("eoap_dask")


@pytest.mark.parametrize("limit", [0.0, -1.0, 100.5, float("nan")])
def test_one_rule_for_the_cloud_limit(limit: float) -> None:
    """No scene has less than 0 %, so that a limit of 0 would be a search in vain, wherever it is given."""
    sentence = rf"^max_cloud_cover must be more than 0 and at most 100, got {limit:g}\. It is in percent"
    for ask in (
        lambda: Query(max_cloud_cover=limit),
        lambda: Search.of(SearchParams(max_cloud_cover=limit)),
        lambda: understand_mosaic(MosaicParams(max_cloud_cover=limit)),
        lambda: understand_pair(BurnedAreaParams(max_cloud_cover=limit)),
    ):
        with pytest.raises(UsageError, match=sentence):
            ask()
    assert Search.of(SearchParams(max_cloud_cover=1e-9)).wanted.max_cloud_cover == 1e-9


@pytest.mark.parametrize(
    ("params", "sentence"),
    [
        (SearchParams(max_items=0), "max_items must be 1 or more, got 0"),
        (SearchParams(filter="eo:cloud_cover <"), "can't be read"),
        (SearchParams(stac=""), "stac is empty"),
        (SearchParams(items="nowhere.json"), "There is no file or directory 'nowhere.json', given as items"),
        (SearchParams(stac="nowhere.json", items="/"), "given as stac"),
    ],
)
def test_what_is_refused_before_anything_is_asked(params: SearchParams, sentence: str) -> None:
    with pytest.raises(UsageError) as refused:
        Search.of(params)
    assert sentence in str(refused.value)


def test_where_items_come_from(path: Path) -> None:
    url = "http://127.0.0.1:9/stac"
    asked = Search.of(SearchParams(stac=f" {url}/ "))
    assert (asked.given_as, asked.source, asked.private_hosts) == ("stac", url, {"127.0.0.1"})
    given = Search.of(SearchParams(stac=url, items=str(path)))
    assert (given.given_as, given.source) == ("items", str(path))
    assert given.private_hosts == {"127.0.0.1"}  # where items.json of an earlier run may lead


def test_limits_are_of_every_query(path: Path) -> None:
    search = Search.of(SearchParams(items=str(path), max_items=7, max_cloud_cover=35, filter="eo:cloud_cover > 15"))
    query = search.query(AREA, *DAYS)
    assert query == Query("sentinel-2-l2a", AREA, *DAYS, 35, 7, "eo:cloud_cover > 15")
    assert [one["id"] for one in search.find(query)] == ["scene-2", "scene-3"]


def test_a_search_that_is_cut_is_said(path: Path, said: list[str]) -> None:
    search = Search.of(SearchParams(items=str(path), max_items=2, max_cloud_cover=100))
    assert [one["id"] for one in search.find(search.query(AREA, *DAYS), "before the flood")] == ["scene-4", "scene-5"]
    assert said == [
        f"INFO: Reading {path}\n",
        "WARNING: The search before the flood was cut at 2 items: some are missing. "
        "Try a larger max_items, or fewer dates.\n",
    ]


def test_why_nothing_was_found(path: Path) -> None:
    search = Search.of(SearchParams(items=str(path), max_cloud_cover=5))
    query = search.query(AREA, *DAYS)
    why = "Lowest cloud cover seen: 10 %. Try max_cloud_cover=20."
    with pytest.raises(NothingFoundError) as plain:
        search.find(query)
    assert str(plain.value) == (f"No items of sentinel-2-l2a from 2021-07-01 to 2021-07-31 over 10,40,11,41. {why}")
    with pytest.raises(NothingFoundError) as told:
        search.find(query, "before the flood", "Or try a larger window_days.")
    assert str(told.value) == (
        "No items of sentinel-2-l2a before the flood, 2021-07-01 to 2021-07-31, over 10,40,11,41. "
        f"{why} Or try a larger window_days."
    )
