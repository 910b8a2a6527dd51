"""The pictures of the dashboard, drawn while a job runs: each a function of what is known by now."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from purlkit import published
from purlkit.report.charts import over_sparsity, percent, title_of
from purlkit.report.svg import Plot, Point, around
from purlkit.results import Candidate, Result
from purlkit.spec import JobSpec

SHARES = (0.0, 1.1)  # with room for the name of the axis above 100 %


@dataclass(frozen=True, kw_only=True)
class Walk:
    """An episode as far as charts need it."""

    index: int
    accuracy: float
    sparsity: float
    earned: float
    actions: tuple[int, ...]


def _plane(x: Point, y: Point, title: str) -> Plot:
    """As wide as it is shown on a desktop, two side by side: text keeps its size."""
    return Plot(x, y, title, width=580, height=300)


def learning(walks: Sequence[Walk], spec: JobSpec) -> list[Plot]:
    """How every episode of the search ended and what it earned, over all episodes that are to come."""
    if not walks:
        return []
    episodes, searches = spec.search.episodes, len(spec.sparsities)
    x = (0.0, float(max(episodes * searches, walks[-1].index + 1) + 1))
    says = "Accuracy and sparsity at the end of every episode, and how much was left to chance"
    ends = _plane(x, SHARES, says)
    earned = _plane(x, around(walk.earned for walk in walks), "Return of every episode of the search")
    agent = spec.search.agent
    for nth in range(searches):
        start = nth * episodes
        end = start + max(1.0, agent.exploration_fraction * episodes)
        ends.shade(start, end, "")
        earned.shade(start, end, "")
        chance = [(start, 1.0), (end, agent.final_epsilon), (start + episodes, agent.final_epsilon)]
        ends.line(chance, "chance of a random cut" if nth == 0 else None, 2)
    ends.axes("episode", "share", percent, "{:g}".format, counted=True)
    earned.axes("episode", "return", counted=True)
    for plot, name, style, said in (
        (ends, "accuracy, reward split", 0, [walk.accuracy for walk in walks]),
        (ends, "sparsity", 1, [walk.sparsity for walk in walks]),
        (earned, None, 0, [walk.earned for walk in walks]),
    ):
        _curve(plot, [(walk.index + 1, value) for walk, value in zip(walks, said, strict=True)], name, style)
    return [ends, earned]


def _curve(plot: Plot, points: Sequence[Point], name: str | None, style: int) -> None:
    """A line, and as long as there are few points a mark for each that says its numbers."""
    plot.line(points, name, style)
    if len(points) <= 100:
        plot.marks([(point, f"episode {point[0]:g}: {point[1]:.4g}") for point in points], None, style)


def policy(series: Mapping[str, Sequence[float]], unit: str) -> Plot | None:
    """Where each layer is cut, as alpha, by each of several policies."""
    series = {name: alphas for name, alphas in series.items() if alphas}
    if not series:
        return None
    layers = max(map(len, series.values()))
    alphas = [alpha for row in series.values() for alpha in row]
    plot = _plane((0.5, layers + 0.5), around([0.0, *alphas]), "Alpha of every layer")
    plot.axes("layer, in the network's order", f"alpha, {unit}", counted=True)
    for style, (name, row) in enumerate(series.items()):
        points = [(float(nth), alpha) for nth, alpha in enumerate(row, start=1)]
        plot.line(points, name, style)
        plot.marks([(point, f"{name}, layer {point[0]:g}: {point[1]:.3g}") for point in points], None, style)
    return plot


def racing(rungs: Mapping[str, Sequence[Point]]) -> Plot | None:
    """Accuracy of every candidate at each rung that it has reached, over epochs of fine-tuning."""
    points = [point for row in rungs.values() for point in row]
    if not points:
        return None
    x, y = around(x for x, _ in points), around(y for _, y in points)
    plot = _plane(x, y, "Accuracy of the candidates as they race")
    plot.axes("epochs of fine-tuning", "accuracy, select split", percent, "{:g}".format, counted=True)
    for style, (name, row) in enumerate(rungs.items()):
        plot.line(row, None, style)
        plot.marks([(point, f"{name}: {percent(point[1])} after {point[0]:g}") for point in row], name, style)
    return plot


def by_layer(candidates: Sequence[Candidate]) -> Plot | None:
    """What every candidate removed from every layer."""
    if not candidates or not candidates[0].layers:
        return None
    plot = Plot((0.5, len(candidates[0].layers) + 0.5), SHARES, "Sparsity of every layer, of all candidates")
    plot.axes("layer, in the network's order", "sparsity", percent, "{:g}".format, counted=True)
    for style, one in enumerate(candidates):
        points = [(float(nth), layer.sparsity) for nth, layer in enumerate(one.layers, start=1)]
        says = [f"{title_of(one)}, {layer.name}: {percent(layer.sparsity)}" for layer in one.layers]
        plot.line(points, None, style)
        plot.marks(list(zip(points, says, strict=True)), title_of(one), style)
    return plot


def overlaid(curves: Mapping[str, Sequence[Point]], title: str, y_name: str) -> Plot | None:
    """One curve for each of several jobs."""
    points = [point for row in curves.values() for point in row]
    if not points:
        return None
    shares = y_name != "return"
    y = SHARES if shares else around(y for _, y in points)
    plot = _plane((0.0, max(x for x, _ in points) + 1), y, title)
    plot.axes("episode", y_name, percent if shares else "{:g}".format, "{:g}".format, counted=True)
    for style, (name, row) in enumerate(curves.items()):
        plot.line(row, name if len(row) > 1 else None, style)
        if len(row) == 1:
            plot.marks([(row[0], name)], name, style)
    return plot


def front(result: Result, spec: JobSpec) -> Plot:
    """Accuracy over sparsity of all candidates, beside what the papers report of this network on these data."""
    known = published.find(model=spec.model.name, data=spec.dataset.name) if spec.dataset is not None else ()
    return over_sparsity(result.candidates, result.accuracy.dense, known)
