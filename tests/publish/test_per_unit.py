"""A product that grows: what a reader sees at any time is whole, and what a run leaves behind is a product."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.errors import OutputError
from eoap_dask.files import write_json
from eoap_dask.publish.checks import identity
from eoap_dask.publish.holdings import MARKER
from eoap_dask.publish.per_unit import UnitPublication
from eoap_dask.publish.place import DirectoryPlace

APP = "stream"


def write_unit(publication: UnitPublication, key: str, content: bytes = b"pixels") -> dict[str, Any]:
    """Make a unit of one asset."""
    folder = publication.unit_dir(key)
    (folder / "images").mkdir()
    (folder / "images" / "data.tif").write_bytes(content)
    checksum = "1220" + hashlib.sha256(content).hexdigest()
    asset = {"href": "./images/data.tif", "file:size": len(content), "file:checksum": checksum}
    item = {"id": key, "properties": {"eoap:digest": "1" * 32}, "assets": {"data": asset}}
    write_json(folder / f"{key}.json", item)
    publication.unit_done(key)
    return item


def finish(publication: UnitPublication, *items: dict[str, Any]) -> None:
    write_json(publication.root / "run.json", identity(APP))
    found = publication.all_items(items)
    write_json(publication.root / "catalog.json", {"links": [item["id"] for item in found]})
    publication.commit()


def seen(out: Path) -> dict[str, bytes]:
    """What a reader sees of units and outputs that have an item; each must be whole."""
    found = {}
    for path in sorted(out.glob("*/*.json")):
        item = json.loads(path.read_text())
        for link in item.get("links", ()):
            assert (
                link["file:checksum"] == "1220" + hashlib.sha256((path.parent / link["href"]).read_bytes()).hexdigest()
            )
        for asset in item["assets"].values():
            content = (path.parent / asset["href"]).read_bytes()
            assert asset["file:checksum"] == "1220" + hashlib.sha256(content).hexdigest()
            found[item["id"]] = content
    return found


def test_units_appear_when_they_are_done_and_the_catalog_last(tmp_path: Path) -> None:
    out = tmp_path / "a" / "out"
    with UnitPublication(out, APP) as publication:
        one = write_unit(publication, "one")
        assert seen(out) == {"one": b"pixels"}
        assert not (out / "catalog.json").exists()
        publication.unit_dir("two")
        assert seen(out) == {"one": b"pixels"}
        finish(publication, one)
    assert json.loads((out / "catalog.json").read_text()) == {"links": ["one"]}
    assert sorted(p.name for p in out.parent.iterdir()) == ["out"]
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "catalog.json", "one", "run.json"]


def test_a_run_that_fails_leaves_its_units_and_its_ledger(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:  # left without a commit
        write_unit(publication, "one")
        publication.unit_dir("two")
        write_json(publication.root / "failures.json", {"failures": []})
        publication.keep_partial = True
    assert seen(out) == {"one": b"pixels"}
    assert sorted(p.name for p in out.iterdir()) == [MARKER, "failures.json", "one"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["out"]


def test_the_next_run_adds_and_replaces(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:
        write_unit(publication, "one")
    with UnitPublication(out, APP, resume=True) as publication:
        assert publication.holds("one")
        assert publication.adopt("one", "2" * 32) is None
        kept = publication.adopt("one", "1" * 32)
        assert kept is not None
        publication.renew({**kept, "title": "Renewed"})
        write_unit(publication, "two", b"more")
        replaced = write_unit(publication, "two", b"other")
        finish(publication, replaced)
    assert seen(out) == {"one": b"pixels", "two": b"other"}
    assert json.loads((out / "one" / "one.json").read_text())["title"] == "Renewed"
    assert json.loads((out / "catalog.json").read_text()) == {"links": ["one", "two"]}


def test_a_unit_that_is_replaced_loses_its_item_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Killed at any step, a reader sees the old unit, none, or the new one."""
    steps: list[dict[str, bytes]] = []
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:
        write_unit(publication, "one", b"before")

    def watched(action: Callable[..., None]) -> Callable[..., None]:
        def act(self: DirectoryPlace, *arguments: Any) -> None:
            steps.append(seen(out))
            action(self, *arguments)
            steps.append(seen(out))

        return act

    monkeypatch.setattr(DirectoryPlace, "put", watched(DirectoryPlace.put))
    monkeypatch.setattr(DirectoryPlace, "delete", watched(DirectoryPlace.delete))
    with UnitPublication(out, APP) as publication:
        write_unit(publication, "one", b"after")
    order = [step for n, step in enumerate(steps) if n == 0 or step != steps[n - 1]]
    assert order == [{"one": b"before"}, {}, {"one": b"after"}]


