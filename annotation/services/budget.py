"""A campaign's money: reserved when offered, spent when answered, never more than the budget.

Every change is one conditional UPDATE of the campaign's row, and comes last in its transaction: the row is shared by
all teachers, so its lock is kept for no longer than the commit.
"""

from collections.abc import Iterable
from decimal import Decimal

from django.db.models import DecimalField, F, Q, Value
from django.db.models.expressions import Combinable
from django.db.models.functions import Round
from django.utils.translation import gettext as _

from annotation.models import Campaign, Membership, Pool
from annotation.prepared import Slot
from annotation.services.refusals import CurrencyMismatch

FOUR_PLACES = Decimal("0.0001")


def money() -> "DecimalField[Decimal, Decimal]":
    return DecimalField(max_digits=12, decimal_places=4)


def moved(field: str, amount: Decimal | Slot) -> Combinable:
    """The field plus the amount. Rounded, because SQLite adds decimals as floats."""
    return Round(F(field) + _as_value(amount), precision=4, output_field=money())


def _as_value(amount: Decimal | Slot) -> Value:
    return amount if isinstance(amount, Slot) else Value(amount, output_field=money())


def within_budget(amount: Decimal | Slot) -> Q:
    total = Round(F("reserved") + F("spent") + _as_value(amount), precision=4)
    return Q(budget__isnull=True) | Q(budget__gte=total)


def check_currency(currency: str, *, pools: Iterable[Pool]) -> None:
    """Raises CurrencyMismatch where one of the pools pays in another currency."""
    for pool in pools:
        if pool.currency != currency:
            raise CurrencyMismatch(
                _("The pool %(pool)s pays in %(theirs)s and the campaign in %(ours)s. Choose pools of one currency.")
                % {"pool": pool.name, "theirs": pool.currency, "ours": currency}
            )


def reserve(campaign_id: int, amount: Decimal) -> bool:
    """Promise so much to offers; False where the budget does not cover it."""
    if not amount:
        return True
    fitting = Campaign.objects.filter(within_budget(amount), pk=campaign_id)
    return fitting.update(reserved=moved("reserved", amount)) == 1


def release(campaign_id: int, amount: Decimal) -> None:
    """Give back what was promised to offers that nobody will answer."""
    if amount:
        Campaign.objects.filter(pk=campaign_id).update(reserved=moved("reserved", -amount))


def spend(campaign_id: int, amount: Decimal) -> bool:
    """Spend what was not reserved; False where the budget does not cover it."""
    fitting = Campaign.objects.filter(within_budget(amount), pk=campaign_id)
    return fitting.update(spent=moved("spent", amount)) == 1


def room_left(campaign: Campaign) -> Decimal | None:
    """What may still be promised; None without a budget."""
    return None if campaign.budget is None else campaign.budget - campaign.reserved - campaign.spent


def cost_of(membership: Membership, *, campaign: Campaign) -> Decimal:
    """What an offer to this member reserves: the price of a label, and of the whole lease where hours are paid."""
    price = membership.cost_per_label
    if price is None:
        price = membership.pool.pay_per_label + membership.pool.pay_per_hour * campaign.lease_seconds / 3600
    return Decimal(price).quantize(FOUR_PLACES)


def price_of(membership: Membership | None, *, reserved: Decimal, seconds: float) -> Decimal:
    """What an answer costs: its price under the present terms, at most what was reserved.

    The offer may have been queued under other terms: a lease of paid hours, where labels are paid by now.
    """
    if membership is None:
        return reserved
    price = membership.cost_per_label
    if price is None:
        price = membership.pool.pay_per_label + membership.pool.pay_per_hour * Decimal(seconds) / 3600
    return min(reserved, Decimal(price).quantize(FOUR_PLACES))
