"""From STAC items to scenes: which file holds which band, on which grid, and what its numbers mean.

All differences between catalogues end here and in the modules beside it; nothing behind them reads an item.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eoap_dask.errors import BandError, EoapError, HrefError, ItemError
from eoap_dask.items.item import Item, OddItem
from eoap_dask.net.hrefs import check_href
from eoap_dask.net.signing import unsigned
from eoap_dask.redact import redact
from eoap_dask.scenes.bands import check_bands, is_only_band, required_band, select_asset
from eoap_dask.scenes.credit import producers
from eoap_dask.scenes.model import Scene, Source, without_duplicates
from eoap_dask.scenes.projection import projection
from eoap_dask.scenes.radiometry import nodata_value, reflectance_offset
from eoap_dask.scenes.sensor import Sensor
from eoap_dask.scenes.told import baseline, pass_key, pass_keys, tile_of, time_of
from eoap_dask.text import option

__all__ = [
    "pass_key",
    "pass_keys",
    "read_scenes",
    "reflectance_offset",
    "seen_once",
    "select_asset",
    "source_href",
    "usable_scenes",
]

# older than any: where none is told, another processing of the same is preferred
_NO_BASELINE = (0, 0)


def usable_scenes(
    items: Iterable[Mapping[str, Any]],
    bands: Sequence[str],
    sensor: Sensor,
    *,
    cloud_mask: bool,
    private_hosts: frozenset[str],
    local_files: frozenset[str] = frozenset(),
    on_odd_item: str = "skip",
) -> tuple[tuple[Scene, ...], tuple[OddItem, ...]]:
    """Turn items into scenes, and set aside those that lack what is needed.

    Parameters
    ----------
    items
        STAC items, normalised.
    bands
        Common names, band names or asset keys.
    sensor : Sensor
    cloud_mask
        Whether the scene classification is needed.
    private_hosts, local_files
        Where hrefs may lead, as `check_href` and `ItemSet.local_files` have it.
    on_odd_item
        ``skip`` sets odd items aside, ``fail`` raises.

    Returns
    -------
    tuple of Scene, tuple of OddItem
        Scenes sorted by time and id, without older processings; items that were set aside, in their order.

    Raises
    ------
    BandError
        for a band that no item has, or where no item is left, that fits several assets
    ItemError
        with ``fail``, for the first item that lacks something
    HrefError
        where no item is left, for an href that may not be opened
    """
    items = list(items)
    check_bands(items, bands, sensor)
    scenes: list[Scene] = []
    odd: list[OddItem] = []
    timed: list[Mapping[str, Any]] = []
    refused: BandError | HrefError | None = None
    for item in items:
        try:
            time_of(item)
        except ItemError as fault:
            _set_aside(item, fault, odd, on_odd_item)
        else:
            timed.append(item)
    for item, key in zip(timed, pass_keys(timed), strict=True):
        try:
            scenes.append(_read_scene(item, key, bands, sensor, cloud_mask, private_hosts, local_files))
        except (ItemError, BandError, HrefError) as fault:
            refused = refused or (None if isinstance(fault, ItemError) else fault)
            _set_aside(item, fault, odd, on_odd_item)
    if refused is not None and not scenes:  # what was asked for is wrong, not an item
        raise refused
    return without_duplicates(sorted(scenes, key=lambda s: (s.datetime, s.id))), tuple(odd)


def read_scenes(
    items: Iterable[Mapping[str, Any]],
    bands: Sequence[str],
    sensor: Sensor,
    *,
    cloud_mask: bool,
    private_hosts: frozenset[str],
    local_files: frozenset[str] = frozenset(),
) -> tuple[Scene, ...]:
    """Turn items into scenes as `usable_scenes` does; an item that lacks something raises `ItemError`."""
    scenes, _ = usable_scenes(
        items,
        bands,
        sensor,
        cloud_mask=cloud_mask,
        private_hosts=private_hosts,
        local_files=local_files,
        on_odd_item="fail",
    )
    return scenes


def _set_aside(item: Mapping[str, Any], fault: EoapError, odd: list[OddItem], on_odd_item: str) -> None:
    if on_odd_item == "fail":
        raise fault
    name = str(item.get("id"))
    reason = fault.what if repr(name) in fault.what else f"Item {name!r}: {fault.what}"
    if isinstance(fault, HrefError):  # what would admit it, whatever an application advises
        odd.append(OddItem(name, reason, f"{fault.expected} {fault.hint}"))
    else:
        odd.append(OddItem(name, reason, fault.expected, fault.hint))


def seen_once(items: Iterable[Item]) -> tuple[Item, ...]:
    """Drop items that are older processings of others, as `without_duplicates` does with scenes; keeps the order."""
    items = list(items)
    named = [
        (item, key, tile_of(item), baseline(item) or _NO_BASELINE)
        for item, key in zip(items, pass_keys(items), strict=True)
    ]
    newest: dict[tuple[str, str], tuple[int, int]] = {}
    for _, key, tile, made in named:
        newest[key, tile] = max(newest.get((key, tile), _NO_BASELINE), made)
    return tuple(item for item, key, tile, made in named if not tile or made == newest[key, tile])


def _read_scene(
    item: Mapping[str, Any],
    key: str,
    bands: Sequence[str],
    sensor: Sensor,
    cloud_mask: bool,
    private_hosts: frozenset[str],
    local_files: frozenset[str],
) -> Scene:
    places = [required_band(item, band, sensor) for band in bands]
    sources = tuple(_source(item, asset, number, sensor, private_hosts, local_files) for asset, number in places)
    mask = None
    if cloud_mask:
        classes = next((k for k in sensor.mask_assets if k in item.get("assets", {})), None)
        if classes is None:
            raise ItemError(
                f"Item {item.get('id')!r} has no scene classification.",
                f"Expected an asset {' or '.join(sensor.mask_assets)}.",
                f"Try {option('cloud_mask', 'none')}.",
            )
        mask = _source(item, classes, 1, sensor, private_hosts, local_files, mask=True)
    return Scene(
        id=str(item["id"]),
        href=source_href(item),
        datetime=time_of(item),
        pass_key=key,
        tile=tile_of(item),
        baseline=baseline(item) or _NO_BASELINE,
        bands=sources,
        mask=mask,
        fingerprint=(
            str(item["id"]),
            key,
            *(_fingerprint(s) for s in (*sources, mask) if s is not None),
        ),
        producers=producers(item, sensor),
        sensor=sensor.id,
    )


def _source(
    item: Mapping[str, Any],
    key: str,
    number: int,
    sensor: Sensor,
    private_hosts: frozenset[str],
    local_files: frozenset[str],
    *,
    mask: bool = False,
) -> Source:
    asset = item["assets"][key]
    href = str(asset.get("href", ""))
    version = _version(asset, item.get("properties", {}))
    if href in local_files:
        version = f"{version} {_state_of(href)}".strip()
    else:
        check_href(href, private_hosts=private_hosts)
    crs, transform, shape = projection(item, key)
    nodata = nodata_value(item, asset, number)
    return Source(
        asset=key,
        href=href,
        crs=crs,
        transform=transform,
        shape=shape,
        offset=0 if mask else reflectance_offset(item, asset, sensor, number),
        nodata=nodata if nodata is not None else sensor.mask_nodata if mask else sensor.nodata,
        # a few digits distinguish it as well, and they travel with every block
        version=hashlib.sha256(version.encode()).hexdigest()[:8],
        band=number,
        nodata_by_file=nodata is None,
        is_only=is_only_band(asset),
    )


def source_href(item: Mapping[str, Any]) -> str:
    """Return what a product made from an item names it by: its self link, unsigned, or its id."""
    for link in item.get("links", []):
        if link.get("rel") == "self" and str(link.get("href", "")).startswith(("http://", "https://")):
            return redact(str(link["href"]))
    return str(item["id"])


def _version(asset: Mapping[str, Any], properties: Mapping[str, Any]) -> str:
    found = asset.get("file:checksum") or properties.get("updated") or properties.get("s2:generation_time") or ""
    return str(found)


def _state_of(path: str) -> str:
    """Return size and time of a local file: nobody updates an item when its file is made anew."""
    try:
        found = Path(path).stat()
    except OSError:
        return ""  # the reader reports it
    return f"{found.st_size}-{found.st_mtime_ns}"


def _fingerprint(source: Source) -> str:
    read = [source.crs, *source.transform, *source.shape, source.offset, source.nodata]
    if source.nodata_by_file:
        read.append("by-file")
    if source.band > 1:
        read.append(f"band-{source.band}")
    # the query may select the file; hashed, because it may also contain secrets
    href = hashlib.sha256(unsigned(source.href).encode("utf-8", "surrogatepass")).hexdigest()
    return f"{href} {source.version} {' '.join(map(str, read))}"
