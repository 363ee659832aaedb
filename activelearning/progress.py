"""What the pages say of a campaign: statistics from rows, each with its interval and the reason where there is none."""

import math
from collections import Counter
from dataclasses import dataclass
from decimal import Decimal

import numpy as np
from django.db.models import Count, Exists, OuterRef, Sum
from django.utils.translation import gettext as _

from activelearning.algorithms.calibration import Calibration
from activelearning.algorithms.figures import Figure
from activelearning.curves import Curve, Scores, last_known, read_calibration, read_curve, read_scores, recent_gain
from activelearning.keeping import kept
from activelearning.models import EmbeddingProgress, Estimate, Projection
from activelearning.outlook import Outlook, Question, read_outlook
from annotation.models import Campaign, Label, Offer
from annotation.services.terms import present_members

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
        worst_error=last_known(curve.worst_error),
        certificate=last_known(curve.certificate),
        bound=last_known(curve.bound),
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


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None
