"""The life of an offer: queued, held, then answered, skipped, lapsed or withdrawn.

Every step is a conditional UPDATE whose row count says who won; the constraints of `Offer` are the contract behind it.
Locks are taken in one order everywhere, offers before people before the campaign, so that no two steps wait for each
other.
"""

import contextlib
from collections import defaultdict
from collections.abc import Iterable
from copy import copy
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import IntegrityError, connection, transaction
from django.db.models import BigIntegerField, Case, DateTimeField, F, Q, QuerySet, When
from django.utils import timezone

from annotation.models import Campaign, Enrolment, Membership, Offer, Teacher
from annotation.prepared import PreparedSelect, PreparedUpdate, Slot
from annotation.services import budget
from annotation.services.enrolments import advance_enrolment, next_lesson, wants_gold
from annotation.services.refusals import LessonNotSkipped, OfferNotHeld
from annotation.services.terms import has_consented, labels_left

CLAIM_TRIES = 5
BATCH = 500


# Claiming -------------------------------------------------------------------------------------------------------------


def claim_offer(*, campaign: Campaign, teacher: Teacher, enrolment: Enrolment | None = None) -> Offer | None:
    """What to put before the teacher: the offer already held, else a lesson that is due, else the queue's head.

    A held offer comes back with the lease that it has; one past its end, which nobody swept yet, gets a new lease. None
    where nothing waits: `terms.unread_terms` and `terms.reason_to_rest` say why. Costs the same with ten comparisons
    and with a million. Whoever has just read the enrolment passes it on.
    """
    if not campaign.is_open or teacher.withdrawn_at is not None:
        return None
    enrolment = enrolment or Enrolment.objects.filter(campaign=campaign, teacher=teacher).first()
    if enrolment is not None and enrolment.is_learning:
        advance_enrolment(campaign=campaign, enrolment=enrolment)
    if enrolment is not None and enrolment.is_shut:
        return None
    is_learning = enrolment is not None and enrolment.is_learning
    for _attempt in range(CLAIM_TRIES):
        head = _head(campaign, teacher, enrolment)
        if head is None:
            return None
        if head.membership is not None and head.membership.status != Membership.Status.ACTIVE:
            withdraw_offers(offers=[head], also_held=True)  # queued in the moment of the suspension
            continue
        if not has_consented(head.membership, teacher=teacher):
            return None  # what is queued or held stays; `terms.unread_terms` says what is to be read first
        if head.state == Offer.State.HELD and head.held_until is not None and head.held_until > timezone.now():
            return head
        left = None if head.membership is None else labels_left(head.membership, teacher=teacher)
        if left == 0 and head.state == Offer.State.QUEUED and not is_learning:
            # Others may be asked all of it, and what follows may be under another pool's terms.
            withdraw_offers(offers=Offer.objects.filter(campaign=campaign, membership=head.membership_id))
            continue
        if left is not None and _begun_beside(head) >= left:
            return None
        if _hold(head, lease=campaign.lease_seconds):
            return head
    return None


