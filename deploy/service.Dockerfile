# API and dispatcher, without torch and Ray: their packages take 150 MB. `docker build -f deploy/service.Dockerfile .`
FROM python:3.11.14-slim-bookworm AS build

ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
RUN python -m venv /opt/venv
WORKDIR /app
COPY requirements.lock pyproject.toml README.md ./
# An empty package stands in for ours, so that a change of our code leaves this layer as it is.
RUN mkdir purlkit && touch purlkit/__init__.py \
    && /opt/venv/bin/pip install --constraint requirements.lock hatchling editables \
    && /opt/venv/bin/pip install --constraint requirements.lock --no-build-isolation --editable ".[server]"


FROM python:3.11.14-slim-bookworm

ARG REVISION=unknown
LABEL org.opencontainers.image.title="purl" \
      org.opencontainers.image.description="PuRL's API and dispatcher" \
      org.opencontainers.image.revision="${REVISION}"

RUN useradd --uid 10001 --user-group --no-create-home --home-dir /data --shell /usr/sbin/nologin purl \
    && mkdir /data && chown purl:purl /data
COPY --from=build /opt/venv /opt/venv
WORKDIR /app
COPY pyproject.toml ./
COPY deploy/healthy.py deploy/healthy.py
COPY purlkit purlkit
COPY services services
COPY api api
# Never run here: attempts on a cluster are sent it, or compare their own with it.
COPY workers workers
RUN /opt/venv/bin/python -m compileall -q purlkit services api

ENV PATH=/opt/venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    PURL_DATA_DIR=/data PURL_HOST=0.0.0.0 PURL_LOG_FORMAT=json
USER 10001:10001
VOLUME /data
EXPOSE 8000 9000
# The dispatcher has its /livez on PURL_METRICS_PORT: whoever runs it says so.
HEALTHCHECK --interval=10s --timeout=6s --start-period=30s --retries=3 \
    CMD ["python", "deploy/healthy.py", "http://127.0.0.1:8000/livez"]
CMD ["python", "-m", "api"]
