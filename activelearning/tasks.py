"""What the workers do for activelearning: features, plans, and every few seconds a look at what is stale."""

from celery import current_app, shared_task
from django.core.cache import cache

AGAIN = 60  # seconds before the beat asks once more for the same effect of a withdrawal, or the same replay
EMBED_SECONDS = 10
"""A message's share of a long embedding: what else its queue holds goes in between."""


@shared_task(name="activelearning.embed", soft_time_limit=540, time_limit=600)
def embed(campaign_id: int) -> None:
    from activelearning.models import EmbeddingProgress
    from activelearning.pipeline import embed as compute

    if compute(campaign_id, seconds=EMBED_SECONDS):
        current_app.send_task("activelearning.replan", args=[campaign_id])
    elif EmbeddingProgress.objects.filter(campaign=campaign_id, state=EmbeddingProgress.State.WAITING).exists():
        current_app.send_task("activelearning.embed", args=[campaign_id])


@shared_task(name="activelearning.replan", soft_time_limit=110, time_limit=120)
def replan(campaign_id: int) -> None:
    from activelearning.pipeline import replan as plan

    plan(campaign_id)


@shared_task(name="activelearning.reconcile", soft_time_limit=20, time_limit=30)
def reconcile() -> None:
    """The level that heals: whatever message was lost, what is stale is asked for again."""
    from activelearning.services import stale_campaigns, unsent_effects, unsent_replays

    embedding, planning = stale_campaigns()
    for effect_id in unsent_effects():
        if cache.add(f"withdrawal-{effect_id}", 1, timeout=AGAIN):
            current_app.send_task("activelearning.weigh_withdrawal", args=[effect_id])
    for plan_id in unsent_replays():
        if cache.add(f"replay-{plan_id}", 1, timeout=AGAIN):
            current_app.send_task("activelearning.replay", args=[plan_id])
    for campaign_id in planning:
        current_app.send_task("activelearning.replan", args=[campaign_id])
    for campaign_id in embedding:
        current_app.send_task("activelearning.embed", args=[campaign_id])


@shared_task(name="activelearning.sweep", soft_time_limit=110, time_limit=120)
def sweep() -> None:
    from activelearning.pipeline import sweep as forget_old

    forget_old()


@shared_task(name="activelearning.weigh_withdrawal", soft_time_limit=540, time_limit=600)
def weigh_withdrawal(effect_id: int) -> None:
    """What the estimate would be without a teacher."""
    from activelearning.pipeline import weigh_withdrawal as weigh

    weigh(effect_id)


@shared_task(name="activelearning.replay", soft_time_limit=110, time_limit=120)
def replay(plan_id: int) -> None:
    from activelearning.pipeline import store_replay

    store_replay(plan_id)
