"""The DQN in plain torch: what RLlib's does on a cluster, update for update, for a search in one process.

A test holds both to the same numbers on the same batch.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from purlkit.agent.replay import Floats, Replay, Step
from purlkit.seeds import derive
from purlkit.spec import Agent
from purlkit.training.generators import seeded
from purlkit.training.optimisers import Adam

# The gradient of all parameters together is cut to this length.
LONGEST_GRADIENT = 40.0

Policy = dict[str, Tensor]


def epsilon(agent: Agent, step: int, total_steps: int) -> float:
    """How likely step `step` of a search explores: from 1 down a line to the final value, which then holds."""
    falling = max(1, round(agent.exploration_fraction * total_steps))
    return 1.0 + (agent.final_epsilon - 1.0) * min(step / falling, 1.0)


def q_network(observation: int, actions: int, hidden: Sequence[int]) -> nn.Sequential:
    """Observation in, the worth of each action out; ReLU between the layers."""
    widths = [observation, *hidden]
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(widths):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(widths[-1], actions))


class Learner:
    """Everything that learns: network and target network, optimiser, memory, and the count of steps."""

    def __init__(self, agent: Agent, *, observation: int, actions: int, seed: int) -> None:
        with seeded(derive(seed, "agent")):
            self.network = q_network(observation, actions, agent.hidden)
        self.target = q_network(observation, actions, agent.hidden)
        self.target.load_state_dict(self.network.state_dict())
        self.replay = Replay(agent.buffer_steps, derive(seed, "replay"))
        self.steps = 0
        self._agent = agent
        self._refreshed_at = 0
        self._optimizer = Adam(self.network.parameters(), lr=agent.learning_rate)
        self._huber = nn.HuberLoss()

    def learn_from(self, walk: Sequence[Step]) -> None:
        """Algorithm 1's inner loop: remember a step, train on a batch, now and then refresh the target network."""
        for step in walk:
            self.replay.add(step)
            self.steps += 1
            if len(self.replay) >= self._agent.batch_size and self.steps % self._agent.train_every == 0:
                drawn = self.replay.sample(self._agent.batch_size)
                self.update({name: torch.from_numpy(column) for name, column in drawn.items()})

    def update(self, batch: dict[str, Tensor]) -> None:
        worth = self.network(batch["observation"]).gather(1, batch["action"].unsqueeze(1)).squeeze(1)
        with torch.no_grad():
            best_next = self.target(batch["next_observation"]).amax(1)
            wanted = batch["reward"] + self._agent.gamma * best_next * ~batch["terminated"]
        self._optimizer.zero_grad()
        self._huber(worth, wanted).backward()
        nn.utils.clip_grad_norm_(self.network.parameters(), LONGEST_GRADIENT)
        self._optimizer.step()
        if self.steps - self._refreshed_at >= self._agent.target_update_every:
            self.target.load_state_dict(self.network.state_dict())
            self._refreshed_at = self.steps

    def policy(self) -> Policy:
        """The network as it is now; learning on leaves it unchanged."""
        return {name: tensor.clone() for name, tensor in self.network.state_dict().items()}


class Actor:
    """Acts with some policy, exploring by a generator of its own."""

    def __init__(self, agent: Agent, *, observation: int, actions: int) -> None:
        self._network = q_network(observation, actions, agent.hidden)
        self._generator = torch.Generator()

    def become(self, policy: Policy, seed: int) -> None:
        self._network.load_state_dict(policy)
        self._generator.manual_seed(seed)

    @torch.inference_mode()
    def act(self, observation: Floats, epsilon: float) -> int:
        worth = self._network(torch.from_numpy(observation))
        explores = float(torch.rand((), generator=self._generator)) < epsilon
        if explores:
            return int(torch.randint(len(worth), (), generator=self._generator))
        return int(worth.argmax())
