"""STAC out: valid, self-contained, read by others, the same each time; footprints anywhere on the globe."""

from __future__ import annotations

import hashlib
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import pytest
import rasterio
from affine import Affine
from hypothesis import given
from hypothesis import strategies as st
from pystac.errors import STACValidationError
from pystac.validation.stac_validator import JsonSchemaSTACValidator
from shapely.geometry import Point, shape

from eoap_dask.files import dump_json, sha256_of
from eoap_dask.geo.footprint import footprint_4326, union_bbox
from eoap_dask.render.images import BandSpec, ClassSpec, ImageSpec
from eoap_dask.scenes.credit import producers
from eoap_dask.scenes.sensor import Provider, Terms, sensor_for
from eoap_dask.stac.attribution import credit, processor, producers_of, source_note
from eoap_dask.stac.catalog import build_catalog, build_collection, write_catalog
from eoap_dask.stac.document import CLASSIFICATION, EO, FILE, PROCESSING, PROJECTION, RASTER, RENDER
from eoap_dask.stac.item import build_item, multihash_sha256, write_item
from eoap_dask.stac.records import COG, EO_COMMON_NAMES, PNG, AssetRecord, ItemRecord, RenderRecord

pytestmark = pytest.mark.usefixtures("offline")

NOT_HERE = {EO, RASTER, PROCESSING}
"""Extensions whose schema isn't among ours; see schemas/README.md and `check_by_hand`."""

UTM = (10.0, 0.0, 600000.0, 0.0, -10.0, 4600000.0)
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
SOURCE = "https://earth-search.aws.element84.com/v1/collections/sentinel-2-l2a/items/S2B_10TFK_20210713_0_L2A"


def validate(validator: JsonSchemaSTACValidator, document: dict[str, Any]) -> None:
    kinds = {"Feature": "ITEM", "Collection": "COLLECTION", "Catalog": "CATALOG"}
    extensions = document.get("stac_extensions", [])
    here = [extension for extension in extensions if extension in validator.schema_cache]
    assert set(extensions) - set(here) <= NOT_HERE
    validator.validate(document, pystac.STACObjectType[kinds[document["type"]]], "1.1.0", here)
    check_by_hand(document)


def check_by_hand(document: dict[str, Any]) -> None:
    """What the extensions eo v2, raster v2 and processing v1.2 ask for, as far as our fields go."""
    extensions = set(document.get("stac_extensions", []))
    properties = document.get("properties", {})
    assets = document.get("assets", document.get("item_assets", {}))
    bands = [band for asset in assets.values() for band in asset.get("bands", [])]
    for prefix, extension in (("eo:", EO), ("raster:", RASTER)):
        used = [key for band in bands for key in band if key.startswith(prefix)]
        assert bool(used) == (extension in extensions)
        assert set(used) <= {"eo:common_name", "raster:scale", "raster:offset"}
    for band in bands:
        assert band.get("eo:common_name", "red") in EO_COMMON_NAMES
        assert all(isinstance(band.get(key, 1), int | float) for key in ("raster:scale", "raster:offset"))
    if document["type"] == "Feature":
        assert PROCESSING in extensions
        assert isinstance(properties["processing:software"], dict)
        assert all(isinstance(version, str) for version in properties["processing:software"].values())
        for key in ("processing:level", "processing:lineage", "processing:version", "processing:datetime"):
            assert isinstance(properties[key], str)
        for asset in assets.values():
            if "processing:expression" in asset:
                assert set(asset["processing:expression"]) == {"format", "expression"}


S2 = sensor_for("sentinel-2-l2a")
STATISTICS = {"minimum": 1, "maximum": 9000, "mean": 1234.5, "stddev": 10.25, "valid_percent": 99.5}


def reflectance(*names: str) -> ImageSpec:
    bands = (BandSpec(name, f"Surface reflectance, {name}", name, scale=0.0001, offset=0.0) for name in names)
    return ImageSpec("2021-07", tuple(bands), "uint16", "mean", 0)


def asset(key: str, image: ImageSpec | None = None, **more: Any) -> AssetRecord:
    fields: dict[str, Any] = {
        "key": key,
        "filename": f"{key}.tif",
        "title": key.title(),
        "media_type": COG,
        "roles": ("data",),
        "image": image,
        "size": 123,
        "sha256": hashlib.sha256(key.encode()).hexdigest(),
        "shape": (100, 200),
        "transform": UTM,
    }
    return AssetRecord(**{**fields, **more})


