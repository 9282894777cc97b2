"""What the BTC network costs, and what is lost around it: ``python -m benchmarks.btc --help``.

With random weights of each size, one thread a question:

- *Bare*: the module's forward of one window's two pictures, as anybody would call it, on all cores at the same time.
- *Around*: the method over a cell: greys, windows, checksums by which they are remembered, steps, blend.
- *Run*: the command with this method, less the same command with CVA, on the demo's land.

Each is told as windows per CPU-second, and the latter two as what they lose against the first.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.archive import DEFAULT_CACHE, warm
from benchmarks.changes import Land
from benchmarks.measure import measure
from benchmarks.parts import kept, run_of, say, tell
from eoap_dask.applications.change_detection.btc import Btc
from eoap_dask.applications.change_detection.methods import Where
from eoap_dask.demo.changes import make_changes
from eoap_dask.demo.process import ServerProcess
from eoap_dask.kernels.windows import starts
from eoap_dask.networks.architecture import BASE, TINY, TOY, Architecture
from eoap_dask.networks.instructions import pin_instructions
from eoap_dask.networks.weights import find_weights, random_weights

FORMS = {"b": BASE, "t": TINY, "toy": TOY}
YEARS = "2022-2023"


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    cells: int
    """Rows, and columns, of cells of the run."""
    cell_px: int
    window: int
    rounds: int
    """Of four questions to the bare module, and a cell of four windows, on each core."""

    @property
    def windows(self) -> int:
        """Windows of one cell."""
        return len(starts(self.cell_px, self.window, self.window // 4)) ** 2


FULL = Sizes(2, 1024, window=256, rounds=3)
SMALL = Sizes(1, 96, window=64, rounds=2)


def in_process(weights: Path, sizes: Sizes) -> dict[str, float]:
    """Return CPU seconds a window of the bare module, and of the method over a cell of four windows, in turn.

    As many threads as there are cores ask at the same time, as in a run: cores share caches and memory.
    """
    pin_instructions()  # as workers do
    import torch

    from eoap_dask.networks.weights import load

    network = load(weights)
    method = Btc.of(
        find_weights(str(weights)), ("red", "green", "blue"),
        limit=0.2, window=sizes.window, stretch=(0.0, 0.3), device="cpu", batch=1, threads=1,
    )  # fmt: skip
    tools = method.set_up({"weights": weights})
    side = 2 * sizes.window - sizes.window // 4
    margins = ((0, 0), (method.reach,) * 2, (method.reach,) * 2)
    where = Where((-method.reach, -method.reach), (side, side), tools)

    def ask_bare(seed: int) -> None:
        torch.set_num_threads(1)  # each thread has its own
        random = np.random.default_rng(seed)
        first, second = (torch.from_numpy(random.standard_normal((1, 3, 256, 256), np.float32)) for _ in range(2))
        with torch.inference_mode():
            for _ in range(4):
                network(first, second)

    def ask_cell(seed: int) -> None:
        random = np.random.default_rng(seed)
        dates = [np.pad(random.integers(1, 4000, (3, side, side)).astype(np.uint16), margins) for _ in range(2)]
        method.score(dates[0], dates[1], None, where)

    cores = os.cpu_count() or 1
    spent: dict[str, list[float]] = {"bare_s": [], "around_s": []}
    with ThreadPoolExecutor(cores) as pool:
        list(pool.map(ask_bare, range(cores)))  # the first question is slower
        for number in range(sizes.rounds):
            for name, ask in (("bare_s", ask_bare), ("around_s", ask_cell)):
                began = time.process_time()
                list(pool.map(ask, range(number * cores, (number + 1) * cores)))
                spent[name].append((time.process_time() - began) / (4 * cores))
    return {name: median(seconds) for name, seconds in spent.items()}


def as_run(weights: Path, land: Land, sizes: Sizes, folder: Path) -> dict[str, Any]:
    """Return what the command costs, and the same with another method."""
    runs = []
    common = ("--years", YEARS, "--bands", "red", "--bands", "green", "--bands", "blue")
    btc = ("--method", "btc", "--weights", weights, "--window", sizes.window)
    for name, how in (("cva", ()), ("btc", btc)):
        say(f"a run with {name} …")
        cost, _ = measure(land.command(folder / f"{weights.stem}-{name}", *common, *how))
        runs.append(run_of(name, cost))
    windows = sizes.windows * sizes.cells**2
    return {
        "runs": runs,
        "windows": windows,
        "run_s": (runs[1]["cpu_s"] - runs[0]["cpu_s"]) / windows,
        "peak_process": runs[1]["peak_process"],
    }


def compare(sizes: Sizes, cache: Path, forms: Mapping[str, Architecture]) -> dict[str, Any]:
    """Measure, and return JSON-like values."""
    root = kept(
        cache / f"changes-{sizes.cells}x{sizes.cell_px}px",
        lambda made: make_changes(made, rows=sizes.cells, cols=sizes.cells, cell_px=sizes.cell_px),
    )
    warm(root)
    result: dict[str, Any] = {
        "made": datetime.now(UTC).isoformat(timespec="seconds"),
        "cores": os.cpu_count(),
        "window": sizes.window,
        "networks": {},
    }
    with tempfile.TemporaryDirectory(prefix="eoap-benchmark-") as scratch, ServerProcess(root) as server:
        folder = Path(scratch)
        for name, form in forms.items():
            say(f"BTC-{name.upper()}, by itself …")
            weights = random_weights(folder / f"{name}.safetensors", form)
            found = in_process(weights, sizes) | as_run(weights, Land(root, server), sizes, folder)
            found["lost_around"] = 1 - found["bare_s"] / found["around_s"]
            found["lost_in_run"] = 1 - found["bare_s"] / found["run_s"]
            result["networks"][name] = found
    return result


def table(result: Mapping[str, Any]) -> str:
    """Return the result for people."""
    return "\n".join(_lines(result))


def _lines(result: Mapping[str, Any]) -> Iterator[str]:
    yield f"Windows of {result['window']} pixels, random weights, {result['cores']} cores, one thread a window.\n"
    yield "| network | windows per CPU s: bare | over a cell | in a run | lost: over a cell | in a run | worker MB |"
    yield "|---|--:|--:|--:|--:|--:|--:|"
    for name, one in result["networks"].items():
        yield (
            f"| BTC-{name.upper()} | {1 / one['bare_s']:.3f} | {1 / one['around_s']:.3f} | {1 / one['run_s']:.3f} "
            f"| {one['lost_around']:.1%} | {one['lost_in_run']:.1%} | {one['peak_process'] / 1e6:.0f} |"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print, write JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.btc", description=__doc__)
    parser.add_argument("--cache", type=Path, default=DEFAULT_CACHE, help="keeps the archive [%(default)s]")
    parser.add_argument("--sizes", nargs="+", choices=FORMS, default=("t", "b"), metavar="NETWORK")
    parser.add_argument("--tiny", action="store_true", help="a few seconds of it all, to see that it works")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything that was measured")
    given = parser.parse_args(arguments)
    names = ("toy",) if given.tiny else given.sizes
    result = compare(SMALL if given.tiny else FULL, given.cache, {name: FORMS[name] for name in names})
    tell(result, table(result), given.json)


if __name__ == "__main__":
    main()
