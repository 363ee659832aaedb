"""A teacher's way into a campaign: guidelines, tutorial, qualification, work; and the gold comparisons on the way."""

import random
from collections.abc import Collection
from decimal import Decimal

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef, QuerySet
from django.utils import timezone

from annotation.models import Campaign, Comparison, Enrolment, GuidelineVersion, Label, Membership, Offer, Teacher
from annotation.services import budget
from annotation.services.terms import has_consented, has_room, members_of, readable_by
from annotation.services.urgency import BEFORE_ALL

GOLD_CHOICE = 200
"""Out of how many unseen gold comparisons one is drawn."""


def enrol(*, campaign: Campaign, teacher: Teacher) -> Enrolment:
    """The teacher's enrolment, opened at the guidelines where there is none yet."""
    return Enrolment.objects.get_or_create(campaign=campaign, teacher=teacher)[0]


@transaction.atomic
def read_guidelines(*, enrolment: Enrolment, version: GuidelineVersion) -> Enrolment:
    """The teacher confirms a version. The first confirmation opens the tutorial, the qualification, or work."""
    Enrolment.objects.filter(pk=enrolment.pk).update(read_version=version)
    if enrolment.stage == Enrolment.Stage.GUIDELINES:
        _move(enrolment, Enrolment.Stage.TUTORIAL)
        advance_enrolment(campaign=enrolment.campaign, enrolment=enrolment)
    enrolment.refresh_from_db()
    return enrolment


@transaction.atomic
def advance_enrolment(*, campaign: Campaign, enrolment: Enrolment) -> None:
    """Move on from the tutorial when it is answered, and from the qualification when it is decided.

    The enrolment is locked before the teacher's languages are read: see `set_languages`.
    """
    list(Enrolment.objects.select_for_update(no_key=True).filter(pk=enrolment.pk).values_list("pk"))
    enrolment.teacher.refresh_from_db(fields=["languages"])
    if enrolment.stage == Enrolment.Stage.TUTORIAL and not _is_waiting(campaign, enrolment):
        has_exam = campaign.qualification_size > 0 and _golds(campaign, enrolment).exists()
        _move(enrolment, Enrolment.Stage.QUALIFICATION if has_exam else Enrolment.Stage.WORKING)
    if enrolment.stage == Enrolment.Stage.QUALIFICATION:
        answered, right = qualification_score(campaign=campaign, teacher=enrolment.teacher)
        if answered >= campaign.qualification_size or not _is_waiting(campaign, enrolment):
            # Out of all that were to be answered: a lesson that was passed over is not a right one.
            asked = max(answered, _asked(campaign, enrolment))
            is_passed = right >= campaign.qualification_pass * asked
            _move(enrolment, Enrolment.Stage.WORKING if is_passed else Enrolment.Stage.FAILED)


def _asked(campaign: Campaign, enrolment: Enrolment) -> int:
    """How many gold comparisons the qualification asks for, of those that the teacher can read."""
    return min(campaign.qualification_size, _golds(campaign, enrolment).count())


@transaction.atomic
def set_languages(*, teacher: Teacher, languages: list[str]) -> None:
    """What the teacher reads. Who can read more gold than the qualification was taken with takes the rest of it.

    Else two changes of this setting would lead past it. The enrolments are locked before, so that one which moves on at
    this moment does so before, and is looked at here, or after, and knows the new languages. The teacher's row comes
    before them, as everywhere.
    """
    Teacher.objects.select_for_update(no_key=True).get(pk=teacher.pk)
    enrolments = list(Enrolment.objects.select_for_update(no_key=True).filter(teacher=teacher).order_by("pk"))
    campaigns = Campaign.objects.in_bulk([one.campaign_id for one in enrolments])
    teacher.refresh_from_db(fields=["languages"])
    working = [one for one in enrolments if one.stage == Enrolment.Stage.WORKING]
    for enrolment in working:
        enrolment.teacher = teacher
    before = {one.pk: _asked(campaigns[one.campaign_id], one) for one in working}
    Teacher.objects.filter(pk=teacher.pk).update(languages=languages)
    teacher.languages = languages
    for enrolment in working:
        campaign = campaigns[enrolment.campaign_id]
        answered, _right = qualification_score(campaign=campaign, teacher=teacher)
        if max(before[enrolment.pk], answered) < _asked(campaign, enrolment):
            _move(enrolment, Enrolment.Stage.TUTORIAL)
            advance_enrolment(campaign=campaign, enrolment=enrolment)


def qualification_score(*, campaign: Campaign, teacher: Teacher) -> tuple[int, int]:
    """Gold comparisons that the teacher answered, and how many of them as they should be."""
    golds = Label.objects.filter(
        campaign=campaign, teacher=teacher, arm=Offer.Arm.GOLD, state=Label.State.CURRENT
    ).select_related("comparison")
    marks = [label.outcome == label.comparison.gold_outcome for label in golds]
    return len(marks), sum(marks)


