"""Successive halving as a plan: after how many epochs candidates are compared, how many go on, and what that costs.

A rung is decided when all have reached it, so that the outcome does not depend on who is faster.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from purlkit.spec import Race


@dataclass(frozen=True)
class Rung:
    """After so many epochs those that still run, `field` of them, are compared."""

    epochs: int
    field: int


@dataclass(frozen=True)
class Plan:
    """The last rung decides: there the finalists are compared, over so many seeds. Then the winner runs to its end."""

    rungs: tuple[Rung, ...]
    finalists: int
    seeds: int
    images: int  # what comparing costs at most, beside the winner's own full run


@dataclass(frozen=True)
class Standing:
    """How a candidate stands at a rung."""

    kind: str
    correct: int  # images of the select split
    cost: int  # images seen before the race


def plan(race: Race, kinds: Sequence[str], *, epochs: int, images: int) -> Plan:
    """As high up the ladder, and then as many seeds, as the budget affords; but one rung at least.

    `kinds` are the candidates', `images` those of one epoch. Only what the winner does not need anyway is counted.

    >>> plan(Race(), ["search"] * 2 + ["naive"] * 5, epochs=10, images=1000).rungs  # 6 * 1 + 2 * 2 of 10 epochs
    (Rung(epochs=1, field=7), Rung(epochs=3, field=3))
    """
    budget = epochs * images if race.budget is None else race.budget
    rungs: list[Rung] = []
    field, reached, cost = len(kinds), 0, 0
    for height in _heights(race, epochs):
        climb = (field - 1) * (height - reached) * images
        if rungs and cost + climb > budget:
            break
        rungs.append(Rung(height, field))
        field, reached, cost = _going_on(race, kinds, field), height, cost + climb
    more = field * (race.seeds - 1) * reached * images
    if field == 1 or cost + more > budget:
        return Plan(tuple(rungs), field, 1, cost)
    return Plan(tuple(rungs), field, race.seeds, cost + more)


def going_on(race: Race, standings: Sequence[Standing]) -> list[int]:
    """Who goes on, by index: the best search and the best naive method, then the others by rank.

    More right answers rank higher, of equals the cheaper, then the one named first. Those two stay whatever their rank,
    for the verdict is between them; with random search in the race there is a place more, so the best of all stays too.
    Without a naive method the verdict is between the search and random search, so that stays.
    """
    by_rank = sorted(range(len(standings)), key=lambda i: (-standings[i].correct, standings[i].cost, i))
    kinds = [standing.kind for standing in standings]
    best = {kinds[i]: i for i in reversed(by_rank) if kinds[i] != "random" or "naive" not in kinds}
    count = _going_on(race, kinds, len(standings))
    others = [i for i in by_rank if i not in best.values()]
    return sorted([*best.values(), *others[: count - len(best)]])


def _going_on(race: Race, kinds: Sequence[str], field: int) -> int:
    return min(field, max(-(-field // race.eta), len(set(kinds))))


def _heights(race: Race, epochs: int) -> list[int]:
    """From the full run down by factors of eta, to one epoch."""
    heights = [epochs]
    scale = float(race.eta)
    while race.early_stop and epochs / scale >= 1:
        heights.insert(0, round(epochs / scale))
        scale *= race.eta
    return heights
