from __future__ import annotations

import os
import shutil
import stat
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eoap_dask.cluster.name_file import (
    ClusterName,
    check_address,
    check_cluster_name,
    read_name_file,
    remove_name_file,
    write_name_file,
)
from eoap_dask.errors import UsageError

HEX = "79bb651bcc7b404ea72386a16af9073e"
KUBERNETES = f"dask.{HEX}"


@pytest.mark.parametrize("name", [HEX, KUBERNETES])
@pytest.mark.parametrize("address", [None, "http://127.0.0.1:8000", "https://hub.example.com/services/dask-gateway"])
def test_what_is_written_is_read_and_can_be_sourced(name: str, address: str | None, tmp_path: Path) -> None:
    path = tmp_path / "dask_cluster_name.txt"
    write_name_file(path, ClusterName(name, address))
    assert read_name_file(path) == ClusterName(name, address)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [one.name for one in tmp_path.iterdir()] == [path.name]
    said = subprocess.run(
        [
            shutil.which("bash") or "bash",
            "-c",
            f'set -eu; source {path}; echo "$DASK_CLUSTER ${{DASK_GATEWAY__ADDRESS:-}}"',
        ],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert said.stdout.strip() == f"{name} {address or ''}".strip()


@pytest.mark.parametrize(
    "text",
    [
        HEX,
        f"{HEX}\n",
        f"\n  {HEX}  \r\n",
        f"export DASK_CLUSTER={HEX}",
        f"DASK_CLUSTER='{HEX}'\n",
        f'# made by hand\nexport DASK_CLUSTER="{HEX}"  # ours\n',
        f"export DASK_GATEWAY_URL=http://x:1\nexport DASK_CLUSTER={HEX}\n",
    ],
)
def test_both_shapes_are_read(text: str, tmp_path: Path) -> None:
    path = tmp_path / "name"
    path.write_text(text)
    assert read_name_file(path) == ClusterName(HEX)


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing\n"])
def test_nothing_names_nothing(text: str, tmp_path: Path) -> None:
    assert read_name_file(tmp_path / "missing") is None
    (tmp_path / "name").write_text(text)
    assert read_name_file(tmp_path / "name") is None


@pytest.mark.parametrize(
    "text",
    [
        "export DASK_CLUSTER=$(touch pwned)",
        "export DASK_CLUSTER=`touch pwned`",
        "export DASK_CLUSTER=a; touch pwned",
        "export DASK_CLUSTER='a' 'b'",
        "export DASK_CLUSTER='unfinished",
        "export DASK_CLUSTER=",
        "export DASK_CLUSTER=../../etc",
        "export DASK_CLUSTER=a\ntouch pwned",
        "touch pwned",
        "one two",
        "one\ntwo",
        "$(touch pwned)",
        "-rf",
        "a" * 300,
        "a\n" * 9000,
        "export OTHER=1",
        f"export DASK_CLUSTER={HEX}\nexport DASK_GATEWAY__ADDRESS='http://a b/'",
        f"export DASK_CLUSTER={HEX}\nexport DASK_GATEWAY__ADDRESS=http://user:hunter2@evil.example/",
        f"export DASK_CLUSTER={HEX}\nexport DASK_GATEWAY__ADDRESS=file:///etc/passwd",
        "ünïcode",
        "a\x00b",
    ],
)
def test_hostile_content_is_refused_and_not_executed(
    text: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "name"
    path.write_text(text)
    path.chmod(0o600)
    with pytest.raises(UsageError) as caught:
        read_name_file(path)
    assert not (tmp_path / "pwned").exists()
    assert "hunter2" not in str(caught.value)
    assert len(str(caught.value)) < 500


def test_binary_and_directories_are_refused(tmp_path: Path) -> None:
    (tmp_path / "name").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(UsageError, match="aren't text"):
        read_name_file(tmp_path / "name")
    with pytest.raises(UsageError, match="can't be read"):
        read_name_file(tmp_path)


def test_an_address_counts_only_from_a_file_that_others_cannot_write(tmp_path: Path) -> None:
    path = tmp_path / "name"
    write_name_file(path, ClusterName(HEX, "http://gateway:8000"))
    path.chmod(0o666)
    with pytest.raises(UsageError, match="chmod 600"):
        read_name_file(path)
    path.write_text(HEX)  # a bare name sends no password anywhere
    assert read_name_file(path) == ClusterName(HEX)


@pytest.mark.parametrize("name", ["", "a b", "a;b", "$(x)", "a\nb", "-a", ".a", "a'", "é", "a" * 254])
def test_no_bad_name_is_written(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError):
        write_name_file(tmp_path / "name", ClusterName(name))
    with pytest.raises(UsageError):
        write_name_file(tmp_path / "name", ClusterName(HEX, f"http://{name or ' '}'"))
    assert not list(tmp_path.iterdir())


@given(st.text(max_size=80))
def test_a_name_that_passes_needs_no_quotes(text: str) -> None:
    try:
        check_cluster_name(text)
    except UsageError:
        return
    assert text.isascii()
    assert not set(text) & set(" \t\n'\"\\$`;&|<>(){}*?[]!#~/")


@pytest.mark.parametrize(
    "address",
    ["", "gateway", "ftp://x", "http://", "http://x y", "http://u:p@x", "http://x?q=1", "http://x:port", "x:1"],
)
def test_no_bad_address_passes(address: str) -> None:
    with pytest.raises(UsageError, match=r"can't be the address"):
        check_address(address)


def test_only_the_file_of_the_stopped_cluster_is_removed(tmp_path: Path) -> None:
    path = tmp_path / "name"
    write_name_file(path, ClusterName(HEX))
    assert not remove_name_file(path, "another")
    assert path.exists()
    assert remove_name_file(path, HEX)
    assert not path.exists()
    assert not remove_name_file(path, HEX)


def test_a_file_replaces_what_was_there_without_following_links(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("keep")
    path = tmp_path / "name"
    path.symlink_to(tmp_path / "precious")
    write_name_file(path, ClusterName(HEX))
    assert (tmp_path / "precious").read_text() == "keep"
    assert read_name_file(path) == ClusterName(HEX)


def test_a_place_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"can't be written: No such file"):
        write_name_file(tmp_path / "missing" / "name", ClusterName(HEX))
