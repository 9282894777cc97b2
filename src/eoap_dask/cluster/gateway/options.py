"""The options of a Gateway's clusters: what is wanted, as the types that the Gateway says they have."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.redact import redact
from eoap_dask.text import parse_memory, show_memory


class Memory(str):
    """An amount of memory in our words, for a Gateway in its own."""

    __slots__ = ()


def fill(options: Any, wanted: Mapping[str, Any], complaint: str) -> None:
    """Set the options that are wanted, each as the type that the Gateway says it has."""
    for name, value in wanted.items():
        if name not in options:
            offered = ", ".join(f"{key} ({_type_of(options[key])})" for key in options)
            raise UsageError(f"{complaint} {name!r}.", f"The Gateway offers {offered or 'none'}.")
        try:
            options[name] = _memory(value, options[name]) if isinstance(value, Memory) else _typed(value, options[name])
        except (TypeError, ValueError) as exc:
            raise UsageError(
                f"The cluster option {name} can't be {str(value)!r}: {redact(exc)}.",
                f"Expected {_type_of(options[name])}.",
            ) from None
    if "worker_cores" in wanted and "worker_cores_limit" in options and "worker_cores_limit" not in wanted:
        cores = _typed(options["worker_cores"], options["worker_cores_limit"])
        with suppress(TypeError, ValueError):  # a limit below the request would be refused
            options["worker_cores_limit"] = max(options["worker_cores_limit"], cores)


def _type_of(default: Any) -> str:
    kinds = ((bool, "true or false"), (int, "a whole number"), (float, "a number"), (str, "text"))
    return next((name for kind, name in kinds if isinstance(default, kind)), "a JSON object")


def _typed(value: Any, default: Any) -> Any:
    """Return text as the type of an option's default; other values as they are, but for whole floats."""
    if isinstance(default, bool):
        known = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
        return known[value.lower()] if isinstance(value, str) and value.lower() in known else value
    if isinstance(default, int):
        number = float(value) if isinstance(value, str) else value
        return int(number) if isinstance(number, float) and number.is_integer() else number
    if isinstance(default, float):
        return float(value) if isinstance(value, str | int) else value
    if isinstance(default, dict):
        return json.loads(value) if isinstance(value, str) else value
    return value


def _memory(amount: Memory, default: Any) -> Any:
    """Return an amount of memory as an option takes it: text, or a number of GiB, as Gateway's documentation has it."""
    if isinstance(default, str):
        return show_memory(parse_memory(amount))
    gib = float(amount) if re.fullmatch(r"[\d.]+", amount) else parse_memory(amount) / 2**30
    return _typed(gib, default)
