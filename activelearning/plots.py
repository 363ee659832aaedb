"""Pictures for the pages: SVG with its text as text, on a transparent ground, in the colours of the page."""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from activelearning.algorithms.types import Floats

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Theme:
    ink: str
    muted: str
    line: str
    accent: str
    second: str


THEMES = {
    "light": Theme(ink="#1d2329", muted="#56606b", line="#dcdfd9", accent="#0c6a64", second="#a8591c"),
    "dark": Theme(ink="#e8eaec", muted="#a4aeb8", line="#343b42", accent="#6fd3c8", second="#f0c067"),
}
SIZE = 6.4, 3.2


def _begin(theme: Theme, *, x: str, y: str) -> tuple["Figure", "Axes"]:
    """An empty picture. matplotlib is imported with the first one: the web process starts without it."""
    import matplotlib
    from matplotlib.figure import Figure

    matplotlib.rcParams["svg.fonttype"] = "none"
    matplotlib.rcParams["svg.hashsalt"] = "tutelage"
    figure = Figure(figsize=SIZE, layout="constrained")
    figure.patch.set_alpha(0)
    axes = figure.add_subplot()
    axes.patch.set_alpha(0)
    axes.set_xlabel(x, color=theme.muted)
    axes.set_ylabel(y, color=theme.muted)
    axes.tick_params(colors=theme.muted, length=0)
    axes.grid(color=theme.line, linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right", "left", "bottom"):
        axes.spines[side].set_visible(False)
    return figure, axes


def _finish(figure: "Figure", axes: "Axes", theme: Theme) -> str:
    handles, names = axes.get_legend_handles_labels()
    if names:
        axes.legend(handles, names, frameon=False, labelcolor=theme.ink, fontsize="small")
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


@dataclass(frozen=True)
class Line:
    """One named line, with a band where low and high are given. Axes (n,)."""

    name: str
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None
    is_dashed: bool = False


def draw_lines(
    lines: Sequence[Line], *, x: str, y: str, theme: str, level: float | None = None, level_name: str = ""
) -> str:
    """Lines over one pair of axes; `level` draws a horizontal reference. Values that are not finite are left out."""
    colours = THEMES[theme]
    figure, axes = _begin(colours, x=x, y=y)
    for number, line in enumerate(lines):
        colour = (colours.accent, colours.second, colours.muted)[number % 3]
        keep = np.isfinite(line.x) & np.isfinite(line.y)
        style = "--" if line.is_dashed else "-"
        marker = "o" if keep.sum() < 3 else ""
        axes.plot(line.x[keep], line.y[keep], style, marker=marker, color=colour, linewidth=2, label=line.name)
        if line.low is not None and line.high is not None:
            axes.fill_between(line.x[keep], line.low[keep], line.high[keep], color=colour, alpha=0.18, linewidth=0)
    if level is not None:
        axes.axhline(level, color=colours.muted, linestyle=":", linewidth=1.5, label=level_name or None)
    return _finish(figure, axes, colours)


def draw_reliability(
    predicted: Floats, observed: Floats, low: Floats, high: Floats, counts: Floats, *, x: str, y: str, theme: str
) -> str:
    """Observed share against predicted probability: a point and an interval for each bin, the diagonal. Axes (b,)."""
    colours = THEMES[theme]
    figure, axes = _begin(colours, x=x, y=y)
    axes.plot([0.5, 1], [0.5, 1], ":", color=colours.muted, linewidth=1.5)
    keep = counts > 0
    reach = np.clip(np.vstack([observed - low, high - observed])[:, keep], 0, 1)
    axes.errorbar(predicted[keep], observed[keep], yerr=reach, fmt="none", ecolor=colours.accent, elinewidth=1.5)
    size = 20 + 120 * counts[keep] / max(1.0, float(counts.max(initial=1)))
    axes.scatter(predicted[keep], observed[keep], s=size, color=colours.accent, zorder=3)
    axes.set_xlim(0.5, 1)
    axes.set_ylim(0, 1)
    return _finish(figure, axes, colours)


def draw_intervals(
    names: Sequence[str], value: Floats, low: Floats, high: Floats, *, x: str, theme: str, level: float = 0.0
) -> str:
    """One row for each name: a value and its interval, with a reference line. Axes (n,)."""
    colours = THEMES[theme]
    figure, axes = _begin(colours, x=x, y="")
    figure.set_size_inches(SIZE[0], max(1.2, 0.32 * len(names) + 0.7))
    places = np.arange(len(names))[::-1]
    reach = np.vstack([value - low, high - value])
    axes.errorbar(value, places, xerr=reach, fmt="o", color=colours.accent, elinewidth=1.8)
    axes.axvline(level, color=colours.muted, linestyle=":", linewidth=1.5)
    axes.set_yticks(places, names)
    axes.tick_params(axis="y", colors=colours.ink)
    axes.set_ylim(-0.7, len(names) - 0.3)
    return _finish(figure, axes, colours)
