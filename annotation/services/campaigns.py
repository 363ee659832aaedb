"""The life of a campaign: created, opened, paused, closed, archived, cloned; its settings and its guidelines."""

from collections import defaultdict
from collections.abc import Iterable
from datetime import datetime
from typing import Any

from django.db import IntegrityError, connection, transaction
from django.db.models import F, Max, QuerySet
from django.utils import timezone
from django.utils.text import normalize_newlines
from django.utils.translation import gettext as _

from annotation.models import Campaign, Comparison, GuidelineVersion, Offer, Pool, Role, User
from annotation.services.audit import record_audit
from annotation.services.budget import check_currency
from annotation.services.offers import withdraw_offers
from annotation.services.refusals import Refusal, StateRefused
from annotation.services.reviews import GRACE
from annotation.services.urgency import BEFORE_ALL, head_start, rank_at

State = Campaign.State
BEFORE = {
    State.OPEN: (State.DRAFT, State.PAUSED, State.CLOSED),
    State.PAUSED: (State.OPEN,),
    State.CLOSED: (State.OPEN, State.PAUSED, State.ARCHIVED),
    State.ARCHIVED: (State.CLOSED, State.DRAFT),
}
"""State -> the states from which it is reached."""

COPIED = tuple(
    field.name
    for field in Campaign._meta.concrete_fields
    if field.name
    not in (
        "id", "code", "name", "state", "created_by", "created_at", "reserved", "spent",
        "conversation_count", "comparison_count", "label_count", "label_version", "reviews_due_at",
    )
)  # fmt: skip
"""Settings that a clone takes over."""
FITTED = {"pools", "rationality_mode", "ridge"}
"""Settings without which an estimate of the same labels would be another: who is stated to be how rational, too."""


@transaction.atomic
def create_campaign(
    *, user: User, name: str, guidelines: str = "", pools: Iterable[Pool] = (), **settings: Any
) -> Campaign:
    """A draft, with its maker as admin. Its currency is that of its pools, unless one is given.

    Raises CurrencyMismatch where the pools pay in several.
    """
    chosen = _locked(pools)
    if chosen:
        settings.setdefault("currency", chosen[0].currency)
    campaign = Campaign.objects.create(name=name, created_by=user, **settings)
    check_currency(campaign.currency, pools=chosen)
    campaign.pools.set(chosen)
    Role.objects.create(campaign=campaign, user=user, name=Role.Name.ADMIN)
    if text := _tidied(guidelines):
        GuidelineVersion.objects.create(campaign=campaign, version=1, text=text)
    record_audit(user=user, verb="create campaign", object=name, campaign=campaign)
    return campaign


def _locked(pools: Iterable[Pool]) -> list[Pool]:
    """As they are now, until the transaction ends: `change_terms` waits with another currency."""
    return list(Pool.objects.select_for_update(no_key=True).filter(pk__in={pool.pk for pool in pools}).order_by("pk"))


def open_campaign(*, campaign: Campaign, user: User | None) -> Campaign:
    """Let teachers in. Raises Refusal where something that they need is missing."""
    if not campaign.pools.exists():
        raise Refusal(_("Choose at least one pool of teachers before you open the campaign."))
    if not Comparison.objects.filter(campaign=campaign, is_active=True).exists():
        raise Refusal(_("Import conversations before you open the campaign."))
    if not campaign.guidelines.exists():
        raise Refusal(_("Write the guidelines before you open the campaign."))
    return _move(campaign, State.OPEN, user=user)


def pause_campaign(*, campaign: Campaign, user: User | None) -> Campaign:
    """No new offers; what teachers hold may still be answered, and queues stay as they are until their leases end."""
    return _move(campaign, State.PAUSED, user=user)


def close_campaign(*, campaign: Campaign, user: User | None) -> Campaign:
    """The end of labelling: live offers are withdrawn and their money released. It may be opened again."""
    return _shut(campaign, State.CLOSED, user=user)


def archive_campaign(*, campaign: Campaign, user: User | None) -> Campaign:
    """Out of sight for teachers, and out of the lists; all is kept."""
    return _shut(campaign, State.ARCHIVED, user=user)


