"""A real S3 service for tests: Swift with its s3api, started once and given a bucket for each who asks."""

from __future__ import annotations

import base64
import hmac
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from email.utils import formatdate
from pathlib import Path
from typing import Any, Literal

import httpx
import obstore
from obstore.store import S3Store as Bucket

from services.artifacts import S3Store
from services.settings import S3Location
from tests.waiting import DEADLINE_SECONDS

KEY, SECRET, REGION = "test:tester", "testing", "us-east-1"


@dataclass(frozen=True)
class S3Server:
    url: str

    def make_bucket(self, name: str) -> str:
        httpx.put(self.link("PUT", name), timeout=DEADLINE_SECONDS, trust_env=False).raise_for_status()
        return name

    def put_as_it_is(self, path: str, content: bytes) -> None:
        """Signed here, in S3's older way: obstore would not make every name that S3 takes."""
        date = formatdate(usegmt=True)
        said = hmac.new(SECRET.encode(), f"PUT\n\n\n{date}\n/{path}".encode(), "sha1").digest()
        headers = {"Date": date, "Authorization": f"AWS {KEY}:{base64.b64encode(said).decode()}"}
        url = f"{self.url}/{path}"
        answer = httpx.put(url, headers=headers, content=content, timeout=DEADLINE_SECONDS, trust_env=False)
        answer.raise_for_status()

    def link(self, method: Literal["GET", "PUT"], bucket: str) -> str:
        """To list a bucket, or to make it."""
        return obstore.sign(Bucket(bucket, **self.options()), method, "", timedelta(seconds=60))

    def options(self, url: str | None = None) -> dict[str, Any]:
        return {
            "endpoint": url or self.url,
            "access_key_id": KEY,
            "secret_access_key": SECRET,
            "region": REGION,
            **({"client_options": {"allow_http": True}} if url is None else {}),
        }

    def store(self, bucket: str, spool: Path, *, prefix: str = "", url: str | None = None, **limits: Any) -> S3Store:
        """`url` is that of a proxy in between."""
        options = self.options(url or self.url)
        return S3Store(S3Location(bucket, prefix), spool=spool, **limits, **options)

    def environ(self) -> dict[str, str]:
        """What an operator would set."""
        return {
            "AWS_ENDPOINT_URL_S3": self.url,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_REGION": REGION,
        }


@contextmanager
def s3_server(folder: Path) -> Iterator[S3Server]:
    command = [sys.executable, "-m", "tests.programs.swift_server", str(folder)]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
    try:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        assert url, (folder / "log").read_text()
        yield S3Server(url)
    finally:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()
