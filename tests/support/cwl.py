"""What tests of CWL share: small documents, and runs of them."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from tests.support.command_line import Done, Shell

ROOT = Path(__file__).parents[2]
WORKFLOWS = ROOT / "cwl-workflows"
CALRISSIAN = "https://calrissian-cwl.github.io/schema#"
DASK = "calrissian:DaskGatewayRequirement"
SMALL = {
    "workerCores": 1,
    "workerCoresLimit": 1,
    "workerMemory": "512M",
    "clusterMaxCores": 1,
    "clusterMaxMemory": "512M",
}
"""One worker."""


def shell_tool(script: str, fields: dict[str, Any] | None = SMALL, **changes: Any) -> dict[str, Any]:
    """A tool that runs a script of the shell, on a cluster unless `fields` is None."""
    return {
        "cwlVersion": "v1.2",
        "$namespaces": {"calrissian": CALRISSIAN},
        "class": "CommandLineTool",
        "id": "toy",
        "requirements": {} if fields is None else {DASK: fields},
        "baseCommand": ["sh", "-c", script],
        "inputs": {},
        "outputs": {"out": {"type": "File", "outputBinding": {"glob": "out"}}},
        **changes,
    }


def in_workflow(tool: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A workflow of one step, and its tool."""
    tool = dict(tool)
    about = {key: tool.pop(key) for key in ("cwlVersion", "$namespaces")}
    workflow = {
        "class": "Workflow",
        "id": "flow",
        "inputs": {},
        "outputs": {"out": {"type": "File", "outputSource": "one/out"}},
        "steps": {"one": {"run": "#toy", "in": {}, "out": ["out"]}},
        **changes,
    }
    return {**about, "$graph": [workflow, tool]}


def write(path: Path, document: dict[str, Any]) -> Path:
    """Write a document; JSON is YAML."""
    path.write_text(json.dumps(document, indent=1))
    return path


def outputs(done: Done) -> dict[str, Any]:
    """What cwltool says of the outputs."""
    return dict(json.loads(done.stdout))


def clusters(done: Done) -> list[str]:
    """The names of the clusters that a run started."""
    return re.findall(r"starting the Dask cluster (\w+)", done.stderr)


def last_line(done: Done) -> str:
    """The last thing that a run said."""
    return done.stderr.splitlines()[-1]


def assert_nothing_left(shell: Shell) -> None:
    """No process and no temporary file of a run is left."""
    assert [" ".join(one.cmdline()) for one in shell.processes(within_s=30)] == []
    assert list(shell.tmp.iterdir()) == []
