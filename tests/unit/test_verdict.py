"""The choice is made on the select split, and the naive method ships unless the search is shown to be better."""

from __future__ import annotations

import math

import pytest

from purlkit.results import Candidate, LayerReport
from purlkit.verdict import Contender, choose, paired_lead, sentence

LAYER = LayerReport(name="fc", kind="linear", shape=(10, 10), weights=100, kept=10, sparsity=0.9)


def contender(
    method: str, right: list[bool], *, test: float = 0.5, images: int = 1000, sparsity: float = 0.9
) -> Contender:
    candidate = Candidate(
        method=method,
        sparsity=sparsity,
        accuracy_pruned=0.1,
        accuracy=test,
        select_accuracy=sum(right) / len(right),
        images_seen=images,
        seconds=1.0,
        layers=(LAYER,),
        mask_sha256="0" * 64,
    )
    return Contender(candidate, right)


def right(share: float, n: int = 100) -> list[bool]:
    return [i < share * n for i in range(n)]


def test_the_paired_interval_by_hand() -> None:
    # Differences 1, 0, 0, -1, 1: mean 0.2, sample variance 0.7, standard error sqrt(0.7 / 5).
    a = [True, True, False, False, True]
    b = [False, True, False, True, False]

    paired = paired_lead(a, b)

    assert paired.lead == pytest.approx(0.2)
    assert paired.high - paired.lead == pytest.approx(1.959964 * math.sqrt(0.7 / 5))
    assert paired.lead - paired.low == pytest.approx(1.959964 * math.sqrt(0.7 / 5))


def test_the_search_ships_when_its_lead_is_beyond_chance() -> None:
    search, naive = contender("purl", right(0.9)), contender("global", right(0.6))

    choice = choose([search, naive])

    assert choice.winner is search
    assert sentence(choice, epochs=10).startswith("PuRL ships at 90.0 % sparsity: PuRL beat global magnitude")


def test_a_lead_within_chance_ships_the_naive_method_and_says_so() -> None:
    search, naive = contender("purl", right(0.92)), contender("global", right(0.91))

    choice = choose([search, naive])

    assert choice.winner is naive
    assert "no demonstrated gain of PuRL over global magnitude" in sentence(choice, epochs=10)


def test_a_naive_lead_beyond_chance_is_called_a_win() -> None:
    choice = choose([contender("purl", right(0.5)), contender("global", right(0.9))])

    assert "global magnitude beat PuRL" in sentence(choice, epochs=10)


def test_a_search_that_stayed_denser_does_not_win_by_that() -> None:
    search, naive = contender("purl", right(0.9), sparsity=0.1), contender("global", right(0.6))

    choice = choose([search, naive])

    assert choice.winner is naive
    assert "PuRL reached only 10.0 % and can't be compared with global magnitude" in sentence(choice, epochs=10)


def test_the_test_split_has_no_say() -> None:
    search = contender("purl", right(0.9), test=0.2)
    naive = contender("global", right(0.6), test=0.99)

    assert choose([search, naive]).winner is search


def test_the_sentence_says_what_the_search_cost() -> None:
    choice = choose([contender("purl", right(0.9), images=12_000), contender("global", right(0.6), images=1000)])

    assert "cost 12 times the training images of global magnitude" in sentence(choice, epochs=10)


def test_of_equals_the_cheaper_is_chosen() -> None:
    dear, cheap = contender("global", right(0.9), images=2000), contender("global", right(0.9), images=1000)

    assert choose([dear, cheap]).winner is cheap


def test_alone_in_the_race_the_search_ships_and_the_sentence_says_that_nothing_was_raced() -> None:
    choice = choose([contender("purl", right(0.9))])

    assert choice.winner.is_search
    assert "nothing was raced against it" in sentence(choice, epochs=10)
