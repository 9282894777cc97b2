"""Who puts encoded tiles onto the output's disk: the client, to whom they travel, or workers that see it as well."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

from loguru import logger

from eoap_dask.cluster import is_embedded
from eoap_dask.errors import ClusterError
from eoap_dask.trust import redact

if TYPE_CHECKING:
    from distributed import Client

    from eoap_dask.params import RunOptions


def workers_write(options: RunOptions, client: Client) -> bool:
    """Tell whether workers write: as asked for, else where they run on this machine."""
    return options.sink == "workers" or (options.sink == "auto" and is_embedded(client))


def check_shared(client: Client, folder: Path) -> None:
    """Pass when all workers can write into a directory of this machine, under the same path.

    Parameters
    ----------
    client : distributed.Client
        Of workers with our software: that is for `check_versions` to say, and comes first.
    folder
        Absolute, and there.

    Raises
    ------
    ClusterError
        when one of them can't
    """
    token = uuid4().hex
    proof = folder / f"proof.{token}"
    proof.write_text(token)
    try:
        answers = client.run(_fault_of, str(proof), token, on_error="return")
    finally:
        proof.unlink()
    for worker, fault in answers.items():
        if isinstance(fault, Exception):  # it is gone, and no worker any more
            logger.debug("The worker {} doesn't say what it sees: {}", worker, redact(fault))
        elif fault:
            raise ClusterError(
                f"The worker {worker} can't write into {folder}: {fault}.",
                "Expected that workers see the output's disk under the same path.",
                "Try --sink client, or an --output-dir that they share with this machine.",
            )


def _fault_of(proof: str, token: str) -> str:
    """Return why a worker can't write beside a file; empty where it can."""
    path = Path(proof)
    own = path.with_name(f"{path.name}.{uuid4().hex}")
    try:
        if path.read_text() != token:
            return "another file is there"
        own.touch(exist_ok=False)
        own.unlink()
    except OSError as exc:
        return exc.strerror or str(exc)
    return ""
