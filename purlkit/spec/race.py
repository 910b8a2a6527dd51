"""The race: how the candidates are compared after pruning, and what that may cost."""

from __future__ import annotations

from pydantic import Field

from purlkit.spec.record import Record


class Race(Record):
    """Every candidate gets the same fine-tuning; who is behind at a rung may have to stop there."""

    early_stop: bool = Field(
        True, description="successive halving; without it all candidates are fine-tuned to the end"
    )
    eta: int = Field(
        3, ge=2, le=10, description="about one in eta of the candidates at a rung goes on, eta times as far"
    )
    seeds: int = Field(3, ge=1, le=20, description="fine-tuning seeds for the finalists, where the budget affords them")
    budget: int | None = Field(
        None,
        ge=0,
        le=10**15,
        description="training images that comparing may cost, beside the winner's own full fine-tune; null: as many as "
        "that has",
    )
    matched: bool = Field(
        False, description="also fine-tune the best naive method for as long as the search and its fine-tuning took"
    )
