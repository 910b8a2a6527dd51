"""Every random choice has a name, and its seed follows from the job's seed and that name alone."""

from __future__ import annotations

import hashlib


def derive(seed: int, *names: str | int) -> int:
    """A seed of 63 bits, the same on every machine: independent for different names.

    >>> derive(0, "retrain", 3) == derive(0, "retrain", 3)
    True
    >>> derive(0, "retrain", 3) == derive(0, "retrain", 4)
    False
    """
    text = "/".join([str(seed), *map(str, names)])
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def stage_seed(seed: int, stage: int) -> int:
    """The seed of a stage of an iterative search. The first has the job's own, so that a job without stages has too."""
    return derive(seed, "stage", stage) if stage else seed
