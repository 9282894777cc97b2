"""Two directories trade places; killed in between, the next run finds the old or the new one."""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from eoap_dask.publish import exchange as module
from eoap_dask.publish.exchange import ASIDE_MARK, can_exchange, exchange, is_aside, location_of, recover, remove_last

linux = pytest.mark.skipif(sys.platform != "linux", reason="renameat2 is Linux's")

Swap = Callable[[Path, Path], None]


def lacking(number: int) -> Swap:
    """An exchange that isn't had, for that reason."""

    def swap(one: Path, other: Path) -> None:
        raise OSError(number, os.strerror(number), str(one), None, str(other))

    return swap


def make(folder: Path, content: str) -> Path:
    (folder / "sub").mkdir(parents=True)
    (folder / "sub" / "file").write_text(content)
    return folder


def read(folder: Path) -> str:
    assert {p.name for p in folder.iterdir()} == {"sub"}
    return (folder / "sub" / "file").read_text()


def names(folder: Path) -> set[str]:
    return {p.name for p in folder.iterdir()}


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return make(tmp_path / "out.partial", "new")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return make(tmp_path / "out", "old")


# --- in one step ----------------------------------------------------------------------------------


@linux
def test_both_are_there_and_have_traded_places(new: Path, old: Path) -> None:
    assert can_exchange(old.parent), "the tests' file system can't; give --basetemp another"
    inodes = new.stat().st_ino, old.stat().st_ino
    assert exchange(new, old) == new
    assert (old.stat().st_ino, new.stat().st_ino) == inodes
    assert (read(old), read(new)) == ("new", "old")


@linux
def test_old_c_libraries_are_passed_by(new: Path, old: Path) -> None:
    call = module._by_number(ctypes.CDLL(None, use_errno=True))
    if call is None:
        pytest.skip(f"no number known for {os.uname().machine}")
    assert call(-100, os.fsencode(new), -100, os.fsencode(old), 2) == 0
    assert (read(old), read(new)) == ("new", "old")
    assert call(-100, os.fsencode(new / "nowhere"), -100, os.fsencode(old), 2) == -1
    assert ctypes.get_errno() == errno.ENOENT


@pytest.mark.parametrize("machine", ["vax", "x86_64"])
def test_machines_without_a_number_have_no_exchange(monkeypatch: pytest.MonkeyPatch, machine: str) -> None:
    monkeypatch.setattr(os, "uname", lambda: type("Uname", (), {"machine": machine}))
    if machine == "x86_64":  # a 32-bit process on it
        monkeypatch.setattr(sys, "maxsize", 2**31 - 1)
    assert module._by_number(None) is None


def test_elsewhere_than_on_linux_there_is_none(monkeypatch: pytest.MonkeyPatch, new: Path, old: Path) -> None:
    monkeypatch.setattr(sys, "platform", "darwin")
    module._renameat2.cache_clear()
    try:
        assert not can_exchange(old.parent)
        assert exchange(new, old) == old.parent / "out.old"
    finally:
        module._renameat2.cache_clear()
    assert read(old) == "new"


@linux
def test_names_that_are_no_text(tmp_path: Path) -> None:
    one = make(tmp_path / os.fsdecode(b"\xff \n one"), "new")
    other = make(tmp_path / "Größe", "old")
    assert exchange(one, other) == one
    assert (read(other), read(one)) == ("new", "old")


@linux
@pytest.mark.parametrize("missing", ["out", "out.partial"])
def test_one_that_is_missing(tmp_path: Path, new: Path, old: Path, missing: str) -> None:
    (tmp_path / missing).rename(tmp_path / "elsewhere")
    with pytest.raises(FileNotFoundError):
        exchange(new, old)
    assert names(tmp_path) == {"out", "out.partial", "elsewhere"} - {missing}


@pytest.mark.parametrize("number", [errno.EBUSY, errno.EXDEV, errno.EACCES, errno.ENOSPC])
def test_other_troubles_are_told(monkeypatch, new: Path, old: Path, number: int) -> None:
    monkeypatch.setattr(module, "_swap", lacking(number))
    with pytest.raises(OSError) as caught:
        exchange(new, old)
    assert caught.value.errno == number
    assert (read(old), read(new)) == ("old", "new")


def test_the_parent_is_synced_before_anybody_removes_the_old_one(monkeypatch, new: Path, old: Path) -> None:
    seen: list[tuple[Path, str]] = []
    monkeypatch.setattr(module, "fsync_path", lambda path: seen.append((path, read(old))))
    exchange(new, old)
    assert seen[-1] == (old.parent, "new")


def test_asking_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    can_exchange(tmp_path)
    assert not names(tmp_path)
    monkeypatch.setattr(module, "_swap", lacking(errno.EINVAL))
    assert not can_exchange(tmp_path)
    assert not names(tmp_path)
    assert not can_exchange(tmp_path / "nowhere")


# --- in two steps ---------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP])
def test_where_it_isnt_had_the_old_one_steps_aside(monkeypatch, new: Path, old: Path, number: int) -> None:
    monkeypatch.setattr(module, "_swap", lacking(number))
    left = exchange(new, old)
    assert left == old.parent / "out.old"
    assert read(old) == "new"
    assert names(left) == {"sub", ASIDE_MARK}
    assert (left / "sub" / "file").read_text() == "old"
    assert names(old.parent) == {"out", "out.old"}


@pytest.fixture
def fallback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_swap", lacking(errno.EINVAL))


