"""The same client for asyncio: `async with AsyncPurlClient(url) as purl: job = await purl.submit({…})`."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
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


class AsyncPurlClient:
    """A PuRL service. Passing troubles (a restart, a full queue) are put up with for `patience` seconds."""

    def __init__(self, url: str | None = None, *, key: str | None = None, patience: float = 60.0) -> None:
        self.url = address(url)
        self._patience = patience
        self._http = httpx.AsyncClient(**environment(self.url, key))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        await self._http.aclose()

    async def submit(self, spec: Spec, *, key: str | None = None) -> AsyncJob:
        """Makes a job. The same `key` with the same spec gives the same job, also from another process."""
        return AsyncJob(self, await self.send(calls.submit(spec, key)))

    async def check(self, spec: Spec) -> dict[str, Any]:
        """What the job would be (layers, reachable sparsity, steps, memory), and why it can't run if it can't."""
        return await self.send(calls.check(spec))

    async def job(self, job_id: str) -> AsyncJob:
        return AsyncJob(self, await self.send(calls.job(job_id)))

    async def jobs(self, **filters: Any) -> AsyncIterator[AsyncJob]:
        """All jobs, newest first, that match the filters of GET /jobs, for example `state="running"`."""
        after: str | None = None
        while True:
            page = await self.send(calls.jobs(filters, after))
            for record in page.items:
                yield AsyncJob(self, record)
            if (after := page.next) is None:
                return

    async def submit_sweep(self, spec: SweepSpec | Mapping[str, Any], *, key: str | None = None) -> AsyncSweep:
        """A job for every combination: {"base": {…}, "grid": {"seed": [0, 1, 2]}}."""
        return AsyncSweep(self, await self.send(calls.submit_sweep(spec, key)))

    async def sweep(self, sweep_id: str) -> AsyncSweep:
        return AsyncSweep(self, await self.send(calls.sweep(sweep_id)))

    async def sweeps(self) -> AsyncIterator[AsyncSweep]:
        """All sweeps, newest first, without their tables."""
        after: str | None = None
        while True:
            page = await self.send(calls.sweeps(after))
            for record in page.items:
                yield AsyncSweep(self, record)
            if (after := page.next) is None:
                return

    async def models(self) -> list[dict[str, Any]]:
        return await self.send(calls.catalog("models"))

    async def datasets(self) -> list[dict[str, Any]]:
        return await self.send(calls.catalog("datasets"))

    async def upload(self, path: Path | str, *, on_bytes: OnBytes | None = None) -> Uploaded:
        """Sends a safetensors file. Name it in a spec: {"model": {"weights": {"sha256": uploaded.sha256}}}."""
        file, patience = Upload(Path(path), on_bytes), Patience(self._patience)
        while True:
            try:
                answer = await self._http.post("/weights", content=_pieces(file), headers=file.headers, timeout=300)
            except httpx.TransportError as trouble:
                await asyncio.sleep(patience.pause(trouble))
                continue
            if answer.status_code in PASSING:
                await asyncio.sleep(patience.pause(answer))
                continue
            if not answer.is_success:
                raise problem_of(answer)
            return calls.uploaded(answer)

    async def weights(self) -> AsyncIterator[Uploaded]:
        """Uploaded weights that the service keeps, in the order of their sha256."""
        after: str | None = None
        while True:
            page = await self.send(calls.weights(after))
            for uploaded in page.items:
                yield uploaded
            if (after := page.next) is None:
                return

    async def send(self, call: Call[T]) -> T:
        patience = Patience(self._patience)
        while True:
            try:
                answer = await self._http.send(call.request(self._http))
            except httpx.TransportError as trouble:
                await asyncio.sleep(patience.pause(trouble))
                continue
            if answer.is_success:
                return call.read(answer)
            if answer.status_code not in PASSING:
                raise problem_of(answer)
            await asyncio.sleep(patience.pause(answer))

    async def follow(self, job_id: str, after: int = 0) -> AsyncIterator[Event]:
        """Every event behind `after`, each once, as it comes, until the job has ended; over restarts of the service."""
        lines, patience = EventLines(after), Patience(self._patience)
        while True:
            try:
                async with self._http.stream("GET", f"/jobs/{job_id}/events", headers=lines.headers) as stream:
                    if stream.status_code == httpx.codes.NO_CONTENT:
                        return  # ended, and all is said
                    if stream.is_success:
                        patience.relieved()
                        before = lines.last
                        async for line in stream.aiter_lines():
                            for event in lines.feed(line):
                                yield event
                        lines.over()
                        if lines.last == before:
                            await asyncio.sleep(FIRST_PAUSE)  # it said nothing: ask again, but not at once
                        continue
                    await stream.aread()
                    if stream.status_code not in PASSING:
                        raise problem_of(stream)
                    await asyncio.sleep(patience.pause(stream))
            except httpx.TransportError as trouble:
                lines.over()
                await asyncio.sleep(patience.pause(trouble))

    async def fetch(self, artifact: Artifact, folder: Path | str, *, on_bytes: OnBytes | None = None) -> Path:
        """One file of a job, taken up where an earlier try broke, and compared with its sha256."""
        file, patience = Download(artifact, Path(folder), on_bytes), Patience(self._patience)
        if file.done:
            return file.path
        while not file.complete:
            try:
                async with self._http.stream("GET", artifact.href, headers=file.headers) as stream:
                    if stream.is_success:
                        with file.taking(stream) as put:
                            async for piece in stream.aiter_raw():
                                put(piece)
                                patience.relieved()
                        break
                    await stream.aread()
                    if stream.status_code not in PASSING:
                        raise problem_of(stream)
                    await asyncio.sleep(patience.pause(stream))
            except httpx.TransportError as trouble:
                await asyncio.sleep(patience.pause(trouble))
        return file.finish()


class AsyncJob(JobView):
    """One job of a service."""

    def __init__(self, client: AsyncPurlClient, record: JobRecord) -> None:
        super().__init__(record)
        self._client = client

    async def refresh(self) -> Self:
        self.record = await self._client.send(calls.job(self.id))
        return self

    async def events(self, after: int = 0) -> AsyncIterator[Event]:
        """What happened and what happens, until the job has ended."""
        async for event in self._client.follow(self.id, after):
            self.heed(event)
            yield event

    async def wait(self, timeout: float | None = None, *, poll: float = 1.0) -> Self:
        """Until the job has ended. Raises NotYet after `timeout` seconds, and JobDidNotSucceed if it failed."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (await self.refresh()).ended:
            if until is not None and time.monotonic() + poll > until:
                raise NotYet(f"the job is {self.state} after {timeout:g} s")
            await asyncio.sleep(poll)
        calls.verdict_on(self.record)
        return self

    async def download(self, folder: Path | str = ".", *names: str, on_bytes: OnBytes | None = None) -> list[Path]:
        """The named files, or all, into the folder."""
        wanted = calls.named(await self.artifacts(), names)
        return [await self._client.fetch(artifact, folder, on_bytes=on_bytes) for artifact in wanted]

    async def artifacts(self) -> list[Artifact]:
        return await self._client.send(calls.artifacts(self.id))

    async def episodes(self) -> AsyncIterator[Episode]:
        after: str | None = None
        while True:
            page = await self._client.send(calls.episodes(self.id, after))
            for episode in page.items:
                yield episode
            if (after := page.next) is None:
                return

    async def cancel(self) -> Self:
        return await self._move("cancel")

    async def pause(self) -> Self:
        return await self._move("pause")

    async def resume(self) -> Self:
        return await self._move("resume")

    async def retry(self) -> AsyncJob:
        """A new job like this ended one."""
        return AsyncJob(self._client, await self._client.send(calls.retry(self.id)))

    async def delete(self) -> None:
        """Removes an ended job with its files."""
        await self._client.send(calls.delete(self.id))

    async def _move(self, to: str) -> Self:
        self.record = await self._client.send(calls.move(self.id, to))
        return self


async def _pieces(file: Upload) -> AsyncIterator[bytes]:
    for piece in file.chunks():
        yield piece


class AsyncSweep(SweepView):
    """Many jobs that one request made."""

    def __init__(self, client: AsyncPurlClient, record: SweepRecord) -> None:
        super().__init__(record)
        self._client = client

    async def refresh(self) -> Self:
        self.record = await self._client.send(calls.sweep(self.id))
        return self

    async def wait(self, timeout: float | None = None, *, poll: float = 2.0) -> Self:
        """Until all jobs have ended, however they did. Raises NotYet after `timeout` seconds."""
        until = None if timeout is None else time.monotonic() + timeout
        while not (await self.refresh()).ended:
            if until is not None and time.monotonic() + poll > until:
                raise NotYet(f"not all jobs of the sweep have ended after {timeout:g} s")
            await asyncio.sleep(poll)
        return self

    async def cancel(self) -> Self:
        return await self._move("cancel")

    async def pause(self) -> Self:
        return await self._move("pause")

    async def resume(self) -> Self:
        return await self._move("resume")

    async def _move(self, to: str) -> Self:
        self.record = await self._client.send(calls.move_sweep(self.id, to))
        return self
