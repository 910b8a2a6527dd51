"""The index of the queue lies in the order of the line, and one that nobody asks is gone."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_jobs_queue", table_name="jobs")
    columns: list[str | sa.TextClause] = ["state", sa.text("priority DESC"), "id", "not_before", "cpus", "gpus"]
    op.create_index("ix_jobs_queue", "jobs", columns, unique=False)
    op.drop_index("ix_jobs_fingerprint", table_name="jobs")
