"""Dispatchers say what their place was found to have: a job that has begun makes do with it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.add_column("dispatchers", sa.Column("found_cpus", sa.Double(), nullable=True))
    op.add_column("dispatchers", sa.Column("found_gpus", sa.Double(), nullable=True))
