"""The program as its next version would be: a copy of it that says, keeps and logs a little more than this one."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx
from alembic.script import ScriptDirectory

from services.database import MIGRATIONS
from tests.acceptance.running import CALL_SECONDS, PATIENT, QUICK, ROOT, Jobs

COPIED = ("api", "purlkit", "services", "workers")

NEWS = "of_the_next_version"  # a field more in every record that processes exchange
LOGS = "next phase: "
REVISION, FILLED_IN = "9998", "of an older version"

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


def next_version(folder: Path, *, migrates: bool) -> Path:
    """Where it lies. `migrates`: whether its tables have a column more, which it fills in."""
    for part in COPIED:
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    _edit(folder / "purlkit/results/said.py", 'extra="ignore")\n', f'extra="ignore")\n    {NEWS}: int = 1\n')
    _edit(folder / "workers/attempt.py", 'log.info("phase: ', f'log.info("{LOGS}')
    if migrates:
        head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
        revision = folder / "services/migrations/versions" / f"{REVISION}_next.py"
        revision.write_text(NEXT_REVISION.format(head=head))
    return folder


def _edit(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1, f"{path} has changed: plant this anew"
    path.write_text(text.replace(before, after))


class Served(Jobs):
    def __init__(self, http: httpx.Client) -> None:
        self.http = http


@contextmanager
def served(service: Path, workers: Path, data: Path) -> Iterator[Served]:
    """An API of the program in one folder; a dispatcher, with the attempts that it starts, of that in the other."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith("PURL_")}
    environ = {**inherited, **QUICK, **PATIENT, "PURL_DATA_DIR": str(data)}

    def command(*words: str, of: Path, **more: str) -> dict[str, Any]:
        return {"args": [sys.executable, "-m", *words], "cwd": of, "env": {**environ, "PYTHONPATH": str(of), **more}}

    data.mkdir()
    subprocess.run(**command("services", "migrate", of=service), check=True, stdout=subprocess.DEVNULL)
    with ExitStack() as stack:
        log = stack.enter_context(data.with_suffix(".log").open("w"))

        def start(what: dict[str, Any], **options: Any) -> subprocess.Popen[str]:
            process = stack.enter_context(subprocess.Popen(**what, text=True, stderr=log, **options))
            stack.callback(process.terminate)
            return process

        api = start(command("api", of=service), stdout=subprocess.PIPE)
        assert api.stdout is not None
        url = api.stdout.readline().removeprefix("serving at ").strip()
        assert url, data.with_suffix(".log").read_text()
        start(command("services.dispatcher", of=workers, PURL_PUBLIC_URL=url), stdout=log)
        yield Served(stack.enter_context(httpx.Client(base_url=url, timeout=CALL_SECONDS, trust_env=False)))
