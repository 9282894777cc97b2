"""The demo server in a process of its own.

A server in a thread shares the interpreter's lock with its client: that distorts measurements, and a client that waits
while it holds the lock, as rasterio does when it lists a directory, waits for ever.
"""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

from eoap_dask.demo.catalogue import Catalogue, CatalogueLike
from eoap_dask.demo.server import DemoServer, check_faults


class ServerProcess:
    """A `DemoServer` in a process of its own, with the same attributes.

    `faults` and `api_fault` are assigned as a whole. The process ends with the context, and with this process.
    """

    def __init__(self, source: CatalogueLike | Path | str, **options: Any) -> None:
        check_faults(options.get("faults") or {}, options.get("api_fault"))
        self.catalogue = Catalogue.from_directory(source) if isinstance(source, Path | str) else source
        self.origin = ""
        self.stats = RemoteStats(self)
        self._options = options
        self._faults = dict(options.get("faults") or {})
        self._api_fault: str | None = options.get("api_fault")
        self._lock = threading.Lock()
        self._process: subprocess.Popen[str] | None = None

    @property
    def url(self) -> str:
        """Root of the STAC API."""
        return f"{self.origin}/stac"

    @property
    def files_url(self) -> str:
        """Where the root directory is served."""
        return f"{self.origin}/files"

    @property
    def collection(self) -> str:
        """Id of the collection."""
        return self.catalogue.collection

    def item_url(self, item_id: str) -> str:
        """Return where the API has an item, as its link ``self`` says."""
        return f"{self.url}/collections/{self.collection}/items/{quote(item_id)}"

    @property
    def faults(self) -> dict[str, str]:
        """What goes wrong, by a part of the path; assign to change it."""
        return dict(self._faults)

    @faults.setter
    def faults(self, faults: Mapping[str, str]) -> None:
        check_faults(faults, None)
        self._faults = dict(faults)
        self.call("faults", dict(faults))

    @property
    def api_fault(self) -> str | None:
        """What goes wrong with the STAC API; assign to change it."""
        return self._api_fault

    @api_fault.setter
    def api_fault(self, fault: str | None) -> None:
        check_faults({}, fault)
        self._api_fault = fault
        self.call("api_fault", fault)

    def revoke_tokens(self) -> None:
        """Make all tokens so far worthless, as if they had expired."""
        self.call("revoke_tokens")

    def start(self) -> Self:
        """Start the process and wait until it listens; what entering the context does."""
        self._process = subprocess.Popen(
            [sys.executable, "-c", "from eoap_dask.demo.process import main; main()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        catalogue = self.catalogue
        self.origin = self.call(
            "start",
            {
                "root": str(Path(catalogue.root).resolve()),
                "items": catalogue.items,
                "collection": catalogue.collection,
                "options": self._options,
            },
        )
        return self

    def close(self) -> None:
        """End the process; what leaving the context does."""
        if self._process is None:
            return
        try:
            self._process.communicate(timeout=10)  # closes its input, which tells it to stop
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.communicate()
        self._process = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def call(self, command: str, argument: Any = None) -> Any:
        """Send a command of `main` with a JSON-like argument to the process, and return its answer."""
        process = self._process
        if process is None or process.stdin is None or process.stdout is None:
            raise RuntimeError("the server isn't running")
        with self._lock:
            process.stdin.write(json.dumps([command, argument]) + "\n")
            process.stdin.flush()
            answer = process.stdout.readline()
        if not answer:
            raise RuntimeError(f"the server's process ended while it was told to {command}")
        return json.loads(answer)


class RemoteStats:
    """The `Stats` of a server in another process."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server

    def reset(self) -> None:
        """Start counting from nothing."""
        self._server.call("reset")

    @property
    def requests(self) -> int:
        """Requests of all kinds."""
        return int(self._server.call("stats")["requests"])

    @property
    def api_requests(self) -> int:
        """Requests to the STAC API."""
        return int(self._server.call("stats")["api_requests"])

    @property
    def bytes_sent(self) -> int:
        """Bytes of the bodies of files, as they were sent."""
        return int(self._server.call("stats")["bytes_sent"])

    @property
    def ranges(self) -> dict[str, list[tuple[int, int]]]:
        """Per path below the root, what was sent of it: pairs of first byte and the one after the last."""
        ranges = self._server.call("stats")["ranges"]
        return {path: [(start, stop) for start, stop in spans] for path, spans in ranges.items()}


def main() -> None:
    """Serve, and obey commands on the standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for the parent, which then closes our input
    _, setup = json.loads(sys.stdin.readline())
    catalogue = Catalogue(Path(setup["root"]), setup["items"], setup["collection"])
    with DemoServer(catalogue, **setup["options"]) as server:
        _answer(server.origin)
        for line in sys.stdin:
            command, argument = json.loads(line)
            _answer(_obey(server, command, argument))


def _obey(server: DemoServer, command: str, argument: Any) -> Any:
    if command == "faults":
        server.faults = argument
    elif command == "api_fault":
        server.api_fault = argument
    elif command == "revoke_tokens":
        server.revoke_tokens()
    elif command == "reset":
        server.stats.reset()
    elif command == "stats":
        return {name: getattr(server.stats, name) for name in ("requests", "api_requests", "bytes_sent", "ranges")}
    return None


def _answer(content: Any) -> None:
    sys.stdout.write(json.dumps(content) + "\n")
    sys.stdout.flush()
