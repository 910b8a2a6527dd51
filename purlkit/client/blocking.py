"""The client for programs that wait: `with PurlClient(url) as purl: job = purl.submit({…}); job.wait()`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from purlkit.client import calls
from purlkit.client.address import address, environment
from purlkit.client.calls import FIRST_PAUSE, PASSING, Call, EventLines, Patience, Spec
from purlkit.client.files import Download, OnBytes, Upload
from purlkit.client.problems import NotYet, problem_of
from purlkit.client.records import Artifact, Episode, Event, JobRecord, SweepRecord, Uploaded
from purlkit.client.view import JobView, SweepView
from purlkit.spec import SweepSpec

T = TypeVar("T")


class PurlClient:
    """A PuRL service. Passing troubles (a restart, a full queue) are put up with for `patience` seconds.

    Until the service has answered once, for `at_first` seconds if that is given: the address may be a wrong one.
    """

    def __init__(
        self,
        url: str | None = None,
        *,
        key: str | None = None,
        patience: float = 60.0,
        at_first: float | None = None,
    ) -> None:
        self.url = address(url)
        self._patience = patience
        self._at_first = at_first
        self._http = httpx.Client(**environment(self.url, key))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    def submit(self, spec: Spec, *, key: str | None = None) -> Job:
        """Makes a job. The same `key` with the same spec gives the same job, also from another process."""
        return Job(self, self.send(calls.submit(spec, key)))

    def check(self, spec: Spec) -> dict[str, Any]:
        """What the job would be (layers, reachable sparsity, steps, memory), and why it can't run if it can't."""
        return self.send(calls.check(spec))

    def job(self, job_id: str) -> Job:
        return Job(self, self.send(calls.job(job_id)))

    def jobs(self, **filters: Any) -> Iterator[Job]:
        """All jobs, newest first, that match the filters of GET /jobs, for example `state="running"`."""
        after: str | None = None
        while True:
            page = self.send(calls.jobs(filters, after))
            yield from (Job(self, record) for record in page.items)
            if (after := page.next) is None:
                return

    def submit_sweep(self, spec: SweepSpec | Mapping[str, Any], *, key: str | None = None) -> Sweep:
        """A job for every combination: {"base": {…}, "grid": {"seed": [0, 1, 2]}}."""
        return Sweep(self, self.send(calls.submit_sweep(spec, key)))

    def sweep(self, sweep_id: str) -> Sweep:
        return Sweep(self, self.send(calls.sweep(sweep_id)))

    def sweeps(self) -> Iterator[Sweep]:
        """All sweeps, newest first, without their tables."""
        after: str | None = None
        while True:
            page = self.send(calls.sweeps(after))
            yield from (Sweep(self, record) for record in page.items)
            if (after := page.next) is None:
                return

    def models(self) -> list[dict[str, Any]]:
        return self.send(calls.catalog("models"))

    def datasets(self) -> list[dict[str, Any]]:
        return self.send(calls.catalog("datasets"))

    def upload(self, path: Path | str, *, on_bytes: OnBytes | None = None) -> Uploaded:
        """Sends a safetensors file. Name it in a spec: {"model": {"weights": {"sha256": uploaded.sha256}}}."""
        file, patience = Upload(Path(path), on_bytes), self._put_up_with()
        while True:
            try:
                answer = self._http.post("/weights", content=file.chunks(), headers=file.headers, timeout=300)
            except httpx.TransportError as trouble:
                time.sleep(patience.pause(trouble))
                continue
            self._at_first = None
            if answer.status_code in PASSING:
                time.sleep(patience.pause(answer))
                continue
            if not answer.is_success:
                raise problem_of(answer)
            return calls.uploaded(answer)

    def weights(self) -> Iterator[Uploaded]:
        """Uploaded weights that the service keeps, in the order of their sha256."""
        after: str | None = None
        while True:
            page = self.send(calls.weights(after))
            yield from page.items
            if (after := page.next) is None:
                return

    def _put_up_with(self) -> Patience:
        return Patience(self._patience if self._at_first is None else min(self._at_first, self._patience))

    def send(self, call: Call[T]) -> T:
        patience = self._put_up_with()
        while True:
            try:
                answer = self._http.send(call.request(self._http))
            except httpx.TransportError as trouble:
                time.sleep(patience.pause(trouble))
                continue
            self._at_first = None
            if answer.is_success:
                return call.read(answer)
            if answer.status_code not in PASSING:
                raise problem_of(answer)
            time.sleep(patience.pause(answer))

    def follow(self, job_id: str, after: int = 0) -> Iterator[Event]:
        """Every event behind `after`, each once, as it comes, until the job has ended; over restarts of the service."""
        lines, patience = EventLines(after), Patience(self._patience)
        while True:
            try:
                with self._http.stream("GET", f"/jobs/{job_id}/events", headers=lines.headers) as stream:
                    if stream.status_code == httpx.codes.NO_CONTENT:
                        return  # ended, and all is said
                    if stream.is_success:
                        patience.relieved()
                        before = lines.last
                        for line in stream.iter_lines():
                            yield from lines.feed(line)
                        lines.over()
                        if lines.last == before:
                            time.sleep(FIRST_PAUSE)  # it said nothing: ask again, but not at once
                        continue
                    stream.read()
                    if stream.status_code not in PASSING:
                        raise problem_of(stream)
                    time.sleep(patience.pause(stream))
            except httpx.TransportError as trouble:
                lines.over()
                time.sleep(patience.pause(trouble))

    def fetch(self, artifact: Artifact, folder: Path | str, *, on_bytes: OnBytes | None = None) -> Path:
        """One file of a job, taken up where an earlier try broke, and compared with its sha256."""
        file, patience = Download(artifact, Path(folder), on_bytes), Patience(self._patience)
        if file.done:
            return file.path
        while not file.complete:
            try:
                with self._http.stream("GET", artifact.href, headers=file.headers) as stream:
                    if stream.is_success:
                        with file.taking(stream) as put:
                            for piece in stream.iter_raw():
                                put(piece)
                                patience.relieved()
                        break
                    stream.read()
                    if stream.status_code not in PASSING:
                        raise problem_of(stream)
                    time.sleep(patience.pause(stream))
            except httpx.TransportError as trouble:
                time.sleep(patience.pause(trouble))
        return file.finish()


class Job(JobView):
    """One job of a service."""

    def __init__(self, client: PurlClient, record: JobRecord) -> None:
        super().__init__(record)
        self._client = client

    def refresh(self) -> Self:
        self.record = self._client.send(calls.job(self.id))
        return self

    def events(self, after: int = 0) -> Iterator[Event]:
        """What happened and what happens, until the job has ended."""
        for event in self._client.follow(self.id, after):
            self.heed(event)
            yield event

    def wait(self, timeout: float | None = None, *, poll: float = 1.0) -> Self:
        """Until the job has ended. Raises NotYet after `timeout` seconds, and JobDidNotSucceed if it failed."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().ended:
            if until is not None and time.monotonic() + poll > until:
                raise NotYet(f"the job is {self.state} after {timeout:g} s")
            time.sleep(poll)
        calls.verdict_on(self.record)
        return self

    def download(self, folder: Path | str = ".", *names: str, on_bytes: OnBytes | None = None) -> list[Path]:
        """The named files, or all, into the folder."""
        wanted = calls.named(self.artifacts(), names)
        return [self._client.fetch(artifact, folder, on_bytes=on_bytes) for artifact in wanted]

    def artifacts(self) -> list[Artifact]:
        return self._client.send(calls.artifacts(self.id))

    def episodes(self) -> Iterator[Episode]:
        after: str | None = None
        while True:
            page = self._client.send(calls.episodes(self.id, after))
            yield from page.items
            if (after := page.next) is None:
                return

    def cancel(self) -> Self:
        return self._move("cancel")

    def pause(self) -> Self:
        return self._move("pause")

    def resume(self) -> Self:
        return self._move("resume")

    def retry(self) -> Job:
        """A new job like this ended one."""
        return Job(self._client, self._client.send(calls.retry(self.id)))

    def delete(self) -> None:
        """Removes an ended job with its files."""
        self._client.send(calls.delete(self.id))

    def _move(self, to: str) -> Self:
        self.record = self._client.send(calls.move(self.id, to))
        return self


class Sweep(SweepView):
    """Many jobs that one request made."""

    def __init__(self, client: PurlClient, record: SweepRecord) -> None:
        super().__init__(record)
        self._client = client

    def refresh(self) -> Self:
        self.record = self._client.send(calls.sweep(self.id))
        return self

    def wait(self, timeout: float | None = None, *, poll: float = 2.0) -> Self:
        """Until all jobs have ended, however they did. Raises NotYet after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not self.refresh().ended:
            if until is not None and time.monotonic() + poll > until:
                raise NotYet(f"not all jobs of the sweep have ended after {timeout:g} s")
            time.sleep(poll)
        return self

    def cancel(self) -> Self:
        return self._move("cancel")

    def pause(self) -> Self:
        return self._move("pause")

    def resume(self) -> Self:
        return self._move("resume")

    def _move(self, to: str) -> Self:
        self.record = self._client.send(calls.move_sweep(self.id, to))
        return self
