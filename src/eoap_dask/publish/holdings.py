"""What an output directory has already: whose it is, which units, and which of them are finished. Reads only.

A unit is finished when its item is there with the expected ``eoap:digest``, and each of its assets matches the size and
the checksum in the item.
"""

from __future__ import annotations

import json
import os
import re
import stat
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from eoap_dask.errors import OutputError
from eoap_dask.files import real_directories, sha256_of
from eoap_dask.output.layout import LAYOUT
from eoap_dask.publish.exchange import ASIDE_MARK, location_of
from eoap_dask.text import few, option

SOFTWARE = "eoap-dask"
MARKER = ".eoap-dask.json"
"""Marks a `.partial` directory as ours; removed from a published output, where `RUN_FILE` does that."""
RUN_FILE = "run.json"
CATALOG = LAYOUT.catalog
LEDGER = "failures.json"
CONTENTS = "contents"
"""In `RUN_FILE`, the names that the run published; others in the output are the user's."""

DigestParts = Mapping[str, str | Sequence[str]]
"""Parts of a digest by name (params, scenes, grid, algorithm): a short hash, or one for each scene."""

MANIFEST = "eoap:manifest"
"""Of an asset that is a store of many objects: href of the file that lists them, whose checksum is the asset's."""

_SHA256 = re.compile(r"1220([0-9a-f]{64})")
_VIEWERS_FILES = re.compile(r".*\.aux\.xml|\.DS_Store|Thumbs\.db")
"""Left by GDAL and file browsers that opened a file, and made again."""
_SHOWN = 3

_NOT_THERE = "not there"
_UNFINISHED = "unfinished"


@dataclass(frozen=True)
class UnitState:
    """What a run would do with a unit, and why."""

    kind: Literal["new", "skip", "recompute"]
    reason: str
    """A phrase for people."""


@dataclass(frozen=True)
class UnitFile:
    """An asset's file, as its item describes it."""

    name: str
    """Relative to the unit's directory, with ``/``."""
    size: int
    sha256: str


@dataclass(frozen=True)
class FinishedUnit:
    """A unit that needn't be made again."""

    item: dict[str, Any]
    content: bytes
    """The item's file."""
    files: tuple[UnitFile, ...]


@dataclass(frozen=True)
class UnitRecord:
    """What the item of a unit says it was made from, whether its files are there or not."""

    digest: str
    parts: Mapping[str, Any]
    """Its ``eoap:digest_parts``."""


def record_of(folder: Path, key: str) -> UnitRecord | None:
    """Return what the item of a unit says; None without an item of ours. Its files aren't looked at."""
    if folder.is_symlink():
        return None
    item, why = read_object(folder / LAYOUT.item(key))
    properties = item.get("properties")
    if why or item.get("id") != LAYOUT.name(key) or not isinstance(properties, dict):
        return None
    digest, parts = properties.get("eoap:digest"), properties.get("eoap:digest_parts")
    return UnitRecord(digest, parts if isinstance(parts, dict) else {}) if isinstance(digest, str) else None


def records_in(folder: Path) -> dict[str, UnitRecord]:
    """Return what the items in a directory of units say, by key."""
    found = {key: record_of(folder / LAYOUT.folder(key), key) for key in sorted(units_in(folder))}
    return {key: one for key, one in found.items() if one is not None}


def units_in(folder: Path) -> set[str]:
    """Return the keys of all units in a directory that have an item of whatever content."""
    found: set[str] = set()
    if not folder.is_dir():
        return found
    for name in filter(LAYOUT.is_key, real_directories(folder)):
        if _regular(folder / name, LAYOUT.item(name)) is not None:
            found.add(name)
            continue
        for shared in real_directories(folder / name):
            items = (one for one in names_in(folder / name / shared) if one.endswith(".json"))
            keys = (f"{name}/{shared}/{item.removesuffix('.json')}" for item in items)
            found.update(key for key in keys if LAYOUT.is_key(key))
    return found


def another_place(otherwise: str = "") -> str:
    """Return the hint to choose another output directory, or do something else."""
    return f"Choose another {option('output_dir')}{f', {otherwise}' if otherwise else ''}."


