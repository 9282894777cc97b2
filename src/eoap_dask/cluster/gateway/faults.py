"""What can go wrong between us and a Gateway, in sentences."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from urllib.request import getproxies

from eoap_dask.cluster.gateway.access import stale_name
from eoap_dask.errors import ClusterError, RefusedError, UsageError
from eoap_dask.redact import redact

_FORBIDDEN = 403
_PROBLEM_LENGTH = 300


@contextmanager
def explained(address: str, timeout_s: float) -> Iterator[None]:
    """Turn what can go wrong between us and a Gateway into sentences; `address` is redacted already.

    Raises `RefusedError` when the Gateway says no, `UsageError` for a bad address, `ClusterError` otherwise.
    """
    import aiohttp
    from dask_gateway.client import GatewayClusterError, GatewayServerError

    where = f"the Dask Gateway at {address}"
    try:
        yield
    except aiohttp.ClientResponseError as exc:
        if exc.status in {401, _FORBIDDEN, 407}:
            raise ClusterError(
                f"{where[0].upper()}{where[1:]} doesn't let us in: {exc.status} {redact(exc.message)}.",
                "Expected it to take the configured user and password, or token"
                + (", and clusters to be that user's own." if exc.status == _FORBIDDEN else "."),
                "Check DASK_GATEWAY__AUTH__TYPE and DASK_GATEWAY__AUTH__KWARGS__*.",
            ) from exc
        raise _nonsense(address, f"{exc.status} {exc.message.rstrip('.')}") from exc
    except aiohttp.InvalidURL as exc:
        raise UsageError(f"{address!r} can't be the address of a Dask Gateway.") from exc
    except (aiohttp.ClientConnectionError, ConnectionError, TimeoutError) as exc:
        proxied = {"http", "https", "all"} & set(getproxies())
        why = redact(exc) or f"no answer within {timeout_s:g} s"
        raise ClusterError(
            f"{where[0].upper()}{where[1:]} can't be reached: {why.rstrip('.')[:_PROBLEM_LENGTH]}.",
            "",
            f"Check DASK_GATEWAY__ADDRESS, and that the Gateway runs.{stale_name()}"
            + (" A proxy is set: try DASK_GATEWAY__HTTP_CLIENT__PROXY=False." if proxied else ""),
        ) from exc
    except GatewayServerError as exc:
        raise ClusterError(f"{where[0].upper()}{where[1:]} failed: {_problem(exc)}", "", "Try again.") from exc
    except GatewayClusterError as exc:
        raise RefusedError(address, _problem(exc)) from exc
    except (ImportError, UnicodeEncodeError) as exc:  # of an authentication
        raise useless_access(exc) from exc
    except (json.JSONDecodeError, aiohttp.ClientError, UnicodeDecodeError, LookupError, TypeError) as exc:
        raise _nonsense(address, type(exc).__name__) from exc
    except ValueError as exc:  # 404 and 422
        if str(exc).lstrip().startswith("<"):
            raise _nonsense(address, "it answers with a page of HTML") from exc
        raise RefusedError(address, _problem(exc)) from exc


def unknown_cluster(address: str, name: str) -> ClusterError:
    """Return the fault for a cluster that the Gateway doesn't know; `address` is redacted already."""
    return ClusterError(
        f"The Dask Gateway at {address} knows no cluster {name}.",
        "Expected the name of one that runs; it may have been stopped, or was idle for too long.",
        f"See eoap-dask cluster list for those that run.{stale_name()}",
    )


def useless_access(error: Exception) -> ClusterError:
    """Return the fault for a configured access that can't be used."""
    # without the error's text, which may hold what is secret
    return ClusterError(
        f"The configured access to the Dask Gateway can't be used ({type(error).__name__}).",
        "",
        "Check gateway in dask's configuration, and the variables DASK_GATEWAY__AUTH__*.",
    )


def _nonsense(address: str, what: str) -> ClusterError:
    return ClusterError(
        f"What answers at {address} isn't a Dask Gateway, or is one in trouble: {redact(what)}.",
        "",
        "Check DASK_GATEWAY__ADDRESS, or --gateway.",
    )


def _problem(error: Exception) -> str:
    text = redact(error).strip().splitlines()
    return f"{text[0].rstrip('.')[:_PROBLEM_LENGTH]}." if text else "it doesn't say why."
