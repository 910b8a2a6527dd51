"""Everything a worker says to the service and hears from it: one token, one URL, HTTP only.

Two threads: one keeps the lease with heartbeats, one sends what happened in the order in which it happened. The search
never waits for either. A worker that can't renew its lease ends itself before another attempt may start.
"""

from __future__ import annotations

import base64
import hashlib
import logging
import queue
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

from purlkit.processes import end_own_session
from purlkit.results import (
    AttemptBrief,
    Command,
    Finish,
    Heartbeat,
    HeartbeatAnswer,
    Phase,
    Progress,
    WorkerEvent,
    WorkerEvents,
)
from workers.calls import FileBody, Interrupted, Superseded, Unreachable, checked

log = logging.getLogger("purl.link")

# After two thirds of a lease without contact the worker fences itself: the last third is for clocks and slow exits.
FENCE_AFTER = 2 / 3
CALL_SECONDS = 30.0  # one request: long enough for a big checkpoint on a slow disk, shorter than a lease
RETRY_SECONDS = (0.1, 0.2, 0.5, 1.0, 2.0)  # the last one again and again, until the lease is two thirds gone
SLOWEST_BYTES_PER_SECOND = 2**20  # an upload may take so much longer: the service may pass it on to S3 first
EVENTS_PER_CALL = 50  # of a network with 200 layers that is half of what one call may bring


@dataclass
class _Event:
    event: WorkerEvent


@dataclass
class _Saved:
    name: str
    content: bytes


@dataclass
class _Flush:
    done: threading.Event = field(default_factory=threading.Event)


