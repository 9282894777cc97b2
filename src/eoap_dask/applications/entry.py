"""What is known of an application without importing it: for the command line, Python, CWL and documentation."""

from __future__ import annotations

from collections.abc import Container, Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any


@dataclass(frozen=True)
class Scatter:
    """One product for each value of a parameter, each on a cluster of its own."""

    over: str
    """The option, without its dashes."""
    id: str
    """Id of the workflow's input that takes the values."""
    label: str


@dataclass(frozen=True)
class Package:
    """How an application is wrapped for platforms that run CWL."""

    id: str
    """Id of the workflow: not the command's name, which is the tool's."""
    step: str
    """Id of its one step; clusters name pods after it."""
    keywords: tuple[str, ...]
    file: str = ""
    """Stem of its file, where that isn't `id`."""
    worker_cores: int = 2
    worker_memory: str = "4G"
    cluster_max_cores: int = 8
    cluster_max_memory: str = "16G"
    ram_min_mib: int = 1024
    """Memory of the tool itself, which holds only pixels on their way to a file."""
    ram_max_mib: int = 4096
    image: str = ""
    """What the tag of its image says after the version, where it needs more than the image of the others has."""
    docs: Mapping[str, str] = field(default_factory=dict)
    """Text for inputs whose help on the command line isn't true on a platform, by id."""
    scatter: Scatter | None = None
    """If given, a second file has a workflow that takes an array."""

    @property
    def stem(self) -> str:
        """Stem of its file."""
        return self.file or self.id


@dataclass(frozen=True)
class Example:
    """A use of a command, as its help shows it."""

    what: str
    """What it does, without a full stop."""
    lines: tuple[str, ...]
    """Lines for a shell."""


@dataclass(frozen=True)
class Entry:
    """An application: its names, parameters, words and package."""

    name: str
    """Name of its command."""
    module: str
    """Where its `APPLICATION` and its function are; imported at their first use."""
    function: str
    """Name of its Python function."""
    params: type
    """The dataclass that decides its product."""
    title: str
    summary: str
    """One or two sentences."""
    help: str
    """What `--help` of its command says before the options: a sentence, and paragraphs."""
    examples: tuple[Example, ...]
    page: str
    """Its page of documentation, in the repository."""
    output_dir: str
    """The directory that it makes unless told otherwise."""
    package: Package
    environment: str = ""
    """Module whose `settings` reads further variables of the environment for its command; empty for none."""
    flags: Mapping[str, str] = field(default_factory=dict)
    """Further options of its command that stand for verbs, see `cli.verbs`."""

    @property
    def script(self) -> str:
        """Name of the function behind its console script, see `cli.main`."""
        return self.name.replace("-", "_")

    def application(self) -> Any:
        """Import the application, and return its `base.Application`."""
        return import_module(self.module).APPLICATION

    def settings(self, environ: Mapping[str, str], given: Container[str]) -> tuple[dict[str, Any], list[str]]:
        """Return what further variables say, see `environment`."""
        if not self.environment:
            return {}, []
        found: tuple[dict[str, Any], list[str]] = import_module(self.environment).settings(environ, given)
        return found

    def python(self, name: str) -> Any:
        """Return what Python callers know by one of `python_names`."""
        return self.params if name == self.params.__name__ else getattr(import_module(self.module), name)

    @property
    def python_names(self) -> tuple[str, str]:
        """What `eoap_dask` offers of it: function and parameters."""
        return self.function, self.params.__name__


ON_PLATFORMS = {
    "stac": "URL of what to search: a STAC API, or a static catalog, item collection, ndjson or stac-geoparquet.",
    "items": "File of items to use instead of a search: the items.json of an earlier run, an item collection, ndjson "
    "or stac-geoparquet.",
}
"""`Package.docs` of inputs that all applications have: one file is staged in, and paths mean nothing there."""
