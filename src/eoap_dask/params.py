"""Parameters, declared once: a frozen dataclass whose fields say what the command line, CWL and JSON need to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eoap_dask.errors import UsageError

ENV_PREFIX = "EOAP_DASK_"


@dataclass(frozen=True)
class Declaration:
    """What a field says about itself, beyond its name, type and default."""

    help: str
    """One sentence for `--help`, without the default."""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    multiple: bool = False
    """May be given several times."""
    envvar: str = ""
    """Where it isn't ``EOAP_DASK_<NAME>``."""
    negative: str = ""
    """For a switch: the flag that turns it off."""
    flag: str = ""
    """Name of the option where it isn't the field's."""
    aliases: tuple[str, ...] = ()
    """Further spellings of the option, without dashes before them."""


def param(default: Any, help: str, **about: Any) -> Any:  # noqa: A002 - click's word
    """Declare a field with its default and what `Declaration` takes."""
    return field(default=default, metadata={"declaration": Declaration(help, **about)})


def declarations(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Declaration]]:
    """Return name → (field, declaration) of every declared field, in order."""
    return {f.name: (f, f.metadata["declaration"]) for f in dataclasses.fields(cls) if "declaration" in f.metadata}


def check_choices(params: Any) -> None:
    """Refuse a value that isn't among the choices of its declaration, for callers that don't come through Click.

    Raises
    ------
    UsageError
    """
    for name, (_, declared) in declarations(type(params)).items():
        value = getattr(params, name)
        if declared.choices and value not in declared.choices:
            raise UsageError(
                f"{name.replace('_', '-')} can't be {value!r}.",
                f"Expected {' or '.join(declared.choices)}.",
                "",
            )


def as_json(params: Any) -> Mapping[str, Any]:
    """Return the declared fields as JSON-like values."""
    out: dict[str, Any] = {}
    for name in declarations(type(params)):
        value = getattr(params, name)
        out[name] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return out
