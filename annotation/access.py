"""Who may see what: every view asks here first, and a stranger learns nothing, not even that a page exists."""

from uuid import UUID

from allauth.mfa.models import Authenticator
from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db.models import BigIntegerField, Exists, OuterRef, Q, QuerySet, UUIDField
from django.http import Http404

from annotation.models import Campaign, Enrolment, Membership, Pool, Role, Teacher, User
from annotation.prepared import PreparedSelect, Slot

AnyUser = User | AnonymousUser
SHOWN_TO_TEACHERS = (Campaign.State.OPEN, Campaign.State.PAUSED, Campaign.State.CLOSED)


def teacher_for(user: AnyUser, code: UUID | str) -> tuple[Campaign, Teacher]:
    """The campaign, and the teacher that the user is in it. Raises Http404 for everybody else."""
    if user.pk is None:
        raise Http404
    membership = (
        Membership.objects.filter(
            teacher__user_id=user.pk,
            teacher__withdrawn_at__isnull=True,
            status=Membership.Status.ACTIVE,
            pool__campaigns__code=code,
            pool__campaigns__state__in=SHOWN_TO_TEACHERS,
        )
        .select_related("teacher__user")
        .first()
    )
    if membership is None:
        raise Http404
    return Campaign.objects.get(code=code), membership.teacher


def enrolment_for(user: User, code: UUID | str) -> Enrolment | None:
    """As `teacher_for`, in one query for somebody who is enrolled; None sends the others there."""
    found = ENROLMENT.first(user=user.pk, code=code)
    if found is not None:
        found.teacher.user = user
    return found


def _enrolments() -> QuerySet[Enrolment]:
    works_here = Membership.objects.filter(
        teacher=OuterRef("teacher"), status=Membership.Status.ACTIVE, pool__campaigns=OuterRef("campaign")
    )
    return (
        Enrolment.objects.filter(
            Exists(works_here),
            teacher__user_id=Slot("user", BigIntegerField()),
            teacher__withdrawn_at__isnull=True,
            campaign__code=Slot("code", UUIDField()),
            campaign__state__in=SHOWN_TO_TEACHERS,
        )
        .select_related("campaign", "teacher")
        .order_by("pk")
    )


ENROLMENT = PreparedSelect(_enrolments)


def campaign_for(user: AnyUser, code: UUID | str, role: str | None = None) -> Campaign:
    """The campaign, if the user has the role in it: an admin has every role, and None asks for any. Else Http404."""
    campaign = visible_campaigns(user, role=role).filter(code=code).first()
    if campaign is None:
        raise Http404
    return campaign


def visible_campaigns(user: AnyUser, role: str | None = None) -> QuerySet[Campaign]:
    """Campaigns that the user helps to run; all of them for a superuser."""
    if not isinstance(user, User) or not user.is_active:
        return Campaign.objects.none()
    if user.is_superuser:
        return Campaign.objects.all()
    held = Role.objects.filter(user=user)
    if role is not None:
        held = held.filter(name__in=(role, Role.Name.ADMIN))
    return Campaign.objects.filter(pk__in=held.values("campaign"))


def has_role(user: AnyUser, *, campaign: Campaign, role: str | None = None) -> bool:
    return visible_campaigns(user, role=role).filter(pk=campaign.pk).exists()


def visible_pools(user: AnyUser) -> QuerySet[Pool]:
    """Pools that the user runs: made by them, or drawn on by a campaign that they administer; all for a superuser."""
    if not isinstance(user, User) or not user.is_active:
        return Pool.objects.none()
    if user.is_superuser:
        return Pool.objects.all()
    administered = visible_campaigns(user, role=Role.Name.ADMIN)
    return Pool.objects.filter(Q(created_by=user) | Q(pk__in=administered.values("pools")))


def may_own(user: User) -> bool:
    """Whether somebody may make campaigns and pools: a superuser, or the admin of a campaign."""
    return user.is_superuser or visible_campaigns(user, role=Role.Name.ADMIN).exists()


def lacks_second_factor(user: AnyUser) -> bool:
    """Whether somebody who has campaigns or pools to lose must set a second factor up before they change anything."""
    if not settings.REQUIRE_SECOND_FACTOR or not isinstance(user, User):
        return False
    if Authenticator.objects.filter(user=user, type=Authenticator.Type.TOTP).exists():
        return False
    return user.is_staff or may_own(user) or visible_pools(user).exists()


def taught_campaigns(user: AnyUser) -> QuerySet[Campaign]:
    """Campaigns whose desk is open to the user."""
    if user.pk is None:
        return Campaign.objects.none()
    pools = Membership.objects.filter(
        teacher__user_id=user.pk, teacher__withdrawn_at__isnull=True, status=Membership.Status.ACTIVE
    ).values("pool")
    return Campaign.objects.filter(pools__in=pools, state__in=SHOWN_TO_TEACHERS).distinct()
