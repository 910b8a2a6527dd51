"""The choice is made on the select split, and the cheaper ships unless the dearer is shown to be better."""

from __future__ import annotations

import dataclasses
import math

import pytest

from purlkit.sentence import Comparison, Matched, TestNumbers, sentence
from purlkit.verdict import Choice, Contender, Paired, choose, paired_lead

HOW = Comparison(epochs=10, of_epochs=10, seeds=1, epoch_images=100)
COSTS = {"purl": 12_000, "random": 500}


def contender(method: str, *right: list[bool], variant: str | None = None, sparsity: float = 0.9) -> Contender:
    return Contender(method, variant, sparsity, COSTS.get(method, 0), right)


def right(share: float, n: int = 100) -> list[bool]:
    return [i < share * n for i in range(n)]


def said(choice: Choice, how: Comparison = HOW, *, search: float = 0.8, rival: float = 0.8) -> str:
    return sentence(choice, how, saved=choice.winner.saved, test=TestNumbers(search, rival))


def test_the_paired_interval_by_hand() -> None:
    # Differences 1, 0, 0, -1, 1: mean 0.2, sample variance 0.7, standard error sqrt(0.7 / 5).
    a = [[True, True, False, False, True]]
    b = [[False, True, False, True, False]]

    paired = paired_lead(a, b)

    assert paired.lead == pytest.approx(0.2)
    assert paired.margin == pytest.approx(1.959964 * math.sqrt(0.7 / 5))
    assert paired.lead - paired.low == pytest.approx(1.959964 * math.sqrt(0.7 / 5))


def test_the_paired_interval_over_two_seeds_by_hand() -> None:
    # Differences (1, 0) and (1, -1): of the images 1 and -1/2, of the seeds 1/2 and 0, mean 1/4.
    a = [[True, True], [True, False]]
    b = [[False, True], [False, True]]

    paired = paired_lead(a, b)

    images, seeds = 2 * 0.75**2 / 1 / 2, 2 * 0.25**2 / 1 / 2
    assert paired.lead == pytest.approx(0.25)
    assert paired.margin == pytest.approx(1.959964 * math.sqrt(images + seeds))


def test_equal_networks_have_no_lead_and_no_doubt() -> None:
    assert paired_lead([right(0.5)], [right(0.5)]) == Paired(0.0, 0.0, 0.0)


def test_the_search_ships_when_its_lead_is_beyond_chance() -> None:
    search, naive = contender("purl", right(0.9), variant="mean"), contender("global", right(0.6))

    choice = choose([search, naive], 0.9)

    assert choice.winner is search
    assert said(choice).startswith("PuRL beat global magnitude by 30.0 ± 9.0 points at 90.0 % sparsity (one seed, 10")


def test_a_lead_within_chance_ships_the_naive_method_and_says_so() -> None:
    search, naive = contender("purl", right(0.92), variant="best"), contender("lamp", right(0.91))

    choice = choose([search, naive], 0.9)

    assert choice.winner is naive
    assert said(choice).startswith(
        "LAMP ships at 90.0 % sparsity: no demonstrated gain of PuRL's best episode over it (a lead of +1.0 ± 2.0"
    )


def test_a_search_that_ships_without_beating_its_rival_itself_is_only_called_ahead() -> None:
    search, rival = contender("purl", right(0.92)), contender("random", right(0.91))

    choice = Choice(search, search, rival, paired_lead(search.right, rival.right))

    assert said(choice).startswith("PuRL is ahead of random search by 1.0 ± 2.0 points")


@pytest.mark.parametrize(
    ("search", "words"),
    [
        (0.90, "no demonstrated gain of PuRL over it (1.0 ± 2.0 points behind it, one seed"),
        (0.91, "no demonstrated gain of PuRL over it (level with it, to within 0.0 points, one seed"),
    ],
)
def test_what_is_behind_or_level_is_never_called_a_lead(search: float, words: str) -> None:
    choice = choose([contender("purl", right(search)), contender("lamp", right(0.91))], 0.9)

    assert choice.winner.method == "lamp"
    assert words in said(choice)


def test_a_search_ships_that_is_cheaper_than_what_is_level_with_it_or_better() -> None:
    tried = contender("random", right(0.91))
    behind, level = (dataclasses.replace(contender("purl", right(share)), cost=100) for share in (0.90, 0.91))
    naive = contender("lamp", right(0.6))

    for search, words in ((behind, "1.0 ± 2.0 points behind"), (level, "level with")):
        choice = choose([search, tried, naive], 0.9)

        assert choice.winner is search
        assert said(choice).startswith(
            f"PuRL ships at 90.0 % sparsity, the cheapest that none is shown to beat; PuRL is {words} random search"
        )


def test_a_naive_lead_beyond_chance_is_called_a_win() -> None:
    choice = choose([contender("purl", right(0.5)), contender("lamp", right(0.9))], 0.9)

    assert said(choice).startswith("LAMP beat PuRL by 40.0 ± 9.7 points at 90.0 % sparsity")


