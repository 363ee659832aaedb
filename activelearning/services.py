"""What the web and the worker write together: the lease of the planner, the claim of the encoder."""

from datetime import timedelta
from uuid import UUID, uuid4

from django.db.models import F, Q
from django.utils import timezone

from activelearning.models import EmbeddingProgress, PlanLease
from annotation.models import Campaign

LEASE = timedelta(seconds=15)
"""A planner that was killed is missed for so long; a living one renews before every round."""
SILENCE = timedelta(seconds=60)
"""An encoder without a sign of life for so long is taken for dead. Loading a model takes its time."""


def ask_to_plan(*, campaign_id: int) -> None:
    """Count one more request, so that the planner at work goes on until it has served this one too."""
    PlanLease.objects.get_or_create(campaign_id=campaign_id)
    PlanLease.objects.filter(campaign_id=campaign_id).update(asked=F("asked") + 1)


def claim_lease(*, campaign_id: int) -> UUID | None:
    """A new holder's name, or None where another planner lives."""
    now, holder = timezone.now(), uuid4()
    free = Q(until__isnull=True) | Q(until__lt=now)
    changed = PlanLease.objects.filter(free, campaign_id=campaign_id).update(holder=holder, until=now + LEASE)
    return holder if changed else None


def renew_lease(*, campaign_id: int, holder: UUID) -> int | None:
    """The number of requests so far, to be served by this round; None where the lease was lost."""
    mine = PlanLease.objects.filter(campaign_id=campaign_id, holder=holder)
    if not mine.update(until=timezone.now() + LEASE):
        return None
    return mine.values_list("asked", flat=True).get()


def release_lease(*, campaign_id: int, holder: UUID, served: int | None = None) -> bool:
    """Give the lease back; False, and it stays, where somebody asked since `served`. None gives it back in any case."""
    mine = PlanLease.objects.filter(campaign_id=campaign_id, holder=holder)
    if served is not None:
        mine = mine.filter(asked=served)
    return bool(mine.update(holder=None, until=None, finished_at=timezone.now()))


def claim_embedding(*, campaign: Campaign) -> bool:
    """Whether this process may compute features now; nobody else does until it finishes or falls silent."""
    EmbeddingProgress.objects.get_or_create(campaign=campaign)
    now = timezone.now()
    free = ~Q(state=EmbeddingProgress.State.RUNNING) | Q(heartbeat__lt=now - SILENCE)
    return bool(
        EmbeddingProgress.objects.filter(free, campaign=campaign).update(
            state=EmbeddingProgress.State.RUNNING, encoder=campaign.encoder, heartbeat=now, reason=""
        )
    )
