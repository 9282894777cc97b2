"""Who puts encoded tiles onto the output's disk: on real clusters, and what happens where it can't be done."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from benchmarks.processes import SchedulerAndWorkers

from eoap_dask import cloudless_mosaic
from eoap_dask.demo.archive import Archive
from eoap_dask.demo.server import DemoServer
from eoap_dask.errors import ClusterError, UnitsFailedError
from eoap_dask.output.cog import Cog
from eoap_dask.run.sink import _fault_of, _leave_proof

pytestmark = pytest.mark.cluster

MONTHS = [f"monthly-mosaic-2020-{month}" for month in (10, 11, 12)]

BLOCKS = 2 * 5 * 5
"""Of both months that are made."""


@pytest.fixture(scope="module")
def server(archive: Archive) -> Iterator[DemoServer]:
    with DemoServer(archive) as running:
        yield running


def make(server: DemoServer, out: Path, cluster: str, **more: Any) -> dict[str, bytes]:
    """Make a mosaic of several blocks; return its images, which are the same bytes in any case."""
    asked = {"resolution": 10.0, "bands": ("red",), "end_date": "2020-11-30", "block": 512}
    cloudless_mosaic(stac=server.url, output_dir=out, cluster=cluster, **asked, **more)
    assert {path.name for path in out.parent.iterdir() if path.name.startswith("out")} == {"out"}
    assert [path.name for path in out.iterdir() if path.name.startswith(".")] == []
    return {str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*.tif")}


@pytest.fixture(scope="module")
def travelled(server: DemoServer, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The images of tiles that were sent to the client."""
    return make(server, tmp_path_factory.mktemp("travelled") / "out", "local", sink="client")


@pytest.fixture
def arrived(monkeypatch: pytest.MonkeyPatch) -> list[bool]:
    """Whether the tiles of each image of a block came as a file."""
    found: list[bool] = []
    add = Cog.add

    def spying(self: Cog, block: Any, window: Any) -> None:
        found.append(isinstance(block.tiles, Path))
        add(self, block, window)

    monkeypatch.setattr(Cog, "add", spying)
    return found


@pytest.mark.long
@pytest.mark.parametrize(("sink", "as_files"), [("auto", True), ("workers", True), ("client", False)])
def test_on_this_machine(
    server: DemoServer, tmp_path: Path, travelled: dict[str, bytes], arrived: list[bool], sink: str, as_files: bool
) -> None:
    assert len(travelled) == 2 * 3
    assert make(server, tmp_path / "out", "local", sink=sink) == travelled
    assert arrived == BLOCKS * 3 * [as_files]


@pytest.mark.long
@pytest.mark.parametrize(("sink", "as_files"), [("auto", False), ("workers", True)])
def test_on_a_cluster_that_is_joined(
    server: DemoServer, tmp_path: Path, travelled: dict[str, bytes], arrived: list[bool], sink: str, as_files: bool
) -> None:
    with SchedulerAndWorkers(tmp_path / "cluster", workers=2) as cluster:
        assert make(server, tmp_path / "out", cluster.address, sink=sink) == travelled
    assert arrived == BLOCKS * 3 * [as_files]


ELSEWHERE = """
from pathlib import Path

from eoap_dask.run import sink

sink.Path = lambda path: Path("{other}" + path)
"""
"""What a worker with a disk of its own runs first."""


@pytest.mark.long
def test_workers_with_a_disk_of_their_own_are_refused(server: DemoServer, tmp_path: Path) -> None:
    preload, out = tmp_path / "elsewhere.py", tmp_path / "out"
    preload.write_text(ELSEWHERE.format(other=tmp_path / "other"))
    with SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster:
        with pytest.raises(ClusterError) as refused:
            make(server, out, cluster.address, sink="workers")
        assert refused.value.exit_code == 5
        assert f"can't write into {tmp_path / 'out.partial'}" in refused.value.what
        assert refused.value.what.endswith(": No such file or directory.")
        assert refused.value.hint.startswith("Try sink='client', or an output_dir")
        assert not out.exists()
        assert not (tmp_path / "out.partial").exists()
        # another directory in the same place is another disk all the same
        scratch = Path(f"{tmp_path / 'other'}{tmp_path / 'out.partial'}", ".scratch")
        scratch.mkdir(parents=True)
        with pytest.raises(ClusterError, match="No such file or directory"):
            make(server, out, cluster.address, sink="workers")
        assert list(scratch.iterdir()) == []
        make(server, out, cluster.address)


