"""A teacher's own choices: time zone, time off, working hours, content warnings, and withdrawal from everything."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from decimal import Decimal
from typing import Any

from django.db import transaction
from django.db.models import Count, F, Q, Value
from django.db.models.functions import Replace
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import (
    AuditEntry,
    Campaign,
    Enrolment,
    Invitation,
    InvitationLetter,
    Label,
    Membership,
    Message,
    Offer,
    Role,
    Teacher,
    User,
)
from annotation.models.people import make_pseudonym
from annotation.services.audit import record_audit
from annotation.services.ledger import balance
from annotation.services.offers import withdraw_offers
from annotation.services.refusals import Refusal
from annotation.services.reviews import refer_comparisons
from annotation.services.terms import today
from annotation.zones import zone_named

REMOVE = "remove"
"""The labels leave every estimate and every later export."""
ANONYMISE = "anonymise"
"""The labels stay, under a new pseudonym that leads to nobody."""
LEFT_ALONE = timedelta(minutes=1)
"""How long the request that began a withdrawal is left alone with it."""
GIVEN = (Label.State.CURRENT, Label.State.RETRACTED)
"""Labels that a removal withdraws; an edited one follows the answer that took its place."""


def set_time_zone(*, user: User, name: str) -> None:
    """Where the user is. The day that daily limits count moves along, and never back: another zone is no second day.

    Raises Refusal for a zone that does not exist.
    """
    if zone_named(name) is None:
        raise Refusal(_("Choose a time zone from the list."))
    teacher = Teacher.objects.select_related("user").filter(user=user).first()
    before = today(teacher) if teacher is not None else None
    User.objects.filter(pk=user.pk).update(time_zone=name)
    user.time_zone = name
    if teacher is not None and teacher.user is not None:
        teacher.user.time_zone = name
        after = today(teacher)
        for rows in (Membership.objects, Enrolment.objects):
            rows.filter(teacher=teacher, day=before, day__lt=after).update(day=after)


def set_time_off(*, teacher: Teacher, until: datetime | None) -> int:
    """No offers until then; what waits goes to others at once. None ends the time off."""
    Teacher.objects.filter(pk=teacher.pk).update(away_until=until)
    teacher.away_until = until
    if until is None or until <= timezone.now():
        return 0
    return withdraw_offers(offers=Offer.objects.filter(teacher=teacher, state=Offer.State.QUEUED))


def set_working_hours(*, teacher: Teacher, hours: list[list[Any]]) -> None:
    """[[weekday, "09:00", "17:00"], …], Monday is 0; none means always. Raises Refusal for what is no such list."""
    try:
        cleaned = [
            [int(weekday), time.fromisoformat(start).strftime("%H:%M"), time.fromisoformat(end).strftime("%H:%M")]
            for weekday, start, end in hours
        ]
    except (TypeError, ValueError) as error:
        raise Refusal(_("Give hours such as 09:00 to 17:00 for each day.")) from error
    if any(weekday not in range(7) or start == end for weekday, start, end in cleaned):
        raise Refusal(_("Give hours such as 09:00 to 17:00 for each day."))
    Teacher.objects.filter(pk=teacher.pk).update(working_hours=cleaned)
    teacher.working_hours = cleaned


@transaction.atomic
def set_preferences(*, user: User, **chosen: Any) -> None:
    """What the user wants of pages, beside what was chosen before. Two tabs that choose different things both count."""
    user.preferences = {**User.objects.select_for_update(no_key=True).get(pk=user.pk).preferences, **chosen}
    User.objects.filter(pk=user.pk).update(preferences=user.preferences)


@transaction.atomic
def accept_warning(*, user: User, category: str) -> None:
    """The category is shown without its warning from now on."""
    known = User.objects.select_for_update(no_key=True).get(pk=user.pk).preferences.get("accepted_warnings", [])
    set_preferences(user=user, accepted_warnings=sorted({*known, category}))


@transaction.atomic
def decline_category(*, teacher: Teacher, category: str) -> int:
    """The teacher will not see this category where a campaign warns of it; what waits of it goes to others."""
    locked = Teacher.objects.select_for_update(no_key=True).get(pk=teacher.pk)
    locked.declined_warnings = sorted({*locked.declined_warnings, category})
    locked.save(update_fields=["declined_warnings"])
    teacher.declined_warnings = locked.declined_warnings
    return withdraw_offers(
        offers=Offer.objects.filter(
            teacher=teacher,
            state=Offer.State.QUEUED,
            comparison__category=category,
            campaign__content_warnings__has_key=category,
        )
    )


# Withdrawal -----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class CampaignEffect:
    """What a withdrawal takes from one campaign."""

    campaign: Campaign
    labels: int
    """Current labels of the teacher that would go."""
    share: float
    """Of the campaign's current labels."""


