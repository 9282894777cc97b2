"""Variables of the environment that pipelines of this kind are set up with; options and ``EOAP_DASK_…`` come first."""

from __future__ import annotations

import math
from collections.abc import Container, Mapping
from pathlib import Path
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.text import show

_LEVELS = ("DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL")
_LATER = {
    **dict.fromkeys(("DB_HOST", "DB_PORT", "DB_NAME", "DB_USER", "DB_PASSWORD"), "products are files"),
    "MONITORING_PORT": "status tells how far a run is",
}
"""Variables that nothing reads yet, and why."""
_NETWORK = ("BTC_MODEL_CHECKPOINT", "BTC_THRESHOLD")


def settings(environ: Mapping[str, str], given: Container[str]) -> tuple[dict[str, Any], list[str]]:
    """Return the options that variables set, by name, and sentences on those that nothing reads.

    Parameters
    ----------
    environ
        Of the process.
    given
        Names of the options that were given otherwise.

    Raises
    ------
    UsageError
        for a value that makes no sense
    """
    told = {name: value.strip() for name, value in environ.items() if value.strip()}
    found: dict[str, Any] = {}
    mode = told.get("PIPELINE_MODE", "local_only")
    if mode in ("database_only", "hybrid"):
        raise UsageError(
            f"PIPELINE_MODE={mode} needs a database, which is still to come.",
            "Products are files and a STAC catalog.",
            "Try PIPELINE_MODE=local_only.",
        )
    if mode != "local_only":
        raise _must_be("PIPELINE_MODE", "local_only", mode, "local_only")
    if "MAX_WORKERS" in told and "workers" not in given:
        found["cores"] = int(_number("MAX_WORKERS", told["MAX_WORKERS"], "4", is_whole=True))
    if "MEMORY_LIMIT_GB" in told and "worker_memory" not in given:
        found["memory"] = int(_number("MEMORY_LIMIT_GB", told["MEMORY_LIMIT_GB"], "4") * (1 << 30))
    if "DATA_DIR" in told and "output_dir" not in given:
        found["output_dir"] = Path(told["DATA_DIR"])
    if "LOG_LEVEL" in told and not ("verbose" in given or "quiet" in given):
        level = told["LOG_LEVEL"].upper()
        if level not in _LEVELS:
            raise _must_be("LOG_LEVEL", " or ".join(_LEVELS), told["LOG_LEVEL"], "INFO")
        found["level"] = level
    if "BTC_MODEL_CHECKPOINT" in told and "weights" not in given:
        found["weights"] = told["BTC_MODEL_CHECKPOINT"]
    if "BTC_THRESHOLD" in told and "threshold" not in given:
        found["threshold"] = _chance("BTC_THRESHOLD", told["BTC_THRESHOLD"])
    unread = [f"{name} is read by nothing yet: {why}." for name, why in _LATER.items() if name in told]
    networks = sorted(name for name in told if name.startswith("BTC_") and name not in _NETWORK)
    unread += [f"{name} is read by nothing: {' and '.join(_NETWORK)} are." for name in networks]
    return found, unread


def _number(name: str, text: str, example: str, *, is_whole: bool = False) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 < number < 1e9 or (is_whole and not number.is_integer()):
        raise _must_be(name, f"a {'whole ' if is_whole else ''}number above 0", text, example)
    return number


def _chance(name: str, text: str) -> float:
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number <= 1:
        raise _must_be(name, "from 0 to 1", text, "0.2")
    return number


def _must_be(name: str, rule: str, got: str, example: str) -> UsageError:
    return UsageError(
        f"The variable {name} of the environment must be {rule}, got {show(got)}.", "", f"Try {name}={example}."
    )