@pytest.mark.parametrize("kind", ["empty", "full", "file", "link"])
def test_somebody_elses_old_is_left_alone(fallback, tmp_path: Path, new: Path, old: Path, kind: str) -> None:
    aside = tmp_path / "out.old"
    if kind == "file":
        aside.touch()
    elif kind == "link":
        aside.symlink_to(tmp_path / "nowhere")
    else:
        aside.mkdir()
        if kind == "full":
            (aside / "backup").touch()
    before = aside.lstat().st_ino
    with pytest.raises(FileExistsError, match=r"out\.old"):
        exchange(new, old)
    assert aside.lstat().st_ino == before
    assert (read(old), read(new)) == ("old", "new")


@pytest.mark.parametrize("trouble", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
@pytest.mark.parametrize("step", [0, 1, 2])
def test_trouble_in_the_middle_is_undone(fallback, monkeypatch, new: Path, old: Path, trouble, step: int) -> None:
    """Before the first rename, between the two, and a Ctrl-C just after the first."""
    real, calls = Path.rename, []

    def rename(self: Path, target: Path) -> Path:
        calls.append(self)
        if len(calls) == 1 and step == 2:
            real(self, target)
            raise trouble
        if len(calls) == step + 1:
            raise trouble
        return real(self, target)

    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(type(trouble)):
        exchange(new, old)
    assert (read(old), read(new)) == ("old", "new")
    assert names(old.parent) == {"out", "out.partial"}


def test_a_disk_that_takes_no_mark(fallback, monkeypatch, new: Path, old: Path) -> None:
    def touch(self: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "touch", touch)
    with pytest.raises(OSError, match="No space"):
        exchange(new, old)
    assert (read(old), read(new)) == ("old", "new")


# --- after a crash --------------------------------------------------------------------------------


def put_aside(folder: Path) -> Path:
    aside = folder.parent / (folder.name + ".old")
    folder.rename(aside)
    (aside / ASIDE_MARK).touch()
    return aside


def test_killed_between_the_two_renames(new: Path, old: Path) -> None:
    aside = put_aside(old)
    assert location_of(old) == aside
    recover(old)
    assert (read(old), read(new)) == ("old", "new")
    assert not aside.exists()
    assert location_of(old) == old


def test_killed_after_the_two_renames(new: Path, old: Path) -> None:
    put_aside(old)
    new.rename(old)
    assert location_of(old) == old
    recover(old)
    assert read(old) == "new"
    assert names(old.parent) == {"out"}


def test_killed_before_the_first_rename(new: Path, old: Path) -> None:
    (old / ASIDE_MARK).touch()
    recover(old)
    assert (read(old), read(new)) == ("old", "new")


def test_killed_between_recovery_and_the_mark(new: Path, old: Path, monkeypatch) -> None:
    put_aside(old)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recover(old)
    recover(old)
    assert read(old) == "old"


def test_killed_in_removing_the_old_one(new: Path, old: Path, monkeypatch) -> None:
    aside = put_aside(old)
    new.rename(old)
    with monkeypatch.context() as patch:
        patch.setattr(Path, "unlink", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            recover(old)
    assert is_aside(aside)
    (aside / ASIDE_MARK).unlink()  # killed again, before the directory went
    recover(old)
    assert names(old.parent) == {"out"}


@pytest.mark.parametrize("with_out", [True, False])
@pytest.mark.parametrize("kind", ["unmarked", "link", "file", "mark is a link"])
def test_what_people_call_old_is_theirs(tmp_path: Path, with_out: bool, kind: str) -> None:
    """A backup that has every file of a product, say."""
    out, aside = tmp_path / "out", tmp_path / "out.old"
    if with_out:
        make(out, "mine")
    if kind == "link":
        marked = make(tmp_path / "marked", "theirs")
        (marked / ASIDE_MARK).touch()
        aside.symlink_to(marked)
    elif kind == "file":
        aside.touch()
    else:
        make(aside, "theirs")
        if kind == "mark is a link":
            (aside / ASIDE_MARK).symlink_to(out)
    before = {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")}
    recover(out)
    assert {str(p.relative_to(tmp_path)) for p in tmp_path.rglob("*")} == before
    assert location_of(out) == (out if with_out else None)


def test_a_copy_of_one_that_was_about_to_step_aside_is_theirs(tmp_path: Path) -> None:
    for name in ("out", "out.old"):
        make(tmp_path / name, name)
        (tmp_path / name / ASIDE_MARK).touch()
    recover(tmp_path / "out")
    assert (read(tmp_path / "out"), read(tmp_path / "out.old")) == ("out", "out.old")


def test_an_empty_old_without_an_output_stays(tmp_path: Path) -> None:
    (tmp_path / "out.old").mkdir()
    recover(tmp_path / "out")
    assert names(tmp_path) == {"out.old"}


def test_removing_keeps_some_names_to_the_end_and_follows_no_links(tmp_path: Path) -> None:
    other = make(tmp_path / "other", "precious")
    folder = make(tmp_path / "folder", "x")
    for name in ("run.json", "a", "zz"):
        (folder / name).touch()
    (folder / "link").symlink_to(other)
    order = []

    def watch(event: str, args: tuple[object, ...]) -> None:
        if watching and event == "os.remove":
            order.append(Path(str(args[0])).name)

    watching = True
    sys.addaudithook(watch)
    try:
        remove_last(folder, ("zz", "run.json", "nowhere"))
    finally:
        watching = False
    assert order[-3:] == ["zz", "run.json", "nowhere"]
    assert read(other) == "precious"
    assert not folder.exists()
