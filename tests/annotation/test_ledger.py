"""Money: what is promised, owed and paid adds up."""

from datetime import timedelta
from decimal import Decimal
from typing import Any
from uuid import uuid4

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.utils import timezone

from annotation.models import AuditEntry, Campaign, LedgerEntry, Membership, Offer, Pool, Teacher, User
from annotation.services.budget import cost_of, release, reserve
from annotation.services.labels import record_label, undo_label
from annotation.services.ledger import balance, grant_bonus, pay_out, unbalanced_movements
from annotation.services.offers import claim_offer
from annotation.services.refusals import BudgetSpent, Refusal

pytestmark = pytest.mark.django_db


@pytest.fixture
def earned(campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Decimal:
    """Bob answered twice."""
    for choice in ("first", "second"):
        record_label(offer=claim_offer(campaign=campaign, teacher=teacher), choice=choice)
    return Decimal("0.20")


def test_every_movement_adds_up_to_nothing(alice: User, campaign: Campaign, teacher: Teacher, earned: Decimal) -> None:
    undo_label(campaign=campaign, teacher=teacher)
    pay_out(teacher=teacher, amount=Decimal("0.05"), currency="EUR", user=alice)
    assert unbalanced_movements() == []
    assert LedgerEntry.objects.count() == 2 * (2 + 1 + 1)
    assert balance(teacher) == {"EUR": Decimal("0.05")}
    LedgerEntry.objects.filter(account="paid").delete()
    assert len(unbalanced_movements()) == 1


def test_nobody_is_paid_more_than_is_owed(alice: User, teacher: Teacher, earned: Decimal) -> None:
    pay_out(teacher=teacher, amount=Decimal("0.15"), currency="EUR", user=alice, memo="by bank")
    for amount, currency in (("0.06", "EUR"), ("0.01", "USD"), ("0", "EUR"), ("-1", "EUR")):
        with pytest.raises(Refusal):
            pay_out(teacher=teacher, amount=Decimal(amount), currency=currency, user=alice)
    pay_out(teacher=teacher, amount=Decimal("0.05"), currency="EUR", user=alice)
    assert balance(teacher) == {}


def test_a_bonus_comes_from_the_budget(alice: User, campaign: Campaign, teacher: Teacher, earned: Decimal) -> None:
    Campaign.objects.update(budget=1)  # 0.2 spent, 0.1 promised
    grant = {"campaign": campaign, "teacher": teacher, "user": alice, "memo": "care"}
    with pytest.raises(BudgetSpent):
        grant_bonus(amount=Decimal("0.71"), **grant)
    grant_bonus(amount=Decimal("0.70"), **grant)
    campaign.refresh_from_db()
    assert campaign.spent == Decimal("0.9")
    assert balance(teacher) == {"EUR": Decimal("0.9")}


def test_what_is_booked_under_one_id_is_booked_once(
    alice: User, campaign: Campaign, teacher: Teacher, earned: Decimal
) -> None:
    pay = {"campaign": campaign, "teacher": teacher, "currency": "EUR", "user": alice, "movement": uuid4()}
    grant = {"campaign": campaign, "teacher": teacher, "user": alice, "memo": "care", "movement": uuid4()}
    for _time in range(2):
        assert pay_out(amount=Decimal("0.05"), **pay) == pay["movement"]
        assert grant_bonus(amount=Decimal(1), **grant) == grant["movement"]
    for book, given in ((pay_out, pay), (grant_bonus, grant)):
        with pytest.raises(Refusal, match="something else before"):
            book(amount=Decimal("0.02"), **given)
    campaign.refresh_from_db()
    assert balance(teacher) == {"EUR": Decimal("1.15")}
    assert campaign.spent == Decimal("1.2")
    assert AuditEntry.objects.filter(verb__in=("pay out", "bonus")).count() == 2
    assert unbalanced_movements() == []


def test_a_campaigns_spending_is_what_the_ledger_says(campaign: Campaign, teacher: Teacher, earned: Decimal) -> None:
    campaign.refresh_from_db()
    gone = sum(LedgerEntry.objects.filter(campaign=campaign, account="campaign").values_list("amount", flat=True))
    assert campaign.spent == -gone == earned


def test_money_comes_and_goes_without_a_rounding_error(campaign: Campaign) -> None:
    Campaign.objects.update(budget="0.3")
    for _time in range(7):
        assert all(reserve(campaign.pk, Decimal("0.1")) for _third in range(3))
        assert not reserve(campaign.pk, Decimal("0.0001"))
        for _third in range(3):
            release(campaign.pk, Decimal("0.1"))
    campaign.refresh_from_db()
    assert campaign.reserved == 0


def test_an_offer_reserves_the_price_or_the_whole_lease(campaign: Campaign, teacher: Teacher, pool: Pool) -> None:
    membership = Membership.objects.select_related("pool").get()
    assert cost_of(membership, campaign=campaign) == Decimal("0.10")
    membership.pool.pay_per_hour = Decimal(12)
    assert cost_of(membership, campaign=campaign) == Decimal("3.10")  # 900 s at 12 an hour, and a label
    membership.cost_per_label = Decimal("0.04")
    assert cost_of(membership, campaign=campaign) == Decimal("0.04")


@pytest.mark.parametrize(
    ("pool_terms", "own", "cost"),
    [
        ({"pay_per_label": "0.10", "pay_per_hour": 0}, None, "0.10"),
        ({"pay_per_label": 0, "pay_per_hour": 12}, "0.04", "0.04"),
        ({"pay_per_label": 0, "pay_per_hour": 24}, None, "2"),
        ({"pay_per_label": 7, "pay_per_hour": 0}, None, "3"),
        ({"pay_per_label": 0, "pay_per_hour": 12}, "7", "3"),
    ],
)
def test_an_answer_costs_the_present_terms_and_at_most_what_was_reserved(
    campaign: Campaign, teacher: Teacher, queued: list[Offer], pool_terms: Any, own: str | None, cost: str
) -> None:
    """Three offers, each with the lease of 900 seconds at 12 an hour, were queued before the terms changed."""
    Offer.objects.update(cost=3)
    Campaign.objects.update(reserved=9)
    Pool.objects.update(**pool_terms)
    Membership.objects.update(cost_per_label=own)
    held = claim_offer(campaign=campaign, teacher=teacher)
    assert held is not None
    Offer.objects.filter(pk=held.pk).update(held_at=timezone.now() - timedelta(minutes=5))
    label = record_label(offer=Offer.objects.select_related("membership__pool").get(pk=held.pk), choice="first")
    campaign.refresh_from_db()
    assert label.cost == pytest.approx(Decimal(cost), abs=Decimal("0.01"))
    assert (campaign.spent, campaign.reserved) == (label.cost, 6)
    assert balance(teacher) == {"EUR": label.cost}


def test_a_movement_has_two_accounts_and_moves_something(teacher: Teacher) -> None:
    """Tried against the database itself."""
    side = {"movement": uuid4(), "account": "teacher", "teacher": teacher}
    LedgerEntry.objects.create(**side, amount=1)
    for wrong in ({"amount": -1}, {"amount": 0, "account": "paid"}):
        with pytest.raises(IntegrityError), transaction.atomic():
            LedgerEntry.objects.create(**{**side, **wrong})


def test_pay_is_never_less_than_nothing(pool: Pool, teacher: Teacher) -> None:
    """Tried against the database itself, and by the validators of the forms."""
    for wrong in ({"pay_per_label": -1}, {"pay_per_hour": -1}):
        with pytest.raises(IntegrityError), transaction.atomic():
            Pool.objects.filter(pk=pool.pk).update(**wrong)
        with pytest.raises(ValidationError):
            Pool(name="Another", **wrong).full_clean()
    with pytest.raises(IntegrityError), transaction.atomic():
        Membership.objects.filter(teacher=teacher).update(cost_per_label=-1)