def record(**more: Any) -> ItemRecord:
    geometry, bbox = footprint_4326("EPSG:32610", UTM, (100, 200))
    rgb = tuple(BandSpec(name, common_name=name) for name in ("red", "green", "blue"))
    fields: dict[str, Any] = {
        "id": "2021-07",
        "title": "July 2021",
        "start": datetime(2021, 7, 1, tzinfo=UTC),
        "end": datetime(2021, 7, 31, 23, 59, 59, tzinfo=UTC),
        "crs": "EPSG:32610",
        "shape": (100, 200),
        "transform": UTM,
        "geometry": geometry,
        "bbox": bbox,
        "assets": (
            asset("data", reflectance("red", "nir"), filename="2021-07.tif", statistics=(STATISTICS, STATISTICS)),
            asset("count", ImageSpec("count", (BandSpec("count", unit="1"),), "uint16", "nearest", None)),
            asset("visual", ImageSpec("visual", rgb, "uint8", "mean", 0), roles=("visual",), title="True colour"),
            asset(
                "thumbnail",
                filename="thumbnail.png",
                media_type=PNG,
                roles=("thumbnail",),
                shape=None,
                transform=None,
            ),
        ),
        "lineage": "Median of clear observations.",
        "derived_from": (SOURCE, "S2A_10TFK_20210708_0_L2A"),
        "properties": {"eoap:digest": "abc", "platform": "sentinel-2b", "constellation": "sentinel-2"},
    }  # fmt: skip
    return ItemRecord(**{**fields, **more})


def build(item: ItemRecord | None = None, now: datetime = NOW) -> dict[str, Any]:
    return build_item(item or record(), collection_id="mosaic", software_version="0.1.0", now=now)


def write(root: Path, *items: dict[str, Any]) -> Path:
    note, makers, links = credit(items, [S2])
    for item in items:
        (root / item["id"]).mkdir(parents=True)
        for entry in item["assets"].values():
            (root / item["id"] / entry["href"]).write_bytes(b"x")
        write_item(root / item["id"], item)
    collection = build_collection(
        "mosaic",
        "Cloudless mosaic",
        note,
        items,
        providers=[*makers, processor("0.1.0")],
        keywords=["mosaic"],
        license_links=links,
    )
    catalog = build_catalog("cloudless-mosaic", "Cloudless mosaic", "Two months.", items)
    return write_catalog(root, collection=collection, catalog=catalog)


def test_item_is_valid(validator: JsonSchemaSTACValidator) -> None:
    item = build()
    assert item["stac_extensions"] == sorted([EO, FILE, PROCESSING, PROJECTION, RASTER, RENDER])
    validate(validator, item)


BREAKAGES = {
    "proj:shape a string": lambda item: item["properties"].update({"proj:shape": "100, 200"}),
    "proj:shape of an asset": lambda item: item["assets"]["data"].update({"proj:shape": [1, 2, 3]}),
    "no geometry": lambda item: item.pop("geometry"),
    "no datetime": lambda item: item["properties"].pop("datetime"),
    "href missing": lambda item: item["assets"]["data"].pop("href"),
    "file:size a string": lambda item: item["assets"]["data"].update({"file:size": "123"}),
    "file:checksum not a multihash": lambda item: item["assets"]["data"].update({"file:checksum": "xyz"}),
    "renders without assets": lambda item: item["properties"]["renders"]["visual"].pop("assets"),
    "renders gone": lambda item: item["properties"].pop("renders"),
    "data_type unknown": lambda item: item["assets"]["data"]["bands"][0].update({"data_type": "u2"}),
    "statistics a string": lambda item: item["assets"]["data"]["bands"][0].update({"statistics": "no"}),
}


@pytest.mark.parametrize("breakage", BREAKAGES)
def test_a_broken_item_is_not(validator: JsonSchemaSTACValidator, breakage: str) -> None:
    item = json.loads(json.dumps(build()))
    BREAKAGES[breakage](item)
    with pytest.raises(STACValidationError):
        validate(validator, item)


