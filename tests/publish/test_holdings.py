"""What is there already is recognised, and nothing is taken for finished that isn't."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.errors import OutputError
from eoap_dask.files import write_json
from eoap_dask.publish.checks import check_output, identity
from eoap_dask.publish.exchange import ASIDE_MARK
from eoap_dask.publish.holdings import (
    MARKER,
    FinishedUnit,
    Holdings,
    UnitFile,
    UnitRecord,
    UnitState,
    check_unit,
    foreign_files,
    product_units,
    record_of,
    records_in,
)

APP = "cloudless-mosaic"
KEY, DIGEST = "2021-07", "0123456789abcdef" * 2
PARTS = {"params": "p1", "scenes": ["s1", "s2"], "grid": "g1", "algorithm": "a1"}


def asset(folder: Path, name: str, content: bytes) -> dict[str, Any]:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    checksum = "1220" + hashlib.sha256(content).hexdigest()
    return {"href": f"./{name}", "file:size": len(content), "file:checksum": checksum}


def make_unit(root: Path, key: str = KEY, digest: str = DIGEST, parts: object = PARTS) -> Path:
    folder = root / key
    assets = {
        "data": asset(folder, f"{key}.tif", b"pixels of " + key.encode()),
        "visual": asset(folder, "visual.tif", b"picture"),
        "chip": asset(folder, "images/chip.tif", b"chip"),
    }
    properties = {"eoap:digest": digest, "eoap:digest_parts": parts}
    write_json(folder / f"{key}.json", {"id": key, "properties": properties, "assets": assets})
    return folder


def make_product(out: Path, *keys: str, application: str = APP) -> Path:
    out.mkdir()
    for key in keys or (KEY,):
        make_unit(out, key)
    links = [{"rel": "root", "href": "./catalog.json"}, {"rel": "child", "href": "./collection.json"}]
    links += [{"rel": "item", "href": f"./{key}/{key}.json"} for key in keys or (KEY,)]
    write_json(out / "catalog.json", {"links": links})
    write_json(out / "collection.json", {})
    write_json(out / "failures.json", {"failures": []})
    contents = sorted([p.name for p in out.iterdir()] + ["run.json"])
    write_json(out / "run.json", {**identity(application), "contents": contents})
    return out


def make_partial(out: Path, *keys: str, application: str = APP) -> Path:
    partial = out.parent / (out.name + ".partial")
    partial.mkdir()
    write_json(partial / MARKER, identity(application))
    for key in keys:
        make_unit(partial, key)
    return partial


def edit(path: Path, change: Callable[[Any], object]) -> None:
    document = json.loads(path.read_text())
    change(document)
    path.write_text(json.dumps(document))


def snapshot(folder: Path) -> dict[str, object]:
    return {str(p.relative_to(folder)): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


# --- one unit -------------------------------------------------------------------------------------


def test_a_finished_unit_is_returned_with_what_it_consists_of(tmp_path: Path) -> None:
    folder = make_unit(tmp_path)
    found = check_unit(folder, KEY, DIGEST)
    assert isinstance(found, FinishedUnit)
    assert found.content == (folder / f"{KEY}.json").read_bytes()
    assert found.item == json.loads(found.content)
    assert [file.name for file in found.files] == ["2021-07.tif", "visual.tif", "images/chip.tif"]
    assert found.files[1] == UnitFile("visual.tif", 7, hashlib.sha256(b"picture").hexdigest())


def test_a_unit_without_assets_is_finished(tmp_path: Path) -> None:
    write_json(tmp_path / "u.json", {"id": "u", "properties": {"eoap:digest": DIGEST}, "assets": {}})
    assert isinstance(check_unit(tmp_path, "u", DIGEST), FinishedUnit)


def damage(name: str) -> Callable[[Path], object]:
    return {
        "no directory": lambda f: f.rename(f.parent / "moved"),
        "directory is a file": lambda f: (f.rename(f.parent / "moved"), f.touch()),
        "directory is a link": lambda f: (f.rename(f.parent / "moved"), f.symlink_to(f.parent / "moved")),
        "no item": lambda f: (f / "2021-07.json").unlink(),
        "item is a link": lambda f: (
            (f / "2021-07.json").rename(f / "real.json"),
            (f / "2021-07.json").symlink_to("real.json"),
        ),
        "item is a directory": lambda f: ((f / "2021-07.json").unlink(), (f / "2021-07.json").mkdir()),
        "item cut": lambda f: (f / "2021-07.json").write_bytes((f / "2021-07.json").read_bytes()[:-9]),
        "item empty": lambda f: (f / "2021-07.json").write_bytes(b""),
        "item not text": lambda f: (f / "2021-07.json").write_bytes(b"\xff\xfe\0"),
        "item too deep": lambda f: (f / "2021-07.json").write_text("[" * 100_000),
        "item a list": lambda f: (f / "2021-07.json").write_text("[1]"),
        "another id": lambda f: edit(f / "2021-07.json", lambda d: d.update(id="2021-08")),
        "no properties": lambda f: edit(f / "2021-07.json", lambda d: d.pop("properties")),
        "no assets": lambda f: edit(f / "2021-07.json", lambda d: d.pop("assets")),
        "assets a list": lambda f: edit(f / "2021-07.json", lambda d: d.update(assets=[])),
        "no digest": lambda f: edit(f / "2021-07.json", lambda d: d["properties"].pop("eoap:digest")),
        "file gone": lambda f: (f / "visual.tif").unlink(),
        "file longer": lambda f: (f / "visual.tif").write_bytes(b"pictures"),
        "file changed": lambda f: (f / "visual.tif").write_bytes(b"Picture"),
        "file is a directory": lambda f: ((f / "visual.tif").unlink(), (f / "visual.tif").mkdir()),
        "file is a link": lambda f: (
            (f / "visual.tif").rename(f / "real.tif"),
            (f / "visual.tif").symlink_to("real.tif"),
        ),
        "folder is a link": lambda f: ((f / "images").rename(f / "real"), (f / "images").symlink_to("real")),
        "folder is a file": lambda f: ((f / "images").rename(f / "real"), (f / "images").touch()),
    }[name]


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("no directory", "not there"),
        ("directory is a file", "its directory isn't one"),
        ("directory is a link", "its directory isn't one"),
        ("no item", "unfinished"),
        ("item is a link", "unfinished"),
        ("item is a directory", "unfinished"),
        ("item cut", "its item isn't JSON"),
        ("item empty", "its item isn't JSON"),
        ("item not text", "its item isn't JSON"),
        ("item too deep", "its item isn't JSON"),
        ("item a list", "its item isn't JSON"),
        ("another id", "its item isn't one of ours"),
        ("no properties", "its item isn't one of ours"),
        ("no assets", "its item isn't one of ours"),
        ("assets a list", "its item isn't one of ours"),
        ("no digest", "what it is made from changed"),
        ("file gone", "visual.tif isn't there"),
        ("file longer", "visual.tif has 8 bytes instead of 7"),
        ("file changed", "visual.tif doesn't match its checksum"),
        ("file is a directory", "visual.tif isn't there"),
        ("file is a link", "visual.tif isn't there"),
        ("folder is a link", "images/chip.tif isn't there"),
        ("folder is a file", "images/chip.tif isn't there"),
    ],
)
def test_what_isnt_finished_says_why(tmp_path: Path, kind: str, reason: str) -> None:
    folder = make_unit(tmp_path)
    damage(kind)(folder)
    assert check_unit(folder, KEY, DIGEST) == reason


@pytest.mark.parametrize(
    "href",
    [
        "../2021-07/visual.tif", "/etc/hostname", "./../x", "images/../visual.tif", "a//b", "", ".", "./", "images/",
        "http://example.org/x.tif", "file:///etc/hostname", "x\0y", "\ud800", None, 7, ["visual.tif"], "././visual.tif",
    ],
)  # fmt: skip
def test_assets_elsewhere_arent_vouched_for(tmp_path: Path, href: object) -> None:
    folder = make_unit(tmp_path)
    edit(folder / f"{KEY}.json", lambda d: d["assets"]["visual"].update(href=href))
    assert check_unit(folder, KEY, DIGEST) == "its asset visual isn't in its directory"


@pytest.mark.parametrize(
    ("field", "content"),
    [
        ("file:size", None), ("file:size", "7"), ("file:size", 7.0),
        ("file:checksum", None), ("file:checksum", hashlib.sha256(b"picture").hexdigest()),
        ("file:checksum", "1114" + "0" * 64), ("file:checksum", 5),
    ],
)  # fmt: skip
def test_assets_without_size_or_checksum_arent_vouched_for(tmp_path: Path, field: str, content: object) -> None:
    folder = make_unit(tmp_path)
    edit(folder / f"{KEY}.json", lambda d: d["assets"]["visual"].update({field: content}))
    assert check_unit(folder, KEY, DIGEST) == "its asset visual has no size or checksum"
    edit(folder / f"{KEY}.json", lambda d: d["assets"].update(visual="visual.tif"))
    assert isinstance(check_unit(folder, KEY, DIGEST), str)


def test_a_name_that_no_disk_takes(tmp_path: Path) -> None:
    folder = make_unit(tmp_path)
    edit(folder / f"{KEY}.json", lambda d: d["assets"]["visual"].update(href="x" * 300))
    assert check_unit(folder, KEY, DIGEST) == "it can't be read (File name too long)"


@pytest.mark.parametrize("kind", ["no item", "item is a link", "item cut", "another id", "no properties", "no digest"])
def test_an_item_that_says_nothing_of_its_unit(tmp_path: Path, kind: str) -> None:
    folder = make_unit(tmp_path)
    damage(kind)(folder)
    assert record_of(folder, KEY) is None
    assert records_in(tmp_path) == {}


def test_what_an_item_says_whatever_its_files(tmp_path: Path) -> None:
    folder = make_unit(tmp_path)
    damage("file gone")(folder)
    assert record_of(folder, KEY) == UnitRecord(DIGEST, PARTS)
    edit(folder / f"{KEY}.json", lambda d: d["properties"].update({"eoap:digest_parts": "x"}))
    (tmp_path / "run.json").touch()
    assert records_in(tmp_path) == {KEY: UnitRecord(DIGEST, {})}
    (tmp_path / "link").symlink_to(folder)
    assert record_of(tmp_path / "link", KEY) is None
    assert records_in(tmp_path / "nowhere") == {}


@pytest.mark.parametrize(
    ("now", "reason"),
    [
        ({**PARTS, "params": "p2"}, "the parameters changed"),
        ({**PARTS, "grid": "g2"}, "the grid changed"),
        ({**PARTS, "algorithm": "a2"}, "the algorithm changed"),
        ({**PARTS, "scenes": ["s2", "s3", "s4"]}, "the items changed (2 added, 1 gone)"),
        ({**PARTS, "params": "p2", "grid": "g2"}, "the parameters and the grid changed"),
        (
            {"params": "p2", "scenes": ["s1"], "grid": "g2"},
            "the parameters, the items (0 added, 1 gone) and the grid changed",
        ),
        ({"scenes": "s"}, "what it is made from changed"),  # a hash of all isn't comparable with one for each
        ({"params": ["p1"]}, "what it is made from changed"),
        ({"window": "w"}, "what it is made from changed"),
        (PARTS, "what it is made from changed"),
        ({}, "what it is made from changed"),
        (None, "what it is made from changed"),
    ],
)
def test_what_changed(tmp_path: Path, now: Any, reason: str) -> None:
    assert check_unit(make_unit(tmp_path), KEY, "0" * 32, now) == reason


def test_what_changed_with_parts_of_other_shapes(tmp_path: Path) -> None:
    assert check_unit(make_unit(tmp_path, parts={"scenes": "h1", "window": "w1"}), KEY, "0", {"scenes": "h2"}) == (
        "the items changed"
    )
    assert check_unit(tmp_path / KEY, KEY, "0", {"window": "w2"}) == "window changed"
    for parts in (None, "x", [1], {"scenes": 5}):
        make_unit(tmp_path, parts=parts)
        assert check_unit(tmp_path / KEY, KEY, "0", PARTS) == "what it is made from changed"


# --- all units ------------------------------------------------------------------------------------


def states_of(out: Path, units: Mapping[str, tuple[str, Any]]) -> dict[str, UnitState]:
    holdings = Holdings(out, APP)
    return {key: holdings.state(key, *of)[0] for key, of in units.items()}


def test_states_are_read_and_nothing_is_written(tmp_path: Path) -> None:
    out = make_product(tmp_path / "out", "a", "b", "c", "d")
    partial = make_partial(out, "b", "e")
    (out / "c" / "visual.tif").write_bytes(b"Picture")
    (partial / "f").mkdir()
    (partial / "d").mkdir()
    before = snapshot(tmp_path)
    changed = ("0" * 32, {"params": "p2"})
    states = states_of(
        out,
        dict.fromkeys("abc", (DIGEST, PARTS)) | {"d": changed, "e": (DIGEST, None), "f": changed, "g": changed},
    )
    assert states == {
        "a": UnitState("skip", "unchanged"),
        "b": UnitState("skip", "finished by an earlier run"),
        "c": UnitState("recompute", "visual.tif doesn't match its checksum"),
        "d": UnitState("recompute", "the parameters changed"),
        "e": UnitState("skip", "finished by an earlier run"),
        "f": UnitState("recompute", "unfinished"),
        "g": UnitState("new", "not there"),
    }
    assert list(states) == list("abcdefg")
    assert snapshot(tmp_path) == before


def test_states_without_anything(tmp_path: Path) -> None:
    assert states_of(tmp_path / "a" / "out", {KEY: (DIGEST, None)}) == {KEY: UnitState("new", "not there")}
    assert states_of(tmp_path / "out", {}) == {}


@pytest.mark.parametrize("kind", ["another application", "foreign", "link", "file"])
def test_an_unfinished_output_that_isnt_ours_counts_for_nothing(tmp_path: Path, kind: str) -> None:
    out = tmp_path / "out"
    partial = make_partial(out, KEY, application="crop-chips" if kind == "another application" else APP)
    if kind == "foreign":
        (partial / MARKER).write_text("{")
    elif kind == "link":
        partial.rename(tmp_path / "moved")
        partial.symlink_to(tmp_path / "moved")
    elif kind == "file":
        partial.rename(tmp_path / "moved")
        partial.touch()
    assert states_of(out, {KEY: (DIGEST, None)}) == {KEY: UnitState("new", "not there")}


def test_a_whole_generation_that_wasnt_published_is_looked_into(tmp_path: Path) -> None:
    make_product(tmp_path / "out.partial")
    assert states_of(tmp_path / "out", {KEY: (DIGEST, None)})[KEY].kind == "skip"


def test_a_product_that_stepped_aside_is_looked_into(tmp_path: Path) -> None:
    out = tmp_path / "out"
    make_product(out).rename(tmp_path / "out.old")
    assert product_units(out) == ()
    assert states_of(out, {KEY: (DIGEST, None)})[KEY].kind == "new"
    (tmp_path / "out.old" / ASIDE_MARK).touch()
    assert product_units(out) == (KEY,)
    assert states_of(out, {KEY: (DIGEST, None)}) == {KEY: UnitState("skip", "unchanged")}
    check_output(out, APP, update=True)


# --- a product ------------------------------------------------------------------------------------


def test_held_units_in_the_order_of_the_catalog(tmp_path: Path) -> None:
    out = make_product(tmp_path / "out", "b", "a", "c")
    assert product_units(out) == ("b", "a", "c")
    edit(out / "catalog.json", lambda d: d["links"].append({"rel": "item", "href": "a/a.json"}))
    edit(out / "catalog.json", lambda d: d["links"].append("odd"))
    assert product_units(out) == ("b", "a", "c")
    assert product_units(tmp_path / "nowhere") == ()


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ('{"links"', "its catalog.json isn't a JSON object"),
        ("[]", "its catalog.json isn't a JSON object"),
        ("{}", "its catalog.json has no links"),
        ('{"links": {}}', "its catalog.json has no links"),
        ('{"links": [{"rel": "item", "href": "../x/x.json"}]}', "lists '../x/x.json', which isn't a unit"),
        ('{"links": [{"rel": "item", "href": "./a/b.json"}]}', "lists './a/b.json', which isn't a unit"),
        ('{"links": [{"rel": "item"}]}', "lists 'None', which isn't a unit"),
        (None, "its catalog.json isn't there"),
    ],
)
def test_a_catalog_that_cant_be_understood(tmp_path: Path, content: str | None, reason: str) -> None:
    out = make_product(tmp_path / "out")
    (out / "catalog.json").unlink() if content is None else (out / "catalog.json").write_text(content)
    for ask in (
        lambda: product_units(out),
        lambda: check_output(out, APP, update=True),
        lambda: states_of(out, {}),
    ):
        with pytest.raises(OutputError) as caught:
            ask()
        assert reason in str(caught.value)
        assert "isn't a whole product of eoap-dask" in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("run.json cut", "isn't recognised as made by eoap-dask: its run.json isn't a JSON object"),
        ("run.json a directory", "isn't recognised as made by eoap-dask: its run.json isn't a file"),
        ("run.json of others", "wasn't made by eoap-dask."),
        ("no run.json", "wasn't made by eoap-dask."),
        ("ledger cut", "its failures.json isn't a JSON object"),
        ("another application", "already exists, made by crop-chips. This is cloudless-mosaic"),
        ("file", "is a file"),
        ("link", "is a symbolic link"),
        ("empty", "empty directory"),
    ],
)
def test_what_may_not_be_updated_says_why_and_stays(tmp_path: Path, kind: str, reason: str) -> None:
    out = make_product(tmp_path / "out", application="crop-chips" if kind == "another application" else APP)
    moved = tmp_path / "moved"
    {
        "run.json cut": lambda: (out / "run.json").write_text('{"software"'),
        "run.json a directory": lambda: ((out / "run.json").unlink(), (out / "run.json").mkdir()),
        "run.json of others": lambda: (out / "run.json").write_text('{"software": "gdal"}'),
        "no run.json": lambda: (out / "run.json").unlink(),
        "ledger cut": lambda: (out / "failures.json").write_text("[{"),
        "file": lambda: (out.rename(moved), out.touch()),
        "link": lambda: (out.rename(moved), out.symlink_to(moved)),
        "empty": lambda: (out.rename(moved), out.mkdir()),
    }.get(kind, lambda: None)()
    before = snapshot(tmp_path)
    for ask in (lambda: check_output(out, APP, update=True), lambda: states_of(out, {})):
        with pytest.raises(OutputError) as caught:
            ask()
        assert reason in str(caught.value)
        assert "remove it" not in str(caught.value) or kind == "empty"
    assert snapshot(tmp_path) == before


def test_a_product_without_a_ledger_may_be_updated(tmp_path: Path) -> None:
    out = make_product(tmp_path / "out")
    (out / "failures.json").unlink()
    check_output(out, APP, update=True)


def test_foreign_files(tmp_path: Path) -> None:
    out = make_product(tmp_path / "out", "a", "b")
    for name in ("a/visual.tif.aux.xml", "count.tif.aux.xml", ".DS_Store", "a/images/Thumbs.db"):
        (out / name).touch()
    assert foreign_files(out) == []
    check_output(out, APP, update=True)
    (out / "thesis.qgz").touch()
    (out / "notes").mkdir()
    (out / "a" / "images" / "mine.tif").touch()
    (out / "a" / "link").symlink_to(tmp_path)
    (out / "b" / "b.json").write_text("{")  # its item doesn't tell what belongs to it
    (out / "b" / "whatever").touch()
    assert foreign_files(out) == ["a/images/mine.tif", "a/link", "notes", "thesis.qgz"]
    with pytest.raises(OutputError, match=r"a/images/mine\.tif, a/link, notes and 1 more"):
        check_output(out, APP, update=True)
    edit(out / "run.json", lambda d: d.pop("contents"))
    assert foreign_files(out) == []


def test_a_disk_that_fails_in_reading(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(path: Path) -> str:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr("eoap_dask.publish.holdings.sha256_of", fail)
    assert check_unit(make_unit(tmp_path), KEY, DIGEST) == "it can't be read (Input/output error)"


# --- outputs with items of their own, and stores of many objects ---------------------------------------


def make_cell(root: Path) -> Path:
    """A unit without assets of its own, whose two outputs have items."""
    folder = root / KEY
    links = [{"rel": "root", "href": "../catalog.json"}]
    for name in ("chip-1", "chip-2"):
        assets = {"image": asset(folder, f"images/{name}.tif", name.encode())}
        content = json.dumps({"id": name, "assets": assets}).encode()
        links.append({"rel": "item", **asset(folder, f"{name}.json", content)})
    write_json(folder / f"{KEY}.json", {"id": KEY, "properties": {"eoap:digest": DIGEST}, "assets": {}, "links": links})
    return folder


def test_a_unit_of_outputs_is_all_their_files(tmp_path: Path) -> None:
    found = check_unit(make_cell(tmp_path), KEY, DIGEST)
    assert isinstance(found, FinishedUnit)
    assert [file.name for file in found.files] == [
        *("images/chip-1.tif", "chip-1.json"),
        *("images/chip-2.tif", "chip-2.json"),
    ]
    (tmp_path / KEY / f"{KEY}.json").write_text(
        json.dumps({"id": KEY, "properties": {"eoap:digest": DIGEST}, "assets": {}, "links": []})
    )
    empty = check_unit(tmp_path / KEY, KEY, DIGEST)
    assert isinstance(empty, FinishedUnit)
    assert empty.files == ()


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda f: (f / "chip-2.json").unlink(), "chip-2.json isn't there"),
        (lambda f: (f / "chip-2.json").write_text("{}"), "chip-2.json has 2 bytes instead of"),
        (lambda f: (f / "images/chip-2.tif").write_bytes(b"chip-3"), "images/chip-2.tif doesn't match its checksum"),
        (lambda f: (f / "images/chip-1.tif").unlink(), "images/chip-1.tif isn't there"),
    ],
)
def test_a_damaged_output_is_noticed(tmp_path: Path, damage: Callable[[Path], object], why: str) -> None:
    folder = make_cell(tmp_path)
    damage(folder)
    assert str(check_unit(folder, KEY, DIGEST)).startswith(why)


@pytest.mark.parametrize("href", ["../other.json", "/etc/passwd", "https://x/y.json", None])
def test_an_output_elsewhere_counts_for_nothing(tmp_path: Path, href: str | None) -> None:
    folder = make_cell(tmp_path)
    edit(folder / f"{KEY}.json", lambda d: d["links"][1].update(href=href))
    assert check_unit(folder, KEY, DIGEST) == f"its output {href} isn't in its directory"


def make_store(root: Path) -> Path:
    """A unit whose one asset is a store of two objects."""
    folder = root / KEY
    objects = [asset(folder, f"cube.zarr/{name}", name.encode()) for name in ("zarr.json", "c/0/0")]
    content = json.dumps({"objects": {one.pop("href"): one for one in objects}}).encode()
    store = {
        **asset(folder, "cube.manifest.json", content),
        "href": "./cube.zarr",
        "eoap:manifest": "cube.manifest.json",
    }
    write_json(folder / f"{KEY}.json", {"id": KEY, "properties": {"eoap:digest": DIGEST}, "assets": {"cube": store}})
    return folder


def test_a_store_is_what_its_manifest_lists(tmp_path: Path) -> None:
    found = check_unit(make_store(tmp_path), KEY, DIGEST)
    assert isinstance(found, FinishedUnit)
    assert [file.name for file in found.files] == ["cube.zarr/zarr.json", "cube.zarr/c/0/0", "cube.manifest.json"]


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        (lambda f: (f / "cube.zarr/c/0/0").unlink(), "cube.zarr/c/0/0 isn't there"),
        (lambda f: (f / "cube.zarr/zarr.json").write_bytes(b"ZARR.json"), "cube.zarr/zarr.json doesn't match"),
        (lambda f: (f / "cube.manifest.json").unlink(), "cube.manifest.json isn't there"),
    ],
)
def test_a_damaged_store_is_noticed(tmp_path: Path, damage: Callable[[Path], object], why: str) -> None:
    folder = make_store(tmp_path)
    damage(folder)
    assert str(check_unit(folder, KEY, DIGEST)).startswith(why)
