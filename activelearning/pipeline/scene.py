"""What one round of planning looks at, and what of it a choice depends on."""

from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import cached_property

import numpy as np
from django.utils import timezone

from activelearning.algorithms.information import gram_matrix
from activelearning.algorithms.types import Bools, Floats, Ints
from activelearning.arrays import (
    LabelRows,
    Member,
    OfferRows,
    PoolRows,
    load_labels,
    load_members,
    load_offers,
    load_pool,
    load_unrecorded,
    stated_rationality,
)
from activelearning.compiling import is_ready
from activelearning.models import Plan, Projection
from activelearning.pipeline.embedding import current_projection
from activelearning.pipeline.estimating import bring_up_to_date
from activelearning.pipeline.known import Known
from activelearning.planning import Inputs
from activelearning.weighing import count_in
from annotation.models import Campaign, Label, Offer

REDRAWN_WITHIN = timedelta(hours=1)
"""A control offer that closed unanswered is drawn again if that happened so lately."""
UNBOUNDED = 10**9


@dataclass(frozen=True)
class Scene:
    """What one round looks at."""

    campaign: Campaign
    projection: Projection | None
    known: Known | None
    pool: PoolRows
    labels: LabelRows
    offers: OfferRows
    members: list[Member]
    now: datetime

    @cached_property
    def unanswered(self) -> list[tuple[int, int, str]]:
        """(offer, comparison, arm) of offers that lapsed or were withdrawn lately and whose place nobody took.

        Not of those whose teacher left and took the label along: they were answered, so nothing biases the control arm.
        """
        closed = Offer.objects.filter(
            campaign=self.campaign,
            state__in=(Offer.State.LAPSED, Offer.State.WITHDRAWN),
            closed_at__gte=self.now - REDRAWN_WITHIN,
            replaced_by__isnull=True,
        ).exclude(labels__state=Label.State.WITHDRAWN)
        return list(closed.order_by("id").values_list("id", "comparison_id", "arm"))

    @cached_property
    def teacher_ids(self) -> Ints:
        return np.array([member.teacher_id for member in self.members], dtype=np.int64)


def look(campaign: Campaign) -> Scene:
    now = timezone.now()
    projection = current_projection(campaign) or Projection.objects.filter(campaign=campaign).first()
    pool = load_pool(campaign, projection)
    labels = load_labels(campaign, pool)
    known = bring_up_to_date(campaign, projection, pool, labels) if projection is not None else None
    offers = load_offers(campaign, pool)
    return Scene(
        campaign,
        projection,
        known,
        pool,
        labels,
        offers,
        members_now(campaign, pool, offers, now) if campaign.is_open else [],
        now,
    )


def members_now(campaign: Campaign, pool: PoolRows, offers: OfferRows, now: datetime) -> list[Member]:
    live = Counter(offers.teacher[offers.is_live].tolist())
    holding = set(offers.teacher[offers.is_live & ~offers.is_queued].tolist())
    return load_members(campaign, categories=pool.categories, kinds=pool.kinds, live=live, holding=holding, now=now)


def open_rows(scene: Scene) -> Ints:
    """Rows that may still be asked of somebody."""
    pool, offers = scene.pool, scene.offers
    room = np.where(pool.is_askable & ~pool.is_held_out & pool.has_features, scene.campaign.overlap_limit, 0)
    taken = offers.row[(offers.row >= 0) & offers.takes_slot & (offers.arm == Offer.Arm.DESIGNED)]
    np.subtract.at(room, taken, 1)
    return np.flatnonzero(room > 0)


def gather(scene: Scene, *, looking_at: Ints | None = None) -> Inputs | None:
    """The inputs of a choice; None where nobody has room or nothing may be offered.

    looking_at   (k,) teachers to be looked at whether or not they have room: the pairs closed to them are gathered
                 instead of those closed to who has room
    """
    campaign, pool, offers, members = scene.campaign, scene.pool, scene.offers, scene.members
    capacity = np.array([member.room for member in members], dtype=np.int64)
    limit = _limit(campaign, int(offers.is_live.sum()))
    if not members or not len(pool) or (looking_at is None and (not capacity.sum() or limit <= 0)):
        return None
    number = Plan.objects.filter(campaign=campaign).count()
    seed = int(np.random.SeedSequence([campaign.seed, campaign.pk, number]).generate_state(1, np.uint64)[0] >> 1)
    teacher = scene.teacher_ids
    asked = teacher[capacity > 0] if looking_at is None else looking_at
    known = scene.known
    here = offers.row >= 0
    designed = here & offers.takes_slot & (offers.arm == Offer.Arm.DESIGNED)
    slots = np.unique(offers.row[designed], return_counts=True)
    is_paid = any(member.price > 0 for member in members)
    return Inputs(
        strategy=campaign.strategy,
        seed=seed,
        control_share=campaign.control_share,
        repeat_share=campaign.repeat_share,
        overlap_limit=campaign.overlap_limit,
        spanning=_spanning(scene),
        redraw=sum(arm == Offer.Arm.CONTROL for _, _, arm in scene.unanswered),
        limit=limit,
        budget=float(campaign.budget - campaign.reserved - campaign.spent)
        if campaign.budget is not None and is_paid
        else None,
        is_choosy=campaign.budget is not None or campaign.label_target is not None,
        has_estimate=known is not None,
        last_comparison=int(pool.ids[-1]),
        last_response=int(pool.response_ids[-1]) if len(pool.response_ids) else 0,
        theta=known.theta if known is not None else np.zeros(1),
        information=_planned(scene) if known is not None else np.eye(1),
        gram=_gram(scene) if campaign.strategy == "apo" and known is not None else np.zeros((0, 0)),
        closed=pool.ids[~pool.is_askable],
        urgent=pool.ids[pool.is_urgent],
        taken=np.column_stack([pool.ids[slots[0]], slots[1]]).astype(np.int64).reshape(-1, 2),
        controlled=np.unique(pool.ids[offers.row[here & offers.takes_slot & (offers.arm == Offer.Arm.CONTROL)]]),
        judged=_judged(scene, asked),
        repeatable=_repeatable(scene, asked) if campaign.repeat_share else np.zeros((0, 3), dtype=np.int64),
        teacher=teacher,
        cost=np.array([member.cost for member in members]),
        price=np.array([float(member.price) for member in members]),
        capacity=capacity,
        may_judge=np.array([member.may_judge for member in members], dtype=bool),
        rationality=_rationality(scene, seed)[:, pool.category_of_kind],
    )


