"""Deep deterministic policy gradient for one number from 0 to 1, as small as AMC needs it."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from purlkit.seeds import derive
from purlkit.training.generators import seeded
from purlkit.training.optimisers import Adam

# As AMC has them.
HIDDEN = 300
ACTOR_RATE = 1e-4
CRITIC_RATE = 1e-3
BATCH = 64
TRACKING = 0.01
BASELINE_MEMORY = 0.95


class DDPG:
    """An actor and a critic with slow copies as their targets, and a replay of the last `capacity` steps.

    Every step of an episode earns what the whole episode earned, less a moving average of that, without discount:
    AMC's way with a reward that is known only at the end.
    """

    def __init__(self, features: int, *, capacity: int, seed: int) -> None:
        with seeded(derive(seed, "networks")):
            self._actor = nn.Sequential(_network(features), nn.Sigmoid())
            self._critic = _network(features + 1)
        self._actor_target, self._critic_target = copy.deepcopy(self._actor), copy.deepcopy(self._critic)
        self._actor_steps = Adam(self._actor.parameters(), lr=ACTOR_RATE)
        self._critic_steps = Adam(self._critic.parameters(), lr=CRITIC_RATE)
        self._generator = torch.Generator().manual_seed(derive(seed, "noise"))
        # state, action, reward, next state, and 1 where there is a next
        self._replay = torch.zeros(capacity, 2 * features + 3)
        self._features = features
        self._stored = 0
        self._baseline: float | None = None

    @torch.no_grad()
    def act(self, state: Tensor, noise: float) -> float:
        """What the actor would do, or a number around it: from a normal distribution of this width, cut at 0 and 1."""
        mean = self._actor(state)[0].double()
        if noise == 0:
            return float(mean)
        low, high = (torch.special.ndtr((edge - mean) / noise) for edge in (0.0, 1.0))
        place = low + (high - low) * torch.rand((), generator=self._generator, dtype=torch.float64)
        return float((mean + noise * torch.special.ndtri(place)).clamp(0, 1))

    def learn_from(self, states: Tensor, actions: Tensor, reward: float) -> None:
        """One episode that has ended: it is remembered, and one update is made for each of its steps."""
        steps = len(actions)
        following = torch.cat([states[1:], torch.zeros(1, self._features)])
        goes_on = torch.ones(steps, 1)
        goes_on[-1] = 0
        rows = torch.cat([states, actions.view(-1, 1), torch.full((steps, 1), reward), following, goes_on], 1)
        for row in rows:
            self._replay[self._stored % len(self._replay)] = row
            self._stored += 1
        before = reward if self._baseline is None else self._baseline
        self._baseline = BASELINE_MEMORY * before + (1 - BASELINE_MEMORY) * reward
        if self._stored >= BATCH:
            for _ in range(steps):
                self._update(self._baseline)

    def _update(self, baseline: float) -> None:
        filled = min(self._stored, len(self._replay))
        batch = self._replay[torch.randint(filled, (BATCH,), generator=self._generator)]
        state, action, reward, following, goes_on = batch.split([self._features, 1, 1, self._features, 1], 1)
        with torch.no_grad():
            later = self._critic_target(torch.cat([following, self._actor_target(following)], 1))
            worth = reward - baseline + goes_on * later
        self._critic_steps.zero_grad()
        nn.functional.mse_loss(self._critic(torch.cat([state, action], 1)), worth).backward()
        self._critic_steps.step()

        self._actor_steps.zero_grad()
        (-self._critic(torch.cat([state, self._actor(state)], 1)).mean()).backward()
        self._actor_steps.step()
        with torch.no_grad():
            for slow, fast in ((self._actor_target, self._actor), (self._critic_target, self._critic)):
                torch._foreach_lerp_(list(slow.parameters()), list(fast.parameters()), TRACKING)


def _network(inputs: int) -> nn.Sequential:
    last = nn.Linear(HIDDEN, 1)
    # Small, so that the first actions are near the middle and the first values near nothing.
    nn.init.uniform_(last.weight, -3e-3, 3e-3)
    nn.init.zeros_(last.bias)
    return nn.Sequential(nn.Linear(inputs, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU(), last)
