"""Many jobs that one request made."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0005"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "sweeps",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("name", sa.Text(), nullable=True),
        sa.Column("spec", sa.JSON(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sweeps")),
    )
    op.add_column("jobs", sa.Column("sweep_id", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("sweep_point", sa.JSON(), nullable=True))
    op.create_index("ix_jobs_sweep_id_id", "jobs", ["sweep_id", "id"], unique=False)
