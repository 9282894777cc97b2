"""What can be done about a run from elsewhere: ask how far it is, pause it, stop it, clean up, report."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eoap_dask.cli.options import verbosity_options
from eoap_dask.params import ENV_PREFIX

if TYPE_CHECKING:
    from eoap_dask.run.orders import Order

VERBS = {
    "run": "make what is asked for, or go on with it (the default)",
    "status": "say how far a run is, or how it ended",
    "retry": "make the units that failed, and no others",
    "pause": "let a run in another terminal send no more work",
    "resume": "let it go on",
    "stop": "end it; what is finished is kept",
    "clean": "remove what an unfinished run left, after asking",
    "report": "print figures of finished units, and what failed",
}
"""What a command of an application does, by its argument; all but run and retry need --output-dir alone."""


def one_verb(verb: str, flag: str | None) -> str:
    """Return the verb that an argument and a flag say, or raise `UsageError` where they differ."""
    from eoap_dask.errors import UsageError

    if flag is not None and verb not in ("run", flag):
        raise UsageError(f"Both {verb} and {flag} are asked for.", "Expected one of them.", "Leave one of them out.")
    return flag or verb


def refuse_dry_run(verb: str, *, dry_run: bool) -> None:
    """Raise `UsageError` for a verb that makes nothing, and yet is only to be planned."""
    from eoap_dask.errors import UsageError
    from eoap_dask.text import option

    if dry_run:
        raise UsageError(
            f"{option('dry_run', True)} can't be combined with {verb}.", "It plans a run.", "Leave one of them out."
        )


def act(verb: str, out: Path, application: str, *, as_json: bool, is_sure: bool, quiet: bool) -> None:
    """Do what a verb says about the run of an output, of an application."""
    if verb == "status":
        from eoap_dask.run.status import read_status

        found = read_status(out)
        click.echo(json.dumps(found.to_dict()) if as_json else str(found))
    elif verb == "report":
        show_report(out, as_json=as_json)
    elif verb == "clean":
        clean_up(out, application, is_sure=is_sure, quiet=quiet)
    else:
        order_run(out, verb, quiet=quiet)  # type: ignore[arg-type]


def order_run(out: Path, order: Order, *, quiet: bool) -> None:
    """Give an order to a run, and say that it was taken."""
    from eoap_dask.run.orders import give_order

    give_order(out, order)
    if not quiet:
        done = {"pause": "is paused", "resume": "goes on", "stop": "stops"}[order]
        click.echo(f"The run on {out} {done}.", err=True)


def show_report(out: Path, *, as_json: bool) -> None:
    """Print what a run came to."""
    from eoap_dask.applications.registry import APPLICATIONS
    from eoap_dask.run.report import application_of, read_report
    from eoap_dask.run.summary import no_figures

    entry = APPLICATIONS.get(application_of(out))
    found = read_report(out, no_figures if entry is None else entry.application().figures)
    click.echo(json.dumps(found.to_dict(), indent=2) if as_json else str(found))


def clean_up(out: Path, expected: str | None, *, is_sure: bool, quiet: bool) -> None:
    """Remove what an unfinished run left, of an application or any, if the user says so."""
    from eoap_dask.errors import NoRunError, UsageError
    from eoap_dask.publish.holdings import resolve, sibling, units_in
    from eoap_dask.publish.publication import remove_unfinished
    from eoap_dask.run.report import application_of
    from eoap_dask.text import option, plural

    partial = sibling(resolve(out), ".partial")
    try:
        application = (expected or application_of(out)) if partial.exists() else ""
    except NoRunError:
        application = "none"  # which says whose it is
    if partial.exists() and not is_sure:
        if not sys.stdin.isatty():
            raise UsageError(
                f"{partial} isn't removed unasked.", "", f"Try {option('yes', True)} where nobody can be asked."
            )
        kept = plural(len(units_in(partial)), "finished unit")
        if not click.confirm(f"Remove {partial}, with {kept}?", err=True):
            click.echo("Nothing was removed.", err=True)
            return
    gone = remove_unfinished(out, application) if application else None
    if not quiet:
        click.echo("There is nothing to remove." if gone is None else f"Removed {gone}.", err=True)


OUT = click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
JSON_OPTION = click.option("--json", "as_json", is_flag=True, envvar=f"{ENV_PREFIX}JSON", help="Print JSON.")
YES_OPTION = click.option(
    "--yes", is_flag=True, envvar=f"{ENV_PREFIX}YES", help="Don't ask before clean removes anything."
)


def commands() -> list[click.Command]:
    """Return the commands for the run of any application, by its output directory."""
    return [*(_order(name) for name in ("pause", "resume", "stop")), clean, report]


def _order(name: Any) -> click.Command:
    def body(output: Path, verbose: int, quiet: bool) -> None:
        _set_up(verbose, quiet=quiet)
        order_run(output, name, quiet=quiet)

    about = {
        "pause": "Let a run send no more work; what is under way is finished, and nothing is lost.",
        "resume": "Let a run that was paused go on.",
        "stop": "End a run; what is finished is kept, and the same command goes on with it.",
    }
    words = f"{about[name]}\n\nOUT is the --output-dir of a run that works, on a disk that it shares with this machine."
    return click.command(name, help=words)(OUT(verbosity_options(body)))


@click.command()
@OUT
@YES_OPTION
@verbosity_options
def clean(output: Path, yes: bool, verbose: int, quiet: bool) -> None:
    """Remove what an unfinished run left beside OUT, its --output-dir; the product stays. Asks before."""
    _set_up(verbose, quiet=quiet)
    clean_up(output, None, is_sure=yes, quiet=quiet)


@click.command()
@OUT
@JSON_OPTION
@verbosity_options
def report(output: Path, as_json: bool, verbose: int, quiet: bool) -> None:
    """Print figures of the finished units of OUT, the --output-dir of a run, their sums, and what failed."""
    _set_up(verbose, quiet=quiet)
    show_report(output, as_json=as_json)


def _set_up(verbose: int, *, quiet: bool) -> None:
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)


def verb_argument(flags: dict[str, str]) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Add the argument that says what a command does, and flags that say the same."""

    def decorate(function: Callable[..., Any]) -> Callable[..., Any]:
        for flag, verb in flags.items():
            function = click.option(flag, "verb_flag", flag_value=verb, help=f"The same as {verb}.")(function)
        return click.argument("verb", type=click.Choice(list(VERBS)), default="run", metavar="[VERB]")(function)

    return decorate
