"""The metadata of the software in an application package, in the terms of schema.org."""

from __future__ import annotations

from typing import Any

from eoap_dask.__about__ import __version__
from eoap_dask.applications.entry import Entry

IMAGE = "ghcr.io/eoap/eoap-dask"
"""Container image of tools and workers; its tag is the version of the package."""
CODE = "https://github.com/eoap/eoap-dask"
CREATED = "2026-11-25"
"""When the packages were first made."""


def software(application: Entry) -> dict[str, Any]:
    """Return the metadata of an application package, keys with the prefix ``s:``."""
    people = {"@type": "s:Organization", "s:name": "The eoap-dask developers", "s:url": CODE}
    help_page = {"@type": "s:CreativeWork", "s:name": "CWL packages", "s:url": f"{CODE}/blob/main/docs/cwl.md"}
    return {
        "s:name": application.title,
        "s:description": application.summary,
        "s:softwareVersion": __version__,
        "s:dateCreated": CREATED,
        "s:license": "https://spdx.org/licenses/MIT",
        "s:keywords": list(application.package.keywords),
        "s:codeRepository": CODE,
        "s:releaseNotes": f"{CODE}/blob/main/CHANGELOG.md",
        "s:citation": f"eoap-dask {__version__}, {CODE}",
        "s:softwareHelp": [help_page],
        "s:publisher": people,
        "s:author": [people],
        "s:contributor": [people],
    }
