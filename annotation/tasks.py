"""What annotation asks of the workers: plan again, import, and the upkeep that the beat wants every few seconds."""

import structlog
from celery import current_app, shared_task
from django.conf import settings
from django.core.cache import cache

log = structlog.get_logger(__name__)

REPLAN_EVERY = 1
"""Seconds within which a campaign's labels ask for one plan only."""


def ask_for_replan(campaign_id: int) -> None:
    """Tell the planner that a campaign changed, at most once a second. Called on commit; never fails a request.

    A message that is lost, or a broker that is down, costs the time until the beat finds the campaign stale by itself.
    """
    if not cache.add(f"replan-asked-{campaign_id}", 1, timeout=REPLAN_EVERY):
        return
    try:
        current_app.send_task(settings.REPLAN_TASK, args=[campaign_id])
    except Exception as error:  # a broker that is down raises kinds of its transport
        log.warning("replan_not_sent", campaign=campaign_id, reason=str(error))


@shared_task(name="annotation.run_import", time_limit=6 * 3600, soft_time_limit=6 * 3600 - 60)
def run_import(job_id: int) -> None:
    """Read an import's file into conversations. Sent again, it goes on where it stopped."""
    from annotation.imports import run_import as read_in

    read_in(job_id)