def write_cell(publication: UnitPublication, *chips: str) -> None:
    """Make a unit whose outputs have items of their own."""
    folder = publication.unit_dir("cell")
    links = []
    for chip in chips:
        content = chip.encode()
        (folder / f"{chip}.tif").write_bytes(content)
        checksum = "1220" + hashlib.sha256(content).hexdigest()
        asset = {"href": f"./{chip}.tif", "file:size": len(content), "file:checksum": checksum}
        name = chip.partition("-")[0]
        path = write_json(folder / f"{name}.json", {"id": name, "assets": {"image": asset}})
        own = path.read_bytes()
        checksum = "1220" + hashlib.sha256(own).hexdigest()
        links.append({"rel": "item", "href": f"./{name}.json", "file:size": len(own), "file:checksum": checksum})
    write_json(
        folder / "cell.json", {"id": "cell", "properties": {"eoap:digest": "1" * 32}, "assets": {}, "links": links}
    )
    publication.unit_done("cell")


def test_outputs_are_whole_whenever_their_items_are_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every step of making a cell, and of replacing it by one with other chips."""
    steps: list[dict[str, bytes]] = []
    out = tmp_path / "out"

    def watched(action: Callable[..., None]) -> Callable[..., None]:
        def act(self: DirectoryPlace, *arguments: Any) -> None:
            action(self, *arguments)
            steps.append(seen(out))

        return act

    monkeypatch.setattr(DirectoryPlace, "put", watched(DirectoryPlace.put))
    monkeypatch.setattr(DirectoryPlace, "delete", watched(DirectoryPlace.delete))
    with UnitPublication(out, APP) as publication:
        write_cell(publication, "one-a", "two-a")
        write_cell(publication, "one-b", "three-b")
    assert {"one": b"one-a", "two": b"two-a"} in steps
    assert steps[-1] == {"one": b"one-b", "three": b"three-b"}
    assert sorted(p.name for p in (out / "cell").iterdir()) == [
        *("cell.json", "one-b.tif", "one.json", "three-b.tif", "three.json")
    ]


@pytest.mark.parametrize("there", ["file", "directory", "product", "another", "snapshot"])
def test_what_is_somebody_elses_is_refused(tmp_path: Path, there: str) -> None:
    out = tmp_path / "out"
    if there == "file":
        out.write_text("mine")
    else:
        out.mkdir()
        (out / "catalog.json").write_text("mine")
    if there == "product":
        write_json(out / "run.json", identity(APP))
    elif there == "another":
        write_json(out / MARKER, {**identity("other"), "kind": "per-unit"})
    elif there == "snapshot":
        shutil.rmtree(out)
        (tmp_path / "out.partial").mkdir()
        write_json(tmp_path / "out.partial" / MARKER, identity(APP))
    before = sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file())
    with pytest.raises(OutputError), UnitPublication(out, APP):
        pass
    assert sorted((p, p.read_bytes()) for p in tmp_path.rglob("*") if p.is_file()) == before


def test_what_a_killed_put_left_is_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:
        write_unit(publication, "one")
    (out / ".catalog.json.12345.tmp").write_text("half")
    with UnitPublication(out, APP):
        assert not (out / ".catalog.json.12345.tmp").exists()


def test_one_run_at_a_time(tmp_path: Path) -> None:
    with (
        UnitPublication(tmp_path / "out", APP),
        pytest.raises(OutputError, match="Another run is writing"),
        UnitPublication(tmp_path / "out", APP),
    ):
        pass


def test_a_unit_that_is_not_whole_is_not_published(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:
        folder = publication.unit_dir("one")
        write_json(folder / "one.json", {"id": "one", "properties": {}, "assets": {"data": {"href": "./x.tif"}}})
        with pytest.raises(ValueError, match="has no size or checksum"):
            publication.unit_done("one")
        for key in ("", "../x", "X", ".hidden"):
            with pytest.raises(ValueError, match="can't name"):
                publication.unit_dir(key)
    assert [p.name for p in out.iterdir()] == [MARKER]


# Places.


def test_a_place_keeps_files_by_name(tmp_path: Path) -> None:
    place = DirectoryPlace(tmp_path / "out")
    (tmp_path / "file").write_bytes(b"content")
    place.put("a/b/c.txt", tmp_path / "file")
    place.put("d.txt", tmp_path / "file")
    assert list(place.names()) == ["d.txt", "a/b/c.txt"]
    assert list(place.names("a")) == ["a/b/c.txt"]
    assert place.read("a/b/c.txt") == b"content"
    assert place.read("nothing") is None
    place.delete("a/b/c.txt")
    assert list(place.names()) == ["d.txt"]
    assert not (tmp_path / "out" / "a").exists()
    place.delete("nothing")


@pytest.mark.parametrize("name", ["", "/etc/passwd", "../x", "a/../../x", "a//b", "./x"])
def test_a_place_has_no_names_that_lead_out_of_it(tmp_path: Path, name: str) -> None:
    with pytest.raises(OutputError, match="isn't the name of a file below"):
        DirectoryPlace(tmp_path).read(name)
