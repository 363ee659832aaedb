"""Asking for the labels to be frozen: the row that the page leaves, and who may work on it."""

from datetime import timedelta

from django.db.models import QuerySet
from django.utils import timezone

from annotation.models import Campaign, User
from annotation.services.claims import in_no_hands
from training.models import FreezeRequest

LONGEST = timedelta(minutes=31)
"""A worker is stopped after half an hour: what it took longer ago is free again."""


def ask_to_freeze(*, campaign: Campaign, user: User | None) -> FreezeRequest:
    """A waiting request, the one that waits already if there is one. The caller sends it, or the beat."""
    request, _ = FreezeRequest.objects.get_or_create(
        campaign=campaign, state=FreezeRequest.State.WAITING, defaults={"asked_by": user}
    )
    return request


def claim_freeze(pk: int) -> FreezeRequest | None:
    """The request, if it is this worker's now; None where another has it, or it is settled."""
    if not free_freezes().filter(pk=pk).update(begun_at=timezone.now()):
        return None
    return FreezeRequest.objects.select_related("campaign", "asked_by").get(pk=pk)


def free_freezes() -> QuerySet[FreezeRequest]:
    """What waits and is in no living worker's hands."""
    is_free = in_no_hands("begun_at", longest=LONGEST)
    return FreezeRequest.objects.filter(is_free, state=FreezeRequest.State.WAITING)
