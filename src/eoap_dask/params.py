"""Parameters, declared once: dataclass fields with what the command line, CWL and JSON need to know."""

from __future__ import annotations

import dataclasses
import os
import re
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from eoap_dask.errors import UsageError
from eoap_dask.redact import redact
from eoap_dask.text import option

ENV_PREFIX = "EOAP_DASK_"
LOCAL_FILE = "x-local-file"
"""Keyword of `json_schema`: true for a parameter that may name a file of the machine that runs the application."""

_FOR_COMMANDS = re.compile(r"\s*Repeat for more\.")
_URL = re.compile(r"\s*https?://", re.I)


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


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON schema of a document with the declared fields of a class, each of which may be left out.

    Parameters
    ----------
    cls : type
        A dataclass whose fields are declared with `param`.

    Returns
    -------
    dict
        A schema of draft 2020-12: per parameter its type, default, choices (``enum``), description, and `LOCAL_FILE`
        where it may name a file of the machine that runs the application. Other names are refused. What it accepts
        may still be refused by the application, which knows more than types.

    Raises
    ------
    TypeError
        for a field whose type has no equivalent in JSON
    """
    hints = typing.get_type_hints(cls)
    properties = {
        name: {
            **_schema_of(name, hints[name]),
            **({"enum": list(declared.choices)} if declared.choices else {}),
            **declared.schema,
            "description": declared.about,
            **({} if known.default is dataclasses.MISSING else {"default": _plain(known.default)}),
            **({LOCAL_FILE: True} if declared.local_file else {}),
        }
        for name, (known, declared) in declarations(cls).items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.__name__,
        "type": "object",
        "properties": properties,
        "additionalProperties": False,
    }


_JSON_TYPES: dict[Any, str] = {str: "string", int: "integer", float: "number", bool: "boolean", Path: "string"}


def _schema_of(name: str, hint: Any) -> dict[str, Any]:
    """Return the schema of a type; none for `Any`."""
    if hint is Any:
        return {}
    if hint in _JSON_TYPES:
        return {"type": _JSON_TYPES[hint]}
    parts = typing.get_args(hint)
    if isinstance(hint, types.UnionType) and len(parts) == 2 and parts[1] is type(None):
        inner = _schema_of(name, parts[0])
        if "type" in inner:
            return {**inner, "type": [inner["type"], "null"]}
    if typing.get_origin(hint) is tuple:
        if parts[1:] == (...,):
            return {"type": "array", "items": _schema_of(name, parts[0])}
        some = [_schema_of(name, part) for part in parts]
        return {"type": "array", "prefixItems": some, "minItems": len(some), "maxItems": len(some)}
    raise TypeError(f"the parameter {name} has the type {hint}, for which there is none in JSON")


def local_files(params: Any) -> list[tuple[str, str]]:
    """Return names and values of parameters that lead to a file of the machine that runs the application.

    Parameters
    ----------
    params
        An instance of a dataclass with declared fields.

    Returns
    -------
    list of (str, str)
        Whatever isn't sure to lead elsewhere: a path, whether there is something or not; a URL of a file, or of
        anything but http(s). Not a URL of http(s), nor an area written as bounding box, GeoJSON or WKT. Where URLs
        lead isn't looked at: `eoap_dask.net.hrefs.host_is_private` tells of hosts.
    """
    found: list[tuple[str, str]] = []
    for name, (_, declared) in declarations(type(params)).items():
        value = getattr(params, name)
        for one in value if declared.multiple else (value,):
            if declared.local_file and _is_local(one, declared):
                found.append((name, str(one)))
    return found


def _is_local(value: object, declared: Declaration) -> bool:
    if not isinstance(value, str):
        return isinstance(value, os.PathLike)  # other objects are values themselves
    if not value.strip() or _URL.match(value):
        return False
    return declared.literal is None or not declared.literal(value)


def refuse_local_files(params: Any) -> None:
    """Raise `UsageError` for a parameter of `local_files`: for services, whose machine isn't their users'."""
    for name, value in local_files(params):
        shown = redact(value)
        raise UsageError(
            f"{option(name)} names a file of this machine, {shown if len(shown) <= 80 else shown[:79] + '…'!r}.",
            "Expected what can be reached from anywhere.",
            "Give the value itself, as text."
            if declarations(type(params))[name][1].literal
            else "Give a URL of https.",
        )
