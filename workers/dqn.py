"""RLlib's DQN, made exact: so many episodes and no more, each with its own seed, learnt from in order, resumable.

What stock DQN leaves open (measured on ray 2.60): it overshoots the number of episodes, forgets lost ones, gives every
episode the same seed, derives epsilon from the number of runners, and checkpoints neither replay nor generators.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.dqn import DQN
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from purlkit.agent.incumbent import incumbent
from purlkit.agent.replay import Replay
from purlkit.agent.schedule import Schedule
from purlkit.errors import EnvironmentFailed, OutOfMemory
from purlkit.results import Episode
from purlkit.seeds import derive
from purlkit.spec import Agent
from workers.player import Player
from workers.playing import Failed, Played, PlayEpisode, Weights
from workers.runners import Life, Limits, NoSigns, Pool, Runners, Size

log = logging.getLogger("purl.search")

# An environment that raises is given one more try; the second time in a row it is the environment, not bad luck.
TRIES_PER_EPISODE = 2
WAIT_SECONDS = 0.5  # then the caller gets its turn


class WalkModule(DefaultDQNTorchRLModule):  # type: ignore[misc]
    """The Q-network. Epsilon depends on the episode's place in the search alone, never on the number of runners."""

    steps_before = 0

    def _forward_exploration(self, batch: dict[str, Any], t: int) -> dict[str, Any]:  # noqa: ARG002
        out: dict[str, Any] = super()._forward_exploration(batch, t=self.steps_before)
        self.steps_before += 1
        return out


@dataclass
class Learnt:
    """All that the agent is after so many episodes, apart from the learner's own tensors."""

    steps: int = 0
    seconds: float = 0.0  # of searching, earlier attempts included
    episodes: list[Episode] = field(default_factory=list)
    policies: dict[int, Weights] = field(default_factory=dict)  # by version: episodes learnt from


