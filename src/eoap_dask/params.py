"""Parameters, declared once: dataclass fields with what the command line, CWL and JSON need to know."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.text import option

ENV_PREFIX = "EOAP_DASK_"


@dataclass(frozen=True)
class Declaration:
    """A field's declaration, beyond its name, type and default."""

    help: str
    """One sentence for `--help`, without the default."""
    metavar: str = ""
    choices: tuple[str, ...] = ()
    multiple: bool = False
    """Whether it may be given several times."""
    envvar: str = ""
    """Environment variable, if it isn't ``EOAP_DASK_<NAME>``."""
    negative: str = ""
    """For a switch: the flag that turns it off."""
    flag: str = ""
    """Name of the option, if it isn't the field's."""
    aliases: tuple[str, ...] = ()
    """Further spellings of the option, without dashes."""


def param(default: Any, help: str, **about: Any) -> Any:  # noqa: A002 - click's word
    """Declare a field with its default and the fields of its `Declaration`."""
    return field(default=default, metadata={"declaration": Declaration(help, **about)})


def declarations(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Declaration]]:
    """Return name → (field, declaration) of every declared field, in order."""
    return {f.name: (f, f.metadata["declaration"]) for f in dataclasses.fields(cls) if "declaration" in f.metadata}


def check_choices(params: Any) -> None:
    """Raise `UsageError` for a value that isn't among its declared choices, as Click does on the command line."""
    for name, (_, declared) in declarations(type(params)).items():
        value = getattr(params, name)
        if declared.choices and value not in declared.choices:
            raise UsageError(f"{option(name)} must be {' or '.join(declared.choices)}, got {value!r}.")


def as_json(params: Any) -> Mapping[str, Any]:
    """Return the values of the declared fields as JSON values."""
    out: dict[str, Any] = {}
    for name in declarations(type(params)):
        value = getattr(params, name)
        out[name] = str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
    return out
