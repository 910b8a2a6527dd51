"""Draws the figures of the documents from the files of a finished job, with the report's own charts.

purl download JOB --to out/
python -m tools.figures out/ docs/figures
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from pyarrow import parquet

from purlkit.report.charts import by_layer, histograms, learning
from purlkit.report.svg import Plot
from purlkit.results import EPISODES, RESULT, WEIGHTS, Episode, Result, WeightsReport
from purlkit.spec import Agent

# As the report's own sheet has it, and as little of it as a picture needs.
STYLE = """
:root{color-scheme:light dark;--dim:#59636e;--rule:#d1d9e0;--paper:#fff;--shade:#f1f4f7}
text{font:12px system-ui,sans-serif;fill:var(--dim)}.paper{fill:var(--paper)}.grid{stroke:var(--rule)}
.shade{fill:var(--shade)}.line{fill:none;stroke:currentColor;stroke-width:1.8}.area{fill:currentColor;opacity:.6}
.mark{fill:currentColor;stroke:currentColor}.mark [fill=none]{fill:none}
.c0{color:#0969da}.c1{color:#bc4c00}.c2{color:#57606a}.c3{color:#1a7f37}.c4{color:#8250df}.c5{color:#cf222e}
.c6{color:#9a6700}.c7{color:#bf3989}.c8{color:#0e7490}
@media(prefers-color-scheme:dark){:root{--dim:#9198a1;--rule:#3d444d;--paper:#0d1117;--shade:#1b222b}
.c0{color:#58a6ff}.c1{color:#f0883e}.c2{color:#9198a1}.c3{color:#3fb950}.c4{color:#bc8cff}.c5{color:#ff7b72}
.c6{color:#d29922}.c7{color:#f778ba}.c8{color:#39c5cf}}
"""


def main(files: Path, figures: Path) -> None:
    figures.mkdir(parents=True, exist_ok=True)
    for name, plot in plots(files):
        path = figures / f"{name}.svg"
        path.write_text(plot.alone(STYLE), encoding="utf-8")
        print(f"{path}  {path.stat().st_size:,} bytes")


def plots(files: Path) -> Iterator[tuple[str, Plot]]:
    """Of a job with one target and the default exploration."""
    result = Result.model_validate_json((files / RESULT).read_bytes())
    episodes = [Episode.model_validate(row, strict=False) for row in parquet.read_table(files / EPISODES).to_pylist()]
    walks = sum(one.kind == "search" for one in episodes)
    ends, earned = learning(episodes, round(Agent().exploration_fraction * walks))
    yield "episodes", ends
    yield "returns", earned
    (layers,) = by_layer(result.candidates)
    yield "layers", layers
    weights = WeightsReport.model_validate_json((files / WEIGHTS).read_bytes())
    largest = max(weights.layers, key=lambda layer: layer.dense.weights)
    for stage, _, plot in histograms(largest):
        yield f"weights-{stage}", plot


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
