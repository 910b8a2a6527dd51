"""What a job takes of the cluster, where and how fast an attempt runs, and who looks after the queue."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dispatchers",
        sa.Column("id", sa.String(length=40), nullable=False),
        sa.Column("place", sa.Text(), nullable=False),
        sa.Column("max_running", sa.BigInteger(), nullable=False),
        sa.Column("cpus", sa.Double(), nullable=True),
        sa.Column("gpus", sa.Double(), nullable=True),
        sa.Column("seen_at", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dispatchers")),
    )
    with op.batch_alter_table("attempts") as table:
        table.add_column(sa.Column("place", sa.Text(), nullable=True))
        table.add_column(sa.Column("pace", sa.JSON(), nullable=True))
        # The code of an error may be so long, and PostgreSQL takes a length at its word.
        table.alter_column("cause", type_=sa.String(length=100), existing_type=sa.String(length=32))
    with op.batch_alter_table("jobs") as table:
        table.add_column(sa.Column("cpus", sa.Double(), nullable=False, server_default="0"))
        table.add_column(sa.Column("gpus", sa.Double(), nullable=False, server_default="0"))
    _fill_in()
    with op.batch_alter_table("jobs") as table:
        table.alter_column("cpus", server_default=None, existing_type=sa.Double(), existing_nullable=False)
        table.alter_column("gpus", server_default=None, existing_type=sa.Double(), existing_nullable=False)


def _fill_in() -> None:
    """From the specs, which then said it thus."""
    jobs = sa.table("jobs", sa.column("id"), sa.column("spec", sa.Text()), sa.column("cpus"), sa.column("gpus"))
    connection = op.get_bind()
    for job_id, text in connection.execute(sa.select(jobs.c.id, sa.cast(jobs.c.spec, sa.Text()))).all():
        resources = json.loads(text).get("resources", {})
        runners = resources.get("env_runners", 2)
        needs = {kind: runners * resources.get(f"{kind}_per_runner", least) for kind, least in NEEDS.items()}
        connection.execute(sa.update(jobs).where(jobs.c.id == job_id).values(needs))


# What a runner took where a spec did not say.
NEEDS = {"cpus": 1, "gpus": 0}
