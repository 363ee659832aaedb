"""Where a campaign is going: its curves carried on, and whether more labels pay."""

from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from django.utils.translation import gettext as _

from activelearning.algorithms.figures import Figure
from activelearning.algorithms.forecast import Forecast, Measure, StopAdvice, advise_stop, forecast
from activelearning.algorithms.types import Floats, Ints
from activelearning.curves import Curve, Scores
from annotation.models import Campaign

OUTLOOK_POINTS = 40
"""Points behind a forecast, of the later part of the curve: the first labels have another shape."""


class Axis(StrEnum):
    """What a curve runs along."""

    LABELS = "labels"
    MONEY = "money"


@dataclass(frozen=True)
class Question:
    """What a researcher asks of the future: which measure, how much more of what, and what is too little."""

    measure: Measure
    following: int
    threshold: float
    axis: Axis = Axis.LABELS
    """What is counted: labels, or the money they cost."""


@dataclass(frozen=True)
class Outlook:
    """The answer: the forecast in labels and in money, and whether to stop."""

    question: Question
    forecast: Forecast | None
    advice: StopAdvice
    now: float | None
    """The measure today."""
    at_end: Figure | None
    """What it should be after the following labels, or the following money."""
    cost: float | None
    """Of the following labels, at what a label has cost so far; or the money itself."""


MEASURES = {
    "error": Measure.STANDARD_ERROR,
    "information": Measure.LOG_DET,
    "bound": Measure.BOUND,
    "accuracy": Measure.ACCURACY,
}
THRESHOLDS = {Measure.STANDARD_ERROR: 0.02, Measure.LOG_DET: 0.5, Measure.BOUND: 0.1, Measure.ACCURACY: 0.005}


def measured(curve: Curve, scores: Scores, question: Question) -> tuple[Floats, Floats]:
    """Counts (labels or money) and values behind a forecast: the later three quarters of them. (p,), (p,)

    Of estimates that had cost the same, the last one stands for all.
    """
    measure, is_money = question.measure, question.axis is Axis.MONEY
    if measure is Measure.ACCURACY:
        labels, values = _accuracy_points(scores)
        counts = _cost_at(curve, labels) if is_money else labels
    else:
        values = {Measure.LOG_DET: curve.log_det, Measure.BOUND: curve.bound}.get(measure, curve.worst_error)
        counts = curve.cost if is_money else curve.labels
    known = np.isfinite(values) & (counts > 0)
    if measure in (Measure.STANDARD_ERROR, Measure.BOUND):
        known &= values > 0  # nan compares as False
    counts, values = counts[known], values[known]
    counts, places = _last_of_each(counts)
    values = values[places]
    if measure is not Measure.ACCURACY and len(counts):
        late = counts >= counts[-1] / 4
        counts, values = counts[late], values[late]
    if len(counts) > OUTLOOK_POINTS:
        thinned = np.unique(np.linspace(0, len(counts) - 1, OUTLOOK_POINTS).astype(int))
        counts, values = counts[thinned], values[thinned]
    return counts, values


def _last_of_each(counts: Floats) -> tuple[Floats, Ints]:
    """Every count once, rising, and where it stands last."""
    found, places = np.unique(counts[::-1], return_index=True)
    return found, np.asarray(len(counts) - 1 - places, dtype=np.int64)


def _cost_at(curve: Curve, labels: Floats) -> Floats:
    """What the campaign had spent at these label counts."""
    return np.interp(labels, curve.labels, curve.cost) if len(curve) else np.zeros(len(labels))


def _accuracy_points(scores: Scores) -> tuple[Floats, Floats]:
    """Control accuracy in up to ten stretches of at least ten labels, by the labels in the estimates that predicted.

    Of estimates that stand: after labels were taken back the curve goes on from those that are left.
    """
    known = scores.labels > 0
    labels, right = scores.labels[known], scores.right[known]
    stands = labels <= np.minimum.accumulate(labels[::-1])[::-1]  # no later one knew fewer
    labels, right = labels[stands], right[stands]
    parts = (
        [part for part in np.array_split(np.arange(len(labels)), min(10, len(labels) // 10)) if len(part)]
        if (len(labels) >= 10)
        else []
    )
    return np.array([labels[part].mean() for part in parts]), np.array([right[part].mean() for part in parts])


def read_outlook(campaign: Campaign, curve: Curve, scores: Scores, question: Question) -> Outlook:
    counts, values = measured(curve, scores, question)
    is_money = question.axis is Axis.MONEY
    cost = float(question.following) if is_money else _cost_of(campaign, question.following)
    advice = advise_stop(
        question.measure,
        counts,
        values,
        following=question.following,
        threshold=question.threshold,
    )
    if is_money and not campaign.spent:
        reason = _("No label has cost anything so far: ask for labels instead of money.")
        advice = StopAdvice(None, Figure.undefined(reason))
    if not len(counts):
        return Outlook(question, None, advice, None, None, cost)
    last = counts[-1]
    ahead = forecast(question.measure, counts, values, np.linspace(last, last + question.following, 25))
    end = None
    if ahead is not None:
        end = Figure(float(ahead.value[-1]), float(ahead.low[-1]), float(ahead.high[-1]), len(counts))
    return Outlook(question, ahead, advice, float(values[-1]), end, cost)


def _cost_of(campaign: Campaign, labels: int) -> float | None:
    if not campaign.label_count or not campaign.spent:
        return None
    return float(campaign.spent) / campaign.label_count * labels
