"""Labels: an answer is one label, however often it is sent; an edit supersedes, an undo retracts, nothing is lost.

The counters of teacher, member and campaign, the money and the ledger move in the label's own transaction.
"""

from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import BigIntegerField, DateTimeField, Q, QuerySet
from django.utils import timezone

from annotation.models import Campaign, Enrolment, GuidelineVersion, Label, LedgerEntry, Offer, Teacher
from annotation.prepared import PreparedUpdate, Slot
from annotation.services import budget
from annotation.services.counters import count_label, settle
from annotation.services.enrolments import advance_enrolment
from annotation.services.ledger import record_movement
from annotation.services.rankings import choice_from_ranking
from annotation.services.refusals import (
    AlreadyLabelled,
    CampaignNotOpen,
    InvalidAnswer,
    NotAllowed,
    NothingToUndo,
    OfferLapsed,
    OfferNotHeld,
)
from annotation.services.reviews import refer_comparisons
from annotation.services.teachers import lock_unless_withdrawn
from annotation.services.terms import today


@dataclass(frozen=True)
class Answer:
    """What the teacher said, as shown."""

    choice: str
    strength: int | None = None
    criteria: dict[str, str] = field(default_factory=dict)
    ranking: list[list[int]] | None = None
    reason: str = ""
    is_flagged: bool = False

    def is_in(self, label: Label) -> bool:
        return self == Answer(
            label.choice, label.strength, label.criteria, label.ranking, label.reason, label.is_flagged
        )


def _checked(answer: Answer, *, offer: Offer) -> Answer:
    """The answer, if it fits the question. Raises InvalidAnswer."""
    choice, strength = answer.choice, answer.strength
    if answer.ranking is not None:
        choice = choice_from_ranking(offer, answer.ranking)
    choices = set(Label.Choice.values)
    if choice not in choices or not set(answer.criteria.values()) <= choices:
        raise InvalidAnswer
    if strength is not None and strength not in (1, 2, 3):
        raise InvalidAnswer
    if choice in (Label.Choice.TIE, Label.Choice.BOTH_BAD):
        strength = None
    return replace(answer, choice=choice, strength=strength)


def _store_label(
    offer: Offer,
    answer: Answer,
    *,
    guidelines_id: int | None,
    seconds: float,
    cost: Decimal,
    supersedes: Label | None = None,
) -> Label:
    """The row of an answer: an answer's fields are those of the label, the rest is the offer's."""
    return Label.objects.create(
        campaign_id=offer.campaign_id,
        offer=offer,
        comparison_id=offer.comparison_id,
        teacher_id=offer.teacher_id,
        arm=offer.arm,
        b_first=offer.b_first,
        guidelines_id=guidelines_id,
        seconds=seconds,
        cost=cost,
        supersedes=supersedes,
        **vars(answer),
    )


# Answering ------------------------------------------------------------------------------------------------------------


@transaction.atomic
def record_label(
    *,
    offer: Offer,
    choice: str,
    strength: int | None = None,
    criteria: dict[str, str] | None = None,
    ranking: list[list[int]] | None = None,
    reason: str = "",
    is_flagged: bool = False,
    guidelines: GuidelineVersion | None = None,
    enrolment: Enrolment | None = None,
) -> Label:
    """Take the answer to a held offer. The same answer again gives the same label.

    The conditional UPDATE of the offer decides who wins: a second submit waits for its row, finds it answered, and
    reads the first one's label. The campaign's row, which everybody shares, is locked last. Of the offer and the
    enrolment as they are passed only what does not change is believed; the enrolment counts on in memory too.

    Raises OfferLapsed, OfferNotHeld, AlreadyLabelled, BudgetSpent, CampaignNotOpen, InvalidAnswer.
    """
    answer = _checked(Answer(choice, strength, dict(criteria or {}), ranking, reason, is_flagged), offer=offer)
    now = timezone.now()
    reserved = _take(offer, now=now)
    if reserved is None:
        return _known_label(offer, answer)
    if enrolment is None:
        enrolment, _is_new = Enrolment.objects.get_or_create(
            campaign_id=offer.campaign_id,
            teacher_id=offer.teacher_id,
            defaults={"stage": Enrolment.Stage.WORKING, "working_since": now},
        )
    seconds = offer.seconds_until(now)
    price = budget.price_of(offer.membership, reserved=offer.cost, seconds=seconds)
    read_id = guidelines.pk if guidelines is not None else enrolment.read_version_id
    label = _store_label(offer, answer, guidelines_id=read_id, seconds=seconds, cost=price)
    _pay(label, offer=offer, price=price)
    day = today(offer.teacher, now=now)
    count_label(offer, labels=1, price=price, day=day)
    enrolment.count_label(price, day=day)
    if enrolment.is_learning:
        advance_enrolment(campaign=offer.campaign, enrolment=enrolment)
    refer_comparisons(campaign=offer.campaign, ids=[offer.comparison_id])
    settle(offer, labels=1, reserved=-reserved, spent=price)
    return label


