"""Commands as users run them: processes of their own, in a directory of their own, and what they leave behind."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import psutil
from loguru import logger

from eoap_dask import logs
from eoap_dask.cli.main import SIGNALS, main
from eoap_dask.demo.archive import Archive

Done = subprocess.CompletedProcess[str]

PUBLIC = "https://1.1.1.1/stac"
"""A public host as an address, so that no name is looked up; nothing is sent to it."""


@dataclass
class Shell:
    """A directory to run commands in, and one for their temporary files."""

    cwd: Path
    tmp: Path
    env: dict[str, str] = field(default_factory=dict)

    def start(
        self,
        *arguments: object,
        env: dict[str, str] | None = None,
        program: Sequence[str] = ("-m", "eoap_dask"),
        **options: Any,
    ) -> subprocess.Popen[str]:
        """Start a command in a process group of its own, as a terminal does."""
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
        return subprocess.Popen(
            [sys.executable, *program, *map(str, arguments)],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options},
            text=True,
            cwd=self.cwd,
            env={**clean, "TMPDIR": str(self.tmp), **self.env, **(env or {})},
            start_new_session=True,
        )

    def wait(self, process: subprocess.Popen[str], timeout: float = 120) -> Done:
        """Wait for a command that was started."""
        try:
            out, err = process.communicate(timeout=timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        return subprocess.CompletedProcess(process.args, process.returncode, out or "", err or "")

    def run(self, *arguments: object, env: dict[str, str] | None = None, timeout: float = 120) -> Done:
        """Run a command."""
        return self.wait(self.start(*arguments, env=env), timeout)

    def call(self, *arguments: object, env: dict[str, str] | None = None) -> Done:
        """Run a command in this process, through the guard that ends every command.

        For what is refused, planned or told: a hundredth of the time that a process takes to import everything. What
        starts a cluster, is signalled, or depends on Dask's configuration takes `run`.
        """
        out, err, code = io.StringIO(), io.StringIO(), 0
        clean = {k: v for k, v in os.environ.items() if not k.startswith(("EOAP_DASK_", "DASK_"))}
        with (
            mock.patch.dict(os.environ, {**clean, "TMPDIR": str(self.tmp), **self.env, **(env or {})}, clear=True),
            mock.patch.object(sys, "argv", ["eoap-dask", *map(str, arguments)]),
            mock.patch.object(tempfile, "tempdir", str(self.tmp)),
            contextlib.chdir(self.cwd),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
            _as_it_was(),
        ):
            try:
                main()
            except SystemExit as end:
                code = int(end.code or 0)
        return subprocess.CompletedProcess(list(map(str, arguments)), code, out.getvalue(), err.getvalue())

    def mosaic(self, *arguments: object, env: dict[str, str] | None = None, timeout: float = 120) -> Done:
        """Run ``cloudless-mosaic``."""
        return self.run("cloudless-mosaic", *arguments, env=env, timeout=timeout)

    def files(self) -> list[str]:
        """Everything in the working directory and below."""
        return sorted(str(path.relative_to(self.cwd)) for path in self.cwd.rglob("*"))

    def processes(self, within_s: float = 5.0) -> list[psutil.Process]:
        """Processes of commands that were started here and still live after this long."""
        end = time.monotonic() + within_s
        while (found := self._alive()) and time.monotonic() < end:
            time.sleep(0.05)
        return found

    def _alive(self) -> list[psutil.Process]:
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if process.environ().get("TMPDIR") == str(self.tmp) and process.status() != psutil.STATUS_ZOMBIE:
                    found.append(process)
        return found

    def assert_tidy(self) -> None:
        """Nothing is left of a command but what it was asked for."""
        assert self.processes() == []
        assert list(self.tmp.iterdir()) == []
        assert not [name for name in self.files() if name.endswith((".lock", ".tmp")) or ".scratch" in name]


@contextlib.contextmanager
def _as_it_was() -> Iterator[None]:
    """Put back what a command changes for its whole process: what handles signals, and who gets which log lines."""
    handlers = {number: signal.getsignal(number) for number in SIGNALS}
    verbosity = logs._verbosity
    try:
        yield
    finally:
        for number, handler in handlers.items():
            if handler is not None:  # which isn't Python's
                signal.signal(number, handler)
        logs._verbosity = verbosity
        logger.remove()
        logger.configure(patcher=lambda record: None)
        logger.disable("eoap_dask")


def make_shell(folder: Path, env: dict[str, str] | None = None) -> Shell:
    """Make the directories of a shell."""
    for name in ("work", "tmp"):
        (folder / name).mkdir()
    return Shell(folder / "work", folder / "tmp", env or {})


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    return json.loads(path.read_text())


def error_of(done: Done) -> str:
    """Return the one message of a command that failed, checked for what all of them have in common."""
    lines = done.stderr.splitlines()
    errors = [line for line in lines if line.startswith("Error: ")]
    assert len(errors) == 1, done.stderr
    assert lines[-1] == errors[0]
    assert "Traceback" not in done.stderr
    assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f]", done.stderr)
    assert done.stdout == ""
    message = errors[0].removeprefix("Error: ")
    assert message.endswith(".") or done.stderr.startswith("Usage:"), message
    assert len(message) < 600
    return message


def clearest(archive: Archive, month: str) -> dict[str, Any]:
    """Return the item with the least cloud of a month: one that every mosaic of the month reads."""
    return min(
        (i for i in archive.items if i["properties"]["datetime"].startswith(month)),
        key=lambda i: i["properties"]["eo:cloud_cover"],
    )
