"""``eoap-dask cluster``: clusters of a Dask Gateway, for several commands in a row."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from eoap_dask.cli.options import declared_option, verbosity_options
from eoap_dask.cli.types import cluster_name, duration, gateway_address, memory
from eoap_dask.cluster.options import DEFAULT_WORKERS, ClusterOptions
from eoap_dask.params import ENV_PREFIX
from eoap_dask.text import plural

if TYPE_CHECKING:
    from eoap_dask.cluster.gateway.api import ClusterInfo, GatewayApi
    from eoap_dask.cluster.gateway.client import GatewayOptions
    from eoap_dask.cluster.name_file import ClusterName

F = TypeVar("F", bound=Callable[..., Any])

_ABOUT = """\b
The Gateway is the one of dask's configuration: DASK_GATEWAY__ADDRESS, DASK_GATEWAY__AUTH__TYPE and so on.
Every option has an environment variable: EOAP_DASK_ and its name, such as EOAP_DASK_WORKERS.
Exit codes: 0 done, 1 a bug, 2 usage, 5 the Gateway or the cluster, 129/130/143 stopped.
"""
_WHICH = """\b
Without NAME, the cluster is the one that the file names, or else DASK_CLUSTER.
"""


def _place_options(function: F) -> F:
    function = click.option(
        "--file",
        "path",
        type=click.Path(path_type=Path, dir_okay=False),
        default=Path("dask_cluster_name.txt"),
        show_default=True,
        metavar="FILE",
        envvar=[f"{ENV_PREFIX}CLUSTER_FILE", "DASK_CLUSTER_NAME_PATH"],
        help="Which file names the cluster: a bare name, or lines to be sourced.",
    )(function)
    return _gateway_option(function)


def _gateway_option(function: F) -> F:
    return click.option(
        "--gateway",
        "address",
        type=gateway_address,
        metavar="URL",
        envvar=f"{ENV_PREFIX}GATEWAY",
        help="Address of the Gateway. [default: the file's, or else as dask is configured]",
    )(function)


def _json_option(function: F) -> F:
    return click.option(
        "--json", "as_json", is_flag=True, envvar=f"{ENV_PREFIX}JSON", help="Print the result as JSON."
    )(function)


_name_argument = click.argument("name", required=False, type=cluster_name, metavar="[NAME]")


@click.group()
def cluster() -> None:
    """Start and stop clusters on a Dask Gateway, look at them, and scale them."""


@cluster.command(
    epilog=f"""\b
Examples:
  # Four workers for the applications that follow
  eoap-dask cluster start --workers 4 --worker-cores 2 --worker-memory 8G
  source dask_cluster_name.txt
\b
  # With an option that this Gateway has
  eoap-dask cluster start --cluster-option profile=large
\b
Prints the cluster's name. When the cluster that the file names is alive, it is used, and given the workers that it
lacks.
\b
{_ABOUT}"""
)
@declared_option(
    ClusterOptions, "workers", default=DEFAULT_WORKERS, kind=click.IntRange(1), help="How many workers to ask for."
)
@declared_option(
    ClusterOptions,
    "worker_cores",
    kind=click.FloatRange(0, min_open=True),
    metavar="N",
    help="Cores of each worker. [default: the Gateway's]",
)
@declared_option(
    ClusterOptions, "worker_memory", kind=memory, help="Memory of each worker, such as 4G. [default: the Gateway's]"
)
@declared_option(ClusterOptions, "image", help="Container image of scheduler and workers. [default: the Gateway's]")
@declared_option(
    ClusterOptions,
    "cluster_options",
    help="Another option that the Gateway offers for its clusters. Repeat for more.",
)
@click.option(
    "--timeout",
    type=duration,
    default="5m",
    show_default=True,
    metavar="TIME",
    envvar=f"{ENV_PREFIX}TIMEOUT",
    help="How long to wait for the scheduler and, from then on, for workers.",
)
@declared_option(
    ClusterOptions,
    "allow_version_mismatch",
    negative="",
    help="Only warn when scheduler and workers have other software than we.",
)
@_place_options
@_json_option
@verbosity_options
def start(
    cluster_options: tuple[tuple[str, str], ...],
    timeout: float,
    path: Path,
    address: str | None,
    as_json: bool,
    verbose: int,
    quiet: bool,
    **size: Any,
) -> None:
    """Start a cluster that stays, wait for its workers, and write its name to a file for sourcing."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.gateway.api import GatewayApi
    from eoap_dask.cluster.gateway.client import GatewayOptions
    from eoap_dask.cluster.name_file import one_at_a_time, read_name_file

    asked = GatewayOptions(options=dict(cluster_options), timeout_s=timeout, **size)
    asked.check()
    with one_at_a_time(path):
        noted = read_name_file(path)
        _check_same_gateway(path, noted, address)
        with GatewayApi(address or (noted.address if noted else None)) as api:
            running = api.cluster(noted.name) if noted else None
            if running is not None and running.is_live:
                info, workers = _start_again(api, running, asked, path)
            else:
                info, workers = _start_new(api, asked, path, noted)
            result = {
                "name": info.name,
                "gateway": api.shown_address,
                "workers": workers,
                "dashboard": info.dashboard,
                "file": str(path),
                "reused": running is not None and running.is_live,
            }
    if not quiet:
        click.echo(f"{plural(workers, 'worker')}. To use the cluster here: source {path}", err=True)
    click.echo(json.dumps(result, indent=2) if as_json else info.name)


