"""One meaning of a search: an API over HTTP, and the same items in every form that a file can have."""

import json
import random
import threading
import time
from datetime import UTC, date, datetime, timedelta
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pyarrow as pa
import pyarrow.parquet as pq
import pystac
import pytest
import stac_geoparquet.arrow as stac_arrow
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from shapely.geometry import box, mapping

from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import CollectionError, HrefError, SearchError, UsageError
from eoap_dask.geo.parse import parse_aoi
from eoap_dask.items import static_catalog
from eoap_dask.items.find import check_source, explain_nothing, find_items
from eoap_dask.items.item import json_line
from eoap_dask.items.itemset import ItemSet
from eoap_dask.items.query import Query
from eoap_dask.lazy.cube import search

COLLECTION = "sentinel-2-l2a"


def make_item(name, when, west, south, width=1.0, cover=10.0, **properties):
    east = west + width
    parts = [box(west, south, min(east, 180), south + 1)]
    if east > 180:
        parts.append(box(-180, south, east - 360, south + 1))
    shapes = [json.loads(json.dumps(mapping(part))) for part in parts]
    geometry = shapes[0]
    if len(shapes) > 1:
        geometry = {"type": "MultiPolygon", "coordinates": [one["coordinates"] for one in shapes]}
    if cover is not None:
        properties["eo:cloud_cover"] = cover
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": [],
        "id": name,
        "collection": COLLECTION,
        "geometry": geometry,
        "bbox": [west, south, east if east <= 180 else east - 360, south + 1],
        "properties": {"datetime": when.isoformat().replace("+00:00", "Z"), **properties},
        "links": [],
        "assets": {"B04": {"href": f"https://example.org/{name}/B04.tif", "type": "image/tiff", "roles": ["data"]}},
    }


def population():
    """A hundred items: ties in time, all cloud covers, none, both sides of the antimeridian, ranges."""
    dice = random.Random(20210713)  # noqa: S311
    found = []
    for number in range(100):
        # a few moments only, so that many share one; some at the very ends of days
        day = datetime(2021, 7, 1 + dice.randrange(20), tzinfo=UTC)
        when = day + dice.choice([timedelta(0), timedelta(hours=10, seconds=0.024), timedelta(days=1, microseconds=-1)])
        west = dice.choice([dice.uniform(-179, 179), dice.uniform(178.1, 179.9), dice.uniform(10, 14)])
        cover = dice.choice([None, 0, 100, 25, 25.5, dice.uniform(0, 100), dice.uniform(0, 100)])
        platform = {"platform": f"sentinel-2{dice.choice('ab')}"}
        one = make_item(f"i{number:03}", when, west, dice.uniform(-60, 60), dice.uniform(0.5, 2), cover, **platform)
        if number % 15 == 0:
            texts = [one["properties"]["datetime"], (when + timedelta(days=2)).isoformat().replace("+00:00", "Z")]
            one["properties"] |= {"datetime": None, "start_datetime": texts[0], "end_datetime": texts[1]}
        found.append(one)
    return found


def write_catalog(folder, items):
    """Write a static catalog with pystac: a level of months, a level of days, items in directories of their own."""
    catalog = pystac.Catalog("root", "a static catalog")
    extent = pystac.Extent(
        pystac.SpatialExtent([[-180, -90, 180, 90]]), pystac.TemporalExtent([[datetime(2021, 7, 1, tzinfo=UTC), None]])
    )
    collection = pystac.Collection(COLLECTION, "items", extent)
    other = pystac.Collection("landsat-c2-l2", "others", extent)
    catalog.add_children([other, collection])
    days = {}
    for number, one in enumerate(items):
        day = days.setdefault(number % 3, pystac.Catalog(f"part-{number % 3}", "a part"))
        day.add_item(pystac.Item.from_dict(one))
    collection.add_children(days.values())
    other.add_item(pystac.Item.from_dict(items[0] | {"id": "landsat", "collection": "landsat-c2-l2"}))
    catalog.normalize_and_save(str(folder), pystac.CatalogType.SELF_CONTAINED)
    return folder / "catalog.json"


def write_parquet(path, items):
    stac_arrow.to_parquet(stac_arrow.parse_stac_items_to_arrow(items), path)
    return path