def test_fields_of_the_item() -> None:
    item = build()
    properties = item["properties"]
    assert properties["datetime"] == properties["start_datetime"] == "2021-07-01T00:00:00Z"
    assert properties["end_datetime"] == "2021-07-31T23:59:59Z"
    assert properties["proj:code"] == "EPSG:32610"
    assert properties["proj:shape"] == [100, 200]
    assert properties["proj:transform"] == list(UTM)
    assert properties["proj:bbox"] == [600000.0, 4599000.0, 602000.0, 4600000.0]
    assert properties["processing:level"] == "L3"
    assert properties["processing:software"] == {"eoap-dask": "0.1.0"}
    assert properties["eoap:digest"] == "abc"
    assert properties["eoap:derived_from"] == ["S2A_10TFK_20210708_0_L2A"]
    assert properties["renders"] == {
        "visual": {
            "title": "True colour",
            "assets": ["visual"],
            "bidx": [1, 2, 3],
            "rescale": [[0, 255]] * 3,
            "nodata": 0,
        }
    }
    assert item["links"] == [
        {"rel": "root", "href": "../catalog.json", "type": "application/json"},
        {"rel": "parent", "href": "../catalog.json", "type": "application/json"},
        {"rel": "collection", "href": "../collection.json", "type": "application/json"},
        {
            "rel": "derived_from",
            "href": SOURCE,
            "type": "application/geo+json",
            "title": "S2B_10TFK_20210713_0_L2A",
        },
    ]
    data = item["assets"]["data"]
    assert data["href"] == "./2021-07.tif"
    assert data["type"] == "image/tiff; application=geotiff; profile=cloud-optimized"
    assert data["file:checksum"] == "1220" + hashlib.sha256(b"data").hexdigest()
    assert data["bands"][0] == {
        "name": "red",
        "description": "Surface reflectance, red",
        "data_type": "uint16",
        "nodata": 0,
        "statistics": {
            "minimum": 1.0, "maximum": 9000.0, "mean": 1234.5, "stddev": 10.25, "valid_percent": 99.5
        },
        "eo:common_name": "red",
        "raster:scale": 0.0001,
        "raster:offset": 0.0,
    }  # fmt: skip
    assert "proj:shape" not in item["assets"]["thumbnail"]
    assert "bands" not in item["assets"]["thumbnail"]


def test_awkward_items_are_valid_too(validator: JsonSchemaSTACValidator) -> None:
    """No band with a common name, nodata NaN, nothing valid, no CRS code, no picture, an expression."""
    empty = {"minimum": float("nan"), "maximum": float("inf"), "valid_percent": 0.0}
    bands = (BandSpec("bai", common_name="bai", unit="1"),)
    bai = ImageSpec("bai", bands, "float32", "mean", float("nan"), expression="1 / (r + n)")
    wkt = rasterio.crs.CRS.from_string("+proj=laea +lat_0=40 +lon_0=-120").to_wkt()
    item = build(record(assets=(asset("bai", bai, statistics=(empty,)),), crs=wkt, derived_from=()))
    validate(validator, item)
    assert EO not in item["stac_extensions"]
    assert RASTER not in item["stac_extensions"]
    assert RENDER not in item["stac_extensions"]
    assert item["properties"]["proj:code"] is None
    assert item["properties"]["proj:wkt2"] == wkt
    assert item["assets"]["bai"]["bands"] == [
        {
            "name": "bai",
            "data_type": "float32",
            "nodata": "nan",
            "unit": "1",
            "statistics": {"valid_percent": 0.0},
        }
    ]
    assert item["assets"]["bai"]["processing:expression"] == {"format": "python", "expression": "1 / (r + n)"}
    dump_json(item)  # strict: no NaN


def test_classes_are_told_with_their_pixels(validator: JsonSchemaSTACValidator) -> None:
    """The number of pixels only where it was counted, the colour only where there is one."""
    classes = (ClassSpec(0, "none", "Nothing", nodata=True), ClassSpec(7, "fire", "Fire", "Hot", (255, 0, 10)))
    image = ImageSpec("kind", (BandSpec("kind", classes=classes),), "uint8", "nearest", 0)
    item = build(record(assets=(asset("kind", image, class_pixels={7: 0}),)))
    validate(validator, item)
    assert CLASSIFICATION in item["stac_extensions"]
    assert item["assets"]["kind"]["bands"][0]["classification:classes"] == [
        {"value": 0, "name": "none", "title": "Nothing", "nodata": True},
        {"value": 7, "name": "fire", "title": "Fire", "description": "Hot", "color_hint": "FF000A", "count": 0},
    ]


