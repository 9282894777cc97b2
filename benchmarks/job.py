"""What a process of its own is to do, in a file."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self


class SavedJob:
    """The base of frozen dataclasses of plain values and tuples of them."""

    def save(self, path: Path) -> Path:
        """Write the job to a file."""
        path.write_text(json.dumps(asdict(self)))  # type: ignore[call-overload]
        return path

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a job."""
        return cls.from_json(json.loads(path.read_text()))

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> Self:
        """Return the job of some JSON; one that holds other classes makes them."""
        return cls(**plain(content))


def plain(content: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a dataclass whose sequences are tuples."""
    return {key: tuple(value) if isinstance(value, list) else value for key, value in content.items()}
