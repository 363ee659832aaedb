"""Letters to teachers who went without work and asked to be told when there is some again."""

from datetime import datetime, timedelta
from time import monotonic

import structlog
from django.core import signing
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.db.models import Count, F, OuterRef, Q, QuerySet, Subquery
from django.db.models.functions import Coalesce
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from annotation.models import Campaign, Comparison, Enrolment, Membership, Offer, Teacher
from annotation.services.budget import cost_of, room_left
from annotation.services.terms import PRESENCE, has_room, is_at_work, readable_by

log = structlog.get_logger(__name__)

SALT = "annotation.news"
BETWEEN = timedelta(days=1)
"""The least time between two letters to one teacher."""
ONE_LOOK = 240.0
"""Seconds of one look, less than the task may take."""
CURSOR = "news-cursor"
"""The last teacher of a look that is not finished."""


def want_news(*, teacher: Teacher, origin: str, language: str = "") -> None:
    """Letters in this language with links to this address of the site; an empty address switches them off."""
    Teacher.objects.filter(pk=teacher.pk).update(news_origin=origin, waiting_since=None)
    teacher.news_origin, teacher.waiting_since = origin, None
    if language and teacher.user is not None:
        teacher.user.preferences = {**teacher.user.preferences, "language": language}
        teacher.user.save(update_fields=["preferences"])


def news_token(teacher: Teacher) -> str:
    """What a letter's link to stop them holds: good for ever, and for nothing else."""
    return signing.dumps(teacher.pk, salt=SALT)


def teacher_of_token(token: str) -> Teacher | None:
    try:
        return Teacher.objects.filter(pk=signing.loads(token, salt=SALT)).first()
    except signing.BadSignature:
        return None


def tell_waiting_teachers(*, now: datetime | None = None, seconds: float = ONE_LOOK) -> int:
    """Mark who goes without, and write to who went without and has work again; returns how many letters went out.

    One letter for each absence, and one a day at most; what must wait for the day's end is told then. A look that ends
    before the last teacher, by the time or by force, is carried on by the next one.
    """
    ends = monotonic() + seconds
    now = now or timezone.now()
    open_campaigns = {one.pk: one for one in Campaign.objects.filter(state=Campaign.State.OPEN) if has_openings(one)}
    sent = 0
    for teacher in listeners().filter(pk__gt=cache.get(CURSOR, 0)):
        cache.set(CURSOR, teacher.pk, timeout=None)  # before the work: whoever a look dies of stops nobody else
        work = next((one for one in open_campaigns.values() if has_work(one, teacher=teacher, now=now)), None)
        if work is None:
            Teacher.objects.filter(pk=teacher.pk, waiting_since__isnull=True).update(waiting_since=now)
        elif teacher.waiting_since is not None:
            sent += tell(teacher, work, now=now)
        if monotonic() > ends:
            return sent
    cache.delete(CURSOR)
    return sent


def listeners() -> QuerySet[Teacher]:
    """People with an address who want letters. Simulated, recorded and model teachers never do."""
    return (
        Teacher.objects.filter(kind=Teacher.Kind.HUMAN, withdrawn_at__isnull=True, user__is_active=True)
        .exclude(news_origin="")
        .exclude(user__email="")
        .select_related("user")
        .order_by("pk")
    )


def has_openings(campaign: Campaign) -> bool:
    """Whether labels are wanted, and some comparison has a place left."""
    if campaign.label_target is not None and campaign.label_count >= campaign.label_target:
        return False
    return openings(campaign).exists()


def openings(campaign: Campaign) -> QuerySet[Comparison]:
    """Comparisons that may still be asked of somebody."""
    taken = (
        Offer.objects.filter(comparison=OuterRef("pk"), arm=Offer.Arm.DESIGNED, state__in=Offer.TAKEN)
        .order_by()
        .values("comparison")
        .annotate(count=Count("pk"))
        .values("count")
    )
    return (
        Comparison.objects.filter(
            campaign=campaign, is_active=True, gold_outcome__isnull=True, is_tutorial=False, is_held_out=False
        )
        .annotate(taken=Coalesce(Subquery(taken), 0))
        .filter(taken__lt=campaign.overlap_limit)
    )


