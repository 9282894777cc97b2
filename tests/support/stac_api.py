"""A small STAC API on the loopback, and items for it: for what a test wants to go wrong."""

import json
import threading
from contextlib import contextmanager
from copy import deepcopy
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

from shapely.geometry import box, mapping, shape

CORE = "https://api.stacspec.org/v1.0.0"
CONFORMS = [f"{CORE}/core", f"{CORE}/item-search", f"{CORE}/item-search#query", f"{CORE}/item-search#sort"]


def item(name, day=1, cloud=10.0, west=12.0, collection="sentinel-2-l2a", **more):
    properties = {"datetime": f"2021-07-{day:02}T10:00:00Z"}
    if cloud is not None:
        properties["eo:cloud_cover"] = cloud
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "id": name,
        "collection": collection,
        "geometry": json.loads(json.dumps(mapping(box(west, 41, west + 1, 42)))),  # lists
        "bbox": [west, 41, west + 1, 42],
        "properties": properties,
        "links": [],
        "assets": {"B04": {"href": f"https://example.org/{name}/B04.tif"}},
        **more,
    }


class Api:
    """A small STAC API on the loopback; what is odd about it is switched on in its attributes."""

    def __init__(self, items=()):
        self.features = list(items)
        self.asked = []
        self.searches = []
        self.faults = []  # (path, status, body, headers), each used once
        self.always = {}  # path: (status, body)
        self.conforms = list(CONFORMS)
        self.links = []
        self.obeys = True
        self.loops = ""
        self.post = True
        self.drops = 0
        self.most = 10_000  # items of a page, whatever is asked for
        self.empty = frozenset()  # numbers of pages without items, which lead on all the same
        self.counts = None  # "numberMatched" or "context": the pages say how many match
        self.ends = None  # number of the page that leads to no other, though more match

    def landing(self):
        links = [
            {"rel": "search", "href": f"{self.url}/search", "type": "application/geo+json", "method": "POST"},
            {"rel": "data", "href": f"{self.url}/collections", "type": "application/json"},
            *self.links,
        ]
        return {
            "type": "Catalog",
            "id": "api",
            "stac_version": "1.0.0",
            "description": "",
            "links": links,
            "conformsTo": self.conforms,
        }

    def answer(self, path, body):
        if path in ("", "/"):
            return self.landing()
        if path.startswith("/collections"):
            names = sorted({one["collection"] for one in self.features} | {"landsat-c2-l2", "sentinel-1-grd"})
            if path == "/collections":
                return {"collections": [{"id": name} for name in names], "links": []}
            name = path.split("/")[2]
            return {"type": "Collection", "id": name} if name in names else None
        if path == "/search":
            return self.page(body)
        return None

    def page(self, body):
        self.searches.append(body)
        found = self.features
        if self.obeys:
            found = [one for one in found if self.matches(one, body)]
        if "sortby" in body:
            found = sorted(found, key=lambda one: one["properties"].get("eo:cloud_cover", 1000))
        first, limit = int(body.get("token", 0)), min(int(body.get("limit", 10)), self.most)
        links = []
        if first + limit < len(found):
            following = {**body, "token": first + limit}
            if self.loops == "token":
                following["token"] = 0
            if self.loops == "items":
                following["token"] = first + limit
                found = found[:limit] * 50
            links.append({"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": following})
        features = deepcopy(found[first : first + limit])
        page = int(body.get("page", 0))
        if page in self.empty:
            links = [
                {"rel": "next", "href": f"{self.url}/search", "method": "POST", "body": {**body, "page": page + 1}}
            ]
            features = []
        elif links:
            links[0]["body"]["page"] = page + 1
        if page == self.ends:
            links = []
        told = {"numberMatched": len(found)} if self.counts == "numberMatched" else {}
        told |= {"context": {"matched": len(found), "returned": len(features)}} if self.counts == "context" else {}
        return {"type": "FeatureCollection", "features": features, "links": links, **told}

    @staticmethod
    def matches(one, body):
        aoi = box(*body["bbox"]) if "bbox" in body else shape(body["intersects"])
        cover = one["properties"].get("eo:cloud_cover")
        limit = body.get("query", {}).get("eo:cloud_cover", {}).get("lt")
        begin, end = body["datetime"].split("/")
        return (
            one["collection"] in body["collections"]
            and shape(one["geometry"]).intersects(aoi)
            and (limit is None or (cover is not None and cover < limit))
            and begin <= one["properties"]["datetime"] <= end
        )


@contextmanager
def serving(api):
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            query = {key: values[0] for key, values in parse_qs(urlsplit(self.path).query).items()}
            readers = {
                "query": json.loads,
                "intersects": json.loads,
                "collections": lambda text: text.split(","),
            }
            readers["bbox"] = lambda text: [float(one) for one in text.split(",")]
            self.reply({key: readers.get(key, str)(value) for key, value in query.items()})

        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])) or "{}")
            if not api.post:
                self.send(405, b"{}")
                return
            self.reply(body)

        def reply(self, body):
            path = urlsplit(self.path).path
            api.asked.append((self.command, path))
            if fault := next((one for one in api.faults if one[0] == path), None):
                api.faults.remove(fault)
                self.send(*fault[1:])
                return
            if path == "/search" and api.drops:
                api.drops -= 1
                self.send(200, b'{"type": "Feat', {"Content-Length": "1000"})
                return
            if path in api.always:
                self.send(*api.always[path])
                return
            answer = api.answer(path, body)
            self.send(200 if answer is not None else 404, json.dumps(answer or {"detail": "nothing here"}).encode())

        def send(self, status, content, headers=None):
            headers = {"Content-Length": str(len(content)), "Connection": "close", **(headers or {})}
            self.send_response(status)
            for key, value in headers.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(content)
            self.close_connection = True

        def log_message(self, *args):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    api.url = f"http://127.0.0.1:{server.server_port}"
    threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
    try:
        yield api
    finally:
        server.shutdown()
        server.server_close()
