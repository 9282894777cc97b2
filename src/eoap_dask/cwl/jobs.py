"""Job files: the values of a workflow's inputs."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from eoap_dask.cwl.document import entries, id_of, inputs_of, read_yaml, short
from eoap_dask.errors import UsageError

_NAME = re.compile(r"\w[\w.-]*")
_IS_INPUT = re.compile(r"\$\(inputs\.([\w-]+)\)")


def check_job(path: Path, process: Mapping[str, Any], name: str, processes: Iterable[Mapping[str, Any]] = ()) -> None:
    """Refuse a job file with unknown or missing inputs, or with names that results can't have.

    Runners ignore unknown inputs, so that a misspelt one would silently have its default.
    """
    check_inputs(read_yaml(path, "job file"), path, process, name, processes)


def check_inputs(
    job: Any, path: Path, process: Mapping[str, Any], name: str, processes: Iterable[Mapping[str, Any]] = ()
) -> None:
    """Refuse the inputs of a job as `check_job` those of a file; `path` and `name` are for messages."""
    if job is None:
        job = {}
    if not isinstance(job, Mapping):
        raise UsageError(
            f"The job file {path} holds no inputs.", "Expected lines such as resolution: 100.", "See docs/cwl.md."
        )
    known = inputs_of(process)
    given = {key for key in map(str, job) if not _is_about(key)}
    unknown = sorted(given - known.keys())
    if unknown:
        close = difflib.get_close_matches(unknown[0].replace("_", "-"), known, n=1)
        raise UsageError(
            f"The job file {path} gives {_listed(unknown)}, which {name} doesn't take.",
            f"Expected {', '.join(known)}.",
            f"Did you mean {close[0]}?" if close else "",
        )
    missing = sorted(key for key, is_needed in known.items() if is_needed and job.get(key) is None)
    if missing:
        raise UsageError(f"The job file {path} lacks {_listed(missing)}, which {name} needs.")
    for key, about in entries(process.get("inputs"), "id", "type"):
        given_as_text, kind = job.get(short(key)), str(about.get("type"))
        if isinstance(given_as_text, str) and kind.removesuffix("?").endswith("[]"):
            raise UsageError(
                f"The job file {path} gives {short(key)} as text, {given_as_text!r}.",
                "Expected a list, also of one.",
                f"Try {short(key)}: [{given_as_text}].",
            )
    for key in names_of_results(process, processes):
        if isinstance(job.get(key), list):
            check_names(key, job[key], f"The job file {path}")


def names_of_results(process: Mapping[str, Any], processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the inputs of a workflow whose values name the results of a scattered step."""
    tools = {id_of(one): one for one in processes}
    found = []
    for _, step in entries(process.get("steps"), "id"):
        run, scatter = step.get("run"), step.get("scatter")
        tool = run if isinstance(run, Mapping) else tools.get(str(run).removeprefix("#"), {})
        scattered = {short(str(one)) for one in (scatter if isinstance(scatter, list) else [scatter])}
        for _, output in entries(tool.get("outputs"), "id", "type"):
            match = _IS_INPUT.fullmatch(str((output.get("outputBinding") or {}).get("glob")))
            if match and match[1] in scattered:
                wiring = dict(entries(step.get("in"), "id", "source"))
                found.append(short(str(wiring.get(match[1], {}).get("source"))))
    return found


def check_names(key: str, values: Sequence[Any], who: str) -> None:
    """Refuse names of results that runners couldn't hand over, before the work instead of after it; `who` gave them."""
    seen = set()
    for value in values:
        if not isinstance(value, str):
            continue  # the runner says what it should be
        if not _NAME.fullmatch(value):
            raise UsageError(
                f"{who} gives {value!r} in {key}, which can't name a directory.",
                "Expected letters, digits and dashes, such as north-1.",
            )
        if value in seen:
            raise UsageError(
                f"{who} gives {value!r} twice in {key}.",
                "Expected different names, since each is the directory of a result.",
                f"Try {value}-2.",
            )
        seen.add(value)


def _is_about(key: str) -> bool:
    """Tell whether a key is meant for the runner: ``cwl:requirements``, ``$namespaces``, ``id``."""
    return ":" in key or key.startswith("$") or key == "id"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
