"""The methods that try many masks, and the score that they try them by."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from purlkit.baselines.amc import amc, clip_to_budget, noise
from purlkit.baselines.ddpg import BATCH, DDPG, TRACKING
from purlkit.baselines.random_policies import random_policies
from purlkit.baselines.scoring import by_reward_split
from purlkit.checkpoint import fingerprint
from purlkit.errors import CollapsedLayer
from purlkit.pruning.layers import PrunableLayer, prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.pruning.policy import mask_for_alphas
from purlkit.seeds import derive
from purlkit.spec import Retrain
from purlkit.training.data import Splits, subset
from purlkit.training.evaluate import accuracy
from purlkit.training.loop import train
from tests.unit.networks import digits_net, layers_of, some_images

Search = Callable[..., Mask]
both = pytest.mark.parametrize("search", [random_policies, amc])


def three_layers() -> list[PrunableLayer]:
    generator = torch.Generator().manual_seed(0)
    return layers_of(*(torch.randn(10, 10, generator=generator) for _ in range(3)))


class Watched:
    """A score that remembers what it was asked."""

    def __init__(self, layer: str) -> None:
        self.layer, self.masks, self.scores = layer, list[Mask](), list[float]()

    def __call__(self, mask: Mask) -> float:
        kept, total = mask.per_layer[self.layer]
        self.masks.append(mask)
        self.scores.append(kept / total)
        return self.scores[-1]


@both
def test_as_many_masks_are_tried_as_there_are_episodes_and_the_best_is_returned(search: Search) -> None:
    watched = Watched("b")

    best = search(three_layers(), 0.5, score=watched, episodes=30, seed=1)

    assert len(watched.masks) == 30
    assert best == watched.masks[watched.scores.index(max(watched.scores))]
    assert all(mask.kept == 150 for mask in watched.masks)
    assert len({mask.sha256 for mask in watched.masks}) > 10


@both
def test_of_equal_scores_the_first_is_returned(search: Search) -> None:
    masks: list[Mask] = []

    def indifferent(mask: Mask) -> float:
        masks.append(mask)
        return 0.5

    assert search(three_layers(), 0.5, score=indifferent, episodes=5) == masks[0]


@both
def test_the_seed_decides_everything(search: Search) -> None:
    def tried(seed: int) -> list[str]:
        watched = Watched("b")
        search(three_layers(), 0.5, score=watched, episodes=25, seed=seed)
        return [mask.sha256 for mask in watched.masks]

    torch.manual_seed(1)
    once = tried(3)
    state = torch.random.get_rng_state()

    assert tried(3) == once
    assert torch.equal(torch.random.get_rng_state(), state)
    assert tried(4) != once


def test_random_policies_are_actions_of_the_grid_scaled_to_the_target() -> None:
    layers, watched = three_layers(), Watched("b")

    random_policies(layers, 0.5, score=watched, episodes=100, alphas=(0.5, 2.0))

    possible = {
        mask_for_alphas(layers, (a, b, c), target=0.5).mask.sha256
        for a in (0.5, 2.0)
        for b in (0.5, 2.0)
        for c in (0.5, 2.0)
    }
    assert {mask.sha256 for mask in watched.masks} == possible


@both
def test_one_that_empties_a_layer_is_refused_where_no_floor_is_wanted(search: Search) -> None:
    layers = layers_of(torch.tensor([0.1, -0.1]), torch.linspace(5, 6, 98))

    with pytest.raises(CollapsedLayer, match="left of"):
        search(layers, 0.97, score=lambda _: 0.0, floor=0)


@given(st.data())
def test_a_walk_within_the_budget_always_ends_on_it(data: st.DataObject) -> None:
    pair = st.tuples(st.integers(0, 20), st.integers(0, 20)).map(lambda pair: (min(pair), max(pair)))
    limits = data.draw(st.lists(pair, min_size=1, max_size=6))
    budget = data.draw(st.integers(sum(low for low, _ in limits), sum(high for _, high in limits)))
    left = budget

    for index, (low, high) in enumerate(limits):
        wanted = data.draw(st.integers(0, 20))
        number = clip_to_budget(wanted, left, limits[index:])
        assert low <= number <= high
        rest = limits[index + 1 :]
        possible = [n for n in range(low, high + 1) if sum(r[0] for r in rest) <= left - n <= sum(r[1] for r in rest)]
        assert number == min(possible, key=lambda n: abs(n - wanted))
        left -= number

    assert left == 0


def test_noise_is_constant_for_a_quarter_of_the_episodes_and_then_falls() -> None:
    assert [noise(episode, 400) for episode in (0, 99, 100)] == [0.5, 0.5, 0.5]
    assert noise(250, 400) == pytest.approx((0.5 * 0.01) ** 0.5)  # half way down, by factors
    assert noise(400, 400) == pytest.approx(0.01)


def test_exploration_stays_within_bounds_and_has_the_width_asked_for() -> None:
    agent, state = DDPG(2, capacity=10, seed=0), torch.zeros(2)

    wide = torch.tensor([agent.act(state, 0.5) for _ in range(2000)])
    narrow = torch.tensor([agent.act(state, 0.05) for _ in range(2000)])

    assert 0 <= wide.min() < 0.02
    assert 0.98 < wide.max() <= 1
    assert float(narrow.mean()) == pytest.approx(agent.act(state, 0), abs=0.005)
    assert float(narrow.std()) == pytest.approx(0.05, abs=0.005)
    # A normal distribution of width 1/2 around 1/2, cut at one deviation to either side: 0.5 * 0.5396 is what is left.
    assert float(wide.std()) == pytest.approx(0.27, abs=0.01)


@pytest.mark.parametrize(("steps", "learns"), [(BATCH - 1, False), (BATCH, True)])
def test_the_agent_learns_from_as_soon_as_there_is_a_batch(steps: int, learns: bool) -> None:
    agent, state = DDPG(2, capacity=200, seed=0), torch.ones(2)
    before = agent.act(state, 0)

    agent.learn_from(torch.rand(steps, 2), torch.rand(steps), 1.0)

    assert (agent.act(state, 0) != before) == learns


def test_the_actor_learns_the_number_that_pays() -> None:
    agent, state = DDPG(3, capacity=500, seed=0), torch.tensor([0.2, 0.5, 1.0])

    for _ in range(400):
        action = agent.act(state, 0.3)
        agent.learn_from(state.view(1, 3), torch.tensor([action]), 1 - (action - 0.8) ** 2)

    assert agent.act(state, 0) == pytest.approx(0.8, abs=0.08)


def test_an_episode_of_one_step_is_worth_what_it_earned_and_the_slow_copies_follow() -> None:
    agent, state = DDPG(2, capacity=200, seed=0), torch.ones(1, 2)
    slow = agent._critic_target[-1]
    assert isinstance(slow, nn.Linear)
    with torch.no_grad():
        slow.bias.fill_(10)  # what the slow critic thinks of a state after the last one must not count

    for _ in range(BATCH + 99):
        agent.learn_from(state, torch.tensor([0.5]), 1.0)  # always the moving average, so worth 0

    assert float(agent._critic(torch.tensor([1.0, 1.0, 0.5])).detach()) == pytest.approx(0, abs=0.2)
    assert float(slow.bias.detach()) == pytest.approx(10 * (1 - TRACKING) ** 100, abs=0.1)


def test_amc_learns_to_keep_the_layer_that_pays() -> None:
    watched = Watched("b")

    best = amc(three_layers(), 0.5, score=watched, episodes=300)

    assert sum(watched.scores[-20:]) / 20 > sum(watched.scores[:20]) / 20 + 0.2
    assert best.per_layer["b"][0] >= 95


def test_the_score_is_the_accuracy_after_retraining_and_leaves_the_model_as_it_was() -> None:
    model, twin = digits_net(width=2), digits_net(width=2)
    splits = Splits(some_images(60, seed=1), some_images(40, seed=2), some_images(1), some_images(1))
    retrain = Retrain(images=50, batch_size=10, epochs=3)
    layers, before = prunable_layers(model), fingerprint(model)
    mask = random_policies(layers, 0.5, score=lambda _: 0.0, episodes=1)

    score = by_reward_split(model, splits, retrain, seed=0)
    bare = by_reward_split(model, splits, None, seed=0)

    first = score(mask)
    assert fingerprint(model) == before
    assert (score(mask), score(Mask.dense(layers))) == (first, score(Mask.dense(layers)))
    assert fingerprint(model) == before
    mask.apply(prunable_layers(twin))
    assert bare(mask) == accuracy(twin, splits.reward)
    train(twin, subset(splits.train, 50, seed=0), retrain, seed=derive(0, "retrain"), mask=mask)
    assert first == accuracy(twin, splits.reward)
