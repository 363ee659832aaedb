"""What a member's terms allow now: limits of a day and in all, hours, time off, presence."""

from collections.abc import Iterable
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

from django.db.models import F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.languages import codes_of
from annotation.models import Campaign, Enrolment, Membership, Teacher
from annotation.models.people import counted_on
from annotation.zones import zone_named

PRESENCE = timedelta(minutes=3)
"""How long after the last sign of life a person counts as present. The desk writes one at most every half minute."""
HEARTBEAT = timedelta(seconds=30)


def zone_of(teacher: Teacher) -> ZoneInfo:
    found = zone_named(teacher.user.time_zone) if teacher.user is not None else None
    return found or ZoneInfo("UTC")


def today(teacher: Teacher, *, now: datetime | None = None) -> date:
    """The day that it is where the teacher is."""
    return (now or timezone.now()).astimezone(zone_of(teacher)).date()


def labels_left(membership: Membership, *, teacher: Teacher) -> int | None:
    """Labels that the daily limit and the capacity leave; None where neither is set."""
    rooms = []
    if membership.pool.daily_limit is not None:
        rooms.append(membership.pool.daily_limit - counted_on(membership, today(teacher)))
    if membership.capacity is not None:
        rooms.append(membership.capacity - membership.label_count)
    return max(0, min(rooms)) if rooms else None


def has_room(membership: Membership | None, *, teacher: Teacher) -> bool:
    return membership is None or labels_left(membership, teacher=teacher) != 0


def has_consented(membership: Membership | None, *, teacher: Teacher) -> bool:
    """Whether the teacher agreed to the pool's present terms; nobody is asked who is no person."""
    if membership is None or teacher.kind != Teacher.Kind.HUMAN:
        return True
    return membership.accepted_terms >= membership.pool.terms_version


def unread_terms(*, campaign: Campaign, teacher: Teacher) -> Membership | None:
    """The membership, of those that lead to the campaign, whose present terms the teacher has not agreed to."""
    return (
        members_of(campaign)
        .filter(teacher=teacher, teacher__kind=Teacher.Kind.HUMAN, accepted_terms__lt=F("pool__terms_version"))
        .first()
    )


def readable_by(teacher: Teacher, members: Iterable[Membership]) -> Q:
    """Which comparisons are in a language that the teacher and one of these pools read, or in none that is known."""
    pools = [set(codes_of(member.pool.languages)) for member in members]
    readable = Q()
    for codes in (set(codes_of(teacher.languages)), set().union(*pools) if all(pools) else set()):
        if codes:
            readable &= Q(conversation__language__in=["", *codes])
    return readable


def is_at_work(teacher: Teacher, *, now: datetime | None = None) -> bool:
    """Inside the working hours, and not on time off."""
    now = now or timezone.now()
    if teacher.away_until is not None and teacher.away_until > now:
        return False
    if not teacher.working_hours:
        return True
    local = now.astimezone(zone_of(teacher))
    return any(_spans(local, int(weekday), start, end) for weekday, start, end in teacher.working_hours)


def _spans(local: datetime, weekday: int, start: str, end: str) -> bool:
    begins, ends, clock = time.fromisoformat(start), time.fromisoformat(end), local.time()
    if begins <= ends:
        return local.weekday() == weekday and begins <= clock < ends
    # A night shift: from this weekday's evening into the next morning.
    return (local.weekday() == weekday and clock >= begins) or (local.weekday() == (weekday + 1) % 7 and clock < ends)


def record_presence(teacher: Teacher) -> None:
    """The heartbeat: one conditional UPDATE, at most every half minute."""
    now = timezone.now()
    if teacher.last_seen is not None and teacher.last_seen > now - HEARTBEAT:
        return
    Teacher.objects.filter(Q(last_seen__isnull=True) | Q(last_seen__lte=now - HEARTBEAT), pk=teacher.pk).update(
        last_seen=now
    )
    teacher.last_seen = now


def members_of(campaign: Campaign) -> QuerySet[Membership]:
    """Active members of the campaign's pools, with teacher and pool; a teacher in two pools has two rows."""
    return (
        Membership.objects.filter(
            pool__campaigns=campaign, status=Membership.Status.ACTIVE, teacher__withdrawn_at__isnull=True
        )
        .select_related("teacher__user", "pool")
        .order_by("teacher_id", "pk")
    )


def present_members(campaign: Campaign, *, now: datetime | None = None) -> list[Membership]:
    """Who can be offered something now, once per teacher, under the first membership with room.

    People by their heartbeat, hours, time off, stage and consent; simulated, recorded and model teachers are always
    there.
    """
    now = now or timezone.now()
    shut = set(
        Enrolment.objects.filter(campaign=campaign)
        .exclude(stage=Enrolment.Stage.WORKING)
        .values_list("teacher_id", flat=True)
    )
    is_here = ~Q(teacher__kind=Teacher.Kind.HUMAN) | Q(teacher__last_seen__gte=now - PRESENCE)
    present: dict[int, Membership] = {}
    for membership in members_of(campaign).filter(is_here):
        teacher = membership.teacher
        if membership.teacher_id in present or membership.teacher_id in shut:
            continue
        is_free = is_at_work(teacher, now=now) and has_room(membership, teacher=teacher)
        if is_free and has_consented(membership, teacher=teacher):
            present[membership.teacher_id] = membership
    return list(present.values())


def reason_to_rest(*, campaign: Campaign, teacher: Teacher) -> str:
    """Why nothing is put before the teacher, as a sentence for them."""
    enrolment = Enrolment.objects.filter(campaign=campaign, teacher=teacher).first()
    members = list(members_of(campaign).filter(teacher=teacher))
    if not campaign.is_open:
        return _("The campaign is not open now. What you have done is kept.")
    if not members:
        return _("You are not in one of the campaign's pools at present. Ask its admin.")
    if enrolment is not None and enrolment.stage == Enrolment.Stage.FAILED:
        return _("You have not passed the qualification for this campaign. Thank you for trying.")
    if not any(has_room(member, teacher=teacher) for member in members):
        return _("You have given all the labels that your terms allow for now. Thank you.")
    if teacher.away_until is not None and teacher.away_until > timezone.now():
        return _("You are on time off. End it on your page to get comparisons again.")
    if not is_at_work(teacher):
        return _("It is outside your working hours.")
    return _("Nothing waits for you at the moment. New comparisons come as others answer: this page looks by itself.")
