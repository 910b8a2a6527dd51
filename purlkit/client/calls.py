"""Every call of the service once, as data: what is sent, and what its answer means. Two clients send them."""

from __future__ import annotations

import json
import logging
import random
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import httpx

from purlkit.client.problems import JobDidNotSucceed, Unreachable, problem_of
from purlkit.client.records import Artifact, Episode, Event, JobRecord, SweepRecord, Uploaded
from purlkit.errors import InvalidSpec
from purlkit.spec import JobSpec, SweepSpec

logger = logging.getLogger("purl.client")  # `log` is a call

T = TypeVar("T")
Spec = JobSpec | Mapping[str, Any]

# Passing troubles: of a restart, a proxy or a full queue. Every call may be repeated, see `submit`.
PASSING = frozenset({408, 425, 429, 502, 503, 504})
FIRST_PAUSE, LONGEST_PAUSE = 0.25, 10.0
SILENT_SECONDS = 2.0  # then whoever waits is told for what
PAGE = 100


@dataclass(frozen=True, kw_only=True)
class Call(Generic[T]):
    method: str
    path: str
    read: Callable[[httpx.Response], T]
    params: Mapping[str, Any] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Any = None  # sent as JSON

    def request(self, http: httpx.Client | httpx.AsyncClient) -> httpx.Request:
        params = {name: value for name, value in self.params.items() if value is not None}
        content = None if self.body is None else json.dumps(self.body)
        headers = {**self.headers, **({"Content-Type": "application/json"} if content is not None else {})}
        return http.build_request(self.method, self.path, params=params, headers=headers, content=content)


@dataclass
class Patience:
    """How long passing troubles are put up with: pauses grow, and an answer that gets through starts anew."""

    seconds: float
    _since: float | None = None
    _pause: float = FIRST_PAUSE
    _told: bool = False

    def relieved(self) -> None:
        self._since, self._pause, self._told = None, FIRST_PAUSE, False

    def pause(self, trouble: Exception | httpx.Response) -> float:
        """How long to wait before the next try; raises what the trouble is once there were enough."""
        now = time.monotonic()
        self._since = now if self._since is None else self._since
        pause = self._pause * random.uniform(0.5, 1.0)  # many clients of one service must not come back as one
        self._pause = min(2 * self._pause, LONGEST_PAUSE)
        if isinstance(trouble, httpx.Response):
            asked = trouble.headers.get("Retry-After", "")
            pause = max(pause, float(asked)) if asked.isdigit() else pause
        if now - self._since + pause > self.seconds:
            raise _given_up(trouble) from (trouble if isinstance(trouble, Exception) else None)
        if now - self._since > SILENT_SECONDS and not self._told:
            self._told = True
            logger.warning("%s; trying for %.0f s more", _said(trouble), self.seconds - (now - self._since))
        return pause


def _given_up(trouble: Exception | httpx.Response) -> Exception:
    if isinstance(trouble, httpx.Response):
        return problem_of(trouble)
    return Unreachable(
        _said(trouble), remedy="is it running (`make serve`), and is this its address (--url, or PURL_URL)?"
    )


def _said(trouble: Exception | httpx.Response) -> str:
    if isinstance(trouble, httpx.Response):
        return f"the service answered {trouble.status_code} {trouble.reason_phrase}"
    at = ""
    if isinstance(trouble, httpx.TransportError):
        with suppress(RuntimeError):  # httpx's way to say that it knows none
            at = f" at {trouble.request.url.scheme}://{trouble.request.url.netloc.decode()}"
    return f"the service can't be reached{at} ({type(trouble).__name__})"


@dataclass(frozen=True)
class Page(Generic[T]):
    items: list[T]
    next: str | None  # of the page behind this one; None after the last


def submit(spec: Spec, key: str | None) -> Call[JobRecord]:
    """With a key of its own for each call, so that a repeated request never makes a second job."""
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    return Call(method="POST", path="/jobs", body=_plain(spec), headers=headers, read=_record)


def check(spec: Spec) -> Call[dict[str, Any]]:
    return Call(method="POST", path="/jobs", params={"dry_run": "true"}, body=_plain(spec), read=_json)


def job(job_id: str) -> Call[JobRecord]:
    return Call(method="GET", path=f"/jobs/{job_id}", read=_record)


def jobs(filters: Mapping[str, Any], after: str | None) -> Call[Page[JobRecord]]:
    params = {**filters, "limit": PAGE, "after": after}
    return Call(method="GET", path="/jobs", params=params, read=lambda answer: _page(answer, JobRecord.model_validate))


def move(job_id: str, to: str) -> Call[JobRecord]:
    return Call(method="POST", path=f"/jobs/{job_id}/{to}", read=_record)


def retry(job_id: str) -> Call[JobRecord]:
    """Makes a job, so it has a key as `submit` has."""
    headers = {"Idempotency-Key": secrets.token_hex(16)}
    return Call(method="POST", path=f"/jobs/{job_id}/retry", headers=headers, read=_record)


