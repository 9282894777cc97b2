"""Facts of an item along named axes: which fact, its spelling, where it stands, which catalogue's keys."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from pyproj import CRS

from eoap_dask.items.item import item_version, normalised, parse_time
from eoap_dask.scenes.model import Scene
from eoap_dask.scenes.parse import pass_keys, usable_scenes
from eoap_dask.scenes.sensor import sensor_for

Item = dict[str, Any]
SENSOR = sensor_for("sentinel-2-l2a")
KEYS = ("B04", "red", "B04_10m")  # Planetary Computer, Earth Search, CDSE
START = "20230601T100031"


def item(key: str, properties: Item, asset: Item, name: str = "anything") -> Item:
    place = {"proj:shape": [100, 90], "proj:transform": [10, 0, 600000, 0, -10, 4600020]}
    return {
        "type": "Feature",
        "id": name,
        "properties": {"datetime": "2023-06-01T10:00:31Z", "proj:code": "EPSG:32633", **properties},
        "links": [],
        "assets": {key: {"href": "https://a.example.org/red.tif", **place, **asset}},
    }


def read(one: Item) -> tuple[Scene | None, str]:
    """Return the scene, or the reason why there is none."""
    scenes, odd = usable_scenes([one], ["red"], SENSOR, cloud_mask=False, private_hosts=frozenset())
    assert len(scenes) + len(odd) == 1
    return (scenes[0], "") if scenes else (None, odd[0].reason)


# The baseline


def baseline_spelled(major: int, minor: int) -> dict[str, tuple[Item, str]]:
    """Return properties and id of an item, for each way to tell its baseline."""
    dotted, packed = f"{major:02}.{minor:02}", f"{major:02}{minor:02}"
    product = f"S2A_MSIL2A_{START}_N{packed}_R122_T33TVF_20230601T160000"
    granule = f"S2A_OPER_MSI_L2A_TL_2APS_20230601T160000_A041475_T33TVF_N{dotted}"
    names = ("s2:processing_baseline", "sentinel:processing_baseline", "x:processing_baseline", "processing_baseline")
    return {
        **{name: ({name: dotted}, "S2A_x") for name in names},
        "as a number": ({"s2:processing_baseline": float(dotted)}, "S2A_x"),
        "with a third part": ({"s2:processing_baseline": f"{dotted}.1"}, "S2A_x"),
        "processing:version": ({"processing:version": dotted}, "S2A_x"),
        **{name: ({name: f"{product}.SAFE"}, "x") for name in ("s2:product_uri", "sentinel:product_id", "title")},
        "id": ({}, product),
        **{name: ({name: f"GS2A_{START}_041475_N{dotted}"}, "x") for name in ("s2:datatake_id", "eopf:datatake_id")},
        **{name: ({name: granule}, "x") for name in ("s2:granule_id", "s2:tile_id")},
    }


SPELLINGS = sorted(baseline_spelled(0, 0))


@given(
    key=st.sampled_from(KEYS),
    baseline=st.tuples(st.integers(2, 12), st.integers(0, 14)),
    spelling=st.sampled_from(SPELLINGS),
    noise=st.sampled_from([{}, {"s2:processing_baseline": None}, {"processing:version": "2.11"}, {"platform": None}]),
)
def test_every_spelling_of_a_baseline_tells_the_offset(
    key: str, baseline: tuple[int, int], spelling: str, noise: Item
) -> None:
    properties, name = baseline_spelled(*baseline)[spelling]
    scene, why = read(item(key, {**noise, **properties}, {}, name))
    assert scene is not None, why
    assert scene.baseline == baseline
    assert scene.bands[0].offset == (1000 if baseline >= (4, 0) else 0)


@given(key=st.sampled_from(KEYS), spelling=st.sampled_from(SPELLINGS), also=st.sampled_from(SPELLINGS))
def test_a_toolbox_in_any_spelling_tells_none(key: str, spelling: str, also: str) -> None:
    properties, name = baseline_spelled(5, 9)[also]
    toolbox, other = baseline_spelled(99, 99)[spelling]
    whole = item(key, {**properties, **toolbox}, {}, other if spelling == "id" else name)
    if spelling == "id" and also == "id":
        whole["id"] = other
    scene, why = read(whole)
    assert scene is None
    assert "toolbox" in why
    whole["assets"][key]["raster:offset"] = -0.1
    scene, why = read(whole)
    assert scene is not None, why
    assert (scene.baseline, scene.bands[0].offset) == ((0, 0), 1000)


# What an asset's band declares


def declared(name: str, value: Any, place: str, number: int, count: int) -> tuple[Item, Item]:
    """Return properties and asset that declare a value for one of some bands, and another for the rest."""
    bands: list[Item] = [{"name": f"X{n}", name: 0} for n in range(count)]
    bands[number] = {"name": "B04", name: value}
    named = [{"name": one["name"]} for one in bands]
    if place == "item":
        return {f"raster:{name}": value}, {"bands": named}
    if place == "item, bands":
        return {"raster:bands": [{name: value}]}, {"bands": named}
    if place == "asset":
        return {}, {"bands": named, name: value}
    if place == "asset, raster:":
        return {}, {"bands": named, f"raster:{name}": value}
    if place == "raster:bands":
        return {}, {"eo:bands": named, "raster:bands": [{name: one[name]} for one in bands]}
    return {}, {"bands": bands}


PLACES = ("item", "item, bands", "asset", "asset, raster:", "raster:bands", "bands")


@given(
    key=st.sampled_from(KEYS),
    offset=st.sampled_from([-0.1, 0.0, 0.02, -0.3]),
    place=st.sampled_from(PLACES),
    count=st.integers(1, 4),
    data=st.data(),
)
def test_a_declared_offset_counts_wherever_it_stands(
    key: str, offset: float, place: str, count: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, count - 1))
    properties, asset = declared("offset", offset, place, number, count)
    # more than the baseline, which would say another thing
    told = data.draw(st.sampled_from([{}, {"s2:processing_baseline": "05.09"}, {"processing:version": "03.01"}]))
    scene, why = read(item(key, {**told, **properties}, asset))
    assert scene is not None, why
    assert scene.bands[0].band == number + 1
    assert scene.bands[0].offset == round(-offset * 10000)


@given(
    key=st.sampled_from(KEYS),
    nodata=st.integers(0, 65535),
    place=st.sampled_from(PLACES),
    count=st.integers(1, 4),
    data=st.data(),
)
def test_declared_missing_pixels_count_wherever_they_stand(
    key: str, nodata: int, place: str, count: int, data: st.DataObject
) -> None:
    number = data.draw(st.integers(0, count - 1))
    properties, asset = declared("nodata", nodata, place, number, count)
    scene, why = read(item(key, {"processing:version": "05.11", **properties}, asset))
    assert scene is not None, why
    found = scene.bands[0]
    assert (found.nodata, found.nodata_by_file) == (nodata, False)


# Projections

CODES = (32601, 32633, 32760, 3857, 4326, 2056)
NOTHING: tuple[Any, ...] = (None, "", "EPSG:None", "EPSG:null", "None", 0)


def projection_spelled(code: int, spelling: str) -> Item:
    crs = CRS.from_epsg(code)
    return {
        "proj:code": {"proj:code": f"EPSG:{code}"},
        "lower case": {"proj:code": f"epsg:{code}"},
        "proj:epsg": {"proj:epsg": code},
        "as text": {"proj:epsg": str(code)},
        "as a float": {"proj:epsg": float(code)},
        "proj:wkt2": {"proj:wkt2": crs.to_wkt()},
        "pretty": {"proj:wkt2": crs.to_wkt(pretty=True)},
        "proj:projjson": {"proj:projjson": crs.to_json_dict()},
        "projjson as text": {"proj:projjson": json.dumps(crs.to_json_dict())},
    }[spelling]


@given(
    key=st.sampled_from(KEYS),
    code=st.sampled_from(CODES),
    spelling=st.sampled_from(sorted(
        ("proj:code", "lower case", "proj:epsg", "as text", "as a float", "proj:wkt2", "pretty", "proj:projjson",
         "projjson as text"))),
    place=st.sampled_from(["item", "asset", "asset against the item's"]),
    nothing=st.sampled_from(NOTHING),
)  # fmt: skip
def test_every_spelling_of_a_projection_is_the_same(
    key: str, code: int, spelling: str, place: str, nothing: Any
) -> None:
    told: Item = {"proj:code": nothing, **projection_spelled(code, spelling)}
    other: Item = {"proj:code": "EPSG:32733"} if "against" in place else {"proj:code": nothing}
    properties, asset = (told, other) if place == "item" else (other, told)
    scene, why = read(item(key, {"processing:version": "05.11", **properties}, asset))
    assert scene is not None, why
    assert scene.bands[0].crs == f"EPSG:{code}"


# Times


@st.composite
def spelled_times(draw: st.DrawFn) -> tuple[datetime, str]:
    """Draw a moment, and a text that tells it as RFC 3339 allows."""
    micros = draw(st.sampled_from([0, 500_000, 24_000, 123_456]))
    seconds = draw(st.integers(0, 14 * 365 * 86_400))
    moment = datetime(2016, 1, 1, tzinfo=UTC) + timedelta(seconds=seconds, microseconds=micros)
    offset = draw(st.sampled_from([None, 0, 60, -150, 14 * 60, -12 * 60]))
    zone = UTC if offset is None else timezone(timedelta(minutes=offset))
    local = moment.astimezone(zone)
    text = local.strftime("%Y-%m-%d") + draw(st.sampled_from(["T", "t", " "])) + local.strftime("%H:%M:%S")
    if micros or draw(st.booleans()):
        fraction = f"{micros:06}"
        text += "." + draw(st.sampled_from([fraction, fraction + "000", fraction.rstrip("0") or "0"]))
    if offset is None:
        return moment, text + draw(st.sampled_from(["Z", "z"]))
    sign = "-" if offset < 0 else "+"
    return moment, f"{text}{sign}{abs(offset) // 60:02}:{abs(offset) % 60:02}"


@given(spelled_times())
def test_every_spelling_of_a_moment_is_that_moment(spelled: tuple[datetime, str]) -> None:
    moment, text = spelled
    assert parse_time(text) == moment


@given(st.lists(spelled_times(), min_size=2, max_size=2, unique_by=lambda one: one[0]))
def test_versions_are_compared_as_moments_and_untold_ones_are_the_oldest(told: list[tuple[datetime, str]]) -> None:
    (first, one), (second, other) = told

    def version(text: Any) -> tuple[datetime, bytes]:
        return item_version({"id": "x", "properties": {"updated": text}})

    assert (version(one) < version(other)) == (first < second)
    for untold in (None, "", "None", 5, "yesterday"):
        assert version(untold) < min(version(one), version(other))


@given(st.sampled_from([None, "", "absent"]), st.sampled_from(["sentinel-2-l2a", "other"]))
def test_no_collection_is_none_however_it_is_written(nothing: Any, linked: str) -> None:
    whole = item("B04", {}, {})
    absent = {**whole, "links": [{"rel": "collection", "href": f"https://a.example.org/collections/{linked}"}]}
    written = absent if nothing == "absent" else {**absent, "collection": nothing}
    assert normalised(written, "", strip=False) == normalised(absent, "", strip=False)


# Passes


def datatake_spelled(spelling: str, platform: str, start: str, orbit: int) -> Item:
    letter = platform[-1].upper()
    return {
        "s2": {"s2:datatake_id": f"GS2{letter}_{start}_{orbit:06}_N05.09"},
        "eopf": {"eopf:datatake_id": f"GS2{letter}_{start}_{orbit:06}_N05.11"},
        "orbit": {"platform": platform, "sat:absolute_orbit": orbit},
        "orbit, upper": {"platform": platform.upper(), "sat:absolute_orbit": float(orbit)},
        "orbit, short": {"platform": f"S2{letter}", "sat:absolute_orbit": str(orbit)},
        "granule": {"platform": platform, "s2:tile_id": f"S2{letter}_OPER_MSI_L2A_TL_X_A{orbit:06}_T33TVF_N05.09"},
        "product": {"s2:product_uri": f"S2{letter}_MSIL2A_{start}_N0509_R122_T33TVF_{start}.SAFE",
                    "sat:absolute_orbit": orbit},
    }[spelling]  # fmt: skip


WAYS = ("s2", "eopf", "orbit", "orbit, upper", "orbit, short", "granule", "product")


@given(
    ways=st.lists(st.sampled_from(WAYS), min_size=1, max_size=5),
    platform=st.sampled_from(["sentinel-2a", "sentinel-2b", "sentinel-2c"]),
    orbit=st.integers(100, 99_999),
    seed=st.randoms(use_true_random=False),
)
def test_items_of_one_datatake_share_a_pass_and_others_do_not(
    ways: list[str], platform: str, orbit: int, seed: Any
) -> None:
    mine = [
        item("B04", {"datetime": f"2023-06-01T10:0{n}:00Z", **datatake_spelled(way, platform, START, orbit)}, {})
        for n, way in enumerate(ways, 1)
    ]
    # a day later, and another platform at the same time
    other = "sentinel-2b" if platform == "sentinel-2a" else "sentinel-2a"
    next_day = datatake_spelled("s2", platform, "20230602T100031", orbit + 14)
    theirs = [
        item("B04", {"datetime": "2023-06-02T10:00:31Z", **next_day}, {}),
        item("B04", datatake_spelled("orbit", other, START, orbit), {}),
    ]  # fmt: skip
    whole = [*mine, *theirs]
    order = list(range(len(whole)))
    seed.shuffle(order)
    keys = dict(zip(order, pass_keys([whole[n] for n in order]), strict=True))
    assert len({keys[n] for n in range(len(mine))}) == 1
    assert len(set(keys.values())) == 3


def test_of_two_datatakes_of_an_orbit_the_one_that_had_begun_counts() -> None:
    first, second = (
        item("B04", {"datetime": when, "s2:datatake_id": f"GS2A_{start}_041475_N05.09"}, {})
        for when, start in (("2023-06-01T10:01:00Z", START), ("2023-06-01T10:31:00Z", "20230601T103000"))
    )
    by_orbit = [
        item("B04", {"datetime": when, "platform": "sentinel-2a", "sat:absolute_orbit": 41475}, {})
        for when in ("2023-06-01T10:29:00Z", "2023-06-01T10:32:00Z")
    ]
    keys = pass_keys([first, second, *by_orbit])
    assert keys[2:] == keys[:2]
