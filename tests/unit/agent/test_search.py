"""The search in one process: it learns, repeats itself bit for bit, and leaves the network as it came."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from purlkit import search
from purlkit.agent.search import play
from purlkit.checkpoint import fingerprint
from purlkit.errors import InvalidSpec, NotEnoughData, UnreachableSparsity
from purlkit.pruning.layers import prunable_layers
from purlkit.pruning.masks import Mask
from purlkit.results import Episode
from purlkit.spec import Agent, Retrain, Search
from purlkit.training.data import Splits
from tests.landscape import Landscape, LandscapeEnv
from tests.unit.networks import digits_net, some_images

QUICK = Search(episodes=3, greedy_episodes=2, retrain=Retrain(images=40, batch_size=20), alphas=(0.0, 0.5, 1.0))


def some_splits() -> Splits:
    return Splits(*(some_images(n, seed=n) for n in (60, 30, 20, 10)))


def done(episodes: list[Episode]) -> list[tuple[object, ...]]:
    return [(e.index, e.actions, e.rewards, e.accuracies, e.weights_version) for e in episodes]


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_it_learns_a_landscape(seed: int) -> None:
    episodes, greedy = play(LandscapeEnv(Landscape()), Search(), seed=seed)

    first, last = (sum(sum(e.rewards) for e in part) / 5 for part in (episodes[:5], greedy))
    # The best return is 0, any action's mean return about -1.9; one action off in one layer costs 0.09.
    assert first < -1.0
    assert last > -0.5


def test_policies_are_as_old_as_the_lookahead_says() -> None:
    episodes, greedy = play(LandscapeEnv(Landscape()), Search(episodes=6, lookahead=3), seed=0)

    assert [e.weights_version for e in episodes] == [0, 0, 0, 1, 2, 3]
    assert [e.weights_version for e in greedy] == [6] * 5
    assert [e.kind for e in greedy] == ["greedy"] * 5


def test_exploration_follows_the_place_in_the_search_whatever_was_played_before() -> None:
    # Epsilon is 0 from step 75 of 150 on, which is episode 15 though far fewer steps were played by then: from there
    # on one policy can only do one thing, and without learning all episodes have one policy.
    agent = Agent(final_epsilon=0.0, exploration_fraction=0.5, batch_size=4000, buffer_steps=1)

    episodes, greedy = play(LandscapeEnv(Landscape(cliff=6)), Search(episodes=30, agent=agent), seed=0)

    assert sum(len(e.actions) for e in episodes[:15]) < 50
    assert len({e.actions for e in episodes[15:]}) == 1
    assert len({e.actions for e in episodes[:15]}) > 5
    assert [len(e.actions) for e in greedy] == [5] * 5


def test_the_same_seed_gives_the_same_search() -> None:
    once = search(digits_net(width=2), some_splits(), sparsity=0.5, settings=QUICK, seed=4)
    torch.rand(3)
    again = search(digits_net(width=2), some_splits(), sparsity=0.5, settings=QUICK, seed=4)

    assert done(once.episodes + once.greedy) == done(again.episodes + again.greedy)
    assert (once.mask, once.alphas) == (again.mask, again.alphas)
    other = search(digits_net(width=2), some_splits(), sparsity=0.5, settings=QUICK, seed=5)
    assert done(once.episodes) != done(other.episodes)


def test_the_network_is_left_as_it_came_and_the_mask_meets_the_target() -> None:
    model, seen = digits_net(width=2), []
    before = fingerprint(model)

    result = search(model, some_splits(), sparsity=0.5, settings=QUICK, on_episode=seen.append)

    assert fingerprint(model) == before
    assert result.mask.total - result.mask.kept == round(0.5 * result.mask.total)
    assert seen == result.episodes + result.greedy
    walks = result.episodes + result.greedy
    assert result.images == 40 * sum(walk.steps_computed for walk in walks) <= 40 * 5 * 10
    result.apply(model)
    assert Mask.from_weights(prunable_layers(model)) == result.mask


def test_an_early_end_teaches_as_many_steps_as_were_played() -> None:
    # Untrained, so that every cut leaves accuracy under 0.99.
    settings = QUICK.model_copy(update={"accuracy_floor": 0.99})

    result = search(digits_net(width=2), some_splits(), sparsity=0.5, settings=settings, cache_bytes=0)

    assert {len(episode.actions) for episode in result.episodes} == {1}
    assert {len(episode.actions) for episode in result.greedy} == {10}
    assert result.images == (3 * 1 + 2 * 10) * 40


def test_a_pair_of_tensors_will_do() -> None:
    images = some_images(50)

    result = search(digits_net(width=2), (images.x, images.y), sparsity=0.5, episodes=1)

    assert result.images == (1 + 5) * 10 * 40  # a fifth of the 50 is kept for the reward
    with pytest.raises(NotEnoughData):
        search(digits_net(width=2), (images.x[:1], images.y[:1]), sparsity=0.5)


def test_an_environment_that_raises_leaves_the_network_as_it_came() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10))
    before = fingerprint(model)

    def stop(_: Episode) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        search(model, some_splits(), sparsity=0.5, settings=QUICK, on_episode=stop)

    assert fingerprint(model) == before


@pytest.mark.parametrize("sparsity", [1.0, -0.1, float("nan")])
def test_a_target_out_of_reach_is_said_before_the_first_episode(sparsity: float) -> None:
    played: list[Episode] = []

    with pytest.raises(UnreachableSparsity):
        search(digits_net(width=2), some_splits(), sparsity=sparsity, settings=QUICK, on_episode=played.append)

    assert played == []


def test_a_network_with_nothing_to_prune() -> None:
    with pytest.raises(InvalidSpec, match="nothing to prune"):
        search(nn.Sequential(nn.Flatten(), nn.LayerNorm(64)), some_splits(), sparsity=0.5, settings=QUICK)
