"""Who made the data: providers, and the terms of the sources."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from eoap_dask.stac.document import link

SENTINEL_LEGAL_NOTICE = "https://sentinel.esa.int/documents/247904/690755/Sentinel_Data_Legal_Notice"

ESA = {
    "name": "European Space Agency (ESA)",
    "roles": ["producer", "licensor"],
    "url": "https://sentinel.esa.int/web/sentinel/missions/sentinel-2",
}


def processor(software_version: str) -> dict[str, Any]:
    """Return the provider entry of this software, as processor.

    Parameters
    ----------
    software_version
        Version of this package.

    Returns
    -------
    dict
        A STAC provider.
    """
    return {
        "name": "eoap-dask",
        "description": f"Processed with eoap-dask {software_version}.",
        "roles": ["processor"],
    }


def sentinel2_license(items: Iterable[Mapping[str, Any]]) -> tuple[str, list[dict[str, Any]]]:
    """Return the attribution that Copernicus asks for, and the links to its terms.

    Parameters
    ----------
    items
        What `build_item` returned; their periods give the years.

    Returns
    -------
    note : str
        ``Contains modified Copernicus Sentinel data 2021-2022.``, for the collection's description.
    links : list of dict
        For `build_collection(license_links=…)`, beside ``license="other"``.

    References
    ----------
    Legal notice on the use of Copernicus Sentinel Data and Service Information, `SENTINEL_LEGAL_NOTICE`.
    """
    years = sorted({int(item["properties"][key][:4]) for item in items for key in ("start_datetime", "end_datetime")})
    when = "" if not years else f" {years[0]}" if len(years) == 1 else f" {years[0]}-{years[-1]}"
    terms = link("license", SENTINEL_LEGAL_NOTICE, "application/pdf", "Copernicus Sentinel data: legal notice")
    return f"Contains modified Copernicus Sentinel data{when}.", [terms]
