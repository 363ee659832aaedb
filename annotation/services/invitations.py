"""Invitations: by link, by e-mail, by a CSV of addresses; and what happens to whoever follows one."""

import csv
import io
from collections.abc import Sequence
from datetime import datetime, timedelta

from django.contrib.auth.models import AnonymousUser
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.validators import validate_email
from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Campaign, Invitation, InvitationLetter, Membership, Pool, Role, User
from annotation.services.audit import record_audit
from annotation.services.letters import retry_letters
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

    Returns the addresses, each once, and (line, what stood there) for the rest. Raises Refusal for too long a list,
    so that nobody is left out in silence, and for what is no CSV.
    """
    try:
        rows = list(csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=None)))  # whichever way its lines end
    except csv.Error as error:
        raise Refusal(
            _("This list cannot be read, and nobody was invited. Look for a quotation mark that is never closed.")
        ) from error
    if len(rows) > MOST_ADDRESSES + 1:
        raise Refusal(
            _("This list is too long, and nobody was invited: at most %(count)d lines at once. Divide it.")
            % {"count": MOST_ADDRESSES}
        )
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


@transaction.atomic
def invite_by_email(*, user: User, pool: Pool, addresses: Sequence[str], origin: str, language: str) -> list[int]:
    """One invitation for each address, and the letter that carries it, for a worker to send. Returns the letters' keys.

    An address that has an open invitation gets no other; where its letter was given up, that is tried again. The
    pool's row is locked, so that a double click invites once.
    """
    Pool.objects.select_for_update(no_key=True).get(pk=pool.pk)
    opened = Invitation.objects.usable().filter(pool=pool, role=TEACHER, email__in=addresses)
    waiting = set(opened.values_list("email", flat=True))
    again = retry_letters(letters=InvitationLetter.objects.filter(invitation__in=opened), user=user)
    until = timezone.now() + LASTS
    invitations = Invitation.objects.bulk_create(
        Invitation(pool=pool, role=TEACHER, email=address, expires_at=until, created_by=user)
        for address in addresses
        if address not in waiting
    )
    letters = InvitationLetter.objects.bulk_create(
        InvitationLetter(invitation=invitation, origin=origin, language=language) for invitation in invitations
    )
    if invitations:
        emails = [invitation.email for invitation in invitations]
        record_audit(user=user, verb="invite", object=f"{TEACHER} of {pool}", details={"emails": emails})
    return [*again, *(letter.pk for letter in letters)]


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
