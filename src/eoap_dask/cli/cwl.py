"""``eoap-dask cwl`` and ``eoap-dask run-cwl``: application packages made, checked and run."""

from __future__ import annotations

import json
from pathlib import Path

import click

from eoap_dask.cli.options import verbosity_options
from eoap_dask.cli.types import duration, gateway_address
from eoap_dask.params import ENV_PREFIX


@click.group()
def cwl() -> None:
    """Make and check CWL application packages."""


@cwl.command(
    epilog="""\b
Examples:
  # Write the files of all applications
  eoap-dask cwl generate
\b
  # In a test: fail where they differ from what would be written
  eoap-dask cwl generate --check
\b
Prints the paths of the files. Exit codes: 0 written, or all as they should be; 1 --check found another, 2 usage.
"""
)
@click.option(
    "--output-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("cwl-workflows"),
    show_default=True,
    metavar="DIR",
    envvar=f"{ENV_PREFIX}CWL_DIR",
    help="Where the files are written.",
)
@click.option(
    "--image",
    metavar="NAME",
    envvar=f"{ENV_PREFIX}CWL_IMAGE",
    help="Container image, with or without a tag, where it isn't the published one.",
)
@click.option(
    "--check", is_flag=True, envvar=f"{ENV_PREFIX}CWL_CHECK", help="Write nothing; fail where a file differs."
)
@verbosity_options
def generate(output_dir: Path, image: str | None, check: bool, verbose: int, quiet: bool) -> None:
    """Write the application packages: a CWL file for each application, and its variants."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cwl.generate import files
    from eoap_dask.errors import OutputError
    from eoap_dask.files import write_bytes

    made = files(image)
    if check:
        other = [name for name, text in made.items() if not _is_same(output_dir / name, text)]
        if other:
            what = f"{output_dir / other[0]} isn't what the parameters and the version say"
            click.echo(f"Error: {what}. Try eoap-dask cwl generate.", err=True)
            raise click.exceptions.Exit(1)
        return
    try:
        output_dir.mkdir(parents=True, exist_ok=True)
        for name, text in made.items():
            click.echo(str(write_bytes(output_dir / name, text.encode())))
    except OSError as exc:
        raise OutputError(f"{output_dir} can't be written: {exc.strerror}.", "", "Try another --output-dir.") from exc


@cwl.command(
    epilog="""\b
Examples:
  eoap-dask cwl validate cwl-workflows/monthly-composite.cwl
\b
  # Without OGC's checkers, in a second or two
  eoap-dask cwl validate --no-ogc workflow.cwl
\b
Prints what is to be mended, errors first; nothing when all is well. Exit codes: 0 no errors, 1 errors,
2 a file isn't CWL at all. Needs the extra eoap-dask[cwl].
"""
)
@click.argument("paths", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")
@click.option(
    "--ogc/--no-ogc",
    default=None,
    envvar=f"{ENV_PREFIX}CWL_OGC",
    help="Ask ap-validator and eoap-validator as well. [default: those that are installed]",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as JSON.", envvar=f"{ENV_PREFIX}JSON")
@verbosity_options
def validate(paths: tuple[Path, ...], ogc: bool | None, as_json: bool, verbose: int, quiet: bool) -> None:
    """Check CWL files: against the schema, for calrissian, and as OGC's best practice has it."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cwl import validate as check
    from eoap_dask.errors import UsageError

    installed = check.installed_checkers()
    missing = [name for name in check.CHECKERS if name not in installed]
    if ogc and missing:
        raise UsageError(f"{' and '.join(missing)} can't be found.", "", "Try pip install 'eoap-dask[cwl-check]'.")
    found, unread = {}, 0
    for file in paths:
        try:
            found[str(file)] = check.validate(file, () if ogc is False else installed)
        except UsageError as exc:  # the others are looked at all the same
            if len(paths) == 1:
                raise
            unread = exc.exit_code
            click.echo(f"Error: {exc}", err=True)
    if as_json:
        click.echo(json.dumps({path: [one.to_dict() for one in all_] for path, all_ in found.items()}, indent=2))
    else:
        for path, all_ in found.items():
            for one in all_:
                click.echo(f"{path}: {one.level}: {one}")
            if not all_ and not quiet:
                asked = "" if ogc is False or not installed else f", {' and '.join(installed)} agree"
                click.echo(f"{path} is fine{asked}.", err=True)
    if unread or any(one.level == "error" for all_ in found.values() for one in all_):
        raise click.exceptions.Exit(unread or 1)


