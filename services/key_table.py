"""The table of API keys. Nothing in it opens anything: of a key it holds the SHA-256."""

from __future__ import annotations

from sqlalchemy import String
from sqlalchemy.orm import Mapped, mapped_column

from services.tables import Base


class ApiKey(Base):
    __tablename__ = "api_keys"

    prefix: Mapped[str] = mapped_column(String(40), primary_key=True)  # what a key begins with, and is spoken of by
    tenant: Mapped[str] = mapped_column(String(63))
    name: Mapped[str] = mapped_column(String(100))
    scopes: Mapped[str] = mapped_column(String(100))  # words with a blank between them
    key_sha256: Mapped[str] = mapped_column(String(64))
    created_at: Mapped[int]
    expires_at: Mapped[int | None]
    last_used_at: Mapped[int | None]  # to the minute
    revoked_at: Mapped[int | None]  # the row stays: who made keys once does not stand open for having revoked them