def _shut(campaign: Campaign, state: Campaign.State, *, user: User | None) -> Campaign:
    """The state first, in its own transaction: offers are locked before campaigns everywhere."""
    _move(campaign, state, user=user)
    withdraw_offers(offers=Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE), also_held=True)
    campaign.refresh_from_db()
    return campaign


@transaction.atomic
def _move(campaign: Campaign, state: Campaign.State, *, user: User | None) -> Campaign:
    """By conditional UPDATE. Being there already is no error: a double click is one click. Raises StateRefused."""
    moved = Campaign.objects.filter(pk=campaign.pk, state__in=BEFORE[state]).update(state=state)
    was = campaign.state
    campaign.refresh_from_db()
    if not moved and campaign.state != state:
        raise StateRefused(
            _("A campaign that is %(before)s cannot become %(after)s.")
            % {"before": campaign.get_state_display().lower(), "after": state.label.lower()}
        )
    if moved:
        record_audit(user=user, verb=state.value, object=campaign.name, campaign=campaign, details={"before": was})
    return campaign


# Settings -------------------------------------------------------------------------------------------------------------


@transaction.atomic
def change_settings(
    *, campaign: Campaign, user: User | None, pools: Iterable[Pool] | None = None, **settings: Any
) -> Campaign:
    """New settings, with the old ones in the audit trail.

    Raises Refusal where the budget would be less than what is spent and promised, or the question would change under
    labels that were given to another, or the currency under money; CurrencyMismatch where a pool pays in another one.
    """
    current = Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    currency = settings.get("currency", current.currency)
    if currency != current.currency and (current.reserved or current.spent):
        raise Refusal(_("There is money spent or promised already: clone the campaign to pay in another currency."))
    chosen = _locked(campaign.pools.all() if pools is None else pools)
    check_currency(currency, pools=chosen)
    changed = {name: value for name, value in settings.items() if getattr(campaign, name) != value}
    if "answer_mode" in changed and current.label_count:
        raise Refusal(_("There are labels already: clone the campaign to ask another kind of question."))
    details = {name: [str(getattr(campaign, name)), str(value)] for name, value in changed.items()}
    if {"reviews_disagreements", "reviews_flags"} & set(changed):
        changed["reviews_due_at"] = timezone.now() + GRACE
    try:
        with transaction.atomic():
            Campaign.objects.filter(pk=campaign.pk).update(**changed)
    except IntegrityError as error:
        raise Refusal(_("The budget is less than what is spent and promised already.")) from error
    if pools is not None:
        before = set(campaign.pools.values_list("name", flat=True))
        campaign.pools.set(chosen)
        after = set(campaign.pools.values_list("name", flat=True))
        if before != after:
            details["pools"] = [", ".join(sorted(before)), ", ".join(sorted(after))]
    if details.keys() & FITTED:
        Campaign.objects.filter(pk=campaign.pk).update(label_version=F("label_version") + 1)
    if details:
        record_audit(user=user, verb="change settings", object=campaign.name, campaign=campaign, details=details)
    campaign.refresh_from_db()
    return campaign


@transaction.atomic
def publish_guidelines(*, campaign: Campaign, text: str, user: User | None) -> GuidelineVersion:
    """A new version; the same text again is the version there is. The campaign's row is locked for the number."""
    Campaign.objects.select_for_update(no_key=True).get(pk=campaign.pk)
    latest, text = campaign.guidelines.first(), _tidied(text)
    if not text:
        raise Refusal(_("Write the guidelines first."))
    if latest is not None and _tidied(latest.text) == text:
        return latest
    number = (campaign.guidelines.aggregate(Max("version"))["version__max"] or 0) + 1
    version = GuidelineVersion.objects.create(campaign=campaign, version=number, text=text)
    record_audit(user=user, verb="publish guidelines", object=f"version {number}", campaign=campaign)
    return version


def _tidied(text: str) -> str:
    """Line ends, which each browser writes its own way, and what is empty around the text make no new version."""
    return normalize_newlines(text).strip()


# Comparisons ----------------------------------------------------------------------------------------------------------


