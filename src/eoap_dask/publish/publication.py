"""An output directory that exists only when it is complete.

It is written as ``<out>.partial`` and renamed in the end: CWL runners judge a step by whether ``<out>`` exists. An
update makes the next generation in the same way, with hard links to unchanged files, and the two are swapped.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Self

from loguru import logger

from eoap_dask.errors import OutputError
from eoap_dask.files import (
    fsync_path,
    fsync_tree,
    link_or_copy,
    make_parents,
    remove_empty,
    remove_tree,
    write_bytes,
    write_json,
)
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.checks import check_partial, check_place, identity, unwritable
from eoap_dask.publish.exchange import ASIDE_MARK, aside_of, can_exchange, exchange, is_aside, recover, remove_last
from eoap_dask.publish.holdings import (
    CATALOG,
    CONTENTS,
    MARKER,
    RUN_FILE,
    FinishedUnit,
    another_place,
    check_product,
    check_unit,
    files_of,
    names_in,
    owner,
    read_object,
    resolve,
    sibling,
    units_in,
    unlisted,
)
from eoap_dask.publish.lock import OutputLock

if TYPE_CHECKING:
    from types import TracebackType

SCRATCH = ".scratch"


class Publication:
    """Makes one output: a context manager that locks it, and cleans up unless `commit` was called.

    On entering, the output is checked and locked, an interrupted exchange is completed, and ``<out>.partial`` (`root`)
    is there, with the finished units that `resume` keeps for `adopt`. With `update`, `out` may be a product of the same
    application. On leaving without `commit`, unfinished units go, and ``<out>.partial`` unless it has finished ones or
    `keep_partial` is set; `out` is as it was, and parents that were created are removed.

    Examples
    --------
    >>> with Publication(Path("out"), "cloudless-mosaic", resume=True, update=True) as publication:  # doctest: +SKIP
    ...     publication.keep_only(["2021-07"])
    ...     if publication.adopt("2021-07", digest) is None:
    ...         folder = publication.unit_dir("2021-07")
    ...         (folder / "2021-07.json").write_text("{}")
    ...         publication.unit_done("2021-07")
    ...     write_json(publication.root / "run.json", identity("cloudless-mosaic"))
    ...     publication.commit()
    """

    keeps_others: ClassVar[bool] = False

    def __init__(self, out: Path, application: str, *, resume: bool = False, update: bool = False) -> None:
        self._given = out
        self.application = application
        self.out = resolve(out)
        self.root = sibling(self.out, ".partial")
        self.keep_partial = False
        self.committed = False
        self._resume = resume
        self._updater = application if update else None
        self._replaces = False
        self._discarded = False
        self._found: set[str] = set()
        self._units: set[str] = set()
        self._done: set[str] = set()
        self._exit = ExitStack()

    @property
    def ledger(self) -> Path:
        """Where ``failures.json`` is when a run has failed."""
        return self.root

    @property
    def scratch(self) -> Path:
        """A directory for files that aren't part of the product; removed in the end, however the run ends."""
        return self.root / SCRATCH

    def __enter__(self) -> Self:
        check_place(self.out, self._given, self._updater)
        with ExitStack() as undo:
            try:
                undo.callback(remove_empty, make_parents(self.out.parent))
                lock = OutputLock(sibling(self.out, ".lock"), self._given)
                undo.enter_context(lock)
                # again, now that we have the lock: another run may have published
                check_place(self.out, self._given, self._updater)
                check_partial(self.root, self.application)
                recover(self.out)
                self._replaces = os.path.lexists(self.out)
                if self.root.exists() and not self._resume:
                    _remove_partial(self.root)
                undo.callback(self._clean_up)  # before: a signal may come once it is there
                self.root.mkdir(exist_ok=True)
                write_json(self.root / MARKER, identity(self.application))
                self._keep_units()
                self.scratch.mkdir()
                self._check_aside()
            except OSError as error:
                raise unwritable(self._given, error) from error
            self._exit = undo.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        try:
            self._exit.__exit__(kind, error, traceback)
        except OSError as trouble:
            if error is None:
                raise unwritable(self._given, trouble) from trouble
            error.add_note(f"Cleaning up {self.root} failed as well: {trouble}")

    def unit_dir(self, key: str) -> Path:
        """Create the directory of a unit of work, empty, and return it.

        Only the unit's item and the assets in it are taken over by later runs. One that shares a directory is made
        elsewhere, and gets there by `unit_done`. ValueError for a bad key, or a unit that is done.
        """
        if not LAYOUT.is_key(key):
            raise ValueError(f"{key!r} can't name the directory of a unit.")
        if key in self._done:
            raise ValueError(f"Unit {key!r} is done.")
        folder = self._made_in(key)
        self._units.add(key)
        self._found.discard(key)
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        return folder

    def unit_done(self, key: str) -> None:
        """Count a unit as done: its directory is complete and stays. ValueError when it wasn't begun."""
        made = self._made_in(key)
        if key not in self._units or not made.is_dir():
            raise ValueError(f"Unit {key!r} wasn't begun.")
        if LAYOUT.is_shared(key):
            files = files_of(made, json.loads((made / LAYOUT.item(key)).read_bytes()))
            if isinstance(files, str):
                raise ValueError(f"Unit {key!r} isn't complete: {files}.")
            for name in (*(file.name for file in files), LAYOUT.item(key)):  # a unit is where its item is
                target = self.file_of(key, name)
                target.parent.mkdir(parents=True, exist_ok=True)
                (made / name).replace(target)
            remove_tree(made)
        self._done.add(key)

    def _made_in(self, key: str) -> Path:
        """Return the directory in which a unit is made."""
        return (self.scratch if LAYOUT.is_shared(key) else self.root) / key

    def adopt(self, key: str, digest: str) -> dict[str, Any] | None:
        """Take over a unit that is finished already, and return its STAC item; None when it isn't, see `check_unit`.

        It is looked for in ``<out>.partial``, then in the product that is updated: files are hard-linked (or copied),
        the item is copied, so that writing it anew leaves the product alone. Files that the item doesn't list are left
        out.
        """
        if not LAYOUT.is_key(key):
            raise ValueError(f"{key!r} can't name the directory of a unit.")
        if key in self._units:
            raise ValueError(f"Unit {key!r} was begun already.")
        try:
            found = self._adopt_in_place(key, digest) or self._adopt_from_product(key, digest)
        except OSError as error:
            raise unwritable(self._given, error) from error
        if found is None:
            return None
        self._units.add(key)
        self._done.add(key)
        return found.item

    def file_of(self, key: str, name: str) -> Path:
        """Return the path of a file of a unit that is done or adopted."""
        return self.root / LAYOUT.folder(key) / name

    def renew(self, item: dict[str, Any]) -> None:
        """Replace the item of an adopted unit; its assets are the same."""
        write_json(self.root / LAYOUT.item_of(LAYOUT.unit_of_item(item)), item)

    def all_items(self, finished: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the items of this run: the product has no others."""
        return finished

    def holds(self, key: str) -> bool:
        """Tell whether `adopt` has something to check, which takes a while for large files."""
        name = LAYOUT.item_of(key)
        return (self.root / name).is_file() or (self._replaces and (self.out / name).is_file())

    def forget(self, key: str) -> None:
        """Drop an adopted unit: it has to be made after all."""
        try:
            self._forget(key)
        except OSError as error:
            raise unwritable(self._given, error) from error

    def keep_only(self, keys: Iterable[str]) -> None:
        """Remove all units but these, which may be missing, from ``<out>.partial``; files beside the units stay."""
        try:
            for key in sorted((self._found | self._units) - set(keys)):
                self._forget(key)
        except OSError as error:
            raise unwritable(self._given, error) from error

    def discard(self) -> None:
        """Leave nothing in ``<out>.partial`` on leaving, for a run that finds its product published already."""
        self._discarded = True

    def commit(self) -> Path:
        """Publish the output, and return its directory; an update removes the generation before.

        Units that aren't done are removed, and ``run.json`` gets the list ``contents``. OutputError when `out` appeared
        or changed meanwhile, or the disk refuses: ``<out>.partial`` stays. ValueError without catalog.json or run.json.
        """
        if not (self.root / CATALOG).is_file():
            raise ValueError("An output without catalog.json isn't complete.")
        account = owner(self.root, RUN_FILE)
        if account is None:
            raise ValueError("An output needs a run.json that begins with identity().")
        self._remove_unfinished()
        for name in sorted(self._found):
            self._forget(name)
        self.keep_partial = True  # it is whole from here on
        left = None
        try:
            write_json(self.root / RUN_FILE, {**account, CONTENTS: sorted(names_in(self.root) - {MARKER})})
            # if we are killed before the rename, run.json shows the next run that the directory is ours
            (self.root / MARKER).unlink(missing_ok=True)
            fsync_tree(self.root)
            if self._replaces and os.path.lexists(self.out):
                self._check_replaced()
                left = exchange(self.root, self.out)
            else:
                self._appear()
        except OSError as error:
            raise unwritable(self._given, error) from error
        self.committed = True
        with suppress(OSError):  # some file systems can't sync a directory
            fsync_path(self.out.parent)
        if left is not None:
            self._remove_generation(left)
        return self.out

    def _keep_units(self) -> None:
        """Leave only units of an unfinished run, for `adopt` to check."""
        self._found = units_in(self.root) if self._resume else set()
        kept = {key.partition("/")[0] for key in self._found}
        for name in sorted(names_in(self.root) - {MARKER} - kept):
            self._forget(name)
        known: dict[str, set[str]] = {}
        for key in filter(LAYOUT.is_shared, self._found):
            folder = self.root / LAYOUT.folder(key)
            files = files_of(folder, read_object(folder / LAYOUT.item(key))[0])
            names = () if isinstance(files, str) else (LAYOUT.item(key), *(file.name for file in files))
            known.setdefault(LAYOUT.folder(key), set()).update(names)
        for shared in {key.partition("/")[0] for key in self._found if LAYOUT.is_shared(key)}:
            listed = {f"{folder.partition('/')[2]}/{name}" for folder, names in known.items() for name in names}
            for path in unlisted(self.root / shared, listed):
                path.unlink()

    def _check_aside(self) -> None:
        """Raise before the work when the exchange at its end needs a name that isn't free."""
        aside = aside_of(self.out)
        if self._replaces and os.path.lexists(aside) and not can_exchange(self.scratch):
            raise OutputError(
                f"{aside} exists, and wasn't left by a run.",
                "This file system can't replace a directory in one step: the old one needs that name.",
                another_place("or move it away"),
            )

    def _adopt_in_place(self, key: str, digest: str) -> FinishedUnit | None:
        home = self.root / LAYOUT.folder(key)
        found = check_unit(home, key, digest)
        if isinstance(found, str):
            self._forget(key)
            return None
        self._found.discard(key)
        if LAYOUT.is_shared(key):
            return found
        for path in unlisted(home, {LAYOUT.item(key), *(file.name for file in found.files)}):
            path.unlink()
        for folder, _, _ in os.walk(home, topdown=False):
            with suppress(OSError):  # it isn't empty
                Path(folder).rmdir()
        return found

    def _adopt_from_product(self, key: str, digest: str) -> FinishedUnit | None:
        if not self._replaces:
            return None
        found = check_unit(self.out / LAYOUT.folder(key), key, digest)
        if isinstance(found, str):
            logger.debug("{} can't be reused: {}.", key, found)
            return None
        self._found.discard(key)
        home = self.root / LAYOUT.folder(key)
        if not LAYOUT.is_shared(key):
            home = self.unit_dir(key)
        for file in found.files:
            link_or_copy(self.out / LAYOUT.folder(key) / file.name, home / file.name, file.sha256)
        write_bytes(home / LAYOUT.item(key), found.content)  # last, as when it was made
        return found

    def _forget(self, name: str) -> None:
        """Remove a unit, or an entry of the root, if it is there."""
        self._found.discard(name)
        self._units.discard(name)
        self._done.discard(name)
        if LAYOUT.is_shared(name):
            self._forget_shared(name)
            return
        path = self.root / name
        if os.path.lexists(path) and not path.is_dir():
            path.unlink()
        else:
            remove_tree(path)

    def _forget_shared(self, key: str) -> None:
        """Remove the files of a unit that shares its directory, and that if it is left empty."""
        home = self.root / LAYOUT.folder(key)
        files = files_of(home, read_object(home / LAYOUT.item(key))[0])
        (home / LAYOUT.item(key)).unlink(missing_ok=True)  # the first to go
        for file in () if isinstance(files, str) else files:
            (home / file.name).unlink(missing_ok=True)
        remove_empty([home, home.parent])

    def _check_replaced(self) -> None:
        """Raise when the product to be replaced has changed since entering."""
        try:
            check_product(self.out, self.application, self._given)
        except OutputError as error:
            hint = f"The finished product is in {self.root}. {error.hint}"
            raise OutputError(error.what, error.expected, hint) from error

    def _appear(self) -> None:
        """Rename to a free place."""
        try:
            # rename(2) silently replaces an empty directory, and refuses all else
            if os.path.lexists(self.out):
                raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(self.out))
            self.root.rename(self.out)
        except OSError as error:
            if not os.path.lexists(self.out):
                raise
            raise OutputError(
                f"{self._given} appeared while this run was working.",
                "Nothing else may write there meanwhile.",
                f"The finished product is in {self.root}: move one of the two away.",
            ) from error

    def _remove_generation(self, left: Path) -> None:
        """Remove the generation before; on errors it is left to the next run."""
        if left.is_symlink() or (owner(left, RUN_FILE) is None and not is_aside(left)):
            logger.warning("{} isn't a product of a run, but was at {}: it is kept.", left, self.out)
            return
        try:
            _remove_partial(left)
        except OSError as error:
            logger.warning("{}, the product before this one, can't be removed: {}", left, error)

    def _remove_unfinished(self) -> None:
        """Remove the scratch directory and the directories of units that aren't done."""
        remove_tree(self.scratch)
        for key in sorted(self._units - self._done):
            remove_tree(self._made_in(key))

    def _clean_up(self) -> None:
        """Keep finished units in `.partial`, and a ledger if requested; remove the rest."""
        if self.committed or not self.root.is_dir():
            return
        self._remove_unfinished()
        if self._discarded or not (self.keep_partial or self._done or self._found):
            _remove_partial(self.root)


def remove_unfinished(out: Path, application: str) -> Path | None:
    """Remove what a run of an application left beside an output, and return what that was; None where nothing was.

    The product stays. Raises `OutputError` while a run works there, and for what isn't ours.
    """
    place = resolve(out)
    root = sibling(place, ".partial")
    if not os.path.lexists(root):
        return None
    with OutputLock(sibling(place, ".lock"), out):
        check_partial(root, application)
        recover(place)
        _remove_partial(root)
    return root


def _remove_partial(root: Path) -> None:
    """Remove an unfinished output, or a product; its marks go last, in case we are killed here."""
    remove_last(root, (RUN_FILE, MARKER, ASIDE_MARK))
