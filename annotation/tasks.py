"""What annotation asks of the workers: plan again, import, and the upkeep that the beat wants every few seconds."""

from contextlib import suppress

import structlog
from celery import current_app, shared_task
from django.conf import settings
from django.core.cache import cache
from django.db.models import QuerySet

from annotation.models import Campaign

log = structlog.get_logger(__name__)

REPLAN_EVERY = 1
"""Seconds within which a campaign's labels ask for one plan only."""
NEWS_EVERY = 300
"""Seconds between two looks for work that absent teachers wait for."""
LEFTOVERS_EVERY = 3600
"""Seconds between two looks for files that a killed process left without a row."""


def ask_for_replan(campaign_id: int) -> None:
    """Tell the planner that a campaign changed, at most once a second. Called on commit; never fails a request.

    A message that is lost, or a broker that is down, costs the time until the beat finds the campaign stale by itself.
    """
    if cache.add(f"replan-asked-{campaign_id}", 1, timeout=REPLAN_EVERY):
        send_quietly(settings.REPLAN_TASK, campaign_id)


def replan_all(campaigns: QuerySet[Campaign]) -> None:
    """The same for several: what changed is a pool, or somebody who teaches in them."""
    for pk in campaigns.values_list("pk", flat=True):
        ask_for_replan(pk)


def send_quietly(task: str, *args: int | str) -> None:
    """Send a task by its name. A broker that is down is logged: the beat finds the row that waits."""
    try:
        current_app.send_task(task, args=args)
    except Exception as error:  # a broker that is down raises kinds of its transport
        log.warning("task_not_sent", task=task, args=args, reason=str(error))


@shared_task(name="annotation.run_import", time_limit=6 * 3600, soft_time_limit=6 * 3600 - 60)
def run_import(job_id: int) -> None:
    """Read an import's file into conversations. Sent again, it goes on where it stopped.

    While as many as may are run it waits: the beat asks again.
    """
    from annotation.imports import ImportTaken, imports_at_work
    from annotation.imports import run_import as read_in

    if imports_at_work() >= settings.IMPORTS_AT_ONCE:
        return
    with suppress(ImportTaken):  # another worker has it, or it is finished
        read_in(job_id)


@shared_task(name="annotation.adopt", time_limit=3600, soft_time_limit=3590)
def adopt(adoption_id: int) -> None:
    """Make labels of what a judge recorded. Sent again, it goes on."""
    from annotation.models import Adoption
    from annotation.services.adoptions import adopt as make_labels

    make_labels(adoption_id)
    ask_for_replan(Adoption.objects.values_list("campaign_id", flat=True).get(pk=adoption_id))


@shared_task(name="annotation.reconcile", time_limit=60, soft_time_limit=50)
def reconcile() -> None:
    """What is owed by the clock: leases, notices, webhooks, letters, imports, model teachers, reviews, withdrawals.

    Whatever a lost message or a killed worker left undone is found here again.
    """
    from annotation.imports import imports_to_run
    from annotation.services.adoptions import adoptions_to_run
    from annotation.services.letters import due_letters
    from annotation.services.model_teachers import model_teachers_to_ask
    from annotation.services.notices import watch_campaign
    from annotation.services.offers import lapse_offers
    from annotation.services.people import withdrawals_to_finish
    from annotation.services.reviews import campaigns_to_fill
    from annotation.services.webhooks import due_deliveries

    lapse_offers()
    for campaign in Campaign.objects.filter(state=Campaign.State.OPEN):
        watch_campaign(campaign)
    for job_id in imports_to_run():
        run_import.delay(job_id)
    for adoption_id in adoptions_to_run():
        adopt.delay(adoption_id)
    for teacher_id in model_teachers_to_ask():
        ask_model.delay(teacher_id)
    for delivery_id in due_deliveries():
        deliver_webhook.delay(delivery_id)
    for letter_id in due_letters():
        send_letter.delay(letter_id)
    for campaign_id in campaigns_to_fill():
        fill_reviews.delay(campaign_id)
    for teacher_id in withdrawals_to_finish():
        finish_withdrawal.delay(teacher_id)
    if cache.add("news-looked-for", 1, timeout=NEWS_EVERY):
        tell_waiting.delay()
    if cache.add("leftovers-looked-for", 1, timeout=LEFTOVERS_EVERY):
        discard_leftovers.delay()


@shared_task(name="annotation.tell_waiting", time_limit=290, soft_time_limit=280, acks_late=False)
def tell_waiting() -> None:
    """Write to the teachers who asked to be told when there is work again.

    Acknowledged early: it may take longer than the broker waits for a receipt, and the beat asks again anyway.
    """
    from annotation.services.news import tell_waiting_teachers

    tell_waiting_teachers()


@shared_task(name="annotation.discard_leftovers", time_limit=600, acks_late=False)
def discard_leftovers() -> None:
    """Acknowledged early, as a bucket may take minutes; the beat asks again anyway."""
    from annotation.leftovers import discard_overdue

    discard_overdue()


@shared_task(name="annotation.fill_reviews", time_limit=3600, soft_time_limit=3590)
def fill_reviews(campaign_id: int) -> None:
    """Look for what is to be reviewed among the labels that are there."""
    from annotation.services.reviews import fill_reviews as fill_queue

    fill_queue(campaign_id)


@shared_task(name="annotation.finish_withdrawal", time_limit=3600, soft_time_limit=3590)
def finish_withdrawal(teacher_id: int) -> None:
    """Go on with a withdrawal that a crash broke off."""
    from annotation.services.people import finish_withdrawal as finish

    finish(teacher_id)


@shared_task(name="annotation.ask_model", time_limit=310, soft_time_limit=300)
def ask_model(teacher_id: int) -> None:
    """Let a model teacher answer some of its offers. While as many as may are asked it waits: the beat asks again."""
    from annotation.services.model_teachers import ask_model_teacher, place_to_ask

    with place_to_ask() as is_free:
        if is_free:
            ask_model_teacher(teacher_id)


@shared_task(name="annotation.deliver_webhook", time_limit=60, soft_time_limit=50)
def deliver_webhook(delivery_id: int) -> None:
    """One attempt at one delivery."""
    from annotation.services.webhooks import deliver

    deliver(delivery_id)


@shared_task(name="annotation.send_letter", time_limit=60, soft_time_limit=50)
def send_letter(letter_id: int) -> None:
    """One attempt at the letter of one invitation."""
    from annotation.services.letters import deliver_letter

    deliver_letter(letter_id)
