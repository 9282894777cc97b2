"""The clearest pass before and after: known by hand, and no matter in which order items come."""

from datetime import date

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping, shape

from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import NothingFoundError
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.items.find import find_items
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.query import Query
from eoap_dask.scenes.clearest import DayWindow, clearest_pass

AOI = parse_aoi("10,0,12,1")  # at the equator, so that degrees are areas
PRE = DayWindow(date(2021, 7, 10), date(2021, 7, 5), date(2021, 7, 15))
POST = DayWindow(date(2021, 8, 10), date(2021, 8, 5), date(2021, 8, 15))


def scene(day, cover=10.0, bounds=(10, 0, 12, 1), tile="33ABC", month=7, start="100000", baseline="0300", suffix=""):
    """An item of the pass of a day, named as ESA names products."""
    when = f"2021{month:02}{day:02}T{start}"
    name = f"S2A_MSIL2A_{when}_N{baseline}_R001_T{tile}_20210101T000000{suffix}"
    properties = {"datetime": f"2021-{month:02}-{day:02}T{start[:2]}:{start[2:4]}:30Z", "platform": "Sentinel-2A"}
    if cover is not None:
        properties["eo:cloud_cover"] = cover
    return {
        "type": "Feature",
        "id": name,
        "collection": "sentinel-2-l2a",
        "geometry": mapping(box(*bounds)),
        "properties": properties,
        "links": [],
        "assets": {},
    }


def chosen(*items, window=PRE, aoi=AOI):
    return clearest_pass(items, aoi, window, "before")


def test_coverage_comes_first_in_steps_of_a_percent():
    clear_but_small = scene(10, 0, (10, 0, 11.9, 1))  # 95 %
    cloudy = scene(12, 90)
    found = chosen(clear_but_small, cloudy)
    assert found.ids == (cloudy["id"],)
    assert found.covered_pct == pytest.approx(100)
    almost = scene(13, 5, (10, 0, 11.998, 1))  # 99.9 %, in the same step as 99.2 % and not as 100 %
    also = scene(9, 3, (10, 0, 11.984, 1))
    assert chosen(almost, also).ids == (also["id"],)
    assert chosen(almost, also, cloudy).ids == (cloudy["id"],)


def test_clouds_come_second_weighted_by_the_area_that_each_scene_covers():
    one = [scene(8, 40, (10, 0, 10.5, 1), "33AAA"), scene(8, 4, (10.5, 0, 12, 1), "33BBB")]
    other = scene(11, 14)
    found = chosen(*one, other)
    assert found.cloud_cover_pct == pytest.approx((40 * 0.5 + 4 * 1.5) / 2)  # 13
    assert found.ids == tuple(item["id"] for item in one)
    assert found.covered_pct == pytest.approx(100)
    outside = scene(8, 100, (9, 0, 10.5, 1), "33AAA")  # only its part over the area has weight
    assert chosen(outside, one[1]).cloud_cover_pct == pytest.approx((100 * 0.5 + 4 * 1.5) / 2)


def test_then_the_date_then_the_key():
    assert chosen(scene(8), scene(11), scene(5)).ids == (scene(11)["id"],)
    assert chosen(scene(8), scene(12)).ids == (scene(8)["id"],)
    earlier, later = scene(9, start="100000"), scene(9, start="110000")
    assert chosen(later, earlier).ids == (earlier["id"],)


def test_a_cover_that_is_not_known_is_the_worst():
    found = chosen(scene(10, None), scene(14, 99))
    assert found.cloud_cover_pct == 99
    alone = chosen(scene(10, None))
    assert alone.cloud_cover_pct is None
    assert "cloud cover unknown; the only pass." in alone.why


def test_older_processings_do_not_count():
    old, new = scene(10, 0, baseline="0300"), scene(10, 50, baseline="0500")
    assert chosen(old, new).ids == (new["id"],)
    halves = [scene(10, 0, (10, 0, 11, 1), suffix="_1"), scene(10, 0, (11, 0, 12, 1), suffix="_2")]
    assert len(chosen(*halves).ids) == 2  # parts of one view


def test_areas_are_those_on_earth():
    """From the equator to 60° lies most of the ground up to 80°: sin 60° / sin 80°, not 60 / 80."""
    aoi = parse_aoi("10,0,12,80")
    found = chosen(scene(10, 5, (10, 0, 12, 60)), aoi=aoi)
    assert found.covered_pct == pytest.approx(100 * 0.8660254 / 0.9848078, abs=1e-4)


