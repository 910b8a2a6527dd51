"""Ten bugs, planted one after the other into a copy of the program: does the test that should see each of them fail?

`python -m tests.chaos.planted [NUMBER…]`; a line for each, and exit 1 if one was not caught.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
COPIED = ("api", "purlkit", "services", "workers", "tests", "pyproject.toml")

MODEL = "test_model.py"
POINTS = "test_failpoints.py::test_a_failure_at_any_point_breaks_no_promise"
CLOCKS = "test_clocks_and_soak.py"
DOWNLOADS = "test_downloads.py"
SYNCS = "test_sync_order.py"


@dataclass(frozen=True)
class Bug:
    what: str
    file: str
    edits: tuple[tuple[str, str], ...]  # what is right, and what is there instead
    test: str


BUGS = (
    Bug(
        "the fence is dropped: an attempt that was given up may write",
        "services/attempts/work.py",
        (
            ("    if attempt.state.is_terminal and not ended_ok:\n        raise AttemptSuperseded\n", ""),
            (", Attempt.state.in_(LIVE))", ")"),
        ),
        MODEL,
    ),
    Bug(
        "a file is not synced before it gets its name",
        "services/artifacts/local.py",
        (("        os.fsync(self._file.fileno())\n", ""),),
        SYNCS,
    ),
    Bug(
        "a folder is not synced after a file got its name in it",
        "services/artifacts/local.py",
        (("        _sync_folder(folder)\n        _sync_folder(folder.parent)\n", ""),),
        SYNCS,
    ),
    Bug(
        "a batch of events that comes twice counts twice",
        "services/attempts/work.py",
        (("    new = batch.events[attempt.next_seq - batch.first_seq :]\n", "    new = batch.events\n"),),
        POINTS,
    ),
    Bug(
        "a success overtakes a cancel that was accepted",
        "services/attempts/endings.py",
        (('    if job.requested == "cancel":\n        end_attempt', "    if False:\n        end_attempt"),),
        MODEL,
    ),
    Bug(
        "a heartbeat does not renew the lease",
        "services/attempts/work.py",
        (("    attempt.lease_until = now + round(attempt.lease_seconds * 1000)\n", ""),),
        CLOCKS,
    ),
    Bug(
        "work that is saved again keeps what it was",
        "services/attempts/work.py",
        (
            (
                "    attempt.saved = attempt.saved or",
                "    if row.sha256 is not None:\n        return row\n    attempt.saved =",
            ),
        ),
        MODEL,
    ),
    Bug(
        "what was read once is answered for as long as it is kept, whoever has written since",
        "services/database.py",
        (
            (
                "        if self._sqlite:\n            return self._commits",
                "        if self._sqlite:\n            return 0\n            return self._commits",
            ),
        ),
        MODEL,
    ),
    Bug(
        "a last word whose answer was lost is refused when it is repeated",
        "services/attempts/endings.py",
        (("        return _said_before(session, attempt, digest)\n", "        raise\n"),),
        MODEL,
    ),
    Bug(
        "a download that is resumed begins anew",
        "services/artifacts/local.py",
        (("        file.seek(first)\n", ""),),
        DOWNLOADS,
    ),
)


def caught(bug: Bug, folder: Path) -> tuple[bool, str]:
    """Whether its test fails with it, and with what."""
    for name in COPIED:
        source = ROOT / name
        copy = shutil.copytree if source.is_dir() else shutil.copy
        copy(source, folder / name)
    file = folder / bug.file
    text = file.read_text()
    for right, wrong in bug.edits:
        assert text.count(right) == 1, f"{bug.file} has changed: plant this one anew"
        text = text.replace(right, wrong)
    file.write_text(text)
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-k", "not postgresql"]
    command += ["-m", "long or not long"]
    environ = {**os.environ, "PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1", "CHAOS": "0.1"}
    told = subprocess.run(
        [*command, f"tests/chaos/{bug.test}"], cwd=folder, env=environ, capture_output=True, text=True, check=False
    )
    lines = [line for line in told.stdout.splitlines() if line.lstrip("| ").startswith("E  ")]
    # Anything else is no verdict: a test that was not there, or could not be run, misses nothing and catches nothing.
    assert told.returncode in (0, 1), told.stdout + told.stderr
    return told.returncode == 1, (lines or [told.stdout[-300:]])[0].strip()


def main(arguments: list[str]) -> int:
    chosen = [int(number) for number in arguments] or list(range(1, len(BUGS) + 1))
    missed = 0
    for number in chosen:
        bug, began = BUGS[number - 1], time.monotonic()
        with tempfile.TemporaryDirectory(prefix="purl-planted-") as folder:
            found, why = caught(bug, Path(folder))
        missed += not found
        print(
            f"{number:>2} {'caught' if found else 'MISSED'} {time.monotonic() - began:4.0f} s  {bug.what}", flush=True
        )
        print(f"          by {bug.test}: {why[:180]}", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
