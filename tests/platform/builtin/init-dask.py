"""What calrissian's built-in init script does, as far as it was seen; ours to compare with."""

import os
import re
from pathlib import Path

from dask_gateway import Gateway

UNITS = {"K": 10, "M": 20, "G": 30, "T": 40}


def in_bytes(text):
    """Knows K, M, G, T; what it doesn't know ends it."""
    number, unit = re.match(r"(\d+)([A-Za-z]+)", text).groups()
    return int(number) << UNITS[unit]


env = os.environ
gateway = Gateway(env["DASK_GATEWAY_URL"])
options = gateway.cluster_options()
options["image"] = env["DASK_GATEWAY_IMAGE"]
options["worker_cores"] = float(env["DASK_GATEWAY_WORKER_CORES"])
options["worker_cores_limit"] = int(env["DASK_GATEWAY_WORKER_CORES_LIMIT"])
options["worker_memory"] = env["DASK_GATEWAY_WORKER_MEMORY"]
cluster = gateway.new_cluster(options, shutdown_on_close=False)  # and only then the arithmetic
by_cores = int(env["DASK_GATEWAY_CLUSTER_MAX_CORES"]) // int(env["DASK_GATEWAY_WORKER_CORES_LIMIT"])
by_memory = in_bytes(env["DASK_GATEWAY_CLUSTER_MAX_RAM"]) // in_bytes(env["DASK_GATEWAY_WORKER_MEMORY"])
cluster.scale(min(by_cores, by_memory))
Path(env["DASK_CLUSTER_NAME_PATH"]).write_text(cluster.name)
