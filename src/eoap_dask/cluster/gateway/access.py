"""How a Gateway is reached: address, proxy and authentication, as dask's configuration and environment say."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from eoap_dask.cluster.name_file import check_address
from eoap_dask.errors import UsageError
from eoap_dask.text import option


def configured_address() -> str:
    """Return the address of the configured Gateway, else raise `UsageError`."""
    import dask
    import dask_gateway  # noqa: F401 - has its defaults in dask's configuration

    address = from_template(dask.config.get("gateway.address", None)) or os.environ.get("DASK_GATEWAY_URL")
    if not address:
        raise UsageError(
            "No Dask Gateway is configured.",
            "Expected its address in DASK_GATEWAY__ADDRESS, or gateway.address in dask's configuration.",
            "eoap-dask gateway serve starts one on this machine and prints what to set; applications work without one "
            f"with {option('cluster', 'local')}.{stale_name()}",
        )
    return check_address(str(address), "dask's configuration")


def stale_name() -> str:
    """Return what to try where the environment names a cluster, which may have ended; nothing where it names none."""
    if not os.environ.get("DASK_CLUSTER"):
        return ""
    return " DASK_CLUSTER is set: where that cluster has been stopped, unset DASK_CLUSTER."


def from_template(value: Any) -> Any:
    """Return a value of dask-gateway's configuration, with ``{NAME}`` replaced by that environment variable."""
    if not isinstance(value, str):
        return value
    try:
        return value.format(**os.environ)
    except (LookupError, ValueError) as exc:
        raise UsageError(
            f"dask's configuration of the Gateway can't be filled in: {type(exc).__name__} {exc}.",
            "Expected {NAME} to stand for a variable of the environment.",
        ) from None


def is_default_address(address: str) -> bool:
    """Tell whether dask's configuration files alone, without this process's environment, lead to an address."""
    import dask

    configured = dask.config.get("gateway.address", None, config=dask.config.collect(env={}))
    return isinstance(configured, str) and configured.rstrip("/") == address


def skips_proxy(address: str) -> bool:
    """Tell whether the environment's proxy doesn't apply to an address; aiohttp ignores ``no_proxy``."""
    import dask

    host = urlsplit(address).hostname or ""
    if dask.config.get("gateway.http-client.proxy", True) is not True or not getproxies():
        return False
    return host in {"localhost", "127.0.0.1", "::1"} or bool(proxy_bypass(host))


def authentication() -> Any:
    """Return the configured authentication, repaired where dask made a number of a password."""
    import dask
    from dask_gateway.auth import BasicAuth

    if dask.config.get("gateway.auth.type", None) != "basic":
        return None
    given = dask.config.get("gateway.auth.kwargs", None) or {}
    if all(isinstance(value, str) for value in given.values()):
        return None
    prefix = "DASK_GATEWAY__AUTH__KWARGS__"
    return BasicAuth(**{key: os.environ.get(prefix + key.upper(), str(value)) for key, value in given.items()})
