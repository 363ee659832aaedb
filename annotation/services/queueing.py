"""Offers put on the queues of teachers: a free slot of the comparison, the head start it has, the money it may cost."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any
from uuid import uuid4

from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from annotation.models import Campaign, Comparison, Membership, Offer
from annotation.services import budget
from annotation.services.refusals import BudgetSpent, CampaignNotOpen
from annotation.services.urgency import head_start

FULL = -1


@dataclass(frozen=True)
class OfferDraft:
    """An offer that somebody upstairs would like to make."""

    comparison_id: int
    teacher_id: int
    membership_id: int | None
    arm: str
    rank: float
    """In [0, `urgency.STEP`), smallest first; `queue_offers` takes the comparison's head start off it."""
    cost: Decimal
    b_first: bool
    """The order shown, drawn by whoever drafts."""
    replaces_id: int | None = None


@transaction.atomic
def queue_offers(*, campaign: Campaign, drafts: Sequence[OfferDraft]) -> list[Offer | None]:
    """Put the drafts on their teachers' queues; None for each that a constraint, the terms or the budget refuses.

    Seven statements, however many drafts. Rows go in with ON CONFLICT DO NOTHING: a place that somebody else takes in
    the same moment costs the one draft and not the batch. Where the money ends, the drafts of smallest rank stay.

    Raises CampaignNotOpen.
    """
    if not Campaign.objects.filter(pk=campaign.pk, state=Campaign.State.OPEN).exists():
        raise CampaignNotOpen
    chosen = _place(campaign, drafts)
    # In one order, so that two batches with places in common never wait for each other.
    Offer.objects.bulk_create(
        sorted(chosen.values(), key=lambda offer: (offer.comparison_id, offer.teacher_id)), ignore_conflicts=True
    )
    stored = {offer.code: offer for offer in Offer.objects.filter(code__in=[offer.code for offer in chosen.values()])}
    _reserve_or_drop(campaign, stored)
    return [stored.get(chosen[index].code) if index in chosen else None for index in range(len(drafts))]


def _place(campaign: Campaign, drafts: Sequence[OfferDraft]) -> dict[int, Offer]:
    """Drafts that look possible as unsaved offers, by index, each in a free slot of its comparison."""
    comparison_ids = {draft.comparison_id for draft in drafts}
    now = timezone.now()
    askable = {
        comparison.pk: head_start(comparison, now=now)
        for comparison in Comparison.objects.filter(pk__in=comparison_ids, campaign=campaign, is_active=True).only(
            "pk", "priority", "due_at"
        )
    }
    members = set(
        Membership.objects.filter(
            pk__in={draft.membership_id for draft in drafts if draft.membership_id},
            status=Membership.Status.ACTIVE,
            teacher__withdrawn_at__isnull=True,
        ).values_list("pk", "teacher_id")
    )
    slots: dict[int, set[int]] = defaultdict(set)
    met: set[tuple[int, int, bool]] = set()
    taken = Offer.objects.filter(comparison_id__in=comparison_ids).filter(
        Q(state__in=Offer.TAKEN) | Q(state=Offer.State.SKIPPED)
    )
    for comparison_id, teacher_id, arm, slot, state in taken.values_list(
        "comparison_id", "teacher_id", "arm", "slot", "state"
    ):
        met.add((comparison_id, teacher_id, arm == Offer.Arm.REPEAT))
        if slot is not None and state != Offer.State.SKIPPED:
            slots[comparison_id].add(slot)

    placed: dict[int, Offer] = {}
    for index in sorted(range(len(drafts)), key=lambda index: drafts[index].rank):
        draft = drafts[index]
        pair = (draft.comparison_id, draft.teacher_id, draft.arm == Offer.Arm.REPEAT)
        slot = _free_slot(draft.arm, slots[draft.comparison_id], limit=campaign.overlap_limit)
        is_member = draft.membership_id is None or (draft.membership_id, draft.teacher_id) in members
        if draft.comparison_id not in askable or pair in met or not is_member or slot == FULL:
            continue
        met.add(pair)
        if slot is not None:
            slots[draft.comparison_id].add(slot)
        placed[index] = Offer(
            code=uuid4(),
            campaign=campaign,
            comparison_id=draft.comparison_id,
            teacher_id=draft.teacher_id,
            membership_id=draft.membership_id,
            arm=draft.arm,
            slot=slot,
            b_first=draft.b_first,
            rank=draft.rank - askable[draft.comparison_id],
            cost=Decimal(draft.cost).quantize(budget.FOUR_PLACES),
            replaces_id=draft.replaces_id,
        )
    return placed


def _free_slot(arm: str, taken: set[int], *, limit: int) -> int | None:
    """0 for control, the smallest free of 1..limit for designed, None for arms without slots; FULL if none is free."""
    if arm == Offer.Arm.CONTROL:
        return FULL if 0 in taken else 0
    if arm == Offer.Arm.DESIGNED:
        return next((slot for slot in range(1, limit + 1) if slot not in taken), FULL)
    return None


def _reserve_or_drop(campaign: Campaign, stored: dict[Any, Offer]) -> None:
    """Reserve the money of the stored offers; those beyond the budget are taken out again. The campaign comes last."""
    total = sum((offer.cost for offer in stored.values()), Decimal(0))
    if budget.reserve(campaign.pk, total):
        return
    locked = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    room = budget.room_left(locked) or Decimal(0)
    dropped = []
    for offer in sorted(stored.values(), key=lambda offer: (offer.rank, offer.pk)):
        if offer.cost <= room:
            room -= offer.cost
        else:
            dropped.append(offer)
    Offer.objects.filter(pk__in=[offer.pk for offer in dropped]).delete()
    for offer in dropped:
        del stored[offer.code]
    if not budget.reserve(campaign.pk, sum((offer.cost for offer in stored.values()), Decimal(0))):
        raise BudgetSpent
