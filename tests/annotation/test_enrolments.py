"""From the guidelines to work, and gold among the work."""

from decimal import Decimal

import pytest

from annotation.models import Campaign, Comparison, Enrolment, GuidelineVersion, Membership, Offer, Teacher
from annotation.services.enrolments import enrol, qualification_score, read_guidelines
from annotation.services.labels import record_label, undo_label
from annotation.services.offers import claim_offer, peek_offer, skip_offer
from annotation.services.queueing import queue_offers
from annotation.services.refusals import LessonNotSkipped
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def enrolment(campaign: Campaign, teacher: Teacher) -> Enrolment:
    return enrol(campaign=campaign, teacher=teacher)


@pytest.fixture
def guidelines(campaign: Campaign) -> GuidelineVersion:
    return campaign.guidelines.get()


def answer_right(offer: Offer, is_right: bool = True) -> None:
    """Gold is for response a throughout."""
    record_label(offer=offer, choice="second" if offer.b_first == is_right else "first")


def test_without_lessons_reading_the_guidelines_opens_work(
    campaign: Campaign, enrolment: Enrolment, guidelines: GuidelineVersion
) -> None:
    assert enrolment.stage == Enrolment.Stage.GUIDELINES
    assert enrol(campaign=campaign, teacher=enrolment.teacher) == enrolment
    assert read_guidelines(enrolment=enrolment, version=guidelines).stage == Enrolment.Stage.WORKING
    assert Enrolment.objects.get().read_version == guidelines


def test_the_tutorial_comes_first_and_is_neither_paid_nor_taken_back(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment, guidelines: GuidelineVersion
) -> None:
    add_conversations(campaign, 3)
    lessons = list(Comparison.objects.order_by("pk")[:2])
    Comparison.objects.filter(pk__in=[lesson.pk for lesson in lessons]).update(is_tutorial=True, gold_outcome=1)
    assert read_guidelines(enrolment=enrolment, version=guidelines).stage == Enrolment.Stage.TUTORIAL
    for lesson in lessons:
        offer = claim_offer(campaign=campaign, teacher=teacher)
        assert offer == claim_offer(campaign=campaign, teacher=teacher)
        assert (offer.comparison, offer.arm, offer.cost) == (lesson, Offer.Arm.TUTORIAL, 0)
        answer_right(offer)
        assert undo_label(campaign=campaign, teacher=teacher) is None
    assert claim_offer(campaign=campaign, teacher=teacher) is None
    assert Enrolment.objects.get().stage == Enrolment.Stage.WORKING


def test_a_lesson_waits_for_a_day_with_room(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment, guidelines: GuidelineVersion
) -> None:
    add_conversations(campaign, 1)
    Comparison.objects.update(is_tutorial=True, gold_outcome=1)
    read_guidelines(enrolment=enrolment, version=guidelines)
    Membership.objects.update(capacity=0)
    for _look in range(3):
        assert claim_offer(campaign=campaign, teacher=teacher) is None
    assert list(Offer.objects.values_list("state", flat=True)) == ["queued"]
    Membership.objects.update(capacity=None)
    assert claim_offer(campaign=campaign, teacher=teacher) is not None


@pytest.mark.parametrize(("wrong", "stage"), [(1, Enrolment.Stage.WORKING), (2, Enrolment.Stage.FAILED)])
def test_the_qualification_decides(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment, guidelines: GuidelineVersion, wrong: int, stage: str
) -> None:
    add_conversations(campaign, 6)
    Comparison.objects.update(gold_outcome=1)
    campaign.qualification_size, campaign.qualification_pass = 4, 0.75
    campaign.save()
    enrolment.refresh_from_db()
    assert read_guidelines(enrolment=enrolment, version=guidelines).stage == Enrolment.Stage.QUALIFICATION
    for number in range(4):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        assert (offer.arm, offer.cost) == (Offer.Arm.GOLD, 0)
        answer_right(offer, is_right=number >= wrong)
    assert qualification_score(campaign=campaign, teacher=teacher) == (4, 4 - wrong)
    assert Enrolment.objects.get().stage == stage
    assert claim_offer(campaign=campaign, teacher=teacher) is None
    assert undo_label(campaign=campaign, teacher=teacher) is None


