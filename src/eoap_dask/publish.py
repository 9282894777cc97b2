"""An output directory that exists only when it is complete.

Everything is written below ``<out>.partial`` and becomes ``<out>`` by one rename. CWL runners judge a step by
whether ``<out>`` is there, so a crash at any moment must leave it absent.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import shutil
import socket
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from eoap_dask.__about__ import __version__
from eoap_dask.errors import OutputError
from eoap_dask.fileio import fsync_path, fsync_tree, write_json

if TYPE_CHECKING:
    from types import TracebackType

SOFTWARE = "eoap-dask"
MARKER = ".eoap-dask.json"
"""Tells that a `.partial` directory is ours; gone from a published output, where `RUN_FILE` tells it."""
RUN_FILE = "run.json"
SCRATCH = ".scratch"

_KEY = re.compile(r"[a-z0-9][a-z0-9._-]*")
_LOCK_ATTEMPTS = 20


def identity(application: str) -> dict[str, str]:
    """Return the keys by which a directory is recognised as ours; `run.json` begins with them.

    Parameters
    ----------
    application
        The application's name, such as ``cloudless-mosaic``.

    Returns
    -------
    dict
        ``software``, ``application`` and ``version``.
    """
    return {"software": SOFTWARE, "application": application, "version": __version__}


def check_output(out: Path, application: str) -> None:
    """Pass when `out` can become the output of an application; writes nothing and takes no lock.

    Parameters
    ----------
    out
        The output directory, as the user gave it.
    application
        The application's name.

    Raises
    ------
    OutputError
        When `out` exists, its parent can't hold it, or `<out>.partial` isn't ours to replace.
    """
    place = _resolve(out)
    _check_place(place, out)
    _check_partial(_beside(place, ".partial"), application)


class Publication:
    """The making of one output: locked while it is made, published by one rename, cleaned up otherwise.

    On entering, the output is checked and locked against other runs, what an earlier run of the same
    application left unfinished is removed, and ``<out>.partial`` is created. On leaving without `commit`,
    nothing half-written stays: units that aren't done go, and ``<out>.partial`` itself goes unless a unit is
    done or `keep_partial` was set.

    Parameters
    ----------
    out
        The output directory; doesn't exist yet. Missing parents are created, and removed if nothing is
        published.
    application
        The application's name, such as ``cloudless-mosaic``.

    Attributes
    ----------
    out : Path
        Where the output will be, absolute.
    root : Path
        ``<out>.partial``, where everything is written.
    keep_partial : bool
        Set it to leave ``<out>.partial`` for a rerun though no unit is done (it holds a ledger, say).
    committed : bool
        True once the output is published.

    Raises
    ------
    OutputError
        On entering, as `check_output`, or when another run holds the lock.

    Examples
    --------
    >>> with Publication(Path("out"), "cloudless-mosaic") as publication:  # doctest: +SKIP
    ...     folder = publication.unit_dir("2021-07")
    ...     (folder / "2021-07.json").write_text("{}")
    ...     publication.unit_done("2021-07")
    ...     write_json(publication.root / "run.json", identity("cloudless-mosaic"))
    ...     publication.commit()
    """

    def __init__(self, out: Path, application: str) -> None:
        self._given = out
        self.application = application
        self.out = _resolve(out)
        self.root = _beside(self.out, ".partial")
        self.keep_partial = False
        self.committed = False
        self._units: set[str] = set()
        self._done: set[str] = set()
        self._exit = ExitStack()

    @property
    def scratch(self) -> Path:
        """A directory for files that aren't part of the product; it goes at the end, however the run ends."""
        return self.root / SCRATCH

    def __enter__(self) -> Self:
        _check_place(self.out, self._given)
        with ExitStack() as undo:
            try:
                undo.callback(_remove_empty, _make_parents(self.out.parent))
                lock = _Lock(_beside(self.out, ".lock"), self._given)
                undo.enter_context(lock)
                # Again, now that nobody else may change it: the holder before us may have published.
                _check_place(self.out, self._given)
                _check_partial(self.root, self.application)
                if self.root.exists():
                    _remove_partial(self.root)
                self.root.mkdir()
                undo.callback(self._clean_up)
                write_json(self.root / MARKER, identity(self.application))
                self.scratch.mkdir()
            except OSError as error:
                raise _unwritable(self._given, error) from error
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._exit.__exit__(kind, error, traceback)
        except OSError as trouble:
            if error is None:
                raise _unwritable(self._given, trouble) from trouble
            # What went wrong first is what matters; this is a footnote to it.
            error.add_note(f"Cleaning up {self.root} failed as well: {trouble}")

    def unit_dir(self, key: str) -> Path:
        """Create the directory of a unit of work, empty.

        Parameters
        ----------
        key
            The unit's key: lower-case letters, digits, ``.``, ``_``, ``-``; begins with a letter or digit.

        Returns
        -------
        Path
            The directory; what an earlier attempt at this unit left in it is gone.

        Raises
        ------
        ValueError
            When the key doesn't make a safe file name, or its unit is done.
        """
        if not _KEY.fullmatch(key):
            raise ValueError(f"{key!r} can't name the directory of a unit.")
        if key in self._done:
            raise ValueError(f"Unit {key!r} is done.")
        folder = self.root / key
        self._units.add(key)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir()
        return folder

    def unit_done(self, key: str) -> None:
        """Count a unit as done: its directory is complete and stays.

        Parameters
        ----------
        key
            A key that `unit_dir` was asked for.

        Raises
        ------
        ValueError
            When no such unit was begun.
        """
        if key not in self._units or not (self.root / key).is_dir():
            raise ValueError(f"Unit {key!r} wasn't begun.")
        self._done.add(key)

    def commit(self) -> Path:
        """Publish: the output exists from now on, complete.

        Directories of units that aren't done are removed first, with the scratch directory.

        Returns
        -------
        Path
            The output directory.

        Raises
        ------
        OutputError
            When something appeared at `out` meanwhile, or the disk refuses. ``<out>.partial`` stays.
        ValueError
            When ``catalog.json`` or a ``run.json`` with our `identity` is missing.
        """
        if not (self.root / "catalog.json").is_file():
            raise ValueError("An output without catalog.json isn't complete.")
        if _owner(self.root, RUN_FILE) is None:
            raise ValueError("An output needs a run.json that begins with identity().")
        self._remove_unfinished()
        self.keep_partial = True  # from here on it is whole: whatever stops us, it is worth keeping
        try:
            # Killed between here and the rename, run.json tells the next run that the directory is ours.
            (self.root / MARKER).unlink()
            fsync_tree(self.root)
            # rename(2) replaces an empty directory without a word, and refuses everything else.
            if os.path.lexists(self.out):
                raise FileExistsError
            self.root.rename(self.out)
        except OSError as error:
            if os.path.lexists(self.out):
                raise OutputError(
                    f"{self._given} appeared while this run was working.",
                    "Only this run should have made it.",
                    f"The finished product is in {self.root}: move one of the two away.",
                ) from error
            raise _unwritable(self._given, error) from error
        self.committed = True
        with suppress(OSError):  # the output is there and visible; some filesystems can't sync a directory
            fsync_path(self.out.parent)
        return self.out

    def _remove_unfinished(self) -> None:
        """Remove the scratch directory and the directories of units that aren't done."""
        _remove_tree(self.scratch)
        for key in sorted(self._units - self._done):
            _remove_tree(self.root / key)

    def _clean_up(self) -> None:
        """Leave nothing half-written: done units stay in `.partial`, and a ledger if it was asked for."""
        if self.committed:
            return
        self._remove_unfinished()
        if not (self.keep_partial or self._done):
            _remove_partial(self.root)