@click.command(
    "run-cwl",
    context_settings={"ignore_unknown_options": True, "help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog="""\b
Examples:
  # The mosaic, on a Gateway that lives as long as the run
  eoap-dask run-cwl cwl-workflows/monthly-composite.cwl cwl-workflows/monthly-composite.yml --outdir results
\b
  # Several areas, two at a time
  eoap-dask run-cwl --parallel cwl-workflows/monthly-composite-scatter.cwl areas.yml
\b
  # On a Gateway that is there, tools in containers
  eoap-dask run-cwl --dask-gateway-url http://10.0.0.5:8000 --podman workflow.cwl job.yml
\b
All options of cwltool work, before or after the files: cwltool --help tells them. An image that is only a hint is
ignored unless an engine is chosen (--docker, --podman, --singularity, --udocker). What --preserve-environment names
reaches tools, and the workers of a private Gateway. Needs the extra eoap-dask[cwl].
Exit codes: that of the first tool that failed (128 and its number for a signal); 2 a file, the job or an option is
wrong, 5 the Gateway or a cluster failed, 33 cwltool lacks something, 129/130/143 stopped.
""",
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED, metavar="FILE [JOB] [CWLTOOL OPTIONS]...")
@click.option(
    "--dask-gateway-url",
    "gateway",
    type=gateway_address,
    metavar="URL",
    envvar=f"{ENV_PREFIX}GATEWAY",
    help="Gateway to start the clusters on; access as dask is configured. [default: a private one for this run]",
)
@click.option(
    "--dask-timeout",
    type=duration,
    default="5min",
    show_default=True,
    metavar="TIME",
    envvar=f"{ENV_PREFIX}DASK_TIMEOUT",
    help="How long to wait for the scheduler of a cluster.",
)
@click.option(
    "--dask-logs",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    envvar=f"{ENV_PREFIX}DASK_LOGS",
    help="Keep the logs of schedulers and workers here. [default: of failed steps, in dask-logs in --outdir]",
)
@click.option("--docker", is_flag=True, envvar=f"{ENV_PREFIX}DOCKER", help="Run tools in their images with Docker.")
@verbosity_options
def run_cwl(
    arguments: tuple[str, ...],
    gateway: str | None,
    dask_timeout: float,
    dask_logs: Path | None,
    docker: bool,
    verbose: int,
    quiet: bool,
) -> None:
    """Run a CWL workflow with cwltool, with a Dask cluster for each step that asks for one.

    Such a step has calrissian:DaskGatewayRequirement, and gets what calrissian would give it on Kubernetes: a cluster
    of the same size on a Dask Gateway, named by DASK_CLUSTER, which is stopped when the step ends, however it ends.
    cwltool writes the outputs to --outdir, and their description to stdout.
    """
    from eoap_dask.logs import set_up_logging

    set_up_logging(1 if verbose or "--debug" in arguments else -1 if quiet else 0)
    from eoap_dask.cwl.runner import RunCwlOptions, run_cwl

    as_cwltool_has_it = ["--debug"] if verbose else ["--quiet"] if quiet else []
    run_cwl([*as_cwltool_has_it, *arguments], RunCwlOptions(gateway, dask_timeout, dask_logs, docker), is_last=True)


def _is_same(path: Path, text: str) -> bool:
    return path.is_file() and path.read_bytes() == text.encode()
