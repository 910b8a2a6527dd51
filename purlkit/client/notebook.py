"""A job in a notebook: a small table, and the report's pictures of what is known so far. Text and SVG, no script."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from markupsafe import Markup

from purlkit.client.records import JobRecord
from purlkit.report.charts import over_sparsity, percent, title_of
from purlkit.report.svg import Plot

# For those classes that the pictures have: a notebook brings no style sheet, and may be light or dark.
STYLE = Markup(
    "<style>.purl-job figure{margin:.5em 0;max-width:46em}.purl-job svg{max-width:100%;height:auto}"
    ".purl-job svg text{font:12px sans-serif;fill:currentColor;opacity:.75}"
    ".purl-job .grid{stroke:currentColor;opacity:.2}.purl-job .shade{fill:currentColor;opacity:.06}"
    ".purl-job .line{fill:none;stroke:currentColor;stroke-width:1.8}"
    ".purl-job .mark{fill:currentColor;stroke:currentColor}.purl-job .mark [fill=none]{fill:none}"
    ".purl-job .legend{list-style:none;padding:0;margin:0}.purl-job .legend li{display:inline-block;margin-right:1em}"
    ".purl-job .c0{color:#2f81f7}.purl-job .c1{color:#d4762c}.purl-job .c2{color:#7d8590}.purl-job .c3{color:#2da44e}"
    ".purl-job .c4{color:#9a6cf0}.purl-job .c5{color:#e5534b}.purl-job .c6{color:#b8860b}.purl-job .c7{color:#d55fa6}"
    ".purl-job .c8{color:#1b9aaa}</style>"
)


def shown(record: JobRecord, walks: Mapping[int, tuple[float, float]]) -> str:
    """`walks` are the episodes that were seen: by the number of its event, how accurate and how sparse each ended."""
    cells = Markup("").join(
        Markup("<tr><th style='text-align:left'>{}</th><td style='text-align:left'>{}</td></tr>").format(name, value)
        for name, value in _facts(record)
    )
    plots = Markup("").join(Markup(plot.__html__()) for plot in _plots(record, walks))
    return str(Markup("<div class='purl-job'>{}<table>{}</table>{}</div>").format(STYLE, cells, plots))


def _facts(record: JobRecord) -> list[tuple[str, str]]:
    rows = [("job", record.id), ("name", record.name), ("state", record.state)]
    rows += [("model", record.asked("model", "name")), ("sparsity", record.asked("targets", "sparsity"))]
    rows += [("multiply-adds", record.asked("targets", "flops")), ("waits for", record.pending_reason)]
    if record.progress is not None and not record.ended:
        rows.append(("progress", f"{record.progress.fraction:.0%}, {record.progress.phase}"))
    if record.error is not None:
        rows.append(("error", record.error.message))
    if record.result is not None:
        rows.append(("dense", percent(record.result.accuracy.dense)))
        rows += [
            (title_of(one), "diverged" if one.diverged else f"{percent(one.accuracy)} at {percent(one.sparsity)}")
            for one in record.result.candidates
        ]
        rows.append(("verdict", record.result.verdict))
    return [(name, str(value)) for name, value in rows if value is not None]


def _plots(record: JobRecord, walks: Mapping[int, tuple[float, float]]) -> list[Plot]:
    plots = [_curve([walks[seq] for seq in sorted(walks)])] if len(walks) > 1 else []
    if record.result is not None and any(one.diverged is None for one in record.result.candidates):
        plots.append(over_sparsity(record.result.candidates, record.result.accuracy.dense))
    return plots


def _curve(walks: Sequence[tuple[float, float]]) -> Plot:
    plot = Plot((0.0, len(walks) + 1.0), (0.0, 1.05), f"Accuracy and sparsity after each of {len(walks)} episodes")
    plot.axes("episode", "share", percent, "{:g}".format, counted=True)
    for style, name in enumerate(("accuracy, reward split", "sparsity")):
        plot.series([(float(nth), walk[style]) for nth, walk in enumerate(walks, start=1)], name, style)
    return plot
