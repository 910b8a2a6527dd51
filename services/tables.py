"""The tables. Times are whole milliseconds of UTC by the database's clock; nothing here is peculiar to SQLite."""

from __future__ import annotations

from sqlalchemy import CheckConstraint, ForeignKey, Index, LargeBinary, String, Text, text
from sqlalchemy.orm import Mapped, mapped_column

from services.columns import JSON_OR_NULL
from services.columns import Base as Base
from services.columns import Json as Json
from services.states import AttemptState, JobState


class Job(Base):
    __tablename__ = "jobs"
    __table_args__ = (
        CheckConstraint(
            "CASE WHEN state IN ('succeeded', 'failed', 'cancelled') THEN (result IS NULL) <> (error IS NULL)"
            " ELSE result IS NULL AND error IS NULL END",
            name="ended_with_one_of_result_and_error",
        ),
        # Lists are one tenant's and in the order of ids, so each filter's index stands between the two.
        Index("ix_jobs_tenant_id", "tenant", "id"),
        Index("ix_jobs_tenant_state_id", "tenant", "state", "id"),
        Index("ix_jobs_tenant_model_id", "tenant", "model", "id"),
        Index("ix_jobs_sweep_id_id", "sweep_id", "id"),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63))  # whose it is, and all that hangs on it
    version: Mapped[int] = mapped_column()  # moved by every change of the row
    state: Mapped[JobState]
    requested: Mapped[str | None] = mapped_column(String(16))  # cancel or pause, not yet acknowledged
    name: Mapped[str | None] = mapped_column(Text)
    spec: Mapped[Json]
    model: Mapped[str] = mapped_column(String(100))  # its name, out of the spec
    parent: Mapped[str | None] = mapped_column(String(40))  # the job that this one retries; it may be deleted by now
    sweep_id: Mapped[str | None] = mapped_column(String(40))
    sweep_point: Mapped[Json | None]  # what sets the job apart from the others of its sweep
    fingerprint: Mapped[str] = mapped_column(String(64))
    priority: Mapped[int]
    timeout_seconds: Mapped[float | None]
    max_attempts: Mapped[int]
    cpus: Mapped[float]  # what an attempt of it reserves, all runners together
    gpus: Mapped[float]
    phase: Mapped[str | None] = mapped_column(String(32))
    progress: Mapped[Json | None]
    result: Mapped[Json | None]
    error: Mapped[Json | None]
    fruitless: Mapped[int] = mapped_column(default=0)  # attempts in a row that ended without having saved anything
    not_before: Mapped[int]  # the queue passes over it until then; from then on it waits for its turn
    waiting_for: Mapped[str | None] = mapped_column(Text)  # why it has to wait until then
    created_at: Mapped[int]
    started_at: Mapped[int | None]
    finished_at: Mapped[int | None]
    resumed_at: Mapped[int | None]
    last_heartbeat_at: Mapped[int | None]

    # Two writers that read the same version can't both win, whatever the database's locks allow.
    __mapper_args__ = {"version_id_col": version}  # noqa: RUF012, SQLAlchemy declares it an instance's


# In the order of the line, or each claim would sort all that wait. All that is asked of them is in it, so that counting
# who is ahead reads no rows.
LINE = Index("ix_jobs_queue", Job.state, Job.priority.desc(), Job.id, Job.not_before, Job.cpus, Job.gpus, Job.tenant)


class Sweep(Base):
    """Many jobs that one request made. It goes with the last of them."""

    __tablename__ = "sweeps"
    __table_args__ = (Index("ix_sweeps_tenant_id", "tenant", "id"),)

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63))
    name: Mapped[str | None] = mapped_column(Text)
    spec: Mapped[Json]
    created_at: Mapped[int]


