"""What a campaign owes its teachers, for a page of them; and many payouts booked at once."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from annotation.models import Campaign, Enrolment, LedgerEntry, Teacher, User
from annotation.services.budget import FOUR_PLACES
from annotation.services.ledger import balance, pay_out


@dataclass(frozen=True)
class Account:
    """One teacher's money in one campaign: what is owed, by currency."""

    enrolment: Enrolment
    owed: dict[str, Decimal]


def earning(campaign: Campaign) -> QuerySet[Enrolment]:
    """Who earned something in this campaign, by labels or by a bonus alone."""
    moved = LedgerEntry.objects.filter(
        campaign=campaign, teacher=OuterRef("teacher"), account=LedgerEntry.Account.TEACHER
    )
    return Enrolment.objects.filter(Q(earned__gt=0) | Exists(moved), campaign=campaign).select_related("teacher__user")


def read_accounts(campaign: Campaign, enrolments: Iterable[Enrolment]) -> list[Account]:
    """The balances of these enrolments, in one statement."""
    enrolments = list(enrolments)
    sums = (
        LedgerEntry.objects.filter(
            campaign=campaign,
            teacher__in=[one.teacher_id for one in enrolments],
            account=LedgerEntry.Account.TEACHER,
        )
        .values_list("teacher", "currency")
        .annotate(total=Sum("amount"))
    )
    owed: dict[int, dict[str, Decimal]] = defaultdict(dict)
    for teacher_id, currency, total in sums:
        if rounded := total.quantize(FOUR_PLACES):
            owed[teacher_id][currency] = rounded
    return [Account(one, owed.get(one.teacher_id, {})) for one in enrolments]


def pay_out_all(*, campaign: Campaign, teachers: Iterable[Teacher], user: User, memo: str = "") -> int:
    """Book that each was paid all that this campaign owes them. Twice is once: then nothing is owed."""
    paid = 0
    for teacher in teachers:
        for currency, amount in balance(teacher, campaign=campaign).items():
            if amount > 0:
                pay_out(teacher=teacher, amount=amount, currency=currency, user=user, memo=memo, campaign=campaign)
                paid += 1
    return paid
