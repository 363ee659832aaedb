"""What the pages say of a campaign: statistics from rows, each with its interval and the reason where there is none."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

import numpy as np
from django.db.models import Avg, Count, Max, Q, StdDev

from activelearning.algorithms.types import Floats
from activelearning.models import (
    ControlScore,
    EmbeddingProgress,
    Estimate,
    OfferReason,
    Projection,
    TeacherRationality,
)
from annotation.models import Campaign, Label, Offer, Teacher
from annotation.services.terms import present_members

POINTS = 300
"""Estimates in a curve: as many as a picture can show."""
RECENT = 50
Z = 1.959964


# The estimate over time -----------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Curve:
    """Estimates by ascending label count, one for each count, thinned to what a picture can show. Axes (n,)."""

    labels: Floats
    log_det: Floats
    worst_error: Floats
    certificate: Floats
    cost: Floats

    def __len__(self) -> int:
        return len(self.labels)


def read_curve(campaign: Campaign) -> Curve:
    """The last estimate for every number of labels. Unknown values are NaN."""
    newest = (
        Estimate.objects.filter(campaign=campaign).order_by().values("label_count").annotate(newest=Max("id"))
    ).values_list("newest", flat=True)
    ids = sorted(newest)
    if len(ids) > POINTS:
        ids = [ids[place] for place in np.unique(np.linspace(0, len(ids) - 1, POINTS).astype(int))]
    rows = Estimate.objects.filter(pk__in=ids).order_by("label_count")
    table = np.array(
        [
            [math.nan if value is None else float(value) for value in row]
            for row in rows.values_list("label_count", "log_det", "worst_error", "certificate", "cost")
        ]
    ).reshape(-1, 5)
    return Curve(*table.T)


def recent_gain(curve: Curve) -> float | None:
    """Nats that each of the last fifty labels brought; None with fewer than two estimates."""
    if len(curve) < 2 or curve.labels[-1] <= curve.labels[0]:
        return None
    first = int(np.searchsorted(curve.labels, curve.labels[-1] - RECENT))
    first = min(first, len(curve) - 2)
    return float((curve.log_det[-1] - curve.log_det[first]) / (curve.labels[-1] - curve.labels[first]))


@dataclass(frozen=True)
class Savings:
    """How many control labels tell as much as one designed label: ratio of mean gains, with its interval."""

    ratio: float
    low: float
    high: float
    designed: int
    control: int


def read_savings(campaign: Campaign) -> Savings | None:
    """Both arms' gains were computed at their plan, against the same H; None before ten answers in each arm.

    The interval is that of log ratio by the delta method. Offers of the spanning start are in it.
    """
    answered = OfferReason.objects.filter(
        offer__campaign=campaign, offer__state=Offer.State.ANSWERED, gain__isnull=False
    )
    found = {
        row["offer__arm"]: row
        for row in answered.order_by()
        .values("offer__arm")
        .annotate(mean=Avg("gain"), spread=StdDev("gain", sample=True), count=Count("id"))
    }
    designed, control = found.get(Offer.Arm.DESIGNED), found.get(Offer.Arm.CONTROL)
    if designed is None or control is None or min(designed["count"], control["count"]) < 10 or control["mean"] <= 0:
        return None
    ratio = designed["mean"] / control["mean"]
    error = math.sqrt(sum((arm["spread"] / arm["mean"]) ** 2 / arm["count"] for arm in (designed, control)))
    return Savings(
        ratio=ratio,
        low=ratio * math.exp(-Z * error),
        high=ratio * math.exp(Z * error),
        designed=designed["count"],
        control=control["count"],
    )


# The control arm ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scores:
    """Control labels that count, in the order answered: what was predicted, and what came. Axes (n,)."""

    probability: Floats
    outcome: Floats
    labels: Floats
    """Labels in the estimate that predicted."""
    comparison: Sequence[int]

    def __len__(self) -> int:
        return len(self.probability)


def read_scores(campaign: Campaign) -> Scores:
    """Scores of current labels: what was taken back or replaced does not count."""
    rows = list(
        ControlScore.objects.filter(campaign=campaign, label__state=Label.State.CURRENT)
        .order_by("label_id")
        .values_list("probability", "outcome", "label_count", "comparison_id")
    )
    table = np.array([row[:3] for row in rows], dtype=np.float64).reshape(-1, 3)
    return Scores(*table.T, comparison=[row[3] for row in rows])


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


# Teachers -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Cell:
    """One teacher's rationality in one category."""

    category: str
    value: float
    low: float
    high: float
    labels: int

    @property
    def is_inverted(self) -> bool:
        """The whole interval lies below 0: answers the wrong way round."""
        return self.high < 0

    @property
    def is_guess(self) -> bool:
        """0, a coin flip, lies in the interval."""
        return self.low <= 0 <= self.high


