"""The search when it is wide: episodes of 116 layers and 23 actions, played by runners that only sleep.

`python -m benchmarks.wide`             real Ray and RLlib, 16 runners (as many processes) whose steps sleep 0.1 s
`python -m benchmarks.wide --simulated` the driver's own book-keeping, with 1, 10, 100, 1,000 runners that are not there
"""

from __future__ import annotations

import argparse
import os
import time
from collections import deque
from pathlib import Path
from typing import Any

import numpy as np
import ray
from ray.tune.registry import register_env

from purlkit.results import Episode
from purlkit.spec import Agent
from tests import ray_processes
from tests.landscape import Landscape, LandscapeEnv
from workers import cluster, searchstate
from workers.dqn import PurlDQN
from workers.dqn_config import dqn_config
from workers.playing import Played, PlayEpisode

LAYERS, ACTIONS = 116, 23


class NobodyThere:
    """Runners that answer at once: what is left is what the driver does itself."""

    def __init__(self, count: int) -> None:
        self._idle = deque(range(1, count + 1))
        self._tasks: dict[int, PlayEpisode] = {}
        self._generator = np.random.default_rng(0)

    @property
    def idle(self) -> int | None:
        return self._idle[0] if self._idle else None

    def play(self, runner: int, task: PlayEpisode) -> None:
        self._idle.popleft()
        self._tasks[runner] = task

    def wait(self, seconds: float) -> list[tuple[PlayEpisode, Played]]:  # noqa: ARG002
        """One at a time, the latest first: the worst order, for it commits nothing until the first one ends."""
        if not self._tasks:
            return []
        runner, task = self._tasks.popitem()
        self._idle.append(runner)
        return [(task, self._walk(runner, task))]

    def _walk(self, runner: int, task: PlayEpisode) -> Played:
        episode = Episode(
            index=task.index,
            kind=task.kind,
            actions=tuple(self._generator.integers(ACTIONS, size=LAYERS).tolist()),
            rewards=tuple((-self._generator.random(LAYERS)).tolist()),
            accuracies=(0.5,) * LAYERS,
            sparsities=(0.5,) * LAYERS,
            seconds=1.0,
            runner=runner,
            weights_version=task.version,
        )
        return Played(episode, self._generator.random((LAYERS + 1, 2 * LAYERS), np.float32), True)

    def stop(self) -> list[PlayEpisode]:
        return list(self._tasks.values())


def built(*, runners: int, episodes: int, sleep: float = 0.0, agent: Agent = Agent()) -> PurlDQN:
    landscape = Landscape(layers=LAYERS, actions=ACTIONS, sleep_seconds=sleep)
    register_env("wide", lambda config: LandscapeEnv(config["landscape"]))
    env_config: dict[str, Any] = {
        "landscape": landscape,
        "agent": agent.model_dump(),
        "seed": 0,
        "layers": LAYERS,
        "episodes": episodes,
        "lookahead": runners,
    }
    algorithm: PurlDQN = dqn_config(
        "wide",
        env_config,
        agent,
        total_steps=episodes * LAYERS,
        runners=runners,
        cpus=0.01,
        gpus=0,
        seed=0,
    ).build_algo()
    return algorithm


def measure(algorithm: PurlDQN, *, states: bool) -> tuple[float, float, float]:
    """Wall seconds, CPU seconds of this process for each step, and those of them that learning took."""
    learning, learn = 0.0, algorithm._learn_from

    def timed(played: Played) -> None:
        nonlocal learning
        began = time.process_time()
        learn(played)
        learning += time.process_time() - began

    algorithm._learn_from = timed
    wall, cpu = time.monotonic(), time.process_time()
    while not algorithm.search_done:
        before = algorithm.schedule.played
        algorithm.train()
        if states and algorithm.schedule.played > before:
            searchstate.dump(algorithm)
    steps = algorithm.learnt.steps
    return time.monotonic() - wall, (time.process_time() - cpu) / steps, learning / steps


def resident(pid: int) -> int:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def sleeping(runners: int, episodes: int, sleep: float) -> None:
    algorithm = built(runners=runners, episodes=episodes, sleep=sleep)
    began = time.monotonic()
    while algorithm.runners.here < runners:
        algorithm.runners.wait(0.5)
    started = time.monotonic() - began
    memory = sum(resident(pid) for pid in ray_processes.pids(ray_processes.RUNNER, session=os.getsid(0))) / 2**30
    wall, cpu, learning = measure(algorithm, states=True)
    steps = episodes * LAYERS
    print(f"{runners} runners there after {started:.1f} s, {memory:.1f} GiB resident in their processes")
    print(
        f"{episodes} episodes of {LAYERS} layers, {ACTIONS} actions, {sleep:g} s a step: {wall:.1f} s, "
        f"{steps / wall:.0f} steps/s of {runners / sleep:.0f} possible; "
        f"driver CPU {1000 * cpu:.2f} ms a step, {1000 * learning:.2f} ms of it learning"
    )
    algorithm.stop()


def asking(count: int, turns: int = 20) -> float:
    """CPU seconds of this process for what a turn of the real pool asks Ray: which of so many calls have ended."""
    sleeper = ray.remote(num_cpus=0)(Sleeper).remote()
    calls = [sleeper.sleep.remote() for _ in range(count)]
    ray.wait(calls, num_returns=1, timeout=1.0)
    began = time.process_time()
    for _ in range(turns):
        ray.wait(list(calls), num_returns=1, timeout=0)
        ray.wait(list(calls), num_returns=count, timeout=0)
    spent = time.process_time() - began
    ray.kill(sleeper)
    return spent / turns


class Sleeper:
    def sleep(self) -> None:
        time.sleep(600)


def simulated(counts: list[int], episodes: int) -> None:
    """With as many episodes for every number of runners, and hardly any learning: what grows is the runners alone."""
    print("runners  driver CPU a step  the state that is saved after each episode  asking Ray who has ended")
    for count in counts:
        algorithm = built(runners=count, episodes=episodes, agent=Agent(train_every=10_000))
        algorithm._runners = NobodyThere(count)
        _, cpu, _ = measure(algorithm, states=False)
        began = time.process_time()
        size = len(searchstate.dump(algorithm))
        spent = time.process_time() - began
        print(
            f"{count:>7} {1000 * cpu:>14.3f} ms  {size / 2**20:.1f} MiB, {1000 * spent:.0f} ms  "
            f"{1000 * asking(count):.2f} ms a turn",
            flush=True,
        )
        algorithm.stop()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--simulated", action="store_true")
    parser.add_argument("--runners", type=int, nargs="+")
    parser.add_argument("--episodes", type=int)
    parser.add_argument("--sleep", type=float, default=0.1)
    options = parser.parse_args()
    cluster.quiet()
    with cluster.connected(""):
        if options.simulated:
            simulated(options.runners or [1, 10, 100, 1000], options.episodes or 2000)
        else:
            [runners] = options.runners or [16]
            sleeping(runners, options.episodes or 2 * runners, options.sleep)


if __name__ == "__main__":
    main()
