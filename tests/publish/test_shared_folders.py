"""Units that share a directory: each is where its item is, whole, and nobody touches those beside it."""

# ruff: noqa: PT012  # what a run does before it fails belongs into the block that expects the failure

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.errors import OutputError
from eoap_dask.files import write_json
from eoap_dask.publish.checks import identity
from eoap_dask.publish.holdings import (
    Holdings,
    UnitState,
    check_product,
    product_units,
    record_of,
    records_in,
    units_in,
)
from eoap_dask.publish.per_unit import UnitPublication
from eoap_dask.publish.publication import Publication
from eoap_dask.publish.publisher import Publisher

APP = "change-detection"
ONE, TWO, TEN = "images/2022/cell_1", "images/2022/cell_2", "images/2022/cell_10"
LATER = "masks/2023/cell_1"
DIGEST = "1" * 32


def make(publication: Publisher, key: str, content: bytes = b"pixels", *, is_done: bool = True) -> dict[str, Any]:
    folder, name = publication.unit_dir(key), key.rpartition("/")[2]
    assert not any(folder.iterdir())
    (folder / f"{name}.tiff").write_bytes(content)
    checksum = "1220" + hashlib.sha256(content).hexdigest()
    asset = {"href": f"./{name}.tiff", "file:size": len(content), "file:checksum": checksum}
    properties = {"eoap:digest": DIGEST, "eoap:digest_parts": {}, "eoap:unit": key}
    item = {"id": name, "properties": properties, "assets": {"data": asset}}
    write_json(folder / f"{name}.json", item)
    if is_done:
        publication.unit_done(key)
    return item


def finish(publication: Publisher, *keys: str) -> None:
    write_json(publication.root / "run.json", identity(APP))
    links = [{"rel": "item", "href": f"./{key}.json"} for key in keys]
    write_json(publication.root / "catalog.json", {"links": links})
    publication.commit()


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


def of(*keys: str) -> set[str]:
    return {f"{key}{suffix}" for key in keys for suffix in (".json", ".tiff")}


