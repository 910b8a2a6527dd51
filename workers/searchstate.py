"""The agent after some episode, as data: safetensors for what is tensors, JSON for the rest. No pickle.

A search that goes on from these bytes ends with the same bits as one that was never interrupted.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
from ray.rllib.core import DEFAULT_MODULE_ID
from safetensors.numpy import load, save

from purlkit.agent.schedule import Schedule
from purlkit.results import Episode
from workers.dqn import PurlDQN
from workers.playing import Played

FORMAT = 1


def dump(algorithm: PurlDQN) -> bytes:
    learner = algorithm.learner
    optimizer = learner.get_optimizer(DEFAULT_MODULE_ID).state_dict()
    tensors: dict[str, Any] = {
        f"module/{name}": value.detach().cpu().numpy()
        for name, value in learner.module[DEFAULT_MODULE_ID].state_dict().items()
    }
    for parameter, values in optimizer["state"].items():
        for name, value in values.items():
            tensors[f"optimizer/{parameter}/{name}"] = torch.as_tensor(value).detach().cpu().numpy()
    for version, policy in algorithm.learnt.policies.items():
        tensors.update({f"policy/{version}/{name}": value for name, value in policy.items()})
    tensors.update({f"replay/{name}": column for name, column in algorithm.replay.arrays().items()})
    ahead = algorithm.schedule.finished
    tensors.update({f"finished/{index}": played.observations for index, played in ahead.items()})
    rest = {
        "format": FORMAT,
        "committed": algorithm.schedule.committed,
        "started": algorithm.schedule.started,
        "finished": [[played.episode.model_dump(mode="json"), played.terminated] for played in ahead.values()],
        "steps": algorithm.learnt.steps,
        "episodes": [episode.model_dump(mode="json") for episode in algorithm.learnt.episodes],
        "generator": algorithm.replay.generator.bit_generator.state,
        "target_updated_at": dict(learner.last_update_ts_by_mid),
        "seconds": algorithm.learnt.seconds,
    }
    return save({name: np.ascontiguousarray(value) for name, value in tensors.items()}, {"search": json.dumps(rest)})


def restore(algorithm: PurlDQN, content: bytes) -> None:
    header_bytes = int.from_bytes(content[:8], "little")
    rest = json.loads(json.loads(content[8 : 8 + header_bytes])["__metadata__"]["search"])
    tensors = load(content)
    if rest["format"] != FORMAT:
        raise ValueError(f"search state of format {rest['format']}, this worker reads {FORMAT}")

    learner = algorithm.learner
    learner.module[DEFAULT_MODULE_ID].load_state_dict(
        {name: torch.from_numpy(value) for name, value in _below(tensors, "module").items()}
    )
    _restore_optimizer(learner.get_optimizer(DEFAULT_MODULE_ID), _below(tensors, "optimizer"))
    learner.last_update_ts_by_mid.update(rest["target_updated_at"])

    policies: dict[int, dict[str, Any]] = {}
    for name, value in _below(tensors, "policy").items():
        version, parameter = name.split("/", 1)
        policies.setdefault(int(version), {})[parameter] = value
    algorithm.replay.restore(_below(tensors, "replay"))
    algorithm.replay.generator.bit_generator.state = rest["generator"]
    algorithm.learnt.steps = rest["steps"]
    algorithm.learnt.seconds = rest["seconds"]
    algorithm.learnt.episodes = [Episode.model_validate(episode) for episode in rest["episodes"]]
    algorithm.learnt.policies = policies
    observations = _below(tensors, "finished")
    finished = {}
    for told, terminated in rest.get("finished", ()):  # states of earlier versions have none
        episode = Episode.model_validate(told)
        finished[episode.index] = Played(episode, observations[str(episode.index)], terminated)
    before = algorithm.schedule
    algorithm.schedule = Schedule(
        before.episodes, before.lookahead, committed=rest["committed"], started=rest["started"], finished=finished
    )


def _restore_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, Any]) -> None:
    state: dict[int, dict[str, Any]] = {}
    for name, value in tensors.items():
        parameter, field = name.split("/", 1)
        state.setdefault(int(parameter), {})[field] = torch.from_numpy(value)
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})


def _below(tensors: dict[str, Any], prefix: str) -> dict[str, Any]:
    return {name[len(prefix) + 1 :]: value for name, value in tensors.items() if name.startswith(prefix + "/")}