def check_unit(folder: Path, key: str, digest: str, parts: DigestParts | None = None) -> FinishedUnit | str:
    """Return a unit that is finished, or a phrase that says why it isn't, such as ``the parameters changed``.

    `digest` identifies its pixels, see `units.digest`; `parts` tell what changed since the item's
    ``eoap:digest_parts``.
    """
    if not os.path.lexists(folder):
        return _NOT_THERE
    if folder.is_symlink() or not folder.is_dir():
        return "its directory isn't one"
    try:
        if _regular(folder, LAYOUT.item(key)) is None:
            return _NOT_THERE if LAYOUT.is_shared(key) else _UNFINISHED
        content = (folder / LAYOUT.item(key)).read_bytes()
        item = parse_object(content)
        if item is None:
            return "its item isn't JSON"
        properties = item.get("properties")
        if item.get("id") != LAYOUT.name(key) or not isinstance(properties, dict):
            return "its item isn't one of ours"
        if properties.get("eoap:digest") != digest:
            return what_changed(properties.get("eoap:digest_parts"), parts)
        files = files_of(folder, item)
        if isinstance(files, str):
            return files
        fault = next(filter(None, (_fault_of(folder, file) for file in files)), None)
    except OSError as error:
        return f"it can't be read ({error.strerror or error})"
    return fault or FinishedUnit(item, content, files)


class Holdings:
    """What there is of an output: units of ``<out>.partial``, then of the product. Writes nothing, and takes no lock.

    Raises `OutputError` when `out` isn't a product of this application.
    """

    def __init__(self, out: Path, application: str) -> None:
        place = resolve(out)
        self._product = location_of(place)
        if self._product is not None:
            check_product(self._product, application, out)
        partial = sibling(place, ".partial")
        self._partial = partial if _is_application(partial_owner(partial), application) else None

    def state(self, key: str, digest: str, parts: DigestParts | None) -> tuple[UnitState, dict[str, Any] | None]:
        """Return what a run would do with a unit, and the item of one that is finished."""
        reason = _NOT_THERE
        for place, finished in ((self._partial, "finished by an earlier run"), (self._product, "unchanged")):
            found = _NOT_THERE if place is None else check_unit(place / LAYOUT.folder(key), key, digest, parts)
            if isinstance(found, FinishedUnit):
                return UnitState("skip", finished), found.item
            reason = reason if found == _NOT_THERE else found
        return UnitState("new" if reason == _NOT_THERE else "recompute", reason), None


def product_units(out: Path) -> tuple[str, ...]:
    """Return the keys of the units in the catalog of `out`; none without a product, OutputError for a broken one."""
    product = location_of(resolve(out))
    return () if product is None else _listed(product, out)


def check_product(place: Path, application: str, given: Path) -> None:
    """Raise unless a directory is a whole product of an application, without files of others."""
    found = None if place.is_symlink() else owner(place, RUN_FILE)
    if found is None:
        raise occupied(place, given)
    if not _is_application(found, application):
        raise OutputError(
            f"{given} already exists, made by {found.get('application') or SOFTWARE}.",
            f"This is {application}, which updates only its own products.",
            another_place(),
        )
    _listed(place, given)
    _, why = read_object(place / LEDGER)
    if why and os.path.lexists(place / LEDGER):
        raise _unrecognised(given, f"its {LEDGER} {why}")
    others = foreign_files(place)
    if others:
        raise OutputError(
            f"{given} has files that {application} didn't write: {few(others, _SHOWN)}.",
            "An update replaces the whole directory, and would delete them.",
            another_place("or move them away"),
        )


def occupied(place: Path, given: Path) -> OutputError:
    """Return the error for a `place` that exists; `given` is what the user wrote."""
    expected = "An output directory is created by the run, and appears when it is complete."
    choose, remedy = another_place(), another_place("or remove it")
    if place.is_symlink():
        return OutputError(f"{given} is a symbolic link.", expected, another_place("or give the link's target"))
    if not place.is_dir():
        return OutputError(f"{given} exists and is a file.", expected, choose)
    found = owner(place, RUN_FILE)
    if found is not None:
        made_by = found.get("application") or SOFTWARE
        return OutputError(f"{given} already exists, made by {made_by}.", expected, remedy)
    if not names_in(place):
        return OutputError(f"{given} already exists, as an empty directory.", expected, remedy)
    _, why = read_object(place / RUN_FILE)
    if why and os.path.lexists(place / RUN_FILE):
        return OutputError(
            f"{given} already exists and isn't recognised as made by {SOFTWARE}: its {RUN_FILE} {why}.",
            expected,
            choose,
        )
    return OutputError(f"{given} already exists and wasn't made by {SOFTWARE}.", expected, choose)


def foreign_files(product: Path) -> list[str]:
    """Return the names in a product that no run published, sorted; none where `CONTENTS` is missing."""
    run, _ = read_object(product / RUN_FILE)
    contents = run.get(CONTENTS)
    if not isinstance(contents, list):
        return []
    names = names_in(product) - {ASIDE_MARK}
    found = [name for name in names if name not in contents and not _VIEWERS_FILES.fullmatch(name)]
    inside: dict[str, list[str]] = {}
    for key in units_in(product):
        if key.partition("/")[0] in contents:
            inside.setdefault(LAYOUT.folder(key), []).append(key)
    for folder, keys in inside.items():
        found += [
            f"{folder}/{path.relative_to(product / folder).as_posix()}"
            for path in _unlisted_by(product / folder, keys)
            if not _VIEWERS_FILES.fullmatch(path.name)
        ]
    return sorted(found)