def test_across_the_antimeridian():
    aoi = parse_aoi("179,0,-179,1")
    east, west = scene(10, 10, (179, 0, 180, 1), "01AAA"), scene(10, 30, (-180, 0, -179, 1), "60AAA")
    found = chosen(east, west, aoi=aoi)
    assert found.covered_pct == pytest.approx(100)
    assert found.cloud_cover_pct == pytest.approx(20)


def test_a_pass_over_midnight_is_one():
    late, early = scene(15, 10, (10, 0, 11, 1), "33AAA", start="235900"), scene(15, 10, (11, 0, 12, 1), "33BBB")
    early = early | {"id": late["id"].replace("T33AAA", "T33BBB")}
    early["properties"]["datetime"] = "2021-07-16T00:00:10Z"
    assert len(chosen(late, early).ids) == 2


MANY = [
    scene(day, cover, (10, 0, east, 1), tile)
    for day, cover, east, tile in [
        (6, 10, 12, "33AAA"),
        (7, 10, 12, "33AAA"),
        (10, 10, 11.995, "33AAA"),
        (13, 10, 12, "33AAA"),
        (13, 10, 12, "33BBB"),
        (14, 3.3, 11, "33AAA"),
        (15, None, 12, "33AAA"),
        (25, 0, 12, "33AAA"),
    ]
]


@settings(deadline=None)
@given(st.permutations(MANY))
def test_the_order_of_items_has_no_say(items):
    found = chosen(*items)
    assert found.ids == (MANY[1]["id"],)
    assert found == chosen(*MANY)


def test_a_pair_and_why():
    items = ItemSet((scene(8, 2.5), scene(11, 40), scene(12, 7, month=8), scene(20, 0, month=8)), "x", "sentinel-2-l2a")
    before, after = (clearest_pass(items.features, AOI, window) for window in (PRE, POST))
    assert before.ids == (scene(8)["id"],)
    assert after.ids == (scene(12, month=8)["id"],)
    assert before.why == (
        f"{scene(8)['id']} of 2021-07-08 10:00 UTC, 2 days before 2021-07-10: "
        "covers 100 % of the area, 2.5 % cloud; the clearest of 2 passes."
    )
    assert after.why.startswith("S2A_MSIL2A_20210812")
    assert after.why.endswith("2 days after 2021-08-10: covers 100 % of the area, 7 % cloud; the only pass.")


def test_what_cannot_be_chosen():
    items = ItemSet((scene(8), scene(30, bounds=(50, 0, 51, 1)), scene(9, bounds=(12, 0, 13, 1))), "x", "c")
    with pytest.raises(NothingFoundError, match="in the window after, 2021-08-05 to 2021-08-15") as caught:
        clearest_pass(items.features, AOI, POST, "after")
    assert caught.value.exit_code == 3
    with pytest.raises(NothingFoundError, match="in the window before"):
        clearest_pass(items.features[1:], AOI, PRE, "before")  # it only touches the area


def test_with_the_demo(archive):
    """Real items of the demo, by HTTP: what is chosen is the least cloudy of those that cover the most."""
    with DemoServer(archive) as server:
        items = find_items(server.url, Query(archive.collection))
    aoi = parse_aoi([float(edge) for edge in _inner(items)])
    days = sorted({item["properties"]["datetime"][:10] for item in items})
    middle = date.fromisoformat(days[len(days) // 2])
    pre = DayWindow(middle, date.fromisoformat(days[0]), middle)
    post = DayWindow(middle, date.fromordinal(middle.toordinal() + 1), date.fromisoformat(days[-1]))
    for window in (pre, post):
        choice = clearest_pass(items.features, aoi, window)
        assert choice.covered_pct == pytest.approx(100)
        assert choice.datetime in window
        passes = {}
        for item in items:
            is_inside = window.first.isoformat() <= item["properties"]["datetime"][:10] <= window.last.isoformat()
            if is_inside and shape(item["geometry"]).contains(aoi.geometry):
                # of a scene that was processed twice, once; both have the same cover
                passes.setdefault(item["id"][:26], {})[item["id"][32:38]] = item["properties"]["eo:cloud_cover"]
        assert len(passes) > 1
        # each item of a pass shows all of the area, so that all have the same weight
        clearest = min(sum(covers.values()) / len(covers) for covers in passes.values())
        assert choice.cloud_cover_pct == pytest.approx(clearest, abs=1e-5)


def _inner(items):
    """A tiny box in the middle of the first item."""
    west, south, east, north = items.features[0]["bbox"]
    x, y = (west + east) / 2, (south + north) / 2
    return x - 0.0005, y - 0.0005, x + 0.0005, y + 0.0005
