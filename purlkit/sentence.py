"""The verdict in words: a sentence with numbers for whoever has to decide whether a search is worth its cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from purlkit.spec import Goal
from purlkit.verdict import Choice, Contender, Paired

NAMES = {
    "purl": "PuRL",
    "purl-budget": "PuRL at a fixed budget",
    "uniform": "uniform pruning",
    "global": "global magnitude",
    "global-mt": "global magnitude with a minimum threshold",
    "lamp": "LAMP",
    "erk": "ERK",
    "random": "random search",
}

AT: dict[Goal, str] = {"sparsity": "at {} sparsity", "flops": "with {} of the multiply-adds removed"}


@dataclass(frozen=True)
class Comparison:
    """How the finalists were compared: after so many epochs of a full fine-tune, over so many seeds."""

    epochs: int
    of_epochs: int
    seeds: int
    epoch_images: int


@dataclass(frozen=True)
class TestNumbers:
    """Top-1 on the test split, read when everything was decided."""

    __test__ = False  # pytest would take it for a test

    search: float
    rival: float


@dataclass(frozen=True)
class Matched:
    """The best naive method fine-tuned for as long as the search and its fine-tuning took, against that search."""

    method: str
    epochs: int
    accuracy: float  # test split
    lead: Paired  # of the search over it, select split


def sentence(
    choice: Choice,
    how: Comparison,
    *,
    saved: float,
    goal: Goal = "sparsity",
    test: TestNumbers | None,
    matched: Matched | None = None,
    diverged: Sequence[tuple[str, str | None]] = (),
    no_control: str | None = None,
    contested: bool = False,
) -> str:
    """`saved` is the winner's share of what the goal is about; `test` is there where a search had a rival.

    `diverged` names methods and variants that lost so; `no_control` says why there is none, though it was asked for.
    `contested`: both a search and another method began the race, whoever was left at its end.
    """
    at, winner = AT[goal].format(_percent(saved)), name_of(choice.winner)
    search, rival, lead = choice.search, choice.rival, choice.lead
    if search is None or rival is None or lead is None or test is None:
        left = "no search was left" if search is None else "no other method was left"
        lonely = f"{left} to compare it with" if contested else "nothing was raced against it"
        return " ".join([f"{_capital(winner)} ships {at}; {lonely}.", *_lost(diverged)])
    said = [f"{_finding(choice, search, rival, lead, at, _how(how))}; {_cost(search, rival, how)}."]
    said.append(
        f"On the test split {NAMES[search.method]} has {_percent(test.search)} and {NAMES[rival.method]} "
        f"{_percent(test.rival)}{_another_order(lead.lead, test)}."
    )
    if matched is not None:
        said.append(_matched(matched, NAMES[search.method]))
    if no_control is not None:
        said.append(f"The control with the search's whole cost is missing ({no_control}).")
    return " ".join([*said, *_lost(diverged)])


def name_of(contender: Contender) -> str:
    return _named(contender.method, {"best": "'s best episode"}.get(contender.variant or "", ""))


def _named(method: str, variant: str) -> str:
    """The one candidate of purl-budget is chosen among more than episodes, naive allocations too."""
    return NAMES[method] if method == "purl-budget" else f"{NAMES[method]}{variant}"


def _lost(diverged: Sequence[tuple[str, str | None]]) -> list[str]:
    whose = {"mean": "'s mean policy", "best": "'s best episode", None: ""}
    names = [_named(method, whose[variant]) for method, variant in diverged]
    return [f"Lost, for the fine-tuning diverged: {', '.join(names)}."] if names else []


def _finding(choice: Choice, search: Contender, rival: Contender, lead: Paired, at: str, how: str) -> str:
    searched, other = name_of(search), name_of(rival)
    if choice.missed:
        stayed = _percent(search.saved)
        return f"{other} ships {at}: {searched} reached only {stayed} and can't be compared"
    if choice.winner is search and _tenths(lead.lead) <= 0:  # the other took more to find, or a finalist beat it
        stands = f"{searched} is {_standing(lead, other)}"
        return f"{searched} ships {at}, the cheapest that none is shown to beat; {stands} ({how})"
    if choice.winner is search:
        verb = "beat" if lead.low > 0 else "is ahead of"  # ahead: another finalist is what beat the cheaper ones
        return f"{searched} {verb} {other} by {_points(lead.lead, lead.margin)} {at} ({how}) and ships"
    if lead.high < 0:
        return f"{other} beat {searched} by {_points(-lead.lead, lead.margin)} {at} ({how}) and ships"
    ahead = f"a lead of +{_points(lead.lead, lead.margin)}" if _tenths(lead.lead) > 0 else _standing(lead, "it")
    gain = f"no demonstrated gain of {searched} over it ({ahead}, {how})"
    return f"{_capital(other)} ships {at}: {gain}, and the cheaper ships"


def _how(how: Comparison) -> str:
    seeds = "one seed" if how.seeds == 1 else f"{how.seeds} seeds"
    part = f"{how.epochs} epochs" if how.epochs == how.of_epochs else f"{how.epochs} of {how.of_epochs} epochs"
    return f"{seeds}, {part} each, select split"


def _cost(search: Contender, rival: Contender, how: Comparison) -> str:
    times = search.cost / (rival.cost + how.of_epochs * how.epoch_images)
    rounded = f"{times:.0f}" if times >= 10 else f"{times:.1f}"
    return f"{NAMES[search.method]}'s search cost {rounded} times the total of {NAMES[rival.method]}"


def _another_order(lead: float, test: TestNumbers) -> str:
    return ", which is the other order" if lead * (test.search - test.rival) < 0 else ""


def _matched(matched: Matched, searched: str) -> str:
    lead = matched.lead
    if lead.low > 0:
        finding = (
            f"{searched} is ahead of that too, by {_points(lead.lead, lead.margin)}: the search was worth its cost"
        )
    elif lead.high < 0:
        finding = f"that beats {searched} by {_points(-lead.lead, lead.margin)}: the search was not worth its cost"
    else:
        finding = f"{searched} is {_standing(lead, 'that')}: the search was not shown to be worth its cost"
    return (
        f"With the search's whole cost as further fine-tuning ({matched.epochs} epochs) {NAMES[matched.method]} has "
        f"{_percent(matched.accuracy)} on the test split; {finding}."
    )


def _standing(lead: Paired, other: str) -> str:
    """Where the search stands by a difference that may be chance. What is told as 0.0 points is no lead."""
    if _tenths(lead.lead) == 0:
        return f"level with {other}, to within {100 * lead.margin:.1f} points"
    side = "ahead of" if lead.lead > 0 else "behind"
    return f"{_points(abs(lead.lead), lead.margin)} {side} {other}"


def _tenths(lead: float) -> float:
    return round(100 * lead, 1)


def _points(lead: float, margin: float) -> str:
    return f"{100 * lead:.1f} ± {100 * margin:.1f} points"


def _percent(share: float) -> str:
    """With one digit, or as many as it takes: what is less than everything is never told as 100 %."""
    digits = 1
    while share < 1 and float(f"{100 * share:.{digits}f}") >= 100 and digits < 15:
        digits += 1
    return f"{100 * share:.{digits}f} %"


def _capital(name: str) -> str:
    return name[:1].upper() + name[1:]