def peek_offer(*, campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> Offer | None:
    """What a claim will give after the present answer or skip, for whoever works; nothing is held by looking.

    Where a gold comparison is due next it is put into the queue now. Were it made by the claim, it would be the one
    that is not what was peeked at.
    """
    held = Offer.objects.filter(campaign=campaign, teacher=teacher, state=Offer.State.HELD)
    ahead = copy(enrolment)
    ahead.label_count += held.count()
    if wants_gold(campaign, ahead):
        next_lesson(campaign=campaign, teacher=teacher, enrolment=ahead)
    waiting = _pages().filter(campaign=campaign, teacher=teacher, state=Offer.State.QUEUED)
    return waiting.order_by("rank", "pk").first()


def _begun_beside(head: Offer) -> int:
    """What the teacher is at in other campaigns, under the same terms."""
    begun = Offer.objects.filter(membership=head.membership_id, state=Offer.State.HELD, held_until__gt=timezone.now())
    return begun.exclude(pk=head.pk).count()


def _head(campaign: Campaign, teacher: Teacher, enrolment: Enrolment | None) -> Offer | None:
    """The held offer, a lesson that is due, or the first in the queue; with all that its page shows, in one query."""
    head = HEAD.first(campaign=campaign.pk, teacher=teacher.pk)
    if enrolment is None or (head is not None and head.state == Offer.State.HELD):
        return head
    if enrolment.is_learning or wants_gold(campaign, enrolment):
        lesson = next_lesson(campaign=campaign, teacher=teacher, enrolment=enrolment)
        if lesson is not None:
            return _pages().get(pk=lesson.pk)
    return None if enrolment.is_learning else head


def _pages() -> QuerySet[Offer]:
    """Offers with everything that a page or an answer needs of them."""
    return Offer.objects.select_related(
        "comparison__conversation", "comparison__a", "comparison__b", "membership__pool"
    ).order_by()


def _heads() -> QuerySet[Offer]:
    live = Offer.objects.filter(
        campaign=Slot("campaign", BigIntegerField()), teacher=Slot("teacher", BigIntegerField()), state__in=Offer.LIVE
    ).order_by(Case(When(state=Offer.State.HELD, then=0), default=1), "rank", "pk")
    # The head's key first, from narrow rows; the texts are read for one offer only, however long the queue.
    return _pages().filter(pk=live.values("pk")[:1])


def _claimable() -> QuerySet[Offer]:
    ended = Q(state=Offer.State.HELD, held_until__lte=Slot("now", DateTimeField()))
    return Offer.objects.filter(Q(state=Offer.State.QUEUED) | ended, pk=Slot("offer", BigIntegerField()))


HEAD = PreparedSelect(_heads)
HOLD = PreparedUpdate(
    _claimable,
    state=Offer.State.HELD,
    held_at=Slot("now", DateTimeField()),
    held_until=Slot("until", DateTimeField()),
)


def _hold(offer: Offer, *, lease: int) -> bool:
    """Queued, or held past its end, to held. False where somebody was quicker, or the teacher holds another one."""
    now = timezone.now()
    until = now + timedelta(seconds=lease)
    # One statement is a transaction by itself; inside another one it needs a savepoint, or its failure would end that.
    savepoint = transaction.atomic() if connection.in_atomic_block else contextlib.nullcontext()
    try:
        with savepoint:
            is_held = HOLD.run(offer=offer.pk, now=now, until=until) == 1
    except IntegrityError:  # offer_one_held_per_teacher: another tab of the same teacher claimed in the same moment
        return False
    if is_held:
        offer.state, offer.held_at, offer.held_until = Offer.State.HELD, now, until
    return is_held


# Closing --------------------------------------------------------------------------------------------------------------


@transaction.atomic
def skip_offer(*, offer: Offer, reason: str = "", is_declined: bool = False) -> Offer:
    """The teacher passes: slot and money are free again. Skipping twice is skipping once.

    Lessons before work are not skipped, or they could be skipped into work; only where the teacher opted out of their
    category (is_declined) are they passed over.

    Raises LessonNotSkipped, and OfferNotHeld where the offer was answered, lapsed or withdrawn.
    """
    if not is_declined and _is_lesson(offer):
        raise LessonNotSkipped
    now = timezone.now()
    if _close(Q(pk=offer.pk), state=Offer.State.SKIPPED, now=now, skip_reason=reason[:500]):
        Enrolment.objects.filter(campaign_id=offer.campaign_id, teacher_id=offer.teacher_id).update(
            skip_count=F("skip_count") + 1
        )
        budget.release(offer.campaign_id, offer.cost)
    offer.refresh_from_db()
    if offer.state != Offer.State.SKIPPED:
        raise OfferNotHeld
    return offer


def _is_lesson(offer: Offer) -> bool:
    if offer.arm not in (Offer.Arm.TUTORIAL, Offer.Arm.GOLD):
        return False
    enrolment = Enrolment.objects.filter(campaign=offer.campaign_id, teacher=offer.teacher_id).first()
    return enrolment is not None and enrolment.is_learning


def withdraw_offers(*, offers: Iterable[Offer], also_held: bool = False) -> int:
    """Take queued offers back, and the held ones too where asked.

    Waits for whoever changes one of them at this moment: what is answered meanwhile stays answered.
    """
    states = Offer.LIVE if also_held else (Offer.State.QUEUED,)
    keys = offers.values_list("pk", flat=True) if isinstance(offers, QuerySet) else [offer.pk for offer in offers]
    ids = sorted(keys)
    return sum(
        _close_batch(
            Offer.objects.filter(pk__in=ids[start : start + BATCH], state__in=states),
            state=Offer.State.WITHDRAWN,
        )
        for start in range(0, len(ids), BATCH)
    )


def lapse_offers(*, now: datetime | None = None) -> int:
    """Free what nobody works on: offers held past their end, queues that are a lease old of people who went away as
    long ago or have not agreed to the terms, and what was queued in the moment in which its campaign was closed.

    In batches of 500, each its own short transaction; rows that somebody answers at this moment are left to them.
    """
    now = now or timezone.now()
    lapsed = 0
    ended = Offer.objects.filter(state=Offer.State.HELD, held_until__lt=now)
    while count := _close_batch(ended, state=Offer.State.LAPSED, skip_locked=True):
        lapsed += count
    for campaign in Campaign.objects.filter(state__in=(Campaign.State.OPEN, Campaign.State.PAUSED)):
        since = now - timedelta(seconds=campaign.lease_seconds)
        hoarded = Offer.objects.filter(
            Q(teacher__last_seen__isnull=True)
            | Q(teacher__last_seen__lt=since)
            | Q(membership__accepted_terms__lt=F("membership__pool__terms_version")),
            campaign=campaign,
            state=Offer.State.QUEUED,
            created_at__lt=since,
            teacher__kind=Teacher.Kind.HUMAN,
        )
        while count := _close_batch(hoarded, state=Offer.State.LAPSED, skip_locked=True):
            lapsed += count
    shut = (Campaign.State.CLOSED, Campaign.State.ARCHIVED)
    while _close_batch(
        Offer.objects.filter(state=Offer.State.QUEUED, campaign__state__in=shut),
        state=Offer.State.WITHDRAWN,
        skip_locked=True,
    ):
        pass
    return lapsed


def lapse_offer(*, offer: Offer) -> None:
    """Free one whose late answer was refused, before the next claim would hold it anew. Else nothing happens."""
    ended = Offer.objects.filter(pk=offer.pk, state=Offer.State.HELD, held_until__lte=timezone.now())
    _close_batch(ended, state=Offer.State.LAPSED)


@transaction.atomic
def _close_batch(offers: QuerySet[Offer], *, state: Offer.State, skip_locked: bool = False) -> int:
    """Close up to a batch of live offers and release their money. Returns how many there were."""
    if connection.features.has_select_for_update_of:
        offers = offers.select_for_update(of=("self",), no_key=True, skip_locked=skip_locked)
    rows = list(offers.only("pk", "campaign_id", "cost").order_by("pk")[:BATCH])
    _close(Q(pk__in=[offer.pk for offer in rows]), state=state, now=timezone.now())
    money: dict[int, Decimal] = defaultdict(Decimal)
    for offer in rows:
        money[offer.campaign_id] += offer.cost
    for campaign_id in sorted(money):
        budget.release(campaign_id, money[campaign_id])
    return len(rows)


def _close(which: Q, *, state: Offer.State, now: datetime, skip_reason: str = "") -> int:
    return Offer.objects.filter(which, state__in=Offer.LIVE).update(state=state, closed_at=now, skip_reason=skip_reason)
