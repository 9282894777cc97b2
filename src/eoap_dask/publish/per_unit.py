"""A product that grows unit by unit: each is published when its item is, the catalog last.

For streams, and for places without a rename of many files. What the two promises of a product mean here: it is what its
items say, at any time, whether a run is at work or was killed; and a run that is killed loses the unit it was making.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, ClassVar, Self

from eoap_dask.files import real_directories, remove_tree, write_json
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.checks import check_partial, identity, unwritable
from eoap_dask.publish.holdings import MARKER, FinishedUnit, check_unit, files_of, resolve, sibling
from eoap_dask.publish.place import DirectoryPlace
from eoap_dask.publish.publication import SCRATCH


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
        resume: bool = False,
        update: bool = False,  # noqa: ARG002 - what is there is always added to
    ) -> None:
        self._given, self._application, self._resume = out, application, resume
        self.out = resolve(out)
        self.root = sibling(self.out, ".partial")
        self.place = DirectoryPlace(self.out)
        self.keep_partial = False
        self._exit = ExitStack()

    @property
    def scratch(self) -> Path:
        """A directory for files that aren't part of the product; removed in the end."""
        return self.root / SCRATCH

    def __enter__(self) -> Self:
        with ExitStack() as undo:
            try:
                undo.enter_context(self.place.lease())
                check_partial(self.root, self._application)
                remove_tree(self.root)
                self.root.mkdir()
                undo.callback(self._clean_up)
                write_json(self.root / MARKER, identity(self._application))
                self.scratch.mkdir()
            except OSError as error:
                raise unwritable(self._given, error) from error
            self._exit = undo.pop_all()
        return self

    def __exit__(self, *exception: Any) -> None:
        self._exit.__exit__(*exception)

    def unit_dir(self, key: str) -> Path:
        """Create the directory of a unit, empty, and return it; ValueError for a bad key."""
        if not LAYOUT.is_key(key):
            raise ValueError(f"{key!r} can't name the directory of a unit.")
        folder = self.root / key
        remove_tree(folder)
        folder.mkdir()
        return folder

    def unit_done(self, key: str) -> None:
        """Publish a unit: its item, which says so, comes last."""
        folder = self.root / key
        item = json.loads((folder / LAYOUT.item(key)).read_bytes())
        files = files_of(folder, item)
        if isinstance(files, str):
            raise ValueError(f"Unit {key!r} isn't complete: {files}.")
        self.place.delete(LAYOUT.item_of(key))
        names = {f"{key}/{file.name}" for file in files}
        for name in [one for one in self.place.names(key) if one not in names]:
            self.place.delete(name)
        for file in files:
            self.place.put(f"{key}/{file.name}", folder / file.name)
        self.place.put(LAYOUT.item_of(key), folder / LAYOUT.item(key))
        remove_tree(folder)

    def file_of(self, key: str, name: str) -> Path:
        """Return the path of a file of a published unit."""
        return self.out / key / name

    def holds(self, key: str) -> bool:
        """Tell whether there is such a unit."""
        return (self.out / key).is_dir()

    def adopt(self, key: str, digest: str) -> dict[str, Any] | None:
        """Return the item of a unit that is published and whole; None when it isn't."""
        found = check_unit(self.out / key, key, digest)
        return found.item if isinstance(found, FinishedUnit) else None

    def renew(self, item: dict[str, Any]) -> None:
        """Replace the item of a unit."""
        draft = write_json(self.scratch / LAYOUT.item(item["id"]), item)
        self.place.put(LAYOUT.item_of(item["id"]), draft)

    def forget(self, key: str) -> None:
        """Leave a unit where it is until it is made anew."""

    def keep_only(self, keys: Iterable[str]) -> None:
        """Leave other units where they are."""

    def all_items(self, finished: Sequence[dict[str, Any]]) -> Sequence[dict[str, Any]]:
        """Return the items of all units that are published, sorted by id."""
        known = {item["id"]: item for item in finished}
        for key in sorted(real_directories(self.out)):
            content = self.place.read(LAYOUT.item_of(key)) if LAYOUT.is_key(key) else None
            if content is not None and key not in known:
                known[key] = json.loads(content)
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
        """Remove what isn't published; of a run that failed, the ledger is."""
        for name in real_directories(self.root) - {"logs"}:
            remove_tree(self.root / name)
        if self.keep_partial:
            self._put_rest()
        remove_tree(self.root)