def _limit(campaign: Campaign, live: int) -> int:
    """Offers that may still be made before the campaign has the labels it asked for."""
    if campaign.label_target is None:
        return UNBOUNDED
    return max(0, campaign.label_target - campaign.label_count - live)


def _spanning(scene: Scene) -> int:
    """How many of the first 2 d labels are still to be offered: spanning, to teachers drawn at random (METHODS).

    All of them in the half minute that the exact selection of a large pool takes to compile on a new machine.
    """
    if scene.known is None:
        return 0
    if scene.campaign.strategy == "dual" and not is_ready(len(scene.pool) * len(scene.members)):
        return UNBOUNDED
    given = scene.known.row.label_count + int(_in_flight(scene).sum())
    return max(0, 2 * scene.known.theta.size - given)


def _in_flight(scene: Scene) -> Bools:
    """Live offers whose labels will enter the fit."""
    offers, pool = scene.offers, scene.pool
    flying = offers.is_live & (offers.row >= 0) & (offers.arm != Offer.Arm.REPEAT) & (offers.arm != Offer.Arm.TUTORIAL)
    rows = np.maximum(offers.row, 0)
    return np.asarray(flying & pool.has_features[rows] & ~pool.is_held_out[rows]) if len(pool) else flying


def _planned(scene: Scene) -> Floats:
    """H_earned with the offers in flight, at the rationality that the estimate has of their teachers."""
    known, offers, pool = scene.known, scene.offers, scene.pool
    assert known is not None
    flying = np.flatnonzero(_in_flight(scene))
    teachers, rows = offers.teacher[flying], offers.row[flying]
    stated = None if known.row.is_joint else stated_rationality(scene.campaign, teachers, pool.categories)
    rationality = known.rationality_of(teachers, len(pool.categories), stated=stated)
    return count_in(
        known.information,
        design=pool.design[rows].astype(np.float64),
        theta=known.theta,
        rationality=np.maximum(rationality[np.arange(len(rows)), pool.category[rows]], 0.0),
    )


def _gram(scene: Scene) -> Floats:
    rows = scene.labels.row[scene.labels.learned(scene.pool)]
    rows = np.concatenate([rows, scene.offers.row[_in_flight(scene)]])
    assert scene.known is not None
    return gram_matrix(scene.pool.design[rows].astype(np.float64), ridge=scene.known.row.ridge)


def stated_of(scene: Scene) -> Floats | None:
    if scene.known is not None and scene.known.row.is_joint:
        return None
    return np.array([member.known for member in scene.members])


def _rationality(scene: Scene, seed: int) -> Floats:
    """As stated; or a Thompson draw, which explores where a plug-in would lock onto badly estimated teachers."""
    categories = len(scene.pool.categories)
    stated = stated_of(scene)
    if stated is not None:
        return stated.reshape(len(scene.members), categories)
    assert scene.known is not None
    return scene.known.draw_rationality(scene.teacher_ids, categories, np.random.default_rng([seed, 1]))


def _judged(scene: Scene, teachers: Ints) -> Ints:
    """(j, 2) comparison and index among the members, of every pair closed to one of these teachers."""
    offers = scene.offers
    closed = (offers.row >= 0) & np.isin(offers.teacher, teachers) & (offers.arm != Offer.Arm.REPEAT)
    met = np.column_stack([scene.pool.ids[offers.row[closed]], offers.teacher[closed]])
    pairs = np.concatenate([met, load_unrecorded(scene.campaign, teachers, scene.pool.ids)])
    return np.column_stack([pairs[:, 0], np.searchsorted(scene.teacher_ids, pairs[:, 1])]).astype(np.int64)


def _repeatable(scene: Scene, teachers: Ints) -> Ints:
    """(r, 3) comparison, teacher's index and the order shown, of answered offers that were not yet repeated."""
    offers = scene.offers
    mine = (offers.row >= 0) & np.isin(offers.teacher, teachers) & offers.takes_slot
    is_repeat = offers.arm == Offer.Arm.REPEAT
    key = offers.row * (int(offers.teacher.max(initial=0)) + 1) + offers.teacher
    once = mine & ~offers.is_live & np.isin(offers.arm, (Offer.Arm.DESIGNED, Offer.Arm.CONTROL))
    once &= ~np.isin(key, key[is_repeat])
    index = np.searchsorted(scene.teacher_ids, offers.teacher[once])
    return np.column_stack([scene.pool.ids[offers.row[once]], index, offers.b_first[once]]).astype(np.int64)
