# The image of the tools, and of the schedulers and workers of their Dask clusters: one for all, so that versions agree.
#   docker build --build-arg VERSION=0.1.0.dev0 --tag ghcr.io/eoap/eoap-dask:0.1.0.dev0 .
# The target btc has PyTorch beside it, for change-detection --method btc; its image serves all else as well:
#   docker build --build-arg VERSION=0.1.0.dev0 --tag ghcr.io/eoap/eoap-dask:0.1.0.dev0-btc --target btc .
# Where packages come from another index than PyPI: --secret id=pip_conf,src=pip.conf --secret id=ca,src=ca.crt
ARG BASE_IMAGE=docker.io/library/python:3.12-slim

FROM ${BASE_IMAGE} AS packages
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1
RUN python -m venv /opt/eoap-dask
ENV PATH=/opt/eoap-dask/bin:$PATH
# what changes seldom comes first
COPY deploy/image/requirements.txt /build/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    pip install --quiet -r /build/requirements.txt \
    && python -m venv /build/hatch \
    && /build/hatch/bin/pip install --quiet hatchling==1.33.0

FROM packages AS build
COPY pyproject.toml hatch_build.py README.md LICENSE /build/
COPY src /build/src
# without an index: whatever is missing among the requirements fails here
RUN /build/hatch/bin/pip wheel --quiet --no-index --no-deps --no-build-isolation --wheel-dir /build/wheels /build \
    && pip install --quiet --no-index /build/wheels/*.whl \
    && pip check \
    && pip uninstall --quiet --yes pip
# distributed has no such commands any more, and Dask Gateway starts them by these names
COPY --chmod=0755 deploy/image/dask-scheduler deploy/image/dask-worker /opt/eoap-dask/bin/

FROM packages AS torch
# PyTorch for processors alone; the index may be a mirror of this one
ARG TORCH_INDEX=https://download.pytorch.org/whl/cpu
COPY deploy/image/requirements-btc.txt /build/
RUN --mount=type=secret,id=pip_conf,target=/etc/pip.conf --mount=type=secret,id=ca,target=/run/secrets/ca.crt \
    grep -v '^torch==' /build/requirements-btc.txt >/build/beside.txt \
    && /build/hatch/bin/pip install --quiet --no-deps --target /opt/btc -r /build/beside.txt \
    && /build/hatch/bin/pip install --quiet --no-deps --target /opt/btc --index-url "${TORCH_INDEX}" \
        "$(grep '^torch==' /build/requirements-btc.txt)" \
    && PYTHONPATH=/opt/btc python -c 'import huggingface_hub, safetensors.torch, torch'

FROM ${BASE_IMAGE} AS runtime
ARG VERSION=unknown
LABEL org.opencontainers.image.title="eoap-dask" \
      org.opencontainers.image.description="Earth-observation applications on Dask: STAC in, COG and STAC out" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.licenses="MIT"
# a read-only file system can't keep bytecode: without this, every process compiles the standard library anew
RUN python -m compileall -q -j 0 "$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && install -d -m 1777 /work
COPY --from=build /opt/eoap-dask /opt/eoap-dask
# LOGNAME: a platform runs us as a user that has no name, and dask-gateway asks for one
# MALLOC_…: as eoap_dask.cluster.environment.HEAP, which says why
ENV PATH=/opt/eoap-dask/bin:$PATH LOGNAME=eoap HOME=/tmp LANG=C.UTF-8 \
    PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 \
    MALLOC_MMAP_THRESHOLD_=4194304 MALLOC_TRIM_THRESHOLD_=16777216
WORKDIR /work
USER 10001:10001
# no entry point: platforms give whole commands, such as python -c …
CMD ["eoap-dask", "--help"]

FROM runtime AS btc
COPY --from=torch /opt/btc /opt/btc
USER 0:0
RUN echo /opt/btc >"$(python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/btc.pth"
USER 10001:10001

# what is built where no target is named
FROM runtime
