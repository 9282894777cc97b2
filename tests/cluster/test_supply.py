"""Files for workers: each gets them once, in pieces, and what it gets is what was sent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from distributed import Client, LocalCluster

from eoap_dask.cluster import supply as module
from eoap_dask.cluster.supply import supply
from eoap_dask.errors import ResourceError
from eoap_dask.render.resources import STORE, Resource, Store

pytestmark = pytest.mark.cluster
MIB = 1 << 20


@pytest.fixture
def content() -> bytes:
    return np.random.default_rng(4).bytes(3 * MIB + 12345)


@pytest.fixture
def hidden(tmp_path: Path, content: bytes) -> Iterator[Resource]:
    """A file that this process alone sees, under this name."""
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    with path.open("rb") as file:
        path.unlink()
        yield Resource.of("model", Path(f"/proc/self/fd/{file.fileno()}"))


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """The sizes of the pieces that were sent, each to all workers that lack the file."""
    sizes: list[int] = []
    run = module._run

    def listen(client: Client, function: object, *arguments: object, **more: object) -> object:
        if function is module._take:
            sizes.append(len(arguments[2]))  # type: ignore[arg-type]
        return run(client, function, *arguments, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_run", listen)
    monkeypatch.setattr(module, "PIECE_BYTES", MIB)
    return sizes


def look(resource: Resource) -> tuple[str, bytes] | None:
    path = STORE.find(resource)
    return None if path is None else (str(path), path.read_bytes())


def test_workers_get_a_file_once_and_those_that_join_later(hidden: Resource, content: bytes, sent: list[int]) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        assert set(client.run(look, hidden).values()) == {None}
        supply(client, [hidden])
        assert sent == [MIB, MIB, MIB, 12345]
        places = client.run(look, hidden)
        assert {found[1] for found in places.values()} == {content}
        folders = client.run(lambda dask_worker: dask_worker.local_directory)
        assert all(places[worker][0].startswith(folder) for worker, folder in folders.items())
        supply(client, [hidden])
        assert len(sent) == 4
        cluster.scale(3)
        client.wait_for_workers(3, timeout=30)
        supply(client, [hidden])
        assert len(sent) == 8
        assert {found[1] for found in client.run(look, hidden).values()} == {content}


def test_workers_that_see_the_file_are_sent_nothing(tmp_path: Path, content: bytes, sent: list[int]) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    resource = Resource.of("model", path)
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        supply(client, [resource])
        assert sent == []
        assert {found[0] for found in client.run(look, resource).values()} == {str(path)}


@pytest.mark.parametrize("change", ["shorter", "other"])
def test_a_file_that_changes_is_refused(tmp_path: Path, content: bytes, sent: list[int], change: str) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    resource = Resource.of("model", path)
    path.write_bytes(content[:MIB] if change == "shorter" else content[::-1])
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ResourceError, match="has 1048576 bytes" if change == "shorter" else "another content"),
    ):
        supply(client, [resource])


def test_a_task_waits_for_what_does_not_come_and_says_so(tmp_path: Path) -> None:
    missing = Resource("model", "0" * 64, 5, tmp_path / "nowhere")
    with pytest.raises(ResourceError, match=r"model didn't reach a worker within 0\.1 s"):
        Store().wait(missing, patience_s=0.1)


def test_a_damaged_piece_is_noticed(tmp_path: Path, hidden: Resource, content: bytes) -> None:
    store = Store()
    store.add(hidden, 0, content[:100], tmp_path)
    with pytest.raises(ResourceError, match="another content"):
        store.add(hidden, 100, content[101:] + b"x", tmp_path)
    assert store._there == {}
    store.add(hidden, 0, content, tmp_path)
    assert store.wait(hidden, 0).read_bytes() == content
    store.clear()
    assert list(tmp_path.rglob("*")) == []


def test_two_may_send_the_same_at_once(tmp_path: Path, hidden: Resource, content: bytes) -> None:
    store = Store()
    half = len(content) // 2
    for sender in ("a", "b"):
        store.add(hidden, 0, content[:half], tmp_path, sender)
    for sender in ("a", "b"):
        store.add(hidden, half, content[half:], tmp_path, sender)
    assert store.wait(hidden, 0).read_bytes() == content


def test_a_file_that_changes_where_it_is_seen_counts_no_more(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    resource, store = Resource.of("model", path), Store()
    assert store.find(resource) == path
    path.write_bytes(content[::-1])
    assert store.find(resource) is None
    path.unlink()
    assert store.find(resource) is None


def test_a_worker_that_dies_meanwhile_is_left_out(
    hidden: Resource, content: bytes, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
    ):
        pieces = 0

        def check() -> None:
            nonlocal pieces
            pieces += 1
            if pieces == 2:
                client.retire_workers(workers=[next(iter(client.scheduler_info()["workers"]))], close_workers=True)

        begun = time.monotonic()
        supply(client, [hidden], check)
        assert time.monotonic() - begun < 20
        assert content in {found[1] for found in client.run(look, hidden).values() if found}


def test_a_file_that_is_gone_is_told(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(content)
    resource = Resource.of("model", path)
    path.unlink()
    with (
        LocalCluster(n_workers=1, threads_per_worker=1, processes=True, dashboard_address=None) as cluster,
        Client(cluster, set_as_default=False) as client,
        pytest.raises(ResourceError, match=r"model\.bin can't be read: No such file"),
    ):
        supply(client, [resource])
