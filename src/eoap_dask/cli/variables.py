"""Variables of the environment that commands read, and those that nobody reads."""

from __future__ import annotations

import os
from collections.abc import Iterator

import click

from eoap_dask.params import ENV_PREFIX
from eoap_dask.text import nearest

READ_ELSEWHERE = frozenset(
    ENV_PREFIX + name
    for name in (
        "DASHBOARD",
        "GUARDED",
        "MEMORY_GUARD",
        "PRIVATE_GATEWAY",
        "PRIVATE_GATEWAY_PASSWORD",
        "HEARTBEAT_TIMEOUT",  # this and the next two by the scripts in deploy/calrissian
        "INIT_TIMEOUT",
        "INIT_WORKERS",
    )
)
"""Variables without an option."""

OF_TESTS = tuple(ENV_PREFIX + name for name in ("TEST_", "BENCHMARK_"))
"""How names begin that tests and benchmarks of this package read."""


def commands_of(command: click.Command) -> Iterator[click.Command]:
    """Yield a command, and all below it."""
    yield command
    for one in command.commands.values() if isinstance(command, click.Group) else ():
        yield from commands_of(one)


def variables_of(command: click.Command) -> set[str]:
    """Return the variables of all options of a command, and of those below it."""
    found: set[str] = set()
    for one in (parameter for each in commands_of(command) for parameter in each.params):
        found.update([one.envvar] if isinstance(one.envvar, str) else one.envvar or ())
    return found


def unread_variables(command: click.Command) -> list[str]:
    """Return for each variable of ours in the environment that nothing reads a sentence that says so."""
    ours = sorted(name for name in os.environ if name.startswith(ENV_PREFIX) and not name.startswith(OF_TESTS))
    if not ours:
        return []
    known = variables_of(command) | READ_ELSEWHERE
    return [_unread(name, known) for name in ours if name not in known]


def _unread(name: str, known: set[str]) -> str:
    bare = {one.removeprefix(ENV_PREFIX): one for one in sorted(known) if one.startswith(ENV_PREFIX)}
    near = nearest(name.removeprefix(ENV_PREFIX), bare)
    hint = f"Perhaps {bare[near]} is meant." if near else "See --help for the options, whose names they have."
    return f"The variable {name} of the environment is read by nothing. {hint}"
