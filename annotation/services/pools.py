"""Pools and their members: joining, terms and consent, suspension, departure, return."""

from collections.abc import Iterable
from typing import Any

from django.db import transaction
from django.db.models import F
from django.utils.translation import gettext as _

from annotation.models import Campaign, Membership, Offer, Pool, Teacher, User
from annotation.services.audit import record_audit
from annotation.services.offers import withdraw_offers
from annotation.services.refusals import NotAllowed, Refusal

CONSENTED = ("pay_per_label", "pay_per_hour", "currency", "terms")
"""What a teacher agrees to: a change of these is a new version of the terms."""


@transaction.atomic
def create_pool(*, user: User | None, name: str, **terms: Any) -> Pool:
    if Pool.objects.filter(name=name).exists():
        raise Refusal(_("There is a pool of this name already. Choose another name."))
    pool = Pool.objects.create(name=name, created_by=user, **terms)
    record_audit(user=user, verb="create pool", object=f"pool {pool.pk}: {name}")
    return pool


@transaction.atomic
def change_terms(*, pool: Pool, user: User | None, **terms: Any) -> Pool:
    """New terms. Where they touch pay or wording, members are asked for their consent anew.

    Raises Refusal where the currency would change under a campaign that draws on the pool.
    """
    before = Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
    currency = terms.get("currency", before.currency)
    drawing = Campaign.objects.filter(pools=before).exclude(currency=currency).first()
    if drawing is not None and currency != before.currency:
        raise Refusal(
            _("The campaign %(campaign)s draws on this pool and pays in %(currency)s. Make another pool.")
            % {"campaign": drawing.name, "currency": drawing.currency}
        )
    changed = {name: value for name, value in terms.items() if str(getattr(before, name)) != str(value)}
    Pool.objects.filter(pk=pool.pk).update(**terms)
    if set(changed) & set(CONSENTED):
        Pool.objects.filter(pk=pool.pk).update(terms_version=F("terms_version") + 1)
    if changed:
        details = {name: [str(getattr(before, name)), str(value)] for name, value in changed.items()}
        record_audit(user=user, verb="change terms", object=f"pool {pool.pk}: {before.name}", details=details)
    pool.refresh_from_db()
    return pool


def teacher_of(user: User) -> Teacher:
    """The teacher that the user is, made where there is none yet."""
    return Teacher.objects.get_or_create(user=user)[0]


@transaction.atomic
def join_pool(*, pool: Pool, teacher: Teacher) -> Membership:
    """Make the teacher a member; somebody who left comes back, somebody suspended does not. Twice is once."""
    if teacher.withdrawn_at is not None:
        raise NotAllowed
    membership, _is_new = Membership.objects.get_or_create(pool=pool, teacher=teacher)
    if membership.status == Membership.Status.SUSPENDED:
        raise NotAllowed
    Membership.objects.filter(pk=membership.pk, status=Membership.Status.DEPARTED).update(
        status=Membership.Status.ACTIVE
    )
    membership.refresh_from_db()
    return membership


def consent(*, membership: Membership, version: int, pay: str = "") -> Membership:
    """The teacher accepts the terms of this version, and the member's own pay as shown, which must be the present."""
    current = Membership.objects.filter(
        pk=membership.pk, pool__terms_version=version, cost_per_label=membership.cost_per_label
    )
    if pay != membership.own_pay or not current.update(accepted_terms=version):
        raise Refusal(_("The terms have changed while you read them. Read them again, please."))
    membership.accepted_terms = version
    return membership


def suspend_members(*, memberships: Iterable[Membership], user: User | None, reason: str = "") -> int:
    """No more offers until they are let back. What waits for them goes to others at once, what they hold too."""
    return _leave(memberships, status=Membership.Status.SUSPENDED, user=user, reason=reason)


def depart_members(*, memberships: Iterable[Membership], user: User | None, reason: str = "") -> int:
    """They have left the pool, for now or for good; their labels stay."""
    return _leave(memberships, status=Membership.Status.DEPARTED, user=user, reason=reason)


@transaction.atomic
def change_member(
    *, membership: Membership, user: User | None, rationality: float | None = None, **terms: Any
) -> Membership:
    """What holds for one member alone. `rationality` is the known one in all categories; None is none stated.

    Another pay of their own is agreed to anew, as the pool's is.
    """
    known = {name: value for name, value in membership.rationality.items() if name}
    terms["rationality"] = known if rationality is None else known | {"": rationality}
    before = Membership.objects.select_for_update(no_key=True).get(pk=membership.pk)
    if terms.get("cost_per_label", before.cost_per_label) != before.cost_per_label:
        terms["accepted_terms"] = 0
    Membership.objects.filter(pk=membership.pk).update(**terms)
    if terms["rationality"] != before.rationality:
        Campaign.objects.filter(pools=membership.pool_id, rationality_mode=Campaign.RationalityMode.KNOWN).update(
            label_version=F("label_version") + 1
        )
    details = {name: str(value) for name, value in terms.items()}
    record_audit(user=user, verb="change member", object=membership.teacher.pseudonym, details=details)
    membership.refresh_from_db()
    return membership


def readmit_members(*, memberships: Iterable[Membership], user: User | None) -> int:
    with transaction.atomic():
        ids = [membership.pk for membership in memberships]
        count = Membership.objects.filter(pk__in=ids, teacher__withdrawn_at__isnull=True).update(
            status=Membership.Status.ACTIVE
        )
        record_audit(user=user, verb="readmit", object=f"{count} members", details={"memberships": ids})
    return count


def _leave(memberships: Iterable[Membership], *, status: Membership.Status, user: User | None, reason: str) -> int:
    """The status first, in its own transaction: from then on nothing is queued, and the rest is sweeping up."""
    ids = [membership.pk for membership in memberships]
    with transaction.atomic():
        count = Membership.objects.filter(pk__in=ids).exclude(status=status).update(status=status)
        record_audit(
            user=user, verb=status.value, object=f"{count} members", details={"memberships": ids, "reason": reason}
        )
    withdraw_offers(offers=Offer.objects.filter(membership__in=ids, state__in=Offer.LIVE), also_held=True)
    return count
