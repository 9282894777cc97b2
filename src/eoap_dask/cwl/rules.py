"""What a CWL file should be beyond the schema: for calrissian, and for platforms of OGC's best practice (20-089r1)."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from eoap_dask.cwl.document import Document, Use, entries, id_of, of_class, requirements_of, short
from eoap_dask.cwl.requirement import CWL_NAME, remarks
from eoap_dask.text import plural

LEAST_RAM_MIB = 256
"""calrissian's sidecar, which disposes of the cluster, gets the tool's limits, and dies with less."""

_RESOURCES = ("coresMin", "coresMax", "ramMin", "ramMax")
_VERSIONS = ("https://schema.org/softwareVersion", "https://schema.org/version")


@dataclass(frozen=True)
class Finding:
    """Something to mend in a CWL file."""

    level: Literal["error", "warning"]
    where: str
    """Process, step, or file."""
    text: str
    """A sentence that goes on from that name."""

    def __str__(self) -> str:
        return f"{self.where} {self.text}{'' if self.text.endswith('?') else '.'}"

    def to_dict(self) -> dict[str, str]:
        """Return it as JSON-like values."""
        return {"level": self.level, "where": self.where, "message": str(self)}


def check_requirements(document: Document) -> list[Finding]:
    """Return the findings where a Dask cluster is asked for, errors first."""
    return in_order(_on_requirements(document))


def check_package(document: Document) -> list[Finding]:
    """Return the findings that keep a CWL file from being an application package, errors first."""
    found = list(_on_file(document))
    for process in document.processes:
        found += _on_process(process, document)
    return in_order(found)


def in_order(found: Iterable[Finding]) -> list[Finding]:
    """Return findings, each once, errors first."""
    return sorted(dict.fromkeys(found), key=lambda one: one.level)


def _error(where: str, text: str) -> Finding:
    return Finding("error", where, text)


def _warning(where: str, text: str) -> Finding:
    return Finding("warning", where, text)


# ----------------------------------------------------------------------------------------------------
# The Dask cluster


def _on_requirements(document: Document) -> Iterator[Finding]:
    for use in document.uses():
        if use.is_hint:
            yield _error(use.where, f"has {CWL_NAME} in hints, on which calrissian fails; expected it in requirements")
        for remark in remarks(use.fields):
            yield _error(use.where, remark.text)
        if use.owner.get("class") == "CommandLineTool":
            yield from _on_dask_tool(use)
        else:
            yield _warning(use.where, f"hands {CWL_NAME} down to all of its tools; expected it in those that use Dask")


def _on_dask_tool(use: Use) -> Iterator[Finding]:
    tool, where = use.owner, use.where
    for name in ("stdout", "stderr"):
        if "/" in str(tool.get(name, "")):
            yield _error(
                where, f"writes {name} into a directory, {tool[name]!r}, on which calrissian fails for such tools"
            )
    if not _image(tool):
        yield _error(where, "has no DockerRequirement with dockerPull, which calrissian takes for the cluster as well")
    if "LOGNAME" not in _environment(tool):
        yield _warning(
            where, "doesn't set LOGNAME in an EnvVarRequirement; a user id without a name fails to start a cluster"
        )
    for name, output in entries(tool.get("outputs"), "id", "type"):
        binding = output.get("outputBinding")
        if isinstance(binding, Mapping) and binding.get("glob") in (".", "./", "*", ["."]):
            yield _warning(
                where,
                f"takes whatever it left as {short(name)} (glob {binding['glob']!r}): calrissian says success when "
                "such a tool has failed; expected a directory that exists only when it is complete",
            )
    memory = requirements_of(tool).get("ResourceRequirement", {}).get("ramMin")
    if isinstance(memory, int | float) and memory < LEAST_RAM_MIB:
        yield _warning(where, f"asks for {memory} MiB (ramMin); calrissian's sidecar needs at least {LEAST_RAM_MIB}")


# ----------------------------------------------------------------------------------------------------
# An application package


def _on_file(document: Document) -> Iterator[Finding]:
    name = document.path.name
    tools, workflows = of_class(document.processes, "CommandLineTool"), of_class(document.processes, "Workflow")
    if "$graph" not in document.data:
        yield _warning(name, "isn't an application package: expected one $graph with a Workflow and its tools")
        return
    if len(workflows) != 1 or not tools:
        yield _warning(
            name,
            f"has {plural(len(workflows), 'workflow')} and {plural(len(tools), 'tool')} in its $graph; "
            "expected one workflow and at least one tool",
        )
    if "$schemas" in document.data:
        yield _warning(name, "has $schemas, which every reader would fetch; expected none")
    version = next((str(value) for key, value in document.data.items() if _expanded(key, document) in _VERSIONS), None)
    if version is None:
        yield _error(name, "doesn't say its version; expected s:softwareVersion, with s: https://schema.org/")
        return
    for tool in tools:
        tag = _tag(_image(tool))
        is_of_it = re.fullmatch(rf"{re.escape(version)}(-[a-z]+)?", tag)  # 1.0.0-btc as well
        if tag and not is_of_it and "@" not in _image(tool):
            yield _warning(
                id_of(tool), f"runs the image tag {tag}, but {name} says version {version}; expected the same"
            )


def _on_process(process: Mapping[str, Any], document: Document) -> Iterator[Finding]:
    where = id_of(process) or document.path.name
    if not id_of(process):
        yield _error(where, f"has a {process.get('class')} without an id")
    elif id_of(process) == "main":
        yield _error(where, "is no name for a process on a platform; expected one that says what it does")
    kind = process.get("class")
    if kind == "Workflow":
        yield from _on_texts(where, process, "")
        for part in ("inputs", "outputs", "steps"):
            for name, about in entries(process.get(part), "id", "type"):
                yield from _on_texts(where, about, f"{part.removesuffix('s')} {short(name)}")
        for name, about in entries(process.get("inputs"), "id", "type"):
            if _is_boolean(about.get("type")):
                yield _warning(
                    where, f'takes the boolean {short(name)}; some platforms make true of "false": expected an enum'
                )
        yield from _on_references(where, process)
    elif kind == "CommandLineTool":
        if process.get("baseCommand") in (None, "", []):
            yield _error(where, "has no baseCommand")
        yield from _on_surroundings(where, process, document)
        image = _image(process)
        if image and "@" not in image and _tag(image) in ("", "latest"):
            yield _warning(where, f"runs the image {image}, which changes; expected a tag of one version")


def _on_texts(where: str, node: Mapping[str, Any], part: str) -> Iterator[Finding]:
    missing = [name for name in ("label", "doc") if not str(node.get(name) or "").strip()]
    if missing:
        level = _warning if part.startswith("step") else _error
        yield level(where, f"has no {' and no '.join(missing)}{f' for its {part}' if part else ''}")


def _on_references(where: str, process: Mapping[str, Any]) -> Iterator[Finding]:
    for name, step in entries(process.get("steps"), "id"):
        run = step.get("run")
        if not isinstance(run, str) or not run.startswith("#"):
            shown = f"{run!r}" if isinstance(run, str) else "a process within the step"
            yield _warning(where, f"runs {shown} in its step {short(name)}; expected a tool of the same file, as #id")


def _on_surroundings(where: str, tool: Mapping[str, Any], document: Document) -> Iterator[Finding]:
    above = of_class(document.processes, "Workflow")
    inherited = {key: value for one in above for key, value in requirements_of(one).items()}
    own = {**inherited, **requirements_of(tool)}
    resources = own.get("ResourceRequirement", {})
    lacking = [name for name in _RESOURCES if name not in resources]
    if lacking:
        yield _error(where, f"doesn't say {', '.join(lacking)} in a ResourceRequirement")
    if "NetworkAccess" not in own and any(use.owner is tool for use in document.uses()):
        yield _error(where, "works on a Dask cluster without NetworkAccess; expected networkAccess: true")


def _is_boolean(kind: Any) -> bool:
    kinds = kind if isinstance(kind, list) else [kind]
    return any(isinstance(one, str) and one.removesuffix("?").removesuffix("[]") == "boolean" for one in kinds)


def _image(tool: Mapping[str, Any]) -> str:
    for place in ("requirements", "hints"):
        found = requirements_of(tool, place).get("DockerRequirement", {}).get("dockerPull")
        if found:
            return str(found)
    return ""


def _tag(image: str) -> str:
    match = re.search(r":([\w.-]+)$", image.partition("@")[0])
    return match[1] if match else ""


def _environment(tool: Mapping[str, Any]) -> set[str]:
    defined = requirements_of(tool).get("EnvVarRequirement", {}).get("envDef")
    return {name for name, _ in entries(defined, "envName", "envValue")}


def _expanded(key: str, document: Document) -> str:
    prefix, colon, rest = key.partition(":")
    return f"{document.namespaces.get(prefix, prefix)}{rest}" if colon else key