def test_renders_that_are_given(validator: JsonSchemaSTACValidator) -> None:
    ndvi = RenderRecord("ndvi", "NDVI", ("data",), rescale=((-1, 1),), colormap_name="rdylgn")
    item = build(record(renders=(ndvi,)))
    validate(validator, item)
    assert item["properties"]["renders"] == {
        "ndvi": {"title": "NDVI", "assets": ["data"], "rescale": [[-1, 1]], "colormap_name": "rdylgn"}
    }


def test_times_are_written_in_utc() -> None:
    east = timezone(timedelta(hours=2))
    item = build(record(start=datetime(2021, 7, 1, 1, tzinfo=east)))
    assert item["properties"]["datetime"] == "2021-06-30T23:00:00Z"
    with pytest.raises(ValueError, match="must have a time zone"):
        build(record(start=datetime(2021, 7, 1)))  # noqa: DTZ001


@pytest.mark.parametrize("identifier", ["", "A", "a/b", "../a", ".a", "a b"])
def test_ids_are_lower_case_and_name_a_file(identifier: str) -> None:
    with pytest.raises(ValueError, match="An id must be lower case"):
        build(record(id=identifier))
    with pytest.raises(ValueError, match="An id must be lower case"):
        build_catalog(identifier, "", "", [])
    with pytest.raises(ValueError, match="An id must be lower case"):
        build_collection(identifier, "", "", [build()])


def test_two_runs_differ_in_the_time_of_processing_only() -> None:
    first, second = build(), build(now=NOW + timedelta(hours=1))
    differing = {key for key in first["properties"] if first["properties"][key] != second["properties"][key]}
    assert differing == {"processing:datetime"}
    second["properties"]["processing:datetime"] = first["properties"]["processing:datetime"]
    assert dump_json(first) == dump_json(second)


def test_what_a_checksum_must_be(tmp_path: Path) -> None:
    path = tmp_path / "f"
    path.write_bytes(b"abc")
    known = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert sha256_of(path) == known
    assert multihash_sha256(known.upper()) == "1220" + known
    with pytest.raises(ValueError, match="A SHA-256 must be 64"):
        multihash_sha256("1220" + known)


def test_catalog_opens_and_validates(tmp_path: Path, validator: JsonSchemaSTACValidator) -> None:
    august = replace(
        record(),
        id="2021-08",
        title="August 2021",
        start=datetime(2021, 8, 1, tzinfo=UTC),
        end=datetime(2022, 1, 31, tzinfo=UTC),
    )
    path = write(tmp_path / "out", build(), build(august))
    for document in sorted((tmp_path / "out").rglob("*.json")):
        content = json.loads(document.read_text())
        validate(validator, content)
        assert not [link for link in content["links"] if link["rel"] == "self"]
        assert all(
            link["href"].startswith((".", "https://")) and not Path(link["href"]).is_absolute()
            for link in content["links"]
        )

    catalog = pystac.Catalog.from_file(path)
    items = list(catalog.get_items())
    assert [item.id for item in items] == ["2021-07", "2021-08"]
    # once each for whoever walks down through the collection as well
    assert [item.id for item in catalog.get_items(recursive=True)] == ["2021-07", "2021-08"]
    (collection,) = catalog.get_children()
    assert collection.id == "mosaic"
    for item in items:
        assert item.get_collection().id == "mosaic"
        assert item.get_root().id == item.get_parent().id == "cloudless-mosaic"
        for entry in item.get_assets().values():
            assert Path(entry.get_absolute_href()).exists()
    assert {link.rel for link in collection.links} >= {"root", "parent", "license"}


def test_catalog_can_be_moved_and_copied(tmp_path: Path) -> None:
    write(tmp_path / "out", build())
    (tmp_path / "out").rename(tmp_path / "elsewhere")
    catalog = pystac.Catalog.from_file(tmp_path / "elsewhere" / "catalog.json")
    copy = catalog.full_copy()
    copy.normalize_hrefs(str(tmp_path / "copy"))
    copy.save(catalog_type=pystac.CatalogType.SELF_CONTAINED)
    again = pystac.Catalog.from_file(tmp_path / "copy" / "catalog.json")
    assert [item.id for item in again.get_items(recursive=True)] == ["2021-07"]


