"""What the web and the worker write together: the lease of the planner, the claim of the encoder."""

from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Count, F, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from activelearning.models import EmbeddingProgress, Estimate, Plan, PlanLease, Projection, WithdrawalEffect
from annotation.models import Campaign, Comparison, Label, Offer, Teacher
from annotation.services.claims import in_no_hands
from annotation.services.refusals import Refusal
from annotation.services.terms import labels_left, present_members

LEASE = timedelta(seconds=15)
"""A planner that was killed is missed for so long; a living one renews before every round."""
SILENCE = timedelta(seconds=60)
"""An encoder without a sign of life for so long is taken for dead. Loading a model takes its time."""
LONGEST_WEIGHING = timedelta(minutes=11)
"""A worker is stopped after ten minutes: what it took longer ago is free again."""


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


# What is stale --------------------------------------------------------------------------------------------------------

RETRY = timedelta(seconds=60)
"""After a failure the encoder is tried again so late, or at once when the campaign's encoder was changed."""
DRY = timedelta(seconds=10)
"""Queues that a plan could not fill are looked at again so late: nothing may be left to ask."""
UNSENT = timedelta(seconds=30)
"""What was asked for and is not there so late is asked of a worker again."""
PATIENCE = timedelta(minutes=10)
"""A replay that is not there by then will not come: its worker died of it, or none looks after its queue."""
EMPTY = timedelta(seconds=2)
"""An empty one so soon: somebody has just come."""


def needs_embedding(campaign: Campaign) -> bool:
    """Whether responses came, or the encoder or the dimensions changed, since the features were last complete."""
    newest = Comparison.objects.filter(campaign=campaign).order_by("-id").values_list("id", flat=True).first()
    if newest is None:
        return False
    progress = EmbeddingProgress.objects.filter(campaign=campaign).first()
    if progress is None or progress.state == EmbeddingProgress.State.WAITING:
        return True
    is_same = progress.encoder == campaign.encoder
    silent_since = progress.heartbeat or timezone.now()
    if progress.state == EmbeddingProgress.State.RUNNING:
        return silent_since < timezone.now() - SILENCE
    if progress.state == EmbeddingProgress.State.FAILED:
        return not is_same or silent_since < timezone.now() - RETRY
    return not is_same or progress.last_comparison != newest or progress.dimensions != campaign.dimensions


def needs_planning(campaign: Campaign) -> bool:
    """Whether labels are newer than the estimate, or somebody present has a short queue that is worth another look."""
    estimate = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if estimate is None:
        has_features = Projection.objects.filter(campaign=campaign, encoder=campaign.encoder).exists()
        if has_features and campaign.label_version:
            return True
    elif estimate.label_version != campaign.label_version:
        return True
    if not campaign.is_open or not campaign.comparison_count:
        return False
    lease = PlanLease.objects.filter(campaign=campaign).first()
    if lease is None or lease.finished_at is None:
        return True
    quiet = timezone.now() - lease.finished_at
    if quiet < EMPTY:
        return False
    return _has_short_queue(campaign, below=1 if quiet < DRY else campaign.queue_depth)


def _has_short_queue(campaign: Campaign, *, below: int) -> bool:
    live = dict(
        Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE)
        .order_by()
        .values_list("teacher_id")
        .annotate(count=Count("id"))
    )
    for membership in present_members(campaign):
        left = labels_left(membership, teacher=membership.teacher)
        depth = below if left is None else min(below, left)
        if live.get(membership.teacher_id, 0) < depth:
            return True
    return False


def stale_campaigns() -> tuple[list[int], list[int]]:
    """Campaigns whose features are incomplete, and campaigns to plan anew: what the beat asks for.

    An archived one gets no more features; but what its estimate learned from labels that are withdrawn has to go.
    """
    to_embed = Campaign.objects.exclude(state=Campaign.State.ARCHIVED)
    to_plan = Campaign.objects.exclude(state=Campaign.State.DRAFT)
    return (
        [campaign.pk for campaign in to_embed if needs_embedding(campaign)],
        [campaign.pk for campaign in to_plan if needs_planning(campaign)],
    )


