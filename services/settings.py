"""Everything that can be set, by one environment variable each."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from purlkit import growth
from services import secret_files
from services.errors import BadSetting

T = TypeVar("T")

_BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX = re.compile(r"[A-Za-z0-9._/-]{0,500}")


@dataclass(frozen=True)
class S3Location:
    """s3://bucket/prefix; who may use it and where it is say the usual AWS_* variables."""

    bucket: str
    prefix: str

    def __str__(self) -> str:
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One value for each variable: `lease_seconds` is PURL_LEASE_SECONDS, and so on."""

    data_dir: Path  # the service's own state
    datasets_dir: Path | S3Location  # the data root: the data sets and published weights
    datasets_cache: Path  # where a machine keeps what it fetched from a data root in S3
    database_url: str
    artifacts: Path | S3Location
    datasets_cache_bytes: int = 20 * 2**30  # what that may hold
    host: str = "127.0.0.1"
    port: int = 8000  # 0 takes a free one
    public_url: str | None = None  # what workers call back; None: from the socket that the service listens on
    download: bool = False  # whether workers may fetch public data and weights
    ray_address: str = ""  # empty: a Ray of its own for each job; http://…: attempts run there, by Ray Jobs
    ray_code: str = "upload"  # how the workers' code reaches that cluster: with each job, or with its image
    ray_driver_cpus: float = 0.0  # what the driver of an attempt reserves there; 0: it runs on the head
    ray_grows_to: str = ""  # nodes that its autoscaler may bring, as 8x4,4x8+1: 8 of 4 CPUs, 4 of 8 CPUs and a GPU
    grow_seconds: float = 1800.0  # what an attempt waits for a node that the cluster has yet to bring
    lease_seconds: float = 60.0  # an attempt that is silent for so long is given up
    heartbeat_seconds: float = 10.0
    stall_seconds: float = 300.0  # no step and no batch for so long ends an attempt that still beats
    drain_seconds: float = 30.0  # what a stopping dispatcher gives its attempts to save their work
    poll_seconds: float = 0.5  # between two looks of the dispatcher at the queue
    check_seconds: float = 60.0  # what a dry run may take
    max_running: int = 1  # attempts at once, over all dispatchers
    cpus: float | None = None  # what attempts together may reserve; None: not counted
    gpus: float | None = None
    pass_seconds: float = 600.0  # for so long smaller jobs may take what a larger one waits for
    max_body_bytes: int = 2**20
    max_upload_bytes: int = 2 * 2**30
    min_free_bytes: int = 256 * 2**20  # with less room on a disk nothing new is taken in
    clean_seconds: float = 3600.0  # between two cleanings by the dispatcher
    clean_grace_seconds: float = 3600.0  # what nobody names is left alone for so long
    keep_days: float = 0.0  # ended jobs are deleted after so long; 0: never
    keep_weights_days: float = 30.0  # uploads that no job names are deleted after so long; 0: never
    max_queued: int = 10_000  # jobs that may wait
    max_stored_bytes: int | None = None  # by all jobs and uploads together; None: what the disk holds
    tenant_queued: int | None = None  # the same of each tenant; None: no limit but those of all together
    tenant_running: int | None = None
    tenant_stored_bytes: int | None = None
    tenant_streams: int = 200  # live streams of events at once, of each tenant and API process
    max_connections: int = 10_000  # of each API process; one more is refused
    idempotency_hours: float = 24.0  # at least so long, for that is what the API promises
    metrics_port: int | None = None  # of the dispatcher's own /metrics and /livez; the API has them beside its routes
    log_format: str = "text"  # or json: one object a line

    @property
    def of_workers(self) -> dict[str, str]:
        """What attempts and checks are told of these settings; their credentials are those of where they run."""
        return {
            "PURL_DATASETS_DIR": str(self.datasets_dir),
            "PURL_DATASETS_CACHE": str(self.datasets_cache),
            "PURL_DATASETS_CACHE_BYTES": str(self.datasets_cache_bytes),
            "PURL_DOWNLOAD": "1" if self.download else "",
            "PURL_RAY_ADDRESS": self.ray_address,
            "PURL_RAY_GROWS_TO": self.ray_grows_to,
            "PURL_GROW_SECONDS": f"{self.grow_seconds:g}",
        }

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises BadSetting with the variable's name and the remedy."""
        read = _Reader(environ)
        data_dir = read("PURL_DATA_DIR", Path("data"), _folder).absolute()
        default_artifacts: Path | S3Location = data_dir / "artifacts"
        default_datasets: Path | S3Location = data_dir / "datasets"
        settings = cls(
            data_dir=data_dir,
            datasets_dir=read("PURL_DATASETS_DIR", default_datasets, _folder_or_bucket),
            datasets_cache=read("PURL_DATASETS_CACHE", data_dir / "cache", _folder).absolute(),
            datasets_cache_bytes=read("PURL_DATASETS_CACHE_BYTES", cls.datasets_cache_bytes, _whole(2**20, 2**60)),
            database_url=read("PURL_DATABASE_URL", f"sqlite:///{data_dir / 'purl.db'}", _database_url),
            artifacts=read("PURL_ARTIFACTS", default_artifacts, _folder_or_bucket),
            host=read("PURL_HOST", cls.host, str),
            port=read("PURL_PORT", cls.port, _whole(0, 65_535)),
            public_url=read("PURL_PUBLIC_URL", cls.public_url, _http_url),
            download=read("PURL_DOWNLOAD", cls.download, _switch),
            ray_address=read("PURL_RAY_ADDRESS", cls.ray_address, _ray_address),
            ray_code=read("PURL_RAY_CODE", cls.ray_code, _one_of("upload", "image")),
            ray_driver_cpus=read("PURL_RAY_DRIVER_CPUS", cls.ray_driver_cpus, _some),
            ray_grows_to=read("PURL_RAY_GROWS_TO", cls.ray_grows_to, _groups),
            grow_seconds=read("PURL_GROW_SECONDS", cls.grow_seconds, _seconds),
            lease_seconds=read("PURL_LEASE_SECONDS", cls.lease_seconds, _seconds),
            heartbeat_seconds=read("PURL_HEARTBEAT_SECONDS", cls.heartbeat_seconds, _seconds),
            stall_seconds=read("PURL_STALL_SECONDS", cls.stall_seconds, _seconds),
            drain_seconds=read("PURL_DRAIN_SECONDS", cls.drain_seconds, _seconds),
            poll_seconds=read("PURL_POLL_SECONDS", cls.poll_seconds, _seconds),
            check_seconds=read("PURL_CHECK_SECONDS", cls.check_seconds, _seconds),
            max_running=read("PURL_MAX_RUNNING", cls.max_running, _whole(1, 10_000)),
            cpus=read("PURL_CPUS", cls.cpus, _amount),
            gpus=read("PURL_GPUS", cls.gpus, _amount),
            pass_seconds=read("PURL_PASS_SECONDS", cls.pass_seconds, _seconds),
            max_body_bytes=read("PURL_MAX_BODY_BYTES", cls.max_body_bytes, _whole(1024, 2**40)),
            max_upload_bytes=read("PURL_MAX_UPLOAD_BYTES", cls.max_upload_bytes, _whole(1024, 2**50)),
            min_free_bytes=read("PURL_MIN_FREE_BYTES", cls.min_free_bytes, _whole(0, 2**60)),
            clean_seconds=read("PURL_CLEAN_SECONDS", cls.clean_seconds, _seconds),
            clean_grace_seconds=read("PURL_CLEAN_GRACE_SECONDS", cls.clean_grace_seconds, _seconds),
            keep_days=read("PURL_KEEP_DAYS", cls.keep_days, _days),
            keep_weights_days=read("PURL_KEEP_WEIGHTS_DAYS", cls.keep_weights_days, _days),
            max_queued=read("PURL_MAX_QUEUED", cls.max_queued, _whole(1, 10**9)),
            max_stored_bytes=read("PURL_MAX_STORED_BYTES", cls.max_stored_bytes, _whole(1, 2**60)),
            tenant_queued=read("PURL_TENANT_QUEUED", cls.tenant_queued, _whole(1, 10**9)),
            tenant_running=read("PURL_TENANT_RUNNING", cls.tenant_running, _whole(1, 10_000)),
            tenant_stored_bytes=read("PURL_TENANT_STORED_BYTES", cls.tenant_stored_bytes, _whole(1, 2**60)),
            tenant_streams=read("PURL_TENANT_STREAMS", cls.tenant_streams, _whole(1, 10**6)),
            max_connections=read("PURL_MAX_CONNECTIONS", cls.max_connections, _whole(10, 10**6)),
            idempotency_hours=read("PURL_IDEMPOTENCY_HOURS", cls.idempotency_hours, _hours),
            metrics_port=read("PURL_METRICS_PORT", cls.metrics_port, _whole(0, 65_535)),
            log_format=read("PURL_LOG_FORMAT", cls.log_format, _one_of("text", "json")),
        )
        # A worker ends itself at two thirds of its lease: two beats at least must fit before that.
        if settings.heartbeat_seconds > settings.lease_seconds / 3:
            raise BadSetting(
                "PURL_HEARTBEAT_SECONDS",
                "is too long for the lease",
                remedy=f"use at most a third of PURL_LEASE_SECONDS, here {settings.lease_seconds / 3:g}",
            )
        if settings.download and isinstance(settings.datasets_dir, S3Location):
            remedy = "put the files there, or leave PURL_DOWNLOAD unset"
            raise BadSetting("PURL_DOWNLOAD", "can't fetch into a bucket (PURL_DATASETS_DIR)", remedy=remedy)
        if settings.public_url is None and _is_elsewhere(settings.ray_address):
            raise BadSetting(
                "PURL_PUBLIC_URL",
                "is not set, and attempts on a cluster have to call back",
                remedy="set it to an address of this service that the cluster's nodes can connect to",
            )
        return settings


