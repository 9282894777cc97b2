"""Attribution: providers, and the terms of the sources."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from eoap_dask.stac.document import link

SENTINEL_LEGAL_NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"

ESA: dict[str, Any] = {
    "name": "European Space Agency (ESA)",
    "roles": ["producer", "licensor"],
    "url": "https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
}
_OF_COPERNICUS = re.compile(r"\bESA\b|\bEuropean Space Agency\b|\bCopernicus\b", re.I)


def processor(software_version: str) -> dict[str, Any]:
    """Return this software's provider entry, as processor."""
    return {
        "name": "eoap-dask",
        "description": f"Processed with eoap-dask {software_version}.",
        "roles": ["processor"],
    }


def producers_of(sources: Iterable[Iterable[str]]) -> list[dict[str, Any]]:
    """Return the STAC providers of some sources, each once; without names (see `Scene.producers`) it is ESA."""
    found: dict[str, dict[str, Any]] = {}
    for names in sources:
        for name in tuple(names) or (ESA["name"],):
            provider: dict[str, Any] = ESA if _OF_COPERNICUS.search(name) else {"name": name, "roles": ["producer"]}
            found.setdefault(provider["name"], provider)
    return list(found.values())


def source_note(producers: Sequence[Mapping[str, Any]], when: str = "") -> str:
    """Return the attribution of the sources, with the words of `SENTINEL_LEGAL_NOTICE` for Copernicus data.

    `when` are years, such as ``2021-2022``.
    """
    others = [one["name"] for one in producers if one != ESA]
    sentences = [f"Contains modified Copernicus Sentinel data{f' {when}' if when else ''}."] if ESA in producers else []
    return " ".join([*sentences, *([f"Contains data of {', '.join(others)}."] if others else [])])


def credit(
    items: Iterable[Mapping[str, Any]],
) -> tuple[str, list[Mapping[str, Any]], list[dict[str, Any]]]:
    """Return the note (see `source_note`), the STAC providers, and the license links for what `build_item` returned.

    Items without ``providers`` count as ESA's; their periods give the years. The links go with ``license="other"``.
    """
    items = list(items)
    years = sorted({int(item["properties"][key][:4]) for item in items for key in ("start_datetime", "end_datetime")})
    when = "-".join(str(year) for year in dict.fromkeys((years[0], years[-1]))) if years else ""
    found = {one["name"]: one for item in items for one in item["properties"].get("providers", [ESA])}
    producers = list(found.values())
    terms = link("license", SENTINEL_LEGAL_NOTICE, "application/pdf", "Copernicus Sentinel data: legal notice")
    return source_note(producers, when), producers, [terms] if ESA in producers else []