class _Lock:
    """An exclusive lock on a file, held by a living process only, and the file gone afterwards.

    The kernel drops a `flock` with its process, so that nobody has to guess whether a holder lives. filelock
    holds the same lock but leaves its file behind, and falls back to one that a dead process does hold.
    """

    def __init__(self, path: Path, given: Path) -> None:
        self.path = path
        self._given = given
        self._descriptor = -1

    def __enter__(self) -> Self:
        for _ in range(_LOCK_ATTEMPTS):
            descriptor = self._open()
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                holder = _read_holder(descriptor)
                os.close(descriptor)
                raise OutputError(
                    f"Another run is writing {self._given}{holder}.",
                    f"One run at a time writes an output; the lock is {self.path}.",
                    "Wait for it to end, or choose another --output-dir.",
                ) from error
            except OSError:
                os.close(descriptor)
                raise
            if self._is_current(descriptor):
                break
            # The holder before us removed the file between our open and our lock: ours is a lock on nothing.
            os.close(descriptor)
        else:
            raise OutputError(
                f"The lock {self.path} couldn't be taken.",
                "It vanished each time that it was opened.",
                "Other runs begin and end there all the time: choose another --output-dir.",
            )
        self._descriptor = descriptor
        try:
            self._refuse_foreign_file()
        except BaseException:
            os.close(descriptor)
            raise
        note = json.dumps({"software": SOFTWARE, "pid": os.getpid(), "host": socket.gethostname()}) + "\n"
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, note.encode(), 0)
        return self

    def __exit__(self, *exception: object) -> None:
        try:
            # Removed while the lock is held: whoever waits finds that its file isn't the current one.
            if self._is_current(self._descriptor):
                self.path.unlink(missing_ok=True)
        finally:
            os.close(self._descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        for attempt in range(_LOCK_ATTEMPTS):
            try:
                return os.open(self.path, flags, 0o644)
            except FileNotFoundError:
                # A run that ended just now took the parent with it, having created it.
                if attempt == _LOCK_ATTEMPTS - 1:
                    raise
                self.path.parent.mkdir(parents=True, exist_ok=True)
            except OSError:
                if not (self.path.is_symlink() or self.path.is_dir()):
                    raise
                break
        raise OutputError(
            f"{self.path} isn't a file that a lock can be taken on.",
            "A run locks its output with a regular file of this name.",
            "Move it away, or choose another --output-dir.",
        )

    def _is_current(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), self.path.lstat())
        except FileNotFoundError:
            return False

    def _refuse_foreign_file(self) -> None:
        """Raise when the file holds something that no lock of ours holds: it would be removed at the end."""
        content = os.pread(self._descriptor, 4096, 0)
        if content and _parse(content).get("software") != SOFTWARE:
            raise OutputError(
                f"{self.path} exists and isn't a lock of {SOFTWARE}.",
                "A run locks its output with a file of this name, and removes it.",
                "Choose another --output-dir, or move the file away.",
            )


