"""Learning curves of repeated campaigns: the labels one strategy needs for what another reaches, with intervals."""

from dataclasses import dataclass

import numpy as np
from sklearn.isotonic import IsotonicRegression

from activelearning.algorithms.types import Floats


@dataclass(frozen=True)
class Interval:
    """A figure with its 95 % bootstrap interval over repetitions."""

    value: float
    low: float
    high: float

    def row(self) -> list[float]:
        return [round(self.value, 4), round(self.low, 4), round(self.high, 4)]

    def __str__(self) -> str:
        return f"{self.value:.3g} [{self.low:.3g}, {self.high:.3g}]"


def falling(curve: Floats) -> Floats:
    """The falling curve nearest to a noisy one (isotonic regression): noise is averaged, not chosen."""
    return np.asarray(IsotonicRegression(increasing=False).fit_transform(np.arange(curve.size), curve))


def labels_to_reach(labels: Floats, curve: Floats, level: float) -> float:
    """Where a falling curve first reaches a level, straight lines between logarithms; inf where it does not.

    labels, curve  (t,) float64, above 0
    """
    height = np.log(np.maximum(falling(curve), 1e-12))
    target = np.log(max(level, 1e-12))
    reached = np.flatnonzero(height <= target + 1e-12)
    if reached.size == 0:
        return float("inf")
    at = int(reached[0])
    if at == 0 or height[at - 1] <= height[at]:
        return float(labels[at])
    share = (height[at - 1] - target) / (height[at - 1] - height[at])
    start, stop = np.log(labels[at - 1]), np.log(labels[at])
    return float(np.exp(start + share * (stop - start)))


def saving(labels: Floats, reference: Floats, curve: Floats) -> float:
    """How many times fewer labels `curve` needs for what `reference` has at its end.

    Below 1, where the curve never gets there: the share of the labels in which the reference reaches the curve's end.
    """
    needed = labels_to_reach(labels, curve, float(falling(reference)[-1]))
    if np.isfinite(needed):
        return float(labels[-1]) / needed
    return labels_to_reach(labels, reference, float(falling(curve)[-1])) / float(labels[-1])


def savings(labels: Floats, reference: Floats, runs: Floats, *, generator: np.random.Generator) -> Interval:
    """`saving` of the mean curves; repetitions with the same number share a world, so they are drawn together.

    labels (t,);  reference, runs (r, t) float64, falling: regret, or the error rate 1 - accuracy
    """
    count = min(len(reference), len(runs))
    reference, runs = reference[:count], runs[:count]
    value = saving(labels, reference.mean(axis=0), runs.mean(axis=0))
    draws = [
        saving(labels, reference[rows].mean(axis=0), runs[rows].mean(axis=0))
        for rows in (generator.integers(count, size=count) for _ in range(400))
    ]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(value, float(low), float(high))


def slope(labels: Floats, runs: Floats, *, after: float, generator: np.random.Generator) -> Interval:
    """Slope of log regret against log labels, from `after` labels on."""
    late = labels >= after

    def line(rows: Floats) -> float:
        return float(np.polyfit(np.log(labels[late]), np.log(np.maximum(rows.mean(axis=0)[late], 1e-12)), 1)[0])

    draws = [line(runs[generator.integers(len(runs), size=len(runs))]) for _ in range(200)]
    low, high = np.percentile(draws, [2.5, 97.5])
    return Interval(line(runs), float(low), float(high))


def mean_with_error(values: Floats) -> tuple[float, float]:
    """Mean and its standard error over repetitions, (r,)."""
    error = float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")
    return float(np.mean(values)), error
