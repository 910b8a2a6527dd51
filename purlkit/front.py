"""The Pareto front: the points that no other point beats in one thing without losing in the other."""

from __future__ import annotations

from collections.abc import Sequence


def front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Which points of (saved, accuracy) are on the front, by index; more is better in both.

    >>> front([(0.5, 0.98), (0.8, 0.99), (0.9, 0.97)])  # the second saves more than the first and loses nothing
    [1, 2]
    """
    return [i for i, point in enumerate(points) if not any(_dominates(other, point) for other in points)]


def _dominates(other: tuple[float, float], point: tuple[float, float]) -> bool:
    return other != point and other[0] >= point[0] and other[1] >= point[1]
