"""A search in the manner of AMC: an actor-critic picks a ratio for each layer and hears of it at the end."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from purlkit.baselines.ddpg import DDPG
from purlkit.baselines.scoring import Score
from purlkit.pruning.layers import PrunableLayer
from purlkit.pruning.masks import Mask
from purlkit.pruning.ranking import bounds, largest, refuse_collapse, weights_to_keep

FEATURES = 8
CAPACITY = 2000  # steps in the replay
EXPLORING = 0.25  # share of the episodes with noise at its widest, AMC's 100 of 400
NOISE, LAST_NOISE = 0.5, 0.01


def amc(
    layers: Sequence[PrunableLayer],
    sparsity: float,
    *,
    score: Score,
    episodes: int = 400,
    seed: int = 0,
    floor: int = 1,
) -> Mask:
    """The best by `score` of so many walks in which DDPG picks for each layer the share that goes; of equals the first.

    Each ratio is clipped to the budget, so that the layers still to come can make up exactly what is left of it.
    """
    count, limits = weights_to_keep(layers, sparsity, floor), bounds(layers, floor)
    agent = DDPG(FEATURES, capacity=CAPACITY, seed=seed)
    best: tuple[float, Mask] | None = None
    for episode in range(episodes):
        states, ratios, counts = _walk(agent, layers, limits, count, noise(episode, episodes))
        mask = refuse_collapse(layers, largest(layers, counts))
        reached = score(mask)
        agent.learn_from(torch.stack(states), torch.tensor(ratios), reached)
        if best is None or reached > best[0]:
            best = reached, mask
    if best is None:
        raise ValueError("a search needs at least one episode")
    return best[1]


def noise(episode: int, episodes: int) -> float:
    """The width of the exploration: constant at first, then falling by the same factor with each episode."""
    exploring = EXPLORING * episodes
    if episode < exploring:
        return NOISE
    return float(NOISE * (LAST_NOISE / NOISE) ** ((episode - exploring) / (episodes - exploring)))


def clip_to_budget(wanted: int, left: int, limits: Sequence[tuple[int, int]]) -> int:
    """The number nearest to `wanted` that the first of these layers may keep, if all together keep `left`.

    >>> clip_to_budget(0, 10, [(1, 8), (1, 4), (1, 3)])  # the others hold 7 at most
    3
    >>> clip_to_budget(8, 6, [(1, 8), (1, 4), (1, 3)])  # the others need 2 at least
    4
    """
    low, high = limits[0]
    fewest_later, most_later = sum(few for few, _ in limits[1:]), sum(most for _, most in limits[1:])
    return min(max(wanted, low, left - most_later), high, left - fewest_later)


def _walk(
    agent: DDPG, layers: Sequence[PrunableLayer], limits: Sequence[tuple[int, int]], count: int, width: float
) -> tuple[list[Tensor], list[float], list[int]]:
    """One episode: what was seen at each layer, the ratio that was really removed, and how many weights stay."""
    states: list[Tensor] = []
    ratios: list[float] = []
    counts: list[int] = []
    for index, layer in enumerate(layers):
        states.append(_state(layers, index, counts, count, ratios[-1] if ratios else 0.0))
        weights = layer.weight.numel()
        wanted = weights - round(agent.act(states[-1], width) * weights)
        counts.append(clip_to_budget(wanted, count - sum(counts), limits[index:]))
        ratios.append((weights - counts[-1]) / weights)
    return states, ratios, counts


def _state(layers: Sequence[PrunableLayer], index: int, counts: Sequence[int], count: int, last: float) -> Tensor:
    """AMC's features, as far as weights alone tell them, each from 0 to 1."""
    shapes = [layer.weight.shape for layer in layers]
    sizes = [shape.numel() for shape in shapes]
    shape, total = shapes[index], sum(sizes)
    return torch.tensor(
        [
            index / len(layers),
            float(layers[index].kind == "linear"),
            shape[0] / max(other[0] for other in shapes),
            shape[1:].numel() / max(other[1:].numel() for other in shapes),
            sizes[index] / max(sizes),
            sum(sizes[index + 1 :]) / total,  # what the layers to come hold
            (count - sum(counts)) / total,  # what may still be kept
            last,
        ]
    )
