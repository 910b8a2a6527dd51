"""The index of the queue holds all that is asked of those that wait."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.drop_index("ix_jobs_queue", table_name="jobs")
    columns = ["state", "priority", "id", "not_before", "cpus", "gpus"]
    op.create_index("ix_jobs_queue", "jobs", columns, unique=False)
