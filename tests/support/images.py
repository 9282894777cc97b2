"""The image of the present source, and podman; both skip where they aren't."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

IMAGE = os.environ.get("EOAP_DASK_TEST_IMAGE", "localhost/eoap-dask:test")
PLATFORM = Path(__file__).parents[1] / "platform"
SETTINGS = os.environ.get("CONTAINERS_CONF", str(PLATFORM / "containers.conf"))
IMAGES = str(PLATFORM / "images.sh")


def podman(*arguments: object, timeout: float = 150) -> subprocess.CompletedProcess[str]:
    """Run podman, with settings that a sandbox needs."""
    return subprocess.run(
        [shutil.which("podman") or "podman", *map(str, arguments)],
        env=os.environ | {"CONTAINERS_CONF": SETTINGS},
        capture_output=True,
        text=True,
        check=False,
        timeout=timeout,
    )


def image_or_skip(image: str = IMAGE) -> dict[str, Any]:
    """Return what podman says of an image."""
    if shutil.which("podman") is None:
        pytest.skip("podman is not here")
    found = podman("image", "inspect", image)
    if found.returncode != 0:
        pytest.skip(f"{image} is not here: tests/platform/images.sh says how it is made")
    (about,) = json.loads(found.stdout)
    digest = subprocess.run([IMAGES, "digest"], capture_output=True, text=True, check=True).stdout.strip()
    if (about["Labels"] or {}).get("eoap-dask.test.source") != digest:
        pytest.skip(f"{image} is of another state of the source: tests/platform/images.sh makes it")
    return dict(about["Config"])
