"""Quick to start: help and version cost no heavy import."""

from __future__ import annotations

import resource
import subprocess
import sys

import pytest

from eoap_dask import __version__


def timed(*arguments: str) -> tuple[float, str]:
    """Run a command; return its processor time, which a busy machine doesn't stretch, and what it said."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, "-m", "eoap_dask", *arguments], capture_output=True, text=True, check=True, timeout=60
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime, done.stdout


@pytest.mark.parametrize("arguments", [["--help"], ["cloudless-mosaic", "--help"], ["bai", "--help"]])
def test_help_comes_at_once(arguments: list[str]) -> None:
    runs = [timed(*arguments) for _ in range(5)]
    assert min(seconds for seconds, _ in runs) < 0.5
    assert runs[0][1].startswith("Usage: eoap-dask")


def test_help_tells_options_examples_and_exit_codes() -> None:
    _, text = timed("cloudless-mosaic", "-h")
    assert "[default: 100.0]" in " ".join(text.split())
    for part in ("--start-date DATE", "Examples:", "Exit codes:", "EOAP_DASK_"):
        assert part in text


def test_version() -> None:
    assert timed("--version")[1] == f"eoap-dask, version {__version__}\n"


@pytest.mark.parametrize("module", ["eoap_dask", "eoap_dask.cli.main", "eoap_dask.applications.registry"])
def test_imports_stay_light(module: str) -> None:
    program = (
        f"import sys, {module}; heavy = {{'numpy', 'xarray', 'rasterio', 'dask', 'distributed', 'shapely', 'pyproj', "
        "'pystac', 'requests', 'odc', 'rioxarray', 'rio_stac', 'xrspatial'} & set(sys.modules); "
        "sys.exit(f'imported: {sorted(heavy)}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0, done.stderr
