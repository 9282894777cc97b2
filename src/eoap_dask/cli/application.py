"""What the commands of all applications share: options, and a body that plans or runs, and prints."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any

import click

from eoap_dask.applications.registry import APPLICATIONS
from eoap_dask.cli.options import cwl_option, declared_options, picked, result_options, verbosity_options
from eoap_dask.errors import EXIT_CODES
from eoap_dask.run.options import RunOptions

_CODES = "; ".join([*(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()), "129/130/143 stopped"])
ENDING = f"""\b
Every option has an environment variable: EOAP_DASK_ and its name, such as EOAP_DASK_MAX_CLOUD_COVER.
{textwrap.fill(f"Exit codes: {_CODES}.", 96)}
"""


def application_command(
    name: str, module: str, params: type, output_dir: Path, examples: str
) -> Callable[[Callable[..., None]], click.Command]:
    """Make a command of a function that has nothing but its documentation.

    `module`, below `eoap_dask.applications`, is imported when the command runs, so that ``--help`` starts quickly.
    """

    def decorate(function: Callable[..., None]) -> click.Command:
        def body(dry_run: bool, as_json: bool, verbose: int, quiet: bool, **values: Any) -> None:
            from eoap_dask.logs import set_up_logging

            set_up_logging(-1 if quiet else verbose)
            from eoap_dask.cli.progress import Progress

            application = import_module(f"eoap_dask.applications.{module}.application").APPLICATION
            wanted, options = picked(params, values), picked(RunOptions, values)
            if dry_run:
                plan = application.dry_run(wanted, options)
                click.echo(json.dumps(plan.to_dict(), indent=2) if as_json else str(plan))
                return
            with Progress(quiet=quiet) as progress:
                run = application.run(wanted, options, listener=progress)
            click.echo(json.dumps(run.to_dict(), indent=2) if as_json else str(run.catalog))

        body.__doc__ = function.__doc__
        for add in (
            verbosity_options,
            result_options,
            *([cwl_option(APPLICATIONS[name])] if name in APPLICATIONS else []),
            declared_options(RunOptions, output_dir=output_dir),
            declared_options(params),
        ):
            body = add(body)
        settings = {"help_option_names": ["-h", "--help"], "max_content_width": 100}
        return click.command(name, epilog=examples + ENDING, context_settings=settings)(body)

    return decorate