class Quiet(SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections are kept, as file servers do
    disable_nagle_algorithm = True

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def files():
    """Serve a directory over HTTP; how it is called gives back what it serves."""
    servers = []

    def serve(folder):
        server = ThreadingHTTPServer(("127.0.0.1", 0), lambda *args: Quiet(*args, directory=str(folder)))
        Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        servers.append(server)
        return f"http://127.0.0.1:{server.server_port}"

    yield serve
    for server in servers:
        server.shutdown()
        server.server_close()


@pytest.fixture(scope="module")
def forms(tmp_path_factory, files):
    """The API, and the same items in all forms, in no particular order; by name."""
    folder = tmp_path_factory.mktemp("forms")
    items = population()
    with DemoServer(Catalogue(folder, items, COLLECTION), page_size=37) as server:
        served = list(find_items(server.url, Query(COLLECTION)))
        assert len(served) == len(items)
        mixed = sorted(served, key=lambda one: json_line(one)[::-1])
        collection = folder / "collection-of-items.json"
        collection.write_text(json.dumps({"type": "FeatureCollection", "features": mixed}, indent=1))
        lines = folder / "items.ndjson"
        lines.write_text("".join(json.dumps(one) + "\n" for one in mixed))
        parquet = write_parquet(folder / "items.parquet", mixed)
        catalog = write_catalog(folder / "static", mixed)
        saved = find_items(server.url, Query(COLLECTION)).save(folder / "saved.json")
        url = files(folder)
        sources = {
            "api": server.url,
            "item collection": collection,
            "saved": saved,
            "ndjson": lines,
            "stac-geoparquet": parquet,
            "static catalog": catalog.parent,
            "items": ItemSet.load(collection),
            "item collection by URL": f"{url}/{collection.name}",
            "ndjson by URL": f"{url}/{lines.name}",
            "stac-geoparquet by URL": f"{url}/{parquet.name}",
            "static catalog by URL": f"{url}/static/catalog.json",
        }
        yield Forms(sources)


def essence(found):
    """What of an item must be the same: all that decides a search or a pixel; times as times, since texts differ."""
    return [
        (
            one["id"],
            one["collection"],
            one["geometry"],
            {key: _moment(key, value) for key, value in one["properties"].items()},
            one["assets"]["B04"]["href"],
        )
        for one in found
    ]


def _moment(key, value):
    return datetime.fromisoformat(value) if key.endswith("datetime") and value else value


class Forms(dict):
    def __repr__(self):
        return f"<{', '.join(self)}>"


LONGITUDES = st.one_of(st.floats(-180, 180), st.floats(9, 15), st.floats(177, 180), st.floats(-180, -177))


@st.composite
def queries(draw):
    """Searches as people make them, a little wilder; never an edge on the very antimeridian, where touching is moot."""
    west, south = draw(LONGITUDES.filter(lambda x: abs(x) < 179.999)), draw(st.floats(-65, 60))
    width, height = draw(st.floats(0.1, 100)), draw(st.floats(0.1, 30))
    east = west + width
    if abs(east - 180) < 0.001:
        east += 0.01
    east = east - 360 if east > 180 else east
    aoi = parse_aoi([west, south, east, south + height])
    if draw(st.booleans()):  # a shape: a triangle
        crossing = east < west
        corner = f"{west} {south}, {east + 360 * crossing} {south}, {west} {south + height}, {west} {south}"
        if not crossing:
            aoi = parse_aoi(f"POLYGON (({corner}))")
    first = date(2021, 7, 1) + timedelta(days=draw(st.integers(-2, 22)))
    last = first + timedelta(days=draw(st.integers(0, 22)))
    cover = draw(st.sampled_from([100, 25, 25.5, 1e-9, 50, 99.9]) | st.floats(0, 100, exclude_min=True))
    most = draw(st.none() | st.integers(1, 30))
    condition = draw(
        st.sampled_from(
            [
                "",
                "",
                "platform = 'sentinel-2a'",
                "\"eo:cloud_cover\" > 20 OR platform LIKE '%b'",
                "NOT (eo:cloud_cover < 50)",
                "datetime >= TIMESTAMP('2021-07-05T00:00:00Z')",
                json.dumps({"op": "isNull", "args": [{"property": "eo:cloud_cover"}]}),
                "no:such_property < 5",
            ]
        )
    )
    return Query(COLLECTION, aoi, first, last, cover, most, condition)


class TestOneMeaning:
    @pytest.mark.long
    @settings(max_examples=25, deadline=None, phases=[Phase.explicit, Phase.reuse, Phase.generate])
    @given(query=queries())
    def test_every_form_finds_what_the_api_finds(self, forms, query):
        expected = find_items(forms["api"], query, page_size=50)
        for name, source in forms.items():
            found = find_items(source, query)
            assert essence(found) == essence(expected), name
            assert found.truncated == expected.truncated, name
            assert found.collection == expected.collection, name
            assert found.signing == expected.signing, name

    def test_the_population_has_what_the_test_is_about(self, forms):
        found = find_items(forms["api"], Query(COLLECTION))
        covers = [one["properties"].get("eo:cloud_cover") for one in found]
        assert covers.count(None) > 5
        assert sum(one["geometry"]["type"] == "MultiPolygon" for one in found) > 5
        assert len({one["properties"].get("datetime") for one in found}) < 60
        across = Query(COLLECTION, parse_aoi("179,-60,-179,60"))
        assert len(find_items(forms["stac-geoparquet"], across)) == len(find_items(forms["api"], across)) > 10

    @pytest.mark.parametrize("cover", [0.5, 25, 50, 100])
    def test_the_answer_is_what_a_plain_loop_says(self, forms, cover):
        """Not only equal but right: without the antimeridian a search is three comparisons."""
        query = Query(COLLECTION, parse_aoi("10,-50,15,50"), date(2021, 7, 3), date(2021, 7, 9), cover)
        wanted = set()
        for one in population():
            properties, bbox = one["properties"], one["bbox"]
            start = (properties["datetime"] or properties["start_datetime"])[:10]
            end = (properties["datetime"] or properties["end_datetime"])[:10]
            known = properties.get("eo:cloud_cover")
            if (
                start <= "2021-07-09"
                and end >= "2021-07-03"
                and bbox[0] < bbox[2]
                and bbox[0] <= 15
                and bbox[2] >= 10
                and bbox[1] <= 50
                and bbox[3] >= -50
                and (cover == 100 or (known is not None and known < cover))
            ):
                wanted.add(one["id"])
        for name, source in forms.items():
            assert {one["id"] for one in find_items(source, query)} == wanted, name

    def test_private_hosts_are_those_that_the_user_named(self, forms):
        for name, source in forms.items():
            hosts = find_items(source, Query(COLLECTION, max_items=1)).private_hosts()
            assert hosts == ({"127.0.0.1"} if "URL" in name or name == "api" else set()), name

    def test_the_python_door(self, forms):
        for name in ("api", "stac-geoparquet", "static catalog"):
            found = search(
                "10,-50,15,50",
                "2021-07-03",
                "2021-07-09",
                stac=str(forms[name]),
                filter="platform = 'sentinel-2a'",
            )
            assert len(found) > 3, name
            assert {one["properties"]["platform"] for one in found} == {"sentinel-2a"}

    def test_why_nothing_was_found(self, forms):
        for name, source in forms.items():
            nowhere = Query(COLLECTION, parse_aoi("10,80,15,85"), date(2021, 7, 3), date(2021, 7, 9), 20)
            assert explain_nothing(source, nowhere).startswith("There are none at any cloud cover."), name
            unfit = Query(COLLECTION, filter="platform = 'landsat'")
            assert "Try without filter" in explain_nothing(source, unfit), name
            # the clearest of that day have just 25 %
            day = date(2021, 7, 5)
            clear = Query(COLLECTION, start=day, end=day, max_cloud_cover=25)
            assert explain_nothing(source, clear) == "Lowest cloud cover seen: 25 %. Try max_cloud_cover=30.", name


def test_versions_of_one_item_are_one(tmp_path):
    """Also where the older one would pass and the newer doesn't."""
    when = datetime(2021, 7, 1, tzinfo=UTC)
    old = make_item("a", when, 10, 40, cover=1, updated="2021-08-01T00:00:00Z")
    new = make_item("a", when, 10, 40, cover=90, updated="2021-09-01T00:00:00Z")
    for lines in ([old, new], [new, old]):
        path = tmp_path / "log.ndjson"
        path.write_text("\n".join(map(json.dumps, lines)))
        assert len(find_items(path, Query(max_cloud_cover=20))) == 0
        assert [one["properties"]["eo:cloud_cover"] for one in find_items(path, Query())] == [90]


def test_parquet_gives_back_the_item_that_it_was_made_of(shared, tmp_path):
    """Real items of four catalogues in one table, each with columns that the others lack."""
    names = [
        "earthsearch_v0_S2A_28QCH_20200714_0_L2A.json",
        "earthsearch_v1_S2A_13TDE_20231008_0_L2A.json",
        "earthsearch_v1_c1_S2B_T38XNF_20250422T091553_L2A.json",
        "planetary_computer_S2B_MSIL2A_20190629T212529_T06VVN.json",
    ]
    originals = [json.loads((shared / "stac" / name).read_text()) for name in names]
    path = write_parquet(tmp_path / "real.parquet", originals)
    found = {one["id"]: one for one in ItemSet.load(path)}
    alone = {}
    for original in originals:
        (tmp_path / "one.json").write_text(json.dumps(original))
        alone |= {one["id"]: one for one in ItemSet.load(tmp_path / "one.json")}
    assert set(found) == set(alone)
    for name, one in found.items():
        expected = _no_nulls(alone[name])
        expected["properties"].setdefault("datetime", None)
        expected["properties"].pop("proj:geometry", None)
        times = {"datetime", "created", "updated"}
        for key, value in one["properties"].items():
            if key in times:
                assert datetime.fromisoformat(value) == datetime.fromisoformat(expected["properties"][key])
            else:
                assert value == expected["properties"][key], key
        assert set(one["properties"]) == set(expected["properties"])
        assert one["geometry"] == expected["geometry"]
        assert one["assets"] == expected["assets"]


def _no_nulls(value):
    if isinstance(value, dict):
        return {key: _no_nulls(part) for key, part in value.items() if part is not None}
    return [_no_nulls(part) for part in value] if isinstance(value, list) else value


# ------------------------------------------------------------ catalogs that are wrong


WHEN = datetime(2021, 7, 1, 10, tzinfo=UTC)


def document(kind, *links, **more):
    found = {"type": kind, "stac_version": "1.0.0", "id": more.pop("id", "c"), "description": "", **more}
    return found | {"links": [{"rel": rel, "href": href} for rel, href in links]}


def write(folder, **documents):
    """Write JSON files, by name; a double underscore is a directory."""
    for name, content in documents.items():
        path = folder / f"{name.replace('__', '/')}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content if isinstance(content, str) else json.dumps(content))
    return folder / "catalog.json"


def refused(kind, source, query=None):
    with pytest.raises(kind) as caught:
        find_items(source, query or Query(COLLECTION), retries=1, timeout_s=5)
    assert caught.value.expected
    assert caught.value.hint
    assert caught.value.__cause__ is None
    return str(caught.value)


@pytest.fixture(params=["path", "URL"])
def place(request, tmp_path, files):
    """How a directory with a catalog is given: the same must come of both."""
    return lambda folder: str(folder) if request.param == "path" else f"{files(folder)}/catalog.json"


class TestCatalogs:
    def test_relative_links_and_hrefs(self, place, tmp_path):
        one = make_item("a", WHEN, 10, 40) | {"assets": {"B04": {"href": "../pixels/B04.tif"}}}
        catalog = document("Catalog", ("child", "./sub%20one/collection.json#here"), ("root", "catalog.json"))
        write(tmp_path, catalog=catalog)
        collection = document("Collection", ("item", "items/a.json"), ("parent", "../catalog.json"), id=COLLECTION)
        write(tmp_path / "sub one", collection=collection, items__a=one)
        source = place(tmp_path)
        (found,) = find_items(source, Query(COLLECTION))
        base = str(tmp_path) if "://" not in source else source.rpartition("/")[0]
        name = "sub one" if "://" not in source else "sub%20one"
        assert found["assets"]["B04"]["href"] == f"{base}/{name}/pixels/B04.tif"

    def test_catalogs_before_version_one(self, place, tmp_path):
        catalog = document("Catalog", ("child", "collection.json"))
        collection = document("Collection", ("item", "a.json"), id=COLLECTION, extent={})
        del catalog["type"], collection["type"]
        write(tmp_path, catalog=catalog, collection=collection, a=make_item("a", WHEN, 10, 40))
        assert len(find_items(place(tmp_path), Query(COLLECTION))) == 1

    def test_items_of_other_collections_are_not_read(self, place, tmp_path):
        other = document("Collection", ("item", "broken.json"), ("child", "part.json"), id="other")
        part = document("Catalog", ("item", "broken.json"), id="part")
        mine = document("Collection", ("item", "a.json"), id=COLLECTION)
        catalog = document("Catalog", ("child", "other.json"), ("child", "mine.json"))
        a = make_item("a", WHEN, 10, 40)
        write(tmp_path, catalog=catalog, other=other, part=part, mine=mine, a=a, broken="{")
        source = place(tmp_path)
        assert len(find_items(source, Query(COLLECTION))) == 1
        assert "answered something else instead of JSON" in refused(SearchError, source, Query("other"))
        text = refused(CollectionError, source, Query("sentinel-2"))
        assert "Offered are: sentinel-2-l2a, other." in text
        assert "Try collection='sentinel-2-l2a'." in text

    def test_a_diamond_is_no_loop(self, place, tmp_path):
        catalog = document("Catalog", ("child", "left.json"), ("child", "right.json"))
        side = document("Catalog", ("item", "a.json"), ("child", "bottom.json"))
        bottom = document("Catalog", ("item", "b.json"))
        a, b = make_item("a", WHEN, 10, 40), make_item("b", WHEN, 10, 40)
        write(tmp_path, catalog=catalog, left=side, right=side, bottom=bottom, a=a, b=b)
        assert [one["id"] for one in find_items(place(tmp_path), Query(COLLECTION))] == ["a", "b"]

    @pytest.mark.parametrize(
        ("link", "says"),
        [
            (("child", "catalog.json"), "leads back to"),
            (("child", "./a/../catalog.json#x"), "leads back to"),
            (("item", "none.json"), "none.json"),
            (("item", "list.json"), "is neither a STAC item nor a catalog"),
            (("item", "plain.json"), "is neither a STAC item nor a catalog"),
            (("item", "page.json"), "answered a web page instead of JSON"),
            (("item", "array.json"), "is JSON, but not STAC"),
            (("item", "no-assets.json"), "has no properties or no assets"),
        ],
    )
    def test_links_that_are_wrong(self, place, tmp_path, link, says):
        no_assets = make_item("a", WHEN, 10, 40)
        del no_assets["assets"]
        listed = {"type": "FeatureCollection", "features": []}
        write(tmp_path, catalog=document("Catalog", link), list=listed, plain={"hello": 1}, array="[1]")
        write(tmp_path, page="<!DOCTYPE html>", **{"no-assets": no_assets}, a__x={})
        assert says in refused(SearchError, place(tmp_path))

    def test_what_is_no_catalog(self, place, tmp_path):
        write(tmp_path, catalog=document("Catalog"))
        assert "is a STAC Catalog without item search, and without items" in refused(SearchError, place(tmp_path))
        write(tmp_path, catalog=document("Collection", ("items", "x"), ("root", "https://example.org/stac/")))
        text = refused(SearchError, place(tmp_path))
        assert "is a STAC Collection of an API, not its landing page" in text
        assert "Try stac='https://example.org/stac'." in text

    def test_bounds(self, place, tmp_path, monkeypatch):
        items = {f"i{n}": make_item(f"i{n}", WHEN, 10, 40) for n in range(9)}
        catalog = document("Catalog", *(("item", f"{name}.json") for name in items))
        write(tmp_path, catalog=catalog, **items)
        source = place(tmp_path)
        assert len(find_items(source, Query())) == 9
        monkeypatch.setattr(static_catalog, "_MOST_DOCUMENTS", 8)
        assert "holds more than 8 documents" in refused(SearchError, source)
        monkeypatch.setattr(static_catalog, "_MOST_DOCUMENTS", 9)
        monkeypatch.setattr(static_catalog, "_MOST_BYTES", 1)
        assert "holds more than 0 MiB" in refused(SearchError, source)
        monkeypatch.setattr(static_catalog, "_MOST_BYTES", 1 << 30)
        monkeypatch.setattr(static_catalog, "_DOCUMENT_BYTES", 100)
        assert "is larger than" in refused(SearchError, source)

    def test_behind_a_slow_document_no_others_pile_up(self, tmp_path, monkeypatch):
        items = {f"i{n}": make_item(f"i{n}", WHEN, 10, 40) for n in range(40)}
        write(tmp_path, catalog=document("Catalog", *(("item", f"{name}.json") for name in items)), **items)
        go_on, begun = threading.Event(), []
        read = static_catalog.CatalogWalk._read

        def slow(walk, address, how):
            begun.append(address)
            if address.endswith("/i0.json"):
                go_on.wait(60)
            return read(walk, address, how)

        monkeypatch.setattr(static_catalog.CatalogWalk, "_read", slow)
        finding = threading.Thread(target=find_items, args=(tmp_path / "catalog.json", Query()))
        finding.start()
        while len(begun) < static_catalog._AT_ONCE:
            time.sleep(0.01)
        time.sleep(0.2)
        assert len(begun) == static_catalog._AT_ONCE
        go_on.set()
        finding.join(60)
        assert len(begun) == 40

    def test_depth(self, place, tmp_path):
        chain = {f"c{n}": document("Catalog", ("child", f"c{n + 1}.json")) for n in range(40)}
        write(tmp_path, catalog=document("Catalog", ("child", "c0.json")), **chain)
        assert "is more than 32 levels deep" in refused(SearchError, place(tmp_path))

    @pytest.mark.parametrize(
        "href",
        ["file:///etc/passwd", "/vsizip/x.json", "http://169.254.169.254/x.json", "ftp://h/x", "http://10.1.2.3/x"],
    )
    def test_a_remote_catalog_leads_to_no_other_places(self, tmp_path, files, href):
        write(tmp_path, catalog=document("Catalog", ("item", href)))
        url = files(tmp_path)
        refused(HrefError, f"{url}/catalog.json")

    def test_a_local_catalog_leads_to_files_and_the_public_network(self, tmp_path, files):
        write(tmp_path / "elsewhere", a=make_item("a", WHEN, 10, 40))
        href = (tmp_path / "elsewhere" / "a.json").as_uri()
        catalog = write(tmp_path, catalog=document("Catalog", ("item", href)))
        assert len(find_items(catalog, Query())) == 1
        write(tmp_path, catalog=document("Catalog", ("item", f"{files(tmp_path)}/elsewhere/a.json")))
        assert "private host '127.0.0.1'" in refused(HrefError, catalog)
        write(tmp_path, catalog=document("Catalog", ("item", "s3://bucket/a.json")))
        assert "has the scheme 's3'" in refused(HrefError, catalog)
        write(tmp_path, catalog=document("Catalog", ("item", "/dev/zero")))
        assert "doesn't exist, though a catalog leads to it" in refused(SearchError, catalog)


# ------------------------------------------------------------ sources that are wrong


class TestSources:
    @pytest.mark.parametrize(
        ("content", "says"),
        [
            (b"PAR1 and no more", "it is Parquet that can't be read"),
            (b"hello", "it isn't JSON"),
            (b"<html>", "it isn't JSON, but a web page"),
            (b"\x89PNG\xff", "it is neither JSON nor Parquet"),
            (b'{"type": "Feature", "id": "a"}\n{"type": "Feature"\n', "its line 2 isn't JSON"),
            (b'{"a": 1}\n{"b"\n', "its line 2 isn't JSON"),
        ],
    )
    def test_files_that_are_wrong(self, tmp_path, content, says):
        path = tmp_path / "items.parquet"
        path.write_bytes(content)
        text = refused(UsageError, path)
        assert any(one in text for one in says.split("|"))
        assert str(path) in text

    def test_a_line_that_is_broken(self, tmp_path):
        path = tmp_path / "x.ndjson"
        path.write_text(json.dumps(make_item("a", WHEN, 10, 40)) + '\n\n{"type": \n')
        assert "its line 2 isn't JSON" in refused(UsageError, path)

    def test_tables_that_hold_no_items(self, tmp_path):
        path = tmp_path / "x.parquet"
        pq.write_table(pa.table({"a": [1]}), path)
        assert "not stac-geoparquet: it has no column 'id'" in refused(UsageError, path)
        table = pa.table({"id": ["a"], "geometry": [b"x"], "bbox": [1], "assets": [2]})
        pq.write_table(table, path)
        assert "it is Parquet that can't be read" in refused(UsageError, path)
        proper = stac_arrow.parse_stac_items_to_arrow([make_item("a", WHEN, 10, 40)])
        proper = proper.read_all() if hasattr(proper, "read_all") else proper
        place = proper.schema.get_field_index("geometry")
        pq.write_table(proper.set_column(place, "geometry", pa.array([b"x"])), path)
        assert "it isn't valid stac-geoparquet (GEOSException)" in refused(UsageError, path)
        good = write_parquet(path, [make_item("a", WHEN, 10, 40)]).read_bytes()
        path.write_bytes(good[: len(good) // 2])
        assert "it is Parquet that can't be read" in refused(UsageError, path)

    def test_parquet_without_the_library(self, tmp_path, monkeypatch):
        path = write_parquet(tmp_path / "x.parquet", [make_item("a", WHEN, 10, 40)])
        monkeypatch.setitem(__import__("sys").modules, "stac_geoparquet", None)
        monkeypatch.setitem(__import__("sys").modules, "stac_geoparquet.arrow", None)
        assert "pip install 'eoap-dask[geoparquet]'" in refused(UsageError, path)

    def test_paths_that_are_wrong(self, tmp_path):
        (tmp_path / "empty").mkdir()
        assert "has no catalog.json or collection.json" in refused(UsageError, tmp_path / "empty")
        assert "There is no file or directory" in refused(UsageError, tmp_path / "none.json")
        assert "There is no file or directory" in refused(UsageError, "x" * 5000)
        assert "There is no file or directory" in refused(UsageError, "a\0b")
        with pytest.raises(UsageError, match=r"items is empty\."):
            check_source(" ", "items")
        with pytest.raises(UsageError, match="given as items"):
            check_source(str(tmp_path / "none"), "items")
        write(tmp_path / "one", collection=document("Collection"))
        assert check_source(str(tmp_path / "one")) == str(tmp_path / "one" / "collection.json")

    def test_urls_that_hold_something_else(self, tmp_path, files):
        listed = {"type": "FeatureCollection", "features": [], "links": [{"rel": "next", "href": "x"}]}
        write(tmp_path, page=listed, plain={"hello": 1}, web="<html>", broken={"type": "Feature", "id": "a"})
        (tmp_path / "bytes").write_bytes(b"\xff\xfe")
        (tmp_path / "x.parquet").write_bytes(b"PAR1 and no more")
        url = files(tmp_path)
        assert "is one page of many" in refused(SearchError, f"{url}/page.json")
        assert "is JSON, but not STAC" in refused(SearchError, f"{url}/plain.json")
        assert "answered a web page instead of JSON" in refused(SearchError, f"{url}/web.json")
        assert "answered something else instead of JSON" in refused(SearchError, f"{url}/bytes")
        assert "it is Parquet that can't be read" in refused(SearchError, f"{url}/x.parquet")
        assert "isn't a STAC item" in refused(SearchError, f"{url}/broken.json")
        assert "answered 404" in refused(SearchError, f"{url}/none.json")


# ------------------------------------------------------------ filters


class TestFilters:
    @pytest.mark.parametrize(
        ("text", "says"),
        [
            ("((", "can't be read"),
            ("eo:cloud_cover <", "can't be read"),
            ('{"op": 5', "can't be read"),
            ("eo:cloud_cover", "isn't a condition"),
            ("eo:cloud_cover + 1", "isn't a condition"),
            ("'text'", "isn't a condition"),
            ("(" * 40 + "a = " + ")" * 40, "nests more than 12 brackets"),
            ("a = " + "-" * 3900 + "1", "signs in a row"),
            ("a = " + "- " * 1900 + "1", "signs in a row"),
            ("NOT " * 900 + "a = 1", "signs in a row"),
            ("a = " + "[" * 40, "nests more than 12 brackets"),
            ("a = 1 AND " * 500 + "b = 1", "is too long"),
        ],
    )
    def test_filters_that_are_wrong(self, text, says):
        with pytest.raises(UsageError, match="CQL2") as caught:
            Query(filter=text)
        assert says in str(caught.value)
        assert "Try filter=" in str(caught.value)
        assert len(str(caught.value)) < 300

    @pytest.mark.parametrize("odd", [{"a": 1}, [{"a": 1}], [[1]], 10**400, float("nan"), "text", [1], True, None])
    def test_what_can_not_be_compared_is_unknown(self, odd):
        items = ItemSet((make_item("a", WHEN, 10, 40, x=odd), make_item("b", WHEN, 10, 40, x=12)), "x", COLLECTION)
        for text in ("x = 12", "x > 11", "x BETWEEN 11 AND 13", "x + 1 = 13", "x IN (12, 13)", "x - -1 = 13"):
            assert [one["id"] for one in items.filtered(Query(filter=text))] == ["b"], text

    def test_what_an_item_lacks_is_unknown(self):
        items = ItemSet((make_item("a", WHEN, 10, 40, x=1), make_item("b", WHEN, 10, 40)), "x", COLLECTION)

        def ids(text):
            return [one["id"] for one in items.filtered(Query(filter=text))]

        assert ids("x = 1") == ["a"]
        assert ids("NOT (x = 2)") == ["a"]
        assert ids("x IS NULL") == ["b"]
        assert ids("x = 1 OR id = 'b'") == ["a", "b"]
        assert ids("x = 'text'") == []
        assert ids("S_INTERSECTS(geometry, BBOX(0, 0, 20, 60))") == ["a", "b"]
        assert ids("true") == ["a", "b"]


# ------------------------------------------------------------ local files as assets


class TestLocalFiles:
    """Only what the user has on disk may name files on disk, and only within its directory."""

    HREFS = ("a.tif", "../a.tif", "/etc/passwd", "sub/../../a.tif", "link.tif", "/vsizip/a.zip/a.tif", "file:///a.tif")

    def items(self, folder, source=None):
        (folder / "link.tif").symlink_to("/etc/passwd")
        whole = make_item("a", WHEN, 10, 40)
        whole["assets"] = {str(n): {"href": href} for n, href in enumerate((*self.HREFS, str(folder / "b" / "c.tif")))}
        write(folder, catalog=document("Catalog", ("item", "a.json")), a=whole)
        return find_items(source or folder, Query())

    @pytest.mark.parametrize("name", ["a.json", "catalog.json", ""])
    def test_of_a_file_or_a_catalog_on_disk(self, tmp_path, name):
        found = self.items(tmp_path, tmp_path / name)
        assert found.local_files == {str(tmp_path / "a.tif"), str(tmp_path / "b" / "c.tif")}
        assert found.filtered(Query()).local_files == found.local_files
        # it isn't for a file to say: what is replayed may read beside itself only
        (tmp_path / "run").mkdir()
        assert ItemSet.load(found.save(tmp_path / "run" / "items.json")).local_files == frozenset()

    def test_never_of_a_url(self, tmp_path, files):
        self.items(tmp_path)
        for name in ("a.json", "catalog.json"):
            found = find_items(f"{files(tmp_path)}/{name}", Query())
            assert len(found) == 1
            assert found.local_files == frozenset()

    def test_of_a_catalog_on_disk_only_its_own_items(self, tmp_path, files):
        """An item at a URL that it leads to names no files."""
        far = make_item("far", WHEN, 10, 40)
        far["assets"] = {"B04": {"href": "a.tif"}, "B08": {"href": str(tmp_path / "here" / "a.tif")}}
        write(tmp_path / "far", far=far)
        walk = [(far, f"{files(tmp_path / 'far')}/far.json"), (make_item("near", WHEN, 10, 40), str(tmp_path / "n"))]
        found = ItemSet.collected(walk, "x", from_file=True, folder=tmp_path)
        assert len(found) == 2
        assert not any("far" in path or "here" in path for path in found.local_files)
