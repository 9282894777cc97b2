"""CWL files as plain data: checks that come before validation against the schema, and say more than it."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import yaml

from eoap_dask.cwl.requirement import is_requirement
from eoap_dask.errors import UsageError
from eoap_dask.text import plural

PROCESSES = ("Workflow", "CommandLineTool", "ExpressionTool", "Operation")
_MOST_BYTES = 8 << 20


@dataclass(frozen=True)
class Use:
    """A place where a Dask cluster is asked for."""

    where: str
    """The tool, workflow or step, for messages."""
    fields: Mapping[str, Any]
    is_hint: bool
    owner: Mapping[str, Any]
    """The process or step."""


@dataclass(frozen=True)
class Document:
    """A CWL file."""

    path: Path
    """Path of a local file; name of a remote one."""
    data: Mapping[str, Any]

    @property
    def processes(self) -> list[Mapping[str, Any]]:
        """The processes at its top, in order."""
        graph = self.data.get("$graph")
        return [one for one in graph if isinstance(one, Mapping)] if isinstance(graph, list) else [self.data]

    @property
    def namespaces(self) -> Mapping[str, Any]:
        """Its ``$namespaces``."""
        found = self.data.get("$namespaces")
        return found if isinstance(found, Mapping) else {}

    def process(self, name: str) -> Mapping[str, Any]:
        """Return the process with an id; without one, the only process, the only workflow, or ``main``."""
        known = {id_of(one): one for one in self.processes}
        if name:
            if name not in known:
                close = difflib.get_close_matches(name, known, n=1)
                raise UsageError(
                    f"{self.path} has no process {name}.",
                    f"Expected {' or '.join(sorted(known))}.",
                    f"Did you mean {close[0]}?" if close else "",
                )
            return known[name]
        chosen = list(known.values()) if len(known) == 1 else of_class(self.processes, "Workflow")
        if "main" in known:
            chosen = [known["main"]]
        if len(chosen) != 1:
            raise UsageError(
                f"{self.path} holds {plural(len(chosen), 'workflow')}.",
                "Expected one, or the name of the one that is meant.",
                f"Try {self.path}#{min(known)}.",
            )
        return chosen[0]

    def others(self) -> list[str]:
        """Return references to what its steps run from other files."""
        found: list[str] = []
        for process in self.processes:
            for _, step in entries(process.get("steps"), "id"):
                run = step.get("run")
                if isinstance(run, str) and not run.startswith("#"):
                    found.append(run)
        return found

    def uses(self) -> list[Use]:
        """Return where a Dask cluster is asked for, in processes, steps, and files that these run."""
        return list(self._uses(self.data, "", {self.path.resolve()}))

    def _uses(self, node: Any, where: str, seen: set[Path]) -> Iterator[Use]:
        if isinstance(node, list):
            for one in node:
                yield from self._uses(one, where, seen)
        if not isinstance(node, Mapping):
            return
        where = self._name(node, where)
        for place in ("requirements", "hints"):
            for name, fields in entries(node.get(place), "class"):
                if is_requirement(name, self.namespaces):
                    yield Use(where, fields, place == "hints", node)
        for key, value in node.items():
            if key == "run" and isinstance(value, str):
                yield from self._elsewhere(value, seen)
            elif key == "steps":
                for name, step in entries(value, "id"):
                    yield from self._uses({"id": name, **step}, where, seen)
            elif key in {"$graph", "run"}:
                yield from self._uses(value, where, seen)

    def _elsewhere(self, reference: str, seen: set[Path]) -> Iterator[Use]:
        parts = urlsplit(reference)
        if not parts.path or parts.scheme not in {"", "file"}:
            return
        path = (self.path.parent / unquote(parts.path)).resolve()
        if path not in seen and path.is_file():
            seen.add(path)
            other = load(path)
            yield from other._uses(other.data, "", seen)  # noqa: SLF001 - of the same class

    def _name(self, node: Mapping[str, Any], parent: str) -> str:
        name = id_of(node)
        if not name:
            return parent or self.path.name
        return name if node.get("class") or not parent else f"{parent}/{name}"


def load(path: Path) -> Document:
    """Read a local CWL file; `UsageError` when it can't be read, or isn't CWL."""
    return understood(read_yaml(path, "CWL file"), path)


def understood(data: Any, path: Path) -> Document:
    """Return parsed data as a CWL file, else raise `UsageError`; `path` of a remote file is its name alone."""
    is_cwl = isinstance(data, Mapping) and ("$graph" in data or data.get("class") in PROCESSES)
    if not is_cwl:
        raise UsageError(
            f"{path} isn't a CWL file.",
            "Expected cwlVersion, and a class such as Workflow or CommandLineTool, or a $graph.",
            "Is it the job file? The workflow comes first." if isinstance(data, Mapping) else "",
        )
    if not isinstance(data.get("cwlVersion"), str):
        raise UsageError(f"{path} doesn't say its cwlVersion.", "Expected v1.2, or v1.0 or v1.1.", "")
    document = Document(path, data)
    if not document.processes:
        raise UsageError(f"{path} has an empty $graph.", "Expected a Workflow and its CommandLineTools.", "")
    return document


def read_yaml(path: Path, kind: str) -> Any:
    """Read a file of YAML or JSON, in which a date is text, as for CWL runners; `kind` is for messages."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise UsageError(f"The {kind} {path} is larger than {_MOST_BYTES >> 20} MiB.", "Expected less.", "")
        text = path.read_text("utf-8")
    except OSError as exc:
        raise UsageError(f"The {kind} {path} can't be read: {exc.strerror}.", "", "Check its path.") from exc
    except UnicodeDecodeError:
        raise UsageError(f"The {kind} {path} isn't text.", "Expected YAML or JSON.", "") from None
    return parse_yaml(text, path, kind)


