"""Before torch is imported anywhere: one thread each, for the tests' processes share few cores."""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")
