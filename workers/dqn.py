"""RLlib's DQN, made exact: so many episodes and no more, each with its own seed, learnt from in order, resumable.

What stock DQN leaves open (measured on ray 2.60): it overshoots the number of episodes, forgets lost ones, gives every
episode the same seed, derives epsilon from the number of runners, and checkpoints neither replay nor generators.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import ray
from ray.rllib.algorithms.dqn import DQN, DQNConfig
from ray.rllib.algorithms.dqn.torch.default_dqn_torch_rl_module import DefaultDQNTorchRLModule
from ray.rllib.core import DEFAULT_MODULE_ID
from ray.rllib.core.columns import Columns
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec
from ray.rllib.policy.sample_batch import MultiAgentBatch, SampleBatch
from ray.rllib.utils.metrics import NUM_ENV_STEPS_SAMPLED_LIFETIME

from purlkit.agent.replay import Replay
from purlkit.agent.schedule import Schedule
from purlkit.errors import EnvironmentFailed
from purlkit.results import Episode
from purlkit.seeds import derive
from purlkit.spec import Agent
from workers.playing import Failed, Played, PlayEpisode, Weights

# An environment that raises is given one more try; the second time in a row it is the environment, not bad luck.
TRIES_PER_EPISODE = 2
WAIT_SECONDS = 0.5  # then RLlib gets its turn to look for runners that came back


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
    """DQN that plays exactly the asked-for episodes. One `train()` ends when an episode does, or after a short wait."""

    def setup(self, config: Any) -> None:
        super().setup(config)
        walk = self.config.env_config
        self.agent: Agent = Agent.model_validate(walk["agent"])
        self.seed = int(walk["seed"])
        self.layers = int(walk["layers"])
        self.schedule: Schedule[Played] = Schedule(int(walk["episodes"]), int(walk["lookahead"]))
        self.replay = Replay(self.agent.buffer_steps, derive(self.seed, "replay"))
        self.learnt = Learnt(policies={0: self._policy()})
        self._playing: dict[int, PlayEpisode] = {}  # by runner
        self._errors: dict[int, int] = {}  # by episode

    # ---- one turn of the search

    def training_step(self) -> None:
        self._take_back_lost()
        for runner in self.env_runner_group.healthy_env_runner_ids():
            self._play_next(runner)
        for runner, outcome in self._wait():
            task = self._playing.pop(runner)
            if isinstance(outcome, Failed):
                self._count_error(outcome)
                self.schedule.lost(task.index)
                continue
            self.schedule.finish(task.index, outcome)
            self._play_next(runner)  # the runner works while we learn
            while (played := self.schedule.commit_next()) is not None:
                self._learn_from(played)
                for idle in self.env_runner_group.healthy_env_runner_ids():
                    self._play_next(idle)

    @property
    def search_done(self) -> bool:
        return self.schedule.done

    def healthy_runners(self) -> int:
        return len(self.env_runner_group.healthy_env_runner_ids())

    def _play_next(self, runner: int) -> None:
        if runner in self._playing or (chosen := self.schedule.start_next()) is None:
            return
        index, rerun = chosen
        version = self.schedule.version_for(index)
        self._send(
            runner,
            PlayEpisode(
                index=index,
                kind="search",
                seed=derive(self.seed, "explore", index),
                retrain_seed=derive(self.seed, "retrain"),
                steps_before=index * self.layers,
                version=version,
                weights=self.learnt.policies[version],
                rerun=rerun,
            ),
        )

    def _send(self, runner: int, task: PlayEpisode) -> None:
        if self.env_runner_group.foreach_env_runner_async(task, tag="play", remote_worker_ids=[runner]):
            self._playing[runner] = task
        else:
            self.schedule.lost(task.index)

    def _wait(self) -> list[tuple[int, Played | Failed]]:
        # RLlib's own fetch waits for all requests or the whole timeout; the first to end is enough for us.
        pending = list(self.env_runner_group._worker_manager._in_flight_req_to_actor_id)
        if pending:
            ray.wait(pending, num_returns=1, timeout=WAIT_SECONDS)
        ready: list[tuple[int, Played | Failed]] = self.env_runner_group.fetch_ready_async_reqs(tags="play")
        return [(runner, outcome) for runner, outcome in ready if runner in self._playing]

    def _take_back_lost(self) -> None:
        healthy = set(self.env_runner_group.healthy_env_runner_ids())
        for runner in [r for r in self._playing if r not in healthy]:
            self.schedule.lost(self._playing.pop(runner).index)

    def _count_error(self, failed: Failed) -> None:
        self._errors[failed.index] = self._errors.get(failed.index, 0) + 1
        if self._errors[failed.index] >= TRIES_PER_EPISODE:
            raise EnvironmentFailed(f"episode {failed.index} failed at layer {failed.layer}: {failed.error}")

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
        waiting = list(range(count))
        played: dict[int, Episode] = {}
        while len(played) < count:
            on_wait()
            self.restore_env_runners(self.env_runner_group)
            healthy = set(self.env_runner_group.healthy_env_runner_ids())
            for runner in [r for r in self._playing if r not in healthy]:
                waiting.insert(0, self._playing.pop(runner).index)
            for runner in healthy - set(self._playing):
                if waiting:
                    self._send_greedy(runner, waiting)
            for runner, outcome in self._wait():
                task = self._playing.pop(runner)
                if isinstance(outcome, Failed):
                    self._count_error(outcome)
                    waiting.insert(0, task.index)
                else:
                    played[task.index] = outcome.episode
        return [played[index] for index in range(count)]

    def _send_greedy(self, runner: int, waiting: list[int]) -> None:
        index = waiting.pop(0)
        version = self.schedule.episodes
        task = PlayEpisode(
            index=index,
            kind="greedy",
            seed=derive(self.seed, "greedy", index),
            retrain_seed=derive(self.seed, "retrain-greedy", index),
            steps_before=0,
            version=version,
            weights=self.learnt.policies[version],
        )
        if self.env_runner_group.foreach_env_runner_async(task, tag="play", remote_worker_ids=[runner]):
            self._playing[runner] = task
        else:
            waiting.insert(0, index)


def dqn_config(
    env: str,
    env_config: dict[str, Any],
    agent: Agent,
    *,
    total_steps: int,
    runners: int,
    cpus: float,
    gpus: float,
    seed: int,
) -> DQNConfig:
    """Stock DQN's settings for the paper's agent; what the subclass does itself is switched off."""
    return (
        DQNConfig(algo_class=PurlDQN)
        .environment(env, env_config=env_config)
        .framework("torch")
        .env_runners(
            num_env_runners=runners,
            num_envs_per_env_runner=1,
            num_cpus_per_env_runner=cpus,
            num_gpus_per_env_runner=gpus,
            sample_timeout_s=None,
            create_local_env_runner=False,
            rollout_fragment_length=1,
        )
        .learners(num_learners=0, num_gpus_per_learner=0)
        .training(
            gamma=agent.gamma,
            lr=agent.learning_rate,
            train_batch_size_per_learner=agent.batch_size,
            replay_buffer_config={"type": "EpisodeReplayBuffer", "capacity": 1},  # ours is purlkit/agent/replay.py
            target_network_update_freq=agent.target_update_every,
            epsilon=[(0, 1.0), (max(1, round(agent.exploration_fraction * total_steps)), agent.final_epsilon)],
            double_q=False,
            dueling=False,
            num_atoms=1,
            noisy=False,
            n_step=1,
            td_error_loss_fn="huber",
            grad_clip=40.0,
            grad_clip_by="global_norm",
        )
        .rl_module(
            rl_module_spec=RLModuleSpec(
                module_class=WalkModule,
                model_config=DefaultModelConfig(
                    fcnet_hiddens=list(agent.hidden), fcnet_activation="relu", head_fcnet_hiddens=[]
                ),
            )
        )
        .reporting(
            min_time_s_per_iteration=None, min_sample_timesteps_per_iteration=0, min_train_timesteps_per_iteration=0
        )
        .fault_tolerance(
            restart_failed_env_runners=True, max_num_env_runner_restarts=20, delay_between_env_runner_restarts_s=1.0
        )
        .debugging(seed=seed % 2**31, log_level="ERROR", log_sys_usage=False)
    )
