"""The report: one file that says all of it, opens from a disk, and that nobody's words can break."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from xml.etree import ElementTree

import pytest

from purlkit.published import find
from purlkit.report import page
from purlkit.report.charts import by_layer, histogram, learning, over_flops, over_sparsity
from purlkit.report.page import render
from purlkit.report.svg import Plot, around, ticks
from purlkit.results import Candidate, Episode, LayerWeights, Result, Spread, WeightsReport
from purlkit.spec import Search
from services.testing import a_blob, a_result, a_spec, an_episode


def a_candidate(method: str, sparsity: float, accuracy: float) -> Candidate:
    told = {"method": method, "sparsity": sparsity, "accuracy": accuracy}
    return a_result(a_blob(b"network")).candidates[0].model_copy(update=told)


def a_report(**changes: object) -> str:
    result: Result = a_result(a_blob(b"network")).model_copy(update={"splits": {"test": 297}, **changes})
    episodes = [Episode.model_validate(an_episode(k, accuracy=k / 10).data, strict=False) for k in range(10)]
    return render("job_1", a_spec(name="mine"), result, episodes)


def test_it_says_the_verdict_first_and_everything_it_stands_on() -> None:
    html = a_report(verdict="LAMP beat PuRL by 1.4 points")

    said = html[html.index("<h1>") :]
    assert said.index("LAMP beat PuRL by 1.4 points") < said.index("Candidates")
    for fact in ("297 test images", "search.agent.gamma", a_spec(name="mine").fingerprint, "global magnitude", "fc"):
        assert fact in said


def test_it_asks_nothing_of_a_network_and_runs_no_script() -> None:
    html = a_report()

    assert re.findall(r"(?:src=|href|url\(|@import)", html) == []
    assert "<script" not in html
    assert "default-src &#39;none&#39;" in html or "default-src 'none'" in html


def test_it_says_what_an_episode_of_the_search_did() -> None:
    result = a_result(a_blob(b"network")).model_copy(update={"splits": {"test": 297}})
    episodes = [Episode.model_validate(an_episode(k).data, strict=False) for k in range(3)]
    budget = a_spec().model_copy(update={"search": Search.model_validate({"algorithm": "purl-budget"})})

    assert "Each episode cuts every layer once and retrains after each layer." in a_report()
    assert "Each episode changes what every layer keeps once, at one total, and retrains at its end." in render(
        "job_1", budget, result, episodes
    )


def test_what_others_wrote_is_text() -> None:
    assert "<script>" not in a_report(verdict="<script>alert(1)</script>")


OPTIONAL = {"td", "th", "tr", "thead", "tbody", "li"}  # HTML lets their ends be left out
EMPTY = {"meta", "path", "rect", "circle", "polyline", "polygon"}


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        if tag not in EMPTY | OPTIONAL:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: object) -> None:  # noqa: ARG002
        assert tag in EMPTY

    def handle_endtag(self, tag: str) -> None:
        if tag not in OPTIONAL:
            assert self.open.pop() == tag


def test_its_tags_are_whole() -> None:
    tags = Tags()

    tags.feed(a_report())

    assert tags.open == []


def test_published_numbers_stand_where_the_papers_put_them() -> None:
    rows = find(model="resnet50", data="imagenet", method="global")
    plot = over_sparsity([a_candidate("lamp", 0.8, 0.7)], 0.77, rows).__html__()

    assert plot.count("Global MP: global magnitude (one-shot)") == 4
    assert "76.84 %" in plot
    assert over_flops([a_candidate("lamp", 0.8, 0.7)], 0.77, rows) is None  # nobody counted ours


def test_one_that_diverged_is_in_the_table_with_its_reason_and_in_no_picture() -> None:
    lost = a_candidate("uniform", 0.9, 0.1).model_copy(update={"diverged": "in epoch 3 of 10"})
    html = a_report(candidates=(a_candidate("global", 0.9, 0.9), lost))

    assert "uniform pruning (diverged)" in html
    assert "uniform pruning: in epoch 3 of 10" in html
    assert "uniform" not in over_sparsity([lost, a_candidate("lamp", 0.9, 0.9)], 0.95).__html__()


def test_each_search_explores_anew_and_ten_thousand_episodes_are_drawn_as_means() -> None:
    def walk(index: int, point: int) -> Episode:
        return Episode.model_validate(an_episode(index).data | {"point": point}, strict=False)

    two = learning([walk(k, k // 5) for k in range(10)], exploring=3)[0].__html__()
    many = learning([walk(k, 0) for k in range(10_000)], exploring=7000)[0].__html__()

    assert two.count('class="shade"') == 2
    assert two.count(">exploring<") == 1
    assert len(many) < 50_000


def test_many_layers_have_a_picture_for_each_candidate() -> None:
    (layer,) = a_candidate("lamp", 0.9, 0.9).layers
    wide = [a_candidate(name, 0.9, 0.9).model_copy(update={"layers": (layer,) * 116}) for name in ("lamp", "erk")]

    assert len(by_layer(wide)) == 2
    assert len(by_layer([a_candidate("lamp", 0.9, 0.9)] * 2)) == 1


def weights_of(layers: int) -> WeightsReport:
    spread = Spread(weights=9, counts=tuple(range(64)), mean=0.0, bimodality=None)
    rows = [
        LayerWeights(name=f"layer{i}", low=-1.0, high=1.0, dense=spread, pruned=spread, fine_tuned=spread)
        for i in range(layers)
    ]
    return WeightsReport(method="lamp", layers=tuple(rows))


def test_a_report_that_would_be_too_large_leaves_layers_out_and_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(page, "MOST_BYTES", 200_000)
    result = a_result(a_blob(b"network")).model_copy(update={"splits": {"test": 297}})

    small = render("job_1", a_spec(), result, [], weights_of(10))
    large = render("job_1", a_spec(), result, [], weights_of(60))

    assert small.count('<details name="weights"') == 10
    assert large.count('<details name="weights"') == 50
    assert "These are the 50 largest of 60 layers" in large


@pytest.mark.parametrize(
    ("low", "high", "expected"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0.86, 0.94, [0.86, 0.88, 0.9, 0.92, 0.94]),
        (-9, -6, [-9, -8.5, -8, -7.5, -7, -6.5, -6]),
        (0, 56, [0, 10, 20, 30, 40, 50]),
    ],
)
def test_ticks_are_round_and_within(low: float, high: float, expected: list[float]) -> None:
    assert ticks(low, high) == expected


def test_a_range_of_equal_values_still_has_a_width() -> None:
    for values in ([0.5, 0.5], [0.0]):
        low, high = around(values)
        assert low < values[0] < high


def test_points_lie_where_their_numbers_say() -> None:
    plot = Plot((0, 10), (0, 1), "a plot", width=72 + 100, height=54 + 100)

    assert plot.at((0, 0)) == (56, 114)
    assert plot.at((10, 1)) == (156, 14)
    assert plot.at((5, 0.25)) == (106, 89)


def test_a_plot_alone_holds_its_style_and_its_legend() -> None:
    walks = [Episode.model_validate(an_episode(k).data, strict=False) for k in range(10)]
    plot = learning(walks, exploring=3)[0]

    drawn = ElementTree.fromstring(plot.alone(".c0{color:red}"))

    said = ["".join(text.itertext()) for text in drawn.iter("{http://www.w3.org/2000/svg}text")]
    assert {"accuracy, reward split", "sparsity"} <= set(said)
    assert drawn.findtext("{http://www.w3.org/2000/svg}style") == ".c0{color:red}"


def test_pictures_of_little_are_drawn_too() -> None:
    assert learning([], 0) == []
    assert "<svg" in over_sparsity([a_candidate("lamp", 0.9, 0.9)], dense=0.9).__html__()
    assert 'class="area' in histogram((-1, 1), [0, 4, 0], "layer").__html__()
