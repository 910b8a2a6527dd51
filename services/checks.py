"""Dry runs: a question to a short-lived worker that may know torch, and what it answered."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import delete, select
from sqlalchemy.orm import Session

from purlkit.results import CheckAnswer, CheckReport, Sight
from purlkit.spec import JobSpec
from services import weights
from services.database import clock
from services.errors import NotFound, Unauthorized
from services.ids import digest, is_id, new_id, new_token, opens
from services.tables import Check
from services.tenants import tenant_of

# What the spec alone decides. Missing data or weights, and a full cluster, may be mended while the spec stays as it is.
STRUCTURAL = frozenset({"invalid_spec", "unknown_name", "shape_mismatch", "unreachable_sparsity", "threshold_too_high"})

# Twice the 60 s that a check may take by default: an answer that comes later finds nobody waiting.
TOKEN_SECONDS = 120.0


def create(session: Session, spec: JobSpec, *, valid_seconds: float = TOKEN_SECONDS) -> tuple[str, str]:
    """The id and the token that the check's worker is started with."""
    now = clock(session)
    session.execute(delete(Check).where(Check.report.is_(None), Check.expires_at < now))
    weights.hold(session, spec)  # what is asked about is likely to be submitted
    token = new_token()
    check = Check(
        id=new_id("chk"),
        tenant=tenant_of(session),
        token_sha256=digest(token),
        spec=spec.model_dump(mode="json"),
        fingerprint=spec.fingerprint,
        created_at=now,
        expires_at=now + round(valid_seconds * 1000),
    )
    session.add(check)
    session.flush()
    return check.id, token


def authenticate(session: Session, check_id: str, token: str) -> Check:
    check = session.get(Check, check_id) if is_id(check_id, "chk") else None
    if check is None or not opens(token, check.token_sha256) or check.expires_at <= clock(session):
        raise Unauthorized
    return check


def record(session: Session, check_id: str, report: CheckAnswer) -> None:
    """The worker's answer. Earlier ones to the same question go once nobody can be waiting for them."""
    check = session.get(Check, check_id)
    if check is None:
        raise NotFound("check")
    check.report = report.model_dump(mode="json")
    session.flush()
    same = (Check.tenant == check.tenant, Check.fingerprint == check.fingerprint)
    session.execute(delete(Check).where(*same, Check.id != check_id, Check.expires_at < clock(session)))


def report(session: Session, check_id: str) -> CheckReport | None:
    """The answer, once it is there."""
    check = session.get(Check, check_id, populate_existing=True)
    if check is None:
        raise NotFound("check")
    return CheckReport.model_validate(check.report) if check.report is not None else None


def latest(session: Session, fingerprint: str) -> CheckReport | None:
    """The newest answer for this fingerprint, as it was given then."""
    query = select(Check.report).where(Check.fingerprint == fingerprint, Check.report.is_not(None))
    found = session.scalars(query.order_by(Check.id.desc()).limit(1)).first()
    try:
        return CheckReport.model_validate(found) if found is not None else None
    except ValidationError:
        return None  # of another version of the program: as good as never asked


def cached(session: Session, fingerprint: str) -> CheckReport | None:
    """Layers and range of an earlier answer, never availability: data, weights and resources come and go."""
    report = latest(session, fingerprint)
    if report is None:
        return None
    reasons = tuple(reason for reason in report.reasons if reason.code in STRUCTURAL)
    if not report.layers and not reasons:
        return None
    return report.model_copy(update={"reasons": reasons, "runnable": not reasons})


def sights(session: Session, *, within_seconds: float) -> list[Sight] | None:
    """What the latest checker saw of the data sets; None where none has looked for so long."""
    since = clock(session) - round(within_seconds * 1000)
    query = select(Check.report).where(Check.report.is_not(None), Check.created_at > since)
    found = session.scalars(query.order_by(Check.id.desc()).limit(1)).first()
    try:
        return list(CheckAnswer.model_validate(found).datasets) or None if found is not None else None
    except ValidationError:
        return None
