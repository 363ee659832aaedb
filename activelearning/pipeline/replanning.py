"""Refit where labels are newer, take back what no longer pays, and fill the queues of who is present."""

import time
from collections import Counter
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from decimal import Decimal
from functools import cached_property

import numpy as np
import structlog
from django.db import transaction
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
    load_removable,
    stated_rationality,
)
from activelearning.compiling import is_ready
from activelearning.models import Estimate, OfferReason, Plan, Projection
from activelearning.pipeline.embedding import current_projection
from activelearning.pipeline.estimating import Known, bring_up_to_date, measure
from activelearning.planning import Chosen, Inputs, choose, count_in, runners_up, still_pays
from activelearning.services import ask_to_plan, claim_lease, release_lease, renew_lease
from activelearning.storage import Arrays, read_arrays, to_file
from annotation.models import Campaign, Offer
from annotation.services.offers import OfferDraft, queue_offers, withdraw_offers
from annotation.services.refusals import CampaignNotOpen

ROUNDS = 20
"""Rounds under one lease before the beat takes over."""
REDRAWN_WITHIN = timedelta(hours=1)
"""A control offer that closed unanswered is drawn again if that happened so lately."""
UNBOUNDED = 10**9
URGENT = 1e9
"""Taken off the rank of what goes first."""

log = structlog.get_logger()


def replan(campaign_id: int) -> int:
    """Bring estimate and queues up to date; returns how many offers were made.

    One planner at a time, by lease: whoever finds it taken leaves its request counted and goes, and the holder serves
    it in a further round. So a burst of messages costs two rounds.
    """
    ask_to_plan(campaign_id=campaign_id)
    holder = claim_lease(campaign_id=campaign_id)
    if holder is None:
        return 0
    offered = 0
    try:
        for _round in range(ROUNDS):
            served = renew_lease(campaign_id=campaign_id, holder=holder)
            if served is None:
                return offered
            offered += _plan_once(Campaign.objects.get(pk=campaign_id))
            if release_lease(campaign_id=campaign_id, holder=holder, served=served):
                return offered
    finally:
        release_lease(campaign_id=campaign_id, holder=holder)
    return offered


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
        """(offer, comparison, arm) of offers that lapsed or were withdrawn lately and whose place nobody took."""
        closed = Offer.objects.filter(
            campaign=self.campaign,
            state__in=(Offer.State.LAPSED, Offer.State.WITHDRAWN),
            closed_at__gte=self.now - REDRAWN_WITHIN,
            replaced_by__isnull=True,
        )
        return list(closed.order_by("id").values_list("id", "comparison_id", "arm"))

    @cached_property
    def teacher_ids(self) -> Ints:
        return np.array([member.teacher_id for member in self.members], dtype=np.int64)


def _plan_once(campaign: Campaign) -> int:
    scene = _look(campaign)
    offered = _fill_queues(scene) if campaign.is_open else 0
    if scene.known is not None:
        measure(campaign, scene.pool, scene.labels, scene.known)
    return offered


def _fill_queues(scene: Scene) -> int:
    started, campaign = time.perf_counter(), scene.campaign
    withdrawn = _withdraw(scene)
    if withdrawn:
        scene = replace(scene, offers=load_offers(campaign, scene.pool))
        scene = replace(scene, members=_members(campaign, scene.pool, scene.offers, scene.now))
    inputs = _gather(scene)
    if inputs is None:
        return 0
    chosen = choose(inputs, scene.pool)
    if not chosen:
        return 0
    return _offer(scene, inputs, chosen, withdrawn=withdrawn, started=started)


def _look(campaign: Campaign) -> Scene:
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
        _members(campaign, pool, offers, now) if campaign.is_open else [],
        now,
    )


def _members(campaign: Campaign, pool: PoolRows, offers: OfferRows, now: datetime) -> list[Member]:
    live = Counter(offers.teacher[offers.is_live].tolist())
    holding = set(offers.teacher[offers.is_live & ~offers.is_queued].tolist())
    return load_members(campaign, categories=pool.categories, live=live, holding=holding, now=now)


# What no longer pays --------------------------------------------------------------------------------------------------


def _withdraw(scene: Scene) -> int:
    """Take back queued offers: of teachers who left, on comparisons taken out, and those that now tell too little."""
    offers, pool = scene.offers, scene.pool
    queued = np.flatnonzero(offers.is_queued)
    if not len(queued):
        return 0
    absent = load_removable(
        scene.campaign, set(offers.teacher[queued].tolist()) - set(scene.teacher_ids.tolist()), now=scene.now
    )
    known_row = offers.row[queued] >= 0
    designed = offers.arm[queued] == Offer.Arm.DESIGNED
    control = offers.arm[queued] == Offer.Arm.CONTROL
    leaves = np.isin(offers.teacher[queued], np.array(sorted(absent), dtype=np.int64))
    asked = np.maximum(offers.row[queued], 0)
    leaves |= known_row & (designed | control) & ~pool.is_askable[asked]
    leaves |= known_row & designed & pool.is_held_out[asked]
    candidates = np.flatnonzero(designed & known_row & ~leaves & np.isin(offers.teacher[queued], scene.teacher_ids))
    leaves[candidates[~_still_pays(scene, queued[candidates])]] = True
    taken_back = offers.ids[queued[leaves]].tolist()
    return withdraw_offers(offers=Offer.objects.filter(pk__in=taken_back)) if taken_back else 0


