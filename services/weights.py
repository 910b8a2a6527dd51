"""Uploaded weights: content-addressed, so that the same file twice is one row."""

from __future__ import annotations

from sqlalchemy.orm import Session

from services import artifacts
from services.artifacts import Blob
from services.database import clock
from services.tables import UploadedWeights


def record(session: Session, blob: Blob, tensors: int) -> UploadedWeights:
    """Makes a stored file known as weights; fine to repeat."""
    artifacts.confirm(session, blob.sha256)
    known = find(session, blob.sha256)
    if known is not None:
        return known
    return session.merge(
        UploadedWeights(sha256=blob.sha256, bytes=blob.bytes, tensors=tensors, created_at=clock(session))
    )


def find(session: Session, sha256: str) -> UploadedWeights | None:
    return session.get(UploadedWeights, sha256)
