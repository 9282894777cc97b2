"""The configuration of a private Gateway, as ``dask_gateway_server --config`` loads it; not for importing."""

from eoap_dask.cluster.gateway.backend import configure

configure(get_config())  # type: ignore[name-defined]  # noqa: F821 - given by the loader