def _still_pays(scene: Scene, places: Ints) -> Bools:
    """Every offer pays until the estimate rests on more than its spanning start."""
    known, offers, pool = scene.known, scene.offers, scene.pool
    if known is None or not len(places) or known.row.label_count < 2 * known.theta.size:
        return np.ones(len(places), dtype=bool)
    inputs = _gather(scene, has_room=True)
    if inputs is None:
        return np.ones(len(places), dtype=bool)
    rationality = known.rationality_of(inputs.teacher, inputs.may_judge.shape[1], stated=_stated(scene))
    ready = pool.has_features[offers.row[places]]
    pays = np.ones(len(places), dtype=bool)
    pays[ready] = still_pays(
        inputs,
        pool,
        rows=offers.row[places[ready]],
        teachers=np.searchsorted(inputs.teacher, offers.teacher[places[ready]]),
        rationality=rationality,
        open_rows=_open_rows(scene),
    )
    return pays


def _open_rows(scene: Scene) -> Ints:
    """Rows that may still be asked of somebody."""
    pool, offers = scene.pool, scene.offers
    room = np.where(pool.is_askable & ~pool.is_held_out & pool.has_features, scene.campaign.overlap_limit, 0)
    taken = offers.row[(offers.row >= 0) & offers.takes_slot & (offers.arm == Offer.Arm.DESIGNED)]
    np.subtract.at(room, taken, 1)
    return np.flatnonzero(room > 0)


# What a choice depends on ---------------------------------------------------------------------------------------------


def _gather(scene: Scene, *, has_room: bool = False) -> Inputs | None:
    """The inputs of a choice; None where nobody has room or nothing may be offered; `has_room` asks for them anyway."""
    campaign, pool, offers, members = scene.campaign, scene.pool, scene.offers, scene.members
    capacity = np.array([member.room for member in members], dtype=np.int64)
    limit = _limit(campaign, int(offers.is_live.sum()))
    if not members or not len(pool) or (not has_room and (not capacity.sum() or limit <= 0)):
        return None
    number = Plan.objects.filter(campaign=campaign).count()
    seed = int(np.random.SeedSequence([campaign.seed, campaign.pk, number]).generate_state(1, np.uint64)[0] >> 1)
    teacher = scene.teacher_ids
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
        judged=_judged(scene, teacher[capacity > 0]),
        repeatable=_repeatable(scene, teacher[capacity > 0])
        if campaign.repeat_share
        else np.zeros((0, 3), dtype=np.int64),
        teacher=teacher,
        cost=np.array([member.cost for member in members]),
        capacity=capacity,
        may_judge=np.array([member.may_judge for member in members], dtype=bool),
        rationality=_rationality(scene, seed),
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


def _stated(scene: Scene) -> Floats | None:
    if scene.known is not None and scene.known.row.is_joint:
        return None
    return np.array([member.known for member in scene.members])


def _rationality(scene: Scene, seed: int) -> Floats:
    """As stated; or a Thompson draw, which explores where a plug-in would lock onto badly estimated teachers."""
    categories = len(scene.pool.categories)
    stated = _stated(scene)
    if stated is not None:
        return stated.reshape(len(scene.members), categories)
    assert scene.known is not None
    return scene.known.draw_rationality(scene.teacher_ids, categories, np.random.default_rng([seed, 1]))


def _judged(scene: Scene, teachers: Ints) -> Ints:
    """(j, 2) comparison and index among the members, of every pair closed to a teacher who has room."""
    offers = scene.offers
    closed = (offers.row >= 0) & np.isin(offers.teacher, teachers) & (offers.arm != Offer.Arm.REPEAT)
    ids = scene.pool.ids[offers.row[closed]]
    return np.column_stack([ids, np.searchsorted(scene.teacher_ids, offers.teacher[closed])]).astype(np.int64)


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


# Offers and their reasons ---------------------------------------------------------------------------------------------


