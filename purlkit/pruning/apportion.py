"""Dividing a whole number among layers: in proportion, within bounds, and to the last one."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from fractions import Fraction


def apportion(count: int, shares: Sequence[int | Fraction], bounds: Sequence[tuple[int, int]]) -> list[int]:
    """Numbers that add up to `count`, as nearly in the proportion of `shares` as their bounds and wholeness allow.

    One scale for all: a number is scale * share, or its bound where that is passed, and what is left of the fractions
    goes to the largest (of equals to the first). In exact arithmetic, so no rounding error ever moves a weight.

    >>> apportion(10, [1, 1, 2], [(0, 100)] * 3)  # 2.5, 2.5 and 5
    [3, 2, 5]
    >>> apportion(10, [1, 1, 2], [(0, 100), (0, 100), (0, 2)])  # the others take what the third can't
    [4, 4, 2]
    """
    if not sum(low for low, _ in bounds) <= count <= sum(high for _, high in bounds):
        raise ValueError(f"the bounds do not allow a sum of {count}")
    if not shares:
        return []

    def at(scale: Fraction) -> list[Fraction]:
        return [
            min(max(scale * share, Fraction(low)), Fraction(high))
            for share, (low, high) in zip(shares, bounds, strict=True)
        ]

    # The sum rises with the scale, and straight between the points where some number meets a bound.
    bends = {Fraction(bound) / share for share, pair in zip(shares, bounds, strict=True) for bound in pair}
    scales = sorted({Fraction(0), *bends})
    above = bisect_left(scales, Fraction(count), key=lambda scale: sum(at(scale), Fraction(0)))
    low, high = scales[max(above - 1, 0)], scales[above]
    from_, to = sum(at(low), Fraction(0)), sum(at(high), Fraction(0))
    exact = at(low + (high - low) * (count - from_) / (to - from_) if to > from_ else high)

    numbers = [int(number) for number in exact]
    by_remainder = sorted(range(len(exact)), key=lambda i: (numbers[i] - exact[i], i))
    for index in by_remainder[: count - sum(numbers)]:
        numbers[index] += 1
    return numbers
