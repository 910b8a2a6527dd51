"""Ray's own processes and the service's are killed under real searches: every job ends from its saved state.

The short form is in `tests/acceptance/test_it_survives.py`: one kill each, those of Ray itself in `make test-long`.
"""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.chaos.scale import tell, times

KILLS = times(60, short=6)  # of runners, raylets, heads, attempts, APIs and dispatchers: ten of each


@pytest.mark.long
@pytest.mark.acceptance
def test_jobs_whose_processes_are_killed_end_with_the_bits_of_an_undisturbed_one() -> None:
    soak = [sys.executable, "-m", "benchmarks.soak", "--kills", str(KILLS)]

    told = subprocess.run(soak, capture_output=True, text=True, check=False)

    tell(told.stdout[-1500:])
    assert told.returncode == 0, told.stdout + told.stderr
