"""``calrissian:DaskGatewayRequirement``: five fields, and the arithmetic that calrissian does with them.

calrissian hands the fields to a script as text, which fails without a usable message where it can't read them.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

from eoap_dask.cluster.gateway.client import PLATFORM_VARIABLES
from eoap_dask.errors import UsageError
from eoap_dask.text import parse_memory, plural, show_memory

NAMESPACE = "https://calrissian-cwl.github.io/schema"
CLASS = f"{NAMESPACE}#DaskGatewayRequirement"
SHORT_NAME = "DaskGatewayRequirement"
CWL_NAME = f"calrissian:{SHORT_NAME}"

CORES = ("workerCores", "workerCoresLimit", "clusterMaxCores")
MEMORY = ("workerMemory", "clusterMaxMemory")
FIELDS = ("workerCores", "workerCoresLimit", "workerMemory", "clusterMaxCores", "clusterMaxMemory")
"""All five are required, and there is no other."""

_EXPRESSION = re.compile(r"\$[({]")
_EXAMPLES = {**dict.fromkeys(CORES, "2"), **dict.fromkeys(MEMORY, "4G")}


@dataclass(frozen=True)
class Remark:
    """Something that is wrong with a requirement, for every runner or for calrissian alone."""

    text: str
    """A sentence that goes on from the name of the tool."""
    is_fatal: bool = True
    """Whether no runner could run it."""


@dataclass(frozen=True)
class ClusterSize:
    """Evaluated fields of a requirement."""

    worker_cores: int
    worker_cores_limit: int
    worker_memory: str
    """As written, such as ``4G``."""
    cluster_max_cores: int
    cluster_max_memory: str

    @property
    def workers(self) -> int:
        """How many workers calrissian asks for: as many as fit into both limits of the cluster."""
        by_cores = self.cluster_max_cores // self.worker_cores_limit
        return min(by_cores, parse_memory(self.cluster_max_memory) // parse_memory(self.worker_memory))

    @property
    def environment(self) -> dict[str, str]:
        """The variables in which calrissian tells a tool of its cluster's size."""
        fields = (
            self.worker_cores,
            self.worker_cores_limit,
            self.worker_memory,
            self.cluster_max_cores,
            self.cluster_max_memory,
        )
        return {PLATFORM_VARIABLES[name]: str(value) for name, value in zip(FIELDS, fields, strict=True)}

    def __str__(self) -> str:
        return f"{plural(self.workers, 'worker')} of {plural(self.worker_cores, 'core')} and {self.worker_memory}"


def schema() -> str:
    """Return the schema of the requirement, as cwltool takes it."""
    return files("eoap_dask.cwl").joinpath("dask-gateway.yml").read_text("utf-8")


def is_requirement(name: object, namespaces: Mapping[str, Any] | None = None) -> bool:
    """Tell whether the class of a requirement is this one, written in full or with a prefix of the document."""
    if not isinstance(name, str):
        return False
    prefix, colon, rest = name.partition(":")
    known = (namespaces or {}).get(prefix) if colon else None
    return (f"{known}{rest}" if isinstance(known, str) else name) in {CLASS, SHORT_NAME}


def is_expression(value: object) -> bool:
    """Tell whether a field is an expression, still to be evaluated."""
    return isinstance(value, str) and bool(_EXPRESSION.search(value))


def remarks(fields: Mapping[str, Any]) -> list[Remark]:
    """Return what is wrong with the fields of a requirement, fatal remarks first; a key ``class`` is skipped."""
    given = {name: value for name, value in fields.items() if name != "class"}
    found = [Remark(_unknown(name)) for name in given if name not in FIELDS]
    found += [Remark(_missing(name)) for name in FIELDS if name not in given and not _is_misspelt(name, given)]
    for name in FIELDS:
        if name in given:
            found += _remarks_on(name, given[name])
    if not any(one.is_fatal for one in found) and not any(is_expression(given[name]) for name in FIELDS):
        found += _remarks_on_size(understood(given))
    return sorted(found, key=lambda one: not one.is_fatal)


def understood(fields: Mapping[str, Any]) -> ClusterSize:
    """Return the size that the checked and evaluated fields of a requirement mean."""
    return ClusterSize(
        worker_cores=int(fields["workerCores"]),
        worker_cores_limit=int(fields["workerCoresLimit"]),
        worker_memory=str(fields["workerMemory"]),
        cluster_max_cores=int(fields["clusterMaxCores"]),
        cluster_max_memory=str(fields["clusterMaxMemory"]),
    )


def _remarks_on(name: str, value: Any) -> list[Remark]:
    if is_expression(value):
        return [Remark(f"has the expression {value!r} as {name}: calrissian hands it to the Gateway as text", False)]
    try_this = f"such as {name}: {_EXAMPLES[name]}"
    if name in CORES:
        if isinstance(value, bool) or not isinstance(value, int):
            return [Remark(f"has {name} {value!r}, where a whole number was expected, {try_this}")]
        return [] if value > 0 else [Remark(f"has {name} {value}, where at least 1 was expected, {try_this}")]
    if not isinstance(value, str):
        return [Remark(f"has {name} {value!r}, where text was expected, {try_this}")]
    try:
        size = parse_memory(value)
    except UsageError:
        return [Remark(f"has {name} {value!r}, which isn't an amount of memory, {try_this}")]
    if not re.fullmatch(r"[1-9]\d*[KMGT]", value):
        better = f"try {show_memory(size)}"
        return [
            Remark(f"has {name} {value!r}: calrissian reads only a whole number with K, M, G or T; {better}", False)
        ]
    return []


def _remarks_on_size(size: ClusterSize) -> list[Remark]:
    if size.worker_cores > size.worker_cores_limit:
        return [
            Remark(
                f"asks for workers of {size.worker_cores} cores with a limit of {size.worker_cores_limit}; "
                "workerCoresLimit was expected to be at least workerCores"
            )
        ]
    if size.workers < 1:
        by_cores = size.cluster_max_cores < size.worker_cores_limit
        of = (
            f"clusterMaxCores {size.cluster_max_cores} is less than workerCoresLimit {size.worker_cores_limit}"
            if by_cores
            else f"clusterMaxMemory {size.cluster_max_memory} is less than workerMemory {size.worker_memory}"
        )
        return [Remark(f"leaves room for no worker: {of}")]
    return []


def _unknown(name: str) -> str:
    close = difflib.get_close_matches(name, FIELDS, n=1, cutoff=0.8)
    return f"has no field {name}" + (f", did you mean {close[0]}?" if close else f"; expected {', '.join(FIELDS)}")


def _is_misspelt(name: str, given: Mapping[str, Any]) -> bool:
    """Tell whether an unknown field has already been reported as this one, misspelt."""
    unknown = [other for other in given if other not in FIELDS]
    return any(name in difflib.get_close_matches(other, FIELDS, n=1, cutoff=0.8) for other in unknown)


def _missing(name: str) -> str:
    return f"lacks the field {name}, such as {name}: {_EXAMPLES[name]}"
