#!/usr/bin/env bash
# Write requirements.txt anew: what the image installs, in the versions of this environment. Needs uv (extra dev).
# To be run where the tests pass, after pyproject.toml has changed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
frozen=$(mktemp)
trap 'rm -f "$frozen"' EXIT
"$python" -c 'from importlib.metadata import distributions as d
print(*sorted({f"{one.name}=={one.version}" for one in d() if one.name != "eoap-dask"}), sep="\n")' >"$frozen"
{
  echo "# What the image installs, in the versions that the tests run with. Made by pin.sh: change pyproject.toml, not this."
  "$python" -m uv pip compile "$here/../../pyproject.toml" --extra geoparquet --python-version 3.11 \
    --python-platform linux --constraint "$frozen" --no-header --no-annotate --quiet
} >"$here/requirements.new"
mv "$here/requirements.new" "$here/requirements.txt"