@dataclass(frozen=True)
class WithdrawalEffect:
    """What a withdrawal would do, in counts, before it is done."""

    campaigns: list[CampaignEffect]
    labels: int
    live_offers: int
    messages: int
    owed: dict[str, Decimal]
    """Pay that stays owed whatever happens to the labels, by currency."""


def preview_withdrawal(teacher: Teacher) -> WithdrawalEffect:
    counts = dict(
        Label.objects.filter(teacher=teacher, state=Label.State.CURRENT)
        .values_list("campaign")
        .annotate(count=Count("id"))
    )
    campaigns = [
        CampaignEffect(campaign, counts[campaign.pk], counts[campaign.pk] / max(1, campaign.label_count))
        for campaign in Campaign.objects.filter(pk__in=counts).order_by("name")
    ]
    return WithdrawalEffect(
        campaigns=campaigns,
        labels=sum(counts.values()),
        live_offers=Offer.objects.filter(teacher=teacher, state__in=Offer.LIVE).count(),
        messages=Message.objects.filter(teacher=teacher).count(),
        owed=balance(teacher),
    )


def withdraw_teacher(*, teacher: Teacher, how: str, user: User | None) -> WithdrawalEffect:
    """The teacher leaves for good. `remove` withdraws the labels, `anonymise` keeps them under a pseudonym of nobody.

    In both the person is let go: account closed, name, address, messages' words and panel identifiers gone. Pay that
    is owed stays on the books. First the door is shut and what was asked is stored, then `finish_withdrawal` does it;
    where a crash comes in between, the beat finishes it.

    Returns the effect as it was before.
    """
    if how not in (REMOVE, ANONYMISE):
        raise ValueError(f"{how!r} is no way to withdraw: remove or anonymise.")
    effect = preview_withdrawal(teacher)
    with transaction.atomic():
        if Teacher.objects.filter(pk=teacher.pk, withdrawn_at__isnull=True).update(
            withdrawn_at=timezone.now(), withdrawal=how
        ):
            details = {"how": how, "labels": effect.labels}
            record_audit(user=user, verb="withdraw teacher", object=f"teacher {teacher.pk}", details=details)
        Membership.objects.filter(teacher=teacher).update(status=Membership.Status.DEPARTED)
    finish_withdrawal(teacher.pk)
    teacher.refresh_from_db()
    return effect


def withdrawals_to_finish() -> list[int]:
    """Teachers whose withdrawal stands half done. One that was asked for a moment ago is left to who is at it."""
    stuck = Teacher.objects.filter(withdrawn_at__lt=timezone.now() - LEFT_ALONE).exclude(withdrawal="")
    return list(stuck.values_list("pk", flat=True))


def finish_withdrawal(teacher_id: int) -> None:
    """The offers, campaign by campaign the labels, then the person, each in a short transaction.

    Called again, or twice at once, it goes on; where nothing is under way it does nothing.
    """
    teacher = Teacher.objects.get(pk=teacher_id)
    if not teacher.withdrawal:
        return
    withdraw_offers(offers=Offer.objects.filter(teacher=teacher, state__in=Offer.LIVE), also_held=True)
    if teacher.withdrawal == REMOVE:
        for campaign in Campaign.objects.filter(labels__teacher=teacher, labels__state__in=GIVEN).distinct():
            _withdraw_labels(campaign, teacher)
    _forget_person(teacher)


