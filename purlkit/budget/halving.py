"""The last choice of a budget search: successive halving among the best allocations seen and the naive ones."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from purlkit.budget.allocation import Allocation

# By the search's own short trainings; the naive ones join them whatever those say.
BEST_SEEN = 8
RUNGS = 3

# Of some allocations in one rung, the loss of each. A rung's seed is its own, and the same for all who are left.
Measure = Callable[[Sequence[Allocation], int], Sequence[float]]


def best_seen(seen: Iterable[tuple[Allocation, float]], most: int = BEST_SEEN) -> list[Allocation]:
    """The allocations of least loss, each once; of equals the first seen."""
    least: dict[Allocation, float] = {}
    for allocation, loss in seen:
        least[allocation] = min(loss, least.get(allocation, loss))
    return sorted(least, key=lambda allocation: least[allocation])[:most]


def halve(entrants: Sequence[Allocation], measure: Measure) -> Allocation:
    """Each rung measures all who are left once more; the better half by the sum goes on, and one from the last rung.

    >>> halve([(1, 5), (2, 4), (3, 3)], lambda field, rung: [allocation[1] for allocation in field])
    (3, 3)
    """
    field, totals = list(entrants), dict.fromkeys(entrants, 0.0)
    for rung in range(RUNGS):
        if len(field) > 1:
            for allocation, loss in zip(field, measure(field, rung), strict=True):
                totals[allocation] += loss
            field.sort(key=lambda allocation: totals[allocation])
            field = field[: (len(field) + 1) // 2]
    return field[0]


def trainings(entrants: int) -> int:
    """How many measurements `halve` takes of so many.

    >>> trainings(13)
    24
    """
    total = 0
    for _ in range(RUNGS):
        total += entrants if entrants > 1 else 0
        entrants = (entrants + 1) // 2
    return total
