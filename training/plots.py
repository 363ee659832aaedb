"""Line plots as SVG pictures, small enough to be drawn for every request.

Written by hand because matplotlib takes a second to import and a quarter of one to draw, in the web process. Colours
are attributes that read well on light and dark paper: a picture knows nothing of the page's style sheet.
"""

import math
from collections.abc import Sequence
from html import escape

Points = Sequence[tuple[float, float]]

WIDTH, HEIGHT = 560, 260
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 34, 40
INK, LINE = "#7a828c", "#8a929c"
COLOURS = ("#3f7d58", "#c2622d", "#4f6db8", "#a34a78")
MOST = 400  # points of a line; more are averaged


def line_plot(lines: Sequence[tuple[str, Points]], *, x: str, y: str, diagonal: bool = False) -> str:
    """An SVG of some lines over one pair of axes.

    lines     (name, points in ascending x); points that are not finite are left out
    diagonal  draws the line y = x, for calibration
    """
    kept = [(name, _thinned(_finite(points))) for name, points in lines]
    everything = [point for _, points in kept for point in points]
    if not everything:
        return _document([_text(WIDTH / 2, HEIGHT / 2, "nothing to draw yet", anchor="middle")], f"{y} against {x}")
    xs, ys = _ticks([a for a, _ in everything]), _ticks([b for _, b in everything])
    across = _Scale(xs[0], xs[-1], LEFT, WIDTH - RIGHT)
    up = _Scale(ys[0], ys[-1], HEIGHT - BOTTOM, TOP)
    parts = []
    for tick in ys:
        parts.append(
            f'<line x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{up(tick):.1f}" y2="{up(tick):.1f}" stroke="{LINE}"'
            ' stroke-opacity=".28"/>'
        )
        parts.append(_text(LEFT - 8, up(tick) + 4, _number(tick), anchor="end"))
    parts += [_text(across(tick), HEIGHT - BOTTOM + 18, _number(tick), anchor="middle") for tick in xs]
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 4, x, anchor="middle"))
    if diagonal:
        low, high = max(xs[0], ys[0]), min(xs[-1], ys[-1])
        parts.append(
            f'<line x1="{across(low):.1f}" y1="{up(low):.1f}" x2="{across(high):.1f}" y2="{up(high):.1f}"'
            f' stroke="{LINE}" stroke-dasharray="4 4"/>'
        )
    place = float(LEFT)
    for number, (name, points) in enumerate(kept):
        colour = COLOURS[number % len(COLOURS)]
        path = " ".join(f"{across(a):.1f},{up(b):.1f}" for a, b in points)
        parts.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        if len(points) <= 40:
            parts += [f'<circle cx="{across(a):.1f}" cy="{up(b):.1f}" r="3" fill="{colour}"/>' for a, b in points]
        parts.append(f'<rect x="{place:.1f}" y="12" width="12" height="4" fill="{colour}"/>')
        parts.append(_text(place + 17, 19, name, anchor="start"))
        place += 30 + 7.2 * len(name)
    return _document(parts, f"{y} against {x}")


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


def _text(x: float, y: float, text: str, *, anchor: str) -> str:
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{INK}">{escape(text)}</text>'


def _document(parts: Sequence[str], title: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}"'
        f' font-family="system-ui, sans-serif" font-size="12" role="img"><title>{escape(title)}</title>'
        f"{''.join(parts)}</svg>"
    )