def parse_yaml(text: str, path: Path, kind: str) -> Any:
    """Parse YAML or JSON, in which a date is text, as for CWL runners; `path` and `kind` are for messages."""
    try:
        return yaml.load(text, Loader=_Loader)  # noqa: S506 - a SafeLoader
    except yaml.YAMLError as exc:
        mark = getattr(exc, "problem_mark", None)
        where = f", line {mark.line + 1}" if mark else ""
        problem = getattr(exc, "problem", None) or "it can't be parsed"
        raise UsageError(f"The {kind} {path} isn't YAML{where}: {problem}.", "Expected YAML or JSON.", "") from None


def inputs_of(process: Mapping[str, Any]) -> dict[str, bool]:
    """Return the inputs of a process: name → whether a job must give it."""
    found = {}
    for name, about in entries(process.get("inputs"), "id", "type"):
        kind = about.get("type")
        optional = kind == "null" or (isinstance(kind, str) and kind.endswith("?"))
        optional = optional or (isinstance(kind, list) and any(one == "null" for one in kind))
        found[short(name)] = not optional and about.get("default") is None
    return found


def requirements_of(owner: Mapping[str, Any], place: str = "requirements") -> dict[str, Mapping[str, Any]]:
    """Return the requirements, or hints, of a process, which may be a list or a mapping: class → fields."""
    return dict(entries(owner.get(place), "class"))


def of_class(processes: list[Mapping[str, Any]], name: str) -> list[Mapping[str, Any]]:
    """Return the processes of a class."""
    return [one for one in processes if one.get("class") == name]


def id_of(node: Mapping[str, Any]) -> str:
    """Return the id of a process or step as it is referred to, without ``#``."""
    found = node.get("id")
    return found.removeprefix("#") if isinstance(found, str) else ""


def short(name: str) -> str:
    """Return the last part of an id, which may be written with those of its parents."""
    return name.rsplit("#", 1)[-1].rsplit("/", 1)[-1]


def entries(node: Any, key: str, value: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Yield pairs of name and fields from what CWL allows as a list (named by `key`) or as a mapping.

    A mapping's entry that isn't a mapping itself becomes the field `value`.
    """
    if isinstance(node, Mapping):
        for name, fields in node.items():
            yield str(name), fields if isinstance(fields, Mapping) else {value: fields} if value else {}
    elif isinstance(node, list):
        for fields in node:
            if isinstance(fields, Mapping) and isinstance(fields.get(key), str):
                yield fields[key], fields


class _Loader(yaml.SafeLoader):
    """Takes dates as text."""


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in known if tag != "tag:yaml.org,2002:timestamp"]
    for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
