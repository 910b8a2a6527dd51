"""What a search costs beyond its arithmetic, what runners gain, and what parallelism costs in learning.

    OMP_NUM_THREADS=1 python -m benchmarks.search           all rows, each in a process of its own: about ten minutes
    OMP_NUM_THREADS=1 python -m benchmarks.search overhead two-runners
    OMP_NUM_THREADS=1 python -m benchmarks.search --small   so small that the numbers say nothing: do the rows run?

Steps are those of a landscape whose best policy is known; they do a fixed amount of arithmetic or sleep. Only the rows
`start` and `cache` prune a network: the demo's. Every row prints ratios of what it measured in its one run.
"""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.searching import SEED, WorkingEnv, built, demo_search, on_ray, own_memory, play_on_ray, products_in
from purlkit.agent.search import play
from purlkit.spec import Search
from tests.landscape import Landscape, LandscapeEnv


@dataclass(frozen=True)
class Size:
    episodes: int
    layers: int
    step_seconds: float


def overhead(small: bool) -> str:
    """One runner through Ray and RLlib ÷ one plain process, without the first two episodes. Aim: at most 1.06."""
    size = Size(4, 3, 0.02) if small else Size(12, 10, 0.2)
    work, landscape = products_in(size.step_seconds), Landscape(layers=size.layers)
    plain: list[float] = []
    play(
        WorkingEnv(landscape, work),
        Search(episodes=size.episodes, greedy_episodes=1),
        seed=SEED,
        on_episode=lambda episode: plain.append(time.monotonic()) if episode.kind == "search" else None,
    )
    with on_ray():
        algorithm = built(landscape, work, runners=1, episodes=size.episodes)
        rays = play_on_ray(algorithm)
        algorithm.stop()
    steps = (size.episodes - 2) * size.layers
    each = [1000 * (ends[-1] - ends[1]) / steps for ends in (rays, plain)]
    return f"{each[0] / each[1]:.3f} ({each[0]:.1f} ms a step on Ray, {each[1]:.1f} in one process)"


def two_runners(small: bool) -> str:
    """56 episodes of busy steps by one runner ÷ by two, on two cores. Aim: at least 1.80."""
    size = Size(6, 3, 0.02) if small else Size(56, 10, 0.1)
    return _speed_up(Landscape(layers=size.layers), products_in(size.step_seconds), size.episodes, runners=2)


def sleeping(small: bool) -> str:
    """Steps that sleep 0.5 s, by one runner ÷ by eight. Aim: at least 7.2."""
    size = Size(4, 2, 0.05) if small else Size(48, 3, 0.5)
    landscape = Landscape(layers=size.layers, sleep_seconds=size.step_seconds)
    return _speed_up(landscape, 0, size.episodes, runners=2 if small else 8)


def start(small: bool) -> str:  # noqa: ARG001 - two episodes are enough
    """Seconds from ray.init until the first step of a search on two runners begins. Aim: at most 15."""
    began = time.monotonic()
    import workers.search  # noqa: F401 - Ray, RLlib and torch with it

    imported = time.monotonic()
    trained: list[float] = []
    begun: list[float] = []
    demo_search(
        2,
        episodes=2,
        on_trained=lambda: trained.append(time.monotonic()),
        on_episode=lambda episode: begun.append(time.monotonic() - episode.seconds),
    )
    return f"{begun[0] - trained[0]:.1f} s, and {imported - began:.1f} s of imports before"


def cache(small: bool) -> str:
    """Steps computed ÷ steps taken in the demo's search. Aim: at most 0.80."""
    told = []
    for runners in (1, 2):
        walks = demo_search(runners, episodes=3 if small else 55).walks
        computed, taken = sum(walk.steps_computed for walk in walks), sum(len(walk.actions) for walk in walks)
        told.append(f"{computed / taken:.3f} with {runners} ({computed} of {taken})")
    return ", ".join(told)


