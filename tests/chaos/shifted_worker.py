"""A worker with the real link, on a machine whose clock is an hour off: half of them ahead, half of them behind."""

import os
import runpy
import time

HOUR = 3600.0

real = time.time
shift = HOUR if sum(map(ord, os.environ["PURL_ATTEMPT"])) % 2 else -HOUR
time.time = lambda: real() + shift

runpy.run_module("tests.programs.beating_worker", run_name="__main__")
