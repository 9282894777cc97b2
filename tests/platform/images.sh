#!/usr/bin/env bash
# Make the images that the container tests use, without a registry; as root, on Debian or its like.
#   images.sh base     localhost/eoap-dask-base:test, of Debian's own packages: it stands in for the official Python image
#   images.sh image    localhost/eoap-dask:test, the Dockerfile on that base
#   images.sh btc      localhost/eoap-dask:test-btc, its target with PyTorch, from where pip of this machine finds that
#   images.sh all      all of them
#   images.sh digest   says what the image is made of, as its label does
# Needs: apt-get install --no-install-recommends debootstrap buildah podman runc uidmap catatonit
# Packages come from where pip of this machine is set up to find them; nothing of that stays in the image.
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repository=$(cd "$here/../.." && pwd)
base=localhost/eoap-dask-base:test
image=${EOAP_DASK_TEST_IMAGE:-localhost/eoap-dask:test}
suite=${DEBIAN_SUITE:-bookworm}
export CONTAINERS_CONF=${CONTAINERS_CONF:-$here/containers.conf}
scratch=$(mktemp -d -t eoap-dask-images.XXXXXX)
trap 'rm -rf "$scratch"' EXIT

make_base() {
  debootstrap --variant=minbase --include=ca-certificates,python3,python3-venv,python-is-python3 "$suite" \
    "$scratch/root" >"$scratch/log" 2>&1 || { tail -n 20 "$scratch/log" >&2; exit 1; }
  rm -rf "$scratch"/root/var/{cache/apt,lib/apt/lists,log}/* "$scratch"/root/usr/share/{doc,man,locale}/* \
    "$scratch"/root/{dev,tmp}/*
  chmod 755 "$scratch/root" # mktemp's directory was ours alone
  tar -C "$scratch/root" --numeric-owner -c . | podman import --quiet \
    --change 'ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin' --change 'CMD ["python3"]' - "$base"
}

source_digest() { # of what the image is made of
  cd "$repository"
  find src deploy/image Dockerfile pyproject.toml hatch_build.py -type f ! -name '*.pyc' -print0 | LC_ALL=C sort -z |
    xargs -0 sha256sum | sha256sum | cut -c1-16
}

build() { # tag, further options of buildah
  # pip's settings of this machine, but for what lies on its disk
  python3 -m pip config list | sed -n "s/^[^=]*\.\(index-url\|trusted-host\|proxy\)='\(.*\)'$/\1 = \2/p" >"$scratch/found"
  { echo '[global]'; cat "$scratch/found"; echo 'cert = /run/secrets/ca.crt'; } >"$scratch/pip.conf"
  certificates=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
  version=$(sed -n 's/^__version__ = "\(.*\)"/\1/p' "$repository/src/eoap_dask/__about__.py")
  buildah build --quiet --layers --isolation chroot --network host --pull=never \
    --secret "id=pip_conf,src=$scratch/pip.conf" --secret "id=ca,src=$certificates" \
    --build-arg "BASE_IMAGE=$base" --build-arg "VERSION=$version" --label "eoap-dask.test.source=$(source_digest)" \
    --tag "$@" "$repository"
}

make_image() { build "$image"; }

make_btc() { # from an index of one wheel, which is mounted
  wheels=$scratch/index/torch
  mkdir -p "$wheels"
  python3 -m pip download --quiet --no-deps --dest "$wheels" --python-version 3.11 --only-binary :all: \
    "$(grep '^torch==' "$repository/deploy/image/requirements-btc.txt")"
  for wheel in "$wheels"/*.whl; do
    name=$(basename "$wheel")
    echo "<a href=\"${name//+/%2B}\">$name</a>"
  done >"$wheels/index.html"
  build "$image-btc" --target btc --build-arg TORCH_INDEX=file:///index --volume "$scratch/index:/index:ro"
}

case ${1-} in
  base) make_base ;;
  image) make_image ;;
  btc) make_btc ;;
  all) make_base; make_image; make_btc ;;
  digest) source_digest ;;
  *) sed -n '2,8p' "${BASH_SOURCE[0]}" >&2; exit 2 ;;
esac
