"""Participants that an external panel sends: identified by URL parameters, sent back with a completion code."""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import parse_qsl, urlencode, urlsplit, urlunsplit

from django.core.signing import BadSignature, Signer
from django.db import transaction
from django.utils.translation import gettext as _

from annotation.models import Membership, Pool, Teacher, User
from annotation.services.pools import join_pool
from annotation.services.refusals import NotAllowed, Refusal

PANEL = "prolific"
"""What accounts begin with that the panel opened; nobody else gets such a name."""
PROLIFIC = ("PROLIFIC_PID", "STUDY_ID", "SESSION_ID")


@dataclass(frozen=True)
class Participant:
    """Who the panel says has come."""

    panel: str
    participant: str
    study: str
    session: str


def read_participant(parameters: Mapping[str, str]) -> Participant:
    """The participant in the URL's parameters, under Prolific's names. Raises Refusal where one is missing."""
    values = [parameters.get(name, "").strip() for name in PROLIFIC]
    if not all(values) or any(len(value) > 64 or not value.isalnum() for value in values):
        raise Refusal(_("The link lacks PROLIFIC_PID, STUDY_ID or SESSION_ID. Open the study from the panel's page."))
    return Participant(PANEL, *values)


def panel_key(pool: Pool) -> str:
    """What the pool's link carries besides the panel's parameters, so that nobody makes one up for another pool."""
    return Signer(salt="annotation.panel").sign(str(pool.pk))


def pool_of_key(key: str) -> Pool:
    try:
        return Pool.objects.get(pk=Signer(salt="annotation.panel").unsign(key))
    except (BadSignature, Pool.DoesNotExist) as error:
        raise NotAllowed from error


@transaction.atomic
def admit_participant(*, pool: Pool, participant: Participant) -> Membership:
    """The participant's membership: the same person, by the panel's id, is the same teacher in every study and session.

    The account has no password: the panel's link is the only way in. It therefore leads to nobody who has more to lose
    than a participant. Raises NotAllowed for the suspended, and for whoever helps to run something.
    """
    digest = hashlib.sha256(f"{participant.panel}:{participant.participant}".encode()).hexdigest()
    user, _is_new = User.objects.get_or_create(
        username=f"{participant.panel}-{digest[:24]}", defaults={"password": "!"}
    )
    if not user.is_active or user.is_staff or user.is_superuser or user.roles.exists():
        raise NotAllowed
    teacher, _is_new = Teacher.objects.get_or_create(user=user)
    teacher.external = {
        "panel": participant.panel,
        "participant": participant.participant,
        "study": participant.study,
        "session": participant.session,
    }
    teacher.save(update_fields=["external"])
    return join_pool(pool=pool, teacher=teacher)


def completion_link(membership: Membership) -> str:
    """Where to send the participant at the end: the pool's completion URL, which holds the panel's code; or "".

    Only for somebody whom a panel sent; the session goes along, so that the panel can tell visits apart.
    """
    if not membership.pool.completion_url or not membership.teacher.external:
        return ""
    parts = urlsplit(membership.pool.completion_url)
    query = [*parse_qsl(parts.query), ("SESSION_ID", membership.teacher.external.get("session", ""))]
    return urlunsplit(parts._replace(query=urlencode(query)))
