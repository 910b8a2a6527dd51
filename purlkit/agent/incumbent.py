"""Where a walk at a fixed total begins: at the best allocation that the episodes learnt from have seen."""

from __future__ import annotations

from collections.abc import Sequence

from purlkit.results import Episode


def incumbent(learnt_from: Sequence[Episode]) -> tuple[int, ...]:
    """Of equals the first; empty where no walk was of this kind.

    It depends on the episodes that the acting policy has learnt from and on nothing else, so the search stays
    independent of timing.
    """
    told = [(episode.loss, episode.kept) for episode in learnt_from if episode.loss is not None]
    return min(told, key=lambda each: each[0])[1] if told else ()