def _is_elsewhere(ray_address: str) -> bool:
    parts = urlsplit(ray_address)
    return bool(parts.hostname) and parts.hostname not in ("localhost", "127.0.0.1", "::1")


@dataclass(frozen=True)
class _Reader:
    environ: Mapping[str, str]

    def __call__(self, variable: str, default: T, parse: Callable[[str], T]) -> T:
        """An empty variable counts as unset: that is what `docker compose` makes of a blank line."""
        text = secret_files.value_of(variable, self.environ)
        if not text:
            return default
        try:
            return parse(text)
        except ValueError as problem:
            raise BadSetting(variable, "can't be used", remedy=str(problem)) from None


def _whole(low: int, high: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        remedy = f"use a whole number from {low} to {high}"
        if not text.isascii() or not text.isdigit() or not low <= int(text[:20]) <= high:
            raise ValueError(remedy)
        return int(text)

    return parse


def _switch(text: str) -> bool:
    if text not in ("0", "1"):
        raise ValueError("use 1 or 0")
    return text == "1"


def _one_of(*words: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in words:
            raise ValueError(f"use {' or '.join(words)}")
        return text

    return parse


def _seconds(text: str) -> float:
    remedy = "use a number above 0, at most 31536000"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(remedy) from None
    if not 0 < value <= 31_536_000:
        raise ValueError(remedy)
    return value


def _amount(text: str) -> float | None:
    return _some(text)


def _some(text: str) -> float:
    return _within(text, 0, 1_000_000)


def _hours(text: str) -> float:
    return _within(text, Settings.idempotency_hours, 87_600)


def _within(text: str, low: float, high: float) -> float:
    remedy = f"use a number from {low:.7g} to {high:.7g}"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(remedy) from None
    if not low <= value <= high:
        raise ValueError(remedy)
    return value


def _days(text: str) -> float:
    return _seconds(text) if text != "0" else 0.0


def _folder(text: str) -> Path:
    if "://" in text:
        raise ValueError("use the path of a folder on this machine")
    return Path(text)


def _folder_or_bucket(text: str) -> Path | S3Location:
    scheme, separator, rest = text.partition("://")
    if not separator:
        return Path(text).absolute()
    bucket, _, prefix = rest.partition("/")
    if scheme != "s3" or _BUCKET.fullmatch(bucket) is None or _PREFIX.fullmatch(prefix) is None:
        raise ValueError("use the path of a folder on this machine, or s3://bucket/prefix")
    return S3Location(bucket, prefix.strip("/"))


def _database_url(text: str) -> str:
    remedy = "use sqlite:///path/of/file.db or postgresql://user:password@host/name"
    try:
        url = make_url(text)
    except (ArgumentError, ValueError):
        raise ValueError(remedy) from None
    match url.drivername:
        case "sqlite" if url.database and url.database != ":memory:" and not url.host:
            return text
        case "sqlite":
            raise ValueError("use a file, sqlite:///path/of/file.db: several processes share the database")
        # Both are what others call it; psycopg is the driver that is tested.
        case "postgresql" | "postgres" | "postgresql+psycopg":
            return url.set(drivername="postgresql+psycopg").render_as_string(hide_password=False)
    raise ValueError(remedy)


def _ray_address(text: str) -> str:
    if "://" not in text:
        return text
    try:
        return _http_url(text) or ""
    except ValueError:
        raise ValueError("use http://head:8265 for Ray Jobs, or host:port of a cluster that has this machine") from None


def _groups(text: str) -> str:
    growth.parse(text)
    return text


def _http_url(text: str) -> str | None:
    remedy = "use an address like http://10.0.0.1:8000, without user, query and fragment"
    try:
        parts = urlsplit(text.rstrip("/"))
        port = parts.port
    except ValueError:
        raise ValueError(remedy) from None
    if parts.scheme not in ("http", "https") or not parts.hostname or port == 0:
        raise ValueError(remedy)
    # Workers put their paths behind it; a password in it would be one in their environment.
    if parts.query or parts.fragment or parts.username is not None:
        raise ValueError(remedy)
    return text.rstrip("/")
