"""``eoap-dask btc``: weights of the network that finds change."""

from __future__ import annotations

from pathlib import Path

import click

from eoap_dask.cli.options import verbosity_options

_FORMS = {"b": "BASE", "t": "TINY", "toy": "TOY"}


@click.group()
def btc() -> None:
    """Look at weights of the BTC network, or make some that mean nothing, to try what runs it."""


@btc.command()
@click.argument("weights", metavar="FILE|NAME")
@verbosity_options
def check(weights: str, verbose: int, quiet: bool) -> None:
    """Say whether weights can be used: a file of safetensors, a checkpoint, or a name on the hub, which is fetched."""
    _set_up(verbose, quiet=quiet)
    from eoap_dask.networks.weights import find_weights, lacking, verify

    found = find_weights(weights)
    if not lacking():
        verify(found)
    form = found.form
    kind = "random, what they find means nothing" if found.is_random else "as published, or trained elsewhere"
    click.echo(
        f"{found.path}: BTC of {form.parameters / 1e6:.1f} million numbers, {form.dim} features, blocks "
        f"{'-'.join(map(str, form.depths))}, heads {'-'.join(map(str, form.heads))}, windows of {form.window}; {kind}."
    )


@btc.command("random")
@click.argument("output", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--size", type=click.Choice(list(_FORMS)), default="toy", show_default=True, help="BTC-B, BTC-T, or less."
)
@click.option(
    "--seed",
    type=click.IntRange(0, (1 << 63) - 1),
    default=0,
    show_default=True,
    metavar="N",
    help="They are drawn from.",
)
@verbosity_options
def random_(output: Path, size: str, seed: int, verbose: int, quiet: bool) -> None:
    """Write weights that nobody has trained, as safetensors: whatever they find means nothing."""
    _set_up(verbose, quiet=quiet)
    from eoap_dask.errors import OutputError, UsageError
    from eoap_dask.networks import architecture
    from eoap_dask.networks.weights import INSTALL, lacking, random_weights

    if missing := lacking():
        raise UsageError(f"Weights need {' and '.join(missing)}, not installed here.", "", INSTALL)
    if output.exists():
        raise OutputError(f"{output} exists.", "Nothing is replaced unasked.", "Choose another name.")
    try:
        random_weights(output, getattr(architecture, _FORMS[size]), seed)
    except OSError as error:
        raise OutputError(f"{output} can't be written: {error.strerror or error}.") from error
    click.echo(str(output))


def _set_up(verbose: int, *, quiet: bool) -> None:
    from eoap_dask.logs import set_up_logging

    set_up_logging(-1 if quiet else verbose)
