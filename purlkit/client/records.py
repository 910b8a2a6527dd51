"""What the service tells of a job, as typed records.

A newer or older service may say more, or say it otherwise: fields that are not known are kept, and a part of a job that
can't be read here is set aside in `unread`, so that the rest can be.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    TypeAdapter,
    ValidationError,
    model_serializer,
    model_validator,
)


class Told(BaseModel):
    """A part of an answer."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Progress(Told):
    fraction: float
    phase: str
    episode: int | None = None
    episodes: int | None = None
    accuracy: float | None = None
    sparsity: float | None = None
    eta_seconds: float | None = None
    gpu_memory_bytes: int | None = None


class Attempt(Told):
    number: int
    state: str
    started_at: datetime | None = None
    ended_at: datetime | None = None
    reason: str | None = None


class Candidate(Told):
    """One pruned network of the race."""

    method: str
    variant: str | None = None
    sparsity: float
    accuracy: float
    select_accuracy: float
    diverged: str | None = None

    @property
    def name(self) -> str:
        return f"{self.method} {self.variant}" if self.variant else self.method


class Winner(Told):
    method: str
    variant: str | None = None


class Accuracy(Told):
    """Of the winner, on the test split."""

    dense: float
    pruned: float
    fine_tuned: float


class Checkpoint(Told):
    sha256: str
    bytes: int
    href: str


class Result(Told):
    winner: Winner
    verdict: str
    targets_met: bool
    sparsity: float
    accuracy: Accuracy
    candidates: tuple[Candidate, ...] = ()
    checkpoint: Checkpoint


class Error(Told):
    code: str
    message: str


PARTS: dict[str, TypeAdapter[Any]] = {
    "progress": TypeAdapter(Progress | None),
    "attempts": TypeAdapter(tuple[Attempt, ...]),
    "result": TypeAdapter(Result | None),
    "error": TypeAdapter(Error | None),
}


def _is_readable(part: TypeAdapter[Any], told: Any) -> bool:
    try:
        part.validate_python(told)
    except ValidationError:
        return False
    return True


class JobRecord(Told):
    """A job as it was when the service was asked."""

    id: str
    name: str | None = None
    sweep: str | None = None
    state: str
    requested: str | None = None
    phase: str | None = None
    pending_reason: str | None = None
    queue_position: int | None = None
    spec: dict[str, Any]
    fingerprint: str
    progress: Progress | None = None
    attempts: tuple[Attempt, ...] = ()
    result: Result | None = None
    error: Error | None = None
    created_at: datetime
    started_at: datetime | None = None
    finished_at: datetime | None = None
    unread: dict[str, Any] = Field(default_factory=dict)  # parts of another version, as they were told

    @model_validator(mode="before")
    @classmethod
    def _set_aside(cls, told: Any) -> Any:
        if not isinstance(told, dict):
            return told
        unread = {
            name: told[name] for name, part in PARTS.items() if name in told and not _is_readable(part, told[name])
        }
        return {**{name: value for name, value in told.items() if name not in unread}, "unread": unread}

    @model_serializer(mode="wrap")
    def _as_told(self, dump: SerializerFunctionWrapHandler) -> dict[str, Any]:
        told: dict[str, Any] = dump(self)
        return {**told, **told.pop("unread")}

    def asked(self, part: str, field: str) -> Any:
        """A field of the spec, where this spec has it."""
        told = self.spec.get(part)
        return told.get(field) if isinstance(told, dict) else None

    @property
    def ended(self) -> bool:
        return self.state in ENDED


ENDED = frozenset({"succeeded", "failed", "cancelled"})


class SweepOutcome(Told):
    """What came of one network of a job's race."""

    method: str
    variant: str | None = None
    target: float
    sparsity: float
    accuracy_pruned: float
    accuracy: float


class SweepResult(Told):
    winner: Winner
    verdict: str
    sparsity: float
    accuracy: Accuracy
    candidates: tuple[SweepOutcome, ...] = ()


class SweepRow(Told):
    """One job of a sweep."""

    job: str
    settings: dict[str, Any]
    state: str
    progress: float | None = None
    result: SweepResult | None = None
    error: Error | None = None


class SweepRecord(Told):
    """Many jobs that one request made; `table` is left out in lists."""

    id: str
    name: str | None = None
    jobs: dict[str, int]
    ended: bool
    created_at: datetime
    spec: dict[str, Any] = {}
    table: tuple[SweepRow, ...] = ()


class Event(Told):
    """One thing that happened to a job; `seq` counts within the job."""

    seq: int
    type: str
    at: datetime
    data: dict[str, Any]


class Episode(Told):
    """One walk of the search over the network."""

    index: int
    kind: str
    attempt: int
    actions: tuple[int, ...]
    rewards: tuple[float, ...]
    accuracies: tuple[float, ...]
    sparsities: tuple[float, ...]
    seconds: float


class Artifact(Told):
    name: str
    sha256: str
    bytes: int
    media_type: str
    href: str


class Uploaded(Told):
    """Weights that the service has; name them in a spec by their sha256."""

    sha256: str
    bytes: int
    tensors: int
    created_at: datetime | None = None  # in lists
