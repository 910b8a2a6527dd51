"""What a process of each kind costs to start and end, in CPU seconds: `python -m benchmarks.starts`.

Each in turn as it is, and as it would be if Python looked for garbage as it does by itself (purlkit/startup.py).
"""

from __future__ import annotations

import argparse
import resource
import statistics
import subprocess
import sys

# What it loads, and how it ends: left as it is, or killed from outside, as Ray ends its workers.
PROCESSES = {
    "API": ("import api.__main__", "leave(0)"),
    "dispatcher": ("import services.dispatcher", "leave(0)"),
    "verification": ("with loading(): import torch, purlkit.training.evaluate, purlkit.zoo.datasets", "leave(0)"),
    "driver": ("with loading(): import workers.pipeline", "leave(0)"),
    "runner": ("import workers.player, workers.search", "os._exit(0)"),
}
AS_PYTHON_DOES = "import gc; gc.disable = gc.freeze = lambda: None"


def code(name: str, *, ours: bool) -> str:
    loaded, end = PROCESSES[name]
    if not ours:
        end = end.replace("leave(0)", "sys.exit(0)")
    first = "" if ours else AS_PYTHON_DOES
    return "\n".join((first, "import os, sys\nfrom purlkit.startup import leave, loading", loaded, end))


def cpu_seconds(program: str) -> float:
    before = _of_children()
    subprocess.run([sys.executable, "-c", program], check=True)
    return _of_children() - before


def _of_children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--only", choices=PROCESSES, nargs="*", default=list(PROCESSES))
    options = parser.parse_args()
    for name in options.only:
        taken: dict[bool, list[float]] = {True: [], False: []}
        programs = {ours: code(name, ours=ours) for ours in taken}
        for round_ in range(options.rounds + 1):
            for ours, program in programs.items():
                seconds = cpu_seconds(program)
                if round_ > 0:  # the first one warms the machine's caches
                    taken[ours].append(seconds)
        ratio = statistics.median(a / b for a, b in zip(taken[True], taken[False], strict=True))
        here, plain = statistics.median(taken[True]), statistics.median(taken[False])
        print(f"{name}: {here:.2f} s of CPU, {plain:.2f} s as Python does by itself, ratio {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
