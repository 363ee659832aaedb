"""What a label moves: the counters of teacher and member, then the campaign's counters and money, locked last."""

from datetime import date
from decimal import Decimal
from typing import Any

from django.db.models import BigIntegerField, Case, DateField, F, PositiveIntegerField, QuerySet, Value, When
from django.db.models.functions import Greatest

from annotation.models import Campaign, Enrolment, Membership, Offer
from annotation.prepared import PreparedUpdate, Slot
from annotation.services import budget
from annotation.services.refusals import BudgetSpent, CampaignNotOpen

ANSWERING = (Campaign.State.OPEN, Campaign.State.PAUSED)
"""A pause stops offers; what a teacher holds when it comes may still be answered."""


def count_label(offer: Offer, *, labels: int, price: Decimal, day: date) -> None:
    """The teacher's counters: their own rows, so that nobody else waits. One label more, or one less."""
    if offer.membership_id is not None:
        COUNT_MEMBER[labels].run(membership=offer.membership_id, day=day)
    COUNT_ENROLMENT[labels].run(campaign=offer.campaign_id, teacher=offer.teacher_id, day=day, price=price)


def _counted(labels: int) -> dict[str, Any]:
    """A label more, on its day; or one less, taken from the count of the day on which it was given, and of no other.

    Whoever went west may be a day ahead of where they are: that day is counted on until it is over there too.
    """
    day = Slot("day", DateField())
    count = {"label_count": F("label_count") + labels}
    if labels > 0:
        more = F("day_count") + labels
        day_count = Case(When(day__gte=day, then=more), default=Value(labels), output_field=PositiveIntegerField())
        latest = Case(When(day__gte=day, then=F("day")), default=day, output_field=DateField())
        return count | {"day_count": day_count, "day": latest}
    fewer = Greatest(F("day_count") + labels, 0, output_field=PositiveIntegerField())
    return count | {
        "day_count": Case(When(day=day, then=fewer), default=F("day_count"), output_field=PositiveIntegerField())
    }


COUNT_MEMBER = {
    labels: PreparedUpdate(
        lambda: Membership.objects.filter(pk=Slot("membership", BigIntegerField())), **_counted(labels)
    )
    for labels in (1, -1)
}
COUNT_ENROLMENT = {
    labels: PreparedUpdate(
        lambda: Enrolment.objects.filter(
            campaign=Slot("campaign", BigIntegerField()), teacher=Slot("teacher", BigIntegerField())
        ),
        **_counted(labels),
        earned=budget.moved("earned", Slot("price", budget.money())),
    )
    for labels in (1, -1)
}


def settle(offer: Offer, *, labels: int, reserved: Decimal, spent: Decimal) -> None:
    """The campaign's counters and money, in one UPDATE, last, if it takes answers and has the money.

    Raises CampaignNotOpen or BudgetSpent, and so undoes the rest.
    """
    statement = SETTLE_MORE if reserved + spent > 0 else SETTLE
    if not statement.run(
        campaign=offer.campaign_id, labels=labels, reserved=reserved, spent=spent, more=reserved + spent
    ):
        is_open = Campaign.objects.filter(pk=offer.campaign_id, state__in=ANSWERING).exists()
        raise BudgetSpent if is_open else CampaignNotOpen


def _answering() -> QuerySet[Campaign]:
    return Campaign.objects.filter(pk=Slot("campaign", BigIntegerField()), state__in=ANSWERING)


SETTLED: dict[str, Any] = {
    "label_count": F("label_count") + Slot("labels", PositiveIntegerField()),
    "label_version": F("label_version") + 1,
    "reserved": budget.moved("reserved", Slot("reserved", budget.money())),
    "spent": budget.moved("spent", Slot("spent", budget.money())),
}
SETTLE = PreparedUpdate(_answering, **SETTLED)
SETTLE_MORE = PreparedUpdate(lambda: _answering().filter(budget.within_budget(Slot("more", budget.money()))), **SETTLED)
