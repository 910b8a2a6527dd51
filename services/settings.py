"""Everything that can be set, by one environment variable each."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

from services.errors import BadSetting

T = TypeVar("T")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One value for each variable: `lease_seconds` is PURL_LEASE_SECONDS, and so on."""

    data_dir: Path  # the service's own state, and the data sets below it
    database_url: str
    artifacts: Path
    host: str = "127.0.0.1"
    port: int = 8000  # 0 takes a free one
    public_url: str | None = None  # what workers call back; None: from the socket that the service listens on
    ray_address: str = ""  # empty: a Ray of its own for each job
    lease_seconds: float = 60.0  # an attempt that is silent for so long is given up
    heartbeat_seconds: float = 10.0
    stall_seconds: float = 300.0  # no step and no batch for so long ends an attempt that still beats
    drain_seconds: float = 30.0  # what a stopping dispatcher gives its attempts to save their work
    poll_seconds: float = 0.5  # between two looks of the dispatcher at the queue
    check_seconds: float = 60.0  # what a dry run may take
    max_running: int = 1  # attempts at once
    max_body_bytes: int = 2**20
    max_upload_bytes: int = 2 * 2**30
    max_queued: int = 10_000  # jobs that may wait
    max_stored_bytes: int | None = None  # by all jobs and uploads together; None: what the disk holds
    idempotency_hours: float = 24.0

    @property
    def datasets_dir(self) -> Path:
        return self.data_dir / "datasets"

    @classmethod
    def from_environ(cls, environ: Mapping[str, str] = os.environ) -> Settings:
        """Raises BadSetting with the variable's name and the remedy."""
        read = _Reader(environ)
        data_dir = read("PURL_DATA_DIR", Path("data"), _folder).absolute()
        settings = cls(
            data_dir=data_dir,
            database_url=read("PURL_DATABASE_URL", f"sqlite:///{data_dir / 'purl.db'}", _database_url),
            artifacts=read("PURL_ARTIFACTS", data_dir / "artifacts", _folder).absolute(),
            host=read("PURL_HOST", cls.host, str),
            port=read("PURL_PORT", cls.port, _whole(0, 65_535)),
            public_url=read("PURL_PUBLIC_URL", cls.public_url, _http_url),
            ray_address=read("PURL_RAY_ADDRESS", cls.ray_address, str),
            lease_seconds=read("PURL_LEASE_SECONDS", cls.lease_seconds, _seconds),
            heartbeat_seconds=read("PURL_HEARTBEAT_SECONDS", cls.heartbeat_seconds, _seconds),
            stall_seconds=read("PURL_STALL_SECONDS", cls.stall_seconds, _seconds),
            drain_seconds=read("PURL_DRAIN_SECONDS", cls.drain_seconds, _seconds),
            poll_seconds=read("PURL_POLL_SECONDS", cls.poll_seconds, _seconds),
            check_seconds=read("PURL_CHECK_SECONDS", cls.check_seconds, _seconds),
            max_running=read("PURL_MAX_RUNNING", cls.max_running, _whole(1, 10_000)),
            max_body_bytes=read("PURL_MAX_BODY_BYTES", cls.max_body_bytes, _whole(1024, 2**40)),
            max_upload_bytes=read("PURL_MAX_UPLOAD_BYTES", cls.max_upload_bytes, _whole(1024, 2**50)),
            max_queued=read("PURL_MAX_QUEUED", cls.max_queued, _whole(1, 10**9)),
            max_stored_bytes=read("PURL_MAX_STORED_BYTES", cls.max_stored_bytes, _whole(1, 2**60)),
            idempotency_hours=read("PURL_IDEMPOTENCY_HOURS", cls.idempotency_hours, _seconds),
        )
        # A worker ends itself at two thirds of its lease: two beats at least must fit before that.
        if settings.heartbeat_seconds > settings.lease_seconds / 3:
            raise BadSetting(
                "PURL_HEARTBEAT_SECONDS",
                "is too long for the lease",
                remedy=f"use at most a third of PURL_LEASE_SECONDS, here {settings.lease_seconds / 3:g}",
            )
        return settings


@dataclass(frozen=True)
class _Reader:
    environ: Mapping[str, str]

    def __call__(self, variable: str, default: T, parse: Callable[[str], T]) -> T:
        """An empty variable counts as unset: that is what `docker compose` makes of a blank line."""
        text = self.environ.get(variable, "").strip()
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


def _seconds(text: str) -> float:
    remedy = "use a number above 0, at most 31536000"
    try:
        value = float(text)
    except ValueError:
        raise ValueError(remedy) from None
    if not 0 < value <= 31_536_000:
        raise ValueError(remedy)
    return value


def _folder(text: str) -> Path:
    if "://" in text:
        raise ValueError("use the path of a folder on this machine")
    return Path(text)


def _database_url(text: str) -> str:
    if not text.startswith(("sqlite:///", "postgresql")):
        raise ValueError("use sqlite:///path/of/file.db or postgresql+psycopg://user@host/name")
    if text.rstrip("/") == "sqlite:" or ":memory:" in text:
        raise ValueError("use a file: several processes share the database")
    return text


def _http_url(text: str) -> str | None:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("use an address like http://10.0.0.1:8000")
    return text.rstrip("/")
