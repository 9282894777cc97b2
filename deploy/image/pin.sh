#!/usr/bin/env bash
# Write requirements.txt and requirements-btc.txt anew: what the images install, in the versions of this environment.
# Needs uv (extra dev), and PyTorch of that version beside it. To be run where the tests pass, after pyproject.toml has changed.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
python=${PYTHON:-$here/../../.venv/bin/python}
frozen=$(mktemp)
trap 'rm -f "$frozen"' EXIT
"$python" -c 'from importlib.metadata import distributions as d
print(*sorted({f"{one.name}=={one.version}" for one in d() if one.name != "eoap-dask"}), sep="\n")' >"$frozen"

# PyTorch for processors alone has a local version, and needs nothing of NVIDIA's
sed -i 's/+.*//' "$frozen"
compile() {
  "$python" -m uv pip compile "$here/../../pyproject.toml" "$@" --python-version 3.11 --python-platform linux \
    --constraint "$frozen" --no-header --no-annotate --quiet | grep -v -E '^(nvidia|cuda|triton)'
}
write() { # what, file; of what comes
  {
    echo "# What the image installs$1, in the versions that the tests run with. Made by pin.sh: change pyproject.toml, not this."
    cat
  } >"$here/$2.new"
  mv "$here/$2.new" "$here/$2"
}
compile --extra geoparquet | write "" requirements.txt
compile --extra geoparquet --extra btc | grep -v -x -F -f "$here/requirements.txt" |
  write " beside that for PyTorch" requirements-btc.txt
