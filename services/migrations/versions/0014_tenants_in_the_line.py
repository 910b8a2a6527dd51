"""The line is counted by tenant, and dispatchers say how many attempts of one they run at once."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dispatchers", sa.Column("tenant_running", sa.BigInteger(), nullable=True))
    op.drop_index("ix_jobs_queue", table_name="jobs")
    columns: list[str | sa.TextClause] = ["state", sa.text("priority DESC")]
    columns += ["id", "not_before", "cpus", "gpus", "tenant"]
    op.create_index("ix_jobs_queue", "jobs", columns, unique=False)
