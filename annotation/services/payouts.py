"""What a campaign owes its teachers, for a page of them; and many payouts booked at once."""

import uuid
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal

from django.db.models import Exists, OuterRef, Q, QuerySet, Sum

from annotation.models import Campaign, Enrolment, LedgerEntry, Teacher, User
from annotation.services.budget import FOUR_PLACES
from annotation.services.ledger import pay_out
from annotation.services.refusals import Refusal


@dataclass(frozen=True)
class Account:
    """One teacher's money in one campaign: what is owed, by currency."""

    enrolment: Enrolment
    owed: dict[str, Decimal]
    """Less than nothing where an answer that was paid was taken back."""

    @property
    def is_due(self) -> bool:
        return any(amount > 0 for amount in self.owed.values())


def earning(campaign: Campaign) -> QuerySet[Enrolment]:
    """Who earned something in this campaign, by labels or by a bonus alone."""
    moved = LedgerEntry.objects.filter(
        campaign=campaign, teacher=OuterRef("teacher"), account=LedgerEntry.Account.TEACHER
    )
    return Enrolment.objects.filter(Q(earned__gt=0) | Exists(moved), campaign=campaign).select_related("teacher__user")


def read_accounts(campaign: Campaign, enrolments: Iterable[Enrolment]) -> list[Account]:
    """The balances of these enrolments, in one statement."""
    enrolments = list(enrolments)
    owed = _owed(LedgerEntry.objects.filter(campaign=campaign, teacher__in=[one.teacher_id for one in enrolments]))
    return [Account(one, owed.get(one.teacher_id, {})) for one in enrolments]


def is_owing(campaign: Campaign) -> bool:
    """Whether the campaign owes any of its teachers anything."""
    owed = _owed(LedgerEntry.objects.filter(campaign=campaign))
    return any(amount > 0 for balances in owed.values() for amount in balances.values())


def _owed(entries: QuerySet[LedgerEntry]) -> dict[int, dict[str, Decimal]]:
    """By these entries, of each teacher with whom the books are not even: teacher -> currency -> amount."""
    of_teachers = entries.filter(account=LedgerEntry.Account.TEACHER).order_by()
    owed: dict[int, dict[str, Decimal]] = defaultdict(dict)
    for teacher, currency, total in of_teachers.values_list("teacher", "currency").annotate(total=Sum("amount")):
        if rounded := total.quantize(FOUR_PLACES):
            owed[teacher][currency] = rounded
    return owed


@dataclass(frozen=True)
class Payout:
    """What somebody was paid outside the platform: the amount that a page showed as owed."""

    teacher: Teacher
    amount: Decimal
    currency: str


def pay_out_all(
    *, campaign: Campaign, payouts: Iterable[Payout], form: uuid.UUID, user: User, memo: str = ""
) -> tuple[int, list[str]]:
    """Book these payouts, neither more nor less than was paid. Twice from one form is once.

    Returns how many stand on the books, and a sentence for each that was refused.
    """
    booked, refused = 0, []
    for payout in payouts:
        try:
            pay_out(
                teacher=payout.teacher,
                amount=payout.amount,
                currency=payout.currency,
                user=user,
                memo=memo,
                campaign=campaign,
                movement=uuid.uuid5(form, f"{payout.teacher.pk} {payout.currency}"),
            )
            booked += 1
        except Refusal as refusal:
            refused.append(f"{payout.teacher}: {refusal}")
    return booked, refused
