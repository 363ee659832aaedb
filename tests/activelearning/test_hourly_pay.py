"""Paid hours from the plan to the ledger: an offer reserves the whole lease, an answer costs the time that it took."""

from datetime import timedelta
from decimal import Decimal

import pytest
from django.utils import timezone

from activelearning.arrays.teachers import load_members
from activelearning.models import Plan
from activelearning.pipeline import embed, replan
from annotation.models import Campaign, Membership, Offer, Pool, Teacher
from annotation.services.labels import record_label
from annotation.services.ledger import balance
from annotation.services.offers import claim_offer
from tests.activelearning.conftest import hire, live_offers
from tests.annotation.test_concurrency import at_once, on_postgres
from tests.conftest import add_conversations

LEASE = Decimal(3)  # 900 seconds at 12 an hour


@pytest.fixture
def hourly(campaign: Campaign, pool: Pool) -> Campaign:
    """Three teachers at 12 an hour, forty comparisons with features, and a lease of 900 seconds."""
    Pool.objects.update(pay_per_label=0, pay_per_hour=12)
    Campaign.objects.update(dimensions=4, control_share=0, overlap_limit=2, queue_depth=2)
    add_conversations(campaign, 40)
    hire(pool, 3)
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def work(campaign: Campaign, teacher: Teacher, *, minutes: float) -> Decimal:
    """One offer of the teacher's queue, answered after so many minutes; what the label cost."""
    offer = claim_offer(campaign=campaign, teacher=teacher)
    assert offer is not None
    Offer.objects.filter(pk=offer.pk).update(held_at=timezone.now() - timedelta(minutes=minutes))
    return record_label(offer=Offer.objects.select_related("membership__pool").get(pk=offer.pk), choice="first").cost


@pytest.mark.django_db
@pytest.mark.parametrize(("minutes", "earned"), [(0.5, "0.10"), (5, "1"), (14, "2.80"), (25, "3")])
def test_ten_minutes_are_not_paid_as_one(hourly: Campaign, minutes: float, earned: str) -> None:
    replan(hourly.pk)
    teacher = Teacher.objects.all()[0]
    cost = work(hourly, teacher, minutes=minutes)
    assert cost == pytest.approx(Decimal(earned), abs=Decimal("0.01"))  # beyond the lease nothing was promised
    hourly.refresh_from_db()
    assert hourly.reserved == 5 * LEASE
    assert balance(teacher) == {"EUR": cost}
    assert hourly.spent == cost


@pytest.mark.django_db
def test_hours_are_paid_beside_labels(hourly: Campaign) -> None:
    Pool.objects.update(pay_per_label="0.10")
    replan(hourly.pk)
    assert {offer.cost for offer in live_offers(hourly)} == {LEASE + Decimal("0.10")}
    assert work(hourly, Teacher.objects.all()[0], minutes=5) == pytest.approx(Decimal("1.10"), abs=Decimal("0.01"))


@pytest.mark.django_db
def test_a_price_of_ones_own_is_all_there_is(hourly: Campaign) -> None:
    Membership.objects.update(cost_per_label="0.04")
    replan(hourly.pk)
    assert {offer.cost for offer in live_offers(hourly)} == {Decimal("0.04")}


@pytest.mark.django_db
def test_the_criterion_sees_what_a_label_is_expected_to_cost(hourly: Campaign, pool: Pool) -> None:
    """A minute at 12 an hour is 0.20: dearer than a label at 0.15, although its offer reserves 20 times as much."""
    hire(pool, 1, cost_per_label="0.15")
    kinds = [(0, "")]
    members = load_members(hourly, categories=("coding",), kinds=kinds, live={}, holding=set(), now=timezone.now())
    assert [(float(member.price), member.cost) for member in members] == [(3.0, 0.2)] * 3 + [(0.15, 0.15)]
    Campaign.objects.update(lease_seconds=30)
    hourly.refresh_from_db()
    members = load_members(hourly, categories=("coding",), kinds=kinds, live={}, holding=set(), now=timezone.now())
    assert [member.cost for member in members] == [0.1] * 3 + [0.15]  # nobody is paid for longer than the lease


@pytest.mark.django_db
@pytest.mark.parametrize("strategy", ["dual", "uniform", "uncertainty"])
def test_the_plan_promises_no_more_leases_than_the_budget_holds(hourly: Campaign, strategy: str) -> None:
    Campaign.objects.update(budget="7", strategy=strategy)
    assert replan(hourly.pk) == 2
    hourly.refresh_from_db()
    assert hourly.reserved == 2 * LEASE
    assert replan(hourly.pk) == 0
    assert Plan.objects.count() == 1  # no plan of offers that the budget turns away
    holder = live_offers(hourly)[0].teacher
    work(hourly, holder, minutes=1)
    assert replan(hourly.pk) == 1  # what the label did not take is there again


@pytest.mark.django_db
def test_the_unpaid_are_asked_when_the_money_is_gone(hourly: Campaign, pool: Pool) -> None:
    free = hire(pool, 1, cost_per_label=0)[0]
    Campaign.objects.update(budget="1")
    assert replan(hourly.pk) == 2
    assert {offer.teacher for offer in live_offers(hourly)} == {free}


@on_postgres
@pytest.mark.django_db(transaction=True)
def test_hours_answered_at_once_stay_within_the_budget(hourly: Campaign) -> None:
    Campaign.objects.update(budget="10")  # three leases
    hourly.refresh_from_db()
    replan(hourly.pk)
    staff = {offer.teacher for offer in live_offers(hourly)}

    def answer_and_plan(teacher: Teacher) -> None:
        while live_offers(hourly, teacher=teacher):
            work(hourly, teacher, minutes=14)
            replan(hourly.pk)

    results = at_once(*[lambda each=each: answer_and_plan(each) for each in staff])
    assert results == [None] * len(staff)
    hourly.refresh_from_db()
    assert hourly.budget is not None
    promised = sum(offer.cost for offer in live_offers(hourly))
    assert hourly.reserved == promised
    assert hourly.budget - LEASE < hourly.reserved + hourly.spent <= hourly.budget
