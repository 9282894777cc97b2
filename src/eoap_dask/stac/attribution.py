"""Attribution: providers, and the terms of the sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eoap_dask.scenes.model import Pass
from eoap_dask.scenes.sensor import Provider, Sensor, sensor_of
from eoap_dask.stac.document import link
from eoap_dask.text import plural

_MOST_IDS, _LONGEST_ID = 40, 100
"""Scenes that a file names, and characters of each: its header is read before anything else."""


def processor(software_version: str) -> dict[str, Any]:
    """Return this software's provider entry, as processor."""
    return {
        "name": "eoap-dask",
        "description": f"Processed with eoap-dask {software_version}.",
        "roles": ["processor"],
    }


def producers_of(sources: Iterable[Iterable[str]], known: Sequence[Sensor]) -> list[dict[str, Any]]:
    """Return the STAC providers of some sources (see `Scene.producers`), each once; sensors' providers in full."""
    own = {sensor.provider.name: sensor.provider for sensor in known}
    names = dict.fromkeys(name for source in sources for name in source)
    return [_entry(own[name]) if name in own else {"name": name, "roles": ["producer"]} for name in names]


def source_note(producers: Sequence[Mapping[str, Any]], known: Sequence[Sensor], when: str = "") -> str:
    """Return the attribution of the sources, with the words that terms of sensors ask for.

    `when` are years, such as ``2021-2022``.
    """
    notices = dict.fromkeys(sensor.terms.notice for sensor in _credited(producers, known))
    own = {sensor.provider.name for sensor in known}
    others = [one["name"] for one in producers if one["name"] not in own]
    sentences = [f"{notice}{f' {when}' if when else ''}." for notice in notices]
    return " ".join([*sentences, *([f"Contains data of {', '.join(others)}."] if others else [])])


def credit(
    items: Iterable[Mapping[str, Any]], known: Sequence[Sensor]
) -> tuple[str, list[Mapping[str, Any]], list[dict[str, Any]]]:
    """Return the note (see `source_note`), the STAC providers, and the license links for what `build_item` returned.

    Items without ``providers`` are of their sensor's; their periods give the years. The links go with
    ``license="other"``.
    """
    items = list(items)
    years = sorted({int(item["properties"][key][:4]) for item in items for key in ("start_datetime", "end_datetime")})
    when = "-".join(str(year) for year in dict.fromkeys((years[0], years[-1]))) if years else ""
    found: dict[str, Mapping[str, Any]] = {}
    for item in items:
        default = [_entry(sensor.provider) for sensor in sensors_of([item], known)]
        found |= {one["name"]: one for one in item["properties"].get("providers", default)}
    producers = list(found.values())
    terms = dict.fromkeys(sensor.terms for sensor in _credited(producers, known))
    links = [link("license", one.href, one.media_type, one.title) for one in terms]
    return source_note(producers, known, when), producers, links


def file_tags(passes: Sequence[Pass], software_version: str) -> dict[str, str]:
    """Return what a file made of some passes says by itself, but for its title: TIFF tags by GDAL's names.

    The date is that of the last pass: the same data make the same file.
    """
    found = {"TIFFTAG_SOFTWARE": f"eoap-dask {software_version}"}
    if not passes:
        return found
    scenes = [scene for one in passes for scene in one.scenes]
    known = list(dict.fromkeys(sensor_of(scene.sensor) for scene in scenes))
    first, last = passes[0].datetime, passes[-1].datetime
    ids = ["".join(filter(str.isprintable, scene.id))[:_LONGEST_ID] for scene in scenes]
    more = f" and {len(ids) - _MOST_IDS} more, see its STAC item" if len(ids) > _MOST_IDS else ""
    days = " to ".join(dict.fromkeys(f"{when:%Y-%m-%d}" for when in (first, last)))
    years = "-".join(dict.fromkeys(f"{when:%Y}" for when in (first, last)))
    of = f"From {plural(len(passes), 'pass', 'passes')}, {days}: {', '.join(ids[:_MOST_IDS])}{more}."
    return found | {
        "TIFFTAG_IMAGEDESCRIPTION": of,
        "TIFFTAG_DATETIME": f"{last:%Y:%m:%d %H:%M:%S}",
        "TIFFTAG_COPYRIGHT": source_note(producers_of((one.producers for one in scenes), known), known, years),
    }


def sensors_of(items: Iterable[Mapping[str, Any]], known: Sequence[Sensor]) -> tuple[Sensor, ...]:
    """Return the sensors of what `build_item` returned, each once, by their constellations."""
    names = dict.fromkeys(item["properties"].get("constellation") for item in items)
    found = (next((sensor for sensor in known if sensor.constellation == name), None) for name in names)
    return tuple(sensor for sensor in found if sensor is not None)


def _credited(producers: Iterable[Mapping[str, Any]], known: Sequence[Sensor]) -> list[Sensor]:
    """Return the sensors whose providers are among the producers."""
    names = {one["name"] for one in producers}
    return [sensor for sensor in known if sensor.provider.name in names]


def _entry(provider: Provider) -> dict[str, Any]:
    return {"name": provider.name, "roles": list(provider.roles), "url": provider.url}
