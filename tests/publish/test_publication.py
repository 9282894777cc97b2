"""The output exists only when it is complete, and nothing is left behind, whatever happens."""

# ruff: noqa: PT012  # what a run does before it fails belongs into the block that expects the failure

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from eoap_dask.errors import OutputError
from eoap_dask.files import write_bytes, write_json
from eoap_dask.publish import exchange, lock
from eoap_dask.publish import publication as publish
from eoap_dask.publish.checks import check_output, identity
from eoap_dask.publish.exchange import ASIDE_MARK
from eoap_dask.publish.holdings import MARKER, Holdings, product_units
from eoap_dask.publish.publication import Publication

APP = "cloudless-mosaic"


def tree(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


def make_unit(publication: Publication, key: str) -> None:
    folder = publication.unit_dir(key)
    (folder / f"{key}.json").write_text("{}")
    publication.unit_done(key)


def finish(publication: Publication) -> None:
    write_json(publication.root / "run.json", identity(APP))
    write_json(publication.root / "catalog.json", {})


def publish_one(out: Path) -> Path:
    with Publication(out, APP) as publication:
        make_unit(publication, "2021-07")
        finish(publication)
        return publication.commit()


# --- the good day ---------------------------------------------------------------------------------


def test_output_appears_at_the_end_and_nothing_else_stays(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with Publication(out, APP) as publication:
        assert publication.root == tmp_path / "out.partial"
        assert json.loads((publication.root / MARKER).read_text()) == identity(APP)
        assert publication.scratch.is_dir()
        (publication.scratch / "spill").write_text("x")
        make_unit(publication, "2021-07")
        publication.unit_dir("2021-08")  # failed, and allowed to
        finish(publication)
        assert not out.exists()
        assert publication.commit() == out
        assert publication.committed
        assert tree(tmp_path) == {
            "out", "out/2021-07", "out/2021-07/2021-07.json", "out/catalog.json", "out/run.json", "out.lock"
        }  # fmt: skip
    assert "out.lock" not in tree(tmp_path)


def test_a_signal_at_the_very_beginning_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As soon as the directory is there, and before anything is in it."""
    mkdir = Path.mkdir

    def interrupted(self: Path, *args: Any, **how: Any) -> None:
        mkdir(self, *args, **how)
        if self.name == "out.partial":
            raise KeyboardInterrupt

    monkeypatch.setattr(Path, "mkdir", interrupted)
    with pytest.raises(KeyboardInterrupt), Publication(tmp_path / "out", "cloudless-mosaic"):
        raise AssertionError
    assert list(tmp_path.iterdir()) == []


def test_parents_are_created_and_stay(tmp_path: Path) -> None:
    out = publish_one(tmp_path / "a" / "b" / "out")
    assert out.is_dir()


def test_the_rename_is_one_step(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """At each call into the system that changes names, the output is absent, or whole."""
    out = tmp_path / "out"
    seen = []

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event in ("os.rename", "os.remove", "os.rmdir", "os.mkdir", "open"):
            seen.append(event)
            if os.path.lexists(out):
                assert {"run.json", "catalog.json", "2021-07"} == {path.name for path in out.iterdir()}

    watching = True
    sys.addaudithook(watch)
    try:
        publish_one(out)
    finally:
        watching = False
    assert "os.rename" in seen


def test_everything_is_synced_before_the_rename(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced = []
    monkeypatch.setattr(publish, "fsync_tree", lambda root: synced.append((root, (tmp_path / "out").exists())))
    publish_one(tmp_path / "out")
    assert synced == [(tmp_path / "out.partial", False)]


# --- refusals -------------------------------------------------------------------------------------


@pytest.fixture(params=["check", "enter"])
def refused(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[object]:
    """A function that says why an output is refused; by the check and by a run; neither changes a thing."""

    def why(out: Path, application: str = APP) -> str:
        before = tree(tmp_path)
        with pytest.raises(OutputError) as caught:
            if request.param == "check":
                check_output(out, application)
            else:
                with Publication(out, application):
                    pass
        assert tree(tmp_path) == before
        assert caught.value.exit_code == 2
        return str(caught.value)

    return why


def test_a_free_place_passes_and_nothing_is_written(tmp_path: Path) -> None:
    check_output(tmp_path / "a" / "b" / "out", APP)
    assert not tree(tmp_path)


def test_output_of_ours_is_refused(tmp_path: Path, refused) -> None:
    publish_one(tmp_path / "out")
    why = refused(tmp_path / "out")
    assert "already exists, made by cloudless-mosaic" in why
    assert "Choose another output_dir, or remove it." in why


def test_foreign_directory_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "out").mkdir()
    assert "empty directory" in refused(tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").touch()
    why = refused(tmp_path / "out")
    assert "wasn't made by eoap-dask" in why
    assert "remove" not in why
    (tmp_path / "out" / "run.json").write_text("[1]")
    assert "isn't recognised as made by eoap-dask" in refused(tmp_path / "out")


def test_file_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "out").touch()
    assert "is a file" in refused(tmp_path / "out")


@pytest.mark.parametrize("target", ["elsewhere", "nowhere", "out"])
def test_link_is_refused(tmp_path: Path, refused, target: str) -> None:
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").symlink_to(tmp_path / target)
    assert "is a symbolic link" in refused(tmp_path / "out")


def test_parent_that_is_a_file_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "file").touch()
    assert "isn't a directory" in refused(tmp_path / "file" / "out")
    assert "isn't a directory" in refused(tmp_path / "file" / "a" / "out")


def test_places_that_exist_by_nature_are_refused(tmp_path: Path, refused, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "empty directory" in refused(Path())
    (tmp_path / "x").touch()
    for place in (".", "..", "sub/.."):
        assert "already exists" in refused(Path(place))
    assert "can't be an output" in refused(Path("/"))


def test_foreign_partial_is_refused(tmp_path: Path, refused) -> None:
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / "data").touch()
    assert "out.partial exists and wasn't made by eoap-dask" in refused(tmp_path / "out")
    (partial / MARKER).write_text('{"software": "something else"}')
    assert "wasn't made by eoap-dask" in refused(tmp_path / "out")
    (partial / MARKER).write_text(json.dumps(identity("crop-chips")))
    assert "unfinished run of crop-chips" in refused(tmp_path / "out")


def test_partial_that_is_a_file_or_a_link_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "out.partial").touch()
    assert "isn't a directory" in refused(tmp_path / "out")
    (tmp_path / "out.partial").unlink()
    ours = tmp_path / "ours"
    ours.mkdir()
    (ours / MARKER).write_text(json.dumps(identity(APP)))
    (tmp_path / "out.partial").symlink_to(ours)
    assert "is a symbolic link" in refused(tmp_path / "out")


@pytest.mark.parametrize("kind", ["directory", "link", "foreign file"])
def test_lock_that_isnt_ours_is_refused_and_stays(tmp_path: Path, kind: str) -> None:
    lock, other = tmp_path / "out.lock", tmp_path / "other"
    other.write_text("precious")
    if kind == "directory":
        lock.mkdir()
    elif kind == "link":
        lock.symlink_to(other)
    else:
        lock.write_text("lock of another program")
    before = tree(tmp_path)
    with pytest.raises(OutputError, match=r"out\.lock"), Publication(tmp_path / "out", APP):
        pass
    assert tree(tmp_path) == before
    assert other.read_text() == "precious"


def test_parent_that_refuses_a_directory(tmp_path: Path) -> None:
    """/proc denies everybody, root included, and not before one tries."""
    if not Path("/proc/self").exists():
        pytest.skip("no /proc here")
    with pytest.raises(OutputError, match="can't be"), Publication(Path("/proc/eoap/out"), APP):
        pass
    with pytest.raises(OutputError, match="can't be"), Publication(Path("/proc/out"), APP):
        pass


def test_parent_that_is_read_only() -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:  # pytest's own is closed to nobody
        Path(folder).chmod(0o555)
        me = os.geteuid()
        if me == 0:
            os.seteuid(65534)
        try:
            with pytest.raises(OutputError, match="can't be"), Publication(Path(folder, "out"), APP):
                pass
            with pytest.raises(OutputError, match="can't be"), Publication(Path(folder, "new", "out"), APP):
                pass
        finally:
            os.seteuid(me)
            Path(folder).chmod(0o755)
        assert not tree(Path(folder))


def test_name_that_is_too_long(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match="File name too long"), Publication(tmp_path / ("x" * 254), APP):
        pass
    assert not tree(tmp_path)


# --- leaving without an output --------------------------------------------------------------------


def test_nothing_done_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(ZeroDivisionError), Publication(tmp_path / "a" / "b" / "out", APP) as publication:
        (publication.unit_dir("2021-07") / "half.tif").touch()
        write_json(publication.root / "items.json", {})
        raise ZeroDivisionError
    assert not tree(tmp_path)


def test_leaving_without_commit_or_error_leaves_nothing(tmp_path: Path) -> None:
    with Publication(tmp_path / "out", APP):
        pass
    assert not tree(tmp_path)


def test_done_units_stay_for_a_rerun_and_half_written_ones_go(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt), Publication(tmp_path / "a" / "out", APP) as publication:
        make_unit(publication, "2021-07")
        (publication.unit_dir("2021-08") / "half.tif").touch()
        raise KeyboardInterrupt
    assert tree(tmp_path / "a") == {
        "out.partial", f"out.partial/{MARKER}", "out.partial/2021-07", "out.partial/2021-07/2021-07.json"
    }  # fmt: skip
    publish_one(tmp_path / "a" / "out")
    assert "out.partial" not in tree(tmp_path / "a")


def test_a_ledger_stays_when_asked_for(tmp_path: Path) -> None:
    with Publication(tmp_path / "out", APP) as publication:
        publication.unit_dir("2021-07")
        write_json(publication.root / "failures.json", [])
        publication.keep_partial = True
    assert tree(tmp_path) == {"out.partial", f"out.partial/{MARKER}", "out.partial/failures.json"}


def test_parents_with_company_stay(tmp_path: Path) -> None:
    with Publication(tmp_path / "a" / "b" / "out", APP):
        (tmp_path / "a" / "notes").touch()
    assert tree(tmp_path) == {"a", "a/notes"}


def test_trouble_in_cleaning_up_is_a_note_on_the_first_trouble(tmp_path: Path, monkeypatch) -> None:
    def fail(root: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(publish, "_remove_partial", fail)
    with pytest.raises(ZeroDivisionError) as caught, Publication(tmp_path / "out", APP):
        raise ZeroDivisionError
    assert "Permission denied" in caught.value.__notes__[0]
    assert not (tmp_path / "out.lock").exists()
    with pytest.raises(OutputError, match="Permission denied"), Publication(tmp_path / "b", APP):
        pass


def test_links_are_never_followed_in_cleaning_up(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    for stale in (False, True):
        with Publication(tmp_path / "out", APP) as publication:
            if stale:  # the next run removes what this one leaves
                publication.keep_partial = True
            folder = publication.unit_dir("2021-07")
            (folder / "link").symlink_to(other)
            folder.rename(publication.root / "moved")
            folder.symlink_to(other)
            publication.scratch.rmdir()
            publication.scratch.symlink_to(other)
            (publication.root / "top").symlink_to(other)
    publish_one(tmp_path / "out")
    assert tree(other) == {"precious"}


def test_a_cleaning_up_that_is_cut_short_can_go_on(tmp_path: Path, monkeypatch) -> None:
    """What tells that the directory is ours goes last."""
    with Publication(tmp_path / "out", APP) as publication:
        make_unit(publication, "2021-07")
        make_unit(publication, "zz")
    real, calls = publish.shutil.rmtree, []

    def killed(path: Path, **how: bool) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(path)
        real(path, **how)

    monkeypatch.setattr(publish.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt), Publication(tmp_path / "out", APP):
        pass
    monkeypatch.undo()
    assert "out.partial/zz" in tree(tmp_path)
    publish_one(tmp_path / "out")
    assert {"out"} == {path.name for path in tmp_path.iterdir()}


# --- commit ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("missing", ["run.json", "catalog.json"])
def test_what_is_not_complete_isnt_published(tmp_path: Path, missing: str) -> None:
    with pytest.raises(ValueError, match=missing), Publication(tmp_path / "out", APP) as publication:
        finish(publication)
        (publication.root / missing).unlink()
        publication.commit()
    assert not tree(tmp_path)


@pytest.mark.parametrize("kind", ["empty", "full", "file", "link"])
def test_output_that_appears_meanwhile_is_left_alone(tmp_path: Path, kind: str) -> None:
    out, other = tmp_path / "out", tmp_path / "other"
    with pytest.raises(OutputError, match="appeared while"), Publication(out, APP) as publication:
        make_unit(publication, "2021-07")
        finish(publication)
        if kind == "file":
            out.touch()
        elif kind == "link":
            out.symlink_to(other)
        else:
            out.mkdir()
            if kind == "full":
                (out / "x").touch()
        before = out.lstat().st_ino
        publication.commit()
    assert out.lstat().st_ino == before
    assert {"2021-07", "run.json", "catalog.json"} == {path.name for path in publication.root.iterdir()}
    # run.json tells that what stays is ours, so that the next run may replace it
    if kind in ("empty", "full"):
        publish.shutil.rmtree(out)
    else:
        out.unlink()
    publish_one(out)


def test_a_disk_that_refuses_the_rename_keeps_the_product(tmp_path: Path, monkeypatch) -> None:
    def fail(root: Path) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(publish, "fsync_tree", fail)
    with pytest.raises(OutputError, match="No space left"), Publication(tmp_path / "out", APP) as publication:
        finish(publication)
        publication.commit()
    assert tree(tmp_path) == {"out.partial", "out.partial/run.json", "out.partial/catalog.json"}


# --- units ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("key", ["", ".", "..", "../x", "a/b", ".scratch", MARKER, "A", "a b", "-x", "a\n"])
def test_keys_that_make_no_safe_name(tmp_path: Path, key: str) -> None:
    with Publication(tmp_path / "out", APP) as publication, pytest.raises(ValueError, match="can't name"):
        publication.unit_dir(key)


def test_an_attempt_begins_empty_and_a_done_unit_is_left_alone(tmp_path: Path) -> None:
    with Publication(tmp_path / "out", APP) as publication:
        (publication.unit_dir("a") / "half").touch()
        assert not list(publication.unit_dir("a").iterdir())
        publication.unit_done("a")
        with pytest.raises(ValueError, match="is done"):
            publication.unit_dir("a")
        with pytest.raises(ValueError, match="wasn't begun"):
            publication.unit_done("b")


# --- other runs -----------------------------------------------------------------------------------

RUN = """
    import sys, time
    from pathlib import Path
    from eoap_dask.publish.publication import Publication
    with Publication(Path(sys.argv[1]), "cloudless-mosaic") as publication:
        (publication.unit_dir("2021-07") / "half.tif").touch()
        print("ready", flush=True)
        time.sleep(60)
"""


@pytest.fixture
def other_run(tmp_path: Path) -> Iterator[subprocess.Popen[str]]:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(RUN), str(tmp_path / "out")], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
        process.kill()


def test_two_live_runs(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    before = tree(tmp_path)
    with pytest.raises(OutputError) as caught, Publication(tmp_path / "out", APP):
        pass
    assert f"process {other_run.pid}" in str(caught.value)
    assert str(tmp_path / "out.lock") in str(caught.value)
    assert tree(tmp_path) == before
    with pytest.raises(OutputError, match="Another run"), Publication(tmp_path / "out", "crop-chips"):
        pass


def test_two_live_runs_in_one_process(tmp_path: Path) -> None:
    with Publication(tmp_path / "out", APP) as first:
        with pytest.raises(OutputError, match="Another run"), Publication(tmp_path / "out", APP):
            pass
        finish(first)
        first.commit()
    assert (tmp_path / "out").is_dir()


def test_a_run_begins_while_others_look_whether_one_runs(tmp_path: Path) -> None:
    """As `status` does again and again; what it locks for a moment doesn't keep a run from beginning."""
    script = """
        import sys
        from pathlib import Path
        from eoap_dask.publish.lock import is_held
        print("ready", flush=True)
        while True:
            is_held(Path(sys.argv[1]))
    """
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "out.lock")], stdout=subprocess.PIPE, text=True
    ) as looking:
        assert looking.stdout is not None
        assert looking.stdout.readline() == "ready\n"
        try:
            for _ in range(100):
                with Publication(out, APP):
                    pass
            assert looking.poll() is None
        finally:
            looking.kill()


