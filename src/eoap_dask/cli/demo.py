"""``eoap-dask demo``: the applications on a synthetic archive, served on this machine."""

from __future__ import annotations

import click


@click.group()
def demo() -> None:
    """Try everything without an account or the internet, on a synthetic Sentinel-2 archive."""
