"""Plots as SVG text: axes, lines, marks and words, drawn here so that a report needs no script and no network.

Every series differs by mark or dash as well as by colour, and every mark says its numbers when pointed at.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from markupsafe import Markup, escape

Point = tuple[float, float]

LEFT, RIGHT, TOP, BOTTOM = 56, 16, 14, 40

# Told apart by the shape alone; each is drawn around (0, 0) within 5 units.
SHAPES = (
    '<circle r="4.5"/>',
    '<rect x="-4" y="-4" width="8" height="8"/>',
    '<path d="M0-5.5L5 4H-5Z"/>',
    '<path d="M0-5.5L5.5 0 0 5.5-5.5 0Z"/>',
    '<path d="M0 5.5L5-4H-5Z"/>',
    '<path d="M-5 0H5M0-5V5" fill="none" stroke-width="2.5"/>',
    '<path d="M-4-4L4 4M4-4L-4 4" fill="none" stroke-width="2.5"/>',
    '<circle r="4" fill="none" stroke-width="2.5"/>',
    '<rect x="-3.5" y="-3.5" width="7" height="7" fill="none" stroke-width="2.5"/>',
)
DASHES = ("", "6 3", "2 3", "8 3 2 3")
CHARACTER = 7.4  # about as wide as one of the legend's is
COLOURS = 9  # classes c0 … c8, coloured by the page's style sheet


@dataclass
class Plot:
    """A plane with axes, filled from the back to the front."""

    x: tuple[float, float]
    y: tuple[float, float]
    title: str  # what a screen reader says
    width: int = 720
    height: int = 320
    _drawn: list[Markup] = field(default_factory=list)
    _legend: list[tuple[Markup, str]] = field(default_factory=list)  # a sample, and what it stands for

    def at(self, point: Point) -> Point:
        """Where a point lies in the picture."""
        (x0, x1), (y0, y1) = self.x, self.y
        across = (point[0] - x0) / (x1 - x0)
        up = (point[1] - y0) / (y1 - y0)
        return LEFT + across * (self.width - LEFT - RIGHT), self.height - BOTTOM - up * (self.height - TOP - BOTTOM)

    def axes(
        self,
        x_name: str,
        y_name: str,
        say: Callable[[float], str] = "{:g}".format,
        say_x: Callable[[float], str] | None = None,
        counted: bool = False,
    ) -> Plot:
        """With `counted` the x axis is of whole numbers."""
        # A tick for every so many units of the picture: a small one has few.
        for value in ticks(*self.x, most=max(2, self.width // 90), least=float(counted)):
            x, bottom = self.at((value, self.y[0]))
            self._add(f'<path class="grid" d="M{x:.1f} {TOP}V{bottom:.1f}"/>')
            self._text(x, bottom + 16, (say_x or say)(value), "middle")
        for value in ticks(*self.y, most=max(2, self.height // 50)):
            left, y = self.at((self.x[0], value))
            self._add(f'<path class="grid" d="M{left:.1f} {y:.1f}H{self.width - RIGHT}"/>')
            self._text(left - 6, y + 4, say(value), "end")
        self._text((LEFT + self.width - RIGHT) / 2, self.height - 4, x_name, "middle")
        self._text(LEFT, TOP - 4, y_name, "start")
        return self

    def line(self, points: Sequence[Point], name: str | None = None, style: int = 0) -> Plot:
        if len(points) > 1:
            path = " ".join(f"{x:.1f},{y:.1f}" for x, y in map(self.at, points))
            dash = DASHES[style % len(DASHES)]
            self._add(f'<polyline class="line c{style % COLOURS}" stroke-dasharray="{dash}" points="{path}"/>')
            if name is not None:
                sample = f'<path class="line c{style % COLOURS}" stroke-dasharray="{dash}" d="M0 6H26"/>'
                self._legend.append((Markup(sample), name))
        return self

    def series(self, points: Sequence[Point], name: str, style: int = 0, most_marks: int = 12) -> Plot:
        """A line with marks, so that many can be told apart: each has its marks at points of its own."""
        self.line(points, None, style)
        step = -(-len(points) // most_marks)
        self.marks([(point, name) for point in points[style % step :: step]], None, style)
        dash, shape = DASHES[style % len(DASHES)], SHAPES[style % len(SHAPES)]
        line = f'<path class="line c{style % COLOURS}" stroke-dasharray="{dash}" d="M0 6H28"/>'
        mark = f'<g class="mark c{style % COLOURS}" transform="translate(14 6)">{shape}</g>'
        self._legend.append((Markup(line + mark), name))
        return self

    def marks(self, points: Iterable[tuple[Point, str]], name: str | None = None, style: int = 0) -> Plot:
        """Each point with what it says when pointed at."""
        shape = SHAPES[style % len(SHAPES)]
        for point, says in points:
            x, y = self.at(point)
            self._drawn.append(
                Markup('<g class="mark c{}" transform="translate({:.1f} {:.1f})"><title>{}</title>{}</g>').format(
                    style % COLOURS, x, y, says, Markup(shape)
                )
            )
        if name is not None:
            sample = f'<g class="mark c{style % COLOURS}" transform="translate(13 6)">{shape}</g>'
            self._legend.append((Markup(sample), name))
        return self

    def bars(self, values: Sequence[float], style: int = 0) -> Plot:
        """Side by side over the whole width, from the bottom up."""
        step = (self.x[1] - self.x[0]) / len(values)
        left, bottom = self.at((self.x[0], self.y[0]))
        path = f"M{left:.1f} {bottom:.1f}"
        for number, value in enumerate(values, start=1):
            x, y = self.at((self.x[0] + number * step, value))
            path += f"V{y:.1f}H{x:.1f}"
        self._add(f'<path class="area c{style % COLOURS}" d="{path}V{bottom:.1f}Z"/>')
        return self

    def shade(self, from_: float, to: float, says: str) -> Plot:
        """A part of the x axis, set off from the rest."""
        (left, top), (right, bottom) = self.at((from_, self.y[1])), self.at((to, self.y[0]))
        self._add(
            f'<rect class="shade" x="{left:.1f}" y="{top:.1f}" width="{right - left:.1f}" height="{bottom - top:.1f}"/>'
        )
        self._text(left + 4, top + 12, says, "start")
        return self

    def __html__(self) -> str:
        items = Markup("").join(_sample(*one) for one in self._legend)
        legend = Markup('<ul class="legend">{}</ul>').format(items) if items else ""
        return str(
            Markup('<figure><svg role="img" viewBox="0 0 {} {}"><title>{}</title>{}</svg>{}</figure>').format(
                self.width, self.height, self.title, Markup("").join(self._drawn), legend
            )
        )

    def alone(self, style: str) -> str:
        """As a file of its own: with its style, its background, and the legend inside it."""
        legend, x, y = Markup(""), float(LEFT), self.height + 14
        for sample, name in self._legend:
            wide = 40 + CHARACTER * len(name)
            if x > LEFT and x + wide > self.width:
                x, y = float(LEFT), y + 20
            legend += Markup('<g transform="translate({:.0f} {})">{}<text x="34" y="10">{}</text></g>').format(
                x, y - 10, sample, name
            )
            x += wide
        height = y + 14 if self._legend else self.height
        picture = Markup(
            '<svg xmlns="http://www.w3.org/2000/svg" role="img" viewBox="0 0 {0} {1}" width="{0}" height="{1}">'
            '<title>{2}</title><style>{3}</style><rect class="paper" width="{0}" height="{1}"/>{4}{5}</svg>\n'
        )
        return str(picture.format(self.width, height, self.title, style, Markup("").join(self._drawn), legend))

    def _add(self, ours: str) -> None:
        self._drawn.append(Markup(ours))

    def _text(self, x: float, y: float, text: str, anchor: str) -> None:
        self._drawn.append(Markup('<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>').format(x, y, anchor, text))


def ticks(low: float, high: float, most: int = 6, least: float = 0) -> list[float]:
    """Round numbers within the range, at most so many, and at least so far from each other."""
    raw = max((high - low) / most, least)
    power = 10.0 ** math.floor(math.log10(raw))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw * (1 - 1e-9))
    first = math.ceil(low / step - 1e-9)
    count = math.floor(high / step + 1e-9) - first + 1
    return [round((first + number) * step, 12) for number in range(count)]


def around(values: Iterable[float], margin: float = 0.05) -> tuple[float, float]:
    """A range that holds all values, with room at both ends."""
    held = list(values)
    low, high = min(held), max(held)
    room = (high - low) * margin or max(abs(high) * margin, 0.01)
    return low - room, high + room


def _sample(drawn: Markup, name: str) -> Markup:
    return Markup('<li><svg width="28" height="12" aria-hidden="true">{}</svg> {}</li>').format(drawn, escape(name))
