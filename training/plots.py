"""Line plots that are drawn again every few seconds while a run is watched, as SVG.

Written by hand because matplotlib, which draws the other pages' pictures, takes a tenth of a second for each; six of
them every three seconds for everybody who watches is too much for the web process. The colours are the same.
"""

import math
from collections.abc import Sequence
from html import escape

from django.utils.translation import gettext as _

from activelearning.plots import THEMES

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 480, 250
LEFT, RIGHT, TOP, BOTTOM = 62, 14, 12, 40
LETTER, ROW = 7.3, 18  # how wide a letter of the legend is taken to be, how high one of its rows
MOST = 400  # points of a line; more are averaged


def line_plot(
    lines: Sequence[tuple[str, Points]], *, x: str, y: str, theme: str = "light", diagonal: bool = False
) -> str:
    """An SVG of some lines over one pair of axes.

    lines     (name, points in ascending x); points that are not finite are left out
    diagonal  draws the line y = x, for calibration
    """
    paper = _Paper(theme)
    kept = [(name, _thinned(_finite(points))) for name, points in lines]
    everything = [point for _name, points in kept for point in points]
    if not everything:
        paper.write(WIDTH / 2, HEIGHT / 2, _("nothing to draw yet"), anchor="middle")
        return paper.document(_("%(y)s against %(x)s") % {"y": y, "x": x})
    places, top = _legend([name for name, _points in kept])
    xs, ys = _ticks([a for a, _b in everything]), _ticks([b for _a, b in everything])
    across = _Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = _Scale(ys[0], ys[-1], HEIGHT - BOTTOM, top)
    for tick in ys:
        paper.draw_line(LEFT, up(tick), WIDTH - RIGHT, up(tick))
        paper.write(LEFT - 8, up(tick) + 4, _number(tick), anchor="end")
    for tick in xs:
        paper.write(across(tick), HEIGHT - BOTTOM + 18, _number(tick), anchor="middle")
    paper.write((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x, anchor="middle")
    if diagonal:
        low, high = max(xs[0], ys[0]), min(xs[-1], ys[-1])
        paper.draw_line(across(low), up(low), across(high), up(high), is_dashed=True)
    for number, ((name, points), place) in enumerate(zip(kept, places, strict=True)):
        paper.draw_points([(across(a), up(b)) for a, b in points], number=number)
        paper.draw_key(*place, name, number=number)
    return paper.document(_("%(y)s against %(x)s") % {"y": y, "x": x})


class _Paper:
    """SVG elements, one after the other. Colours are attributes: a picture has no style sheet."""

    def __init__(self, theme: str) -> None:
        self.theme = THEMES[theme]
        self.colours = (self.theme.accent, self.theme.second, self.theme.muted, self.theme.ink)
        self.parts: list[str] = []

    def write(self, x: float, y: float, text: str, *, anchor: str) -> None:
        self.parts.append(
            f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{self.theme.muted}">{escape(text)}</text>'
        )

    def draw_line(self, x1: float, y1: float, x2: float, y2: float, *, is_dashed: bool = False) -> None:
        look = f'stroke="{self.theme.muted}" stroke-dasharray="4 4"' if is_dashed else f'stroke="{self.theme.line}"'
        self.parts.append(f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" {look}/>')

    def draw_points(self, points: Points, *, number: int) -> None:
        colour = self.colours[number % len(self.colours)]
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 12:
            self.parts += [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{colour}"/>' for x, y in points]

    def draw_key(self, x: float, y: float, name: str, *, number: int) -> None:
        colour = self.colours[number % len(self.colours)]
        self.parts.append(f'<rect x="{x:.1f}" y="{y - 6:.1f}" width="12" height="4" fill="{colour}"/>')
        self.write(x + 17, y, name, anchor="start")

    def document(self, title: str) -> str:
        return (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}"'
            f' height="{HEIGHT}" font-family="system-ui, sans-serif" font-size="13" role="img">'
            f"<title>{escape(title)}</title>{''.join(self.parts)}</svg>"
        )


def _legend(names: Sequence[str]) -> tuple[list[tuple[float, float]], float]:
    """Where each name of the legend stands, in rows, and where the plot below it may begin."""
    x, y, places = float(LEFT), TOP + 6.0, []
    for name in names:
        width = 30 + LETTER * len(name)
        if x > LEFT and x + width > WIDTH - RIGHT:
            x, y = float(LEFT), y + ROW
        places.append((x, y))
        x += width
    return places, y + ROW * 0.8


class _Scale:
    """From numbers to places on the paper."""

    def __init__(self, low: float, high: float, start: float, stop: float) -> None:
        self.low, self.start = low, start
        self.factor = (stop - start) / (high - low)

    def __call__(self, value: float) -> float:
        return self.start + (value - self.low) * self.factor


def _finite(points: Points) -> list[tuple[float, float]]:
    return [(float(a), float(b)) for a, b in points if math.isfinite(a) and math.isfinite(b)]


def _thinned(points: list[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST points: means of neighbours."""
    size = math.ceil(len(points) / MOST)
    if size <= 1:
        return points
    groups = [points[begin : begin + size] for begin in range(0, len(points), size)]
    return [(sum(a for a, _ in one) / len(one), sum(b for _, b in one) / len(one)) for one in groups]


def _ticks(values: Sequence[float]) -> list[float]:
    """Four to seven round numbers around the values."""
    low, high = min(values), max(values)
    if high - low < 1e-12 * max(1.0, abs(high)):
        low, high = low - (abs(low) or 1.0) * 0.5, high + (abs(high) or 1.0) * 0.5
    rough = (high - low) / 5
    magnitude = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= rough * 0.999)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [number * step for number in range(first, last + 1)]


def _number(value: float) -> str:
    text = f"{value:.6g}"
    return "0" if text == "-0" else text
