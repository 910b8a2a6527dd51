# Nodes of the Ray cluster: torch, Ray, and what attempts import. `docker build -f deploy/workers.Dockerfile .`
#   --build-arg DEVICE=cuda    for NVIDIA GPUs (the default): the wheels bring CUDA along, the host only its driver
#   --build-arg DEVICE=cpu     without; with --build-arg TORCH_INDEX=… of PyTorch's CPU wheels it is 4 GB smaller
ARG DEVICE=cuda


FROM python:3.11.14-slim-bookworm AS build

ARG TORCH_INDEX=""
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
RUN mkdir purlkit && touch purlkit/__init__.py \
    && /opt/venv/bin/pip install --constraint requirements.lock hatchling editables \
    && /opt/venv/bin/pip install --constraint requirements.lock ${TORCH_INDEX:+--extra-index-url "$TORCH_INDEX"} \
        --no-build-isolation --editable ".[workers]"


FROM python:3.11.14-slim-bookworm AS runtime

ARG REVISION=unknown
LABEL org.opencontainers.image.title="purl-workers" \
      org.opencontainers.image.description="A Ray node that PuRL's attempts run on" \
      org.opencontainers.image.revision="${REVISION}"

RUN useradd --uid 10001 --user-group --create-home --shell /bin/bash purl \
    && mkdir /datasets && chown purl:purl /datasets
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY pyproject.toml ./
COPY deploy/healthy.py deploy/healthy.py
COPY purlkit purlkit
# Only for PURL_RAY_CODE=image: as a rule the service's code comes with each job.
COPY workers workers
RUN /opt/venv/bin/python -m compileall -q purlkit workers

ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PURL_DATASETS_DIR=/datasets PURL_DATASETS_CACHE=/datasets/cache OMP_NUM_THREADS=1 \
    RAY_AUTH_MODE=token RAY_USAGE_STATS_ENABLED=0 RAY_ENABLE_UV_RUN_RUNTIME_ENV=0
USER 10001:10001
VOLUME /datasets
EXPOSE 6379 8265 8080
HEALTHCHECK --interval=10s --timeout=6s --start-period=60s --retries=3 \
    CMD ["python", "/app/deploy/healthy.py", "http://127.0.0.1:52365/api/local_raylet_healthz"]
# A node of its own; a cluster says --head or --address=….
CMD ["ray", "start", "--head", "--block", "--disable-usage-stats"]


FROM runtime AS cpu


FROM runtime AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility


# hadolint ignore=DL3006
FROM ${DEVICE}
