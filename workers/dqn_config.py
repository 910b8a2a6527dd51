"""RLlib's settings for the paper's agent: stock DQN's, with what PurlDQN does itself switched off."""

from __future__ import annotations

from typing import Any

from ray.rllib.algorithms.dqn import DQNConfig
from ray.rllib.core.rl_module.default_model_config import DefaultModelConfig
from ray.rllib.core.rl_module.rl_module import RLModuleSpec

from purlkit.spec import Agent
from workers.dqn import PurlDQN, WalkModule
from workers.learner import WalkLearner


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
        .environment(env, env_config={**env_config, "runners": runners})
        .framework("torch")
        .env_runners(
            num_env_runners=0,  # ours are in workers/runners.py
            num_envs_per_env_runner=1,
            num_cpus_per_env_runner=cpus,
            num_gpus_per_env_runner=gpus,
            sample_timeout_s=None,
            rollout_fragment_length=1,
        )
        .learners(learner_class=WalkLearner, num_learners=0, num_gpus_per_learner=0)
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
        # A call that raises ends its runner at once instead of after a nap: PlayEpisode lets no exception through.
        .fault_tolerance(restart_failed_env_runners=False)
        .debugging(seed=seed % 2**31, log_level="ERROR", log_sys_usage=False)
    )