def _resolve(out: Path) -> Path:
    """Return `out` as an absolute path whose last part isn't followed if it is a link."""
    # realpath, for Path.resolve raises on a loop of links
    if out.name in ("", ".."):
        return Path(os.path.realpath(out))
    return Path(os.path.realpath(out.parent)) / out.name


def _beside(path: Path, suffix: str) -> Path:
    return path.parent / (path.name + suffix)


def _check_place(place: Path, given: Path) -> None:
    """Raise unless `place` is free and its parent, or the nearest one that exists, can be written."""
    choose = "Choose another --output-dir."
    if place == place.parent:
        raise OutputError(f"{given} can't be an output.", "The root directory exists.", choose)
    if os.path.lexists(place):
        raise _occupied(place, given)
    try:
        parent = next(parent for parent in place.parents if os.path.lexists(parent))
        if not parent.is_dir():
            raise OutputError(f"{given} can't be created.", f"{parent} isn't a directory.", choose)
    except OSError as error:
        raise _unwritable(given, error) from error
    if not os.access(parent, os.W_OK | os.X_OK):
        raise OutputError(f"{given} can't be created.", f"{parent} isn't writable.", choose)


def _occupied(place: Path, given: Path) -> OutputError:
    """Return the error that says what is in the way."""
    expected = "An output directory is created by the run, and appears when it is complete."
    remedy = "Choose another --output-dir or remove it."
    if place.is_symlink():
        return OutputError(
            f"{given} is a symbolic link.",
            expected,
            "Choose another --output-dir, or name what it points to.",
        )
    if not place.is_dir():
        return OutputError(f"{given} exists and is a file.", expected, "Choose another --output-dir.")
    owner = _owner(place, RUN_FILE)
    if owner is not None:
        made_by = owner.get("application") or SOFTWARE
        return OutputError(f"{given} already exists, made by {made_by}.", expected, remedy)
    if not _names(place):
        return OutputError(f"{given} already exists, as an empty directory.", expected, remedy)
    return OutputError(
        f"{given} already exists and wasn't made by {SOFTWARE}.", expected, "Choose another --output-dir."
    )


