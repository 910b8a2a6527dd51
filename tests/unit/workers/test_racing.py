"""Who loses a race by diverging, and who ships then: with fine-tunings that are only told of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest
import torch

from purlkit.errors import Diverged
from purlkit.pruning.masks import Mask
from purlkit.spec import FineTune, JobSpec, Race
from workers.outcome import _verdict
from workers.race import Outcome, race
from workers.tuning import Entrant, Leg, Run

SPEC = JobSpec.model_validate({"model": {"name": "mlp"}, "targets": {"sparsity": 0.8}}).resolve()


def a_run(*compared: int, diverged: str | None = None) -> Run:
    return Run(max(compared, default=1), {}, 0.1, 1.0, dict.fromkeys(compared, (True,)), {}, diverged)


class FakeTrack:
    """Fine-tunes nothing: who diverges on the way to which rung, by name and seed, is given."""

    def __init__(self, spec: JobSpec, diverges: dict[str, int]) -> None:
        self.spec, self._diverges, self.asked = spec, diverges, list[str]()

    def run(self, legs: list[Leg]) -> list[Run]:
        return [self._one(leg) for leg in legs]

    def _one(self, leg: Leg) -> Run:
        self.asked.append(f"{leg.name}@{leg.until}")
        so_far = leg.run.select if leg.run else {}
        if leg.until in so_far and leg.run:
            return leg.run
        if leg.until >= self._diverges.get(leg.name, 100):
            return replace(leg.run or a_run(), epochs=leg.until, diverged="too hot")
        return a_run(*so_far, leg.until)


def raced(
    diverges: dict[str, int],
    names: tuple[str, ...] = ("lamp", "global", "erk"),
    masks: Sequence[Mask] | None = None,
    **told: Any,
) -> Outcome:
    """A race of three equally good methods over rungs after 1 and 3 epochs, to the end of 9."""
    spec = SPEC.model_copy(
        update={"fine_tune": FineTune(epochs=9), "race": Race(**{"budget": 11_000, "seeds": 1, **told})}
    )
    masks = masks or [Mask({"fc": torch.arange(5) == i}) for i in range(len(names))]
    entrants = [Entrant(name, None, mask) for name, mask in zip(names, masks, strict=True)]
    track: Any = FakeTrack(spec, diverges)
    return race(track, entrants, images=1000, on_rung=lambda *_: None)


def lost(outcome: Outcome) -> dict[str, str | None]:
    return {placed.entrant.method: placed.diverged for placed in outcome.diverged}


def test_a_candidate_that_diverges_loses_the_race_and_the_others_go_on() -> None:
    over = raced({"run-lamp-0": 1})

    assert lost(over) == {"lamp": "too hot"}
    assert (over.placed[0].epochs, over.choice.winner.method, over.final.epochs) == (0, "global", 9)


def test_a_finalist_loses_with_any_of_its_seeds() -> None:
    over = raced({"run-lamp-1": 1}, names=("purl", "lamp"), budget=30_000, seeds=2)

    assert lost(over) == {"lamp": "fine-tuning seed 1: too hot"}
    assert len(over.placed[1].runs) == 2  # what it cost is counted
    assert over.choice.rival is None


def test_where_the_winner_diverges_in_its_full_run_the_next_ships() -> None:
    over = raced({"full-lamp-0": 9}, names=("lamp", "purl"), budget=2_000)

    assert lost(over) == {"lamp": "too hot"}
    assert over.choice.winner.method == "purl"


def test_where_all_finalists_diverge_those_who_were_let_go_come_back() -> None:
    over = raced({"run-lamp-0": 3})  # first of equals, so it alone had gone on

    assert lost(over) == {"lamp": "too hot"}
    assert over.choice.winner.method == "global"


def test_the_race_fails_only_when_all_diverge() -> None:
    with pytest.raises(Diverged, match="every candidate of the race diverged, the first so: too hot"):
        raced({"run-lamp-0": 1, "run-global-0": 3, "run-erk-0": 9})


def test_a_control_that_diverges_is_missing_and_the_race_stands() -> None:
    over = raced({"matched-lamp-0": 9}, names=("lamp", "purl"), matched=True)

    assert (over.control, over.no_control) == (None, "lamp: too hot")
    assert over.diverged == []


def said(over: Outcome) -> str:
    """Of a race that nobody was left to be compared in: what the test split says is not asked then."""
    test: Any = None
    return _verdict(SPEC, over, test, 0.8, 1000)


def test_random_search_alone_against_two_candidates_of_the_search_is_compared_with_the_better_one() -> None:
    over = raced({}, names=("purl", "purl-budget", "random"))

    assert over.choice.rival is not None
    assert over.choice.rival.method == "random"


def test_who_raced_and_was_let_go_is_not_said_to_have_been_missing() -> None:
    one, same = (Mask({"fc": torch.arange(5) == i}) for i in range(2))
    over = raced({}, names=("purl", "purl-budget", "global"), masks=(one, same, same))  # global's is the search's too

    assert over.choice.rival is None
    assert said(over) == "PuRL ships at 80.0 % sparsity; no other method was left to compare it with."
    assert "nothing was raced against it" in said(raced({}, names=("purl", "purl-budget")))


def test_a_search_that_stayed_denser_has_no_control_to_be_better_than() -> None:
    dense, sparse = Mask({"fc": torch.arange(5) < 4}), Mask({"fc": torch.arange(5) < 1})
    over = raced({}, names=("purl", "lamp"), masks=(dense, sparse), matched=True)

    assert over.choice.missed
    assert (over.control, over.no_control) == (None, "purl stayed denser than the target")
