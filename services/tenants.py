"""Whose rows a session sees. A session of a tenant asks for nothing else, however its questions are written.

The service's own processes (dispatcher, sweeper, the routes of workers) use sessions of nobody, which see everything:
what they may touch is settled by attempts and their tokens. A caller's requests get sessions of the caller's tenant
from api.deps and can't come by another.
"""

from __future__ import annotations

import re
from functools import lru_cache

from sqlalchemy import event, exists
from sqlalchemy.orm import DeclarativeBase, ORMExecuteState, Session, with_loader_criteria
from sqlalchemy.sql.base import ExecutableOption

from services.key_table import ApiKey
from services.tables import (
    Artifact,
    Attempt,
    Check,
    DispatcherRow,
    EpisodeRow,
    Event,
    IdempotencyKey,
    Job,
    JobLabel,
    Leftover,
    LogChunk,
    SavedBlob,
    StoredBlob,
    Sweep,
    UploadedWeights,
)

# Whose everything is while nobody has made keys.
DEFAULT = "default"

SHAPE = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")

# Every table is in one of these; a test finds one that is not.
OWNED = (Job, Sweep, UploadedWeights, Check, IdempotencyKey, ApiKey)
OF_A_JOB = (JobLabel, Attempt, Event, EpisodeRow, Artifact, SavedBlob)
OF_AN_ATTEMPT = (LogChunk,)
# Who looks after the queue, which bytes are stored, which processes have to end: nothing of what anybody sent.
NOBODYS = (DispatcherRow, StoredBlob, Leftover)

# Of a question with one answer for all: whether bytes may go, how full the service is. A test lists who asks so.
EVERYBODYS = {"everybodys": True}

_jobs = Job.__table__.alias("owning_jobs")
_attempts = Attempt.__table__.alias("owning_attempts")


class TenantSession(Session):
    """A session that may be bound to a tenant, by `info`."""


def tenant_of(session: Session) -> str:
    """Whose new rows are."""
    return session.info.get("tenant") or DEFAULT


@event.listens_for(TenantSession, "do_orm_execute")
def _only_its_own(state: ORMExecuteState) -> None:
    tenant = None if state.execution_options.get("everybodys") else state.session.info.get("tenant")
    # Columns and collections of a row that was found are that row's.
    if tenant is not None and not state.is_column_load and not state.is_relationship_load:
        state.statement = state.statement.options(*_criteria(tenant))


@lru_cache(maxsize=1024)
def _criteria(tenant: str) -> tuple[ExecutableOption, ...]:
    mine = _jobs.c.tenant == tenant

    def of_job(table: type[DeclarativeBase]) -> ExecutableOption:
        owner = exists().where(_jobs.c.id == table.job_id, mine).correlate_except(_jobs)  # type: ignore[attr-defined]
        return with_loader_criteria(table, owner, include_aliases=True)

    def of_attempt(table: type[DeclarativeBase]) -> ExecutableOption:
        owner = exists().where(_attempts.c.id == table.attempt_id, _attempts.c.job_id == _jobs.c.id, mine)  # type: ignore[attr-defined]
        return with_loader_criteria(table, owner.correlate_except(_attempts, _jobs), include_aliases=True)

    return (
        *(with_loader_criteria(table, table.tenant == tenant, include_aliases=True) for table in OWNED),
        *(of_job(table) for table in OF_A_JOB),
        *(of_attempt(table) for table in OF_AN_ATTEMPT),
    )
