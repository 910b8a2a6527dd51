"""Who ships, and the sentence that says why. The choice sees the select split alone.

The search ships only if it beats the best naive method on images that no search has seen, with a paired 95 % interval
above zero. Otherwise the naive method ships, because it is cheaper and as good as anyone can show.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from purlkit.results import Candidate

SEARCHES = frozenset({"purl"})
NAMES = {
    "purl": "PuRL",
    "uniform": "uniform pruning",
    "global": "global magnitude",
    "global-mt": "global magnitude with a minimum threshold",
    "lamp": "LAMP",
    "erk": "ERK",
}
Z_95 = 1.959964
# What counts as the same sparsity, in shares of all prunable weights.
SPARSITY_TOLERANCE = 0.001


@dataclass(frozen=True)
class Contender:
    """A candidate with, for every image of the select split, whether it was right."""

    candidate: Candidate
    select_correct: Sequence[bool]

    @property
    def is_search(self) -> bool:
        return self.candidate.method in SEARCHES


@dataclass(frozen=True)
class Paired:
    """The search's lead over the naive method in accuracy, image by image, with its 95 % interval."""

    lead: float
    low: float
    high: float


def paired_lead(a: Sequence[bool], b: Sequence[bool]) -> Paired:
    """Mean of the differences a - b and its normal 95 % interval.

    >>> paired_lead([True, True, False, True], [True, False, False, True]).lead
    0.25
    """
    differences = [int(x) - int(y) for x, y in zip(a, b, strict=True)]
    n = len(differences)
    mean = sum(differences) / n
    spread = math.sqrt(sum((d - mean) ** 2 for d in differences) / (n - 1) / n) if n > 1 else math.inf
    return Paired(mean, mean - Z_95 * spread, mean + Z_95 * spread)


@dataclass(frozen=True)
class Choice:
    winner: Contender
    best_search: Contender | None
    best_naive: Contender | None
    paired: Paired | None


def choose(contenders: Sequence[Contender]) -> Choice:
    search = _best([c for c in contenders if c.is_search])
    naive = _best([c for c in contenders if not c.is_search])
    if search is None or naive is None:
        winner = search or naive
        if winner is None:
            raise ValueError("a race needs at least one contender")
        return Choice(winner, search, naive, None)
    paired = paired_lead(search.select_correct, naive.select_correct)
    ships = search if paired.low > 0 and _as_sparse(search.candidate, naive.candidate) else naive
    return Choice(ships, search, naive, paired)


def _as_sparse(search: Candidate, naive: Candidate) -> bool:
    """A network that is denser than its rival is no better for being more accurate."""
    return search.sparsity >= naive.sparsity - SPARSITY_TOLERANCE


def _best(contenders: Sequence[Contender]) -> Contender | None:
    """The most accurate on the select split; of equals the cheaper, then the one named first."""
    return max(
        contenders,
        key=lambda c: (c.candidate.select_accuracy, -c.candidate.images_seen),
        default=None,
    )


def sentence(choice: Choice, *, epochs: int) -> str:
    winner = choice.winner.candidate
    ships = f"{NAMES[winner.method]} ships at {_percent(winner.sparsity)} sparsity"
    if choice.paired is None or choice.best_search is None or choice.best_naive is None:
        return f"{ships} with {_percent(winner.accuracy)} test accuracy; nothing was raced against it."
    search, naive = choice.best_search.candidate, choice.best_naive.candidate
    names = NAMES[search.method], NAMES[naive.method]
    paired = choice.paired
    if not _as_sparse(search, naive):
        finding = f"{names[0]} reached only {_percent(search.sparsity)} and can't be compared with {names[1]}"
    elif paired.low > 0:
        finding = f"{names[0]} beat {names[1]}"
    elif paired.high < 0:
        finding = f"{names[1]} beat {names[0]}"
    else:
        finding = f"no demonstrated gain of {names[0]} over {names[1]}, and the cheaper ships"
    cost = search.images_seen / naive.images_seen
    return (
        f"{ships}: {finding} ({names[0]}'s lead on the select split {100 * paired.lead:+.1f} points, 95 % interval "
        f"{100 * paired.low:+.1f} to {100 * paired.high:+.1f}; on the test split {_percent(search.accuracy)} against "
        f"{_percent(naive.accuracy)}; {epochs} epochs of fine-tuning each, one seed); {names[0]}'s search and "
        f"fine-tuning cost {cost:.0f} times the training images of {names[1]}."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"
