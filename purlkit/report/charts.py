"""The pictures of a report: each a function of what the job left behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from statistics import fmean
from typing import Protocol, TypeVar

from purlkit.front import front
from purlkit.published import PRUNABLE, Published
from purlkit.report.svg import Plot, around
from purlkit.results import Candidate, Episode, LayerWeights, Spread
from purlkit.sentence import NAMES

PUBLISHED_STYLE = 8
# As many points as a picture of this width can show: of more episodes the means are drawn.
MOST_POINTS = 1000
MOST_LINES = 30  # layers beyond which lines over each other are a thicket


class Raced(Protocol):
    """A network of the race, as far as a picture needs it: a client's record of one has as much."""

    @property
    def method(self) -> str: ...
    @property
    def variant(self) -> str | None: ...
    @property
    def sparsity(self) -> float: ...
    @property
    def accuracy(self) -> float: ...
    @property
    def diverged(self) -> str | None: ...


One = TypeVar("One", bound=Raced)


def title_of(candidate: Raced) -> str:
    name = NAMES.get(candidate.method, candidate.method)
    return f"{name}, {candidate.variant}" if candidate.variant else name


def percent(value: float) -> str:
    return f"{100 * value:.4g} %"


def over_sparsity(candidates: Sequence[Raced], dense: float, published: Sequence[Published] = ()) -> Plot:
    """Accuracy after fine-tuning over sparsity, all candidates of all targets."""
    theirs = [(row.sparsity, row) for row in published if row.sparsity is not None and row.denominator == PRUNABLE]
    return _over("sparsity", lambda one: one.sparsity, candidates, dense, theirs)


def over_flops(candidates: Sequence[Candidate], dense: float, published: Sequence[Published] = ()) -> Plot | None:
    """The same over the share of multiply-adds that is gone; None where nobody counted them."""
    counted = [one for one in candidates if one.cost is not None]
    theirs = [(row.flops_pruned, row) for row in published if row.flops_pruned is not None]
    if not counted:
        return None
    return _over("multiply-adds removed", lambda one: one.cost.flops_pruned if one.cost else 0, counted, dense, theirs)


def _over(
    what: str,
    saved: Callable[[One], float],
    candidates: Sequence[One],
    dense: float,
    published: Sequence[tuple[float, Published]],
) -> Plot:
    """`published` comes with the percentage that the paper gives for `what`."""
    raced = [one for one in candidates if one.diverged is None]
    at = [(saved(one), one.accuracy) for one in raced]
    theirs = [((share / 100, row.accuracy / 100), _says(row)) for share, row in published]
    xs, ys = zip(*at, *(point for point, _ in theirs), strict=True)
    plot = Plot(around(xs), around([*ys, dense]), f"Test accuracy of every candidate over its {what}")
    plot.axes(what, "accuracy, test split", percent)
    plot.line([(plot.x[0], dense), (plot.x[1], dense)], f"dense network, {percent(dense)}", 2)
    best = sorted({at[index] for index in front(at)})
    plot.line(best, "front" if len(best) > 1 else None, 1)
    for style, title in enumerate(dict.fromkeys(map(title_of, raced))):
        points = [
            (point, f"{title}: {percent(point[1])} at {percent(point[0])}")
            for one, point in zip(raced, at, strict=True)
            if title_of(one) == title
        ]
        plot.marks(points, title, style)
    if theirs:
        plot.marks(theirs, "published", PUBLISHED_STYLE)
    return plot


def _says(row: Published) -> str:
    detail = f" ({row.detail})" if row.detail else ""
    return f"{row.source}: {NAMES.get(row.method, row.method)}{detail}: {row.accuracy:g} %"


def learning(episodes: Sequence[Episode], exploring: int) -> list[Plot]:
    """How every episode ended and what it earned. The first `exploring` of each search chose partly at random."""
    walks = [one for one in episodes if one.kind == "search"]
    if len(walks) < 2:
        return []
    x, each = (0.0, float(len(walks) + 1)), -(-len(walks) // MOST_POINTS)
    ends = Plot(x, (0, 1.05), "Accuracy and sparsity at the end of every episode of the search")
    earned = Plot(x, around(sum(one.rewards) for one in walks), "Return of every episode of the search", height=220)
    first = [n for n, one in enumerate(walks) if n == 0 or _search_of(walks[n - 1]) != _search_of(one)]
    for plot in (ends, earned):
        for start, end in zip(first, [*first[1:], len(walks)], strict=True):
            plot.shade(start + 0.5, min(start + exploring, end) + 0.5, "exploring" if start == 0 else "")
    ends.axes("episode", "share", percent, "{:g}".format, counted=True)
    earned.axes("episode", "return", counted=True)

    def drawn(value: Callable[[Episode], float]) -> list[tuple[float, float]]:
        parts = [range(start, min(start + each, len(walks))) for start in range(0, len(walks), each)]
        return [(fmean(n + 1 for n in part), fmean(value(walks[n]) for n in part)) for part in parts]

    ends.series(drawn(lambda one: one.accuracies[-1]), "accuracy, reward split", 0)
    ends.series(drawn(lambda one: one.sparsities[-1]), "sparsity", 1)
    earned.line(drawn(lambda one: sum(one.rewards)), None, 0)
    return [ends, earned]


def _search_of(episode: Episode) -> tuple[int, int]:
    return episode.point, episode.stage


def by_layer(candidates: Sequence[Candidate]) -> list[Plot]:
    """The sparsity of each layer, in the order of the walk, for candidates of one target.

    Lines over each other where the layers are few; of many layers a picture for each candidate, below each other.
    """
    layers = len(candidates[0].layers)
    x, order = (0.5, layers + 0.5), "layer, in the order of the walk"
    if layers > MOST_LINES:
        plots = []
        for one in candidates:
            plot = Plot(x, (0, 1), f"Sparsity of every layer, {title_of(one)}", height=130)
            plot.axes(order, f"sparsity: {title_of(one)}", percent, "{:g}".format, counted=True)
            plots.append(plot.bars([layer.sparsity for layer in one.layers]))
        return plots
    together = Plot(x, (0, 1.05), "Sparsity of every layer, for every candidate")
    together.axes(order, "sparsity", percent, "{:g}".format, counted=True)
    for style, one in enumerate(candidates):
        points = [(float(n), layer.sparsity) for n, layer in enumerate(one.layers, start=1)]
        together.series(points, title_of(one), style)
    return [together]


def histograms(layer: LayerWeights) -> list[tuple[str, Spread, Plot]]:
    """A layer's weights at the paper's three stages, on one set of bins."""
    stages = (("dense", layer.dense), ("pruned", layer.pruned), ("fine-tuned", layer.fine_tuned))
    return [
        (stage, spread, histogram((layer.low, layer.high), spread.counts, f"Weights of {layer.name}, {stage}"))
        for stage, spread in stages
    ]


def histogram(edges: tuple[float, float], counts: Sequence[int], title: str) -> Plot:
    """How many weights are how large. One tall bar must not flatten the rest: heights are roots, ticks are counts."""
    heights = [count**0.5 for count in counts]
    plot = Plot(edges, (0, max([*heights, 1.0])), title, width=300, height=160)
    plot.axes("weight", "weights", lambda root: f"{root * root:,.0f}", "{:.2g}".format)
    return plot.bars(heights)