def test_the_collection_tells_what_the_items_have_in_common(validator: JsonSchemaSTACValidator) -> None:
    late = build(record(id="b", start=datetime(2022, 1, 1, tzinfo=UTC), end=datetime(2022, 2, 1, tzinfo=UTC)))
    note, makers, links = credit([build(), late], [S2])
    assert note == "Contains modified Copernicus Sentinel data 2021-2022."
    collection = build_collection(
        "c", "C", note, [late, build()], providers=[*makers, processor("1")], license_links=links
    )
    validate(validator, collection)
    assert collection["license"] == "other"
    assert collection["extent"]["temporal"]["interval"] == [["2021-07-01T00:00:00Z", "2022-02-01T00:00:00Z"]]
    assert collection["extent"]["spatial"]["bbox"] == [build()["bbox"]]
    assert collection["summaries"] == {
        "platform": ["sentinel-2b"],
        "constellation": ["sentinel-2"],
        "proj:code": ["EPSG:32610"],
        "processing:level": ["L3"],
    }
    assert "statistics" not in json.dumps(collection)
    assert list(collection["item_assets"]) == ["data", "count", "visual", "thumbnail"]
    assert [link["rel"] for link in collection["links"]] == ["root", "parent", "license"]
    assert credit([build()], [S2])[0] == "Contains modified Copernicus Sentinel data 2021."
    with pytest.raises(ValueError, match="needs at least one item"):
        build_collection("c", "", "", [])


@pytest.mark.parametrize(
    ("properties", "says"),
    [
        ({}, "Contains modified Copernicus Sentinel data."),
        ({"platform": "Sentinel-2B", "providers": "ESA"}, "Contains modified Copernicus Sentinel data."),
        ({"providers": [{"name": "ESA", "roles": ["producer"]}]}, "Contains modified Copernicus Sentinel data."),
        # who only hosts it didn't make it
        ({"providers": [{"name": "Microsoft", "roles": ["host"]}]}, "Contains modified Copernicus Sentinel data."),
        (
            {"providers": [{"name": "A", "roles": ["producer"]}], "platform": "sentinel-2a"},
            "Sentinel data. Contains data of A.",
        ),
        ({"providers": [{"name": "A", "roles": ["licensor"]}], "platform": "sentinel-2a"}, "Contains data of A."),
        ({"platform": "S2A", "constellation": "Sentinel-2"}, "Contains modified Copernicus Sentinel data."),
        ({"platform": "landsat-8"}, "Contains data of landsat-8."),
        ({"platform": ["x"], "providers": [3, {"name": "B", "roles": [{}]}, {"roles": ["producer"]}]}, "Copernicus"),
    ],
)
def test_the_sources_are_credited_as_they_say(properties: dict[str, Any], says: str) -> None:
    assert says in source_note(producers_of([producers({"properties": properties}, S2)], [S2]), [S2])


def test_sources_of_several_producers() -> None:
    esa = S2.provider.name
    found = producers_of([("A",), (esa,), (esa, "A")], [S2])
    assert [one["name"] for one in found] == ["A", "European Space Agency (ESA)"]
    assert source_note(found, [S2], "2021") == "Contains modified Copernicus Sentinel data 2021. Contains data of A."
    other = build(record(properties={"providers": producers_of([("A",)], [S2])}))
    assert credit([other], [S2]) == ("Contains data of A.", [{"name": "A", "roles": ["producer"]}], [])


def test_another_sensor_is_but_data() -> None:
    """Who made its data, and the terms, are in its table: nothing here knows Sentinel-2 by name."""
    usgs = Provider("U.S. Geological Survey", ("producer",), "https://usgs.example", ("USGS",))
    terms = Terms("Landsat data courtesy of USGS", "https://usgs.example/terms", "text/html", "Terms")
    landsat = replace(S2, id="l8", constellation="landsat", platforms=("landsat",), provider=usgs, terms=terms)
    known = [S2, landsat]
    for properties in ({}, {"platform": "landsat-8"}, {"providers": [{"name": "usgs", "roles": ["licensor"]}]}):
        assert producers({"properties": properties}, landsat) == ("U.S. Geological Survey",)
    assert producers({"properties": {"platform": "sentinel-2a"}}, landsat) == ("sentinel-2a",)
    item = build(record(properties={"constellation": "landsat"}))
    provider = {"name": "U.S. Geological Survey", "roles": ["producer"], "url": "https://usgs.example"}
    link = {"rel": "license", "href": "https://usgs.example/terms", "type": "text/html", "title": "Terms"}
    assert credit([item], known) == ("Landsat data courtesy of USGS 2021.", [provider], [link])
    note, both, links = credit([build(), item], known)
    assert note == "Contains modified Copernicus Sentinel data 2021. Landsat data courtesy of USGS 2021."
    assert [one["name"] for one in both] == ["European Space Agency (ESA)", "U.S. Geological Survey"]
    assert [one["type"] for one in links] == ["application/pdf", "text/html"]


