"""Stand-ins that ship: a database in a folder, a launcher that starts nothing, and a worker that does as it is told."""

from __future__ import annotations

import hashlib
import itertools
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from sqlalchemy import BigInteger, String, cast, insert, literal, select, true
from sqlalchemy.orm import Session

from purlkit.results import (
    CHECKPOINT,
    Accuracy,
    Candidate,
    CheckpointRef,
    Command,
    Episode,
    ErrorReport,
    Finish,
    Front,
    Headline,
    Heartbeat,
    LayerReport,
    Outcome,
    Phase,
    Point,
    Progress,
    RaceReport,
    Result,
    Winner,
    WorkerEvent,
    WorkerEvents,
)
from purlkit.spec import JobSpec
from services import artifacts, attempts, jobs
from services.artifacts import Blob
from services.attempts import Claim
from services.database import Database, upgrade
from services.launch import Capacity, Handle
from services.settings import Settings
from services.tables import Artifact, Attempt, Job, SavedBlob


def settings_in(folder: Path, **environ: str) -> Settings:
    """Settings with everything below the folder: settings_in(tmp_path, PURL_LEASE_SECONDS="2")."""
    return Settings.from_environ({"PURL_DATA_DIR": str(folder), **environ})


def database_in(folder: Path, **environ: str) -> Database:
    """A real database, with its tables made by the real migrations."""
    url = settings_in(folder, **environ).database_url
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:///") and not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(migrated_file())
    else:
        upgrade(url)
    return Database.open(url)


@cache
def migrated_file() -> bytes:
    """What the migrations make of a new file, once for each process: they take longer than most tests."""
    with TemporaryDirectory() as folder:
        file = Path(folder) / "purl.db"
        upgrade(f"sqlite:///{file}")
        return file.read_bytes()


def a_spec(**changes: Any) -> JobSpec:
    """The least spec, with the given fields in place of its own."""
    least = {"model": {"name": "digits-resnet"}, "targets": {"sparsity": 0.9}}
    return JobSpec.model_validate({**least, **changes}).resolve()


def fill_queue(db: Database, count: int) -> None:
    """So many more jobs of the least spec, older than all that are submitted: the database makes them by itself."""
    table = Job.__table__
    with db.write() as session:
        original = jobs.submit(session, a_spec()).job
        last = select(literal(1, BigInteger).label("number")).cte("numbers", recursive=True)
        numbers = last.union_all(select(last.c.number + 1).where(last.c.number < count))
        # Ids have 26 digits, and those of other calls must be others.
        first = 10**18 + time.time_ns() // 1000
        digits = cast(literal(first, BigInteger) + numbers.c.number, String)
        values = [literal("job_0000000") + digits if column.name == "id" else column for column in table.columns]
        copies = select(*values).select_from(table.join(numbers, true())).where(table.c.id == original.id)
        session.connection().execute(insert(Job).from_select(table.columns.keys(), copies))
        session.delete(original)


def a_blob(data: bytes) -> Blob:
    """How a store would have described these bytes."""
    return Blob(sha256=hashlib.sha256(data).hexdigest(), bytes=len(data))


def _announced(session: Session, data: bytes) -> Blob:
    """As if these bytes had gone to a store; a FakeWorker has none."""
    blob = a_blob(data)
    artifacts.announce(session, blob.sha256)
    return blob


def an_episode(index: int, *, kind: str = "search", accuracy: float = 0.5) -> WorkerEvent:
    """One walk over a network of two layers."""
    episode = Episode(
        index=index,
        kind="greedy" if kind == "greedy" else "search",
        actions=(1, 2),
        rewards=(0.0, 0.5),
        accuracies=(0.9, accuracy),
        sparsities=(0.2, 0.4),
        seconds=1.5,
        runner=0,
        weights_version=index,
    )
    return WorkerEvent(type="episode", data=episode.model_dump(mode="json"))


def a_result(checkpoint: Blob) -> Result:
    """What a finished job of one layer would say."""
    layer = LayerReport(name="fc", kind="Linear", shape=(10, 10), weights=100, kept=10, sparsity=0.9)
    candidate = Candidate(
        method="global",
        target=0.9,
        sparsity=0.9,
        accuracy_pruned=0.5,
        accuracy=0.9,
        select_accuracy=0.9,
        epochs=10,
        images_seen=1000,
        device_seconds=1.0,
        layers=(layer,),
        mask_sha256="0" * 64,
    )
    headline = Headline(
        winner=Winner(method="global"),
        verdict="global magnitude ships",
        targets_met=True,
        sparsity=0.9,
        accuracy=Accuracy(dense=0.95, pruned=0.5, fine_tuned=0.9),
        checkpoint=CheckpointRef(sha256=checkpoint.sha256, bytes=checkpoint.bytes),
    )
    race = RaceReport(epochs=10, of_epochs=10, seeds=1, images=1000, device_seconds=1.0)
    return Result(
        **dict(headline),
        points=(Point(**dict(headline), target=0.9, race=race),),
        front=Front(sparsity=(0.9,)),
        met_up_to=0.9,
        prunable_weights=100,
        candidates=(candidate,),
        dense_sha256="0" * 64,
        splits={"test": 100},
        seed=0,
        versions={"torch": "2"},
        search_seconds=1.0,
        search_images=1000,
    )