def has_work(campaign: Campaign, *, teacher: Teacher, now: datetime) -> bool:
    """Whether the teacher could be offered something there now: member, with room, within the budget, at work, and
    not asked it before.

    A budget ends with a rest that pays for no offer more, as `budget.reserve` finds.
    """
    members = Membership.objects.filter(
        teacher=teacher, pool__campaigns=campaign, status=Membership.Status.ACTIVE
    ).select_related("pool")
    money = room_left(campaign)
    able = [
        member
        for member in members
        if has_room(member, teacher=teacher) and (money is None or cost_of(member, campaign=campaign) <= money)
    ]
    if not able or not is_at_work(teacher, now=now):
        return False
    if Enrolment.objects.filter(campaign=campaign, teacher=teacher, stage=Enrolment.Stage.FAILED).exists():
        return False
    met = Offer.objects.filter(
        teacher=teacher, comparison__campaign=campaign, state__in=(*Offer.TAKEN, Offer.State.SKIPPED)
    )
    fresh = (
        openings(campaign)
        .exclude(pk__in=met.values("comparison"))
        .exclude(category__in=[name for name in teacher.declined_warnings if name in campaign.content_warnings])
    )
    wanted = [set(member.categories or member.pool.categories) for member in able]
    if all(wanted):
        fresh = fresh.filter(category__in=set().union(*wanted))
    return fresh.filter(readable_by(teacher, able)).exists()


def tell(teacher: Teacher, campaign: Campaign, *, now: datetime) -> int:
    """Write the letter if it is due, claimed by a conditional UPDATE; returns 1 where it went out.

    Who is present sees the work by themselves, and waits no more once they were offered some. A letter that cannot be
    sent is tried again at the next look.
    """
    before = teacher.told_at
    if teacher.last_seen is not None and teacher.last_seen > now - PRESENCE:
        if Offer.objects.filter(teacher=teacher, created_at__gte=teacher.waiting_since).exists():
            Teacher.objects.filter(pk=teacher.pk).update(waiting_since=None)
        return 0
    due = Teacher.objects.filter(
        Q(told_at__isnull=True) | Q(told_at__lt=F("last_seen"), told_at__lte=now - BETWEEN),
        pk=teacher.pk,
        waiting_since__isnull=False,
        last_seen__isnull=False,
    ).exclude(news_origin="")
    if not due.update(told_at=now, waiting_since=None):
        return 0
    assert teacher.user is not None
    try:
        with translation.override(teacher.user.preferences.get("language")):
            letter(teacher, campaign).send()
    except OSError as error:  # smtplib's own errors are OSErrors too
        log.warning("news_not_sent", teacher=teacher.pk, reason=str(error))
        Teacher.objects.filter(pk=teacher.pk).update(told_at=before, waiting_since=teacher.waiting_since)
        return 0
    return 1


def letter(teacher: Teacher, campaign: Campaign) -> EmailMessage:
    assert teacher.user is not None
    origin = teacher.news_origin.rstrip("/")
    stop = origin + reverse("news_stop", args=[news_token(teacher)])
    return EmailMessage(
        _("There are comparisons for you again: %(campaign)s") % {"campaign": " ".join(campaign.name.split())},
        _("You asked to be told. Here they are:\n\n%(desk)s\n\nNo more such letters:\n\n%(stop)s\n")
        % {"desk": origin + reverse("desk", args=[campaign.code]), "stop": stop},
        to=[teacher.user.email],
        headers={"List-Unsubscribe": f"<{stop}>", "List-Unsubscribe-Post": "List-Unsubscribe=One-Click"},
    )
