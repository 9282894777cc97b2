"""What identifies pixels: everything that a recipe holds, but for what is marked as having no influence on them."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from odc.geo.geobox import GeoBox

from eoap_dask.geo.crs import crs_name

NO_PIXELS: Mapping[str, Any] = MappingProxyType({"identity": False})
"""Metadata of a dataclass field that never changes a pixel: ``field(default=8, metadata=NO_PIXELS)``."""


def identity_of(value: Any) -> Any:
    """Return JSON-like content that is equal for values that make the same pixels.

    Parameters
    ----------
    value
        None, bool, int, float, str, bytes, a GeoBox, or tuples, lists, mappings and dataclasses of these. All fields of
        a dataclass count, and the name of its class, but for those marked with `NO_PIXELS`.

    Raises
    ------
    TypeError
        for anything else: what can't be told apart must not be mistaken for the same
    """
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return value if math.isfinite(value) else repr(value)
    if isinstance(value, bytes):
        return hashlib.sha256(value).hexdigest()
    if isinstance(value, GeoBox):
        transform = [float(v) for v in tuple(value.transform)[:6]]
        return [crs_name(value), transform, [int(n) for n in value.shape]]
    if isinstance(value, tuple | list):
        return [identity_of(one) for one in value]
    if isinstance(value, Mapping):
        return {str(key): identity_of(one) for key, one in value.items()}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = [f.name for f in dataclasses.fields(value) if f.metadata.get("identity", True)]
        return {"class": type(value).__name__, **{name: identity_of(getattr(value, name)) for name in fields}}
    raise TypeError(f"{type(value).__name__} has no identity: expected JSON-like values, a GeoBox, or a dataclass.")


def hash_of(content: Any) -> str:
    """Return the SHA-256 of JSON-like content, in hexadecimal."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
