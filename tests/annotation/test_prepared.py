"""Prepared queries: the same rows as the querysets that they were written as, each time with other values."""

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from django.db import IntegrityError, transaction
from django.db.models import BigIntegerField, CharField, DateTimeField, F, Model, UUIDField
from django.utils import timezone

from annotation.models import Campaign, Comparison, Enrolment, Teacher
from annotation.prepared import PreparedSelect, PreparedUpdate, Slot
from annotation.services import budget

pytestmark = pytest.mark.django_db

COMPARISON = PreparedSelect(
    lambda: (
        Comparison.objects.filter(pk=Slot("pk", BigIntegerField()))
        .select_related("conversation", "a", "b", "campaign")
        .annotate(first=F("a_id"))
    )
)


def test_it_reads_the_row_with_its_related_rows_in_one_statement(
    comparisons: list[Comparison], django_assert_num_queries: Any
) -> None:
    for comparison in comparisons[:3]:
        with django_assert_num_queries(1):
            found = COMPARISON.first(pk=comparison.pk)
            assert found.campaign.code == comparison.campaign.code
            assert found.conversation.messages == comparison.conversation.messages
            assert (found.a.messages, found.b.messages) == (comparison.a.messages, comparison.b.messages)
        assert found == comparison
        assert found.first == comparison.a_id


def test_it_reads_each_field_as_the_queryset_does(comparisons: list[Comparison], campaign: Campaign) -> None:
    def fields(row: Model) -> dict[str, Any]:
        return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}

    by_code = PreparedSelect(lambda: Campaign.objects.filter(code=Slot("code", UUIDField())))
    Campaign.objects.filter(pk=campaign.pk).update(budget="12.3400", criteria=["helpful", "harmless"])
    assert fields(by_code.first(code=campaign.code)) == fields(Campaign.objects.get(pk=campaign.pk))
    assert fields(by_code.first(code=str(campaign.code))) == fields(Campaign.objects.get(pk=campaign.pk))


def test_there_is_none_where_no_row_is_found() -> None:
    assert COMPARISON.first(pk=-1) is None


def test_what_it_reads_can_be_changed_and_stored(comparisons: list[Comparison]) -> None:
    found = COMPARISON.first(pk=comparisons[0].pk)
    found.priority = 7
    found.save()
    assert Comparison.objects.get(pk=found.pk).priority == 7


def test_a_deferred_field_is_read_when_it_is_asked_for(campaign: Campaign, django_assert_num_queries: Any) -> None:
    unnamed = PreparedSelect(lambda: Campaign.objects.filter(pk=Slot("pk", BigIntegerField())).defer("name"))
    found = unnamed.first(pk=campaign.pk)
    with django_assert_num_queries(1):
        assert found.name == campaign.name


def test_an_update_changes_the_rows_that_it_finds_and_says_how_many(teacher: Teacher) -> None:
    other = Teacher.objects.create()
    seen = PreparedUpdate(
        lambda: Teacher.objects.filter(pk=Slot("pk", BigIntegerField()), last_seen__isnull=True),
        last_seen=Slot("now", DateTimeField()),
    )
    Teacher.objects.update(last_seen=None)
    now = timezone.now()
    assert seen.run(pk=teacher.pk, now=now) == 1
    assert seen.run(pk=teacher.pk, now=now + timedelta(days=1)) == 0
    assert Teacher.objects.get(pk=teacher.pk).last_seen == now
    assert Teacher.objects.get(pk=other.pk).last_seen is None


def test_money_adds_up_as_decimals(campaign: Campaign) -> None:
    spend = PreparedUpdate(
        lambda: Campaign.objects.filter(
            budget.within_budget(Slot("amount", budget.money())), pk=Slot("pk", BigIntegerField())
        ),
        spent=budget.moved("spent", Slot("amount", budget.money())),
    )
    Campaign.objects.filter(pk=campaign.pk).update(budget="0.3", spent=0, reserved=0)
    counts = [spend.run(pk=campaign.pk, amount=Decimal(amount)) for amount in ("0.1", "0.2", "0.0001", "0")]
    assert counts == [1, 1, 0, 1]
    assert Campaign.objects.get(pk=campaign.pk).spent == Decimal("0.3")


def test_a_value_stays_a_value(campaign: Campaign) -> None:
    named = PreparedSelect(lambda: Campaign.objects.filter(name=Slot("name", CharField())))
    assert named.first(name="' OR 1=1 --") is None
    assert named.first(name=campaign.name) == campaign


def test_a_constraint_that_refuses_breaks_the_transaction_as_an_update_does(
    campaign: Campaign, teacher: Teacher
) -> None:
    overdraw = PreparedUpdate(
        lambda: Campaign.objects.filter(pk=Slot("pk", BigIntegerField())), spent=Slot("spent", budget.money())
    )
    Campaign.objects.filter(pk=campaign.pk).update(budget=1)
    with pytest.raises(IntegrityError), transaction.atomic():
        overdraw.run(pk=campaign.pk, spent=Decimal(2))
    assert not Enrolment.objects.filter(campaign=campaign, label_count__gt=0).exists()
