"""Parameters, declared once: dataclass fields with what the command line, CWL and JSON need to know."""

from __future__ import annotations

import dataclasses
import functools
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
from eoap_dask.text import option, show
from eoap_dask.values import as_flag, as_integer, as_list, as_number, as_path, as_text

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
    picks_scenes: bool = False
    """Whether it says which scenes there are, and nothing of what is made of them."""
    heading: str = ""
    """Under which it stands in `--help`, if it isn't its class's; see `heading_of`."""
    required: bool = False
    """Whether there is no application without it; its default, None, is refused by `check_choices`."""
    schema: Mapping[str, Any] = field(default_factory=dict)
    """Keywords of JSON schema where the field's type says too little."""

    accepts: Callable[[object, str], Any] | None = None
    """What makes the field's value of a Python caller's, given the parameter's name, where its type says too little."""

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


def heading_of(cls: type, name: str) -> str:
    """Return the heading of an option in `--help`: `HEADING` of the class that declares its field first."""
    _, declared = declarations(cls)[name]
    owner = next(one for one in reversed(cls.__mro__) if name in vars(one).get("__annotations__", {}))
    return declared.heading or str(vars(owner).get("HEADING", ""))


def scene_params(cls: type) -> frozenset[str]:
    """Return the names of the parameters that say which scenes there are, and nothing of what is made of them."""
    return frozenset(name for name, (_, declared) in declarations(cls).items() if declared.picks_scenes)


class Declared:
    """Parent of dataclasses with declared fields: what Python callers give becomes what the fields' types say.

    `UsageError` where that can't be. Whether a value makes sense is checked when it is used.
    """

    def __post_init__(self) -> None:
        hints = _hints(type(self))  # type: ignore[arg-type, unused-ignore]
        for one in dataclasses.fields(self):  # type: ignore[arg-type]
            value = getattr(self, one.name)
            if value is not one.default:
                declared = one.metadata.get("declaration", Declaration(""))
                object.__setattr__(self, one.name, _conformed(value, one.name, hints[one.name], one.default, declared))


@functools.cache
def _hints(cls: type) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _conformed(value: object, name: str, hint: Any, default: Any, declared: Declaration) -> Any:
    """Return a value as its field's type has it."""
    if declared.accepts is not None:
        return declared.accepts(value, name)
    if isinstance(hint, types.UnionType):  # with None
        hint = typing.get_args(hint)[0]
        if value is None:
            return None
    if hint is Any:
        return value
    if typing.get_origin(hint) is tuple:
        return _several(value, name, typing.get_args(hint)[0], default)
    if hint is str and value is None and default == "":
        return ""
    if hint is str and declared.local_file and isinstance(value, os.PathLike):
        return str(as_path(value, name, "file"))
    return _one(value, name, hint, default)


def _one(value: object, name: str, hint: Any, example: Any) -> Any:
    if hint is bool:
        return as_flag(value, name)
    if hint is int:
        return as_integer(value, name, 1 if example is None else example)
    if hint is float:
        return as_number(value, name, 1 if example is None else example)
    if hint is Path:
        return as_path(value, name, str(example or "file"))
    return as_text(value, name, example or "…")


def _several(value: object, name: str, hint: Any, default: Any) -> tuple[Any, ...]:
    if hint is str and isinstance(value, str):
        return (str(value),)
    if typing.get_origin(hint) is tuple:
        pairs = tuple(value.items()) if isinstance(value, Mapping) else value
        return as_list(pairs, name, {"name": "value"}, lambda pair: _pair(pair, name))
    example = default or ("…",)
    return as_list(value, name, list(example), lambda one: _one(one, name, hint, list(example)))


def _pair(value: object, name: str) -> tuple[str, str]:
    """Return name and value as text, such as of ``{"worker_cores": 2}``."""
    if isinstance(value, list | tuple) and [isinstance(part, str | int | float) for part in value] == [True, True]:
        return str(value[0]), str(value[1])
    raise UsageError(
        f"{option(name)} must hold pairs of a name and a value, got {show(value)}.",
        "",
        f"Try {name}={{'worker_cores': 2}}.",
    )


def check_choices(params: Any) -> None:
    """Raise `UsageError` for a value that isn't among its declared choices, or is required and missing."""
    for name, (_, declared) in declarations(type(params)).items():
        value = getattr(params, name)
        if declared.required and value in (None, ""):
            raise UsageError(f"{option(name)} is missing.", f"Expected a value: {declared.about}", "")
        if declared.choices and value not in declared.choices:
            raise UsageError(f"{option(name)} must be {' or '.join(declared.choices)}, got {show(value)}.")


def as_json(params: Any) -> Mapping[str, Any]:
    """Return the values of the declared fields as JSON values."""
    return {name: _plain(getattr(params, name)) for name in declarations(type(params))}


def _plain(value: Any) -> Any:
    """Return a value for JSON; of an object that isn't one of JSON's, such as a set of items, its `repr`."""
    if isinstance(value, tuple):
        return list(value)
    if isinstance(value, Path):
        return str(value)
    return value if isinstance(value, str | int | float | Mapping | list | None) else repr(value)


def json_schema(cls: type) -> dict[str, Any]:
    """Return the JSON schema of a document with the declared fields of a class, which may all be left out.

    But for those that are required.

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
    required = [name for name, (_, declared) in declarations(cls).items() if declared.required]
    properties = {
        name: {
            **_schema_of(name, typing.get_args(hints[name])[0] if name in required else hints[name]),
            **({"enum": list(declared.choices)} if declared.choices else {}),
            **declared.schema,
            "description": declared.about,
            **({} if name in required or known.default is dataclasses.MISSING else {"default": _plain(known.default)}),
            **({LOCAL_FILE: True} if declared.local_file else {}),
        }
        for name, (known, declared) in declarations(cls).items()
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": cls.__name__,
        "type": "object",
        "properties": properties,
        **({"required": required} if required else {}),
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
        # other objects are values themselves, but sets of items may be allowed to name files
        return isinstance(value, os.PathLike) or bool(getattr(value, "local_files", ()))
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
