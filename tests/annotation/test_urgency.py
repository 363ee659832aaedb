"""What goes first: priority and near dates before age, however many plans lie between."""

from datetime import timedelta

import pytest
from django.utils import timezone

from activelearning.models import Plan
from activelearning.pipeline import embed, replan
from annotation.models import Campaign, Comparison, Offer, Pool, Teacher, User
from annotation.services.campaigns import set_priority
from annotation.services.enrolments import enrol
from annotation.services.offers import claim_offer
from annotation.services.queueing import queue_offers
from annotation.services.urgency import NEAR, STEP, urgency_of
from tests.activelearning.conftest import encoder  # noqa: F401  (a fixture)
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db
PLANS = 50_000.0
"""Ranks begin with their plan's number: so far apart are a new offer and one that has waited."""


def queue_of(teacher: Teacher) -> list[int]:
    return list(Offer.objects.filter(teacher=teacher).order_by("rank", "pk").values_list("comparison_id", flat=True))


def only(comparison: Comparison) -> object:
    return Comparison.objects.filter(pk=comparison.pk)


def test_a_day_is_worth_more_than_every_priority() -> None:
    now = timezone.now()
    steps = [
        urgency_of(priority=priority, due_at=due_at, now=now)
        for priority, due_at in [(0, None), (30, None), (-30, now), (0, now + timedelta(hours=24)), (30, now)]
    ]
    assert steps == [0, 30, NEAR - 30, NEAR, NEAR + 30]
    assert urgency_of(priority=0, due_at=now + timedelta(hours=25), now=now) == 0


def test_a_higher_priority_goes_before_an_older_lower_one(
    campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
) -> None:
    for priority, comparison in zip((1, 2, 30), comparisons, strict=True):
        only(comparison).update(priority=priority)
    drafts = [draft_for(one, teacher, rank=PLANS * place) for place, one in enumerate(comparisons)]
    queue_offers(campaign=campaign, drafts=drafts)
    assert queue_of(teacher) == [one.pk for one in reversed(comparisons)]


def test_plans_keep_to_the_order_of_urgency(ready: Campaign, teacher: Teacher) -> None:
    """Through the planner: the low priority was queued by plan 1, the high one by plan 50,000."""
    low, high = Comparison.objects.filter(campaign=ready).order_by("id")[:2]
    only(low).update(priority=1)
    replan(ready.pk)
    assert queue_of(teacher)[0] == low.pk
    Offer.objects.exclude(comparison=low).delete()
    only(high).update(priority=2)
    Plan.objects.create(pk=int(PLANS), campaign=ready, strategy="dual", seed=1, candidates=0, seconds=0)
    replan(ready.pk)
    assert queue_of(teacher)[:2] == [high.pk, low.pk]


def test_what_is_queued_moves_however_it_was_queued(
    alice: User, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
) -> None:
    """The date was far when the offer was queued, and is near when it is taken back."""
    first, second, third = comparisons
    only(second).update(due_at=timezone.now() + timedelta(days=3))
    drafts = [draft_for(one, teacher, rank=PLANS * place + 0.001) for place, one in enumerate(comparisons)]
    queue_offers(campaign=campaign, drafts=drafts)
    before = list(Offer.objects.order_by("pk").values_list("rank", flat=True))
    only(second).update(due_at=timezone.now() + timedelta(hours=3))
    set_priority(campaign=campaign, comparisons=only(second), user=alice, priority=0)
    assert queue_of(teacher) == [second.pk, first.pk, third.pk]
    set_priority(campaign=campaign, comparisons=only(third), user=alice, priority=-1)
    set_priority(campaign=campaign, comparisons=only(second), user=alice, due_at=timezone.now() + timedelta(days=9))
    set_priority(campaign=campaign, comparisons=only(third), user=alice, priority=0)
    assert list(Offer.objects.order_by("pk").values_list("rank", flat=True)) == pytest.approx(before, abs=1e-4)


def test_a_lesson_goes_before_the_most_urgent(
    alice: User, campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
) -> None:
    lesson, urgent, _other = comparisons
    only(lesson).update(gold_outcome=1.0, is_tutorial=True, priority=-30)
    only(urgent).update(priority=30, due_at=timezone.now())
    queue_offers(campaign=campaign, drafts=[draft_for(urgent, teacher)])
    enrolment = enrol(campaign=campaign, teacher=teacher)
    enrolment.stage = "tutorial"
    enrolment.save()
    claimed = claim_offer(campaign=campaign, teacher=teacher)
    assert claimed is not None
    assert claimed.comparison == lesson
    Offer.objects.filter(pk=claimed.pk).update(state=Offer.State.QUEUED, held_at=None, held_until=None)
    set_priority(campaign=campaign, comparisons=only(lesson), user=alice, priority=-29)
    assert Offer.objects.get(pk=claimed.pk).rank < -STEP * (NEAR + 30)


@pytest.fixture
def ready(campaign: Campaign, pool: Pool, teacher: Teacher) -> Campaign:
    Campaign.objects.update(dimensions=4, control_share=0, overlap_limit=2)
    add_conversations(campaign, 20)
    Teacher.objects.update(last_seen=timezone.now())
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign
