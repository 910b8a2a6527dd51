"""Every row is somebody's: tenants, and the API keys that lead to them. What there was is the tenant `default`'s."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"
branch_labels = None
depends_on = None


def upgrade() -> None:
    for table in ("jobs", "checks", "sweeps"):
        op.add_column(table, sa.Column("tenant", sa.String(length=63), nullable=True))
        op.execute(f"UPDATE {table} SET tenant = 'default'")
        with op.batch_alter_table(table) as altered:
            altered.alter_column("tenant", existing_type=sa.String(length=63), nullable=False)
    op.drop_index("ix_jobs_state_id", table_name="jobs")
    op.drop_index("ix_jobs_model_id", table_name="jobs")
    op.create_index("ix_jobs_tenant_id", "jobs", ["tenant", "id"], unique=False)
    op.create_index("ix_jobs_tenant_state_id", "jobs", ["tenant", "state", "id"], unique=False)
    op.create_index("ix_jobs_tenant_model_id", "jobs", ["tenant", "model", "id"], unique=False)
    op.create_index("ix_sweeps_tenant_id", "sweeps", ["tenant", "id"], unique=False)
    # Neither has rows below it, so each is made anew: a primary key can't be changed in place everywhere.
    _anew(
        "weights",
        "sha256",
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.Column("tensors", sa.BigInteger(), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
    )
    op.drop_index("ix_idempotency_keys_expires_at", table_name="idempotency_keys")
    _anew(
        "idempotency_keys",
        "key",
        sa.Column("body_sha256", sa.String(length=64), nullable=False),
        sa.Column("job_id", sa.String(length=40), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=False),
        sa.ForeignKeyConstraint(["job_id"], ["jobs.id"], name="fk_idempotency_keys_job_id", ondelete="CASCADE"),
        length=255,
    )
    op.create_index("ix_idempotency_keys_expires_at", "idempotency_keys", ["expires_at"], unique=False)
    op.create_table(
        "api_keys",
        sa.Column("prefix", sa.String(length=40), nullable=False),
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column("name", sa.String(length=100), nullable=False),
        sa.Column("scopes", sa.String(length=100), nullable=False),
        sa.Column("key_sha256", sa.String(length=64), nullable=False),
        sa.Column("created_at", sa.BigInteger(), nullable=False),
        sa.Column("expires_at", sa.BigInteger(), nullable=True),
        sa.Column("last_used_at", sa.BigInteger(), nullable=True),
        sa.Column("revoked_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("prefix", name=op.f("pk_api_keys")),
    )


def _anew(name: str, key: str, *more: sa.Column[object] | sa.ForeignKeyConstraint, length: int = 64) -> None:
    """The table with its rows, whose primary key is now the tenant and what it was before."""
    columns = ", ".join([key, *(column.name for column in more if isinstance(column, sa.Column))])
    # The old table keeps the names of its constraints until it is gone, and PostgreSQL has each name once.
    op.execute(f"CREATE TEMPORARY TABLE kept AS SELECT {columns} FROM {name}")
    op.drop_table(name)
    op.create_table(
        name,
        sa.Column("tenant", sa.String(length=63), nullable=False),
        sa.Column(key, sa.String(length=length), nullable=False),
        *more,
        sa.PrimaryKeyConstraint("tenant", key, name=op.f(f"pk_{name}")),
    )
    op.execute(f"INSERT INTO {name} (tenant, {columns}) SELECT 'default', {columns} FROM kept")
    op.execute("DROP TABLE kept")
