"""What comparisons of whole commands share: archives that are kept, rounds, and their medians."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.measure import Measurement

_TOLD = ("wall_s", "cpu_s", "peak_pss", "fetched", "chips", "units")


def say(text: str) -> None:
    """Tell how far it is."""
    print(text, file=sys.stderr, flush=True)


def kept(root: Path, make: Callable[[Path], object]) -> Path:
    """Make an archive, or find it where it was made before; return its directory."""
    if (root / "items.json").exists():  # written last
        return root
    shutil.rmtree(root, ignore_errors=True)
    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="making-", dir=root.parent) as scratch:
        made = Path(scratch) / "archive"
        make(made)
        made.rename(root)
    return root


def run_of(name: str, cost: Measurement, **more: Any) -> dict[str, Any]:
    """Return what a contender cost in a round, and say it."""
    say(f"  {cost.wall_s:.1f} s, {cost.cpu_s:.1f} CPU-s, {cost.peak_pss / 1e6:.0f} MB")
    return {"contender": name, **asdict(cost), **more}


def medians(runs: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, float]]:
    """Return the medians of each contender's rounds."""
    keys = [key for key in _TOLD if key in runs[0]]
    names = dict.fromkeys(run["contender"] for run in runs)
    return {name: {key: median(r[key] for r in runs if r["contender"] == name) for key in keys} for name in names}


def tell(result: Mapping[str, Any], text: str, path: Path | None) -> None:
    """Print a result for people, and write all of it where that is asked for."""
    if path is not None:
        path.write_text(json.dumps(result, indent=1) + "\n")
    print(text)