class PurlDQN(DQN):  # type: ignore[misc]
    """DQN that plays exactly the asked-for episodes. One `train()` ends when an episode does, or after a short wait.

    It learns from one episode at most. Behind a slow one hundreds may wait for their turn: whoever wants to cancel, to
    save or to see that the search lives must not wait for all of them.

    RLlib's own runner in this process is there for the spaces alone and plays nothing. The runners that play start with
    the first turn; `life` and `limits` may be set before it.
    """

    def setup(self, config: Any) -> None:
        super().setup(config)
        walk = self.config.env_config
        self.agent: Agent = Agent.model_validate(walk["agent"])
        self.seed = int(walk["seed"])
        self.layers = int(walk["layers"])
        self.schedule: Schedule[Played] = Schedule(int(walk["episodes"]), int(walk["lookahead"]))
        self.replay = Replay(self.agent.buffer_steps, derive(self.seed, "replay"))
        self.learnt = Learnt(policies={0: self._policy()})
        self.size = Size(int(walk["runners"]), self.config.num_cpus_per_env_runner, self.config.num_gpus_per_env_runner)
        self.life: Life = NoSigns()
        self.limits = Limits()
        self._runners: Pool | None = None
        self._errors: dict[tuple[str, int], int] = {}  # by episode

    # ---- one turn of the search

    def training_step(self) -> None:
        self._play_next()
        for task, played in self._ended(0 if self.schedule.can_commit else WAIT_SECONDS):
            if played is None:
                self.schedule.lost(task.index)
            else:
                self.schedule.finish(task.index, played)
        self._play_next()  # the runners work while we learn
        if (next_played := self.schedule.commit_next()) is not None:
            self._learn_from(next_played)
            self._play_next()

    @property
    def search_done(self) -> bool:
        return self.schedule.done

    def _play_next(self) -> None:
        """Every idle runner gets the next episode whose policy exists."""
        while (runner := self.runners.idle) is not None and (chosen := self.schedule.start_next()) is not None:
            index, rerun = chosen
            version = self.schedule.version_for(index)
            task = PlayEpisode(
                index=index,
                kind="search",
                seed=derive(self.seed, "explore", index),
                retrain_seed=derive(self.seed, "retrain"),
                steps_before=index * self.layers,
                version=version,
                weights=self.learnt.policies[version],
                rerun=rerun,
                incumbent=incumbent(self.learnt.episodes[:version]),
            )
            self.runners.play(runner, task)

    def _ended(self, seconds: float) -> list[tuple[PlayEpisode, Played | None]]:
        """The episodes that ended within so many seconds; None for one that is to be played again."""
        full: str | None = None
        ended = []
        try:
            for task, outcome in self.runners.wait(seconds):
                if isinstance(outcome, Failed) and outcome.error.code == OutOfMemory.code:
                    full = outcome.error.message
                elif isinstance(outcome, Failed):
                    self._count_error(task, outcome)
                ended.append((task, outcome if isinstance(outcome, Played) else None))
        except OutOfMemory as error:
            full = str(error)
        if full is not None:
            ended += [(task, None) for task in self._make_room(full)]
        return ended

    def _count_error(self, task: PlayEpisode, failed: Failed) -> None:
        key = task.kind, task.index
        self._errors[key] = self._errors.get(key, 0) + 1
        error = failed.error
        log.warning("%s episode %d failed at layer %s: %s", *key, failed.layer, error.message)
        if self._errors[key] >= TRIES_PER_EPISODE:
            message = f"{task.kind} episode {task.index} failed at layer {failed.layer}: {error.message}"
            raise EnvironmentFailed(message, code=error.code, at=error.at, where=error.where)

    # ---- the runners

    @property
    def runners(self) -> Pool:
        if self._runners is None:
            self._runners = self._start_runners()
        return self._runners

    def _start_runners(self) -> Pool:
        return Runners(self.size.runners, self._starter(), self.life, self.limits)

    def _starter(self) -> Callable[[int], Any]:
        actor = ray.remote(num_cpus=self.size.cpus, num_gpus=self.size.gpus, max_restarts=0)(Player)
        config = ray.put(self.config)

        def start(runner: int) -> Any:
            return actor.remote(config=config, worker_index=runner, num_workers=self.size.runners, spaces=self.spaces)

        return start

    def _make_room(self, why: str) -> list[PlayEpisode]:
        """Starts over with runners that have more memory each; what was being played is handed back."""
        smaller = self.size.after_out_of_memory()
        if smaller is None:
            raise OutOfMemory(
                f"a runner of this job does not fit into memory: {why}",
                at="/resources/gpus_per_runner",
                remedy="ask for more of a GPU, or for smaller batches in search.retrain.batch_size",
            )
        log.warning("out of memory with %s, going on with %s: %s", self.size, smaller, why)
        playing = self.runners.stop()
        self.size, self._runners = smaller, None
        return playing

    def cleanup(self) -> None:
        if self._runners is not None:
            self._runners.stop()
        super().cleanup()

    # ---- learning

    def _learn_from(self, played: Played) -> None:
        """Algorithm 1's inner loop: remember a step, train on a batch, now and then refresh the target network."""
        for step in played.steps():
            self.replay.add(step)
            self.learnt.steps += 1
            if len(self.replay) >= self.agent.batch_size and self.learnt.steps % self.agent.train_every == 0:
                self._update()
        self.learnt.episodes.append(played.episode)
        self.learnt.policies[self.schedule.committed] = self._policy()
        needed = self.schedule.needed_versions()
        self.learnt.policies = {v: w for v, w in self.learnt.policies.items() if v in needed}

    def _update(self) -> None:
        size = self.agent.batch_size
        drawn = self.replay.sample(size)
        batch = SampleBatch(
            {
                Columns.OBS: drawn["observation"],
                Columns.NEXT_OBS: drawn["next_observation"],
                Columns.ACTIONS: drawn["action"],
                Columns.REWARDS: drawn["reward"],
                Columns.TERMINATEDS: drawn["terminated"],
                "weights": np.ones(size, np.float32),
                "n_step": np.ones(size, np.float32),
            }
        )
        self.learner_group.update(
            batch=MultiAgentBatch({DEFAULT_MODULE_ID: batch}, env_steps=size),
            timesteps={NUM_ENV_STEPS_SAMPLED_LIFETIME: self.learnt.steps},
        )

    @property
    def learner(self) -> Any:
        return self.learner_group._learner

    def _policy(self) -> Weights:
        state: Weights = self.learner.module[DEFAULT_MODULE_ID].get_state(inference_only=True)
        return {name: np.array(value, copy=True) for name, value in state.items()}

    # ---- the trained policy

    def play_greedy(self, count: int, *, on_wait: Callable[[], None]) -> list[Episode]:
        """So many walks of the trained policy on the same runners, each with a retraining seed of its own."""
        waiting = deque(range(count))
        done: dict[int, Episode] = {}
        while len(done) < count:
            on_wait()
            while waiting and (runner := self.runners.idle) is not None:
                self.runners.play(runner, self._greedy(waiting.popleft()))
            for task, played in self._ended(WAIT_SECONDS):
                if played is None:
                    waiting.appendleft(task.index)
                else:
                    done[task.index] = played.episode
        return [done[index] for index in range(count)]

    def _greedy(self, index: int) -> PlayEpisode:
        version = self.schedule.episodes
        return PlayEpisode(
            index=index,
            kind="greedy",
            seed=derive(self.seed, "greedy", index),
            retrain_seed=derive(self.seed, "retrain-greedy", index),
            steps_before=0,
            version=version,
            weights=self.learnt.policies[version],
            incumbent=incumbent(self.learnt.episodes),
        )
