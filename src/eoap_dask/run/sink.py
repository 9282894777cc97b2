"""Who puts encoded tiles onto the output's disk: the client, to whom they travel, or workers that see it as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import uuid4

from eoap_dask.cluster.connect import is_embedded
from eoap_dask.errors import ClusterError
from eoap_dask.redact import redact
from eoap_dask.text import option

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.run.options import RunOptions


def workers_write(options: RunOptions, client: Client) -> bool:
    """Tell whether workers write: as asked for, else where they run on this machine."""
    return options.sink == "workers" or (options.sink == "auto" and is_embedded(client))


def check_shared(client: Client, folder: Path) -> None:
    """Raise `ClusterError` unless all workers can write into a directory of this machine, under the same path.

    The workers need our software: `check_versions` comes first.
    """
    token = uuid4().hex
    proof = folder / f"proof.{token}"
    try:
        proof.write_text(token)
        answers = client.run(_leave_proof, str(proof), token, on_error="return")
        there = client.scheduler_info(n_workers=-1)["workers"]
        for worker, answer in answers.items():
            if worker in there and (fault := _fault_of(answer, proof, token)):
                raise ClusterError(
                    f"The worker {worker} can't write into {folder}: {fault}.",
                    "Expected that workers see the output's disk under the same path.",
                    f"Try {option('sink', 'client')}, or an {option('output_dir')} that they share with this machine.",
                )
    finally:
        for path in folder.glob(f"{proof.name}*"):
            path.unlink(missing_ok=True)


def _leave_proof(proof: str, token: str) -> tuple[str, str]:
    """Read the client's file on a worker, leave one beside it, and return its name and what went wrong."""
    path = Path(proof)
    own = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        if path.read_text() != token:
            return "", "another file is there"
        own.write_text(token)
    except OSError as exc:
        return "", exc.strerror or str(exc)
    return own.name, ""


def _fault_of(answer: Any, proof: Path, token: str) -> str:
    """Return what is wrong with a worker's answer; empty where nothing is."""
    if isinstance(answer, BaseException):
        return redact(answer) or type(answer).__name__
    name, fault = answer
    try:
        if not fault and proof.with_name(name).read_text() != token:
            fault = "what it writes is something else here"
    except OSError as exc:
        fault = f"what it writes can't be read here, {exc.strerror or exc}"
    return str(fault)
