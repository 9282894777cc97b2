"""What options of commands may hold, beyond what Click knows: functions for ``type=``."""

from __future__ import annotations

import re

import click

_SECONDS = {"": 1.0, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}


def duration(text: str) -> float:
    """Return seconds of a time such as 90, 90s, 5m, 2h or 1d."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([a-z]*)\s*", text.lower())
    if not match or match[2] not in _SECONDS:
        raise click.BadParameter(f"{text!r} isn't a time. Expected seconds, or a number with s, m, h or d. Try 2h.")
    return float(match[1]) * _SECONDS[match[2]]


def memory(text: str) -> str:
    """Return an amount of memory such as 4G, unchanged."""
    from eoap_dask.errors import UsageError
    from eoap_dask.text import parse_memory

    try:
        parse_memory(text)
    except UsageError as exc:
        raise click.BadParameter(str(exc)) from None
    return text


def own_address(text: str) -> str:
    """Return an address of this machine as four numbers, for URLs that others are given; a name is resolved."""
    import ipaddress
    import socket

    try:
        found = socket.gethostbyname(text)
        with socket.socket() as candidate:
            candidate.bind((found, 0))
    except (OSError, UnicodeError) as exc:
        raise click.BadParameter(
            f"{text!r} isn't an address of this machine ({getattr(exc, 'strerror', None) or exc}). "
            "Expected an IPv4 address or a name that leads to one. Try 127.0.0.1."
        ) from None
    one = ipaddress.ip_address(found)
    if one.is_unspecified or one.is_multicast or one.is_reserved:
        raise click.BadParameter(
            f"{text!r} isn't one address, and clients are told one. Expected that at which they reach this machine."
        )
    return found


def check_port(host: str, port: int) -> None:
    """Refuse a port that can't be listened on."""
    import socket

    try:
        with socket.socket() as candidate:
            candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            candidate.bind((host, port))
            candidate.listen()
    except OSError as exc:
        raise click.BadParameter(f"{port} can't be used: {exc.strerror}. Try --port 0.", param_hint="--port") from exc


def key_value(text: str) -> tuple[str, str]:
    """Return key and value of KEY=VALUE."""
    key, equals, content = text.partition("=")
    if not equals or not key.strip():
        raise click.BadParameter(f"{text!r} isn't NAME=VALUE. Try worker_cores=2.")
    return key.strip(), content


def cluster_name(text: str) -> str:
    """Return the name of a Dask cluster, unchanged."""
    from eoap_dask.cluster.name_file import check_cluster_name
    from eoap_dask.errors import UsageError

    try:
        return check_cluster_name(text)
    except UsageError as exc:
        raise click.BadParameter(str(exc)) from None


def gateway_address(text: str) -> str:
    """Return the address of a Dask Gateway, without a slash at its end."""
    from eoap_dask.cluster.name_file import check_address
    from eoap_dask.errors import UsageError

    try:
        return check_address(text)
    except UsageError as exc:
        raise click.BadParameter(str(exc)) from None