def test_the_catalog_is_written_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    written = []
    monkeypatch.setattr("eoap_dask.stac.catalog.write_json", lambda path, _: written.append(path.name) or path)
    write_catalog(tmp_path, collection={}, catalog={})
    assert written == ["collection.json", "catalog.json"]


# --- footprints --------------------------------------------------------------------------------


def test_footprint_is_that_of_rio_stac() -> None:
    from rasterio.io import MemoryFile
    from rio_stac.stac import get_dataset_geom

    with (
        MemoryFile() as memory,
        memory.open(
            driver="GTiff",
            width=10980,
            height=10980,
            count=1,
            dtype="uint8",
            crs=32610,
            transform=Affine(*UTM),
            sparse_ok=True,
            tiled=True,
        ) as dataset,
    ):
        theirs = get_dataset_geom(dataset, densify_pts=64)
    geometry, bbox = footprint_4326("EPSG:32610", UTM, (10980, 10980))
    assert geometry["type"] == "Polygon"
    np.testing.assert_allclose(bbox, theirs["bbox"], atol=2e-5)
    ours = shape(geometry)
    assert ours.symmetric_difference(shape(theirs["footprint"])).area < 1e-5 * ours.length
    assert ours.exterior.is_ccw
    assert len(geometry["coordinates"][0]) < 130


def test_footprint_follows_the_curve_of_its_edges() -> None:
    """On a wide grid the straight line between two corners is far from the edge."""
    _, bbox = footprint_4326("EPSG:3035", (1000, 0, 2500000, 0, -1000, 5500000), (4000, 4000))
    corner_top = max(point[1] for point in _corners("EPSG:3035", (2500000, 6500000), 5500000))
    assert bbox[3] > corner_top + 1


def _corners(crs: str, xs: tuple[float, float], y: float) -> list[tuple[float, float]]:
    from pyproj import Transformer

    return [Transformer.from_crs(crs, 4326, always_xy=True).transform(x, y) for x in xs]


@pytest.mark.parametrize(
    ("crs", "transform"),
    [
        ("EPSG:32660", (10.0, 0.0, 590000.0, 0.0, -10.0, 7800000.0)),
        ("EPSG:32601", (10.0, 0.0, 340000.0, 0.0, -10.0, 7800000.0)),
        ("EPSG:4326", (0.0001, 0.0, 179.5, 0.0, -0.0001, 10.0)),
        ("EPSG:3832", (10.0, 0.0, 3290000.0, 0.0, -10.0, 100.0)),
    ],
)
def test_footprint_across_the_antimeridian(crs: str, transform: tuple[float, ...]) -> None:
    geometry, bbox = footprint_4326(crs, transform, (10980, 10980))
    west, south, east, north = bbox
    assert geometry["type"] == "MultiPolygon"
    assert 0 < east + 180 < 10
    assert 0 < 180 - west < 10
    parts = shape(geometry)
    assert parts.is_valid
    assert all(part.exterior.is_ccw for part in parts.geoms)
    assert parts.bounds[0] == -180
    assert parts.bounds[2] == 180
    assert (south, north) == (parts.bounds[1], parts.bounds[3])
    _assert_covers(geometry, crs, transform, 10980)


def _assert_covers(geometry: dict[str, Any], crs: str, transform: tuple[float, ...], size: int) -> None:
    """Pixels within the grid lie in the footprint, pixels without don't."""
    from pyproj import Transformer

    to_degrees = Transformer.from_crs(crs, "OGC:CRS84", always_xy=True)
    footprint = shape(geometry)
    for fraction_x in (-0.02, 0.02, 0.3, 0.77, 0.98, 1.02):
        for fraction_y in (-0.02, 0.02, 0.41, 0.98, 1.02):
            x, y = Affine(*transform) @ (fraction_x * size, fraction_y * size)
            lon, lat = to_degrees.transform(x, y)
            inside = 0 < fraction_x < 1 and 0 < fraction_y < 1
            assert footprint.covers(Point((lon + 180) % 360 - 180, lat)) == inside


