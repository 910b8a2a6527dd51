"""Whoever uses the cluster, from a host of their own: by HTTP through the front door, and with patience."""

from __future__ import annotations

import hashlib
import time
from typing import Any

import httpx

from tests.acceptance.running import CALL_SECONDS, Jobs, same_outcome
from tests.cluster.hosts import Host
from tests.waiting import wait_until

# What `purl` and the Python client do too: a read that finds nobody in is asked again.
PATIENCE_SECONDS = 150.0
TRY_AGAIN = (502, 503, 504)
JOB_SECONDS = 600.0


class FromHost(httpx.HTTPTransport):
    """Connects from that host, whose network is not ours, and asks a read again that found nobody in."""

    def __init__(self, host: Host, *, patience_seconds: float = PATIENCE_SECONDS) -> None:
        super().__init__()
        self.host = host
        self.patience_seconds = patience_seconds
        self.refused = 0

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        deadline = time.monotonic() + self.patience_seconds
        while True:
            late = request.method != "GET" or time.monotonic() >= deadline
            try:
                with self.host.entered():
                    answer = super().handle_request(request)
                if answer.status_code not in TRY_AGAIN or late:
                    return answer
                answer.read()
            except httpx.TransportError:
                if late:
                    raise
            self.refused += 1
            time.sleep(0.2)


class User(Jobs):
    def __init__(self, host: Host, url: str) -> None:
        self.transport = FromHost(host)
        self.http = httpx.Client(base_url=url, transport=self.transport, timeout=CALL_SECONDS)

    @property
    def key(self) -> str:
        return self.http.headers["Authorization"].removeprefix("Bearer ")

    @key.setter
    def key(self, key: str) -> None:
        self.http.headers["Authorization"] = f"Bearer {key}"

    def close(self) -> None:
        self.http.close()

    def impatient(self) -> httpx.Client:
        """Who asks everything once."""
        transport = FromHost(self.transport.host, patience_seconds=0.0)
        headers = dict(self.http.headers)
        return httpx.Client(base_url=self.http.base_url, headers=headers, transport=transport, timeout=30)

    def done(self, body: dict[str, Any]) -> str:
        """A job that has succeeded, and nothing was done to it."""
        job_id = self.submit(body)
        job = self.ended(job_id, seconds=JOB_SECONDS)
        assert job["state"] == "succeeded", job["error"]
        return job_id

    def goes_on(self, job_id: str, *, since: float) -> float:
        """How long after that another episode is on record than there are now, or the job has ended."""
        before = len(self.episodes(job_id))
        wait_until(
            "another episode is on record",
            lambda: len(self.episodes(job_id)) > before or self.job(job_id)["state"] not in ("queued", "running"),
            seconds=JOB_SECONDS,
        )
        return time.monotonic() - since

    def played(self, job_id: str) -> int:
        """Episodes of the search that were played, those counted again that were played again."""
        answer = self.http.get(f"/jobs/{job_id}/events", params={"limit": 1000}).raise_for_status().json()
        told = [event for event in answer["data"] if event["type"] == "episode"]
        assert not answer["has_more"]
        return sum(event["data"]["kind"] == "search" for event in told)

    def ended_as_if_undisturbed(self, job_id: str, undisturbed: str) -> list[str]:
        """The same bits, and files that are what they are said to be. How its attempts ended."""
        job = self.ended(job_id, seconds=JOB_SECONDS)
        same_outcome(self, job, self.job(undisturbed))
        assert self.wrong_files(job_id) == []
        return [attempt["cause"] or attempt["state"] for attempt in job["attempts"]]

    def wrong_files(self, job_id: str) -> list[str]:
        """Artifacts that are not what their sha256 says."""
        listed = self.http.get(f"/jobs/{job_id}/artifacts").raise_for_status().json()["data"]
        assert {"pruned.safetensors", "attempt.log"} <= {told["name"] for told in listed}

        def is_wrong(name: str, sha256: str) -> bool:
            found = self.http.get(f"/jobs/{job_id}/artifacts/{name}").raise_for_status().content
            return hashlib.sha256(found).hexdigest() != sha256

        return [told["name"] for told in listed if is_wrong(told["name"], told["sha256"])]
