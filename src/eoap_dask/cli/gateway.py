"""``eoap-dask gateway``: a private Dask Gateway on this machine."""

from __future__ import annotations

import shlex
from pathlib import Path

import click

from eoap_dask.cli.options import host_option, verbosity_options
from eoap_dask.cli.types import check_port, duration, memory
from eoap_dask.params import ENV_PREFIX


@click.group()
def gateway() -> None:
    """Serve a private Dask Gateway on this machine, to try what needs one."""


@gateway.command(
    epilog="""\b
Examples:
  # Serve one, and use it in another terminal
  eoap-dask gateway serve --env-file gateway.env
  source gateway.env
\b
  # With credentials for the workers, and their logs kept
  eoap-dask gateway serve --env AWS_ACCESS_KEY_ID --env AWS_SECRET_ACCESS_KEY --logs-dir logs
\b
Without --env-file, the lines to be sourced are printed; they hold the password of this Gateway. Needs the extra
eoap-dask[gateway]. Every option has an environment variable: EOAP_DASK_GATEWAY_ and its name, such as
EOAP_DASK_GATEWAY_PORT. Exit codes: 2 usage, 5 it doesn't start or dies, 129/130/143 stopped.
"""
)
@click.option(
    "--port",
    type=click.IntRange(0, 65535),
    default=0,
    show_default=True,
    metavar="N",
    envvar=f"{ENV_PREFIX}GATEWAY_PORT",
    help="Port; 0 picks a free one.",
)
@host_option(f"{ENV_PREFIX}GATEWAY_HOST")
@click.option(
    "--idle-timeout",
    type=duration,
    default="1h",
    show_default=True,
    metavar="TIME",
    envvar=f"{ENV_PREFIX}GATEWAY_IDLE_TIMEOUT",
    help="Stop a cluster that had no work for so long; 0 for never.",
)
@click.option(
    "--max-cores",
    type=click.FloatRange(0, min_open=True),
    metavar="N",
    envvar=f"{ENV_PREFIX}GATEWAY_MAX_CORES",
    help="Cores of all workers of a cluster. [default: no limit]",
)
@click.option(
    "--max-memory",
    type=memory,
    metavar="SIZE",
    envvar=f"{ENV_PREFIX}GATEWAY_MAX_MEMORY",
    help="Memory of all workers of a cluster, such as 8G. [default: no limit]",
)
@click.option(
    "--env",
    "variables",
    multiple=True,
    metavar="NAME",
    envvar=f"{ENV_PREFIX}GATEWAY_ENV",
    help="Hand this variable of the environment to schedulers and workers, which inherit few. Repeat for more.",
)
@click.option(
    "--logs-dir",
    type=click.Path(path_type=Path, file_okay=False),
    metavar="DIR",
    envvar=f"{ENV_PREFIX}GATEWAY_LOGS_DIR",
    help="Keep the logs of server, schedulers and workers here. [default: not kept]",
)
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    envvar=f"{ENV_PREFIX}GATEWAY_ENV_FILE",
    help="Write what is to be sourced to this file, for you alone, and remove it at the end. [default: print it]",
)
@verbosity_options
def serve(
    port: int,
    host: str,
    idle_timeout: float,
    max_cores: float | None,
    max_memory: str | None,
    variables: tuple[str, ...],
    logs_dir: Path | None,
    env_file: Path | None,
    verbose: int,
    quiet: bool,
) -> None:
    """Serve a private Gateway until Ctrl-C, and print what to source for using it.

    It is the real dask-gateway-server with its proxy; its clusters are processes of your own, and end with it.
    """
    import os
    import time

    from loguru import logger

    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
    from eoap_dask.cluster.gateway.server import LocalGateway
    from eoap_dask.cluster.name_file import write_private
    from eoap_dask.errors import ClusterError, UsageError
    from eoap_dask.net.hrefs import is_loopback

    check_port(host, port)
    missing = [name for name in variables if name not in os.environ]
    if missing:
        raise UsageError(f"--env {missing[0]!r} isn't in the environment.", "Expected the name of a variable.")
    environment = {name: os.environ[name] for name in variables}
    with LocalGateway(
        logs_dir=logs_dir,
        idle_timeout_s=idle_timeout,
        environment=environment,
        max_cores=max_cores,
        max_memory=max_memory,
        host=host,
        port=port,
    ) as running:
        if not is_loopback(host):
            logger.warning(
                "Who reaches {} and knows the password can run anything here as you; it travels unencrypted. "
                "For trials in a network that you trust.",
                running.address,
            )
        lines = "".join(f"export {key}={shlex.quote(value)}\n" for key, value in running.client_environment.items())
        if not quiet:
            click.echo(f"A Dask Gateway is at {running.address} until Ctrl-C.", err=True)
        if env_file is None:
            click.echo(lines, nl=False)
        else:
            write_private(env_file, lines)
            click.echo(str(env_file))
        try:
            while running.pid is not None:
                time.sleep(0.5)
        finally:
            if env_file is not None:
                env_file.unlink(missing_ok=True)
        raise ClusterError("The private Gateway has died.", "", "Try --logs-dir, and see gateway.log.")