def test_of_those_that_none_is_shown_to_beat_the_cheapest_ships() -> None:
    search, tried, free = (
        contender("purl", right(0.92)),
        contender("random", right(0.91)),
        contender("lamp", right(0.9)),
    )

    assert choose([search, tried, free], 0.9).winner is free
    assert choose([search, tried, contender("lamp", right(0.6))], 0.9).winner is tried


def test_the_rival_of_a_search_that_lost_is_the_winner() -> None:
    choice = choose(
        [contender("purl", right(0.5)), contender("random", right(0.91)), contender("lamp", right(0.9))], 0.9
    )

    assert choice.rival is choice.winner
    assert choice.winner.method == "lamp"


def test_a_search_that_stayed_denser_does_not_win_by_that() -> None:
    search, naive = contender("purl", right(0.9), sparsity=0.1), contender("global", right(0.6))

    choice = choose([search, naive], 0.9)

    assert choice.winner is naive
    assert "PuRL reached only 10.0 % and can't be compared" in said(choice)


def test_nothing_that_the_choice_is_made_of_knows_the_test_split() -> None:
    fields = {field.name for field in dataclasses.fields(Contender)}

    assert fields == {"method", "variant", "saved", "cost", "right"}


def test_the_test_split_is_told_and_another_order_is_named() -> None:
    choice = choose([contender("purl", right(0.5)), contender("lamp", right(0.9))], 0.9)

    assert "On the test split PuRL has 70.0 % and LAMP 90.0 %." in said(choice, search=0.7, rival=0.9)
    assert "LAMP 60.0 %, which is the other order." in said(choice, search=0.7, rival=0.6)


def test_the_sentence_says_what_the_search_cost_and_how_the_comparison_was_made() -> None:
    choice = choose([contender("purl", right(0.5)), contender("lamp", right(0.9))], 0.9)

    # 12,000 images against none and 10 epochs of 100
    assert "PuRL's search cost 12 times the total of LAMP" in said(choice)
    short = Comparison(epochs=3, of_epochs=10, seeds=3, epoch_images=3000)
    assert "(3 seeds, 3 of 10 epochs each, select split)" in said(choice, short)
    assert "cost 0.4 times the total" in said(choice, short)


@pytest.mark.parametrize(
    ("lead", "words"),
    [
        (Paired(0.1, 0.05, 0.15), "ahead of that too, by 10.0 ± 5.0 points: the search was worth its cost"),
        (Paired(-0.1, -0.15, -0.05), "beats PuRL by 10.0 ± 5.0 points: the search was not worth its cost"),
        (Paired(0.01, -0.04, 0.06), "1.0 ± 5.0 points ahead of that: the search was not shown to be worth its cost"),
        (Paired(-0.01, -0.06, 0.04), "1.0 ± 5.0 points behind that: the search was not shown to be worth its cost"),
    ],
)
def test_the_control_says_whether_the_search_was_worth_its_cost(lead: Paired, words: str) -> None:
    choice = choose([contender("purl", right(0.9)), contender("lamp", right(0.5))], 0.9)

    text = sentence(choice, HOW, saved=0.9, test=TestNumbers(0.9, 0.5), matched=Matched("lamp", 130, 0.75, lead))

    assert "With the search's whole cost as further fine-tuning (130 epochs) LAMP has 75.0 % on the test split" in text
    assert words in text


def test_alone_in_the_race_the_search_ships_and_the_sentence_says_that_nothing_was_raced() -> None:
    choice = choose([contender("purl", right(0.9))], 0.9)

    assert choice.winner.kind == "search"
    assert "nothing was raced against it" in sentence(choice, HOW, saved=0.9, test=None)


@pytest.mark.parametrize(
    ("share", "words"), [(0.9, "90.0 %"), (0.9995, "99.95 %"), (0.99996, "99.996 %"), (1.0, "100.0 %")]
)
def test_what_is_less_than_everything_is_never_told_as_all_of_it(share: float, words: str) -> None:
    choice = choose([contender("lamp", right(0.9))], share)

    assert sentence(choice, HOW, saved=share, test=None).startswith(f"LAMP ships at {words} sparsity;")


def test_what_a_budget_search_chose_is_called_no_episode() -> None:
    choice = choose([contender("purl-budget", right(0.9), variant="best"), contender("lamp", right(0.5))], 0.9)

    assert said(choice).startswith("PuRL at a fixed budget beat LAMP by")


def test_who_diverged_is_named_and_who_is_left_alone_by_that_says_so() -> None:
    raced = choose([contender("purl", right(0.9)), contender("lamp", right(0.5))], 0.9)
    alone = choose([contender("lamp", right(0.5))], 0.9)
    lost = [("purl", "best"), ("uniform", None)]

    beside = sentence(raced, HOW, saved=0.9, test=TestNumbers(0.9, 0.5), diverged=lost, no_control="it diverged")
    left = sentence(alone, HOW, saved=0.9, test=None, diverged=[("purl", "mean")], contested=True)

    assert beside.endswith("Lost, for the fine-tuning diverged: PuRL's best episode, uniform pruning.")
    assert "The control with the search's whole cost is missing (it diverged)." in beside
    assert left == (
        "LAMP ships at 90.0 % sparsity; no search was left to compare it with. "
        "Lost, for the fine-tuning diverged: PuRL's mean policy."
    )