class JobLabel(Base):
    """The labels of a job's spec, where they can be searched."""

    __tablename__ = "job_labels"
    __table_args__ = (Index("ix_job_labels_key_value_job_id", "key", "value", "job_id"),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    key: Mapped[str] = mapped_column(String(63), primary_key=True)
    value: Mapped[str] = mapped_column(String(255))


class Attempt(Base):
    __tablename__ = "attempts"
    __table_args__ = (
        Index("uq_attempts_job_id_number", "job_id", "number", unique=True),
        # The partial one below is of no use for a question whose states are parameters.
        Index("ix_attempts_state", "state"),
        # The few whose processes may still be there.
        Index(
            "ix_attempts_handle",
            "state",
            sqlite_where=text("handle IS NOT NULL"),
            postgresql_where=text("handle IS NOT NULL"),
        ),
        # The database itself refuses a second live attempt of a job.
        Index(
            "uq_attempts_live",
            "job_id",
            unique=True,
            sqlite_where=text("state IN ('launching', 'running')"),
            postgresql_where=text("state IN ('launching', 'running')"),
        ),
    )

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    number: Mapped[int]
    state: Mapped[AttemptState]
    token_sha256: Mapped[str] = mapped_column(String(64))
    handle: Mapped[Json | None]  # the launcher's; none once the processes are known to be gone
    place: Mapped[str | None] = mapped_column(Text)  # from where its processes can be seen and ended
    lease_until: Mapped[int]
    # What the attempt was promised at its claim: a change of the settings binds later attempts only.
    lease_seconds: Mapped[float]
    heartbeat_seconds: Mapped[float]
    stall_seconds: Mapped[float]
    counter: Mapped[int | None]
    counter_moved_at: Mapped[int | None]
    pace: Mapped[list[float] | None] = mapped_column(JSON_OR_NULL)  # seconds of each of its latest steps in this phase
    draining: Mapped[bool] = mapped_column(default=False)
    saved: Mapped[bool] = mapped_column(default=False)  # whether it got further than the attempt before it
    next_seq: Mapped[int] = mapped_column(default=0)  # of its own events
    reason: Mapped[str | None] = mapped_column(Text)
    cause: Mapped[str | None] = mapped_column(String(100))
    error_code: Mapped[str | None] = mapped_column(String(100))
    error_where: Mapped[str | None] = mapped_column(Text)
    finish_sha256: Mapped[str | None] = mapped_column(String(64))  # of its last word, so that repeating it is fine
    created_at: Mapped[int]
    started_at: Mapped[int | None]
    ended_at: Mapped[int | None]


class DispatcherRow(Base):
    """One that looks after the queue, as it said last. Whoever has died just says nothing more."""

    __tablename__ = "dispatchers"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    place: Mapped[str] = mapped_column(Text)
    max_running: Mapped[int]
    tenant_running: Mapped[int | None]
    cpus: Mapped[float | None]
    gpus: Mapped[float | None]
    found_cpus: Mapped[float | None]  # what its place was found to have, whatever the settings say
    found_gpus: Mapped[float | None]
    seen_at: Mapped[int]


class Event(Base):
    __tablename__ = "events"
    __table_args__ = (Index("uq_events_attempt_id_attempt_seq", "attempt_id", "attempt_seq", unique=True),)

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    seq: Mapped[int] = mapped_column(primary_key=True)  # 1, 2, 3, … within the job
    type: Mapped[str] = mapped_column(String(32))
    data: Mapped[Json]
    attempt_id: Mapped[str | None] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"))
    attempt_seq: Mapped[int | None]
    created_at: Mapped[int]


class EpisodeRow(Base):
    __tablename__ = "episodes"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    kind: Mapped[str] = mapped_column(String(16), primary_key=True)
    index: Mapped[int] = mapped_column(primary_key=True)
    attempt: Mapped[int]  # the number of the attempt that played it last
    data: Mapped[Json]


class Artifact(Base):
    """A file of an attempt, staged at first. Published ones are the job's: one for each name."""

    __tablename__ = "artifacts"
    __table_args__ = (
        Index(
            "uq_artifacts_published",
            "job_id",
            "name",
            unique=True,
            sqlite_where=text("published_at IS NOT NULL"),
            postgresql_where=text("published_at IS NOT NULL"),
        ),
    )

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    media_type: Mapped[str] = mapped_column(String(255))
    created_at: Mapped[int]
    published_at: Mapped[int | None]


class LogChunk(Base):
    """A piece of what a live attempt has said so far; its whole log is an artifact once it has ended."""

    __tablename__ = "log_chunks"

    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"), primary_key=True)
    start: Mapped[int] = mapped_column(primary_key=True)  # the offset of its first byte
    data: Mapped[bytes] = mapped_column(LargeBinary)


class SavedBlob(Base):
    """Finished work that a later attempt of the job goes on from; the latest of each name."""

    __tablename__ = "saved_work"

    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"), primary_key=True)
    name: Mapped[str] = mapped_column(String(100), primary_key=True)
    attempt_id: Mapped[str] = mapped_column(ForeignKey("attempts.id", ondelete="CASCADE"))
    sha256: Mapped[str] = mapped_column(String(64), index=True)
    bytes: Mapped[int]
    saved_at: Mapped[int]


class UploadedWeights(Base):
    __tablename__ = "weights"

    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)  # who has sent them: the bytes are stored once
    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    bytes: Mapped[int]
    tensors: Mapped[int]
    created_at: Mapped[int]


class StoredBlob(Base):
    """Bytes that the store may hold, whoever names them: see services.artifacts.blobs."""

    __tablename__ = "blobs"

    sha256: Mapped[str] = mapped_column(String(64), primary_key=True)
    touched_at: Mapped[int] = mapped_column(index=True)


PLACE = "place"


class Leftover(Base):
    """Processes of an attempt whose job was deleted before they were seen gone."""

    __tablename__ = "leftovers"

    attempt_id: Mapped[str] = mapped_column(String(40), primary_key=True)
    handle: Mapped[Json]  # the launcher's, and under PLACE whose dispatcher can see them


class Check(Base):
    """One dry run: a question to a short-lived worker, and its answer."""

    __tablename__ = "checks"

    id: Mapped[str] = mapped_column(String(40), primary_key=True)
    tenant: Mapped[str] = mapped_column(String(63))
    token_sha256: Mapped[str] = mapped_column(String(64))
    spec: Mapped[Json]
    fingerprint: Mapped[str] = mapped_column(String(64), index=True)
    report: Mapped[Json | None]
    created_at: Mapped[int]
    expires_at: Mapped[int]  # of the token


class IdempotencyKey(Base):
    __tablename__ = "idempotency_keys"

    tenant: Mapped[str] = mapped_column(String(63), primary_key=True)
    key: Mapped[str] = mapped_column(String(255), primary_key=True)
    body_sha256: Mapped[str] = mapped_column(String(64))
    job_id: Mapped[str] = mapped_column(ForeignKey("jobs.id", ondelete="CASCADE"))
    expires_at: Mapped[int] = mapped_column(index=True)
