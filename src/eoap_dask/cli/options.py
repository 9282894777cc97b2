"""Options from declarations, so that every command's help reads alike."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, TypeVar

import click

from eoap_dask.applications.entry import Entry
from eoap_dask.cli.types import key_value, own_address
from eoap_dask.params import ENV_PREFIX, Declaration, declarations, heading_of

F = TypeVar("F", bound=Callable[..., Any])

_TYPES: dict[str, Any] = {
    "str": str,
    "str | None": str,
    "float": float,
    "int": int,
    "int | None": int,
    "Path": click.Path(path_type=Path),
    "Any": str,
    "float | None": float,
    "Path | None": click.Path(path_type=Path),
    "tuple[tuple[str, str], ...]": key_value,
    "tuple[str, ...]": str,
    "tuple[float, ...]": float,
}


class GroupedOption(click.Option):
    """An option that stands under a heading in `--help`."""

    def __init__(self, *args: Any, heading: str = "", **about: Any) -> None:
        super().__init__(*args, **about)
        self.heading = heading


class GroupedCommand(click.Command):
    """A command whose `--help` has its options under their headings, in the order in which these come first."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options."""
        groups: dict[str, list[tuple[str, str]]] = {}
        for one in self.get_params(ctx):
            if (record := one.get_help_record(ctx)) is not None:
                groups.setdefault(getattr(one, "heading", ""), []).append(record)
        if others := groups.pop("", None):
            groups[""] = others
        for heading, records in groups.items():
            with formatter.section(heading or "Other options"):
                formatter.write_dl(records)


def declared_options(cls: type, *, without: Collection[str] = (), **defaults: Any) -> Callable[[F], F]:
    """Add an option for every declared field of a dataclass but some; `defaults` replace those of the class."""

    def decorate(function: F) -> F:
        for name, (field, declared) in reversed(declarations(cls).items()):
            if name in without:
                continue
            default = defaults.get(name, field.default)
            function = _option(name, field, declared, default, heading=heading_of(cls, name))(function)
        return function

    return decorate


def declared_option(cls: type, name: str, *, kind: Any = None, **changes: Any) -> Callable[[F], F]:
    """Add the option of one declared field, where a command has other words for it than the others.

    `changes` replace its ``default``, or fields of its `Declaration`; `kind` is a type of Click that knows more.
    """
    field, declared = declarations(cls)[name]
    default = changes.pop("default", field.default)
    return _option(name, field, dataclasses.replace(declared, **changes), default, kind)


def picked(cls: type, values: dict[str, Any]) -> Any:
    """Make the dataclass from a command's values, and take these out of them."""
    fields = declarations(cls)
    taken = {name: values.pop(name) for name in list(values) if name in fields}
    return cls(**{k: tuple(v) if isinstance(v, list) else v for k, v in taken.items()})


def host_option(envvar: str | None = None) -> Callable[[F], F]:
    """Add --host, of servers for trials: with another address than the default, others than this machine reach them."""
    return click.option(
        "--host",
        type=own_address,
        default="127.0.0.1",
        show_default=True,
        metavar="ADDRESS",
        envvar=envvar,
        help="Address of this machine at which others may reach it, such as pods of a cluster for a trial.",
    )


def verbosity_options(function: F) -> F:
    """Add -v and -q."""
    function = click.option(
        "-v",
        "--verbose",
        count=True,
        help="Say more; errors come with a traceback.",
        envvar=f"{ENV_PREFIX}VERBOSE",
    )(function)
    return click.option(
        "-q",
        "--quiet",
        is_flag=True,
        help="Say nothing but errors.",
        envvar=f"{ENV_PREFIX}QUIET",
        callback=_say_what_is_unread,
    )(function)


def _say_what_is_unread(context: click.Context, _: click.Parameter, quiet: bool) -> bool:
    """Warn of variables that nothing reads; `main` gives the function that finds them as the context's object."""
    if not quiet and not context.resilient_parsing and callable(context.obj):
        for sentence in context.obj():
            click.echo(f"Warning: {sentence}", err=True)
    return quiet


def result_options(function: F) -> F:
    """Add --dry-run and --json."""
    function = click.option(
        "--json",
        "as_json",
        is_flag=True,
        help="Print the result, or the plan, as JSON.",
        envvar=f"{ENV_PREFIX}JSON",
    )(function)
    return click.option(
        "--dry-run",
        is_flag=True,
        help="Print what would be done, and stop before any pixel is read.",
        envvar=f"{ENV_PREFIX}DRY_RUN",
    )(function)


def cwl_option(application: Entry) -> Callable[[F], F]:
    """Add --cwl, which prints the tool of an application as CWL."""

    def show(context: click.Context, _: click.Parameter, asked: bool) -> None:
        if asked and not context.resilient_parsing:
            from eoap_dask.cwl.generate import to_text, tool

            click.echo(to_text(tool(application), application), nl=False)
            context.exit()

    return click.option(
        "--cwl",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=show,
        help="Print this command as a tool of CWL, and stop. See also eoap-dask cwl.",
    )


def _option(
    name: str, field: dataclasses.Field[Any], declared: Declaration, default: Any, kind: Any = None, heading: str = ""
) -> Callable[[F], F]:
    flag = "--" + (declared.flag or name.replace("_", "-"))
    envvar = declared.envvar or ENV_PREFIX + (declared.flag.replace("-", "_") or name).upper()
    common: dict[str, Any] = {"help": declared.help, "envvar": envvar, "show_envvar": False}
    common |= {"cls": GroupedOption, "heading": heading}
    if declared.negative:
        return click.option(f"{flag}/--{declared.negative}", name, default=default, show_default=True, **common)
    if field.type == "bool":
        return click.option(flag, name, is_flag=True, default=default, **common)
    kind = kind or (click.Choice(declared.choices) if declared.choices else _TYPES[str(field.type)])
    return click.option(
        flag,
        *(f"--{alias}" for alias in declared.aliases),
        name,
        type=kind,
        default=list(default) if declared.multiple else default,
        multiple=declared.multiple,
        metavar=declared.metavar or None,
        show_default=default not in (None, ""),
        **common,
    )
