"""Parameters, declared once: dataclass fields with what the command line, CWL and JSON need to know."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.text import option

ENV_PREFIX = "EOAP_DASK_"

_FOR_COMMANDS = re.compile(r"\s*Repeat for more\.")


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
    local_file: bool = False
    """Whether it may name a file or directory of the machine that runs the application."""
    literal: Callable[[str], bool] | None = None
    """For a `local_file`: tells whether a text is the value itself, and so never the name of a file."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of JSON schema where the field's type says too little."""

    @property
    def about(self) -> str:
        """The help without what is true for the command line alone."""
        return _FOR_COMMANDS.sub("", self.help)


def param(default: Any, help: str, **about: Any) -> Any:  # noqa: A002 - click's word
    """Declare a field with its default and the fields of its `Declaration`."""
    return field(default=default, metadata={"declaration": Declaration(help, **about)})


def inherited(parent: type, name: str, **changes: Any) -> Any:
    """Declare a field as a parent does, but for its ``default`` or fields of its `Declaration`."""
    known, declared = declarations(parent)[name]
    default = changes.pop("default", known.default)
    return field(default=default, metadata={"declaration": dataclasses.replace(declared, **changes)})


def declarations(cls: type) -> dict[str, tuple[dataclasses.Field[Any], Declaration]]:
    """Return name → (field, declaration) of every declared field, in order.

    The order is that of the fields, parents first; a class attribute ``ORDER`` of all names changes it.
    """
    found = {f.name: (f, f.metadata["declaration"]) for f in dataclasses.fields(cls) if "declaration" in f.metadata}
    order = getattr(cls, "ORDER", tuple(found))
    if len(order) != len(found) or set(order) != set(found):
        odd = sorted(set(order) ^ set(found)) or sorted(name for name in found if order.count(name) > 1)
        raise TypeError(f"ORDER of {cls.__name__} must name each declared field once: see {', '.join(odd)}")
    return {name: found[name] for name in order}


def check_choices(params: Any) -> None:
    """Raise `UsageError` for a value that isn't among its declared choices, as Click does on the command line."""
    for name, (_, declared) in declarations(type(params)).items():
        value = getattr(params, name)
        if declared.choices and value not in declared.choices:
            raise UsageError(f"{option(name)} must be {' or '.join(declared.choices)}, got {value!r}.")


def as_json(params: Any) -> Mapping[str, Any]:
    """Return the values of the declared fields as JSON values."""
    return {name: _plain(getattr(params, name)) for name in declarations(type(params))}


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, Path) else list(value) if isinstance(value, tuple) else value