@transaction.atomic
def _withdraw_labels(campaign: Campaign, teacher: Teacher) -> None:
    """Their words go with them: the reason is emptied, and the offer's slot is free for somebody else.

    The money stays spent: the work was done. Locks are taken as everywhere: offers, labels, people, campaign.
    """
    now = timezone.now()
    answered = Offer.objects.filter(campaign=campaign, teacher=teacher, state=Offer.State.ANSWERED)
    list(answered.select_for_update(no_key=True).order_by("pk").values_list("pk", flat=True))
    answered.update(state=Offer.State.WITHDRAWN, closed_at=now)
    labels = Label.objects.filter(campaign=campaign, teacher=teacher)
    count = labels.filter(state=Label.State.CURRENT).update(state=Label.State.WITHDRAWN, reason="", changed_at=now)
    labels.filter(state=Label.State.RETRACTED).update(state=Label.State.WITHDRAWN, reason="", changed_at=now)
    labels.exclude(state=Label.State.WITHDRAWN).update(reason="", changed_at=now)
    Enrolment.objects.filter(campaign=campaign, teacher=teacher).update(label_count=F("label_count") - count)
    refer_comparisons(campaign=campaign, ids=set(labels.values_list("comparison_id", flat=True)))
    Campaign.objects.filter(pk=campaign.pk).update(
        label_count=F("label_count") - count, label_version=F("label_version") + 1
    )


@transaction.atomic
def _forget_person(teacher: Teacher) -> None:
    """Nothing that leads from the labels to the person stays. With it the withdrawal is done."""
    user, pseudonym = teacher.user, make_pseudonym()
    Offer.objects.filter(teacher=teacher).exclude(skip_reason="").update(skip_reason="")
    messages = Message.objects.filter(teacher=teacher)
    replies = [f"message {pk}" for pk in messages.exclude(reply="").values_list("pk", flat=True)]
    messages.update(text=_("(withdrawn)"), reply="")
    AuditEntry.objects.filter(verb="reply to message", object__in=replies).update(details={})
    AuditEntry.objects.filter(object=teacher.pseudonym).update(object=pseudonym)
    # Of payouts and bonuses: "10 EUR to teacher-…".
    AuditEntry.objects.filter(verb__in=("pay out", "bonus"), object__endswith=f" to {teacher.pseudonym}").update(
        object=Replace("object", Value(teacher.pseudonym), Value(pseudonym))
    )
    Teacher.objects.filter(pk=teacher.pk).exclude(withdrawal="").update(
        user=None,
        pseudonym=pseudonym,
        external={},
        endpoint={},
        working_hours=[],
        declined_warnings=[],
        languages=[],
        last_seen=None,
        news_origin="",
        withdrawal="",
    )
    if user is not None and not user.roles.exists() and not user.is_staff:
        _forget_address(user.email)
        _forget_roles(user.username)
        user.delete()


def _forget_roles(username: str) -> None:
    """From the trail of who was given a role, and had it taken away again: whoever has one still keeps the account."""
    for name in Role.Name.values:
        for verb, link in (("grant role", "to"), ("revoke role", "of")):
            named = AuditEntry.objects.filter(verb=verb, object=f"{name} {link} {username}")
            named.update(object=f"{name} {link} " + _("(withdrawn)"))


def _forget_address(address: str) -> None:
    """From the invitations that it was sent, and from the trail of who invited it."""
    if not address:
        return
    invitations = Invitation.objects.filter(email__iexact=address)
    InvitationLetter.objects.filter(invitation__in=invitations).delete()
    invitations.update(email="")
    named = Q(details__email__iexact=address) | Q(details__emails__icontains=address)
    for entry in AuditEntry.objects.filter(named, verb="invite"):
        known = dict(entry.details)
        if str(known.get("email", "")).lower() == address.lower():
            known["email"] = ""
        if "emails" in known:
            known["emails"] = [one for one in known["emails"] if one.lower() != address.lower()]
        AuditEntry.objects.filter(pk=entry.pk).update(details=known)
