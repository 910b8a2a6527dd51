"""Who ships. A contender has no number of the test split, so that nothing here can be chosen by it.

The candidate that ships is the cheapest of those that none is shown to beat: on the select split, which no search has
seen, with a paired 95 % interval above zero. So a search ships only if it beats every cheaper finalist.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

KINDS = {"purl": "search", "purl-budget": "search", "random": "random"}
Z_95 = 1.959964
# What counts as the same sparsity, in shares of all prunable weights; and as the same multiply-adds, of theirs.
SPARSITY_TOLERANCE = 0.001


def kind_of(method: str) -> str:
    """search, random, or naive: what costs nothing to find."""
    return KINDS.get(method, "naive")


@dataclass(frozen=True)
class Contender:
    """A candidate at the rung that decides: for each seed and each image of the select split, whether it was right."""

    method: str
    variant: str | None
    saved: float  # share removed of what the target is about: weights, or multiply-adds
    cost: int  # training images that finding it took
    right: Sequence[Sequence[bool]]

    @property
    def kind(self) -> str:
        return kind_of(self.method)

    @property
    def accuracy(self) -> float:
        """On the select split, the mean over the seeds."""
        return sum(map(sum, self.right)) / sum(map(len, self.right))


@dataclass(frozen=True)
class Paired:
    """The lead of one candidate over another in accuracy, image by image, with its 95 % interval."""

    lead: float
    low: float
    high: float

    @property
    def margin(self) -> float:
        return self.high - self.lead


def paired_lead(a: Sequence[Sequence[bool]], b: Sequence[Sequence[bool]]) -> Paired:
    """Mean of the differences a - b over all images and seeds, and its normal 95 % interval.

    The error has two parts: other images would have been drawn (the spread of the images' differences, each the mean
    over the seeds), and other seeds (the spread of the seeds' differences, where there are several). Some of the second
    is in the first already, so the interval is rather too wide, as long as the first is the larger part: where many
    images leave the seeds the larger, the spread of two or three of them says too little of others.

    >>> paired_lead([[True, True, False, True]], [[True, False, False, True]]).lead
    0.25
    """
    differences = [[int(x) - int(y) for x, y in zip(*pair, strict=True)] for pair in zip(a, b, strict=True)]
    of_images = [sum(column) / len(differences) for column in zip(*differences, strict=True)]
    of_seeds = [sum(row) / len(row) for row in differences]
    mean = sum(of_images) / len(of_images)
    seeds = _variance_of_mean(of_seeds) if len(of_seeds) > 1 else 0.0
    margin = Z_95 * math.sqrt(_variance_of_mean(of_images) + seeds)
    return Paired(mean, mean - margin, mean + margin)


def _variance_of_mean(values: Sequence[float]) -> float:
    n, mean = len(values), sum(values) / len(values)
    return sum((value - mean) ** 2 for value in values) / (n - 1) / n if n > 1 else math.inf


@dataclass(frozen=True)
class Choice:
    """Who ships, and the comparison that the verdict is about: the best search with its rival.

    The rival is the winner where a search lost, else the best of the others.
    """

    winner: Contender
    search: Contender | None
    rival: Contender | None
    lead: Paired | None  # of the search over the rival
    missed: bool = False  # the search stayed denser than asked for, so that its accuracy says nothing


def choose(finalists: Sequence[Contender], target: float) -> Choice:
    """`finalists` in the order of the race; `target` is the share to remove that was asked for."""
    if not finalists:
        raise ValueError("a race needs at least one contender")
    # A network that is denser than its rivals is no better for being more accurate.
    comparable = [c for c in finalists if c.saved >= target - SPARSITY_TOLERANCE] or list(finalists)
    unbeaten = [c for c in comparable if not any(paired_lead(o.right, c.right).low > 0 for o in comparable)]
    winner = min(unbeaten, key=lambda c: (c.cost, -c.accuracy))
    searches = [c for c in finalists if c.kind == "search"]
    others = [c for c in finalists if c.kind != "search"]
    if not searches or not others:
        return Choice(winner, _best(searches) if searches else None, None, None)
    search = winner if winner.kind == "search" else _best([c for c in searches if c in comparable] or searches)
    rival = _best(others) if winner.kind == "search" else winner
    missed = search not in comparable
    return Choice(winner, search, rival, paired_lead(search.right, rival.right), missed)


def _best(contenders: Sequence[Contender]) -> Contender:
    """The most accurate on the select split; of equals the cheaper, then the one named first."""
    return min(contenders, key=lambda c: (-c.accuracy, c.cost))