def _take(offer: Offer, *, now: datetime) -> Decimal | None:
    """Move the offer to answered. Returns the money that was reserved for it, None where it is answered already.

    A late answer follows the campaign's policy: accepted while the slot is still free, which the constraints decide.
    """
    this = Offer.objects.filter(pk=offer.pk)
    answered = {"state": Offer.State.ANSWERED, "closed_at": now}
    if TAKE.run(offer=offer.pk, now=now):
        return offer.cost
    offer.state, offer.held_at = this.values_list("state", "held_at").get()
    if offer.state == Offer.State.ANSWERED:
        return None
    if offer.state not in (Offer.State.HELD, Offer.State.LAPSED) or offer.held_at is None:
        raise OfferNotHeld
    if Campaign.objects.filter(pk=offer.campaign_id, late_policy=Campaign.LatePolicy.REFUSE).exists():
        raise OfferLapsed
    if this.filter(state=Offer.State.HELD).update(**answered):
        return offer.cost
    if not lock_unless_withdrawn(offer.teacher_id):  # a withdrawal takes live offers, which this one is no more
        raise OfferNotHeld
    try:
        with transaction.atomic():
            if this.filter(state=Offer.State.LAPSED).update(**answered):
                return Decimal(0)
    except IntegrityError:  # offer_one_per_slot or offer_one_per_teacher: the place was given away
        raise OfferLapsed from None
    return None


TAKE = PreparedUpdate(
    lambda: Offer.objects.filter(
        pk=Slot("offer", BigIntegerField()),
        state=Offer.State.HELD,
        held_until__gt=Slot("now", DateTimeField()),
    ),
    state=Offer.State.ANSWERED,
    closed_at=Slot("now", DateTimeField()),
)


def _known_label(offer: Offer, answer: Answer) -> Label:
    """The label that this answer already is. Raises AlreadyLabelled where the offer was answered otherwise."""
    for label in Label.objects.filter(offer=offer).order_by("-id"):
        if label.state in (Label.State.CURRENT, Label.State.SUPERSEDED) and answer.is_in(label):
            return label
    raise AlreadyLabelled


def _pay(label: Label, *, offer: Offer, price: Decimal, memo: str = "") -> None:
    """Owe the teacher the price; a negative one takes it back."""
    owing, owed = LedgerEntry.Account.CAMPAIGN, LedgerEntry.Account.TEACHER
    record_movement(
        giver=owing if price > 0 else owed,
        taker=owed if price > 0 else owing,
        amount=abs(price),
        campaign_id=offer.campaign_id,
        teacher_id=offer.teacher_id,
        currency=offer.campaign.currency,
        label_id=label.pk,
        memo=memo,
    )


