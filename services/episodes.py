"""The search's history: one row for each episode, however often it had to be played."""

from __future__ import annotations

from pydantic import ValidationError
from sqlalchemy import select
from sqlalchemy.orm import Session

from purlkit.results import Episode
from services import metrics, paging
from services.errors import InvalidCursor, InvalidEvent
from services.paging import Page
from services.tables import Attempt, EpisodeRow, Json


def record(session: Session, attempt: Attempt, data: Json) -> EpisodeRow:
    """The newest telling of an episode wins: earlier attempts can't write any more."""
    try:
        episode = Episode.model_validate(data)
    except ValidationError as problem:
        fields = ", ".join(".".join(str(part) for part in error["loc"]) for error in problem.errors()[:5])
        raise InvalidEvent("an episode is not what it should be", remedy=f"look at these fields: {fields}") from None
    metrics.episode_played(session, episode.kind, len(episode.actions))
    return session.merge(
        EpisodeRow(
            job_id=attempt.job_id,
            kind=episode.kind,
            index=episode.index,
            attempt=attempt.number,
            data=episode.model_dump(mode="json"),
        )
    )


def page(session: Session, job_id: str, *, after: str | None = None, limit: int = 100) -> Page[EpisodeRow]:
    """Those of the search first, then the greedy ones, each in the order of their numbers."""
    query = select(EpisodeRow).where(EpisodeRow.job_id == job_id)
    if after is not None:
        kind, index = _position(after)
        following = (EpisodeRow.kind == kind) & (EpisodeRow.index > index)
        query = query.where(following | (EpisodeRow.kind < kind))
    query = query.order_by(EpisodeRow.kind.desc(), EpisodeRow.index).limit(limit + 1)
    items, has_more = paging.cut(list(session.scalars(query)), limit)
    last = paging.encode(f"{items[-1].kind}:{items[-1].index}") if has_more else None
    return Page(items=items, has_more=has_more, next=last)


def _position(cursor: str) -> tuple[str, int]:
    kind, _, index = paging.decode(cursor).partition(":")
    if kind not in ("search", "greedy") or not index.isdecimal() or len(index) > 18:
        raise InvalidCursor
    return kind, int(index)