def lookahead(small: bool) -> str:
    """The trained policy's return, best 0, when episode k has learnt from k - lookahead: as at so many runners.

    In one process: what a search does depends on the lookahead, never on the runners or on timing.
    """
    seeds, episodes = range(1 if small else 5), 3 if small else 55
    told = []
    for ahead in (1, 2, 4, 8):
        returns = []
        for seed in seeds:
            settings = Search(episodes=episodes, greedy_episodes=1, lookahead=ahead)
            _, [greedy] = play(LandscapeEnv(Landscape(layers=20)), settings, seed=seed)
            returns.append(sum(greedy.rewards))
        told.append(f"{ahead}: {statistics.mean(returns):.2f} ({', '.join(f'{r:.2f}' for r in returns)})")
    return "; ".join(told)


def memory(small: bool) -> str:  # noqa: ARG001 - it is as small as can be
    """MiB of a runner's own, on a landscape that weighs nothing; and of that, what its imports alone take."""
    import ray

    with on_ray():
        algorithm = built(Landscape(), 0, runners=1, episodes=2)
        play_on_ray(algorithm)
        runner = algorithm.runners._places[1].actor
        look = runner.apply.remote(lambda _: (own_memory(os.getpid()), sorted(set(HEAVY) & set(sys.modules))))
        mib, loaded = ray.get(look)
        algorithm.stop()
    torch_alone, with_rllib = (_memory_of(f"import {modules}") for modules in ("torch", "torch, ray.rllib.env"))
    return (
        f"{mib:.0f} MiB; a process that imports torch has {torch_alone:.0f}, torch and ray.rllib.env {with_rllib:.0f}; "
        f"of {', '.join(HEAVY)} it holds: {', '.join(loaded) or 'none'}"
    )


ROWS: dict[str, Callable[[bool], str]] = {
    "overhead": overhead,
    "two-runners": two_runners,
    "sleeping": sleeping,
    "start": start,
    "cache": cache,
    "lookahead": lookahead,
    "memory": memory,
}
HEAVY = ("torchvision", "sklearn", "scipy", "pandas", "pyarrow", "matplotlib", "tensorflow", "tensorboardX")


def _speed_up(landscape: Landscape, work: int, episodes: int, *, runners: int) -> str:
    seconds = {}
    for n in (1, runners):
        with on_ray():
            algorithm = built(landscape, work, runners=n, episodes=episodes, lookahead=runners)
            began = time.monotonic()
            seconds[n] = play_on_ray(algorithm)[-1] - began
            algorithm.stop()
    return f"{seconds[1] / seconds[runners]:.2f} ({seconds[1]:.1f} s with one, {seconds[runners]:.1f} s with {runners})"


def _memory_of(code: str) -> float:
    """MiB of a fresh process that runs this."""
    asks = "import os; from benchmarks.searching import own_memory; print(own_memory(os.getpid()))"
    answer = subprocess.run([sys.executable, "-c", f"{code}\n{asks}"], capture_output=True, text=True, check=True)
    return float(answer.stdout)


def main() -> None:
    asked = _arguments()
    if len(asked.rows) == 1:
        print(f"{asked.rows[0]}: {ROWS[asked.rows[0]](asked.small)}", flush=True)
        return
    print(f"{os.cpu_count()} cores, Python {platform.python_version()}", flush=True)
    for row in asked.rows or ROWS:  # each in a process of its own: no row finds a warm Ray or loaded modules
        subprocess.run(
            [sys.executable, "-m", "benchmarks.search", row, *(["--small"] if asked.small else [])], check=True
        )


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", nargs="*", metavar="row", help=", ".join(ROWS))
    parser.add_argument("--small", action="store_true", help="seconds instead of minutes")
    asked = parser.parse_args()
    for row in asked.rows:
        if row not in ROWS:
            parser.error(f"there is no row {row}: there are {', '.join(ROWS)}")
    return asked


if __name__ == "__main__":
    main()
