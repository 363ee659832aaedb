"""Invitations: by link, by e-mail, by a CSV of addresses; and what happens to whoever follows one."""

import csv
import io
from collections.abc import Callable, Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.mail import send_mail
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Campaign, Invitation, Membership, Pool, Role, User
from annotation.services.audit import record_audit
from annotation.services.panels import PANEL
from annotation.services.pools import join_pool, teacher_of
from annotation.services.refusals import InvitationSpent, NotAllowed, Refusal

TEACHER = "teacher"
LASTS = timedelta(days=14)
MOST_ADDRESSES = 10_000


@transaction.atomic
def invite(
    *,
    user: User,
    pool: Pool | None = None,
    campaign: Campaign | None = None,
    role: str = TEACHER,
    email: str = "",
    uses: int = 1,
    expires_at: datetime | None = None,
) -> Invitation:
    """A link that makes a teacher of a pool, or gives a role in a campaign. Good for so many people."""
    if role == TEACHER and pool is None:
        raise Refusal(_("Choose the pool that the teacher is to join."))
    if role != TEACHER and (campaign is None or role not in Role.Name.values):
        raise Refusal(_("Choose a campaign and one of its roles."))
    invitation = Invitation.objects.create(
        pool=pool,
        campaign=campaign,
        role=role,
        email=email,
        uses_left=uses,
        expires_at=expires_at or timezone.now() + LASTS,
        created_by=user,
    )
    record_audit(
        user=user,
        verb="invite",
        object=f"{role} of {pool or campaign}",
        campaign=campaign,
        details={"email": email, "uses": uses},
    )
    return invitation


def read_addresses(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """E-mail addresses of a CSV: its column `email` where it has one, else the first. And the lines that hold none.

    Returns the addresses, each once, and (line, what stood there) for the rest.
    """
    rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff"))))[: MOST_ADDRESSES + 1]
    header = [cell.strip().lower() for cell in rows[0]] if rows else []
    column = next((header.index(name) for name in ("email", "e-mail", "mail") if name in header), None)
    found: dict[str, None] = {}
    wrong = []
    for line, row in enumerate(rows[1:] if column is not None else rows, start=2 if column is not None else 1):
        if not any(cell.strip() for cell in row):
            continue
        address = row[column or 0].strip().lower() if len(row) > (column or 0) else ""
        try:
            validate_email(address)
        except ValidationError:
            wrong.append((line, address[:100]))
        else:
            found[address] = None
    return list(found), wrong


def invite_by_email(
    *, user: User, addresses: Sequence[str], link: Callable[[Invitation], str], pool: Pool | None = None,
    campaign: Campaign | None = None, role: str = TEACHER, note: str = "",
) -> list[Invitation]:  # fmt: skip
    """One invitation and one letter for each address. An address that has an open invitation to the same gets no other.

    `link` gives the address of the invitation's page.
    """
    waiting = set(
        Invitation.objects.usable()
        .filter(pool=pool, campaign=campaign, role=role, email__in=addresses)
        .values_list("email", flat=True)
    )
    invitations = []
    for address in addresses:
        if address in waiting:
            continue
        invitation = invite(user=user, pool=pool, campaign=campaign, role=role, email=address)
        try:  # in no transaction: teachers' answers must not wait for a slow mail server
            send_mail(
                _("You are invited to %(place)s") % {"place": pool or campaign},
                _("Follow this link to accept; it is good for %(days)s days:\n\n%(link)s\n\n%(note)s")
                % {"days": LASTS.days, "link": link(invitation), "note": note},
                None,
                [address],
            )
        except Exception:  # a letter that cannot be sent leaves no invitation, so that trying again sends it
            invitation.delete()
            raise
        invitations.append(invitation)
    return invitations


def open_invitation(token: str) -> Invitation:
    """The usable invitation of the token. Raises InvitationSpent."""
    invitation = Invitation.objects.usable().select_related("pool", "campaign").filter(token=token).first()
    if invitation is None:
        raise InvitationSpent
    return invitation


@transaction.atomic
def open_account(*, invitation: Invitation, username: str, password: str, email: str = "") -> User:
    """An account for somebody who came with an invitation; `accept_invitation` is the next step.

    Raises Refusal where the name is taken or the password is weak.
    """
    if not Invitation.objects.usable().filter(pk=invitation.pk).exists():
        raise InvitationSpent
    if User.objects.filter(username__iexact=username).exists():
        raise Refusal(_("This name is taken. Choose another, or sign in if it is yours."))
    if "@" in username or username.startswith(f"{PANEL}-"):
        raise Refusal(_("Choose a name without @ that no panel gives: it could be taken for somebody else."))
    user = User(username=username, email=email or invitation.email)
    try:
        user.full_clean(exclude=["password"])
        validate_password(password, user)
    except ValidationError as error:
        raise Refusal(" ".join(error.messages)) from error
    user.set_password(password)
    user.save()
    return user


@transaction.atomic
def accept_invitation(*, invitation: Invitation, user: User | AnonymousUser) -> Membership | Role:
    """Join what the invitation leads to. Each use is counted down by conditional UPDATE; joining twice uses one.

    Raises InvitationSpent, NotAllowed.
    """
    if not isinstance(user, User):
        raise NotAllowed
    if invitation.role == TEACHER and invitation.pool is not None:
        teacher = teacher_of(user)
        if member := Membership.objects.filter(
            pool=invitation.pool, teacher=teacher, status=Membership.Status.ACTIVE
        ).first():
            return member
        _use(invitation)
        return join_pool(pool=invitation.pool, teacher=teacher)
    if invitation.campaign is None:
        raise InvitationSpent
    if role := Role.objects.filter(campaign=invitation.campaign, user=user, name=invitation.role).first():
        return role
    _use(invitation)
    record_audit(user=user, verb="accept role", object=invitation.role, campaign=invitation.campaign)
    return Role.objects.create(campaign=invitation.campaign, user=user, name=invitation.role)


def _use(invitation: Invitation) -> None:
    if not Invitation.objects.usable().filter(pk=invitation.pk).update(uses_left=F("uses_left") - 1):
        raise InvitationSpent


def revoke_invitation(*, invitation: Invitation, user: User) -> None:
    Invitation.objects.filter(pk=invitation.pk).update(uses_left=0)
    record_audit(
        user=user, verb="revoke invitation", object=f"invitation {invitation.pk}", campaign=invitation.campaign
    )


# Roles ----------------------------------------------------------------------------------------------------------------


@transaction.atomic
def grant_role(*, campaign: Campaign, user: User, name: str, by: User) -> Role:
    role, is_new = Role.objects.get_or_create(campaign=campaign, user=user, name=Role.Name(name).value)
    if is_new:
        record_audit(user=by, verb="grant role", object=f"{name} to {user.username}", campaign=campaign)
    return role


@transaction.atomic
def revoke_role(*, role: Role, by: User) -> None:
    """Take a role back. The last admin stays: a campaign without one could not be run."""
    admins = Role.objects.select_for_update().filter(campaign=role.campaign, name=Role.Name.ADMIN)
    if role.name == Role.Name.ADMIN and len(admins) <= 1:
        raise Refusal(_("A campaign needs an admin. Name another one first."))
    role.delete()
    record_audit(user=by, verb="revoke role", object=f"{role.name} of {role.user.username}", campaign=role.campaign)
