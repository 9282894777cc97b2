"""What tests of Gateways share."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

from eoap_dask.cluster.gateway.api import GatewayApi
from eoap_dask.cluster.gateway.server import LocalGateway

NOT_FOR_CLUSTERS = {
    "SECRET_OF_OURS": "hidden",
    "http_proxy": "http://127.0.0.1:9",  # would be in the way everywhere
    "DASK_DISTRIBUTED__LOGGING__DISTRIBUTED": "debug",
}
"""What the Gateway's own environment holds while it starts."""


def names(gateway: LocalGateway) -> set[str]:
    """The clusters of a Gateway that are starting or running."""
    with gateway.configured(), GatewayApi() as api:
        return {one.name for one in api.clusters()}


def clean_environment(gateway: LocalGateway | None = None) -> dict[str, str]:
    """This process's environment without settings, but those for a Gateway."""
    kept = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
    return kept | (gateway.client_environment if gateway else {})


def start_program(text: str, env: dict[str, str], cwd: Path) -> subprocess.Popen[str]:
    """Start a program that says what it does, line by line."""
    return subprocess.Popen(
        [sys.executable, "-c", text], env=env, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_until(is_true: Callable[[], bool], timeout: float = 20) -> None:
    """Wait for something that comes about by itself."""
    deadline = time.monotonic() + timeout
    while not is_true():
        assert time.monotonic() < deadline, "it didn't come about"
        time.sleep(0.1)


def end(process: subprocess.Popen[str], number: int = signal.SIGTERM) -> tuple[int, str]:
    """Send a signal and return the exit code and what was said on stderr."""
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    return process.returncode, said