def test_a_product_has_its_files_where_keys_say(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Publication(out, APP) as publication:
        for key in (ONE, TEN, LATER):
            make(publication, key)
        make(publication, TWO, is_done=False)  # nothing of it is seen
        assert publication.file_of(ONE, "cell_1.tiff").read_bytes() == b"pixels"
        finish(publication, ONE, TEN, LATER)
    assert files(out) == {*of(ONE, TEN, LATER), "catalog.json", "run.json"}
    assert product_units(out) == (ONE, TEN, LATER)
    assert units_in(out) == {ONE, TEN, LATER} == set(records_in(out))
    assert record_of(out / "images" / "2022", ONE) is not None
    check_product(out, APP, out)


def test_what_a_killed_run_left_is_taken_over_and_the_rest_goes(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Publication(out, APP) as publication:
        make(publication, ONE)
        make(publication, TEN)
        make(publication, TWO, is_done=False)
        raise KeyboardInterrupt
    partial = tmp_path / "out.partial"
    assert files(partial) - {".eoap-dask.json"} == of(ONE, TEN)
    # killed between the file of a unit and its item
    (partial / "images" / "2022" / "cell_2.tiff").write_bytes(b"half")
    (partial / "images" / "2022" / ".cell_2.json.77.tmp").write_bytes(b"{")
    (partial / "images" / "2022" / "cell_10.tiff").write_bytes(b"spoilt")
    with Publication(out, APP, resume=True) as publication:
        assert files(partial) - {".eoap-dask.json"} == of(ONE, TEN)
        assert publication.holds(ONE)
        assert not publication.holds(TWO)
        assert publication.adopt(ONE, DIGEST) is not None
        assert publication.adopt(TEN, DIGEST) is None  # damaged: nothing of it stays
        assert files(partial) - {".eoap-dask.json"} == of(ONE)
        make(publication, TEN)
        finish(publication, ONE, TEN)
    assert files(out) == {*of(ONE, TEN), "catalog.json", "run.json"}


def test_units_that_are_not_asked_for_go_and_leave_no_directory(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(KeyboardInterrupt), Publication(out, APP) as publication:
        for key in (ONE, TEN, LATER):
            make(publication, key)
        raise KeyboardInterrupt
    with Publication(out, APP, resume=True) as publication:
        publication.keep_only([TEN])
        assert publication.adopt(TEN, DIGEST) is not None
        finish(publication, TEN)
    assert files(out) == {*of(TEN), "catalog.json", "run.json"}
    assert not (out / "masks").exists()


def test_an_update_takes_files_of_the_product_and_leaves_that_alone(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Publication(out, APP) as publication:
        make(publication, ONE)
        make(publication, TEN)
        finish(publication, ONE, TEN)
    holdings = Holdings(out, APP)
    assert holdings.state(ONE, DIGEST, None)[0] == UnitState("skip", "unchanged")
    assert holdings.state(TWO, DIGEST, None)[0] == UnitState("new", "not there")
    before = (out / "images" / "2022" / "cell_1.tiff").stat().st_ino
    with Publication(out, APP, resume=True, update=True) as publication:
        item = publication.adopt(ONE, DIGEST)
        assert item is not None
        publication.renew({**item, "properties": {**item["properties"], "title": "anew"}})
        assert "title" not in json.loads((out / f"{ONE}.json").read_text())["properties"]
        assert publication.adopt(TEN, DIGEST) is not None
        publication.forget(TEN)
        make(publication, TWO)
        finish(publication, ONE, TWO)
    assert files(out) == {*of(ONE, TWO), "catalog.json", "run.json"}
    assert (out / "images" / "2022" / "cell_1.tiff").stat().st_ino == before
    assert json.loads((out / f"{ONE}.json").read_text())["properties"]["title"] == "anew"


def test_a_file_of_somebody_else_among_units_is_never_removed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Publication(out, APP) as publication:
        make(publication, ONE)
        finish(publication, ONE)
    (out / "images" / "2022" / "cell_1.tiff.aux.xml").write_text("<PAMDataset/>")  # a viewer's
    check_product(out, APP, out)
    (out / "images" / "2022" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"images/2022/notes\.txt"):
        check_product(out, APP, out)


def test_a_unit_that_lacks_what_its_item_lists_is_never_done(tmp_path: Path) -> None:
    with Publication(tmp_path / "out", APP) as publication:
        make(publication, ONE, is_done=False)
        item = json.loads((publication.scratch / ONE / "cell_1.json").read_text())
        item["assets"]["data"]["href"] = "../elsewhere.tiff"
        write_json(publication.scratch / ONE / "cell_1.json", item)
        with pytest.raises(ValueError, match="isn't complete"):
            publication.unit_done(ONE)


@pytest.mark.parametrize("key", ["images/cell_1", "images/2022/sub/cell_1", "/2022/cell_1", "images/../cell_1", "a/b/"])
def test_other_paths_are_no_keys(tmp_path: Path, key: str) -> None:
    with Publication(tmp_path / "out", APP) as publication, pytest.raises(ValueError, match="can't name"):
        publication.unit_dir(key)


def test_a_product_that_grows_has_them_too(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with UnitPublication(out, APP) as publication:
        first = make(publication, ONE)
        assert files(out) == {*of(ONE), ".eoap-dask.json"}
        make(publication, TEN)
        publication.renew({**first, "properties": {**first["properties"], "title": "anew"}})
        finish(publication, ONE, TEN)
    with UnitPublication(out, APP) as publication:
        assert publication.holds(ONE)
        assert publication.adopt(ONE, DIGEST)["properties"]["title"] == "anew"
        make(publication, TEN, b"others")
        assert [item["id"] for item in publication.all_items(())] == ["cell_1", "cell_10"]
        finish(publication, ONE, TEN)
    assert (out / f"{TEN}.tiff").read_bytes() == b"others"
    assert (out / f"{ONE}.tiff").read_bytes() == b"pixels"
