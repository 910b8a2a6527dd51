"""The plain DQN: its schedule and one update by hand."""

from __future__ import annotations

import pytest
import torch

from purlkit.agent.dqn import Actor, Learner, epsilon
from purlkit.agent.replay import steps_of
from purlkit.spec import Agent

# Without hidden units' nonlinearity in the way: one unit whose input is positive.
AGENT = Agent(hidden=(1,), learning_rate=0.5, gamma=0.5, target_update_every=2, batch_size=1)


def learner_of(agent: Agent = AGENT) -> Learner:
    """Q(x) = (x, 2x) for x > 0."""
    learner = Learner(agent, observation=1, actions=2, seed=0)
    with torch.no_grad():
        for network in (learner.network, learner.target):
            for parameter, value in zip(
                network.parameters(), ([[1.0]], [0.0], [[1.0], [2.0]], [0.0, 0.0]), strict=True
            ):
                parameter.copy_(torch.tensor(value))
    return learner


def batch_of(reward: float, *, terminated: bool) -> dict[str, torch.Tensor]:
    return {
        "observation": torch.tensor([[1.0]]),
        "action": torch.tensor([0]),
        "reward": torch.tensor([reward]),
        "next_observation": torch.tensor([[2.0]]),
        "terminated": torch.tensor([terminated]),
    }


def test_epsilon_falls_along_a_line_and_then_holds() -> None:
    agent = Agent(exploration_fraction=0.5, final_epsilon=0.2)

    told = [epsilon(agent, step, 20) for step in (0, 5, 10, 15, 19)]

    assert told == pytest.approx([1.0, 0.6, 0.2, 0.2, 0.2])


@pytest.mark.parametrize(
    ("reward", "terminated", "gradient"),
    [
        # Q = 1, wanted 0 + 0.5 * max(2, 4) = 2: within 1 the loss is half the square, its slope the error.
        (0.0, False, -1.0),
        (0.5, True, 0.5),  # after the end there is nothing to come: wanted 0.5
        (-7.0, True, 1.0),  # beyond 1 the slope stays 1
    ],
)
def test_the_slope_of_one_update(reward: float, terminated: bool, gradient: float) -> None:
    learner = learner_of()

    learner.update(batch_of(reward, terminated=terminated))

    assert learner.network[2].bias.grad is not None
    assert learner.network[2].bias.grad.tolist() == pytest.approx([gradient, 0.0])
    # Adam's first step is the rate against the slope's sign.
    moved = 0.5 if gradient < 0 else -0.5
    assert learner.network[2].bias.tolist() == pytest.approx([moved, 0.0])


def test_the_target_is_refreshed_after_so_many_steps() -> None:
    learner = learner_of(Agent(**{**AGENT.model_dump(), "target_update_every": 3}))
    stale = []
    for _ in range(7):
        learner.learn_from(steps_of(torch.ones(2, 1).numpy(), [0], [-1.0], terminated=True))
        stale.append(
            any(
                not torch.equal(a, b)
                for a, b in zip(learner.network.parameters(), learner.target.parameters(), strict=True)
            )
        )

    assert stale == [True, True, False, True, True, False, True]
    assert learner.steps == 7


def test_an_update_every_so_many_steps_and_only_from_a_whole_batch() -> None:
    learner = learner_of(Agent(**{**AGENT.model_dump(), "train_every": 2, "batch_size": 3}))
    changed = []
    for _ in range(6):
        before = learner.policy()
        learner.learn_from(steps_of(torch.ones(2, 1).numpy(), [0], [-1.0], terminated=True))
        changed.append(any(not torch.equal(before[name], now) for name, now in learner.policy().items()))

    assert changed == [False, False, False, True, False, True]


def test_an_actor_takes_the_best_action_or_any() -> None:
    actor = Actor(AGENT, observation=1, actions=2)
    actor.become(learner_of().policy(), seed=3)
    here = torch.ones(1).numpy()

    assert {actor.act(here, 0.0) for _ in range(20)} == {1}
    explored = [actor.act(here, 1.0) for _ in range(20)]
    assert set(explored) == {0, 1}
    actor.become(learner_of().policy(), seed=3)
    for _ in range(20):
        actor.act(here, 0.0)
    actor.become(learner_of().policy(), seed=3)
    assert {actor.act(here, 0.0) for _ in range(20)} == {1}
