"""The pictures of a report: each a function of what the job left behind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from purlkit.report.svg import Plot, around
from purlkit.results import Candidate, Episode
from purlkit.sentence import NAMES


@dataclass(frozen=True)
class Published:
    """A number from a paper, to lay beside ours."""

    sparsity: float
    accuracy: float
    says: str


def title_of(candidate: Candidate) -> str:
    name = NAMES.get(candidate.method, candidate.method)
    return f"{name}, {candidate.variant}" if candidate.variant else name


def percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def front(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no other beats in both accuracy and sparsity, sparsest last."""
    best: list[Candidate] = []
    for one in sorted(candidates, key=lambda c: (-c.sparsity, -c.accuracy)):
        if not best or one.accuracy > best[-1].accuracy:
            best.append(one)
    return best[::-1]


def pareto(candidates: Sequence[Candidate], dense: float, published: Sequence[Published] = ()) -> Plot:
    """Accuracy after fine-tuning over sparsity, all candidates of all points."""
    sparsities = [one.sparsity for one in candidates] + [one.sparsity for one in published]
    accuracies = [one.accuracy for one in candidates] + [one.accuracy for one in published] + [dense]
    plot = Plot(around(sparsities), around(accuracies), "Test accuracy of every candidate over its sparsity")
    plot.axes("sparsity", "accuracy, test split", percent)
    plot.line([(plot.x[0], dense), (plot.x[1], dense)], f"dense network, {percent(dense)}", 2)
    on_front = front(candidates)
    plot.line([(one.sparsity, one.accuracy) for one in on_front], "front" if len(on_front) > 1 else None, 1)
    for style, title in enumerate(dict.fromkeys(map(title_of, candidates))):
        held = [one for one in candidates if title_of(one) == title]
        points = [((o.sparsity, o.accuracy), f"{title}: {percent(o.accuracy)} at {percent(o.sparsity)}") for o in held]
        plot.marks(points, title, style)
    if published:
        plot.marks([((one.sparsity, one.accuracy), one.says) for one in published], "published", 8)
    return plot


def learning(episodes: Sequence[Episode], exploring: int) -> list[Plot]:
    """How every episode of the search ended and what it earned. The first `exploring` chose partly at random."""
    walks = [one for one in episodes if one.kind == "search"]
    if len(walks) < 2:
        return []
    x = (0.0, float(len(walks) + 1))
    ends = Plot(x, (0, 1.02), "Accuracy and sparsity at the end of every episode of the search")
    earned = Plot(x, around(sum(one.rewards) for one in walks), "Return of every episode of the search", height=220)
    for plot in (ends, earned):
        plot.shade(0, exploring, "exploring")
    ends.axes("episode", "share", percent, "{:g}".format)
    earned.axes("episode", "return")
    numbered = list(enumerate(walks, start=1))
    ends.line([(n, one.accuracies[-1]) for n, one in numbered], "accuracy, reward split", 0)
    ends.line([(n, one.sparsities[-1]) for n, one in numbered], "sparsity", 1)
    earned.line([(n, sum(one.rewards)) for n, one in numbered], None, 0)
    return [ends, earned]


def histogram(edges: tuple[float, float], counts: Sequence[int], title: str) -> Plot:
    """How many weights are how large. One tall bar (the zeros) must not flatten the rest: roots of counts are drawn."""
    heights = [count**0.5 for count in counts]
    plot = Plot(edges, (0, max([*heights, 1.0])), title, width=300, height=150)
    return plot.axes("weight", "√ count").bars(heights)
