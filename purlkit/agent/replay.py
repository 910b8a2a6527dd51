"""The agent's memory: exactly the last so many steps, drawn from by a generator of its own.

RLlib's episode buffer counts steps but evicts whole episodes and does not checkpoint; these arrays do neither.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Step:
    """One transition of the walk."""

    observation: Floats
    action: int
    reward: float
    next_observation: Floats
    terminated: bool


def steps_of(observations: Floats, actions: Sequence[int], rewards: Sequence[float], terminated: bool) -> list[Step]:
    """The transitions of one walk; there is one observation more than there are steps."""
    last = len(actions) - 1
    return [
        Step(observations[i], action, reward, observations[i + 1], terminated and i == last)
        for i, (action, reward) in enumerate(zip(actions, rewards, strict=True))
    ]


class Replay:
    def __init__(self, capacity: int, seed: int) -> None:
        self.steps: deque[Step] = deque(maxlen=capacity)
        self.generator = np.random.Generator(np.random.PCG64(seed))

    def __len__(self) -> int:
        return len(self.steps)

    def add(self, step: Step) -> None:
        self.steps.append(step)

    def sample(self, size: int) -> dict[str, npt.NDArray[Any]]:
        """A batch drawn evenly with replacement, a column for each field."""
        chosen = [self.steps[int(i)] for i in self.generator.integers(len(self.steps), size=size)]
        return _columns(chosen)

    def arrays(self) -> dict[str, npt.NDArray[Any]]:
        """The whole memory as columns, oldest first."""
        return _columns(list(self.steps)) if self.steps else {}

    def restore(self, arrays: dict[str, npt.NDArray[Any]]) -> None:
        self.steps.clear()
        for row in range(len(arrays.get("action", ()))):
            self.add(
                Step(
                    arrays["observation"][row],
                    int(arrays["action"][row]),
                    float(arrays["reward"][row]),
                    arrays["next_observation"][row],
                    bool(arrays["terminated"][row]),
                )
            )


def _columns(steps: list[Step]) -> dict[str, npt.NDArray[Any]]:
    return {
        "observation": np.stack([s.observation for s in steps]).astype(np.float32),
        "action": np.array([s.action for s in steps], np.int64),
        "reward": np.array([s.reward for s in steps], np.float32),
        "next_observation": np.stack([s.next_observation for s in steps]).astype(np.float32),
        "terminated": np.array([s.terminated for s in steps], np.bool_),
    }