def ask_for_effects(*, teacher: Teacher) -> list[int]:
    """Rows that wait to be worked out, one for each campaign with labels of the teacher; what still holds stays.

    The caller sends them; the beat does if the message is lost.
    """
    states = WithdrawalEffect.State
    for campaign in campaigns_of(teacher):
        effect, is_new = WithdrawalEffect.objects.get_or_create(
            campaign=campaign,
            teacher=teacher,
            defaults={"label_version": campaign.label_version, "asked_at": timezone.now()},
        )
        is_stale = effect.label_version != campaign.label_version or effect.state == states.FAILED
        if not is_new and is_stale:
            WithdrawalEffect.objects.filter(pk=effect.pk).update(
                state=states.WAITING,
                reason="",
                label_version=campaign.label_version,
                asked_at=timezone.now(),
                begun_at=None,
            )
    waiting = WithdrawalEffect.objects.filter(teacher=teacher, state=states.WAITING)
    return list(waiting.values_list("pk", flat=True))


def campaigns_of(teacher: Teacher) -> QuerySet[Campaign]:
    """Where the teacher has labels to lose."""
    labels = Label.objects.filter(teacher=teacher, state=Label.State.CURRENT)
    return Campaign.objects.filter(pk__in=labels.values("campaign")).order_by("name")


def effects_of(teacher: Teacher) -> list[WithdrawalEffect]:
    """What was worked out, or is being so, for labels as they are now."""
    effects = WithdrawalEffect.objects.filter(teacher=teacher, campaign__in=campaigns_of(teacher))
    return [
        effect
        for effect in effects.select_related("campaign").order_by("campaign__name")
        if effect.label_version == effect.campaign.label_version
    ]


def claim_effect(pk: int) -> WithdrawalEffect | None:
    """What was asked for, if it is this worker's now; None where another has it, or it is settled."""
    if not free_effects().filter(pk=pk).update(begun_at=timezone.now()):
        return None
    return WithdrawalEffect.objects.select_related("campaign").get(pk=pk)


def settle_effect(effect: WithdrawalEffect, **found: Any) -> None:
    """Keep what was found, unless somebody asked anew meanwhile: then the labels were others."""
    WithdrawalEffect.objects.filter(pk=effect.pk, asked_at=effect.asked_at).update(begun_at=None, **found)


def free_effects() -> QuerySet[WithdrawalEffect]:
    """What waits and is in no living worker's hands."""
    is_free = in_no_hands("begun_at", longest=LONGEST_WEIGHING)
    return WithdrawalEffect.objects.filter(is_free, state=WithdrawalEffect.State.WAITING)


def unsent_effects() -> list[int]:
    """Those that wait for longer than a message takes."""
    waiting = free_effects().filter(asked_at__lt=timezone.now() - UNSENT)
    return list(waiting.order_by("pk").values_list("pk", flat=True)[:20])


PLANS_KEPT = 200
"""The newest plans of a campaign keep the inputs that they can be chosen again from: up to some MB each."""


class InputsNotKept(Refusal):
    """The plan is too old to be chosen again."""

    @classmethod
    def sentence(cls) -> str:
        return _(
            "The inputs of this plan are no longer kept: only the newest %(count)d plans of a campaign can be chosen "
            "again."
        ) % {"count": PLANS_KEPT}


def ask_to_replay(*, plan: Plan) -> None:
    """Forget what an earlier replay said: the page waits for the worker's answer. Raises InputsNotKept.

    The caller sends it; the beat does if the message is lost.
    """
    if not plan.inputs:
        raise InputsNotKept
    Plan.objects.filter(pk=plan.pk).update(
        replay_asked_at=timezone.now(), replayed_at=None, replay_is_same=None, replay_reason=""
    )


def unsent_replays() -> list[int]:
    """Those that wait for longer than a message takes. What no worker finished in good time is given up."""
    now = timezone.now()
    waiting = Plan.objects.filter(replay_asked_at__lt=now - UNSENT, replayed_at__isnull=True)
    waiting.filter(replay_asked_at__lt=now - PATIENCE).update(
        replayed_at=now, replay_reason="No worker finished it in ten minutes."
    )
    return list(waiting.order_by("pk").values_list("pk", flat=True)[:20])