def _move(enrolment: Enrolment, stage: Enrolment.Stage) -> None:
    """From the stage that was seen, and no other: two tabs move on once."""
    since = timezone.now() if stage == Enrolment.Stage.WORKING else None
    Enrolment.objects.filter(pk=enrolment.pk, stage=enrolment.stage).update(stage=stage, working_since=since)
    enrolment.stage, enrolment.working_since = stage, since


def _lessons(campaign: Campaign, enrolment: Enrolment) -> QuerySet[Comparison]:
    """In a language that the teacher reads, as with every other offer."""
    member = _membership(campaign, enrolment.teacher)
    return Comparison.objects.filter(
        readable_by(enrolment.teacher, [member] if member is not None else []), campaign=campaign, is_active=True
    )


def _membership(campaign: Campaign, teacher: Teacher) -> Membership | None:
    """The first that leads to the campaign and leaves room, under terms that the teacher agreed to; else the first."""
    members = list(members_of(campaign).filter(teacher=teacher))
    free = (one for one in members if has_consented(one, teacher=teacher) and has_room(one, teacher=teacher))
    return next(free, members[0] if members else None)


def _golds(campaign: Campaign, enrolment: Enrolment) -> QuerySet[Comparison]:
    return _lessons(campaign, enrolment).filter(gold_outcome__isnull=False, is_tutorial=False)


def _unseen(campaign: Campaign, enrolment: Enrolment) -> QuerySet[Comparison]:
    """Lessons of the stage that the teacher has neither answered, skipped nor waiting."""
    if enrolment.stage == Enrolment.Stage.TUTORIAL:
        lessons = _lessons(campaign, enrolment).filter(is_tutorial=True)
    else:
        lessons = _golds(campaign, enrolment)
    seen = Offer.objects.filter(
        comparison=OuterRef("pk"), teacher=enrolment.teacher_id, state__in=(*Offer.TAKEN, Offer.State.SKIPPED)
    )
    return lessons.exclude(Exists(seen)).order_by("pk")


def _waiting_lesson(
    campaign: Campaign, enrolment: Enrolment, *, states: Collection[Offer.State] = Offer.LIVE
) -> Offer | None:
    arm = Offer.Arm.TUTORIAL if enrolment.stage == Enrolment.Stage.TUTORIAL else Offer.Arm.GOLD
    return Offer.objects.filter(campaign=campaign, teacher=enrolment.teacher_id, arm=arm, state__in=states).first()


def _is_waiting(campaign: Campaign, enrolment: Enrolment) -> bool:
    return _waiting_lesson(campaign, enrolment) is not None or _unseen(campaign, enrolment).exists()


def wants_gold(campaign: Campaign, enrolment: Enrolment) -> bool:
    """Whether the teacher's next offer is a gold one, by a draw that a reload repeats."""
    return campaign.gold_share > 0 and _draw(campaign, enrolment).random() < campaign.gold_share


def _draw(campaign: Campaign, enrolment: Enrolment) -> random.Random:
    """By the turns so far: whether the present offer is answered or skipped, the same comes next."""
    turns = enrolment.label_count + enrolment.skip_count
    return random.Random(f"{campaign.seed}:{enrolment.teacher_id}:{turns}:{enrolment.stage}")


def next_lesson(*, campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> Offer | None:
    """A tutorial or gold offer at the head of the queue: the one that waits, or a new one. None where all are seen.

    The one that the teacher may be at counts as seen.
    Lessons before work are not paid; gold among the work is paid like the rest, and left out where the budget ends.
    """
    if waiting := _waiting_lesson(campaign, enrolment, states=(Offer.State.QUEUED,)):
        return waiting
    unseen = list(_unseen(campaign, enrolment)[:GOLD_CHOICE])
    if not unseen:
        return None
    draw = _draw(campaign, enrolment)
    is_tutorial = enrolment.stage == Enrolment.Stage.TUTORIAL
    membership = _membership(campaign, teacher)
    if not enrolment.is_learning and not has_room(membership, teacher=teacher):
        return None
    cost = Decimal(0)
    if membership is not None and not enrolment.is_learning:
        cost = budget.cost_of(membership, campaign=campaign)
    try:
        with transaction.atomic():
            offer = Offer.objects.create(
                campaign=campaign,
                comparison=unseen[0] if is_tutorial else draw.choice(unseen),
                teacher=teacher,
                membership=membership,
                arm=Offer.Arm.TUTORIAL if is_tutorial else Offer.Arm.GOLD,
                b_first=draw.random() < 0.5,
                rank=BEFORE_ALL,
                cost=cost,
            )
            if budget.reserve(campaign.pk, cost):
                return offer
            transaction.set_rollback(True)
            return None
    except IntegrityError:  # offer_one_per_teacher: another tab made it
        return _waiting_lesson(campaign, enrolment)