@dataclass(frozen=True, kw_only=True)
class Launch:
    env: Mapping[str, str]
    module: str
    name: str
    log_path: Path
    handle: Handle


@dataclass
class FakeLauncher:
    """Remembers what it was asked to start; a test decides what dies."""

    place: str = "here"
    has: Capacity | None = None
    launches: list[Launch] = field(default_factory=list)
    asked_to_drain: list[Handle] = field(default_factory=list)
    ended: list[Handle] = field(default_factory=list)
    _dead: set[int] = field(default_factory=set)
    _pids: itertools.count[int] = field(default_factory=lambda: itertools.count(1))

    def capacity(self) -> Capacity | None:
        return self.has

    def launch(
        self,
        env: Mapping[str, str],
        *,
        module: str,
        name: str,
        log_path: Path,
        record: Callable[[Handle], object] = lambda _: None,
    ) -> Handle:
        handle: Handle = {"pid": next(self._pids), "started": 0, "host": "here"}
        self.launches.append(Launch(env=dict(env), module=module, name=name, log_path=log_path, handle=handle))
        record(handle)
        return handle

    def alive(self, handle: Handle) -> bool:
        return handle["pid"] not in self._dead

    def why_dead(self, handle: Handle) -> str | None:  # noqa: ARG002
        return None

    def ask_to_drain(self, handle: Handle) -> None:
        self.asked_to_drain.append(handle)

    def end(self, handle: Handle, *, at_once: bool = False) -> None:  # noqa: ARG002
        self.ended.append(handle)
        self.die(handle)

    def die(self, handle: Handle) -> None:
        """As if by kill -9."""
        self._dead.add(handle["pid"])


class FakeWorker:
    """Holds an attempt's token and says what a test wants said, straight to the database."""

    def __init__(self, db: Database, claim: Claim) -> None:
        self.db = db
        self.claim = claim
        self._counter = 0
        self._said = 0

    @property
    def attempt(self) -> Attempt:
        """As the service sees it now."""
        with self.db.read() as session:
            return session.get_one(Attempt, self.claim.attempt_id)

    def beat(self, *, phase: Phase = Phase.SEARCH, moved: bool = True, progress: Progress | None = None) -> Command:
        self._counter += moved
        with self.db.write() as session:
            beat = Heartbeat(phase=phase, counter=self._counter, progress=progress)
            return attempts.heartbeat(session, self._authenticated(), beat).command

    def say(self, *events: WorkerEvent, first_seq: int | None = None) -> None:
        first_seq = self._said if first_seq is None else first_seq
        with self.db.write() as session:
            batch = WorkerEvents(first_seq=first_seq, events=events)
            attempts.record_events(session, self._authenticated(), batch)
        self._said = max(self._said, first_seq + len(events))

    def save(self, name: str, data: bytes) -> SavedBlob:
        with self.db.write() as session:
            blob = _announced(session, data)
            return attempts.save_work(session, self._authenticated(), name, blob)

    def stage(self, name: str, data: bytes) -> Artifact:
        with self.db.write() as session:
            blob = _announced(session, data)
            return attempts.stage_artifact(session, self._authenticated(), name, blob, "application/octet-stream")

    def finish(self, last_word: Finish) -> Job:
        with self.db.write() as session:
            return attempts.finish(session, self._authenticated(), last_word)

    def succeed(self, checkpoint: bytes = b"the pruned network") -> Job:
        self.stage(CHECKPOINT, checkpoint)
        result = a_result(a_blob(checkpoint))
        return self.finish(Finish(outcome=Outcome.SUCCEEDED, result=result, artifacts=(CHECKPOINT,)))

    def fail(self, *, code: str = "boom", where: str = "pipeline.py:1", retryable: bool = False) -> Job:
        error = ErrorReport(code=code, message="it went wrong", where=where, retryable=retryable)
        return self.finish(Finish(outcome=Outcome.FAILED, error=error))

    def leave(self, outcome: Outcome) -> Job:
        """Ends drained, paused or cancelled."""
        return self.finish(Finish(outcome=outcome))

    def _authenticated(self) -> Attempt:
        with self.db.read() as session:
            return attempts.authenticate(session, self.claim.attempt_id, self.claim.token, ended_ok=True)
