"""Accuracy on held-out recorded choices against labels used: what a rehearsal is for."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from activelearning.algorithms.types import Floats
from activelearning.arrays import load_pool
from activelearning.models import Estimate
from activelearning.rehearsal.truth import Truth
from activelearning.storage import read_arrays
from annotation.models import Campaign


@dataclass(frozen=True)
class Curve:
    """One strategy's way: axes e estimates, in the order of their labels.

    labels    (e,) labels in the fit
    accuracy  (e,) share of the held-out comparisons whose recorded choice the reward foresees; no ties
    gain      (e,) log det of the earned information over the ridge's, in nats
    held_out  how many comparisons that is
    """

    strategy: str
    labels: Floats
    accuracy: Floats
    gain: Floats
    held_out: int

    def at(self, labels: int) -> float:
        """Accuracy of the last estimate with at most so many labels; 1/2 before the first."""
        seen = self.accuracy[self.labels <= labels]
        return float(seen[-1]) if len(seen) else 0.5

    @property
    def error(self) -> float:
        """Standard error of an accuracy of 1/2 or more on so many comparisons, at its largest."""
        return float(0.5 / np.sqrt(max(self.held_out, 1)))


def read_curve(campaign: Campaign, truth: Truth) -> Curve:
    """Score the estimates that the campaign has kept. Raises ValueError where nothing decided is held out."""
    labels, accuracy, gain, held_out = [], [], [], 0
    estimates = Estimate.objects.filter(campaign=campaign).exclude(arrays="")
    for estimate in estimates.select_related("projection").order_by("id"):
        pool = load_pool(campaign, estimate.projection)
        margin = np.array([truth.margins.get(pk, 0.0) for pk in pool.ids.tolist()])
        rows = np.flatnonzero(pool.is_held_out & pool.has_features & (margin != 0))
        if len(rows) == 0:
            raise ValueError("Nothing is held out: set the campaign's share of held-out conversations above 0.")
        foreseen = pool.design[rows].astype(np.float64) @ read_arrays(estimate.arrays)["theta"]
        hits = np.where(foreseen == 0, 0.5, np.sign(foreseen) == np.sign(margin[rows]))
        labels.append(float(estimate.label_count))
        accuracy.append(float(hits.mean()))
        gain.append(estimate.log_det)
        held_out = len(rows)
    return Curve(campaign.strategy, np.array(labels), np.array(accuracy), np.array(gain), held_out)


def print_curves(curves: list[Curve], *, steps: int = 10) -> str:
    """The curves side by side as a table: accuracy and information at so many labels."""
    most = int(max((curve.labels.max(initial=0) for curve in curves), default=0))
    header = "labels  " + "  ".join(f"{curve.strategy:>12} {'nats':>7}" for curve in curves)
    lines = [header, "-" * len(header)]
    for count in np.unique(np.linspace(0, most, steps + 1).astype(int)):
        cells = []
        for curve in curves:
            seen = curve.gain[curve.labels <= count]
            cells.append(f"{curve.at(int(count)):>11.1%} {seen[-1] if len(seen) else 0.0:>8.1f}")
        lines.append(f"{count:>6}  " + "  ".join(cells))
    if curves:
        lines.append(f"({curves[0].held_out} held-out comparisons: a standard error of at most {curves[0].error:.1%})")
    return "\n".join(lines)


def draw_curves(curves: list[Curve], path: Path, *, title: str) -> None:
    """Both curves as one picture: accuracy with its standard error, and information."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    accuracy, information = figure.subplots(1, 2)
    for number, curve in enumerate(curves):
        color = f"C{number}"
        accuracy.plot(curve.labels, curve.accuracy, color=color, label=curve.strategy, drawstyle="steps-post")
        accuracy.fill_between(
            curve.labels,
            curve.accuracy - curve.error,
            curve.accuracy + curve.error,
            color=color,
            alpha=0.15,
            step="post",
        )
        information.plot(curve.labels, curve.gain, color=color, label=curve.strategy)
    accuracy.set(xlabel="labels", ylabel="accuracy on held-out choices")
    information.set(xlabel="labels", ylabel="information, nats of log det")
    for axes in (accuracy, information):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
    information.legend(frameon=False)
    figure.suptitle(title)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path)
