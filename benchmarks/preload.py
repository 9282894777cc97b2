"""Counts what a Dask scheduler is given; loaded by the scheduler itself, whoever starts it.

Dask imports the module that DASK_DISTRIBUTED__SCHEDULER__PRELOAD names, so that commands and scripts are measured as
they are. The counts are written to the file that EOAP_DASK_BENCHMARK_GRAPH names when the scheduler stops.
"""

from __future__ import annotations

import inspect
import json
import os
from pathlib import Path
from typing import Any

from distributed.diagnostics.plugin import SchedulerPlugin

VARIABLE = "EOAP_DASK_BENCHMARK_GRAPH"


def environment(result: Path) -> dict[str, str]:
    """Return what to add to the environment so that counts are written to `result`."""
    return {"DASK_DISTRIBUTED__SCHEDULER__PRELOAD": "benchmarks.preload", VARIABLE: str(result)}


class Counts(SchedulerPlugin):
    """Tasks that reached the scheduler, and the bytes of the graphs that described them."""

    name = "eoap-dask-benchmark"

    def __init__(self) -> None:
        self.keys: set[Any] = set()
        self.graphs = 0
        self.graph_bytes: int | None = 0

    def transition(self, key: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ARG002 - Dask's signature
        """Take note of a task."""
        self.keys.add(key)

    def arrived(self, message: dict[str, Any]) -> None:
        """Take note of a graph, as it came over the wire."""
        self.graphs += 1
        serialized = message.get("expr_ser")  # since distributed 2025
        frames = message.get("graph_frames", getattr(serialized, "frames", None))
        if frames is None or self.graph_bytes is None:
            self.graph_bytes = None
        else:
            self.graph_bytes += sum(memoryview(frame).nbytes for frame in frames)

    def to_dict(self) -> dict[str, Any]:
        """Return the counts as JSON-like values."""
        return {"tasks": len(self.keys), "graphs": self.graphs, "graph_bytes": self.graph_bytes}


def dask_setup(scheduler: Any) -> None:
    """Start to count; Dask calls this by its name."""
    counts = Counts()
    scheduler.add_plugin(counts)
    original = scheduler.stream_handlers["update-graph"]

    async def update_graph(*args: Any, **message: Any) -> None:
        counts.arrived(message)
        waiting = original(*args, **message)  # a coroutine function, or in older versions a plain one
        if inspect.isawaitable(waiting):
            await waiting

    scheduler.stream_handlers["update-graph"] = update_graph


def dask_teardown(scheduler: Any) -> None:
    """Write the counts; Dask calls this by its name."""
    result = os.environ.get(VARIABLE)
    if result:
        Path(result).write_text(json.dumps(scheduler.plugins[Counts.name].to_dict()))