def _offer(scene: Scene, inputs: Inputs, chosen: list[Chosen], *, withdrawn: int, started: float) -> int:
    """Store the plan, its offers and why each was made, in one short transaction."""
    campaign = scene.campaign
    others = runners_up(inputs, scene.pool, chosen, open_rows=_open_rows(scene))
    replaced = _replaced(scene, chosen)
    plan = Plan(
        campaign=campaign,
        estimate=scene.known.row if scene.known is not None else None,
        strategy=campaign.strategy if scene.known is not None else "uniform",
        seed=inputs.seed,
        withdrawn=withdrawn,
        candidates=len(scene.pool),
        seconds=time.perf_counter() - started,
    )
    plan.inputs.save(f"{plan.code}.npz", to_file(inputs.arrays() | _outcome(scene.pool, chosen)), save=False)
    try:
        with transaction.atomic():
            plan.save()
            drafts = [
                _draft(scene, inputs, entry, plan=plan, replaces=replaced.get(number))
                for number, entry in enumerate(chosen)
            ]
            offers = queue_offers(campaign=campaign, drafts=drafts)
            reasons = [
                _reason(scene, offer, entry, plan, near)
                for offer, entry, near in zip(offers, chosen, others, strict=True)
                if offer is not None
            ]
            OfferReason.objects.bulk_create(reasons)
            Plan.objects.filter(pk=plan.pk).update(offered=len(reasons))
    except CampaignNotOpen:
        plan.inputs.delete(save=False)
        return 0
    return len(reasons)


def _outcome(pool: PoolRows, chosen: list[Chosen]) -> Arrays:
    return {
        "chosen_comparison": np.array([int(pool.ids[entry.row]) for entry in chosen], dtype=np.int64),
        "chosen_teacher": np.array([entry.teacher for entry in chosen], dtype=np.int64),
        "chosen_b_first": np.array([entry.b_first for entry in chosen], dtype=np.int64),
        "chosen_arm": np.array([entry.arm for entry in chosen]),
    }


def _draft(scene: Scene, inputs: Inputs, entry: Chosen, *, plan: Plan, replaces: int | None) -> OfferDraft:
    member = scene.members[entry.teacher]
    return OfferDraft(
        comparison_id=int(scene.pool.ids[entry.row]),
        teacher_id=member.teacher_id,
        membership_id=member.membership_id,
        arm=entry.arm,
        rank=plan.pk + entry.place / 1000 - (URGENT if scene.pool.is_urgent[entry.row] else 0.0),
        cost=Decimal(member.price),
        b_first=entry.b_first,
        replaces_id=replaces,
    )


def _replaced(scene: Scene, chosen: list[Chosen]) -> dict[int, int]:
    """Which choice takes the place of which unanswered offer: control by count, designed by comparison."""
    control = [offer for offer, _, arm in scene.unanswered if arm == Offer.Arm.CONTROL]
    designed = {comparison: offer for offer, comparison, arm in scene.unanswered if arm == Offer.Arm.DESIGNED}
    found: dict[int, int] = {}
    for number, entry in enumerate(chosen):
        comparison = int(scene.pool.ids[entry.row])
        if entry.arm == Offer.Arm.CONTROL and control:
            found[number] = control.pop(0)
        elif entry.arm == Offer.Arm.DESIGNED and comparison in designed:
            found[number] = designed.pop(comparison)
    return found


Near = tuple[list[tuple[int, float]], list[tuple[int, float]]]


def _reason(scene: Scene, offer: Offer, entry: Chosen, plan: Plan, near: Near) -> OfferReason:
    pick = entry.pick
    teachers = [{"teacher": scene.members[place].pseudonym, "gain": gain} for place, gain in near[0]]
    comparisons = [{"comparison": int(scene.pool.ids[row]), "gain": gain} for row, gain in near[1]]
    return OfferReason(
        offer=offer,
        plan=plan,
        estimate_id=plan.estimate_id,
        gain=pick.gain if pick else None,
        uncertainty=pick.uncertainty if pick else None,
        gap=pick.gap if pick else None,
        rationality=pick.rationality if pick else None,
        weight=pick.weight if pick else None,
        propensity=entry.propensity,
        runners_up=[*teachers, *comparisons],
    )


# Again ----------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Replay:
    """The same choice made again from the stored inputs, beside what was chosen then."""

    plan: Plan
    now: list[tuple[int, int, str, bool]]
    then: list[tuple[int, int, str, bool]]
    """(comparison, teacher, arm, b_first)"""

    @property
    def is_same(self) -> bool:
        return self.now == self.then


def replay(plan: Plan) -> Replay:
    """Choose again what a plan chose. The pool may have grown since: it is cut to what it was."""
    stored = read_arrays(plan.inputs)
    inputs = Inputs.from_arrays(stored)
    estimate: Estimate | None = plan.estimate
    projection = estimate.projection if estimate is not None else None
    pool = load_pool(plan.campaign, projection)
    teachers = inputs.teacher.tolist()
    then = list(
        zip(
            stored["chosen_comparison"].tolist(),
            [teachers[place] for place in stored["chosen_teacher"].tolist()],
            stored["chosen_arm"].tolist(),
            [bool(value) for value in stored["chosen_b_first"].tolist()],
            strict=True,
        )
    )
    now = [
        (int(pool.ids[entry.row]), teachers[entry.teacher], entry.arm, entry.b_first) for entry in choose(inputs, pool)
    ]
    return Replay(plan, now, then)


def store_replay(plan_id: int) -> bool:
    """Replay a plan and keep the answer in its row."""
    is_same = replay(Plan.objects.get(pk=plan_id)).is_same
    Plan.objects.filter(pk=plan_id).update(replayed_at=timezone.now(), replay_is_same=is_same)
    return is_same