@dataclass
class Portrait:
    """What is known of one teacher in one campaign."""

    teacher: Teacher
    cells: list[Cell] = field(default_factory=list)
    bias: float | None = None
    bias_low: float | None = None
    bias_high: float | None = None
    labels: int = 0
    ties: int = 0
    seconds: float | None = None
    """Median from shown to answered."""
    offers: dict[str, int] = field(default_factory=dict)

    @property
    def is_inverted(self) -> bool:
        return any(cell.is_inverted for cell in self.cells)

    @property
    def has_position_bias(self) -> bool:
        """The interval of the pull to the first-shown response leaves 0 out."""
        return self.bias_low is not None and self.bias_high is not None and not self.bias_low <= 0 <= self.bias_high

    @property
    def tie_share(self) -> float | None:
        return self.ties / self.labels if self.labels else None

    @property
    def tie_percent(self) -> float:
        return 100 * (self.tie_share or 0.0)

    @property
    def offers_named(self) -> list[tuple[str, int]]:
        return [(str(state.label), self.offers[state]) for state in Offer.State if state in self.offers]


def read_portraits(campaign: Campaign) -> list[Portrait]:
    """Every teacher with an offer in the campaign, most labels first."""
    offers: dict[int, dict[str, int]] = defaultdict(dict)
    counted = Offer.objects.filter(campaign=campaign).order_by().values_list("teacher_id", "state")
    for teacher, state, count in counted.annotate(count=Count("id")):
        offers[teacher][state] = count
    found = {
        teacher.pk: Portrait(teacher, offers=offers[teacher.pk]) for teacher in Teacher.objects.in_bulk(offers).values()
    }
    seconds: dict[int, list[float]] = defaultdict(list)
    labels = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT)
    for teacher, choice, took in labels.values_list("teacher_id", "choice", "seconds"):
        portrait = found[teacher]
        portrait.labels += 1
        portrait.ties += choice in (Label.Choice.TIE, Label.Choice.BOTH_BAD)
        seconds[teacher].append(took)
    for teacher, took in seconds.items():
        found[teacher].seconds = float(np.median(took))
    for row in TeacherRationality.objects.filter(campaign=campaign).order_by("category"):
        portrait = found[row.teacher_id]
        portrait.cells.append(
            Cell(row.category, row.value, row.value - Z * row.error, row.value + Z * row.error, row.label_count)
        )
        portrait.bias = row.bias
        portrait.bias_low, portrait.bias_high = row.bias - Z * row.bias_error, row.bias + Z * row.bias_error
    return sorted(found.values(), key=lambda portrait: (-portrait.labels, portrait.teacher.pseudonym))


# Agreement ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Judgements:
    """Current labels of one category as (comparison, teacher, outcome of the pair); repeats stand apart."""

    category: str
    comparison: list[int]
    teacher: list[int]
    outcome: list[float]


