"""The teachers of a campaign, a page at a time, with the counters that are kept for each."""

from collections.abc import Sequence
from dataclasses import dataclass

from django.db.models import Q, QuerySet
from django.utils import timezone

from annotation.models import Campaign, Enrolment, Membership, Teacher
from annotation.services.terms import PRESENCE

SHOWN = 4
COUNTED = 1000


def lock_unless_withdrawn(teacher_id: int) -> bool:
    """Whether the teacher is still there. Until the transaction ends a withdrawal waits, and finds what is stored."""
    present = Teacher.objects.select_for_update(no_key=True).filter(pk=teacher_id, withdrawn_at__isnull=True)
    return present.first() is not None


@dataclass(frozen=True)
class Place:
    """A member of one of the campaign's pools, and their way through the campaign if they have begun it."""

    member: Membership
    enrolment: Enrolment | None
    is_present: bool


@dataclass(frozen=True)
class Presence:
    """Who is at the desk: a few names, and how many, counted up to a thousand."""

    names: list[str]
    count: int

    @property
    def is_more(self) -> bool:
        return self.count >= COUNTED


def present_now(campaign: Campaign) -> Presence:
    """Teachers with a sign of life in the last minutes; models and simulated ones are always there."""
    is_here = ~Q(kind=Teacher.Kind.HUMAN) | Q(last_seen__gte=timezone.now() - PRESENCE)
    working = Membership.objects.filter(pool__campaigns=campaign, status=Membership.Status.ACTIVE)
    here = Teacher.objects.filter(is_here, pk__in=working.values("teacher"), withdrawn_at__isnull=True)
    names = list(here.order_by("pk").values_list("pseudonym", flat=True)[:COUNTED])
    return Presence(names[:SHOWN], len(names))


def members_found(campaign: Campaign, *, text: str = "", status: str = "") -> QuerySet[Membership]:
    """Members of the campaign's pools, also those who left; by the beginning of pseudonym or account."""
    found = Membership.objects.filter(pool__campaigns=campaign).select_related("teacher__user", "pool")
    if status in Membership.Status:
        found = found.filter(status=status)
    if text:
        found = found.filter(Q(teacher__pseudonym__istartswith=text) | Q(teacher__user__username__istartswith=text))
    return found


def places_of(campaign: Campaign, members: Sequence[Membership]) -> list[Place]:
    """With the enrolments of these members, in one statement."""
    enrolments = {
        one.teacher_id: one
        for one in Enrolment.objects.filter(campaign=campaign, teacher__in=[member.teacher_id for member in members])
    }
    since = timezone.now() - PRESENCE
    return [
        Place(
            member,
            enrolments.get(member.teacher_id),
            is_present=member.teacher.kind != Teacher.Kind.HUMAN
            or (member.teacher.last_seen is not None and member.teacher.last_seen >= since),
        )
        for member in members
    ]