def test_a_look_that_lasts_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "out.lock").touch()
    look = os.open(tmp_path / "out.lock", os.O_RDONLY)
    fcntl.flock(look, fcntl.LOCK_SH)
    naps: list[float] = []

    def nap(seconds: float) -> None:
        naps.append(seconds)
        if len(naps) == 3:
            os.close(look)

    monkeypatch.setattr(lock, "_LOOK_PATIENCE_S", 60.0)
    monkeypatch.setattr(lock.time, "sleep", nap)
    publish_one(tmp_path / "out")
    assert len(naps) == 3


def test_a_look_that_never_ends_is_refused_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lock, "_LOOK_PATIENCE_S", 0.05)
    with (tmp_path / "out.lock").open("w") as look:
        fcntl.flock(look, fcntl.LOCK_SH)
        with pytest.raises(OutputError, match="Another run"), Publication(tmp_path / "out", APP):
            pass


def test_killed_run_leaves_no_output_and_no_lock_that_holds(tmp_path: Path, other_run: subprocess.Popen[str]) -> None:
    other_run.send_signal(signal.SIGKILL)
    other_run.wait()
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "out.lock").exists()
    assert (tmp_path / "out.partial" / "2021-07" / "half.tif").exists()
    publish_one(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


def test_killed_between_directory_and_marker(tmp_path: Path) -> None:
    (tmp_path / "out.partial").mkdir()
    (tmp_path / "out.lock").touch()
    publish_one(tmp_path / "out")
    assert {path.name for path in tmp_path.iterdir()} == {"out"}


@pytest.mark.long
def test_many_runs_at_once_publish_one_after_another(tmp_path: Path) -> None:
    """The lock's file is removed by its holder while others open it: never do two runs hold it."""
    script = """
        import sys, os, shutil
        from pathlib import Path
        from eoap_dask.errors import OutputError
        from eoap_dask.publish.publication import Publication
        out, done = Path(sys.argv[1]), 0
        while done < 15:
            try:
                with Publication(out, "cloudless-mosaic") as publication:
                    os.close(os.open(out.parent.parent / "inside", os.O_CREAT | os.O_EXCL))
                    os.unlink(out.parent.parent / "inside")
                    done += 1
            except OutputError as error:
                assert "Another run" in str(error) or "vanished" in str(error), error
    """
    processes = [
        subprocess.Popen([sys.executable, "-c", textwrap.dedent(script), str(tmp_path / "new" / "out")])
        for _ in range(4)
    ]
    assert [process.wait(120) for process in processes] == [0] * 4
    assert not (tmp_path / "new" / "out.lock").exists()
    assert not (tmp_path / "new" / "out.partial").exists()


# --- finished units: an application in small -------------------------------------------------------

OLD = {"a": "1", "b": "1", "c": "1", "e": "1"}
NEW = {"a": "1", "b": "2", "c": "1", "d": "1"}
"""Key → digest: b is to be made again, d is new, e goes."""


def make_whole_unit(publication: Publication, key: str, digest: str) -> dict[str, Any]:
    folder = publication.unit_dir(key)
    assets = {}
    for name in (f"{key}.tif", "images/chip.tif"):
        content = f"pixels of {key}, {name}, {digest}".encode()
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_bytes(content)
        checksum = "1220" + hashlib.sha256(content).hexdigest()
        assets[name] = {"href": f"./{name}", "file:size": len(content), "file:checksum": checksum}
    item = {"id": key, "properties": {"eoap:digest": digest}, "assets": assets}
    write_json(folder / f"{key}.json", item)
    publication.unit_done(key)
    return item


def take_or_make(publication: Publication, wanted: Mapping[str, str]) -> tuple[list[str], dict[str, Any]]:
    """Return which units were made, and all items."""
    made, items = [], {}
    publication.keep_only(wanted)
    for key, digest in wanted.items():
        item = publication.adopt(key, digest)
        if item is None:
            made.append(key)
            (publication.scratch / f"{key}.spill").touch()
            item = make_whole_unit(publication, key, digest)
        items[key] = item
    return made, items


def write_rest(publication: Publication, wanted: Mapping[str, str]) -> None:
    root = publication.root
    write_json(root / "failures.json", {"failures": []})
    write_json(root / "run.json", {**identity(APP), "units": dict(wanted)})
    write_json(root / "collection.json", {})
    links = [{"rel": "item", "href": f"./{key}/{key}.json"} for key in wanted]
    write_json(root / "catalog.json", {"links": links})


def run(out: Path, wanted: Mapping[str, str], **options: bool) -> list[str]:
    """Make a product as an application does, and return the units that weren't there."""
    with Publication(out, APP, **{"resume": True, "update": True, **options}) as publication:
        write_json(publication.root / "items.json", {"wanted": dict(wanted)})
        made, _ = take_or_make(publication, wanted)
        write_rest(publication, wanted)
        publication.commit()
    return made


def stop(out: Path, wanted: Mapping[str, str], **options: bool) -> list[str]:
    """The same, but for what ends it."""
    with (
        pytest.raises(KeyboardInterrupt),
        Publication(out, APP, **{"resume": True, "update": True, **options}) as publication,
    ):
        made, _ = take_or_make(publication, wanted)
        raise KeyboardInterrupt
    return made


def snapshot(folder: Path) -> dict[str, str]:
    """Every name below a directory, with the checksum of its content."""
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.is_symlink():
            found[name] = f"link to {path.readlink()}"
        else:
            found[name] = "directory" if path.is_dir() else hashlib.sha256(path.read_bytes()).hexdigest()
    return found


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


def lacking(*_: object) -> None:
    raise OSError(errno.EINVAL, "Invalid argument")


@pytest.fixture(params=["exchange", "fallback"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways of replacing a product."""
    if request.param == "fallback":
        monkeypatch.setattr(exchange, "_swap", lacking)
    return str(request.param)


@pytest.fixture
def product(tmp_path: Path) -> Path:
    out = tmp_path / "out"
    assert run(out, OLD) == list(OLD)
    assert names(tmp_path) == {"out"}
    return out


@pytest.fixture(scope="module")
def new_product(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What an update of anything has to come to."""
    out = tmp_path_factory.mktemp("reference") / "out"
    run(out, NEW)
    return snapshot(out)


# --- resume ---------------------------------------------------------------------------------------


def test_finished_units_are_taken_over_in_place(tmp_path: Path, new_product: dict[str, str]) -> None:
    out = tmp_path / "out"
    assert stop(out, {"a": "1", "b": "1", "c": "1", "e": "1"}) == ["a", "b", "c", "e"]
    assert not out.exists()
    inode = (tmp_path / "out.partial" / "a" / "a.tif").stat().st_ino
    assert run(out, NEW) == ["b", "d"]
    assert snapshot(out) == new_product
    assert (out / "a" / "a.tif").stat().st_ino == inode
    assert names(tmp_path) == {"out"}


def test_without_resume_nothing_is_taken_over(tmp_path: Path) -> None:
    stop(tmp_path / "out", NEW)
    assert run(tmp_path / "out", NEW, resume=False) == list(NEW)
    stop(tmp_path / "out2", NEW)
    with Publication(tmp_path / "out2", APP) as publication:  # as ever
        assert names(publication.root) == {MARKER, ".scratch"}
        assert publication.adopt("a", "1") is None
    assert names(tmp_path) == {"out"}


def test_only_units_are_kept(tmp_path: Path) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    stop(out, OLD)
    other = tmp_path / "other"
    other.mkdir()
    (other / "precious").touch()
    for name in ("catalog.json", "run.json", "run.log", ".items.json.77.tmp", "Z"):
        (partial / name).write_text("{}")
    for name in (".scratch", "half", "Upper", "logs/worker"):
        (partial / name / "x").mkdir(parents=True)
    (partial / "link").symlink_to(other)
    (partial / "broken").symlink_to(partial / "nowhere")
    with Publication(out, APP, resume=True) as publication:
        assert names(partial) == {MARKER, ".scratch", *OLD}
        assert not names(publication.scratch)
        (partial / "run.log").touch()
        publication.keep_only(["b", "c", "z"])
        assert names(partial) == {MARKER, ".scratch", "run.log", "b", "c"}
        assert publication.adopt("b", "1") is not None
    assert names(partial) == {MARKER, "run.log", "b", "c"}
    with Publication(out, APP, resume=True) as publication:
        publication.keep_only([])
    assert names(tmp_path) == {"other"}
    assert names(other) == {"precious"}


def test_what_isnt_adopted_isnt_published(tmp_path: Path) -> None:
    out = tmp_path / "out"
    stop(out, OLD)
    with Publication(out, APP, resume=True) as publication:
        publication.adopt("a", "1")
        write_rest(publication, {"a": "1"})
        publication.commit()
    assert names(out) == {"a", "catalog.json", "collection.json", "failures.json", "run.json"}


@pytest.mark.parametrize("kind", ["another digest", "no item", "file changed", "file gone", "a link", "a file"])
def test_a_unit_that_isnt_finished_goes_and_is_made_again(tmp_path: Path, kind: str) -> None:
    out, partial = tmp_path / "out", tmp_path / "out.partial"
    stop(out, OLD)
    folder, other = partial / "a", tmp_path / "other"
    with Publication(out, APP, resume=True) as publication:
        if kind == "no item":
            (folder / "a.json").unlink()
        elif kind == "file changed":
            (folder / "a.tif").write_bytes(b"pixels of a, a.tif, 7")
        elif kind == "file gone":
            (folder / "images" / "chip.tif").unlink()
        elif kind != "another digest":
            folder.rename(other)
            folder.symlink_to(other) if kind == "a link" else folder.touch()
        assert publication.adopt("a", "7" if kind == "another digest" else "1") is None
        assert not os.path.lexists(folder)
        make_whole_unit(publication, "a", "1")
    assert names(partial) == {MARKER, *OLD}
    assert kind != "a link" or names(other) == {"a.json", "a.tif", "images"}


def test_what_an_item_doesnt_list_isnt_taken_over(product: Path, tmp_path: Path) -> None:
    expected = snapshot(product)
    stop(product, OLD)
    for root in (product, tmp_path / "out.partial"):
        (root / "a" / "a.tif.aux.xml").touch()
        (root / "b" / ".b.json.77.tmp").touch()
    (tmp_path / "out.partial" / "a" / "empty" / "deep").mkdir(parents=True)
    (tmp_path / "out.partial" / "a" / "link").symlink_to(tmp_path)
    (product / "b" / ".b.json.77.tmp").unlink()
    assert run(product, OLD) == []
    assert snapshot(product) == expected


def test_units_are_adopted_once(tmp_path: Path) -> None:
    stop(tmp_path / "out", OLD)
    with Publication(tmp_path / "out", APP, resume=True) as publication:
        publication.adopt("a", "1")
        publication.unit_dir("b")
        for key in ("a", "b"):
            with pytest.raises(ValueError, match="begun already"):
                publication.adopt(key, "1")
        with pytest.raises(ValueError, match="is done"):
            publication.unit_dir("a")
        for key in ("", "..", "a/b", ".scratch", "A"):
            with pytest.raises(ValueError, match="can't name"):
                publication.adopt(key, "1")
        assert publication.adopt("nowhere", "1") is None


def test_finished_units_stay_through_runs_that_come_to_nothing(tmp_path: Path) -> None:
    """No cluster, say: nothing was begun, and nothing is lost."""
    stop(tmp_path / "out", OLD)
    before = snapshot(tmp_path)
    for _ in range(2):
        with pytest.raises(ZeroDivisionError), Publication(tmp_path / "out", APP, resume=True, update=True):
            raise ZeroDivisionError
    assert snapshot(tmp_path) == before


def test_a_failed_unit_goes_though_it_was_there(tmp_path: Path) -> None:
    stop(tmp_path / "out", {"a": "1"})
    with Publication(tmp_path / "out", APP, resume=True) as publication:
        publication.unit_dir("a")
    assert not names(tmp_path)


def test_nothing_of_it_is_wanted(product: Path, tmp_path: Path) -> None:
    """The product is published already: a run that finds that out leaves nothing."""
    before = snapshot(tmp_path)
    stop(product, NEW)
    with Publication(product, APP, resume=True, update=True) as publication:
        take_or_make(publication, OLD)
        publication.discard()
    assert snapshot(tmp_path) == before


def test_another_application_keeps_its_unfinished_output(tmp_path: Path) -> None:
    stop(tmp_path / "out", OLD)
    before = snapshot(tmp_path)
    with (
        pytest.raises(OutputError, match="unfinished run of cloudless-mosaic"),
        Publication(tmp_path / "out", "crop-chips", resume=True, update=True),
    ):
        pass
    assert snapshot(tmp_path) == before


# --- update ---------------------------------------------------------------------------------------


def test_only_what_changed_is_made_again(way: str, product: Path, tmp_path: Path, new_product) -> None:
    inodes = {name: (product / "a" / name).stat().st_ino for name in ("a.tif", "images/chip.tif")}
    assert run(product, NEW) == ["b", "d"]
    assert snapshot(product) == new_product
    assert {name: (product / "a" / name).stat().st_ino for name in inodes} == inodes
    assert (product / "a" / "a.tif").stat().st_nlink == 1
    assert names(tmp_path) == {"out"}
    assert run(product, NEW) == []
    assert snapshot(product) == new_product
    assert product_units(product) == tuple(NEW)


def test_a_product_names_what_was_published(product: Path) -> None:
    recorded = json.loads((product / "run.json").read_text())
    assert list(recorded)[:3] == list(identity(APP))
    assert recorded["contents"] == sorted(names(product))


def test_the_old_product_is_there_until_the_new_one_is(way: str, product: Path, tmp_path: Path, new_product) -> None:
    """At each step that changes names, the old one or the new one; in the fallback a moment without."""
    old, steps = snapshot(product), []

    def watch(step: str) -> None:
        if product.exists():
            seen = snapshot(product)
            marked = seen.pop(ASIDE_MARK, None)
            assert way == "fallback" or marked is None
            steps.append("old" if seen == old else "new" if seen == new_product else seen)
        else:
            steps.append("none")

    with steps_watched(watch):
        run(product, NEW)
    order = [step for before, step in zip([None, *steps], steps, strict=False) if step != before]
    assert order == (["old", "new"] if way == "exchange" else ["old", "none", "new"])


def test_an_update_that_is_stopped_leaves_the_product_and_goes_on(
    way: str, product: Path, tmp_path: Path, new_product
) -> None:
    before = snapshot(product)
    assert stop(product, NEW) == ["b", "d"]
    assert snapshot(product) == before
    assert names(tmp_path) == {"out", "out.partial"}
    assert names(tmp_path / "out.partial") == {MARKER, *NEW}
    wanted = {key: (digest, None) for key, digest in NEW.items()}
    holdings = Holdings(product, APP)
    assert {holdings.state(key, *of)[0].kind for key, of in wanted.items()} == {"skip"}
    assert run(product, NEW) == []
    assert snapshot(product) == new_product
    assert names(tmp_path) == {"out"}


def test_without_resume_an_update_can_make_everything_again(product: Path, tmp_path: Path, new_product) -> None:
    stop(product, NEW)
    with Publication(product, APP, update=True) as publication:
        assert names(publication.root) == {MARKER, ".scratch"}
        for key, digest in NEW.items():
            make_whole_unit(publication, key, digest)
        write_json(publication.root / "items.json", {"wanted": NEW})
        write_rest(publication, NEW)
        publication.commit()
    assert snapshot(product) == new_product
    assert names(tmp_path) == {"out"}


def test_what_is_written_into_an_adopted_unit_leaves_the_old_product_alone(product: Path) -> None:
    before = snapshot(product)
    with Publication(product, APP, resume=True, update=True) as publication:
        for rewrite in range(2):
            for key in OLD:
                item = json.loads((product / key / f"{key}.json").read_text())
                if not rewrite:
                    assert publication.adopt(key, "1") == item
                    folder = publication.root / key
                    assert (folder / f"{key}.tif").samefile(product / key / f"{key}.tif")
                    # the item isn't a link: even who writes in place writes here only
                    assert not (folder / f"{key}.json").samefile(product / key / f"{key}.json")
                write_json(publication.root / key / f"{key}.json", {**item, "rewritten": rewrite})
                assert snapshot(product) == before
        (publication.root / "a" / "a.json").write_text("in place")
    assert snapshot(product) == before
    assert (product / "a" / "a.tif").stat().st_nlink == 2  # for the rerun, in .partial


def test_a_unit_made_again_leaves_the_old_product_alone(product: Path) -> None:
    """Also where the run before had linked its files, and this one needs others."""
    before = snapshot(product)
    stop(product, OLD)
    with Publication(product, APP, resume=True, update=True) as publication:
        make_whole_unit(publication, "a", "9")  # over the links
        assert publication.adopt("b", "9") is None
        make_whole_unit(publication, "b", "9")
    assert snapshot(product) == before


@pytest.mark.parametrize("number", [errno.EPERM, errno.EMLINK, errno.EXDEV, errno.EOPNOTSUPP])
def test_where_links_arent_had_files_are_copied(
    product: Path, monkeypatch: pytest.MonkeyPatch, new_product, number: int
) -> None:
    tried = []

    def refuse(self: Path, target: Path) -> None:
        tried.append(self.name)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "hardlink_to", refuse)
    with Publication(product, APP, resume=True, update=True) as publication:
        publication.adopt("a", "1")
        assert not (publication.root / "a" / "a.tif").samefile(product / "a" / "a.tif")
    assert run(product, NEW) == ["b", "d"]
    assert {"a.tif", "chip.tif"} == {*tried[:2]}
    assert snapshot(product) == new_product


def test_a_copy_that_differs_isnt_taken(product: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def spoil(self: Path, target: Path) -> None:
        target.write_bytes(b"changed after it was checked")
        raise OSError(errno.EPERM, "Operation not permitted")

    monkeypatch.setattr(Path, "hardlink_to", spoil)
    with (
        pytest.raises(OutputError, match="The copy's checksum differs"),
        Publication(product, APP, resume=True, update=True) as publication,
    ):
        publication.adopt("a", "1")
    assert names(product.parent) == {"out"}


def test_links_in_a_product_arent_taken_over(product: Path, tmp_path: Path) -> None:
    (product / "a" / "a.tif").rename(tmp_path / "elsewhere.tif")
    (product / "a" / "a.tif").symlink_to(tmp_path / "elsewhere.tif")
    (product / "b").rename(tmp_path / "b")
    (product / "b").symlink_to(tmp_path / "b")
    kept = (tmp_path / "elsewhere.tif").read_bytes(), snapshot(tmp_path / "b")
    assert run(product, OLD) == ["a", "b"]
    assert not any(value.startswith("link") for value in snapshot(product).values())
    assert ((tmp_path / "elsewhere.tif").read_bytes(), snapshot(tmp_path / "b")) == kept


def test_a_product_with_a_corrupt_item_loses_only_that_unit(product: Path) -> None:
    before = snapshot(product)
    (product / "a" / "a.json").write_text('{"id": "a", "prop')
    assert run(product, OLD) == ["a"]
    assert snapshot(product) == before


# --- update: refusals -----------------------------------------------------------------------------


@pytest.fixture(params=["check", "enter"])
def refused_update(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., str]]:
    """A function that says why an update is refused; by the check and by a run; neither changes a thing."""

    def why(out: Path, application: str = APP) -> str:
        before = snapshot(tmp_path)
        with pytest.raises(OutputError) as caught:
            if request.param == "check":
                check_output(out, application, update=True)
            else:
                with Publication(out, application, resume=True, update=True):
                    pass
        assert snapshot(tmp_path) == before
        assert caught.value.exit_code == 2
        return str(caught.value)

    return why


def test_a_product_of_ours_may_be_updated_when_that_was_asked_for(product: Path, tmp_path: Path, refused) -> None:
    before = snapshot(tmp_path)
    check_output(product, APP, update=True)
    with Publication(product, APP, update=True):
        pass
    assert snapshot(tmp_path) == before
    assert "already exists, made by cloudless-mosaic" in refused(product)


def test_what_may_not_be_updated(product: Path, tmp_path: Path, refused_update) -> None:
    assert "made by cloudless-mosaic. This is crop-chips" in refused_update(product, "crop-chips")
    (tmp_path / "link").symlink_to(product)
    assert "is a symbolic link" in refused_update(tmp_path / "link")
    (tmp_path / "file").touch()
    assert "is a file" in refused_update(tmp_path / "file")
    (tmp_path / "folder").mkdir()
    assert "empty directory" in refused_update(tmp_path / "folder")
    (tmp_path / "folder" / "thesis.tex").touch()
    assert "wasn't made by eoap-dask" in refused_update(tmp_path / "folder")


@pytest.mark.parametrize("name", ["run.json", "catalog.json", "failures.json"])
def test_a_ledger_that_is_not_json(product: Path, refused_update, name: str) -> None:
    (product / name).write_text("{")
    assert f"its {name} isn't a JSON object" in refused_update(product)


def test_files_of_somebody_else_arent_lost(product: Path, refused_update) -> None:
    (product / "map.qgz").touch()
    (product / "b" / "notes.txt").touch()
    assert "b/notes.txt, map.qgz" in refused_update(product)


def test_files_of_somebody_else_that_come_during_the_work_arent_lost(
    product: Path, tmp_path: Path, new_product
) -> None:
    with (
        pytest.raises(OutputError, match=r"map\.qgz.*The finished product is in"),
        Publication(product, APP, resume=True, update=True) as publication,
    ):
        write_json(publication.root / "items.json", {"wanted": NEW})
        take_or_make(publication, NEW)
        write_rest(publication, NEW)
        (product / "map.qgz").touch()
        before = snapshot(product)
        publication.commit()
    assert snapshot(product) == before
    assert snapshot(tmp_path / "out.partial") == new_product
    (product / "map.qgz").unlink()
    assert run(product, NEW) == []
    assert snapshot(product) == new_product


@pytest.mark.parametrize("kind", ["gone", "a file", "a link", "another product"])
def test_a_product_that_changes_during_the_work(product: Path, tmp_path: Path, new_product, kind: str) -> None:
    error = None
    try:
        with Publication(product, APP, resume=True, update=True) as publication:
            write_json(publication.root / "items.json", {"wanted": NEW})
            take_or_make(publication, NEW)
            write_rest(publication, NEW)
            product.rename(tmp_path / "moved")
            if kind == "a file":
                product.touch()
            elif kind == "a link":
                product.symlink_to(tmp_path / "moved")
            elif kind == "another product":
                product.mkdir()
                write_json(product / "run.json", identity("crop-chips"))
            moved = snapshot(tmp_path / "moved")
            publication.commit()
    except OutputError as caught:
        error = caught
    assert snapshot(tmp_path / "moved") == moved
    if kind == "gone":
        assert error is None
        assert snapshot(product) == new_product
    else:
        assert "The finished product is in" in str(error)
        assert snapshot(tmp_path / "out.partial") == new_product


def test_a_backup_called_old_is_in_the_way_only_where_it_must(product: Path, tmp_path: Path, monkeypatch) -> None:
    backup = tmp_path / "out.old"
    publish.shutil.copytree(product, backup)
    before = snapshot(tmp_path)
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "_swap", lacking)
        with (
            pytest.raises(OutputError, match=r"out\.old exists, and wasn't left by a run"),
            Publication(product, APP, update=True),
        ):
            pass
    assert snapshot(tmp_path) == before
    assert run(product, NEW) == ["b", "d"]
    assert snapshot(backup) == {name[4:]: was for name, was in before.items() if name.startswith("out/")}


@pytest.mark.parametrize("trouble", [OSError(errno.EBUSY, "Device or resource busy"), KeyboardInterrupt()])
def test_an_exchange_that_fails_keeps_both(product: Path, tmp_path: Path, monkeypatch, new_product, trouble) -> None:
    before = snapshot(product)
    with monkeypatch.context() as patch:
        patch.setattr(exchange, "_swap", lambda *_: (_ for _ in ()).throw(trouble))
        with pytest.raises((OutputError, KeyboardInterrupt)):
            run(product, NEW)
    assert snapshot(product) == before
    assert snapshot(tmp_path / "out.partial") == new_product
    assert run(product, NEW) == []
    assert names(tmp_path) == {"out"}


def test_an_old_generation_that_cant_be_removed_is_left_to_the_next_run(
    way: str, product: Path, tmp_path: Path, monkeypatch, new_product
) -> None:
    def fail(*_: object, ignore_errors: bool = False) -> None:
        if not ignore_errors:
            raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(publish.shutil, "rmtree", fail)
        with Publication(product, APP, update=True) as publication:
            for key, digest in NEW.items():
                make_whole_unit(publication, key, digest)
            publication.scratch.rmdir()
            write_json(publication.root / "items.json", {"wanted": NEW})
            write_rest(publication, NEW)
            assert publication.commit() == product
            assert publication.committed
    assert snapshot(product) == new_product
    assert names(tmp_path) == {"out", "out.partial" if way == "exchange" else "out.old"}
    assert run(product, NEW) == []
    assert snapshot(product) == new_product
    assert names(tmp_path) == {"out"}


def test_a_link_that_comes_in_the_last_moment_loses_nothing(product: Path, tmp_path: Path, monkeypatch) -> None:
    """Not even what the exchange brought back is taken for ours without a look."""
    before, real = snapshot(product), exchange._swap

    def swap(new: Path, old: Path) -> None:
        old.rename(tmp_path / "moved")
        old.symlink_to(tmp_path / "moved")
        real(new, old)

    monkeypatch.setattr(exchange, "_swap", swap)
    run(product, NEW)
    assert snapshot(tmp_path / "moved") == before
    assert (tmp_path / "out.partial").is_symlink()


# --- update: two runs, and crashes ----------------------------------------------------------------

SLOW_UPDATE = """
    import sys, time
    from pathlib import Path
    from eoap_dask.publish.publication import Publication
    with Publication(Path(sys.argv[1]), "cloudless-mosaic", resume=True, update=True) as publication:
        assert publication.adopt("a", "1")
        print("ready", flush=True)
        time.sleep(60)
"""


def test_two_live_updates(product: Path, tmp_path: Path, new_product) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(SLOW_UPDATE), str(product)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        before = snapshot(tmp_path)
        with pytest.raises(OutputError, match=f"process {process.pid}"):
            run(product, NEW)
        assert snapshot(tmp_path) == before
        process.kill()
    assert names(tmp_path) == {"out", "out.partial", "out.lock"}
    assert run(product, NEW) == ["b", "d"]
    assert snapshot(product) == new_product
    assert names(tmp_path) == {"out"}


WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_watchers: list[Callable[[str], None]] = []


def _hear(event: str, args: tuple[Any, ...]) -> None:
    if not _watchers:
        return
    if event in ("os.rename", "os.link", "os.symlink", "os.remove", "os.rmdir", "os.mkdir", "os.truncate") or (
        event == "open" and isinstance(args[2], int) and args[2] & WRITING
    ):
        watcher = _watchers.pop()  # it may change names itself
        watcher(f"{event} {args[0]}")
        _watchers.append(watcher)


@contextmanager
def steps_watched(watcher: Callable[[str], None]) -> Iterator[None]:
    """Call it before every step that changes names or opens a file to write, at each sync, and around the exchange."""
    global _hooked
    if not _hooked:
        sys.addaudithook(_hear)  # there is no way to take one back
        _hooked = True
    swap, fsync = exchange._swap, os.fsync

    def swap_watched(new: Path, old: Path) -> None:
        watcher(f"exchange {old}")
        swap(new, old)
        watcher(f"exchanged {old}")

    exchange._swap = swap_watched
    os.fsync = lambda descriptor: watcher("sync")  # nobody cuts the power here, and it takes its time
    _watchers.append(watcher)
    try:
        yield
    finally:
        _watchers.clear()
        exchange._swap, os.fsync = swap, fsync


_hooked = False


def run_and_die(out: Path, step: int, fallback: bool) -> None:
    """Update in a process of its own that is killed before a step; it ends well when there are fewer. Never returns."""
    count = 0

    def watch(_: str) -> None:
        nonlocal count
        count += 1
        if count == step:
            os.kill(os.getpid(), signal.SIGKILL)

    if fallback:
        exchange._swap = lacking
    with steps_watched(watch):
        run(out, NEW)
    os._exit(0)


FORK = """
    import os, sys
    sys.path.insert(0, sys.argv[1])
    import itertools, shutil
    from pathlib import Path
    from tests.publish.test_publication import run_and_die
    top, start, fallback, cases = Path(sys.argv[2]), Path(sys.argv[3]), sys.argv[4] == "fallback", sys.argv[5:]
    top.mkdir()
    for name in cases or map(str, itertools.count(1)):
        case = top / name
        shutil.copytree(start, case) if start.is_dir() else case.mkdir()
        for step in name.split(","):
            child = os.fork()
            if child == 0:
                try:
                    run_and_die(case / "out", int(step), fallback)
                finally:
                    os._exit(7)
            _, status = os.waitpid(child, 0)
            killed = os.WIFSIGNALED(status)
            assert killed or os.WEXITSTATUS(status) == 0, status
        if not cases and not killed:
            break
    print(name)
"""


def kill_at_every_step(top: Path, start: Path, way: str, *cases: str) -> int:
    """Make a directory for each step, of a run killed before it; the last one came to its end.

    Or for each of the cases: "7,8" is a run killed before its 7th step, and the next before its 8th.
    """
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            textwrap.dedent(FORK),
            str(Path(__file__).parents[2]),
            str(top),
            str(start),
            way,
            *cases,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return 0 if cases else int(done.stdout)


def old_or_new(case: Path, old: dict[str, str], new: dict[str, str], way: str) -> str:
    """Return which product is there, whole."""
    out, aside = case / "out", case / "out.old"
    if way == "fallback" and not out.exists():
        found = snapshot(aside)
        assert found.pop(ASIDE_MARK)
        assert found == old
        return "aside"
    found = snapshot(out)
    marked = found.pop(ASIDE_MARK, None)
    assert way == "fallback" or marked is None
    assert found in (old, new)
    return "old" if found == old else "new"


def without_sync(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)


@pytest.mark.long
def test_killed_between_every_two_steps_of_an_update(
    way: str, product: Path, tmp_path: Path, new_product, monkeypatch
) -> None:
    without_sync(monkeypatch)
    start = tmp_path / "start"
    start.mkdir()
    product.rename(start / "out")
    old, top = snapshot(start / "out"), tmp_path / "cases"
    steps = kill_at_every_step(top, start, way)
    assert steps > 100
    found, made = [], []
    for step in range(1, steps + 1):
        case = top / str(step)
        found.append(old_or_new(case, old, new_product, way))
        check_output(case / "out", APP, update=True)
        wanted = {key: (digest, None) for key, digest in NEW.items()}
        holdings = Holdings(case / "out", APP)
        expected = [key for key, of in wanted.items() if holdings.state(key, *of)[0].kind != "skip"]
        made.append(run(case / "out", NEW))
        assert made[-1] == expected, step
        assert snapshot(case / "out") == new_product, step
        assert names(case) == {"out"}, step
    order = [state for before, state in zip([None, *found], found, strict=False) if state != before]
    assert order == (["old", "new"] if way == "exchange" else ["old", "aside", "new"])
    # once a unit is finished it isn't made again
    assert made[0] == ["b", "d"]
    assert [] in made
    assert all(set(after) <= set(before) for before, after in pairwise(made))


@pytest.mark.long
def test_killed_again_in_the_rerun(way: str, product: Path, tmp_path: Path, new_product, monkeypatch) -> None:
    without_sync(monkeypatch)
    start, top = tmp_path / "start", tmp_path / "cases"
    start.mkdir()
    product.rename(start / "out")
    old = snapshot(start / "out")
    last = kill_at_every_step(tmp_path / "count", start, way) - 1
    draw = random.Random(20210701)  # noqa: S311
    pairs = {(draw.randint(1, last), draw.randint(1, last)) for _ in range(10)}
    pairs |= {(draw.randint(last - 40, last), draw.randint(1, last)) for _ in range(30)}  # around the exchange
    cases = [f"{first},{second}" for first, second in sorted(pairs)]
    kill_at_every_step(top, start, way, *cases)
    for name in cases:
        case = top / name
        old_or_new(case, old, new_product, way)
        run(case / "out", NEW)
        assert snapshot(case / "out") == new_product, name
        assert names(case) == {"out"}, name


@pytest.mark.long
def test_killed_between_every_two_steps_of_a_first_run(tmp_path: Path, new_product, monkeypatch) -> None:
    without_sync(monkeypatch)
    top = tmp_path / "cases"
    steps = kill_at_every_step(top, tmp_path / "nothing", "exchange")
    made = []
    for step in range(1, steps + 1):
        case = top / str(step)
        if (case / "out").exists():
            assert snapshot(case / "out") == new_product
        made.append(run(case / "out", NEW))
        assert snapshot(case / "out") == new_product, step
        assert names(case) == {"out"}, step
    assert [len(units) for units in made] == sorted((len(units) for units in made), reverse=True)
    assert made[-1] == []


# --- small files ----------------------------------------------------------------------------------


def test_files_are_replaced_whole_or_not_at_all(tmp_path: Path, monkeypatch) -> None:
    path = write_bytes(tmp_path / "f", b"old")

    def fail(*args: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("os.fsync", fail)
    with pytest.raises(KeyboardInterrupt):
        write_bytes(path, b"new")
    assert path.read_bytes() == b"old"
    assert tree(tmp_path) == {"f"}


def test_json_is_utf8_and_strict(tmp_path: Path) -> None:
    path = write_json(tmp_path / "j.json", {"b": "Größe", "a": [1]})
    assert path.read_text("utf-8") == '{\n  "b": "Größe",\n  "a": [\n    1\n  ]\n}\n'
    with pytest.raises(ValueError):
        write_json(path, {"a": float("nan")})
