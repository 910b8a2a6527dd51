"""What the jobs API searches by: models, labels, parents; and the logs of live attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("jobs", sa.Column("parent", sa.String(length=40), nullable=True))
    op.add_column("jobs", sa.Column("model", sa.String(length=100), nullable=True))
    op.create_table(
        "job_labels",
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("key", sa.String(length=63), nullable=False),
        sa.Column("value", sa.String(length=255), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name=op.f("fk_job_labels_job_id"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("job_id", "key", name=op.f("pk_job_labels")),
    )
    _copy_out_of_specs()
    with op.batch_alter_table("jobs") as jobs:
        jobs.alter_column("model", existing_type=sa.String(length=100), nullable=False)
    op.create_index("ix_jobs_state_id", "jobs", ["state", "id"], unique=False)
    op.create_index("ix_jobs_model_id", "jobs", ["model", "id"], unique=False)
    op.create_index("ix_attempts_state", "attempts", ["state"], unique=False)
    op.create_index(
        "ix_attempts_handle",
        "attempts",
        ["state"],
        unique=False,
        sqlite_where=sa.text("handle IS NOT NULL"),
        postgresql_where=sa.text("handle IS NOT NULL"),
    )
    op.create_index("ix_job_labels_key_value_job_id", "job_labels", ["key", "value", "job_id"], unique=False)

    op.create_table(
        "log_chunks",
        sa.Column("attempt_id", sa.String(length=40), nullable=False),
        sa.Column("start", sa.BigInteger(), nullable=False),
        sa.Column("data", sa.LargeBinary(), nullable=False),
        sa.ForeignKeyConstraint(
            ["attempt_id"], ["attempts.id"], name=op.f("fk_log_chunks_attempt_id"), ondelete="CASCADE"
        ),
        sa.PrimaryKeyConstraint("attempt_id", "start", name=op.f("pk_log_chunks")),
    )


def _copy_out_of_specs() -> None:
    jobs = sa.table("jobs", sa.column("id", sa.String), sa.column("spec", sa.JSON), sa.column("model", sa.String))
    labels = sa.table("job_labels", sa.column("job_id"), sa.column("key"), sa.column("value"))
    connection = op.get_bind()
    for job_id, spec in connection.execute(sa.select(jobs.c.id, jobs.c.spec)).all():
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(model=spec["model"]["name"]))
        for key, value in spec.get("labels", {}).items():
            connection.execute(sa.insert(labels).values(job_id=job_id, key=key, value=value))
