"""A worker with the real link, on a machine whose clock is an hour off: the first ahead, the others behind."""

import os
import runpy
import time
from pathlib import Path

HOUR = 3600.0
AHEAD = "the clock of the first is ahead"

real, shift = time.time, HOUR
try:
    (Path(os.environ["PURL_DATASETS_DIR"]) / AHEAD).touch(exist_ok=False)
except FileExistsError:
    shift = -HOUR
time.time = lambda: real() + shift

runpy.run_module("tests.programs.beating_worker", run_name="__main__")