def _start_new(
    api: GatewayApi, asked: GatewayOptions, path: Path, noted: ClusterName | None
) -> tuple[ClusterInfo, int]:
    from loguru import logger

    from eoap_dask.cluster.gateway.access import is_default_address
    from eoap_dask.cluster.gateway.client import start_workers, work_on
    from eoap_dask.cluster.name_file import ClusterName, remove_name_file, write_name_file

    if noted is not None:
        logger.info("The Dask cluster {} of {} is gone", noted.name, path)
    with api.submitted(asked.wanted()) as lease:
        logger.info("Starting the Dask cluster {} with {}", lease.name, asked.size)
        # at once: what can stop it must know of it, whatever becomes of us
        write_name_file(path, ClusterName(lease.name, None if is_default_address(api.address) else api.address))
        try:
            info, allowed = start_workers(api, lease.name, asked)
            with work_on(api, info, asked, allowed) as client:
                workers = len(client.nthreads())
            lease.keep()
        finally:
            if not lease.is_kept:
                remove_name_file(path, lease.name)
    return info, workers


def _start_again(api: GatewayApi, running: ClusterInfo, asked: GatewayOptions, path: Path) -> tuple[ClusterInfo, int]:
    from loguru import logger

    from eoap_dask.cluster.gateway.client import connected, start_workers, work_on

    logger.info("The Dask cluster {} of {} is alive: no other is started", running.name, path)
    info = api.wait_until_running(running.name, asked.timeout_s)
    with connected(info.scheduler or "", f"The Dask cluster {info.name}", info.security) as client:
        workers = len(client.nthreads())
    # who started it may have been killed before the workers came, or they may be leaving just now
    asked = dataclasses.replace(asked, workers=max(workers, asked.workers or 1))
    info, wanted = start_workers(api, info.name, asked)
    with work_on(api, info, asked, wanted) as client:
        workers = len(client.nthreads())
    return info, workers