def submit_sweep(spec: SweepSpec | Mapping[str, Any], key: str | None) -> Call[SweepRecord]:
    headers = {"Idempotency-Key": key or secrets.token_hex(16)}
    return Call(method="POST", path="/sweeps", body=_plain(spec), headers=headers, read=_sweep)


def sweep(sweep_id: str) -> Call[SweepRecord]:
    return Call(method="GET", path=f"/sweeps/{sweep_id}", read=_sweep)


def sweeps(after: str | None) -> Call[Page[SweepRecord]]:
    params = {"limit": PAGE, "after": after}
    return Call(
        method="GET", path="/sweeps", params=params, read=lambda answer: _page(answer, SweepRecord.model_validate)
    )


def move_sweep(sweep_id: str, to: str) -> Call[SweepRecord]:
    return Call(method="POST", path=f"/sweeps/{sweep_id}/{to}", read=_sweep)


def delete(job_id: str) -> Call[None]:
    return Call(method="DELETE", path=f"/jobs/{job_id}", read=lambda _: None)


def episodes(job_id: str, after: str | None) -> Call[Page[Episode]]:
    params = {"limit": PAGE, "after": after}
    path = f"/jobs/{job_id}/episodes"
    return Call(method="GET", path=path, params=params, read=lambda answer: _page(answer, Episode.model_validate))


def artifacts(job_id: str) -> Call[list[Artifact]]:
    return Call(
        method="GET",
        path=f"/jobs/{job_id}/artifacts",
        read=lambda answer: [Artifact.model_validate(one) for one in answer.json()["data"]],
    )


def log(job_id: str, attempt: int, start: int) -> Call[bytes]:
    """What an attempt has printed from that byte on; where that is nothing yet the service answers 416."""
    path, headers = f"/jobs/{job_id}/attempts/{attempt}/log", {"Range": f"bytes={start}-"}
    return Call(method="GET", path=path, headers=headers, read=lambda answer: answer.content)


def catalog(of: str) -> Call[list[dict[str, Any]]]:
    return Call(method="GET", path=f"/{of}", read=lambda answer: list(answer.json()["data"]))


def weights(after: str | None) -> Call[Page[Uploaded]]:
    params = {"limit": PAGE, "after": after}
    return Call(
        method="GET", path="/weights", params=params, read=lambda answer: _page(answer, Uploaded.model_validate)
    )


def health() -> Call[dict[str, Any]]:
    return Call(method="GET", path="/readyz", read=_json)


def uploaded(answer: httpx.Response) -> Uploaded:
    return Uploaded.model_validate(answer.json())


def named(there: Sequence[Artifact], names: Sequence[str]) -> list[Artifact]:
    """The artifacts of these names, or all of them where none is named."""
    by_name = {artifact.name: artifact for artifact in there}
    for name in names:
        if name not in by_name:
            raise InvalidSpec(
                f"the job has no file {name}",
                remedy=f"use one of {', '.join(by_name)}" if by_name else "wait until it has ended, it has none yet",
            )
    return [by_name[name] for name in names] if names else list(there)


def verdict_on(record: JobRecord) -> JobRecord:
    """The record of a job that succeeded; raises for one that ended otherwise."""
    if record.state != "succeeded":
        why = record.error.message if record.error else f"the job was {record.state}"
        raise JobDidNotSucceed(why, remedy="its attempt.log says more")
    return record


class EventLines:
    """Lines of an event stream in, events out. A stream that broke is taken up behind `last`."""

    def __init__(self, last: int) -> None:
        self.last = last
        self._data: list[str] = []

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept": "text/event-stream", "Last-Event-ID": str(self.last)}

    def feed(self, line: str) -> Iterator[Event]:
        if line.startswith("data:"):
            self._data.append(line.removeprefix("data:").removeprefix(" "))
        elif not line and self._data:
            event = Event.model_validate_json("\n".join(self._data))
            self._data = []
            self.last = event.seq
            yield event

    def over(self) -> None:
        """Half an event that a stream left is sent again by the next one."""
        self._data = []


def _plain(spec: JobSpec | SweepSpec | Mapping[str, Any]) -> dict[str, Any]:
    """What the client set, and nothing of this version's defaults: the service fills in its own."""
    return spec.model_dump(mode="json", exclude_unset=True) if isinstance(spec, (JobSpec, SweepSpec)) else dict(spec)


def _json(answer: httpx.Response) -> dict[str, Any]:
    return dict(answer.json())


def _record(answer: httpx.Response) -> JobRecord:
    return JobRecord.model_validate(answer.json())


def _sweep(answer: httpx.Response) -> SweepRecord:
    return SweepRecord.model_validate(answer.json())


def _page(answer: httpx.Response, item: Callable[[Any], T]) -> Page[T]:
    told = answer.json()
    return Page([item(one) for one in told["data"]], told["next"] if told["has_more"] else None)
