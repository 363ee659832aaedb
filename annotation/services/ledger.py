"""The pay ledger, by double entry: a movement takes from one account what it gives to another."""

import uuid
from decimal import Decimal

from annotation.models import LedgerEntry


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
) -> uuid.UUID | None:
    """Both sides of a movement in one insert. Nothing moves for an amount of nothing.

    The caller is in a transaction with whatever the money is for.
    """
    if not amount:
        return None
    movement = uuid.uuid4()
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