@pytest.mark.parametrize("crs", ["EPSG:3413", "EPSG:3031"])
def test_footprint_around_a_pole(crs: str) -> None:
    transform = (100.0, 0.0, -500000.0, 0.0, -100.0, 600000.0)
    geometry, bbox = footprint_4326(crs, transform, (10000, 10000))
    assert bbox[0] == -180
    assert bbox[2] == 180
    assert 90 in (bbox[3], -bbox[1])
    _assert_covers(geometry, crs, transform, 10000)


def test_footprint_of_the_globe_and_of_its_edge() -> None:
    _, bbox = footprint_4326("EPSG:4326", (0.1, 0, -180, 0, -0.1, 90), (1800, 3600))
    assert bbox == [-180, -90, 180, 90]
    geometry, bbox = footprint_4326("EPSG:4326", (0.1, 0, 170, 0, -0.1, 10), (100, 100))
    assert geometry["type"] == "Polygon"
    assert bbox == [170, 0, 180, 10]
    geometry, bbox = footprint_4326("EPSG:4326", (0.1, 0, -180, 0, -0.1, 10), (100, 100))
    assert geometry["type"] == "Polygon"
    assert bbox == [-180, 0, -170, 10]


def test_footprint_of_one_pixel_and_of_a_turned_grid() -> None:
    geometry, bbox = footprint_4326("EPSG:32633", (10, 0, 300000, 0, -10, 4640000), (1, 1))
    assert geometry["type"] == "Polygon"
    assert 0 < bbox[2] - bbox[0] < 2e-4
    turned = tuple(Affine.translation(300000, 4640000) @ Affine.rotation(30) @ Affine.scale(10, -10))[:6]
    _assert_covers(footprint_4326("EPSG:32633", turned, (1000, 1000))[0], "EPSG:32633", turned, 1000)


def test_footprint_that_is_nowhere() -> None:
    with pytest.raises(ValueError, match="beyond the area where"):
        footprint_4326("EPSG:32633", (1e9, 0, 0, 0, -1e9, 0), (9, 9))


def test_unions_of_boxes() -> None:
    assert union_bbox([[10, 0, 20, 5], [15, 1, 30, 6]]) == [10, 0, 30, 6]
    assert union_bbox([[170, 0, -170, 5], [175, 1, 179, 6]]) == [170, 0, -170, 6]
    assert union_bbox([[170, 0, 175, 5], [-175, 0, -170, 5]]) == [170, 0, -170, 5]
    assert union_bbox([[-180, 0, 180, 5]]) == [-180, 0, 180, 5]
    assert union_bbox([[-100, 0, -80, 1], [80, 0, 100, 1]]) == [-100, 0, 100, 1]
    assert union_bbox([[0, 0, 120, 1], [110, 0, -120, 1], [-130, 0, 10, 1]]) == [-180, 0, 180, 1]
    assert union_bbox([[-180, 0, -170, 1], [100, 0, 110, 1], [0, 0, -10, 1]]) == [0, 0, -10, 1]


def _width(west: float, east: float) -> float:
    return east - west if west <= east else east - west + 360


@given(
    st.lists(
        st.tuples(st.integers(-180, 180), st.integers(-180, 180))
        .filter(lambda pair: pair[0] != pair[1] and pair[0] != 180 and pair[1] != -180)
        .map(lambda pair: [pair[0], 0, pair[1], 1]),
        min_size=1,
        max_size=6,
    )
)
def test_a_union_holds_all_boxes_and_is_the_smallest(boxes: list[list[int]]) -> None:
    covered = np.zeros(3600, bool)  # tenths of a degree, at their centres
    centres = np.arange(-1799.5, 1800) / 10

    def within(west: float, east: float) -> np.ndarray:
        return (centres >= west) & (centres <= east) if west <= east else (centres >= west) | (centres <= east)

    for box in boxes:
        covered |= within(box[0], box[2])
    west, _, east, _ = union_bbox(boxes)
    assert not (covered & ~within(west, east)).any()
    # the widest run of uncovered degrees is what is left out
    twice = np.concatenate([covered, covered])
    longest = run = 0
    for taken in twice:
        run = 0 if taken else run + 1
        longest = max(longest, run)
    assert abs(360 - _width(west, east) - min(longest, 3600) / 10) < 1e-6