FULL = """
import resource

from eoap_dask.render import block as render


def render_block(packed, number, folder, made=render.render_block):
    if render._unpack(packed).images[0].name != "{month}":
        return made(packed, number, folder)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, hard))
    try:
        return made(packed, number, folder)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


render.render_block = render_block
"""
"""Files of one month can't become larger than this: what a worker sees of a disk that is full. For one thread."""


@pytest.mark.long
def test_a_worker_that_can_not_write_fails_its_unit_alone(
    server: DemoServer, tmp_path: Path, travelled: dict[str, bytes]
) -> None:
    preload, partial = tmp_path / "full.py", tmp_path / "out.partial"
    preload.write_text(FULL.format(month=MONTHS[0]))
    with (
        SchedulerAndWorkers(tmp_path / "cluster", threads=1, preload=preload) as cluster,
        pytest.raises(UnitsFailedError) as caught,
    ):
        make(server, tmp_path / "out", cluster.address, sink="workers")
    assert caught.value.exit_code == 6
    (entry,) = json.loads((partial / "failures.json").read_text())["failures"]
    assert entry["unit"] == MONTHS[0]
    scratch = f"{partial}/.scratch/{MONTHS[0]}."
    assert entry["reason"].startswith(f"A worker couldn't write into {scratch}")
    assert entry["reason"].endswith(": File too large.")
    images = {str(path.relative_to(partial)): path.read_bytes() for path in partial.rglob("*.tif")}
    assert images == {name: content for name, content in travelled.items() if name.startswith(MONTHS[1])}
    assert not (partial / ".scratch").exists()


LOST = """
from eoap_dask.render import block as render
from eoap_dask.run import sink


def render_block(packed, number, folder, made=render.render_block):
    sink.Path = lambda path: type(FOLDER)("{other}" + str(path))
    return made(packed, number, "{other}" + folder)


FOLDER = sink.Path("{other}")
render.render_block = render_block
"""
"""A worker that loses the disk after it was looked at."""


@pytest.mark.long
def test_a_worker_that_loses_the_disk_ends_the_run(server: DemoServer, tmp_path: Path) -> None:
    """It is quick to fail, and would get all that is left."""
    preload = tmp_path / "lost.py"
    preload.write_text(LOST.format(other=tmp_path / "other"))
    with (
        SchedulerAndWorkers(tmp_path / "cluster", preload=preload) as cluster,
        pytest.raises(ClusterError, match=r"can't write into .*: No such file or directory") as refused,
    ):
        make(server, tmp_path / "out", cluster.address, sink="workers")
    assert refused.value.exit_code == 5


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (("{name}", ""), ""),
        (("", "Permission denied"), "Permission denied"),
        (("elsewhere", ""), "what it writes can't be read here, No such file or directory"),
        (("other", ""), "what it writes is something else here"),
        (ModuleNotFoundError("No module named 'eoap_dask.run.sink'"), "No module named 'eoap_dask.run.sink'"),
    ],
)
def test_what_a_worker_says_is_looked_at(tmp_path: Path, answer: Any, sentence: str) -> None:
    proof = tmp_path / "proof"
    proof.write_text("token")
    (tmp_path / "other").write_text("nothing")
    if answer == ("{name}", ""):
        answer = _leave_proof(str(proof), "token")
        assert answer[0] != proof.name
    assert _fault_of(answer, proof, "token") == sentence
    assert _leave_proof(str(proof), "another") == ("", "another file is there")
