"""From the declarations of parameters to the inputs of CWL."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from loguru import logger

from eoap_dask.applications.entry import Entry
from eoap_dask.cwl.document import entries, requirements_of, short
from eoap_dask.errors import EoapError, UsageError
from eoap_dask.params import Declaration, declarations

FILE = "FILE"
"""The metavar of an option that takes the path of a file and nothing else: it is staged in where CWL runs it."""

_SCALARS: dict[Any, str] = {str: "string", int: "int", float: "double", Any: "string", Path: "string"}
_LABELS = {"aoi": "Area of interest", "crs": "CRS", "stac": "STAC API", "url": "URL"}


@dataclass(frozen=True)
class Input:
    """An input of a tool and of its workflow."""

    id: str
    """As the option is named, without its dashes."""
    type: Any
    """Type of the workflow's input, in CWL."""
    label: str
    doc: str
    default: Any
    """None where there is none."""
    binding: dict[str, Any]
    """How it becomes a part of the command line; empty where it doesn't."""

    @property
    def is_array(self) -> bool:
        """Whether it takes several values, each of which becomes an option."""
        return isinstance(self.type, str) and self.type.removesuffix("?").endswith("[]")

    def for_workflow(self) -> dict[str, Any]:
        """Return the workflow's input."""
        return {"type": self.type, **self._about()}

    def for_tool(self, position: int) -> dict[str, Any]:
        """Return the tool's input at a position among the options.

        Without a position, runners would put the items of an array between an option and its value.
        """
        if not self.binding:
            return {"type": self.type, **self._about()}
        if self.is_array:
            one = self.type.removesuffix("?").removesuffix("[]")
            array = {"type": "array", "items": one, "inputBinding": self.binding}
            kind = ["null", array] if self.type.endswith("?") else array
            return {"type": kind, **self._about(), "inputBinding": {"position": position}}
        return {"type": self.type, **self._about(), "inputBinding": {"position": position, **self.binding}}

    def _about(self) -> dict[str, Any]:
        about: dict[str, Any] = {"label": self.label, "doc": self.doc}
        return about if self.default is None else {**about, "default": self.default}


def inputs_of(params: type, docs: Mapping[str, str] | None = None) -> list[Input]:
    """Return the inputs of an application's parameters, in their order; `docs` replaces the help of options.

    Raises `TypeError` for a field whose type has no equivalent in CWL.
    """
    hints = typing.get_type_hints(params)
    found = [_input(name, hints[name], field, declared) for name, (field, declared) in declarations(params).items()]
    return [dataclasses.replace(one, doc=(docs or {}).get(one.id, one.doc)) for one in found]


def _input(name: str, hint: Any, field: dataclasses.Field[Any], declared: Declaration) -> Input:
    flag = declared.flag or name.replace("_", "-")
    default = field.default
    binding: dict[str, Any] = {"prefix": f"--{flag}"}
    if declared.negative:
        # never a boolean: some platforms make true of the text "false"
        kind: Any = {"type": "enum", "symbols": [flag, declared.negative]}
        default = flag if default else declared.negative
        binding = {"valueFrom": "--$(self)"}
    elif declared.choices:
        kind = {"type": "enum", "symbols": list(declared.choices)}
    else:
        kind = _kind(name, hint, declared)
    return Input(flag, kind, _label(name), declared.about, _plain(default), binding)


def is_tool_of(application: Entry, tool: Mapping[str, Any], further: Collection[str] = ()) -> bool:
    """Tell whether a tool takes an application's inputs as ours does, and nothing else; `further` are ids of inputs.

    Others may have the same command and say elsewhere what becomes of an input: in arguments, variables or files.
    """
    own = {one.id: (one.is_array, one.binding) for one in inputs_of(application.params)}
    found = {}
    for name, about in entries(tool.get("inputs"), "id", "type"):
        kind, binding = about.get("type"), about.get("inputBinding") or {}
        arrays = [one for one in (kind if isinstance(kind, list) else [kind]) if isinstance(one, Mapping)]
        array = next((one for one in arrays if one.get("type") == "array"), None)
        binding = (array.get("inputBinding") or {}) if array is not None else binding
        found[short(name)] = (array is not None, {key: binding[key] for key in binding if key != "position"})
    return (
        {name: one for name, one in found.items() if name not in further} == own
        and "InitialWorkDirRequirement" not in requirements_of(tool)
        and list(tool.get("arguments") or [])[:1] == ["--output-dir"]
        and len(tool["arguments"]) == 2
    )


def check_request(application: Entry, job: Mapping[str, Any]) -> None:
    """Raise what an application says of the inputs of its tool, see `is_tool_of`, before it has a cluster.

    What isn't an input that makes no sense (a catalogue that is away, say) is left to the command, as are files, which
    aren't staged yet.
    """
    fields = declarations(application.params).items()
    declared = {one.flag or name.replace("_", "-"): (name, one) for name, (_, one) in fields}
    values, files = {}, 0
    for key, value in job.items():
        name, one = declared[key]
        if isinstance(value, Mapping):
            if name != "items":  # without it, the others may make no sense
                return
            files += 1
        elif value is not None:
            values[name] = value != one.negative if one.negative else value
    try:
        application.application().check(application.params(**values), ask=not files)
    except EoapError as exc:
        if exc.exit_code == UsageError.exit_code:
            raise
        logger.debug("Left to the command: {}", exc)


def _plain(value: Any) -> Any:
    """Return a default as a document has it: 100 rather than 100.0, which CWL takes as a double too."""
    if value is dataclasses.MISSING:
        return None
    if isinstance(value, tuple):
        return [_plain(one) for one in value]
    if isinstance(value, Path):
        return str(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _kind(name: str, hint: Any, declared: Declaration) -> str:
    choices = typing.get_args(hint) if isinstance(hint, types.UnionType) else (hint,)
    optional = "?" if type(None) in choices and not declared.required else ""
    plain = [one for one in choices if one is not type(None)]
    if len(plain) == 1:
        if declared.metavar == FILE:
            return f"File{optional}"
        if plain[0] in _SCALARS:
            return _SCALARS[plain[0]] + optional
        items = typing.get_args(plain[0])
        if typing.get_origin(plain[0]) is tuple and len(items) == 2 and items[1] is ... and items[0] in _SCALARS:
            return f"{_SCALARS[items[0]]}[]{optional}"
    raise TypeError(f"the parameter {name} has the type {hint}, for which there is none in CWL")


def _label(name: str) -> str:
    words = [_LABELS.get(word, word) for word in name.split("_")]
    return words[0][0].upper() + " ".join(words)[1:]
