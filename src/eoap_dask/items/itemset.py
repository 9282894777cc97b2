"""The items of a search as plain values; saved, so that a run can be repeated without a search."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import date
from pathlib import Path
from typing import Any

from eoap_dask.errors import EoapError, OutputError, UsageError
from eoap_dask.items.files import ItemDocument, matched, read_items
from eoap_dask.items.item import (
    Item,
    OddItem,
    cloud_cover,
    finite_number,
    fit_items,
    instant,
    json_line,
    normalised,
    ordered,
    without_signatures,
)
from eoap_dask.items.query import Query, QueryFilter
from eoap_dask.net.hrefs import check_href, private_hosts_of
from eoap_dask.net.resolve import is_url
from eoap_dask.net.signing import Signer, detect_signing, endpoints_of, merged_signing, origin, signer_from
from eoap_dask.redact import redact
from eoap_dask.text import option, plural, show
from eoap_dask.values import as_path, as_text, is_a, scalar

__all__ = ["Item", "ItemSet", "cloud_cover"]


@dataclass(frozen=True)
class ItemSet:
    """Items of one collection, in order of time, with what is needed to read them."""

    features: tuple[Item, ...]
    """STAC items with absolute, unsigned hrefs; sorted by (datetime, id), unique by (collection, id)."""
    stac: str
    """URL of the catalogue that the items came from, or the path of the file."""
    collection: str
    """Id of the collection."""
    signing: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """How hrefs are signed when they are opened: a specification for `signer_from`."""
    truncated: bool = False
    """Whether items are left out: there were more than the search was allowed to return, or `missing` ones."""
    lowest_cloud_cover: float | None = None
    """Lowest cloud cover seen, in percent, also of items that the filter dropped; None if unknown."""
    from_file: bool = False
    """Whether the items were read from a file: then `stac` is only the file's claim."""
    also: tuple[str, ...] = ()
    """For a merged set, the other catalogues, as `stac`."""
    local_files: frozenset[str] = frozenset()
    """Files on this machine that may be read: assets within the directory of the file or catalog that the user gave.
    Not saved, since a file can't grant this."""
    odd_items: tuple[OddItem, ...] = ()
    """Items that were set aside, and why. Not saved."""
    missing: int = 0
    """Items that match, as the catalogue says, but that its pages didn't have."""

    def __post_init__(self) -> None:
        features: object = self.features
        if isinstance(features, list):
            object.__setattr__(self, "features", tuple(features))
        if not isinstance(self.stac, str) or not isinstance(self.collection, str) or not _are_items(self.features):
            raise UsageError(
                "An ItemSet holds a tuple of normalised STAC items, and names their catalogue and collection.",
                "",
                "Try ItemSet.of(items), which takes items of any kind.",
            )

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.features)

    def private_hosts(self, stac: str | None = None) -> frozenset[str]:
        """Return the private hosts that these items may lead to, for `check_href`.

        They are those of `stac`, by default of the catalogues that were searched; none for items from a file.
        """
        if stac is not None and as_text(stac, "stac", "https://stac.example.com"):
            return private_hosts_of(stac)
        trusted = () if self.from_file else (self.stac, *self.also)
        return frozenset(host for one in trusted for host in private_hosts_of(one))

    def signer(self, private_hosts: frozenset[str]) -> Signer:
        """Return the signer for these hrefs; raises `HrefError` when a token endpoint's address isn't allowed."""
        for endpoint in endpoints_of(self.signing):
            check_href(endpoint, private_hosts=private_hosts)
        return signer_from(self.signing)

    def filtered(self, query: Query) -> ItemSet:
        """Return the items that a search would have found.

        Parameters
        ----------
        query : Query
            Which are wanted.

        Returns
        -------
        ItemSet
            `truncated` tells whether `max_items` left something out (or it was so before).
        """
        sieve = QueryFilter(_query(query))
        for item in self.features:
            sieve.offer(item)
        return replace(
            self,
            features=sieve.items(),
            collection=query.collection or self.collection,
            truncated=self.truncated or sieve.is_over,
            lowest_cloud_cover=sieve.lowest_cloud_cover,
            odd_items=(*self.odd_items, *sieve.odd_items),
        )

    def merged(self, other: ItemSet) -> ItemSet:
        """Return the items of two searches as one set; each item is signed as before.

        Parameters
        ----------
        other : ItemSet
            Of another source, or of the same.

        Returns
        -------
        ItemSet
            `stac` is that of the first set that isn't from a file; `collection` is empty where there are several.

        Raises
        ------
        UsageError
            When the assets of one place would be signed in two ways.
        """
        if not isinstance(other, ItemSet):
            raise UsageError(
                f"{option('other')} must be an ItemSet, got {show(other)}.", "", "Try merged(ItemSet.of(items))."
            )
        named = [one for one in (self, other) if not one.from_file] or [self, other]
        places = [place for one in named for place in (one.stac, *one.also)]
        lowest = [one.lowest_cloud_cover for one in (self, other) if one.lowest_cloud_cover is not None]
        return ItemSet(
            ordered([*self.features, *other.features]),
            places[0],
            self.collection if self.collection == other.collection else "",
            merged_signing(self.signing, other.signing),
            self.truncated or other.truncated,
            min(lowest, default=None),
            self.from_file and other.from_file,
            tuple(place for place in dict.fromkeys(places) if place != places[0]),
            self.local_files | other.local_files,
            tuple(dict.fromkeys((*self.odd_items, *other.odd_items))),
            self.missing + other.missing,
        )

    @classmethod
    def collected(
        cls,
        raw: Iterable[tuple[object, str]],
        stac: str,
        *,
        query: Query | None = None,
        signing: Mapping[str, Any] | None = None,
        head: Mapping[str, Any] | None = None,
        from_file: bool = False,
        folder: Path | None = None,
    ) -> ItemSet:
        """Return the items of `raw`, each with the URL or path it was read from, that a query wants, as a set.

        `head` is the document around them, `folder` the directory whose files they may name. Without `signing`, their
        links decide. ValueError for what isn't a STAC item.
        """
        head = head or {}
        sieve = QueryFilter(query or Query())
        allowed: set[str] = set()
        unfit: list[OddItem] = []
        number = 0
        for fit, base in fit_items(raw, unfit):
            whole, number = fit, number + 1
            if folder is not None and not is_url(base):  # also a catalog on disk may lead to items elsewhere
                whole = _with_local_files(whole, folder.resolve(), allowed)
            sieve.offer(whole)
        items = sieve.items()
        hrefs = {asset["href"] for item in items for asset in item["assets"].values()}
        also = head.get("eoap:stac_also")
        named = [head.get("eoap:stac"), *(also if isinstance(also, list) else [])]
        places = tuple(text for text in named if isinstance(text, str))
        found = dict(signing or {}) or _trusted_signing(head.get("eoap:signing"), places)
        if found is None:
            found = detect_signing(places[0] if places else "", (), items)
        if found["kind"] != "none":
            items = tuple(without_signatures(item) for item in items)
        collection = (query.collection if query else None) or head.get("eoap:collection")
        if not isinstance(collection, str):
            ids = {str(item.get("collection", "")) for item in items}
            collection = ids.pop() if len(ids) == 1 else ""
        lowest = finite_number(head.get("eoap:lowest_cloud_cover"))
        lacking = head.get("eoap:missing")
        # a page of a search that somebody saved as a file
        missing = lacking if isinstance(lacking, int) else max(0, (matched(head) or 0) - number - len(unfit))
        return cls(
            items,
            places[0] if from_file and places else stac,
            collection,
            found,
            bool(head.get("eoap:truncated", False)) or sieve.is_over or missing > 0,
            lowest if lowest is not None and query is None else sieve.lowest_cloud_cover,
            from_file,
            places[1:] if from_file else (),
            frozenset(allowed & hrefs),
            (*unfit, *sieve.odd_items),
            missing,
        )

    def save(self, path: Path | str) -> Path:
        """Write the items as a GeoJSON FeatureCollection, whole or not at all; the same items give the same bytes.

        Parameters
        ----------
        path
            The file, replaced when it exists; its directory must exist.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        OutputError
            When it can't be written.
        """
        target = as_path(path, "path", "items.json")
        if target.is_dir():
            raise OutputError(
                f"The items can't be written to {str(target)!r}: it is a directory.",
                "Expected a file.",
                "Try items.json in it.",
            )
        head = {
            "type": "FeatureCollection",
            "eoap:collection": self.collection,
            "eoap:lowest_cloud_cover": self.lowest_cloud_cover,
            "eoap:signing": self.signing,
            "eoap:stac": self.stac,
            "eoap:truncated": self.truncated,
            **({"eoap:missing": self.missing} if self.missing else {}),
            **({"eoap:stac_also": list(self.also)} if self.also else {}),
        }
        lines = ",\n".join(json_line(without_signatures(item)) for item in self.features)
        text = f'{json_line(head)[:-1]},"features":[\n{lines}\n]}}\n'
        draft = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            with draft.open("w", encoding="utf-8", newline="\n") as stream:
                stream.write(text)
                stream.flush()
                os.fsync(stream.fileno())
            draft.replace(target)
        except OSError as fault:
            draft.unlink(missing_ok=True)
            raise OutputError(
                f"The items can't be written to {str(target)!r}: {fault.strerror}.",
                "Its directory must exist and be writable.",
                "Check the path.",
            ) from None
        return target

    @classmethod
    def load(cls, path: Path | str, query: Query | None = None) -> ItemSet:
        """Read items that were saved, or any file with items.

        Parameters
        ----------
        path
            A file with a STAC item or an item collection as JSON, newline-delimited JSON, or stac-geoparquet.
        query : Query, optional
            Which are wanted; without it all.

        Returns
        -------
        ItemSet
            What `save` wrote, item for item. Of other files, hrefs are made absolute, signatures are removed if
            they can be renewed, and `stac` is the path.

        Raises
        ------
        UsageError
            When the file can't be read, or doesn't hold STAC items.
        """
        source = as_path(path, "path", "items.json")
        query = None if query is None else _query(query)
        with file_faults(source):
            source = source.expanduser()
            held = read_items(source, query.start if query else None, query.end if query else None)
            if held.is_catalog:
                raise ValueError(f"it is a STAC {held.kind}")
            return cls.from_document(held, source, query)

    @classmethod
    def of(cls, items: object, *, folder: Path | str | None = None, name: str = "items") -> ItemSet:
        """Return items that Python has, of whatever kind, as a set.

        Parameters
        ----------
        items
            An `ItemSet`, which is returned as it is; the path of a file, as `load` takes it; a `pystac.Item`, an item
            as a dict, or a list or iterator of these; a `pystac.ItemCollection`, or one as a dict.
        folder
            The directory whose files the items may name, and that their relative hrefs begin at. Without it they may
            name no file of this machine, since anybody may have made them; but an item whose self link leads to a file
            on this machine may name what that file names, as with `load`.
        name
            The parameter that gave the items, for messages.

        Returns
        -------
        ItemSet
            Sorted and unique, hrefs absolute, signatures removed if they can be renewed. What hosts on private networks
            may be read from must be told, as for items from a file (`stac` of `eoap_dask.load`).

        Raises
        ------
        UsageError
            When they aren't STAC items.
        """
        if isinstance(items, ItemSet):
            return items
        if isinstance(items, str | os.PathLike) and not isinstance(items, type):
            if isinstance(items, str) and "://" in items:
                raise _no_items(name, f"got the URL {redact(items)!r}", "Try eoap_dask.search(…, stac=URL).")
            return cls.load(as_path(items, name, "items.json"))
        head: Mapping[Any, Any] = {}
        if isinstance(items, Mapping) and items.get("type") == "FeatureCollection":
            head, items = {key: items[key] for key in items if key != "features"}, items.get("features")
        many = [items] if isinstance(items, Mapping) or is_a(items, "pystac.Item") else _listed(items, name)
        root = None if folder is None else as_path(folder, "folder", ".").absolute()
        granted: set[str] = set()
        raw: list[tuple[object, str]] = []
        try:
            for one in many:
                plain = _plain_item(one)
                if root is None:
                    plain = _with_files_beside(plain, granted)
                raw.append((plain, "" if root is None else f"{root}/item.json"))
            found = cls.collected(raw, _GIVEN, head=head, from_file=True, folder=root)
        except (TypeError, ValueError, RecursionError) as fault:
            raise _no_items(name, f"got something else: {redact(fault)}", "Try pystac.Item.from_dict(…).") from None
        return replace(found, local_files=found.local_files | granted)

    @classmethod
    def from_document(cls, held: ItemDocument, source: Path, query: Query | None = None) -> ItemSet:
        """Return the wanted items of a file's content; ValueError when one of them isn't a STAC item."""
        base = str(source.absolute())
        raw = ((item, base) for item in held.items)
        return cls.collected(raw, str(source), query=query, head=held.head, from_file=True, folder=Path(base).parent)

    def __repr__(self) -> str:
        more = ", truncated" if self.truncated else ""
        return f"<ItemSet {plural(len(self), 'item')} of {self.collection or '?'} from {redact(self.stac)}{more}>"

    def _repr_html_(self) -> str:
        rows = []
        for item in self.features[:10]:
            cover = cloud_cover(item)
            cells = (
                str(item["id"]),
                f"{instant(item):%Y-%m-%d %H:%M}",
                "" if cover is None else f"{cover:.3g} %",
            )
            rows.append("<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in cells) + "</tr>")
        if len(self) > 10:
            rows.append(f"<tr><td colspan=3>… {len(self) - 10} more</td></tr>")
        head = "<tr><th>id</th><th>UTC</th><th>cloud cover</th></tr>"
        return f"<p>{html.escape(repr(self))}</p><table>{head}{''.join(rows)}</table>"


_GIVEN = "Python"
"""Where items come from that a caller had; see `ItemSet.stac`."""


def _are_items(features: object) -> bool:
    """Tell whether features look like normalised items."""
    return isinstance(features, tuple) and all(
        isinstance(one, Mapping) and "id" in one and isinstance(one.get("properties"), Mapping) and "assets" in one
        for one in features
    )


def _query(query: object) -> Query:
    if isinstance(query, Query):
        return query
    raise UsageError(f"{option('query')} must be a Query, got {show(query)}.", "", "Try eoap_dask.search(…).")


def _no_items(name: str, got: str, hint: str = "Try pystac items, or ItemSet.load('items.json').") -> UsageError:
    expected = "an ItemSet, or STAC items as pystac has them, as dicts, or in a list"
    return UsageError(f"{option(name)} must be {expected}; {got}.", "", hint)


def _listed(items: object, name: str) -> list[object]:
    """Return what is in a list of items, or in whatever else yields them."""
    if isinstance(items, Iterable) and not isinstance(items, str | bytes | bytearray | Mapping | type):
        try:
            return list(items)
        except TypeError:  # an array without dims
            pass
    raise _no_items(name, f"got {show(items)}")


def _plain_item(item: object) -> dict[str, Any]:
    """Return a copy of an item as JSON has it; TypeError or ValueError for what isn't one."""
    if is_a(item, "pystac.Item"):
        item = item.to_dict(transform_hrefs=False)  # type: ignore[attr-defined] # nothing is fetched
    if not isinstance(item, Mapping):
        raise ValueError(f"an entry is {show(item)}")
    found: dict[str, Any] = json.loads(json.dumps(dict(item), default=_json_value), parse_constant=lambda _: None)
    return found


def _json_value(value: object) -> object:
    """Return what JSON has for a time or a number of numpy's."""
    plain = scalar(value)
    if plain is not value:
        return plain
    if isinstance(value, date):
        return value.isoformat()
    if is_a(value, "numpy.ndarray"):
        return value.tolist()  # type: ignore[attr-defined]
    if isinstance(value, Mapping):
        return dict(value)
    raise ValueError(f"it holds {show(value)}")


def _with_files_beside(item: dict[str, Any], granted: set[str]) -> dict[str, Any]:
    """Return an item with the files that the item file at its self link names, if that is on this machine."""
    links = item.get("links")
    own = [
        link.get("href")
        for link in (links if isinstance(links, list) else [])
        if isinstance(link, dict) and link.get("rel") == "self"
    ]
    if not own or not isinstance(own[0], str) or not _is_path(own[0]):
        return item
    allowed: set[str] = set()
    whole = _with_local_files(normalised(item, own[0], strip=False), Path(own[0]).parent.resolve(), allowed)
    if allowed:
        with suppress(EoapError):  # no such file, or another: it grants nothing
            granted |= allowed & ItemSet.load(own[0]).local_files
    return whole


@contextmanager
def file_faults(source: Path) -> Iterator[None]:
    """Raise what goes wrong with a file of items as `UsageError`."""
    try:
        yield
    except OSError as fault:
        raise UsageError(
            f"The file of items {str(source)!r} can't be read: {fault.strerror}.",
            "Expected a STAC item or an item collection.",
            "Check the path and its permissions, or search a catalogue.",
        ) from None
    except ValueError as fault:
        raise UsageError(
            f"The file {str(source)!r} has no STAC items: {redact(fault)}.",
            "Expected a STAC item or an item collection, as JSON, ndjson or stac-geoparquet.",
            "Search a catalogue; every run keeps its items in items.json.",
        ) from None


def _is_path(href: str) -> bool:
    """Tell whether an href is an absolute path, other than one of GDAL's virtual file systems."""
    return href.startswith("/") and not href.startswith(("//", "/vsi"))


def _with_local_files(item: Item, folder: Path, allowed: set[str]) -> Item:
    """Return an item whose assets' paths within a directory are resolved, and add these to `allowed`.

    Other paths stay as they are, for `check_href` to refuse.
    """
    assets = {}
    for key, asset in item["assets"].items():
        found = asset["href"]
        if _is_path(found):
            try:
                real = Path(found).resolve()  # a link or .. may lead out
            except (OSError, RuntimeError, ValueError):  # a loop, too long for a name, a null byte
                real = Path("/")
            if real.is_relative_to(folder):
                found = str(real)
                allowed.add(found)
        assets[key] = {**asset, "href": found}
    return {**item, "assets": assets}


def _trusted_signing(spec: object, places: Sequence[str]) -> dict[str, Any] | None:
    """Return the specification in a file, unless it would send the token of one place to another."""
    if not isinstance(spec, dict):
        return None
    kind, endpoint, parts = spec.get("kind"), spec.get("endpoint"), spec.get("of")
    if kind in ("none", "planetary-computer"):
        return {"kind": kind}
    if kind == "token" and isinstance(endpoint, str) and origin(endpoint):
        trusted = any(origin(endpoint) == origin(place) for place in places)
        return {"kind": kind, "endpoint": endpoint} if trusted else None
    if kind == "several" and isinstance(parts, list):
        found = [part for one in parts if (part := _trusted_signing(one, places)) and part["kind"] != "several"]
        return {"kind": kind, "of": found}
    return None
