"""Refit where labels are newer, take back what no longer pays, and fill the queues of who is present."""

import time
from dataclasses import replace
from uuid import UUID

import numpy as np
from django.db import transaction

from activelearning.arrays import (
    PoolRows,
    load_offers,
)
from activelearning.models import OfferReason, Plan
from activelearning.pipeline.measuring import measure
from activelearning.pipeline.scene import Scene, gather, look, members_now, open_rows
from activelearning.pipeline.withdrawing import withdraw
from activelearning.planning import Chosen, Inputs, choose
from activelearning.services import ask_to_plan, claim_lease, release_lease, renew_lease
from activelearning.storage import Arrays, to_file
from activelearning.weighing import runners_up
from annotation.models import Campaign, Offer
from annotation.services.queueing import OfferDraft, queue_offers
from annotation.services.refusals import CampaignNotOpen

ROUNDS = 20
"""Rounds under one lease before the beat takes over."""


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
            offered += _plan_once(Campaign.objects.get(pk=campaign_id), holder)
            if release_lease(campaign_id=campaign_id, holder=holder, served=served):
                return offered
    except LeaseLost:
        return offered
    finally:
        release_lease(campaign_id=campaign_id, holder=holder)
    return offered


class LeaseLost(Exception):
    """A step took longer than the lease, and another planner has begun: it decides."""


def _keep_lease(campaign: Campaign, holder: UUID) -> None:
    """Before each write, however long what led to it took. Raises LeaseLost."""
    if renew_lease(campaign_id=campaign.pk, holder=holder) is None:
        raise LeaseLost


def _plan_once(campaign: Campaign, holder: UUID) -> int:
    scene = look(campaign)
    offered = _fill_queues(scene, holder) if campaign.is_open else 0
    if scene.known is not None:
        measure(campaign, scene.pool, scene.labels, scene.known)
    return offered


def _fill_queues(scene: Scene, holder: UUID) -> int:
    started, campaign = time.perf_counter(), scene.campaign
    _keep_lease(campaign, holder)
    withdrawn = withdraw(scene)
    if withdrawn:
        scene = replace(scene, offers=load_offers(campaign, scene.pool))
        scene = replace(scene, members=members_now(campaign, scene.pool, scene.offers, scene.now))
    inputs = gather(scene)
    if inputs is None:
        return 0
    chosen = choose(inputs, scene.pool)
    if not chosen:
        return 0
    _keep_lease(campaign, holder)
    return _offer(scene, inputs, chosen, withdrawn=withdrawn, started=started)


def _offer(scene: Scene, inputs: Inputs, chosen: list[Chosen], *, withdrawn: int, started: float) -> int:
    """Store the plan, its offers and why each was made, in one short transaction."""
    campaign = scene.campaign
    others = runners_up(inputs, scene.pool, chosen, open_rows=open_rows(scene))
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
        rank=plan.pk + entry.place / 1000,
        cost=member.price,
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
    teachers = [{"teacher": scene.members[place].teacher_id, "gain": gain} for place, gain in near[0]]
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
        is_spanning=entry.is_spanning,
        is_urgent=entry.is_urgent,
        runners_up=[*teachers, *comparisons],
    )
