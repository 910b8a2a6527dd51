"""`make demo`'s program, with a search of 4 episodes instead of 55."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from tests.acceptance.running import JOB_SECONDS, ROOT

pytestmark = pytest.mark.acceptance


def test_it_prints_its_table_and_verdict_and_leaves_the_checkpoint(tmp_path: Path) -> None:
    command = [sys.executable, "examples/demo.py", "--episodes", "4", "--output", str(tmp_path)]

    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=JOB_SECONDS)

    assert run.returncode == 0, run.stdout + run.stderr
    said = run.stdout
    assert "episode  1/4" in said
    assert sum("90.00%" in line and "×" in line for line in said.splitlines()) == 7  # candidates
    assert "  after 1 of 10 epochs, on the select split:" in said
    assert "\nverdict: " in said
    assert "\nmask of PuRL, mean policy: sha256 " in said
    assert (tmp_path / "pruned.safetensors").stat().st_size > 77_072 * 4