@cluster.command(
    epilog=f"""\b
Examples:
  # The cluster of the file, which is removed
  eoap-dask cluster stop
\b
  # What was forgotten yesterday
  eoap-dask cluster list --older-than 12h
  eoap-dask cluster stop --all --mine --older-than 12h
\b
Prints the names of the clusters that it stopped; a cluster that doesn't run any more is no failure.
\b
{_WHICH}\b
{_ABOUT}"""
)
@_name_argument
@click.option(
    "--all",
    "every",
    is_flag=True,
    envvar=f"{ENV_PREFIX}STOP_ALL",
    help="Stop all clusters that the Gateway lists for you. Needs --mine.",
)
@click.option(
    "--mine",
    is_flag=True,
    envvar=f"{ENV_PREFIX}STOP_MINE",
    help="Say that they are yours: the Gateway lists those of your user, whatever started them.",
)
@click.option(
    "--older-than",
    type=duration,
    metavar="TIME",
    envvar=f"{ENV_PREFIX}OLDER_THAN",
    help="With --all: only those started longer ago, such as 2h. [default: any]",
)
@click.option(
    "--wait/--no-wait",
    default=True,
    show_default=True,
    envvar=f"{ENV_PREFIX}STOP_WAIT",
    help="Wait until nothing of them is left, at most half a minute.",
)
@_place_options
@_json_option
@verbosity_options
def stop(
    name: str | None,
    every: bool,
    mine: bool,
    older_than: float | None,
    wait: bool,
    path: Path,
    address: str | None,
    as_json: bool,
    verbose: int,
    quiet: bool,
) -> None:
    """Stop a cluster, and remove the file that names it. Safe to run twice."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.gateway.api import GatewayApi
    from eoap_dask.cluster.name_file import remove_name_file
    from eoap_dask.errors import UsageError

    if every and (name or not mine):
        raise UsageError(
            "--all stops every cluster that the Gateway lists for your user, whatever started it.",
            "Expected --mine with it, and no name.",
            "See eoap-dask cluster list first.",
        )
    if not every and (mine or older_than is not None):
        raise UsageError("--mine and --older-than choose among all clusters.", "Expected --all with them.")
    chosen, where = (None, address) if every else _which(name, path, address, must_exist=False)
    stopped: list[str] = []
    if every or chosen:
        with GatewayApi(where) as api:
            for one in [chosen] if chosen else [info.name for info in _listed(api, older_than)]:
                if api.stop(one, wait=wait):
                    stopped.append(one)
                elif not quiet:
                    click.echo(f"The Dask cluster {one} doesn't run any more.", err=True)
                remove_name_file(path, one)
    if not quiet and not stopped and not chosen:
        click.echo("There is no cluster of yours to stop.", err=True)
    if as_json:
        click.echo(json.dumps({"stopped": stopped}, indent=2))
    else:
        for one in stopped:
            click.echo(one)


@cluster.command(
    "list",
    epilog=f"""\b
Examples:
  # Everything of yours that runs
  eoap-dask cluster list
\b
  # What may have been forgotten, for a script
  eoap-dask cluster list --older-than 2h --json
\b
{_ABOUT}""",
)
@click.option(
    "--older-than",
    type=duration,
    metavar="TIME",
    envvar=f"{ENV_PREFIX}OLDER_THAN",
    help="Only those started longer ago, such as 2h. [default: all]",
)
@_gateway_option
@_json_option
@verbosity_options
def list_(older_than: float | None, address: str | None, as_json: bool, verbose: int, quiet: bool) -> None:
    """List the clusters that are starting or running: name, status, age."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.gateway.api import GatewayApi

    with GatewayApi(address) as api:
        found = _listed(api, older_than)
    if as_json:
        click.echo(json.dumps([one.to_dict() for one in found], indent=2))
        return
    for one in found:
        click.echo(f"{one.name}  {one.status:<8}  {_show_age(one.age_s)}")
    if not found and not quiet:
        click.echo("There is no cluster of yours; those of other users aren't listed.", err=True)


@cluster.command(
    epilog=f"""\b
Examples:
  # Eight workers from now on
  eoap-dask cluster scale 8
\b
Prints how many workers the Gateway allows; they come and go as it can.
\b
{_WHICH}\b
{_ABOUT}"""
)
@click.argument("workers", type=click.IntRange(0), metavar="WORKERS")
@_name_argument
@_place_options
@_json_option
@verbosity_options
def scale(
    workers: int, name: str | None, path: Path, address: str | None, as_json: bool, verbose: int, quiet: bool
) -> None:
    """Change how many workers a cluster has."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    with _running(name, path, address) as (api, info):
        allowed = api.scale(info.name, workers)
    if allowed < workers and not quiet:
        click.echo(f"The Gateway allows {allowed} of {plural(workers, 'worker')}.", err=True)
    click.echo(json.dumps({"name": info.name, "workers": allowed}, indent=2) if as_json else str(allowed))


@cluster.command(
    epilog=f"""\b
Examples:
  # What scheduler and workers have said so far
  eoap-dask cluster logs --directory logs
