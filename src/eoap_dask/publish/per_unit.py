"""A product that grows unit by unit: each is published when its item is, the catalog last.

For streams, and for places without a rename of many files. What the two promises of a product mean here: it is what its
items say, at any time, whether a run is at work or was killed; and a run that is killed loses the unit it was making.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Self

from eoap_dask.errors import OutputError
from eoap_dask.files import real_directories, remove_tree, write_json
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.checks import check_partial, check_place, identity, unwritable
from eoap_dask.publish.holdings import (
    MARKER,
    FinishedUnit,
    another_place,
    check_unit,
    files_of,
    owner,
    parse_object,
    partial_owner,
    resolve,
    sibling,
    units_in,
)
from eoap_dask.publish.place import DirectoryPlace
from eoap_dask.publish.publication import SCRATCH

_KIND = {"kind": "per-unit"}
"""What the mark of a product that grows says beside its owner."""
_DRAFT = re.compile(r"\..*\.\d+\.tmp")


def _grows(mark: Mapping[str, Any]) -> bool:
    return mark.get("kind") == _KIND["kind"]


class UnitPublication:
    """Publishes units in a directory one by one. A `Publisher` of the per-unit kind.

    Units are made in ``<out>.partial``, which is on the disk of the directory. A unit is moved into its place, assets
    first, its item last; one that is made anew loses its item before.
    """

    keeps_others: ClassVar[bool] = True

    def __init__(
        self,
        out: Path,
        application: str,
        *,
        resume: bool = False,  # noqa: ARG002 - what is asked for again is made anew by the run
        update: bool = False,  # noqa: ARG002 - what is there is always added to
    ) -> None:
        self._given, self._application = out, application
        self.out = resolve(out)
        self.root = sibling(self.out, ".partial")
        self.place = DirectoryPlace(self.out)
        self.keep_partial = False
        self._exit = ExitStack()

    @property
    def ledger(self) -> Path:
        """Where ``failures.json`` is when a run has failed."""
        return self.out

    @property
    def scratch(self) -> Path:
        """A directory for files that aren't part of the product; removed in the end."""
        return self.root / SCRATCH

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            try:
                undo.enter_context(self.place.lease())
                self._check()
                remove_tree(self.root)
                self.root.mkdir()
                undo.callback(self._clean_up)
                mark = write_json(self.root / MARKER, {**identity(self._application), **_KIND})
                self.scratch.mkdir()
                self.place.put(MARKER, mark)
            except OSError as error:
                raise unwritable(self._given, error) from error
            self._exit = undo.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exit.__exit__(*exception)

    def _check(self) -> None:
        """Raise unless the output is free, or grew by runs of this application."""
        check_partial(self.root, self._application)
        left = partial_owner(self.root)
        if left is not None and not _grows(left):
            raise OutputError(
                f"{self.root} holds an unfinished run that makes its product at once.",
                "Its finished units would be lost.",
                another_place("or run that again, to its end"),
            )
        if not os.path.lexists(self.out):
            check_place(self.out, self._given, None)
            return
        found = owner(self.out, MARKER) if self.out.is_dir() and not self.out.is_symlink() else None
        if found is None or not _grows(found) or found.get("application") != self._application:
            raise OutputError(
                f"{self._given} exists, and isn't a product of {self._application} that grows unit by unit.",
                "Units are added to one of these, or to a new directory.",
                another_place(),
            )
        for name in list(self.place.names()):
            if _DRAFT.fullmatch(name.rpartition("/")[2]):  # a run was killed
                self.place.delete(name)

    def unit_dir(self, key: str) -> Path:
        """Create the directory of a unit, empty, and return it; ValueError for a bad key."""
        if not LAYOUT.is_key(key):
            raise ValueError(f"{key!r} can't name the directory of a unit.")
        folder = self.root / key
        remove_tree(folder)
        folder.mkdir(parents=True)
        return folder

    def unit_done(self, key: str) -> None:
        """Publish a unit: its item, which says so, comes last."""
        folder = self.root / key
        item = json.loads((folder / LAYOUT.item(key)).read_bytes())
        files = files_of(folder, item)
        if isinstance(files, str):
            raise ValueError(f"Unit {key!r} isn't complete: {files}.")
        self.place.delete(LAYOUT.item_of(key))
        home = LAYOUT.folder(key)
        names = {f"{home}/{file.name}" for file in files}
        # items of outputs before their assets, and what is no longer made
        there = [] if LAYOUT.is_shared(key) else list(self.place.names(home))
        for name in (*(one for one in there if one.endswith(".json")), *(one for one in there if one not in names)):
            self.place.delete(name)
        for file in files:
            self.place.put(f"{home}/{file.name}", folder / file.name, file.sha256)
        self.place.put(LAYOUT.item_of(key), folder / LAYOUT.item(key))
        remove_tree(folder)

    def file_of(self, key: str, name: str) -> Path:
        """Return the path of a file of a published unit."""
        return self.out / LAYOUT.folder(key) / name

    def holds(self, key: str) -> bool:
        """Tell whether there is such a unit."""
        return (self.out / LAYOUT.item_of(key)).is_file()

    def adopt(self, key: str, digest: str) -> dict[str, Any] | None:
        """Return the item of a unit that is published and whole; None when it isn't."""
        found = check_unit(self.out / LAYOUT.folder(key), key, digest)
        return found.item if isinstance(found, FinishedUnit) else None

    def renew(self, item: dict[str, Any]) -> None:
        """Replace the item of a unit."""
        key = LAYOUT.unit_of_item(item)
        draft = write_json(self.scratch / LAYOUT.item(key), item)
        self.place.put(LAYOUT.item_of(key), draft)

    def forget(self, key: str) -> None:
        """Leave a unit where it is until it is made anew."""

    def keep_only(self, keys: Iterable[str]) -> None:
        """Leave other units where they are."""

    def all_items(self, finished: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the items of all units that are published, sorted by id."""
        known = {LAYOUT.unit_of_item(item): item for item in finished}
        for key in sorted(units_in(self.out)):
            content = self.place.read(LAYOUT.item_of(key))
            item = parse_object(content) if content is not None else None
            if item is not None and key not in known and "eoap:digest" in (item.get("properties") or {}):
                known[key] = item
        return [known[key] for key in sorted(known)]

    def discard(self) -> None:
        """Leave the product as it is."""

    def commit(self) -> Path:
        """Publish what belongs to the run as a whole, the catalog last."""
        remove_tree(self.scratch)
        self._put_rest()
        self.place.put(LAYOUT.catalog, self.root / LAYOUT.catalog)
        return self.out

    def _put_rest(self) -> None:
        for name in sorted(DirectoryPlace(self.root).names()):
            if name not in (MARKER, LAYOUT.catalog):
                self.place.put(name, self.root / name)

    def _clean_up(self) -> None:
        """Remove what isn't published; of a run that failed, log, events and ledger are."""
        for name in real_directories(self.root) - {"logs"}:
            remove_tree(self.root / name)
        self._put_rest()
        remove_tree(self.root)
