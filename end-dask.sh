#!/usr/bin/env bash
# Stop the Dask cluster that dask_cluster_name.txt names, and remove that file; options as for
# `eoap-dask cluster stop`.
set -euo pipefail
exec eoap-dask cluster stop "$@"
