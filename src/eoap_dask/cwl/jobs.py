"""Job files: the values of a workflow's inputs."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from eoap_dask.cwl.document import inputs_of, read_yaml
from eoap_dask.errors import UsageError


def check_job(path: Path, process: Mapping[str, Any], name: str) -> None:
    """Refuse a job file with inputs that the process hasn't, or without those that it needs.

    A runner ignores the former, and a misspelt input would silently have its default.

    Parameters
    ----------
    path
        The job file.
    process
        As in a document.
    name
        Of the process, for messages.

    Raises
    ------
    UsageError
        for these, and for a file that isn't a job
    """
    job = read_yaml(path, "job file")
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


def _is_about(key: str) -> bool:
    """Whether a key tells the runner something: ``cwl:requirements``, ``$namespaces``, ``id``."""
    return ":" in key or key.startswith("$") or key == "id"


def _listed(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
