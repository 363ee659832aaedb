"""How good the predictions are on control labels: accuracy, log loss and calibration, each with an interval.

A control label is scored by the estimate that preceded it (predict, then learn), so nothing here is fitted to what it
judges. A tie is the outcome 1/2: half right in the accuracy, half of each in the log loss and the reliability curve.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from activelearning.algorithms.figures import RESAMPLES, Figure, mean, percentile_interval, proportion
from activelearning.algorithms.types import Floats, Ints, Labels


@dataclass(frozen=True)
class Bin:
    """Predictions of about the same strength, turned so that the predicted response is the likelier one.

    predicted  mean probability given to the likelier response, in [1/2, 1]
    observed   share of labels that chose it
    """

    predicted: float
    observed: Figure


@dataclass(frozen=True)
class Calibration:
    """What the control arm says of the estimates that preceded its labels.

    accuracy      share of labels that chose the response predicted as likelier
    log_loss      nats a label; a coin's is log 2 = 0.693
    curve         the reliability curve, from even predictions to sure ones
    error         expected calibration error: mean over the bins of |observed - predicted|, by labels
    chance_error  what that error would be, on average, if the predictions were perfectly calibrated: noise alone
    ties          labels that were ties
    """

    accuracy: Figure
    log_loss: Figure
    curve: list[Bin]
    error: Figure
    chance_error: float | None
    ties: int


def predict(labels: Labels, *, theta: Floats, rationality: Floats, bias: Floats | None = None) -> Floats:
    """P(a is preferred) of each label under an estimate (M2), order shown included.

    theta (d,);  rationality (k, c);  bias (k,), zeros when None;  returns (n,) float64
    """
    from activelearning.algorithms.likelihood import label_rationality, utilities  # compiled: the web has no need of it

    pull = np.zeros(rationality.shape[0]) if bias is None else bias
    return np.asarray(expit(utilities(labels, theta, rho=label_rationality(labels, rationality), bias=pull)))


def calibrate(
    probability: Floats, outcome: Floats, *, generator: np.random.Generator, bins: int = 10, level: float = 0.95
) -> Calibration:
    """Score predictions made before the labels were given.

    probability  (n,) float64   that a is preferred, strictly between 0 and 1 or equal to them
    outcome      (n,) float64   1, 0, or 1/2 for a tie
    bins         of the reliability curve, each of the same number of labels; fewer where there are few labels
    raises       ValueError     shapes disagree, a probability outside [0, 1]
    """
    if probability.shape != outcome.shape or not np.all((probability >= 0) & (probability <= 1)):
        raise ValueError("Every outcome needs a probability between 0 and 1.")
    count = len(outcome)
    reason = "No control label has been scored yet: an estimate must come first, and a few dozen are needed."
    if count == 0:
        none = Figure.undefined(reason)
        return Calibration(none, none, [], none, None, 0)
    right = np.where(probability == 0.5, 0.5, np.where(probability > 0.5, outcome, 1 - outcome))  # (n,)
    sure = np.maximum(probability, 1 - probability)
    safe = np.clip(probability, 1e-12, 1 - 1e-12)
    losses = -(outcome * np.log(safe) + (1 - outcome) * np.log1p(-safe))
    groups = equal_groups(sure, min(bins, max(1, count // 10)))
    curve = [Bin(float(sure[g].mean()), proportion(float(right[g].sum()), len(g), level=level)) for g in groups]
    surprise = right - sure
    sums = np.array([surprise[g].sum() for g in groups])
    resamples = np.abs(resampled_sums(surprise, groups, generator=generator)).sum(axis=1) / count
    low, high = percentile_interval(resamples, level=level) or (None, None)
    return Calibration(
        accuracy=proportion(float(right.sum()), count, level=level),
        log_loss=mean(losses, level=level),
        curve=curve,
        error=Figure(float(np.abs(sums).sum()) / count, low, high, count),
        chance_error=error_by_chance(sure, groups),
        ties=int(np.sum(outcome == 0.5)),
    )


def equal_groups(values: Floats, groups: int) -> list[Ints]:
    """Indices in `groups` parts of about the same size, by rising value."""
    order = np.argsort(values, kind="stable").astype(np.int64)
    return [part for part in np.array_split(order, groups) if part.size]


def resampled_sums(surprise: Floats, groups: list[Ints], *, generator: np.random.Generator) -> Floats:
    """Each bin's sum of surprises when labels are drawn anew, with replacement; from them, sum_g |sum_g| / n.

    Drawing n labels from n gives the bins' sums S the mean that they have and the covariance

        diag(sum of squares in each bin) - S S' / n

    and with ten labels a bin they are near normal: they are drawn as such, at a cost that does not grow with n.

    surprise (n,) float64   observed - predicted;  returns (r, g) float64
    """
    sums = np.array([surprise[g].sum() for g in groups])
    squares = np.array([np.square(surprise[g]).sum() for g in groups])
    spread = np.diag(squares) - np.outer(sums, sums) / len(surprise)
    return np.asarray(generator.multivariate_normal(sums, spread, size=RESAMPLES))


def error_by_chance(sure: Floats, groups: list[Ints]) -> float:
    """What the calibration error is on average where every label follows its prediction.

    A bin's sum of surprises then has mean 0 and variance v = sum p (1 - p): near normal, so E|sum| = sqrt(2 v / pi).
    """
    variances = np.array([np.sum(sure[g] * (1 - sure[g])) for g in groups])
    return float(np.sqrt(2 * variances / np.pi).sum() / len(sure))
