"""Where the files of a product lie: one place for what writes, links, checks and reads them."""

from __future__ import annotations

import re
from dataclasses import dataclass

_KEY = r"[a-z0-9][a-z0-9._-]*"


@dataclass(frozen=True)
class ProductLayout:
    """Names of files; those of a unit are relative to its directory, which is named by its key."""

    catalog: str = "catalog.json"
    collection: str = "collection.json"
    to_root: str = "../"
    """From a unit's directory to the catalog's."""

    def item(self, key: str) -> str:
        """Return the name of a unit's item, the last of its files, or of the item of one of its outputs."""
        return f"{key}.json"

    def item_of(self, key: str) -> str:
        """Return the path of a unit's item, relative to the catalog."""
        return f"{key}/{self.item(key)}"

    def key_of(self, href: str) -> str | None:
        """Return the key of the unit whose item an href of the catalog leads to; None where it leads elsewhere."""
        found = re.fullmatch(rf"(?:\./)?({_KEY})/\1\.json", href)
        return found[1] if found else None

    def unit_of(self, href: str) -> str | None:
        """Return the key of the unit one of whose outputs an href of the catalog leads to; None where it can't be."""
        found = re.fullmatch(rf"(?:\./)?({_KEY})/{_KEY}\.json", href)
        return found[1] if found else None

    def image(self, image: str, cutout: str = "") -> str:
        """Return the name of an image, or the path of an image of a cutout."""
        return f"{image}/{cutout}.tif" if cutout else f"{image}.tif"

    def is_key(self, key: str) -> bool:
        """Tell whether a unit's key can name its directory: lower-case letters, digits, ``.``, ``_``, ``-``."""
        return re.fullmatch(_KEY, key) is not None


LAYOUT = ProductLayout()
"""That of all products."""
