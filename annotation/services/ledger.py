"""The pay ledger, by double entry: a movement takes from one account what it gives to another."""

import uuid
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, Sum
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Campaign, Enrolment, LedgerEntry, Teacher, User
from annotation.services.audit import record_audit
from annotation.services.budget import FOUR_PLACES, spend
from annotation.services.refusals import BudgetSpent, Refusal


def record_movement(
    *,
    giver: LedgerEntry.Account,
    taker: LedgerEntry.Account,
    amount: Decimal,
    campaign_id: int | None,
    teacher_id: int,
    currency: str,
    label_id: int | None = None,
    memo: str = "",
    created_by_id: int | None = None,
    movement: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """Both sides of a movement in one insert, under the id that the caller chose or a new one.

    Nothing moves for an amount of nothing.

    The caller is in a transaction with whatever the money is for.
    """
    if not amount:
        return None
    movement = movement or uuid.uuid4()
    LedgerEntry.objects.bulk_create(
        LedgerEntry(
            movement=movement,
            account=account,
            amount=side,
            campaign_id=campaign_id,
            teacher_id=teacher_id,
            label_id=label_id,
            currency=currency,
            memo=memo,
            created_by_id=created_by_id,
        )
        for account, side in ((giver, -amount), (taker, amount))
    )
    return movement


def balance(teacher: Teacher, *, campaign: Campaign | None = None) -> dict[str, Decimal]:
    """What is owed to the teacher, by currency."""
    entries = LedgerEntry.objects.filter(teacher=teacher, account=LedgerEntry.Account.TEACHER)
    if campaign is not None:
        entries = entries.filter(campaign=campaign)
    sums = entries.values_list("currency").annotate(total=Sum("amount"))
    rounded = ((currency, total.quantize(FOUR_PLACES)) for currency, total in sums)
    return {currency: total for currency, total in rounded if total}


def _is_booked(movement: uuid.UUID, **as_asked: Any) -> bool:
    """Whether it is on the books, as it is asked for now: a form came twice. The caller holds the teacher's lock.

    Raises Refusal where the form booked something else before.
    """
    known = LedgerEntry.objects.filter(movement=movement)
    if known.filter(**as_asked).exists():
        return True
    if known.exists():
        raise Refusal(_("This form has booked something else before. Nothing was added: open the page anew."))
    return False


@transaction.atomic
def pay_out(
    *,
    teacher: Teacher,
    amount: Decimal,
    currency: str,
    user: User,
    memo: str = "",
    campaign: Campaign | None = None,
    movement: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """Book that the teacher was paid outside the platform. Never more than is owed; twice under one id is once.

    The teacher's row is locked, so that two payouts at once do not both find the money. Raises Refusal.
    """
    Teacher.objects.select_for_update(no_key=True).get(pk=teacher.pk)
    if amount <= 0:
        raise Refusal(_("A payout is more than nothing."))
    if movement is not None and _is_booked(
        movement,
        account=LedgerEntry.Account.PAID,
        teacher=teacher,
        campaign=campaign,
        amount=amount,
        currency=currency,
        memo=memo,
    ):
        return movement
    if amount > balance(teacher, campaign=campaign).get(currency, Decimal(0)):
        raise Refusal(_("This is more than is owed to the teacher."))
    movement = record_movement(
        giver=LedgerEntry.Account.TEACHER,
        taker=LedgerEntry.Account.PAID,
        amount=amount,
        campaign_id=campaign.pk if campaign is not None else None,
        teacher_id=teacher.pk,
        currency=currency,
        memo=memo,
        created_by_id=user.pk,
        movement=movement,
    )
    record_audit(
        user=user,
        verb="pay out",
        object=f"{amount} {currency} to {teacher.pseudonym}",
        campaign=campaign,
        details={"movement": str(movement), "memo": memo},
    )
    return movement


@transaction.atomic
def grant_bonus(
    *,
    campaign: Campaign,
    teacher: Teacher,
    amount: Decimal,
    user: User,
    memo: str,
    movement: uuid.UUID | None = None,
) -> uuid.UUID | None:
    """Pay beyond labels, from the campaign's budget and in its currency; twice under one id is once.

    Raises BudgetSpent, Refusal.
    """
    Teacher.objects.select_for_update(no_key=True).get(pk=teacher.pk)
    if amount <= 0:
        raise Refusal(_("A bonus is more than nothing."))
    if movement is not None and _is_booked(
        movement, account=LedgerEntry.Account.TEACHER, teacher=teacher, campaign=campaign, amount=amount, memo=memo
    ):
        return movement
    _enrol_earner(campaign, teacher)
    movement = record_movement(
        giver=LedgerEntry.Account.CAMPAIGN,
        taker=LedgerEntry.Account.TEACHER,
        amount=amount,
        campaign_id=campaign.pk,
        teacher_id=teacher.pk,
        currency=campaign.currency,
        memo=memo,
        created_by_id=user.pk,
        movement=movement,
    )
    record_audit(
        user=user, verb="bonus", object=f"{amount} {campaign.currency} to {teacher.pseudonym}", campaign=campaign
    )
    if not spend(campaign.pk, amount):
        raise BudgetSpent
    return movement


def _enrol_earner(campaign: Campaign, teacher: Teacher) -> None:
    """The pages of pay list enrolments. A person begins at the guidelines as ever; a machine reads none."""
    at_work = {"stage": Enrolment.Stage.WORKING, "working_since": timezone.now()}
    Enrolment.objects.get_or_create(
        campaign=campaign, teacher=teacher, defaults={} if teacher.kind == Teacher.Kind.HUMAN else at_work
    )


def unbalanced_movements() -> list[uuid.UUID]:
    """Movements whose sides do not add up to nothing, or are not two: there should be none."""
    sums = LedgerEntry.objects.values_list("movement").annotate(total=Sum("amount"), sides=Count("id"))
    return [movement for movement, total, sides in sums if total.quantize(FOUR_PLACES) != 0 or sides != 2]