# Changing -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def edit_label(
    *,
    label: Label,
    choice: str,
    strength: int | None = None,
    criteria: dict[str, str] | None = None,
    ranking: list[list[int]] | None = None,
    reason: str = "",
    is_flagged: bool = False,
    guidelines: GuidelineVersion | None = None,
) -> Label:
    """A new current label in place of this one, which stays as superseded. The same edit twice is one edit; pay stays.

    Raises AlreadyLabelled where another edit came first, NotAllowed where the label was retracted or withdrawn or
    answered a lesson, CampaignNotOpen, InvalidAnswer.
    """
    # Before the label, as everywhere: see undo_label.
    offer = Offer.objects.select_for_update(no_key=True).get(pk=label.offer_id)
    answer = _checked(Answer(choice, strength, dict(criteria or {}), ranking, reason, is_flagged), offer=offer)
    if not _may_change(label):
        raise NotAllowed
    if not Label.objects.filter(pk=label.pk, state=Label.State.CURRENT).update(
        state=Label.State.SUPERSEDED, changed_at=timezone.now()
    ):
        return _known_edit(label, answer)
    read_id = guidelines.pk if guidelines is not None else label.guidelines_id
    edited = _store_label(
        offer, answer, guidelines_id=read_id, seconds=label.seconds, cost=label.cost, supersedes=label
    )
    refer_comparisons(campaign=offer.campaign, ids=[offer.comparison_id])
    settle(offer, labels=0, reserved=Decimal(0), spent=Decimal(0))
    return edited


def _known_edit(label: Label, answer: Answer) -> Label:
    label.refresh_from_db()
    edited = Label.objects.filter(supersedes=label).first()
    if label.state != Label.State.SUPERSEDED or edited is None:
        raise NotAllowed
    if not answer.is_in(edited):
        raise AlreadyLabelled
    return edited


def _may_change(label: Label) -> bool:
    """Lessons are marked once: no going back after the feedback."""
    if label.arm == Offer.Arm.TUTORIAL:
        return False
    if label.arm != Offer.Arm.GOLD:
        return True
    working = Enrolment.objects.filter(
        campaign_id=label.campaign_id, teacher_id=label.teacher_id, stage=Enrolment.Stage.WORKING
    )
    return working.filter(Q(working_since__isnull=True) | Q(working_since__lte=label.created_at)).exists()


@transaction.atomic
def undo_label(*, campaign: Campaign, teacher: Teacher) -> Offer | None:
    """Take back the teacher's last label: it is retracted, its offer held again, its pay reversed.

    What the teacher holds at the moment goes back to the head of the queue. The time spent on either goes on counting
    when it is shown again, so that hours are paid for all looks. None where there is nothing to take back.

    Raises CampaignNotOpen, BudgetSpent.
    """
    if not campaign.is_open:
        raise CampaignNotOpen
    current = Label.objects.filter(campaign=campaign, teacher=teacher, state=Label.State.CURRENT)
    label = current.select_related("offer").order_by("-id").first()
    if label is None or not _may_change(label):
        return None
    now = timezone.now()
    given_at = label.offer.closed_at or label.created_at  # of an edit, when the first answer came
    until = now + timedelta(seconds=campaign.lease_seconds)
    _put_back(Offer.objects.filter(campaign=campaign, teacher=teacher, state=Offer.State.HELD), now=now)
    if not Offer.objects.filter(pk=label.offer_id, state=Offer.State.ANSWERED).update(
        state=Offer.State.HELD, held_at=now, held_until=until, seconds_before=label.seconds, closed_at=None
    ):
        return None  # another tab was quicker
    # Whichever is current now: an edit may have come since the label was read. The offer's lock keeps others out.
    given = Label.objects.filter(offer=label.offer_id, state=Label.State.CURRENT)
    if not given.update(state=Label.State.RETRACTED, changed_at=now):
        raise NothingToUndo
    offer = Offer.objects.select_related(
        "membership__pool", "comparison__conversation", "comparison__a", "comparison__b"
    ).get(pk=label.offer_id)
    offer.campaign = campaign
    _pay(label, offer=offer, price=-label.cost, memo="undone")
    count_label(offer, labels=-1, price=-label.cost, day=today(teacher, now=given_at))
    refer_comparisons(campaign=campaign, ids=[offer.comparison_id])
    settle(offer, labels=-1, reserved=offer.cost, spent=-label.cost)
    return offer


def _put_back(held: QuerySet[Offer], *, now: datetime) -> None:
    for offer in held.select_for_update(no_key=True):
        held.filter(pk=offer.pk).update(
            state=Offer.State.QUEUED, held_at=None, held_until=None, seconds_before=offer.seconds_until(now)
        )
