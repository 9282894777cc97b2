"""``dask_cluster_name.txt``: which Dask cluster to join, between the commands of a session.

Ours is for sourcing in a shell; calrissian's, of the same name, holds the bare name. Nothing of either is executed.
"""

from __future__ import annotations

import fcntl
import os
import re
import shlex
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from eoap_dask.errors import UsageError

NAME_FILE = "dask_cluster_name.txt"
_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9])?")
_ASSIGNMENT = re.compile(r"(?:export\s+)?(?P<key>[A-Za-z_][A-Za-z0-9_]*)=(?P<value>.*)")
_ADDRESS = re.compile(r"https?://[A-Za-z0-9.\-_~:/\[\]%]{1,500}")
_NAME_KEY, _ADDRESS_KEY = "DASK_CLUSTER", "DASK_GATEWAY__ADDRESS"
_MOST_BYTES = 8192


@dataclass(frozen=True)
class ClusterName:
    """A cluster and where it is."""

    name: str
    address: str | None = None
    """Address of its Gateway, if that isn't the default one."""


def check_cluster_name(name: str, origin: str = "") -> str:
    """Return `name` if it is letters, digits, dots, dashes and underscores; else raise `UsageError`."""
    if not _NAME.fullmatch(name) or len(name) > 253:
        raise UsageError(
            f"{_shown(name)}{f', from {origin},' if origin else ''} can't be the name of a Dask cluster.",
            "Expected letters, digits, dots and dashes.",
            "Try eoap-dask cluster list.",
        )
    return name


def check_address(address: str, origin: str = "") -> str:
    """Return a Gateway's plain http(s) URL without its last slash; else raise `UsageError`."""
    try:
        is_fine = bool(_ADDRESS.fullmatch(address) and urlsplit(address).hostname)
        _ = urlsplit(address).port
    except ValueError:
        is_fine = False
    if not is_fine:
        raise UsageError(
            f"{_shown(address)}{f', from {origin},' if origin else ''} can't be the address of a Dask Gateway.",
            "Expected a URL with http or https, without user, password or query.",
            "Try http://127.0.0.1:8000.",
        )
    return address.rstrip("/")


def read_name_file(path: Path) -> ClusterName | None:
    """Return the cluster that a file names; None where there is no file, or an empty one.

    It holds a bare name, or lines ``export DASK_CLUSTER=…`` and perhaps ``export DASK_GATEWAY__ADDRESS=…``; other
    assignments and comments are ignored.
    """
    try:
        with path.open("rb") as file:
            about, data = os.fstat(file.fileno()), file.read(_MOST_BYTES + 1)
    except FileNotFoundError:
        return None
    except OSError as exc:
        raise UsageError(f"{path} can't be read: {exc.strerror}.", "", "Try another --file.") from exc
    try:
        text = data.decode("ascii")
    except UnicodeDecodeError:
        raise _refused(path, "holds bytes that aren't text") from None
    if len(data) > _MOST_BYTES:
        raise _refused(path, "is too long")
    lines = [line.strip() for line in text.splitlines()]
    lines = [line for line in lines if line and not line.startswith("#")]
    if not lines:
        return None
    if len(lines) == 1 and _NAME.fullmatch(lines[0]):
        return ClusterName(check_cluster_name(lines[0], str(path)))
    found = _assignments(path, lines)
    if _NAME_KEY not in found:
        raise _refused(path, f"doesn't say {_NAME_KEY}=…")
    address = found.get(_ADDRESS_KEY)
    if address is not None and not _is_ours(about):
        # our password goes to that address
        raise UsageError(
            f"{path} names the Gateway {_shown(address)}, but others may have written it.",
            "Expected a file that belongs to you and that nobody else may write.",
            f"Try chmod 600 {shlex.quote(str(path))}, or --gateway.",
        )
    return ClusterName(
        check_cluster_name(found[_NAME_KEY], str(path)), check_address(address, str(path)) if address else None
    )


def write_name_file(path: Path, cluster: ClusterName) -> None:
    """Write a file for sourcing in a shell: for its owner alone, and whole or not at all."""
    lines = [f"export {_NAME_KEY}={shlex.quote(check_cluster_name(cluster.name))}"]
    if cluster.address is not None:
        lines.append(f"export {_ADDRESS_KEY}={shlex.quote(check_address(cluster.address))}")
    write_private(path, "".join(f"{line}\n" for line in lines))


def remove_name_file(path: Path, name: str) -> bool:
    """Remove a file if it still names this cluster, and tell whether it was removed."""
    found = read_name_file(path)
    if found is None or found.name != name:
        return False
    path.unlink(missing_ok=True)
    return True


@contextmanager
def one_at_a_time(path: Path) -> Iterator[None]:
    """Keep others on this machine from starting a cluster for the same file, where the file system can lock."""
    try:
        descriptor = os.open(path.absolute().parent, os.O_RDONLY | os.O_DIRECTORY)  # a lock of a file would stay behind
    except OSError as exc:
        raise UsageError(f"{path} can't be used: {exc.strerror}.", "", "Try another --file.") from exc
    try:
        with suppress(OSError):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def write_private(path: Path, text: str) -> None:
    """Write a small file, mode 0600 from its first byte; it appears whole or not at all."""
    draft = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        try:
            draft.unlink(missing_ok=True)
            descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
            with os.fdopen(descriptor, "w") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)
    except OSError as exc:
        raise UsageError(f"{path} can't be written: {exc.strerror}.", "", "Try another --file.") from exc


def _assignments(path: Path, lines: list[str]) -> dict[str, str]:
    found = {}
    for line in lines:
        match = _ASSIGNMENT.fullmatch(line)
        if match is None:
            raise _refused(path, "has a line that is neither a name nor an assignment")
        if match["key"] not in {_NAME_KEY, _ADDRESS_KEY}:
            continue
        try:
            words = shlex.split(match["value"], comments=True)
        except ValueError:
            words = []
        if len(words) != 1:
            raise _refused(path, f"gives {match['key']} no plain value")
        found[match["key"]] = words[0]
    return found


def _is_ours(about: os.stat_result) -> bool:
    return about.st_uid in {os.geteuid(), 0} and not about.st_mode & (stat.S_IWGRP | stat.S_IWOTH)


def _refused(path: Path, why: str) -> UsageError:
    return UsageError(
        f"{path} {why}.",
        f"Expected the name of a Dask cluster, or a line export {_NAME_KEY}=…",
        "Try another --file, or remove it.",
    )


def _shown(text: str) -> str:
    from eoap_dask.redact import show_href

    return show_href(text, 100)