def _unlisted_by(folder: Path, keys: Iterable[str]) -> list[Path]:
    """Return the files in a directory that none of its units lists; nothing where an item can't be read."""
    known: set[str] = set()
    for key in keys:
        item, why = read_object(folder / LAYOUT.item(key))
        files = why or files_of(folder, item)
        if isinstance(files, str):
            return []
        known |= {LAYOUT.item(key), *(file.name for file in files)}
    return unlisted(folder, known)


def unlisted(folder: Path, known: Container[str]) -> list[Path]:
    """Return the files in a directory of units, by names relative to it, that aren't known."""
    found = []
    for inside, folders, names in os.walk(folder):
        linked = [name for name in folders if Path(inside, name).is_symlink()]
        found += [Path(inside, name) for name in (*names, *linked)]
    return sorted(path for path in found if path.relative_to(folder).as_posix() not in known)


def owner(folder: Path, name: str) -> dict[str, Any] | None:
    """Return the content of our marker or run file, None when there is none."""
    document, why = read_object(folder / name)
    return document if not why and document.get("software") == SOFTWARE else None


def partial_owner(partial: Path) -> dict[str, Any] | None:
    """Return the owner of an unfinished output; None when it isn't there, or isn't ours."""
    if partial.is_symlink():
        return None
    return owner(partial, MARKER) or owner(partial, RUN_FILE)


def read_object(path: Path) -> tuple[dict[str, Any], str]:
    """Return the JSON object of a file and ``""``, or an empty one and why, as a phrase; links aren't followed."""
    try:
        if path.is_symlink() or not path.is_file():
            return {}, "isn't a file" if os.path.lexists(path) else "isn't there"
        document = parse_object(path.read_bytes())
    except OSError as error:
        return {}, f"can't be read ({error.strerror or error})"
    return ({}, "isn't a JSON object") if document is None else (document, "")


def parse_object(content: bytes) -> dict[str, Any] | None:
    """Return a JSON object, None when the content isn't one."""
    try:
        document = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return document if isinstance(document, dict) else None


def names_in(folder: Path) -> set[str]:
    """Return the names in a directory; a name that doesn't exist when it can't be read, for unreadable isn't empty."""
    try:
        return set(os.listdir(folder))  # noqa: PTH208  # names are all that is needed
    except OSError:
        return {"?"}


def resolve(out: Path) -> Path:
    """Return `out` as an absolute path whose last part isn't followed if it is a link."""
    # realpath, for Path.resolve raises on a loop of links
    if out.name in ("", ".."):
        return Path(os.path.realpath(out))
    return Path(os.path.realpath(out.parent)) / out.name


def sibling(path: Path, suffix: str) -> Path:
    """Return the path beside another, with a suffix to its name."""
    return path.parent / (path.name + suffix)


def _listed(product: Path, given: Path) -> tuple[str, ...]:
    catalog, why = read_object(product / CATALOG)
    links = catalog.get("links")
    if why or not isinstance(links, list):
        raise _unrecognised(given, f"its {CATALOG} {why or 'has no links'}")
    keys: dict[str, None] = {}
    for link in links:
        if not isinstance(link, dict) or link.get("rel") != "item":
            continue
        key = LAYOUT.key_of(str(link.get("href")))
        if key is None and LAYOUT.unit_of(str(link.get("href"))) in keys:
            continue  # of one of its outputs
        if key is None:
            raise _unrecognised(given, f"its {CATALOG} lists {str(link.get('href'))[:80]!r}, which isn't a unit")
        keys[key] = None
    return tuple(keys)


def _is_application(found: Mapping[str, Any] | None, application: str) -> bool:
    return found is not None and found.get("application") == application


def what_changed(before: object, now: DigestParts | None) -> str:
    """Return which parts of a digest differ, as far as both are known."""
    titles = {
        "params": "the parameters",
        "scenes": "the items",
        "grid": "the grid",
        "algorithm": "the algorithm",
        "needs": "what it needs",
    }
    changed: dict[str, str] = {}
    for name, part in (now or {}).items():
        known = before.get(name) if isinstance(before, dict) else None
        if isinstance(known, str) and isinstance(part, str) and known != part:
            changed[titles.get(name, name)] = ""
        elif isinstance(known, list) and not isinstance(part, str):
            old, new = set(map(str, known)), set(part)
            if old != new:
                changed[titles.get(name, name)] = f" ({len(new - old)} added, {len(old - new)} gone)"
    if not changed:
        return "what it is made from changed"
    if len(changed) == 1:
        ((title, count),) = changed.items()
        return f"{title} changed{count}"
    *others, last = (title + count for title, count in changed.items())
    return f"{', '.join(others)} and {last} changed"


