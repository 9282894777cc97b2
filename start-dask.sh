#!/usr/bin/env bash
# Start a Dask cluster on the configured Gateway and write its name to dask_cluster_name.txt; options as for
# `eoap-dask cluster start`. Afterwards: source dask_cluster_name.txt
set -euo pipefail
exec eoap-dask cluster start "$@"
