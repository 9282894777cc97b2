"""The house: packages by concern, imports downward only, no circle, nothing in `__init__` files."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "eoap_dask"

FLOORS = (
    {"__about__", "errors", "periods", "text", "redact", "overlap", "logs", "files", "params", "values"},
    {"geo", "net", "kernels"},
    {"items", "networks"},
    {"scenes"},
    {"readers"},
    {"render"},
    {"output"},
    {"stac", "publish", "cluster"},
    {"run", "lazy"},
    {"applications"},
    {"cwl", "demo"},
    {"cli"},
    {"__init__", "__main__"},
)
"""From the ground up. What stands on one floor doesn't know its neighbours, but for the ground floor."""
FLOOR = {name: number for number, names in enumerate(FLOORS) for name in names}


def module_of(path: Path) -> str:
    """Return the dotted name of a module below `eoap_dask`."""
    parts = path.relative_to(SOURCE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" and len(parts) > 1 else parts)


MODULES = {module_of(path): path for path in sorted(SOURCE.rglob("*.py"))}


def imported(path: Path) -> Iterator[str]:
    """Yield the modules of ours that a file imports: at its top, in functions, and for types alone."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            yield from (known(alias.name) for alias in node.names if alias.name.split(".")[0] == "eoap_dask")
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "eoap_dask":
            yield from (known(f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"


def known(dotted: str) -> str:
    """Return the module that a dotted name is, or is in."""
    name = dotted.removeprefix("eoap_dask").removeprefix(".")
    while name and name not in MODULES:
        name = name.rpartition(".")[0]
    return name or "__init__"


def test_everything_has_its_floor() -> None:
    assert {name.split(".")[0] for name in MODULES} == set(FLOOR)


@pytest.mark.parametrize("module", MODULES)
def test_imports_go_down(module: str) -> None:
    here = module.split(".")[0]
    for other in imported(MODULES[module]):
        there = other.split(".")[0]
        if there != here:
            assert FLOOR[there] < FLOOR[here] or FLOOR[there] == FLOOR[here] == 0, f"{module} imports {other}"


def test_there_is_no_circle() -> None:
    """Neither of modules, nor within a package of its files and folders."""
    TopologicalSorter({name: set(imported(path)) - {name} for name, path in MODULES.items()}).prepare()
    for package in (path.parent for path in SOURCE.rglob("__init__.py")):
        prefix = "".join(f"{part}." for part in package.relative_to(SOURCE).parts)

        def place(name: str, prefix: str = prefix) -> str | None:
            return name.removeprefix(prefix).split(".")[0] if name.startswith(prefix) else None

        graph: dict[str, set[str]] = {}
        for name, path in MODULES.items():
            if (here := place(name)) is not None:
                graph.setdefault(here, set()).update(p for o in imported(path) if (p := place(o)) not in (None, here))
        TopologicalSorter(graph).prepare()


def test_packages_cost_nothing_to_import() -> None:
    for path in SOURCE.rglob("__init__.py"):
        if path.parent != SOURCE:
            body = ast.parse(path.read_text("utf-8")).body
            assert all(isinstance(one, ast.Expr) and isinstance(one.value, ast.Constant) for one in body), path


def test_the_map_is_the_tree() -> None:
    """CONTRIBUTING.md names every package and top-level module, and no other."""
    map_ = (ROOT / "CONTRIBUTING.md").read_text("utf-8").partition("## The map")[2].partition("\n## ")[0]
    told: set[str] = set()
    for group in re.findall(r"^\| (`[^|]+`) \|", map_, re.M):
        told |= {name.rstrip("/").removesuffix(".py") for name in re.findall(r"`([a-z_]+(?:/|\.py))`", group)}
    assert told == set(FLOOR) - {"__about__", "__init__", "__main__"}