def files_of(folder: Path, item: Mapping[str, Any]) -> tuple[UnitFile, ...] | str:
    """Return the files of a unit's assets, of its outputs' items and of their assets, or what is wrong with one.

    Items of outputs and manifests of stores are read, and must match their checksums; other files aren't looked at.
    """
    found = _assets_of(folder, item)
    if isinstance(found, str):
        return found
    files = dict(found)
    links = item.get("links")
    for link in links if isinstance(links, list) else ():
        if not (isinstance(link, dict) and link.get("rel") == "item"):
            continue
        own = _file_of(link, f"its output {link.get('href')}")
        output = own if isinstance(own, str) else _document(folder, own)
        if isinstance(output, str):
            return output
        assert isinstance(own, UnitFile)  # noqa: S101 - a phrase has been returned
        found = _assets_of(folder, output)
        if isinstance(found, str):
            return found
        files |= {**found, own.name: own}  # an item comes after its assets
    return tuple(files.values())


def _assets_of(folder: Path, item: Mapping[str, Any]) -> dict[str, UnitFile] | str:
    """Return the files of an item's assets by name, or what is wrong with one."""
    assets = item.get("assets")
    if not isinstance(assets, dict):
        return "its item isn't one of ours"
    files: dict[str, UnitFile] = {}
    for key, asset in assets.items():
        fields = asset if isinstance(asset, dict) else {}
        manifest = fields.get(MANIFEST)
        found = _file_of(fields if manifest is None else {**fields, "href": manifest}, f"its asset {key}")
        if isinstance(found, str):
            return found
        if manifest is not None:
            objects = _objects_of(folder, found, key)
            if isinstance(objects, str):
                return objects
            files |= objects
        files[found.name] = found
    return files


def _objects_of(folder: Path, manifest: UnitFile, key: str) -> dict[str, UnitFile] | str:
    """Return the objects of a store, which its manifest lists."""
    document = _document(folder, manifest)
    if isinstance(document, str):
        return document
    listed = document.get("objects")
    files: dict[str, UnitFile] = {}
    for href, about in listed.items() if isinstance(listed, dict) else ():
        found = _file_of({"href": href, **(about if isinstance(about, dict) else {})}, f"an object of its asset {key}")
        if isinstance(found, str):
            return found
        files[found.name] = found
    return files if files else f"its asset {key} has a manifest without objects"


def _document(folder: Path, file: UnitFile) -> dict[str, Any] | str:
    """Return the JSON object of a file that matches its checksum, or what is wrong with it."""
    fault = _fault_of(folder, file)
    if fault is not None:
        return fault
    return parse_object((folder / file.name).read_bytes()) or f"{file.name} isn't a JSON object"


def _file_of(fields: Mapping[str, Any], what: str) -> UnitFile | str:
    """Return the file that an asset or a link describes, or what is wrong with it."""
    name, size = _inside(fields.get("href")), fields.get("file:size")
    checksum = _SHA256.fullmatch(str(fields.get("file:checksum")))
    if name is None:
        return f"{what} isn't in its directory"
    if not isinstance(size, int) or checksum is None:
        return f"{what} has no size or checksum"
    return UnitFile(name, size, checksum[1])


def _inside(href: object) -> str | None:
    """Return a relative href below the directory, without ``./``; None for any other."""
    if not isinstance(href, str):
        return None
    name = href.removeprefix("./")
    try:
        os.fsencode(name)
    except UnicodeEncodeError:
        return None
    return None if "\0" in name or {"", ".", ".."} & set(name.split("/")) else name


def _fault_of(folder: Path, file: UnitFile) -> str | None:
    found = _regular(folder, file.name)
    if found is None:
        return f"{file.name} isn't there"
    if found.st_size != file.size:
        return f"{file.name} has {found.st_size} bytes instead of {file.size}"
    if sha256_of(folder / file.name) != file.sha256:
        return f"{file.name} doesn't match its checksum"
    return None


def _regular(folder: Path, name: str) -> os.stat_result | None:
    """Return the status of a regular file that is reached without links; None when there isn't one."""
    path, *parents = folder, *name.split("/")[:-1]
    try:
        for parent in parents:
            path = path / parent
            if not stat.S_ISDIR(path.lstat().st_mode):
                return None
        found = (folder / name).lstat()
    except (FileNotFoundError, NotADirectoryError):
        return None
    return found if stat.S_ISREG(found.st_mode) else None


def _unrecognised(given: Path, why: str) -> OutputError:
    return OutputError(
        f"{given} isn't a whole product of {SOFTWARE}: {why}.",
        "An update needs a whole one.",
        another_place("or move it away"),
    )