def take_out_comparisons(*, campaign: Campaign, comparisons: QuerySet[Comparison], user: User | None) -> int:
    """No new offers of these; queued ones are withdrawn, held ones may be answered, labels stay.

    The offers come after the commit: each of their batches locks offers and then the campaign, so that two batches in
    one transaction could wait in a circle with others. What a crash leaves of them the planner takes back.
    """
    with transaction.atomic():
        ids = list(comparisons.filter(campaign=campaign, is_active=True).values_list("pk", flat=True))
        ids = _lock(Comparison.objects.filter(pk__in=ids, is_active=True))
        Comparison.objects.filter(pk__in=ids).update(is_active=False)
        details = {"ids": ids[:1000]}
        record_audit(user=user, verb="take out", object=f"{len(ids)} comparisons", campaign=campaign, details=details)
    withdraw_offers(offers=Offer.objects.filter(comparison__in=ids, state=Offer.State.QUEUED))
    return len(ids)


def _lock(rows: QuerySet[Any]) -> list[int]:
    """Keys of the rows, which are locked in this order, as everywhere: an UPDATE locks in whichever it meets them."""
    keys = rows.order_by("pk").values_list("pk", flat=True)
    if connection.features.has_select_for_no_key_update:  # SQLite's transactions stand in line anyway
        keys = keys.select_for_update(no_key=True)
    return list(keys)


@transaction.atomic
def put_back_comparisons(*, campaign: Campaign, comparisons: QuerySet[Comparison], user: User | None) -> int:
    count = comparisons.filter(campaign=campaign, is_active=False).update(is_active=True)
    record_audit(user=user, verb="put back", object=f"{count} comparisons", campaign=campaign)
    return count


@transaction.atomic
def set_priority(
    *,
    campaign: Campaign,
    comparisons: QuerySet[Comparison],
    user: User | None,
    priority: int | None = None,
    due_at: datetime | None = None,
    clears_due: bool = False,
) -> int:
    """Ask these first, or by a date. What is queued of them moves in its queue as if it had been queued so.

    None leaves the priority or the date as it is; `clears_due` takes the date away.
    """
    chosen = list(comparisons.filter(campaign=campaign))
    changes: dict[str, Any] = {"due_at": due_at} if due_at is not None or clears_due else {}
    if priority is not None:
        changes["priority"] = priority
    now, starts = timezone.now(), defaultdict[float, list[int]](list)
    for comparison in chosen:
        for name, value in changes.items():
            setattr(comparison, name, value)
        starts[head_start(comparison, now=now)].append(comparison.pk)
    waiting = Offer.objects.filter(state=Offer.State.QUEUED, rank__gt=BEFORE_ALL)
    rows = Comparison.objects.filter(pk__in=[one.pk for one in chosen])
    _lock(waiting.filter(comparison__in=chosen))
    for start, ids in starts.items():
        waiting.filter(comparison__in=ids).update(rank=rank_at(start))
    _lock(rows)
    count = rows.update(**changes) if changes else 0
    record_audit(user=user, verb="set priority", object=f"{count} comparisons", campaign=campaign, details={
        "priority": priority, "due_at": due_at.isoformat() if due_at else None, "clears_due": clears_due,
    })  # fmt: skip
    return count


@transaction.atomic
def set_gold(
    *, comparison: Comparison, user: User | None, outcome: float | None, feedback: str = "", is_tutorial: bool = False
) -> Comparison:
    """State the known answer of a comparison, or None to make it an ordinary one again."""
    if outcome not in (None, 0.0, 0.5, 1.0):
        raise Refusal(_("The known answer is the first response, the second, or a tie."))
    comparison.gold_outcome, comparison.gold_feedback, comparison.is_tutorial = outcome, feedback, is_tutorial
    comparison.save(update_fields=["gold_outcome", "gold_feedback", "is_tutorial"])
    record_audit(
        user=user,
        verb="set gold",
        object=f"comparison {comparison.pk}",
        campaign=comparison.campaign,
        details={"outcome": outcome, "is_tutorial": is_tutorial},
    )
    return comparison
