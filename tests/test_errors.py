"""Every fault that a user can act on has its place in `errors.py`, and is imported from the package."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import eoap_dask
from eoap_dask import errors

SOURCE = Path(eoap_dask.__file__).parent


def classes() -> dict[str, list[tuple[str, set[str]]]]:
    """Return the file and the names of the bases of each class in the package, nested ones included."""
    found: dict[str, list[tuple[str, set[str]]]] = {}
    for path in sorted(SOURCE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.ClassDef):
                bases = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                found.setdefault(node.name, []).append((path.relative_to(SOURCE).as_posix(), bases))
    return found


def faults() -> dict[str, list[str]]:
    """Return the files of each class that is `EoapError` or inherits from it, by its name."""
    known = {"EoapError"}
    everything = classes()
    while True:
        more = {name for name, places in everything.items() for _, bases in places if bases & known} - known
        if not more:
            return {name: [path for path, _ in everything[name]] for name in sorted(known)}
        known |= more


FAULTS = faults()
PUBLIC = [name for name in FAULTS if not name.startswith("_")]


def test_the_code_is_read() -> None:
    assert {"EoapError", "GridMismatchError", "StatusError", "StepFailedError"} <= set(PUBLIC)


@pytest.mark.parametrize("name", PUBLIC)
def test_every_fault_is_imported_from_the_package(name: str) -> None:
    assert FAULTS[name] == ["errors.py"]
    assert getattr(eoap_dask, name) is getattr(errors, name)
    assert name in eoap_dask.__all__
    assert name in dir(eoap_dask)