def _check_partial(partial: Path, application: str) -> None:
    """Raise unless `partial` is absent, or an unfinished output of this application."""
    if not os.path.lexists(partial):
        return
    expected = "A run writes into a directory of this name until its output is complete."
    remedy = "Choose another --output-dir, or move it away."
    if partial.is_symlink() or not partial.is_dir():
        kind = "is a symbolic link" if partial.is_symlink() else "exists and isn't a directory"
        raise OutputError(f"{partial} {kind}.", expected, remedy)
    owner = _owner(partial, MARKER) or _owner(partial, RUN_FILE)
    if owner is None:
        # Killed between creating it and writing the marker; an empty directory is no loss to anybody.
        if _names(partial):
            raise OutputError(f"{partial} exists and wasn't made by {SOFTWARE}.", expected, remedy)
    elif owner.get("application") != application:
        raise OutputError(
            f"{partial} holds an unfinished run of {owner.get('application')}.",
            f"This is {application}, which won't remove it.",
            "Choose another --output-dir, or remove it.",
        )


def _owner(folder: Path, name: str) -> dict[str, Any] | None:
    """Return what a marker or a run file of ours says, None when there is none."""
    path = folder / name
    try:
        if path.is_symlink() or not path.is_file():
            return None
        document = _parse(path.read_bytes())
    except OSError:
        return None
    return document if document.get("software") == SOFTWARE else None


def _parse(content: bytes) -> dict[str, Any]:
    """Return a JSON object; an empty one when the content isn't that."""
    try:
        document = json.loads(content)
    except ValueError:
        return {}
    return document if isinstance(document, dict) else {}


def _names(folder: Path) -> set[str]:
    try:
        return set(os.listdir(folder))  # noqa: PTH208  # names are all that is needed
    except OSError:
        return {"?"}  # unreadable isn't empty


def _read_holder(descriptor: int) -> str:
    """Return who holds a lock, as a phrase; empty when the file doesn't say (it is written after locking)."""
    holder = _parse(os.pread(descriptor, 4096, 0))
    if "pid" not in holder:
        return ""
    host = holder.get("host")
    where = "" if host == socket.gethostname() else f" on {host}"
    return f" (process {holder['pid']}{where})"


def _make_parents(parent: Path) -> list[Path]:
    """Create a directory with its parents, and return those that weren't there, innermost first."""
    missing = []
    for path in (parent, *parent.parents):
        if os.path.lexists(path):
            break
        missing.append(path)
    made: list[Path] = []
    try:
        for path in reversed(missing):
            with suppress(FileExistsError):  # another run was quicker: then it is theirs to remove
                path.mkdir()
                made.insert(0, path)
    except OSError:
        _remove_empty(made)
        raise
    return made


def _remove_empty(folders: list[Path]) -> None:
    """Remove directories that are empty, innermost first; a published output keeps its parents."""
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return


def _remove_tree(path: Path) -> None:
    """Remove a directory if it is there; a link in its place loses itself, never what it points to."""
    if path.is_symlink():
        path.unlink()
    elif path.exists():
        shutil.rmtree(path)


def _remove_partial(root: Path) -> None:
    """Remove an unfinished output; what tells that it is ours goes last, in case we are killed here."""
    known = (RUN_FILE, MARKER)
    for name in sorted(_names(root) - set(known)):
        path = root / name
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
    for name in known:
        (root / name).unlink(missing_ok=True)
    root.rmdir()


def _unwritable(given: Path, error: OSError) -> OutputError:
    reason = error.strerror or str(error)
    where = f" ({error.filename})" if error.filename else ""
    return OutputError(
        f"{given} can't be written: {reason}{where}.",
        "The output, and what is beside it while a run works, must be on a disk that can be written.",
        "Choose another --output-dir.",
    )