\b
Prints the paths of the files.
\b
{_WHICH}\b
{_ABOUT}"""
)
@_name_argument
@click.option(
    "--directory",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("dask-logs"),
    show_default=True,
    metavar="DIR",
    envvar=f"{ENV_PREFIX}LOGS_DIRECTORY",
    help="Where the logs are written.",
)
@_place_options
@_json_option
@verbosity_options
def logs(
    name: str | None, directory: Path, path: Path, address: str | None, as_json: bool, verbose: int, quiet: bool
) -> None:
    """Write the logs of scheduler and workers to files, without secrets."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.gateway.client import connected
    from eoap_dask.cluster.gateway.evidence import collect_logs
    from eoap_dask.errors import ClusterError

    with _running(name, path, address) as (_, info):
        who = f"The Dask cluster {info.name}"
        with connected(info.scheduler or "", who, info.security) as client:
            written = collect_logs(client, directory)
    if not written:
        raise ClusterError(f"{who} gave no logs.", "", "See -v, or the Gateway's logs.")
    if as_json:
        click.echo(json.dumps({"name": info.name, "files": [str(one) for one in written]}, indent=2))
    else:
        for one in written:
            click.echo(str(one))


@cluster.command(
    epilog=f"""\b
Examples:
  eoap-dask cluster dashboard
\b
{_WHICH}\b
{_ABOUT}"""
)
@_name_argument
@_place_options
@_json_option
@verbosity_options
def dashboard(name: str | None, path: Path, address: str | None, as_json: bool, verbose: int, quiet: bool) -> None:
    """Print the address of a cluster's dashboard."""
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.errors import ClusterError

    with _running(name, path, address) as (_, info):
        pass
    if not info.dashboard:
        raise ClusterError(f"The Dask cluster {info.name} has no dashboard.", "", "Its image may lack bokeh.")
    click.echo(json.dumps(info.to_dict(), indent=2) if as_json else info.dashboard)


def _which(
    name: str | None, path: Path, address: str | None, *, must_exist: bool = True
) -> tuple[str | None, str | None]:
    """Return name and Gateway of the cluster that is meant; the file first: a shell may still hold an older name."""
    from eoap_dask.cluster.gateway.client import name_from_environment
    from eoap_dask.cluster.name_file import check_cluster_name, read_name_file
    from eoap_dask.errors import UsageError

    noted = read_name_file(path)
    if name is None and noted is not None:
        _check_same_gateway(path, noted, address)
        return noted.name, address or noted.address
    chosen = name or name_from_environment()
    if chosen is None:
        if not must_exist:
            return None, address
        raise UsageError(
            "No cluster was named.",
            f"Expected a name, {path} from eoap-dask cluster start, or DASK_CLUSTER.",
            "Try eoap-dask cluster list.",
        )
    if noted is not None and noted.name == chosen:
        address = address or noted.address
    return check_cluster_name(chosen, "DASK_CLUSTER" if name is None else ""), address


@contextmanager
def _running(name: str | None, path: Path, address: str | None) -> Iterator[tuple[GatewayApi, ClusterInfo]]:
    """Yield the Gateway, and the cluster that is meant, which runs."""
    from eoap_dask.cluster.gateway.api import GatewayApi

    chosen, where = _which(name, path, address)
    with GatewayApi(where) as api:
        yield api, api.wait_until_running(str(chosen), timeout_s=30)


def _check_same_gateway(path: Path, noted: ClusterName | None, address: str | None) -> None:
    from eoap_dask.cluster.gateway.access import is_default_address
    from eoap_dask.errors import UsageError

    if noted is None or address is None or address == noted.address:
        return
    if noted.address is None and is_default_address(address):
        return
    raise UsageError(
        f"{path} names the cluster {noted.name} of {noted.address or 'the default Gateway'}, not of {address}.",
        "",
        "Stop that one first, or use another --file.",
    )


def _listed(api: GatewayApi, older_than: float | None) -> list[ClusterInfo]:
    return [one for one in api.clusters() if older_than is None or one.age_s >= older_than]


def _show_age(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{max(0.0, seconds):.0f} s"
