"""The items of a search as plain values: kept on disk, so that a run can be replayed without a search."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import numpy as np
import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from eoap_dask.aoi import Aoi
from eoap_dask.errors import OutputError, UsageError
from eoap_dask.signing import Signer, detect_signing, origin, signer_from, unsigned
from eoap_dask.trust import check_href, private_hosts_of, redact

Item = dict[str, Any]
"""A STAC item as it came, as a plain dictionary."""

_FILE_BYTES = 2 * 1024**3


@dataclass(frozen=True)
class ItemSet:
    """Items of one collection, in order of time, with what is needed to read them."""

    features: tuple[Item, ...]
    """STAC items with absolute, unsigned hrefs; sorted by (datetime, id), unique by (collection, id)."""
    stac: str
    """URL of the API that the items came from, or the path of the file."""
    collection: str
    """Id of the collection."""
    signing: dict[str, Any] = field(default_factory=lambda: {"kind": "none"})
    """How hrefs are signed when they are opened: a specification for `signing.signer_from`."""
    truncated: bool = False
    """Whether there were more items than the search was allowed to return."""
    lowest_cloud_cover: float | None = None
    """Lowest cloud cover seen, in percent, also of items that the filter dropped; None if not known."""
    from_file: bool = False
    """Whether a file says where the items come from: then `stac` is a claim, and nothing to be trusted."""

    def __len__(self) -> int:
        return len(self.features)

    def __iter__(self) -> Iterator[Item]:
        return iter(self.features)

    def private_hosts(self, stac: str | None = None) -> frozenset[str]:
        """Return the private hosts that these items may lead to, for `trust.check_href`.

        Parameters
        ----------
        stac
            The catalogue that the user names; by default the one that was searched, and none for items from a file.
        """
        return private_hosts_of(stac or ("" if self.from_file else self.stac))

    def signer(self, private_hosts: frozenset[str]) -> Signer:
        """Return the signer for the hrefs of these items.

        Raises
        ------
        HrefError
            When signatures would be asked for where a catalogue may not send us.
        """
        if "endpoint" in self.signing:
            check_href(str(self.signing["endpoint"]), private_hosts=private_hosts)
        return signer_from(self.signing)

    def filtered(
        self,
        aoi: Aoi | None = None,
        start: date | None = None,
        end: date | None = None,
        max_cloud_cover: float | None = None,
        max_items: int | None = None,
        collection: str | None = None,
    ) -> ItemSet:
        """Return the items that a search with these filters would have found.

        Parameters
        ----------
        aoi
            Items whose footprint touches it are kept; antimeridian-safe.
        start, end
            First and last day, both inclusive, in UTC.
        max_cloud_cover
            Items with a smaller `eo:cloud_cover`, in percent, are kept, and those without any; 100 keeps all.
        max_items
            At most that many: the latest, which is what search APIs return first.
        collection
            Items of this collection are kept, and those that name none.

        Returns
        -------
        ItemSet
            `truncated` tells whether `max_items` left something out (or it was so before).
        """
        found = []
        lowest: float | None = None
        for item in self.features:
            if not is_match(item, aoi, start, end, collection):
                continue
            cover = cloud_cover(item)
            if cover is not None:
                lowest = cover if lowest is None else min(lowest, cover)
            if is_clear(item, max_cloud_cover):
                found.append(item)
        truncated = self.truncated
        if max_items is not None and len(found) > max_items:
            found, truncated = found[len(found) - max_items :], True
        return replace(
            self,
            features=tuple(found),
            collection=collection or self.collection,
            truncated=truncated,
            lowest_cloud_cover=lowest,
        )

    def save(self, path: Path | str) -> Path:
        """Write the items as a GeoJSON FeatureCollection, all at once; the same items give the same bytes.

        Parameters
        ----------
        path
            The file; its directory must exist. What it held is replaced.

        Returns
        -------
        pathlib.Path
            The file.

        Raises
        ------
        OutputError
            When it can't be written.
        """
        target = Path(path)
        head = {
            "type": "FeatureCollection",
            "eoap:collection": self.collection,
            "eoap:lowest_cloud_cover": self.lowest_cloud_cover,
            "eoap:signing": self.signing,
            "eoap:stac": self.stac,
            "eoap:truncated": self.truncated,
        }
        lines = ",\n".join(_dumps(_unsigned(item)) for item in self.features)
        text = f'{_dumps(head)[:-1]},"features":[\n{lines}\n]}}\n'
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
    def load(cls, path: Path | str) -> ItemSet:
        """Read items that were saved, or any file with a STAC item or an item collection.

        Parameters
        ----------
        path
            A JSON file.

        Returns
        -------
        ItemSet
            What `save` wrote, item for item. Of other files, hrefs are made absolute where the item has a URL
            of its own, signatures are removed if they can be renewed, and `stac` is the path.

        Raises
        ------
        UsageError
            When the file can't be read, or doesn't hold STAC items.
        """
        source = Path(path)
        document = _read_json(source)
        if document.get("type") in ("Catalog", "Collection"):
            raise _not_items(source, f"it is a STAC {document['type']}")
        features = document.get("features") if document.get("type") == "FeatureCollection" else [document]
        if not isinstance(features, list):
            raise _not_items(source, "its features are no list")
        stac = document.get("eoap:stac")
        stac = stac if isinstance(stac, str) else ""
        plain = [one for one in features if isinstance(one, dict)]
        signing = _trusted_signing(document.get("eoap:signing"), stac) or detect_signing(stac, (), plain)
        strip = signing["kind"] != "none"
        try:
            items = ordered(normalised(feature, "", strip=strip) for feature in features)
        except ValueError as fault:
            raise _not_items(source, str(fault)) from None
        collection = document.get("eoap:collection")
        if not isinstance(collection, str):
            named = {str(item.get("collection", "")) for item in items}
            collection = named.pop() if len(named) == 1 else ""
        lowest = document.get("eoap:lowest_cloud_cover")
        return cls(
            items,
            stac or str(source),
            collection,
            signing,
            bool(document.get("eoap:truncated", False)),
            lowest if isinstance(lowest, (int, float)) else _lowest(items),
            from_file=True,
        )

    def __repr__(self) -> str:
        more = ", truncated" if self.truncated else ""
        return f"<ItemSet {len(self)} items of {self.collection or '?'} from {redact(self.stac)}{more}>"

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


def instant(item: Mapping[str, Any]) -> datetime:
    """Return when an item was taken, in UTC; of a range its start.

    Parameters
    ----------
    item
        A STAC item.

    Returns
    -------
    datetime.datetime

    Raises
    ------
    ValueError
        When it has no time that can be read.
    """
    return _range(item)[0]


def cloud_cover(item: Mapping[str, Any]) -> float | None:
    """Return the cloud cover of an item in percent, or None.

    Parameters
    ----------
    item
        A STAC item.

    Returns
    -------
    float or None
        None also where `eo:cloud_cover` isn't a finite number.
    """
    value = item["properties"].get("eo:cloud_cover")
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not np.isfinite(value):
        return None
    return float(value)


def is_clear(item: Mapping[str, Any], max_cloud_cover: float | None) -> bool:
    """Tell whether the cloud cover of an item is below the limit, or not known.

    Parameters
    ----------
    item
        A STAC item.
    max_cloud_cover
        The limit in percent; None and 100 let everything pass.

    Returns
    -------
    bool
    """
    cover = cloud_cover(item)
    return max_cloud_cover is None or max_cloud_cover >= 100 or cover is None or cover < max_cloud_cover


def is_match(
    item: Mapping[str, Any], aoi: Aoi | None, start: date | None, end: date | None, collection: str | None
) -> bool:
    """Tell whether an item is of the collection, within the days, and touches the area.

    Parameters
    ----------
    item
        A STAC item.
    aoi, start, end, collection
        As in `ItemSet.filtered`; None lets everything pass.

    Returns
    -------
    bool
    """
    if collection is not None and item.get("collection") not in (None, collection):
        return False
    first, last = _range(item)
    if (start is not None and last.date() < start) or (end is not None and first.date() > end):
        return False
    if aoi is None:
        return True
    shown = footprint(item)
    return shown is not None and aoi.intersects(shown)


def footprint(item: Mapping[str, Any]) -> BaseGeometry | None:
    """Return the footprint of an item in degrees, in one piece across the antimeridian.

    Parameters
    ----------
    item
        A STAC item.

    Returns
    -------
    shapely geometry or None
        From its geometry, else from its bbox, else None. Longitudes continue past 180 where it crosses, also
        where the catalogue drew the shape around the whole world instead.
    """
    found: BaseGeometry | None = None
    try:
        if item.get("geometry"):
            found = shape(item["geometry"])
        elif item.get("bbox"):
            numbers = [float(number) for number in item["bbox"]]
            west, south, east, north = (
                numbers[0],
                numbers[1],
                numbers[len(numbers) // 2],
                numbers[len(numbers) // 2 + 1],
            )
            return box(west, south, east + 360 if west > east else east, north)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError, shapely.errors.ShapelyError):
        return None
    if found is None or found.is_empty or not np.isfinite(found.bounds).all():
        return None
    if found.bounds[2] - found.bounds[0] > 180:
        moved = shapely.transform(found, _east)
        if 0 < moved.bounds[2] - moved.bounds[0] <= 180:
            found = moved
    return found if found.is_valid else shapely.make_valid(found)


def _east(coordinates: np.ndarray[Any, np.dtype[np.float64]]) -> np.ndarray[Any, np.dtype[np.float64]]:
    return np.column_stack(
        [np.where(coordinates[:, 0] < 0, coordinates[:, 0] + 360, coordinates[:, 0]), coordinates[:, 1]]
    )


def normalised(feature: object, base: str, *, strip: bool) -> Item:
    """Return an item with absolute hrefs, checked for what the rest of the code relies on.

    Parameters
    ----------
    feature
        What a catalogue says is an item; not changed.
    base
        URL it was read from, for relative hrefs of items without a URL of their own; may be empty.
    strip
        Remove shared-access signatures from its hrefs.

    Returns
    -------
    dict
        With an id, properties, a time, and assets that have hrefs.

    Raises
    ------
    ValueError
        Saying what is missing.
    """
    if not isinstance(feature, Mapping) or feature.get("type") != "Feature":
        raise ValueError("an entry isn't a GeoJSON feature")
    name = feature.get("id")
    if not isinstance(name, str) or not name:
        raise ValueError("a feature has no id")
    assets = feature.get("assets")
    if not isinstance(feature.get("properties"), Mapping) or not isinstance(assets, Mapping):
        raise ValueError(f"the feature {name[:80]!r} has no properties or no assets, so it isn't a STAC item")
    _range(feature)
    links = [link for link in feature.get("links") or [] if isinstance(link, Mapping)]
    own = next((str(link["href"]) for link in links if link.get("rel") == "self" and "href" in link), "")
    base = own if origin(own) else base
    item = dict(feature)
    item["links"] = [{**link, "href": _bare(link["href"])} for link in links if isinstance(link.get("href"), str)]
    item["assets"] = {
        str(key): {**_with_lists(asset), "href": _absolute(asset["href"], base, strip=strip)}
        for key, asset in assets.items()
        if isinstance(asset, Mapping) and isinstance(asset.get("href"), str)
    }
    return item


def _unsigned(item: Item) -> Item:
    assets = {key: {**asset, "href": unsigned(asset["href"])} for key, asset in item["assets"].items()}
    return {**item, "assets": assets}


def _bare(href: str) -> str:
    """Return the href of a link without its query, which may hold a token and leads nowhere that we go."""
    return href.partition("?")[0]


def _with_lists(asset: Mapping[str, Any]) -> dict[str, Any]:
    """Return an asset whose lists of bands are lists of objects, whatever they were."""
    found = dict(asset)
    for name in ("bands", "eo:bands", "raster:bands"):
        if name in found:
            bands = found[name] if isinstance(found[name], list) else []
            found[name] = [band for band in bands if isinstance(band, Mapping)]
    return found


def ordered(items: Iterable[Item]) -> tuple[Item, ...]:
    """Return items sorted by (datetime, id), one for each (collection, id): the last updated.

    Parameters
    ----------
    items
        STAC items in any order.

    Returns
    -------
    tuple of dict
    """
    best: dict[tuple[str, str], tuple[str, str, Item]] = {}
    for item in items:
        key = (str(item.get("collection", "")), item["id"])
        entry = (str(item["properties"].get("updated", "")), _dumps(item), item)
        if key not in best or entry[:2] > best[key][:2]:
            best[key] = entry
    found = [entry[2] for entry in best.values()]
    return tuple(sorted(found, key=lambda item: (instant(item), item["id"], str(item.get("collection", "")))))


def _absolute(href: str, base: str, *, strip: bool) -> str:
    # only what is relative: urljoin would also rewrite absolute hrefs, and not for the better
    found = href if "://" in href or href.startswith("/vsi") or not base else urljoin(base, href)
    return unsigned(found) if strip else found


def _range(item: Mapping[str, Any]) -> tuple[datetime, datetime]:
    """Return the first and the last moment of an item in UTC."""
    properties = item["properties"]
    texts = [properties.get("datetime")] * 2
    if texts[0] is None:
        texts = [properties.get("start_datetime"), properties.get("end_datetime")]
    moments = []
    for text in texts:
        try:
            moment = datetime.fromisoformat(text)
        except (TypeError, ValueError):
            raise ValueError(f"the item {str(item.get('id'))[:80]!r} has no time that can be read") from None
        moments.append(moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC))
    return moments[0], moments[1]


def _lowest(items: Iterable[Item]) -> float | None:
    return min((cover for item in items if (cover := cloud_cover(item)) is not None), default=None)


def _dumps(value: object) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _trusted_signing(spec: object, stac: str) -> dict[str, Any] | None:
    """Return the specification in a file, unless it would send the token of one place to another."""
    if not isinstance(spec, dict):
        return None
    kind, endpoint = spec.get("kind"), spec.get("endpoint")
    if kind in ("none", "planetary-computer"):
        return {"kind": kind}
    if kind == "token" and isinstance(endpoint, str) and origin(endpoint) and origin(endpoint) == origin(stac):
        return {"kind": kind, "endpoint": endpoint}
    return None


def _read_json(source: Path) -> dict[str, Any]:
    try:
        if source.stat().st_size > _FILE_BYTES:
            raise _not_items(source, f"it is larger than {_FILE_BYTES // 1024**3} GiB")
        # NaN isn't JSON, but some catalogues write it
        document = json.loads(source.read_text(encoding="utf-8-sig"), parse_constant=lambda _: None)
    except FileNotFoundError:
        raise UsageError(
            f"There is no file of items {str(source)!r}.",
            "A STAC item or item collection is needed.",
            "Check the path, or search with --stac.",
        ) from None
    except OSError as fault:
        raise UsageError(
            f"The file of items {str(source)!r} can't be read: {fault.strerror}.",
            "A readable JSON file is needed.",
            "Check the path and its permissions.",
        ) from None
    except (ValueError, RecursionError):
        raise _not_items(source, "it isn't JSON") from None
    if not isinstance(document, dict):
        raise _not_items(source, "it isn't an object")
    return document


def _not_items(source: Path, why: str) -> UsageError:
    return UsageError(
        f"The file {str(source)!r} doesn't hold STAC items: {redact(why)}.",
        "A STAC item or a FeatureCollection of items is needed.",
        "Search with --stac; every run keeps its items in items.json.",
    )
