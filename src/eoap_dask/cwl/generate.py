"""From an application to its CWL documents, and from these to text.

One file holds one ``$graph``: a workflow with one step, and its tool, which carries the requirement of a Dask cluster.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from eoap_dask.__about__ import __version__
from eoap_dask.applications.entry import Entry
from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cwl.describe import Input, inputs_of
from eoap_dask.cwl.requirement import CWL_NAME, NAMESPACE
from eoap_dask.cwl.software import IMAGE, software

CWL_VERSION = "v1.2"
OUTPUT = "stac-catalog"
NAME, NAMES = "name", "names"
"""Inputs of the scattered variant, of tool and workflow: what the directory of each result is called."""

TEMPORARY_FAILURES = (4, 5)
"""Search or signing, and the cluster: the same may succeed later."""
PERMANENT_FAILURES = (1, 2, 3, 6)

_ABOUT_NAMES = (
    "What the directories of the results are called: as many names as there are values, all different, of letters, "
    "digits and dashes."
)
_WHOLE_OR_FAILED = """${{
  if (self.length == 0 && !runtime.exitCode) {{
    throw "{name} has failed: it left no output, whatever its exit code says. See its log.";
  }}
  return self.length == 0 ? null : self[0];
}}"""
"""A failed tool has no output, and then its exit code is what counts; but a platform may have lost that one."""
_HEADER = "# Made by `eoap-dask cwl generate` from the parameters of {name}: change those, not this.\n"
_WIDTH = 110
_MOST_INLINE = 88


def package(application: Entry, image: str | None = None) -> dict[str, Any]:
    """Return the application package: a workflow and its tool."""
    about = application.package
    inputs = inputs_of(application.params, application.package.docs)
    workflow = {
        "class": "Workflow",
        "id": about.id,
        "label": application.title,
        "doc": application.summary,
        "requirements": _surroundings(application),
        "inputs": {one.id: one.for_workflow() for one in inputs},
        "outputs": {OUTPUT: _workflow_output(application, "Directory?")},
        "steps": {about.step: _step(application, {one.id: one.id for one in inputs})},
    }
    return _document(application, [workflow, _tool(application, inputs, image)])


def scattered(application: Entry, image: str | None = None) -> dict[str, Any]:
    """Return the variant of an application package that makes one product for each value of a parameter.

    The job names the directory of each result: runners can't hand over several of one name.
    """
    about, scatter = application.package, application.package.scatter
    if scatter is None:
        raise ValueError(f"{application.name} scatters over nothing")
    inputs = inputs_of(application.params, about.docs)
    over = next(one for one in inputs if one.id == scatter.over)
    taken = [
        Input(NAMES, "string[]", "Names", _ABOUT_NAMES, None, {}),
        Input(scatter.id, f"{over.type}[]", scatter.label, f"For each: {over.doc}", None, {}),
        *(one for one in inputs if one is not over),
    ]
    wiring = {NAME: NAMES, **{one.id: scatter.id if one is over else one.id for one in inputs}}
    workflow = {
        "class": "Workflow",
        "id": f"{about.id}-scatter",
        "label": f"{application.title}, several at once",
        "doc": f"{application.summary} Once for each of several values, each on a Dask cluster of its own.",
        "requirements": {"ScatterFeatureRequirement": {}, **_surroundings(application)},
        "inputs": {one.id: one.for_workflow() for one in taken},
        "outputs": {OUTPUT: _workflow_output(application, {"type": "array", "items": ["null", "Directory"]})},
        "steps": {
            about.step: {**_step(application, wiring), "scatter": [NAME, over.id], "scatterMethod": "dotproduct"}
        },
    }
    name = Input(NAME, "string", "Name", "What the directory of the result is called.", None, {})
    return _document(application, [workflow, _tool(application, inputs, image, name)])


def tool(application: Entry, image: str | None = None) -> dict[str, Any]:
    """Return the tool of an application alone."""
    alone = _tool(application, inputs_of(application.params, application.package.docs), image)
    return {"cwlVersion": CWL_VERSION, "$namespaces": _namespaces(), **software(application), **alone}


def files(image: str | None = None) -> dict[str, str]:
    """Return the files of ``cwl-workflows``: name → text."""
    found = {}
    for application in APPLICATIONS.values():
        stem = application.package.stem
        found[f"{stem}.cwl"] = to_text(package(application, image), application)
        if application.package.scatter:
            found[f"{stem}-scatter.cwl"] = to_text(scattered(application, image), application)
    return found


def to_text(document: Mapping[str, Any], application: Entry) -> str:
    """Return a document as YAML, always the same text for the same document."""
    body: str = yaml.dump(
        _inline_short_lists(document), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=_WIDTH, indent=2
    )
    return _HEADER.format(name=application.name) + body


def _document(application: Entry, graph: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "cwlVersion": CWL_VERSION,
        "$namespaces": _namespaces(),
        **software(application),
        "$graph": graph,
    }


def _namespaces() -> dict[str, str]:
    return {"s": "https://schema.org/", "calrissian": f"{NAMESPACE}#"}


def _surroundings(application: Entry) -> dict[str, Any]:
    about = application.package
    return {
        "NetworkAccess": {"networkAccess": True},
        "ResourceRequirement": {
            "coresMin": 1,
            "coresMax": 2,
            "ramMin": about.ram_min_mib,
            "ramMax": about.ram_max_mib,
        },
    }


def _workflow_output(application: Entry, kind: str | dict[str, Any]) -> dict[str, Any]:
    return {
        "type": kind,
        "label": "STAC catalog",
        "doc": _about_output(application),
        "outputSource": f"{application.package.step}/{OUTPUT}",
    }


def _about_output(application: Entry) -> str:
    return f"The directory that {application.name} made: a STAC catalog with its items and their assets."


def _step(application: Entry, wiring: dict[str, str]) -> dict[str, Any]:
    return {
        "label": application.title,
        "doc": f"Runs {application.name} on a Dask cluster.",
        "run": f"#{application.name}",
        "in": wiring,
        "out": [OUTPUT],
    }


def _tool(application: Entry, inputs: list[Input], image: str | None, name: Input | None = None) -> dict[str, Any]:
    about = application.package
    output_dir = application.output_dir if name is None else f"$(inputs.{NAME})"
    taken = inputs if name is None else [name, *inputs]
    return {
        "class": "CommandLineTool",
        "id": application.name,
        "label": application.name,
        "doc": f"{application.summary} Works on the Dask cluster that DASK_CLUSTER names.",
        "requirements": {
            **_surroundings(application),
            # an unknown user id, as platforms give it, has no name to look up
            "EnvVarRequirement": {"envDef": {"LOGNAME": "eoap"}},
            "InlineJavascriptRequirement": {},
            CWL_NAME: {
                "workerCores": about.worker_cores,
                "workerCoresLimit": about.worker_cores,
                "workerMemory": about.worker_memory,
                "clusterMaxCores": about.cluster_max_cores,
                "clusterMaxMemory": about.cluster_max_memory,
            },
        },
        "hints": {"DockerRequirement": {"dockerPull": _tagged(image or IMAGE, about.image)}},
        "baseCommand": application.name,
        "arguments": ["--output-dir", output_dir],
        "inputs": {one.id: one.for_tool(position) for position, one in enumerate(taken, 1)},
        "outputs": {
            OUTPUT: {
                "type": "Directory?",
                "label": "STAC catalog",
                "doc": f"{_about_output(application)} It exists only when it is complete.",
                "outputBinding": {"glob": output_dir, "outputEval": _WHOLE_OR_FAILED.format(name=application.name)},
            }
        },
        "temporaryFailCodes": list(TEMPORARY_FAILURES),
        "permanentFailCodes": list(PERMANENT_FAILURES),
    }


def _tagged(image: str, kind: str) -> str:
    tag = f"{__version__}-{kind}" if kind else __version__
    return image if ":" in image.rsplit("/", 1)[-1] else f"{image}:{tag}"


class _Dumper(yaml.SafeDumper):
    """Indents lists, and writes no references to what occurs twice."""

    def increase_indent(self, flow: bool = False, indentless: bool = False) -> None:  # noqa: ARG002
        super().increase_indent(flow, False)

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


class _Short(list[Any]):
    """A list that fits on one line."""


def _represent_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, style="|" if "\n" in text else None)


_Dumper.add_representer(str, _represent_text)
_Dumper.add_representer(
    _Short, lambda dumper, data: dumper.represent_sequence("tag:yaml.org,2002:seq", data, flow_style=True)
)


def _inline_short_lists(node: Any) -> Any:
    if isinstance(node, Mapping):
        return {key: _inline_short_lists(value) for key, value in node.items()}
    if isinstance(node, list):
        plain = all(isinstance(one, str | int | float) for one in node)
        return (
            _Short(node)
            if plain and sum(len(str(one)) + 2 for one in node) < _MOST_INLINE
            else [_inline_short_lists(one) for one in node]
        )
    return node
