"""What the pages say of a campaign: statistics from rows, each with its interval and the reason where there is none."""

import math
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal
from enum import StrEnum

import numpy as np
from django.db.models import Count, Exists, F, Max, OuterRef, Q, Sum
from django.utils.translation import gettext as _

from activelearning.algorithms.calibration import Calibration, calibrate
from activelearning.algorithms.figures import Figure, proportion
from activelearning.algorithms.forecast import Forecast, Measure, StopAdvice, advise_stop, forecast
from activelearning.algorithms.types import Floats, Ints
from activelearning.keeping import kept
from activelearning.models import ControlScore, EmbeddingProgress, Estimate, Projection
from annotation.models import Campaign, Label, Offer
from annotation.services.terms import present_members

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
    with rationality given instead of estimated, is no part of the curve. The database thins: of each stretch of label
    counts it names the newest estimate, the newest that was measured, and the newest with a saving.
    """
    newest = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if newest is None:
        return Curve(*np.empty((len(COLUMNS), 0)))
    most = newest.label_count
    stretches = (
        Estimate.objects.filter(
            campaign=campaign, projection=newest.projection_id, is_joint=newest.is_joint, label_count__lte=most
        )
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
    fewest_from = np.minimum.accumulate(table[::-1, 0])[::-1]
    stands = np.r_[table[:-1, 0] < fewest_from[1:], True]
    return Curve(*table[stands].T)


def recent_gain(curve: Curve) -> float | None:
    """Nats that each of the last fifty labels brought; None with fewer than two estimates."""
    if len(curve) < 2 or curve.labels[-1] <= curve.labels[0]:
        return None
    first = int(np.searchsorted(curve.labels, curve.labels[-1] - RECENT))
    first = min(first, len(curve) - 2)
    return float((curve.log_det[-1] - curve.log_det[first]) / (curve.labels[-1] - curve.labels[first]))


# Where it is going ----------------------------------------------------------------------------------------------------

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


def measured(curve: Curve, scores: "Scores", question: Question) -> tuple[Floats, Floats]:
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


def _accuracy_points(scores: "Scores") -> tuple[Floats, Floats]:
    """Control accuracy in up to ten stretches of at least ten labels, by the labels in the estimates that predicted."""
    known = scores.labels > 0
    labels, right = scores.labels[known], scores.right[known]
    parts = (
        [part for part in np.array_split(np.arange(len(labels)), min(10, len(labels) // 10)) if len(part)]
        if (len(labels) >= 10)
        else []
    )
    return np.array([labels[part].mean() for part in parts]), np.array([right[part].mean() for part in parts])


def read_outlook(campaign: Campaign, curve: Curve, scores: "Scores", question: Question) -> Outlook:
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


# What happened so far -------------------------------------------------------------------------------------------------

COURSE_SECONDS = 3


@dataclass(frozen=True)
class Course:
    """What the figures and the pictures of a page are made of, read at one moment."""

    curve: Curve
    scores: Scores
    calibration: Calibration


def read_course(campaign: Campaign) -> Course:
    scores = read_scores(campaign)
    return Course(read_curve(campaign), scores, read_calibration(campaign, scores))


def course_of(campaign: Campaign) -> Course:
    """One for all pages and pictures, a few seconds old."""
    return kept("course", campaign, seconds=COURSE_SECONDS, work=lambda: read_course(campaign))


# Work and money -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Work:
    """Queues, people and money at this moment."""

    present: int
    queued: int
    held: int
    depth: int
    arms: dict[str, int]
    spent: Decimal
    reserved: Decimal
    left: Decimal | None
    per_label: Decimal | None
    per_nat: float | None
    lost: "Lost"


@dataclass(frozen=True)
class Lost:
    """Designed offers that lapsed with nobody asked in their place: how many, and the nats that they would tell."""

    offers: int
    nats: float


def read_lost(campaign: Campaign) -> Lost:
    """By the gain that was planned for each. One that came in place of another and lapsed too stands for both."""
    lapsed = Offer.objects.filter(campaign=campaign, arm=Offer.Arm.DESIGNED, state=Offer.State.LAPSED)
    later = Offer.objects.filter(
        comparison=OuterRef("comparison"),
        arm=Offer.Arm.DESIGNED,
        state__in=(*Offer.TAKEN, Offer.State.LAPSED),
        created_at__gte=OuterRef("closed_at"),
    )
    found = lapsed.filter(~Exists(later)).aggregate(offers=Count("id"), nats=Sum("why__gain"))
    return Lost(found["offers"], found["nats"] or 0.0)


def read_work(campaign: Campaign, estimate: Estimate | None) -> Work:
    states = Counter(
        dict(
            Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE)
            .order_by()
            .values_list("state")
            .annotate(count=Count("id"))
        )
    )
    arms = dict(
        Label.objects.filter(campaign=campaign, state=Label.State.CURRENT)
        .order_by()
        .values_list("arm")
        .annotate(count=Count("id"))
    )
    labels = sum(arms.values())
    return Work(
        present=len(present_members(campaign)),
        queued=states[Offer.State.QUEUED],
        held=states[Offer.State.HELD],
        depth=campaign.queue_depth,
        arms={str(arm.label): arms[arm] for arm in Offer.Arm if arm in arms},
        spent=campaign.spent,
        reserved=campaign.reserved,
        left=None if campaign.budget is None else campaign.budget - campaign.reserved - campaign.spent,
        per_label=campaign.spent / labels if labels else None,
        per_nat=float(campaign.spent) / estimate.log_det if estimate is not None and estimate.log_det > 0 else None,
        lost=read_lost(campaign),
    )


@dataclass(frozen=True)
class Features:
    """How far the features are, and how much of what differs within a prompt the projection keeps."""

    progress: EmbeddingProgress | None
    projection: Projection | None

    @property
    def percent(self) -> int:
        if self.progress is None or not self.progress.total:
            return 0
        return int(100 * self.progress.done / self.progress.total)

    @property
    def percent_kept(self) -> int:
        return round(100 * self.projection.kept_variance) if self.projection is not None else 0


def read_features(campaign: Campaign) -> Features:
    return Features(
        progress=EmbeddingProgress.objects.filter(campaign=campaign).first(),
        projection=Projection.objects.filter(
            campaign=campaign, encoder=campaign.encoder, requested=campaign.dimensions
        ).first(),
    )


# The page -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The numbers of the progress page; None where there is not enough to say."""

    recent_gain: float | None
    worst_error: float | None
    certificate: float | None
    bound: float | None
    saving: Figure
    calibration: Calibration
    outlook: Outlook


def read_summary(campaign: Campaign, question: Question, course: Course) -> Summary:
    curve = course.curve
    return Summary(
        recent_gain=recent_gain(curve),
        worst_error=_last(curve.worst_error),
        certificate=_last(curve.certificate),
        bound=_last(curve.bound),
        saving=saving_of(curve),
        calibration=course.calibration,
        outlook=read_outlook(campaign, curve, course.scores, question),
    )


def saving_of(curve: Curve) -> Figure:
    """What one designed label is worth in control labels, as the worker measured it last."""
    known = np.flatnonzero(np.isfinite(curve.saving))
    if not len(known):
        return Figure.undefined(_("Known once each arm has twice as many labels as there are dimensions."))
    last = known[-1]
    low, high = (_number(ends[last]) for ends in (curve.saving_low, curve.saving_high))
    return Figure(float(curve.saving[last]), low, high, int(curve.labels[last]))


def _last(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
