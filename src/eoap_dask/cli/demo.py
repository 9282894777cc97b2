"""``eoap-dask demo``: the applications on a synthetic archive, served on this machine."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from eoap_dask.cli.options import GroupedCommand, declared_options, host_option, picked, verbosity_options
from eoap_dask.cli.types import check_port
from eoap_dask.run.options import RunOptions

if TYPE_CHECKING:
    from eoap_dask.demo.items import Dialect
    from eoap_dask.demo.server import DemoServer


@click.group()
def demo() -> None:
    """Try everything without an account or the internet, on a synthetic Sentinel-2 archive."""


@demo.command(
    cls=GroupedCommand,
    epilog="""\b
Examples:
  # From nothing to a picture
  eoap-dask demo run
\b
  # With two workers, into another directory
  eoap-dask demo run --workers 2 --output-dir try
""",
)
# an earlier demo is replaced
@declared_options(RunOptions, without=("resume", "overwrite", "update"), output_dir=Path("eoap-demo"))
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON.")
@verbosity_options
def run(as_json: bool, verbose: int, quiet: bool, **values: Any) -> None:
    """Make an archive, mosaic it, and print the path of a picture. An earlier demo in the directory is replaced."""
    from loguru import logger

    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cli.progress import Progress
    from eoap_dask.demo.showcase import run_demo

    options = picked(RunOptions, values)
    with Progress(quiet=quiet) as progress:
        made = run_demo(
            options.output_dir,
            options,
            listener=progress,
            say=lambda text: None if quiet else click.echo(text, err=True),
        )
    logger.info("{}", made.run.summary())
    if as_json:
        click.echo(json.dumps({"picture": str(made.picture), **made.run.to_dict()}, indent=2))
        return
    if not quiet:
        click.echo(f"The catalog is {made.run.catalog}; here is the picture:", err=True)
    click.echo(str(made.picture))


@demo.command(
    epilog="""\b
Examples:
  # Serve an archive on port 8123, as a slow network would
  eoap-dask demo serve --port 8123 --latency 0.03
\b
  # In another terminal; it says this itself, and commands for what a fire burned, chips of fields, and changes
  cloudless-mosaic --stac http://127.0.0.1:8123/stac
"""
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=8123,
    show_default=True,
    metavar="N",
    help="Port; 0 picks a free one.",
)
@host_option()
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    help="Where the archive is, or is to be made and kept. [default: made anew, and removed]",
)
@click.option(
    "--latency",
    type=click.FloatRange(0, 60),
    default=0.0,
    show_default=True,
    metavar="SECONDS",
    help="Wait before each answer.",
)
@click.option(
    "--fault",
    "faults",
    multiple=True,
    metavar="PATH=FAULT",
    help="Let files go wrong whose path contains PATH: 403, 404, 500, truncate, html, 503-then-ok:2 … Repeat for more.",
)
@click.option("--sign/--no-sign", default=False, show_default=True, help="Ask for signed hrefs, as some catalogues do.")
@click.option(
    "--dialect",
    type=click.Choice(["planetary-computer", "earth-search-v1", "earth-search-c1", "earth-search-v0"]),
    default="planetary-computer",
    show_default=True,
    help="Whose items an archive that is made resembles: their ids, asset keys, and offsets of reflectance.",
)
@verbosity_options
def serve(
    port: int,
    host: str,
    directory: Path | None,
    latency: float,
    faults: tuple[str, ...],
    sign: bool,
    dialect: Dialect,
    verbose: int,
    quiet: bool,
) -> None:
    """Serve an archive as a STAC API with its files, until Ctrl-C. Prints the API's URL, and commands to try on it."""
    import threading

    from loguru import logger

    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.guard import guarded_directory
    from eoap_dask.demo.archive import make_archive, whole_or_nothing
    from eoap_dask.demo.catalogue import CHANGES_DIRECTORY, FIELDS_DIRECTORY
    from eoap_dask.demo.changes import make_changes
    from eoap_dask.demo.fields import make_fields
    from eoap_dask.demo.server import DemoServer, check_faults
    from eoap_dask.net.hrefs import is_loopback

    odd = [f for f in faults if "=" not in f]
    if odd:
        raise click.BadParameter(f"{odd[0]!r} isn't PATH=FAULT. Try B04=404.", param_hint="--fault")
    wrong = dict(f.split("=", 1) for f in faults)
    check_faults(wrong, None)
    check_port(host, port)  # better told before the archive is made
    with guarded_directory("eoap-dask-demo-") as scratch:
        root = directory or scratch / "archive"
        if not (root / "items.json").exists():
            if not quiet:
                click.echo("Making a synthetic Sentinel-2 archive …", err=True)
            make_archive(root, dialect=dialect, fire=True)
            with whole_or_nothing(root):
                make_fields(root / FIELDS_DIRECTORY, dialect=dialect)
                make_changes(root / CHANGES_DIRECTORY, dialect=dialect)
        with DemoServer(root, host=host, port=port, latency_s=latency, faults=wrong, sign=sign) as server:
            if not is_loopback(host):
                logger.warning("Everybody who reaches {} can read this archive.", server.origin)
            click.echo(server.url)
            if not quiet and (commands := _commands(server)):
                click.echo("\n  ".join(["In another terminal:", *commands]), err=True)
            threading.Event().wait()


def _commands(server: DemoServer) -> list[str]:
    """Return the lines for a shell that process what a server has."""
    import shlex
    import shutil
    import sysconfig

    from eoap_dask.applications.cloudless_mosaic.parameters import MosaicParams
    from eoap_dask.demo.catalogue import CHANGES_DIRECTORY, FIELDS_DIRECTORY
    from eoap_dask.demo.changes import CELLS_FILE
    from eoap_dask.demo.fields import FIELDS_FILE
    from eoap_dask.demo.fire import fire_pair, has_fire

    commands: list[list[str]] = []
    items, defaults = server.catalogue.items, MosaicParams()
    collection = server.catalogue.collection
    other = [] if collection == defaults.collection else ["--collection", collection]
    if any(defaults.start_date <= one["properties"]["datetime"][:10] <= defaults.end_date for one in items):
        commands.append(["cloudless-mosaic", "--stac", server.url, *other])
    if has_fire(items):
        before, after = (server.item_url(one["id"]) for one in fire_pair(items))
        commands.append(["bai", "--pre-fire-url", before, "--post-fire-url", after])
    fields = server.root / FIELDS_DIRECTORY / FIELDS_FILE
    if fields.is_file():
        cells = ["--grid", "4", "--split-block", "1", "--no-overlap"]  # a country has more room
        commands.append(["crop-chips", "--stac", server.url, *other, "--fields", str(fields), *cells])
    grid = server.root / CHANGES_DIRECTORY / CELLS_FILE
    if grid.is_file():
        commands.append(["change-detection", "--stac", server.url, *other, "--grid", str(grid)])
    scripts = Path(sysconfig.get_path("scripts"))

    def program(name: str) -> str:
        """Return a name that leads to our command, and not to another of that name."""
        found = shutil.which(name)
        return name if found and Path(found) == scripts / name else str(scripts / name)

    return [shlex.join([program(name), *arguments]) for name, *arguments in commands]
