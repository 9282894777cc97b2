"""Who made an item's data."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eoap_dask.scenes.sensor import Sensor

_MOST_PROVIDERS = 8
_LONGEST_NAME = 120


def producers(item: Mapping[str, Any], sensor: Sensor) -> tuple[str, ...]:
    """Return the names of an item's producers and licensors, at least one; the sensor's provider goes by its own name.

    Without any it is the provider, or the platform if that isn't one of the sensor's. Data of the sensor keep the
    provider as a producer, whoever processed them, unless somebody else licenses them.
    """
    properties = item["properties"]
    provider = sensor.provider
    named: dict[str, bool] = {}
    for one in _listed(properties.get("providers"))[:_MOST_PROVIDERS]:
        roles = _listed(one.get("roles")) if isinstance(one, Mapping) else []
        name = " ".join(str(one.get("name") or "").split())[:_LONGEST_NAME] if roles else ""
        if name and ("producer" in roles or "licensor" in roles):
            name = provider.name if provider.is_meant(name) else name
            named[name] = named.get(name, False) or "licensor" in roles
    flown = [p for p in (properties.get("platform"), properties.get("constellation")) if isinstance(p, str) and p]
    is_own = any(sensor.flies_on(p) for p in flown)
    if is_own and not any(named.values()):
        return tuple(dict.fromkeys((provider.name, *named)))
    return tuple(named) or (flown[0][:_LONGEST_NAME] if flown else provider.name,)


def _listed(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