class Link:
    """One attempt's connection. `check()` is called between steps of work and raises what the outside asked for."""

    def __init__(
        self, url: str, attempt_id: str, token: str, *, on_fence: Callable[[], None] = end_own_session
    ) -> None:
        self._http = httpx.Client(
            base_url=url, headers={"Authorization": f"Bearer {token}"}, timeout=CALL_SECONDS, trust_env=False
        )
        self._path = f"/attempts/{attempt_id}"
        self._on_fence = on_fence
        self._renewed_at = time.monotonic()
        self._reached = False
        self._finishing = False
        self._lease_seconds = CALL_SECONDS  # until the service says
        self._command: Command = "continue"
        self._failure: Exception | None = None
        self._queue: queue.Queue[_Event | _Saved | _Flush] = queue.Queue()
        self._next_seq = 0
        self._beat_now = threading.Event()
        self._closed = threading.Event()
        self._phase = Phase.CHECKING
        self._progress: Progress | None = None
        self._counter = 0
        self.gpu_bytes = 0  # what the search has taken so far of GPUs' memory, if it is known
        self._threads = [
            threading.Thread(target=self._keep_lease, name="heartbeat", daemon=True),
            threading.Thread(target=self._send_queue, name="sender", daemon=True),
        ]

    # ---- what the work calls

    def start(self) -> AttemptBrief:
        brief = AttemptBrief.model_validate_json(self._call("GET", self._path).content)
        self._lease_seconds = brief.lease_seconds
        self._heartbeat_seconds = brief.heartbeat_seconds
        for thread in self._threads:
            thread.start()
        return brief

    def check(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._command != "continue":
            raise Interrupted(self._command)

    def drain(self) -> None:
        """SIGTERM: the same as a drain that the service asked for."""
        if self._command == "continue":
            self._command = "drain"

    @property
    def counter(self) -> int:
        return self._counter

    def moved(self, counter: int) -> None:
        """Life: how many steps and batches have ended so far. It only rises."""
        self._counter = max(self._counter, counter)

    def tick(self) -> None:
        self.moved(self._counter + 1)

    def enter(self, phase: Phase) -> None:
        self._phase = phase
        self.event("phase", {"phase": phase.value})

    def progress(self, progress: Progress) -> None:
        self._progress = progress
        self._beat_now.set()

    def event(self, type: str, data: dict[str, Any]) -> None:
        self._queue.put(_Event(WorkerEvent.model_validate({"type": type, "data": data})))

    def save(self, name: str, content: bytes) -> None:
        """Keep a piece of finished work for a later attempt; it is sent after every event that came before it."""
        self._queue.put(_Saved(name, content))

    def flush(self) -> None:
        """Wait until all that was said has arrived; raises what went wrong with it."""
        marker = _Flush()
        self._queue.put(marker)
        marker.done.wait()
        if self._failure is not None:
            raise self._failure

    def fetch(self, href: str) -> bytes:
        return self._call("GET", href).content

    def put_artifact(self, name: str, path: Path, media_type: str) -> None:
        self._put(f"{self._path}/artifacts/{name}", FileBody(path), media_type)

    def append_log(self, start: int, data: bytes) -> None:
        """The next bytes of the log, from this offset."""
        self._call("POST", f"{self._path}/log", params={"start": start}, content=data)

    def finish(self, finish: Finish) -> None:
        """The last word. With it the token is spent, and a heartbeat may hear of that before the answer is here."""
        self._finishing = True
        self._call("POST", f"{self._path}/finish", json=finish.model_dump(mode="json"))
        self.close()

    def close(self) -> None:
        """No more heartbeats: the lease is over, or left to run out."""
        self._closed.set()
        self._beat_now.set()

    # ---- the two threads

    def _keep_lease(self) -> None:
        while not self._closed.is_set():
            self._beat_now.clear()
            try:
                self._beat()
            except httpx.TransportError as error:
                log.warning("heartbeat: the service does not answer (%s)", error)
            except Superseded:
                if not self._finishing:
                    self._fence("another attempt has taken over")
            except Exception as error:
                log.warning("heartbeat: %s", error)
            self._fence_if_late()
            self._closed.wait(RETRY_SECONDS[0])  # not more often than this, however often progress is reported
            self._beat_now.wait(self._pause())

    def _beat(self) -> None:
        progress = self._progress
        if progress is not None and self.gpu_bytes:
            progress = progress.model_copy(update={"gpu_memory_bytes": self.gpu_bytes})
        beat = Heartbeat(phase=self._phase, counter=self._counter, progress=progress)
        asked_at = time.monotonic()
        response = self._http.post(
            f"{self._path}/heartbeat",
            json=beat.model_dump(mode="json"),
            timeout=max(1.0, self._lease_seconds / 6),  # several tries fit before the fence
        )
        answer = HeartbeatAnswer.model_validate_json(checked(response).content)
        self._renewed_at, self._lease_seconds = asked_at, answer.lease_seconds
        if answer.command != "continue":
            self._command = answer.command

    def _pause(self) -> float:
        late = time.monotonic() - self._renewed_at > self._heartbeat_seconds
        return min(1.0, self._heartbeat_seconds) if late else self._heartbeat_seconds

    def _send_queue(self) -> None:
        while True:
            items = [self._queue.get()]
            while not self._queue.empty():
                items.append(self._queue.get_nowait())
            try:
                if self._failure is None:
                    self._send(items)
            except Superseded:
                self._fence("another attempt has taken over")
            except Exception as error:
                self._failure = error
            for item in items:
                if isinstance(item, _Flush):
                    item.done.set()

    def _send(self, items: list[_Event | _Saved | _Flush]) -> None:
        """Events together; of one name's saved work only the latest, after the events that came before it."""
        latest = {item.name: item for item in items if isinstance(item, _Saved)}
        events: list[WorkerEvent] = []
        for item in items:
            if isinstance(item, _Event):
                events.append(item.event)
            elif isinstance(item, _Saved) and latest[item.name] is item:
                self._send_events(events)
                events = []
                self._put(f"{self._path}/saved/{item.name}", item.content, "application/octet-stream")
        self._send_events(events)

    def _send_events(self, events: list[WorkerEvent]) -> None:
        for start in range(0, len(events), EVENTS_PER_CALL):
            some = tuple(events[start : start + EVENTS_PER_CALL])
            batch = WorkerEvents(first_seq=self._next_seq, events=some)
            self._call("POST", f"{self._path}/events", json=batch.model_dump(mode="json"))
            self._next_seq += len(some)

    # ---- one call, tried until the lease is nearly gone

    def _put(self, path: str, content: bytes | FileBody, media_type: str) -> None:
        whole, size = hashlib.sha256(), 0
        for piece in [content] if isinstance(content, bytes) else content:
            whole.update(piece)
            size += len(piece)
        digest = base64.b64encode(whole.digest()).decode()
        headers = {"Repr-Digest": f"sha-256=:{digest}:", "Content-Type": media_type, "Content-Length": str(size)}
        timeout = CALL_SECONDS + size / SLOWEST_BYTES_PER_SECOND
        self._call("PUT", path, content=content, headers=headers, timeout=timeout)

    def _call(self, method: str, path: str, **kwargs: Any) -> httpx.Response:
        attempt = 0
        while True:
            try:
                response = self._http.request(method, path, **kwargs)
                self._reached = True
                if response.status_code < 500 and response.status_code not in (408, 429):
                    return checked(response)
                problem = f"HTTP {response.status_code}"
            except httpx.TransportError as error:
                problem = f"{type(error).__name__}: {error}"
            log.warning("%s %s: %s; trying again", method, path, problem)
            self._fence_if_late()
            if self._failure is not None:
                raise self._failure
            time.sleep(RETRY_SECONDS[min(attempt, len(RETRY_SECONDS) - 1)])
            attempt += 1

    def _fence_if_late(self) -> None:
        silent = time.monotonic() - self._renewed_at
        if silent > FENCE_AFTER * self._lease_seconds and not self._closed.is_set():
            if not self._reached:
                raise Unreachable(f"the service has not answered for {silent:.0f} s")
            self._fence(f"no contact with the service for {silent:.0f} s of a {self._lease_seconds:.0f} s lease")

    def _fence(self, reason: str) -> None:
        log.error("this attempt ends itself: %s", reason)
        self._failure = Superseded(reason)
        self._on_fence()
