"""The output exists only when it is complete, and nothing is left behind, whatever happens."""

# ruff: noqa: PT012  # what a run does before it fails belongs into the block that expects the failure

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

from eoap_dask import publish
from eoap_dask.errors import OutputError
from eoap_dask.fileio import write_bytes, write_json
from eoap_dask.publish import MARKER, Publication, check_output, identity

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
    assert "Choose another --output-dir or remove it." in why


def test_foreign_directory_is_refused(tmp_path: Path, refused) -> None:
    (tmp_path / "out").mkdir()
    assert "empty directory" in refused(tmp_path / "out")
    (tmp_path / "out" / "thesis.tex").touch()
    why = refused(tmp_path / "out")
    assert "wasn't made by eoap-dask" in why
    assert "remove" not in why
    (tmp_path / "out" / "run.json").write_text("[1]")
    assert "wasn't made by eoap-dask" in refused(tmp_path / "out")


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

    def killed(path: Path) -> None:
        if calls:
            raise KeyboardInterrupt
        calls.append(path)
        real(path)

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
    from eoap_dask.publish import Publication
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


def test_many_runs_at_once_publish_one_after_another(tmp_path: Path) -> None:
    """The lock's file is removed by its holder while others open it: never do two runs hold it."""
    script = """
        import sys, os, shutil
        from pathlib import Path
        from eoap_dask.errors import OutputError
        from eoap_dask.publish import Publication
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