@pytest.mark.parametrize("arm", [Offer.Arm.TUTORIAL, Offer.Arm.GOLD])
def test_a_lesson_cannot_be_skipped_into_work(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment, guidelines: GuidelineVersion, arm: str
) -> None:
    add_conversations(campaign, 2)
    Comparison.objects.update(gold_outcome=1, is_tutorial=arm == Offer.Arm.TUTORIAL)
    campaign.qualification_size, campaign.qualification_pass = 2, 0.75
    campaign.save()
    enrolment.refresh_from_db()
    read_guidelines(enrolment=enrolment, version=guidelines)
    offer = claim_offer(campaign=campaign, teacher=teacher)
    assert offer.arm == arm
    with pytest.raises(LessonNotSkipped):
        skip_offer(offer=offer)
    assert claim_offer(campaign=campaign, teacher=teacher) == offer
    assert Enrolment.objects.get().is_learning


@pytest.mark.parametrize("right", [0, 1])
def test_declined_gold_counts_as_not_answered(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment, guidelines: GuidelineVersion, right: int
) -> None:
    add_conversations(campaign, 3)
    Comparison.objects.update(gold_outcome=1)
    campaign.qualification_size, campaign.qualification_pass = 3, 0.75
    campaign.save()
    enrolment.refresh_from_db()
    read_guidelines(enrolment=enrolment, version=guidelines)
    for number in range(3):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        if number < right:
            answer_right(offer)
        else:
            skip_offer(offer=offer, is_declined=True)
    assert claim_offer(campaign=campaign, teacher=teacher) is None
    assert Enrolment.objects.get().stage == Enrolment.Stage.FAILED


def test_gold_comes_among_the_work_at_its_share_is_paid_and_stays_on_reload(
    campaign: Campaign, teacher: Teacher, enrolment: Enrolment
) -> None:
    work, gold = add_conversations(campaign, 40), add_conversations(campaign, 40)
    Comparison.objects.filter(pk__in=[comparison.pk for comparison in gold]).update(gold_outcome=1)
    campaign.gold_share = 0.3
    campaign.save()
    Enrolment.objects.update(stage=Enrolment.Stage.WORKING)
    queue_offers(campaign=campaign, drafts=[draft_for(comparison, teacher) for comparison in work])
    for _place in range(40):
        offer = claim_offer(campaign=campaign, teacher=teacher)
        assert offer == claim_offer(campaign=campaign, teacher=teacher)
        record_label(offer=offer, choice="tie")
    golds = Offer.objects.filter(arm=Offer.Arm.GOLD)
    assert 5 <= golds.count() <= 20  # 12 on average
    assert len({golds.comparison_id for golds in golds}) == golds.count()
    assert set(golds.values_list("cost", flat=True)) == {Decimal("0.1")}
    campaign.refresh_from_db()
    assert campaign.spent == Decimal("4.0")


def test_what_was_peeked_at_comes_gold_or_not(campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> None:
    work, gold = add_conversations(campaign, 40), add_conversations(campaign, 40)
    Comparison.objects.filter(pk__in=[comparison.pk for comparison in gold]).update(gold_outcome=1)
    Campaign.objects.update(gold_share=0.4)
    Enrolment.objects.update(stage=Enrolment.Stage.WORKING)
    campaign.refresh_from_db()
    queue_offers(campaign=campaign, drafts=[draft_for(comparison, teacher) for comparison in work])
    pairs = []
    for place in range(30):
        held = claim_offer(campaign=campaign, teacher=teacher)
        enrolment.refresh_from_db()
        peeked = [peek_offer(campaign=campaign, teacher=teacher, enrolment=enrolment) for _again in range(2)]
        assert peeked[0] == peeked[1]
        if place % 5 == 4:
            skip_offer(offer=held)
        else:
            record_label(offer=held, choice="tie")
        assert claim_offer(campaign=campaign, teacher=teacher) == peeked[0]
        pairs.append((held.arm, peeked[0].arm))
    assert len(set(pairs)) == 4, "gold and work follow each other in every order"
    assert 6 <= sum(arm == Offer.Arm.GOLD for arm, _next in pairs) <= 18  # 12 on average


def test_gold_is_left_out_where_the_budget_ends(campaign: Campaign, teacher: Teacher, enrolment: Enrolment) -> None:
    work, gold = add_conversations(campaign, 1), add_conversations(campaign, 1)
    Comparison.objects.filter(pk=gold[0].pk).update(gold_outcome=1)
    Enrolment.objects.update(stage=Enrolment.Stage.WORKING)
    Campaign.objects.update(gold_share=0.5, budget="0.1")
    campaign.refresh_from_db()
    queue_offers(campaign=campaign, drafts=[draft_for(work[0], teacher)])
    campaign.gold_share = 1.0
    assert claim_offer(campaign=campaign, teacher=teacher).comparison == work[0]
    assert Offer.objects.count() == 1
