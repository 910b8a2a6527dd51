"""Run by services.database.upgrade, which hands over a connection with the transaction already begun."""

from __future__ import annotations

from alembic import context

from services.tables import Base

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    # SQLite can't change a column in place: Alembic copies the table.
    render_as_batch=True,
    # One transaction for all revisions, on SQLite too: half an upgrade never stays.
    transactional_ddl=True,
)
context.run_migrations()
