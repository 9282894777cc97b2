"""Where the files of a product lie: one place for what writes, links, checks and reads them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

_NAME = r"[a-z0-9][a-z0-9._-]*"

UNIT = "eoap:unit"
"""Property of an item: key of its unit, where that isn't the item's id."""


@dataclass(frozen=True)
class ProductLayout:
    """Names of files, from the keys of units.

    A unit whose key is a name has a directory of that name to itself. One whose key is a path of three names, such as
    ``images/2023/cell-7``, shares the directory ``images/2023`` with others: the names of its files begin with its own,
    which is the last of the three, and its item's id.
    """

    catalog: str = "catalog.json"
    collection: str = "collection.json"

    def folder(self, key: str) -> str:
        """Return the directory of a unit, relative to the catalog."""
        return key.rpartition("/")[0] or key

    def name(self, key: str) -> str:
        """Return the id of a unit's item."""
        return key.rpartition("/")[2]

    def is_shared(self, key: str) -> bool:
        """Tell whether other units may be in the same directory."""
        return "/" in key

    def to_root(self, key: str) -> str:
        """Return the way from a unit's directory to the catalog's."""
        return "../" * (1 + self.folder(key).count("/"))

    def item(self, key: str) -> str:
        """Return the name of a unit's item, the last of its files, or of the item of one of its outputs."""
        return f"{self.name(key)}.json"

    def item_of(self, key: str) -> str:
        """Return the path of a unit's item, relative to the catalog."""
        return f"{self.folder(key)}/{self.item(key)}"

    def unit_of_item(self, item: Mapping[str, Any]) -> str:
        """Return the key of the unit that an item is of."""
        return str(item["properties"].get(UNIT, item["id"]))

    def key_of(self, href: str) -> str | None:
        """Return the key of the unit whose item an href of the catalog leads to; None where it leads elsewhere."""
        found = re.fullmatch(rf"(?:\./)?(?:({_NAME})/\1|({_NAME}/{_NAME}/{_NAME}))\.json", href)
        return (found[1] or found[2]) if found else None

    def unit_of(self, href: str) -> str | None:
        """Return the key of the unit one of whose outputs an href of the catalog leads to; None where it can't be."""
        found = re.fullmatch(rf"(?:\./)?({_NAME})/{_NAME}\.json", href)
        return found[1] if found else None

    def image(self, image: str, cutout: str = "", suffix: str = ".tif") -> str:
        """Return the name of an image, or the path of an image of a cutout."""
        return f"{image}/{cutout}{suffix}" if cutout else f"{image}{suffix}"

    def is_key(self, key: str) -> bool:
        """Tell whether a unit may have a key: of names of lower-case letters, digits, ``.``, ``_`` and ``-``."""
        return re.fullmatch(rf"{_NAME}(?:/{_NAME}/{_NAME})?", key) is not None


LAYOUT = ProductLayout()
"""That of all products."""
