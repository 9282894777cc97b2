"""What many tests share: a small demo archive, its server, and the command line."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eoap_dask.demo import Archive, DemoServer, make_archive

SHARED = Path(os.environ.get("EOAP_DASK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Real data that isn't part of the repository; tests that need it skip without it."""

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A small archive: two tiles in two UTM zones, three months, 40 m pixels."""
    return make_archive(tmp_path_factory.mktemp("archive") / "demo", size_px=512, resolution_m=60.0, dates_per_month=4)


@pytest.fixture
def server(archive: Archive) -> Iterator[DemoServer]:
    """The small archive, served."""
    with DemoServer(archive) as running:
        yield running


@pytest.fixture(scope="session")
def cli() -> Cli:
    """Run a command as a user would: a process of its own, no terminal."""

    def run(
        *arguments: object, timeout: float = 120, env: dict[str, str] | None = None
    ) -> subprocess.CompletedProcess[str]:
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
        return subprocess.run(
            [sys.executable, "-m", "eoap_dask", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            env={**clean, **(env or {})},
        )

    return run


@pytest.fixture(scope="session")
def shared() -> Path:
    """The directory of real data, or skip."""
    if not SHARED.is_dir():
        pytest.skip("the real data are not here")
    return SHARED