def read_judgements(campaign: Campaign) -> list[Judgements]:
    """By category, every teacher's first answer to every comparison: repeats are about consistency, not agreement."""
    rows = (
        Label.objects.filter(campaign=campaign, state=Label.State.CURRENT)
        .exclude(arm__in=(Offer.Arm.REPEAT, Offer.Arm.TUTORIAL))
        .select_related("comparison")
        .order_by("id")
    )
    found: dict[str, Judgements] = {}
    for label in rows.only("choice", "b_first", "teacher_id", "comparison__category", "comparison_id"):
        category = label.comparison.category
        entry = found.setdefault(category, Judgements(category, [], [], []))
        entry.comparison.append(label.comparison_id)
        entry.teacher.append(label.teacher_id)
        entry.outcome.append(label.outcome)
    return [found[name] for name in sorted(found)]


def read_repeats(campaign: Campaign) -> dict[int, list[tuple[float, float]]]:
    """By teacher: (first answer, answer to the mirrored repeat), as outcomes of the pair."""
    repeats = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT, arm=Offer.Arm.REPEAT)
    pairs = set(repeats.values_list("teacher_id", "comparison_id"))
    if not pairs:
        return {}
    firsts = {
        (label.teacher_id, label.comparison_id): label.outcome
        for label in Label.objects.filter(
            campaign=campaign, state=Label.State.CURRENT, comparison_id__in={comparison for _, comparison in pairs}
        ).exclude(arm__in=(Offer.Arm.REPEAT, Offer.Arm.TUTORIAL))
    }
    found: dict[int, list[tuple[float, float]]] = defaultdict(list)
    for label in repeats.order_by("id"):
        first = firsts.get((label.teacher_id, label.comparison_id))
        if first is not None:
            found[label.teacher_id].append((first, label.outcome))
    return dict(found)


# One comparison -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Event:
    """One offer of a comparison, its reason, and the answers that were given to it, oldest first."""

    offer: Offer
    why: OfferReason | None
    labels: list[Label]


def read_history(campaign: Campaign, comparison_id: int) -> list[Event]:
    offers = (
        Offer.objects.filter(campaign=campaign, comparison_id=comparison_id)
        .select_related("teacher", "why__plan", "why__estimate")
        .prefetch_related("labels")
        .order_by("id")
    )
    return [
        Event(
            offer=offer,
            why=getattr(offer, "why", None),
            labels=sorted(offer.labels.all(), key=lambda label: label.pk),
        )
        for offer in offers
    ]


def find_offers(campaign: Campaign, *, arm: str = "", state: str = "", teacher: str = "") -> Any:
    """Offers, newest first, with what their table shows."""
    which = Q(campaign=campaign)
    if arm in Offer.Arm.values:
        which &= Q(arm=arm)
    if state in Offer.State.values:
        which &= Q(state=state)
    if teacher:
        which &= Q(teacher__pseudonym=teacher)
    return Offer.objects.filter(which).select_related("teacher", "comparison", "why").order_by("-id")


@dataclass(frozen=True)
class Neighbour:
    """A teacher or comparison that came next, and what it would have brought."""

    teacher: str
    comparison: int | None
    gain: float


def read_runners_up(campaign: Campaign, why: OfferReason | None) -> dict[str, list[Neighbour]]:
    rows = why.runners_up if why is not None else []
    found = [Neighbour(row.get("teacher", ""), row.get("comparison"), float(row["gain"])) for row in rows]
    return {
        "teachers": [row for row in found if row.comparison is None],
        "comparisons": [row for row in found if row.comparison is not None],
    }


def read_portrait(campaign: Campaign, pseudonym: str) -> Portrait | None:
    return next((row for row in read_portraits(campaign) if row.teacher.pseudonym == pseudonym), None)


# The page of progress -------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Summary:
    """The numbers at the head of the progress page; None where there is not enough to say."""

    recent_gain: float | None
    worst_error: float | None
    certificate: float | None
    savings: Savings | None


def read_summary(campaign: Campaign) -> Summary:
    curve = read_curve(campaign)
    return Summary(
        recent_gain=recent_gain(curve),
        worst_error=_last(curve.worst_error),
        certificate=_last(curve.certificate),
        savings=read_savings(campaign),
    )


def _last(values: Floats) -> float | None:
    known = values[np.isfinite(values)]
    return float(known[-1]) if len(known) else None


def read_agreement(campaign: Campaign) -> list[Any]:
    return []
