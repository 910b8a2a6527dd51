"""What the store may hold, and what is left of deleted jobs."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "blobs",
        sa.Column("sha256", sa.String(length=64), nullable=False),
        sa.Column("touched_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("sha256", name=op.f("pk_blobs")),
    )
    op.create_index(op.f("ix_blobs_touched_at"), "blobs", ["touched_at"], unique=False)
    op.create_table(
        "leftovers",
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("handle", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("attempt_id", name=op.f("pk_leftovers")),
    )
    op.create_index(op.f("ix_artifacts_sha256"), "artifacts", ["sha256"], unique=False)
    op.create_index(op.f("ix_saved_work_sha256"), "saved_work", ["sha256"], unique=False)
