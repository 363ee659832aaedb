"""Letters that carry invitations: sent by a worker, tried again, given up with the mail server's own words."""

from datetime import datetime, timedelta
from smtplib import SMTPRecipientsRefused, SMTPResponseException

from django.core.mail import EmailMessage
from django.db.models import F, QuerySet
from django.urls import reverse
from django.utils import timezone, translation
from django.utils.translation import gettext as _

from annotation.models import Invitation, InvitationLetter, Pool, User
from annotation.services.audit import record_audit

ATTEMPTS = 6
FIRST_WAIT = timedelta(seconds=30)
"""Doubled after each attempt: half a minute, a minute, … eight minutes."""
CLAIM = timedelta(seconds=90)
"""Longer than the task may take."""
AT_ONCE = 100
"""Letters that one look, or one request, sends to the workers; the beat looks every few seconds."""

State = InvitationLetter.State


def due_letters(*, now: datetime | None = None) -> list[int]:
    waiting = InvitationLetter.objects.filter(state=State.WAITING, next_attempt_at__lte=now or timezone.now())
    return list(waiting.order_by("next_attempt_at").values_list("pk", flat=True)[:AT_ONCE])


def deliver_letter(letter_id: int) -> bool:
    """One attempt. Claimed by conditional UPDATE, so that two workers do not both send it. Returns whether it is sent.

    A worker that dies between the mail server's word and the row sends it twice, under the same Message-ID.
    """
    now = timezone.now()
    claimed = InvitationLetter.objects.filter(pk=letter_id, state=State.WAITING, next_attempt_at__lte=now).update(
        attempts=F("attempts") + 1, next_attempt_at=now + CLAIM
    )
    if not claimed:
        return False
    letter = InvitationLetter.objects.select_related("invitation__pool", "invitation__campaign").get(pk=letter_id)
    if letter.attempts > ATTEMPTS:  # the last ones lost their worker, or took longer than a task may
        return _finish(letter, state=State.GIVEN_UP, reason=letter.reason or _("The mail server took too long."))
    if not Invitation.objects.usable().filter(pk=letter.invitation_id).exists():
        return _finish(letter, state=State.GIVEN_UP, reason=_("The invitation was used or revoked, or is over."))
    try:
        write_letter(letter).send()
    except (OSError, ValueError) as error:  # of the mail server, of the way to it; of an address that is none
        if _is_final(error) or letter.attempts >= ATTEMPTS:
            return _finish(letter, state=State.GIVEN_UP, reason=reason_of(error))
        wait = FIRST_WAIT * 2 ** (letter.attempts - 1)
        return _finish(letter, state=State.WAITING, reason=reason_of(error), next_attempt_at=timezone.now() + wait)
    return _finish(letter, state=State.SENT, reason="", sent_at=timezone.now())


def write_letter(letter: InvitationLetter) -> EmailMessage:
    """In the language of whoever invited."""
    invitation = letter.invitation
    place = " ".join(str(invitation.pool or invitation.campaign).split())
    link = letter.origin.rstrip("/") + reverse("invitation", args=[invitation.token])
    host = letter.origin.split("//")[-1].split("/")[0].split(":")[0]
    with translation.override(letter.language):
        until = invitation.expires_at.date().isoformat() if invitation.expires_at is not None else "–"
        return EmailMessage(
            _("You are invited to %(place)s") % {"place": place},
            _("Follow this link to accept; it is good until %(until)s:\n\n%(link)s\n") % {"until": until, "link": link},
            to=[invitation.email],
            headers={"Message-ID": f"<invitation-{letter.pk}-{invitation.pk}@{host}>"},
        )


def _is_final(error: OSError | ValueError) -> bool:
    """Whether trying again is of no use: the server said no for good (5xx), or the address is none."""
    if isinstance(error, SMTPRecipientsRefused):
        return all(code >= 500 for code, _said in error.recipients.values())
    return isinstance(error, ValueError) or (isinstance(error, SMTPResponseException) and error.smtp_code >= 500)


def reason_of(error: OSError | ValueError) -> str:
    """What the server said, for the admin to act upon."""
    if isinstance(error, SMTPRecipientsRefused):
        answers = [f"{code} {said.decode(errors='replace')}" for code, said in error.recipients.values()]
        return "; ".join(answers)[:300]
    if isinstance(error, SMTPResponseException):
        said = error.smtp_error
        return f"{error.smtp_code} {said.decode(errors='replace') if isinstance(said, bytes) else said}"[:300]
    return (str(error) or type(error).__name__)[:300]


def _finish(letter: InvitationLetter, *, state: State, reason: str, **changes: datetime) -> bool:
    InvitationLetter.objects.filter(pk=letter.pk).update(state=state, reason=reason, **changes)
    return state == State.SENT


# For the admin --------------------------------------------------------------------------------------------------------


def failed_letters(pool: Pool) -> QuerySet[InvitationLetter]:
    """Letters that were given up and whose invitation still leads somewhere, newest first."""
    usable = Invitation.objects.usable().filter(pool=pool)
    letters = InvitationLetter.objects.filter(state=State.GIVEN_UP, invitation__in=usable)
    return letters.select_related("invitation").order_by("-pk")


def retry_letters(*, letters: QuerySet[InvitationLetter], user: User) -> list[int]:
    """Try these again from the beginning. Returns those that had been given up."""
    ids = list(letters.filter(state=State.GIVEN_UP).values_list("pk", flat=True))
    again = InvitationLetter.objects.filter(pk__in=ids, state=State.GIVEN_UP)
    if again.update(state=State.WAITING, attempts=0, next_attempt_at=timezone.now()):
        record_audit(user=user, verb="send letters again", object=f"{len(ids)} letters", details={"letters": ids})
    return ids
