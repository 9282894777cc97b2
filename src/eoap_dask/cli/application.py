"""The command of an application, made from its entry: options, and a body that plans or runs, and prints."""

from __future__ import annotations

import inspect
import json
import os
import signal
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eoap_dask.applications.entry import Entry, Example
from eoap_dask.cli.options import (
    GroupedCommand,
    cwl_option,
    declared_options,
    picked,
    result_options,
    verbosity_options,
)
from eoap_dask.cli.verbs import VERBS, YES_OPTION, act, one_verb, refuse_dry_run, verb_argument
from eoap_dask.errors import EXIT_CODES
from eoap_dask.run.options import RunOptions

if TYPE_CHECKING:
    from eoap_dask.run.control import Control

_CODES = "; ".join([*(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()), "129/130/143 stopped"])
ENDING = f"""\b
Options have environment variables: EOAP_DASK_ and their name, such as EOAP_DASK_MAX_CLOUD_COVER.
{textwrap.fill(f"Exit codes: {_CODES}.", 96)}
"""


_VERBS = "\b\nVERB says what to do:\n" + "\n".join(f"  {name:<7} {what}" for name, what in VERBS.items())


def application_command(entry: Entry) -> click.Command:
    """Return the command of an application, which is imported when it runs, so that ``--help`` starts quickly."""

    def body(verb: str, dry_run: bool, as_json: bool, yes: bool, verbose: int, quiet: bool, **values: Any) -> None:
        from loguru import logger

        from eoap_dask.logs import set_up_logging
        from eoap_dask.run.control import Control

        verb = one_verb(verb, values.pop("verb_flag", None))
        told, unread = entry.settings(os.environ, _given())
        level = told.pop("level", "")
        set_up_logging(-1 if quiet else 1 if level == "DEBUG" else verbose, level)
        quiet = quiet or level in ("WARNING", "ERROR", "CRITICAL")
        values |= {name: told.pop(name) for name in list(told) if name in values}
        for sentence in unread:
            logger.warning("{}", sentence)
        control = Control()
        if verb not in ("run", "retry"):
            refuse_dry_run(verb, dry_run=dry_run)
            act(verb, values["output_dir"], entry.name, as_json=as_json, is_sure=yes, quiet=quiet)
            return
        from eoap_dask.cli.progress import Progress
        from eoap_dask.run.produce import Hooks
        from eoap_dask.run.status import kept_by_stop

        application = entry.application()
        wanted, options = picked(entry.params, values), picked(RunOptions, values)
        options = options.replace(retry_failed=verb == "retry", **told)
        if dry_run:
            plan = application.dry_run(wanted, options)
            click.echo(json.dumps(plan.to_dict(), indent=2) if as_json else str(plan))
            return
        try:
            with Progress(quiet=quiet) as progress, pausing_signals(control):
                run = application.run(wanted, options, listener=progress, hooks=Hooks(control=control))
        except BaseException as exc:
            if not quiet:  # for `main`, which says it where we were stopped
                exc.add_note(kept_by_stop(options.output_dir, resume=options.resume))
            raise
        logger.info("{}", run.summary())
        click.echo(json.dumps(run.to_dict(), indent=2) if as_json else str(run.catalog))

    for add in (
        verbosity_options,
        result_options,
        YES_OPTION,
        verb_argument(dict(entry.flags)),
        cwl_option(entry),
        declared_options(RunOptions, output_dir=Path(entry.output_dir)),
        declared_options(entry.params),
    ):
        body = add(body)
    settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
    return click.command(
        entry.name,
        cls=GroupedCommand,
        help=f"{inspect.cleandoc(entry.help)}\n\n{_VERBS}",
        epilog=_shown(entry.examples) + ENDING,
        context_settings=settings,
    )(body)


def _given() -> set[str]:
    """Return the options that the user gave, on the command line or by our own variables."""
    context = click.get_current_context()
    default = click.core.ParameterSource.DEFAULT
    return {name for name in context.params if context.get_parameter_source(name) is not default}


EARLY: list[int] = []
"""SIGUSR1 and SIGUSR2 that came before a run began, or after one."""


def note_early_signals() -> None:
    """Let SIGUSR1 and SIGUSR2 be noted until a run hears them: by default they end a process."""
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        signal.signal(number, lambda number, _: EARLY.append(number))


@contextmanager
def pausing_signals(control: Control) -> Iterator[None]:
    """Let SIGUSR1 pause a run and SIGUSR2 let it go on, as the verbs do; elsewhere than in the main thread nothing."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {
        signal.SIGUSR1: signal.signal(signal.SIGUSR1, lambda *_: control.pause()),
        signal.SIGUSR2: signal.signal(signal.SIGUSR2, lambda *_: control.resume()),
    }
    if EARLY[-1:] == [signal.SIGUSR1]:  # before there was a run
        control.pause()
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _shown(examples: Sequence[Example]) -> str:
    """Return examples as paragraphs that Click doesn't wrap."""
    texts = ["\n".join(f"  {line}" for line in (f"# {one.what}", *one.lines)) for one in examples]
    return "\b\nExamples:\n" + "\n\b\n".join(texts) + "\n"
