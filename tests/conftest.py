"""What many tests share: a small demo archive, its server, and the command line."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import hypothesis
import numpy as np
import pystac
import pytest
from pystac.validation.stac_validator import JsonSchemaSTACValidator

from eoap_dask.demo.archive import Archive, make_archive
from eoap_dask.demo.catalogue import Catalogue
from eoap_dask.demo.items import Dialect
from eoap_dask.demo.process import ServerProcess
from eoap_dask.demo.server import DemoServer
from tests.support.command_line import Shell, make_shell
from tests.support.heard import heard
from tests.support.seams import Seams, write_scenes

SHARED = Path(os.environ.get("EOAP_DASK_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
"""Real data that isn't part of the repository; tests that need it skip without it."""

hypothesis.settings.register_profile("shared-machine", deadline=None)  # an example is as slow as its neighbours make it
hypothesis.settings.load_profile("shared-machine")

for _number in (signal.SIGINT, signal.SIGHUP):
    # A script's & and nohup let these be ignored, and children inherit that. A handler they don't inherit: what tests
    # start has the default, and this process ignores the signal as before.
    if signal.getsignal(_number) is signal.SIG_IGN:
        signal.signal(_number, lambda *_: None)

Cli = Callable[..., "subprocess.CompletedProcess[str]"]


@dataclass(frozen=True)
class ServedFire:
    """The demo's fire, served."""

    archive: Archive
    server: ServerProcess

    @property
    def urls(self) -> tuple[str, str]:
        """Of the clear scenes before and after it, in UTM zone 10."""
        before, after = self.archive.fire_pair()
        return self.server.item_url(before["id"]), self.server.item_url(after["id"])


Fires = Callable[[Dialect], ServedFire]


@pytest.fixture(scope="session")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Archive:
    """A small archive: two tiles in two UTM zones, three months, 40 m pixels."""
    return make_archive(tmp_path_factory.mktemp("archive") / "demo", size_px=512, resolution_m=60.0, dates_per_month=4)


@pytest.fixture(scope="session")
def seams(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Seams]:
    """The application of tests that leans on all seams, with its scenes served."""
    root = tmp_path_factory.mktemp("seams")
    write_scenes(root)
    table = root / "table.bin"
    lookup = (np.arange(65536, dtype=np.uint32) * 7 + 3) % 60_000
    table.write_bytes(lookup.astype("<u2").tobytes() + bytes(3 << 20))
    with ServerProcess(Catalogue(root, [], "sentinel-2-l2a")) as running:
        yield Seams(running.files_url, table)


@pytest.fixture
def server(archive: Archive) -> Iterator[DemoServer]:
    """The small archive, served."""
    with DemoServer(archive) as running:
        yield running


@pytest.fixture(scope="session")
def calm(archive: Archive) -> Iterator[DemoServer]:
    """The small archive, served without faults to all who leave it so."""
    with DemoServer(archive) as running:
        yield running


@pytest.fixture
def shell(tmp_path: Path) -> Shell:
    """An empty working directory for commands."""
    return make_shell(tmp_path)


@pytest.fixture(scope="session")
def validator() -> JsonSchemaSTACValidator:
    """The validator of pystac with our schemas, and nothing fetched."""
    validator = JsonSchemaSTACValidator()
    for path in (Path(__file__).parent / "schemas").glob("*.json"):
        schema = json.loads(path.read_text())
        validator.schema_cache[schema["$id"].rstrip("#")] = schema
    return validator


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse to let pystac fetch anything."""

    def refuse(self: object, href: str, *args: object, **kwargs: object) -> str:
        assert "://" not in str(href), f"{href} would be fetched"
        return Path(str(href)).read_text()

    monkeypatch.setattr(pystac.StacIO.default().__class__, "read_text_from_href", refuse)


@pytest.fixture
def said() -> Iterator[list[str]]:
    """What is said as a warning, or worse."""
    with heard("WARNING") as lines:
        yield lines


@pytest.fixture(scope="session")
def fires(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fires]:
    """The demo's fire in the dialect of a catalogue, served; made when first asked for.

    Tiles of 768 pixels of 10 m: four blocks of 512, an overview, and edges that fill no tile.
    """
    root = tmp_path_factory.mktemp("fires")
    with ExitStack() as stack:

        @cache
        def served(dialect: Dialect) -> ServedFire:
            archive = make_archive(
                root / dialect, months=(), fire=True, size_px=768, resolution_m=10.0, dialect=dialect
            )
            return ServedFire(archive, stack.enter_context(ServerProcess(archive)))

        yield served


@pytest.fixture(scope="session")
def fire(fires: Fires) -> ServedFire:
    """The demo's fire, as the Planetary Computer would have it: the scene before it stored in another way."""
    return fires("planetary-computer")


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
