"""The next version of the program: a copy of this one with one revision of the tables more, which fills in data."""

from __future__ import annotations

import shutil
from pathlib import Path

from alembic.script import ScriptDirectory

from services.database import MIGRATIONS

ROOT = Path(__file__).parent.parent.parent
COPIED = ("api", "purlkit", "services", "workers")
REVISION = "9998"
FILLED_IN = "of an older version"

# It only adds, so that the version before it can still work with the tables: that is what may be rolled out.
NEXT_REVISION = f'''
import sqlalchemy as sa
from alembic import op

revision = "{REVISION}"
down_revision = "{{head}}"


def upgrade():
    op.add_column("jobs", sa.Column("colour", sa.Text(), nullable=True))
    op.execute("UPDATE jobs SET colour = '{FILLED_IN}'")
'''


def next_version(folder: Path) -> Path:
    """Where it lies."""
    for package in COPIED:
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    revision = folder / "services/migrations/versions" / f"{REVISION}_next.py"
    revision.write_text(NEXT_REVISION.format(head=head))
    return folder
