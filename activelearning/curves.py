"""What is known at each number of labels: the estimates that stand, and the control arm's scores."""

import math
from dataclasses import dataclass

import numpy as np
from django.db.models import F, Max, Min, Q, RowRange, Window
from django.db.models.functions import Coalesce

from activelearning.algorithms.calibration import Calibration, calibrate
from activelearning.algorithms.figures import proportion
from activelearning.algorithms.types import Floats, Ints
from activelearning.models import ControlScore, Estimate
from annotation.models import Campaign, Label

POINTS = 300
"""Estimates in a curve: as many as a picture can show."""
RECENT = 50


# The estimate over time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Estimates by ascending label count, one for each count, thinned to what a picture can show. Axes (n,)."""

    labels: Floats
    log_det: Floats
    worst_error: Floats
    certificate: Floats
    cost: Floats
    bound: Floats
    saving: Floats
    saving_low: Floats
    saving_high: Floats

    def __len__(self) -> int:
        return len(self.labels)


COLUMNS = (
    "label_count",
    "log_det",
    "worst_error",
    "certificate",
    "cost",
    "bound",
    "saving",
    "saving_low",
    "saving_high",
)


def read_curve(campaign: Campaign) -> Curve:
    """The estimates that still stand, up to the newest. Unknown values are NaN.

    Labels are taken back: an estimate stands until a later one has as many labels or fewer. One of other features, or
    with rationality given instead of estimated, is no part of the curve. The database thins what stands: of each
    stretch of label counts it names the newest estimate, the newest that was measured, and the newest with a saving.
    """
    newest = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if newest is None:
        return Curve(*np.empty((len(COLUMNS), 0)))
    most = newest.label_count
    alike = Estimate.objects.filter(campaign=campaign, projection=newest.projection_id, is_joint=newest.is_joint)
    later = Window(Min("label_count"), order_by=F("id").desc(), frame=RowRange(start=None, end=-1))
    standing = alike.annotate(fewest_later=Coalesce(later, most + 1)).filter(fewest_later__gt=F("label_count"))
    stretches = (
        Estimate.objects.filter(pk__in=standing.values("pk"))
        .order_by()
        .values(stretch=(F("label_count") * (POINTS - 1) + most - 1) / max(most, 1))  # count 0 has one of its own
        .annotate(
            last=Max("id"),
            measured=Max("id", filter=Q(worst_error__isnull=False)),
            saving=Max("id", filter=Q(saving__isnull=False)),
        )
    )
    ids = {pk for found in stretches.values_list("last", "measured", "saving") for pk in found if pk is not None}
    rows = Estimate.objects.filter(pk__in=ids).order_by("id").values_list(*COLUMNS)
    table = np.array([[math.nan if value is None else float(value) for value in row] for row in rows])
    return Curve(*table.T)


def last_known(values: Floats) -> float | None:
    """Of a column of the curve: what it was when last measured."""
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def recent_gain(curve: Curve) -> float | None:
    """Nats that each of the last fifty labels brought; None with fewer than two estimates."""
    if len(curve) < 2 or curve.labels[-1] <= curve.labels[0]:
        return None
    first = int(np.searchsorted(curve.labels, curve.labels[-1] - RECENT))
    first = min(first, len(curve) - 2)
    return float((curve.log_det[-1] - curve.log_det[first]) / (curve.labels[-1] - curve.labels[first]))


# The control arm ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Control labels that count, in the order answered: what was predicted, and what came. Axes (n,)."""

    probability: Floats
    outcome: Floats
    labels: Floats
    """Labels in the estimate that predicted."""
    comparison: Ints

    @property
    def right(self) -> Floats:
        """1 where the likelier response was chosen, 0 where not; a tie, or an even prediction, is half right."""
        chosen = np.where(self.probability > 0.5, self.outcome, 1 - self.outcome)
        return np.where(self.probability == 0.5, 0.5, chosen)

    def __len__(self) -> int:
        return len(self.probability)


def read_scores(campaign: Campaign) -> Scores:
    """Scores of current labels: what was taken back or replaced does not count."""
    rows = list(
        ControlScore.objects.filter(campaign=campaign, label__state=Label.State.CURRENT)
        .order_by("label_id")
        .values_list("probability", "outcome", "label_count", "comparison_id")
    )
    table = np.array(rows, dtype=np.float64).reshape(-1, 4)
    return Scores(table[:, 0], table[:, 1], table[:, 2], table[:, 3].astype(np.int64))


def running_accuracy(scores: Scores) -> tuple[Floats, Floats, Floats, Floats]:
    """How many control labels, and the accuracy on so many with Wilson's interval: at most `POINTS` of each, and the
    last."""
    right = np.cumsum(scores.right)
    counts = np.arange(1, len(scores) + 1)
    if len(counts) > POINTS:
        counts = np.linspace(1, len(scores), POINTS).astype(int)
    found = [proportion(float(right[count - 1]), count) for count in counts.tolist()]
    ends = [[figure.value, figure.low, figure.high] for figure in found]
    value, low, high = np.array(ends, dtype=np.float64).reshape(-1, 3).T
    return counts.astype(np.float64), value, low, high


def read_calibration(campaign: Campaign, scores: Scores) -> Calibration:
    return calibrate(scores.probability, scores.outcome, generator=np.random.default_rng(campaign.seed))
