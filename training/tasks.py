"""Work by message: a row's id in, nothing out; the beat asks again for what is lost, and doubled work does nothing."""

from celery import shared_task
from django.core.cache import cache

from annotation.tasks import send_quietly
from training.models import RewardQuestion

AGAIN = 10  # seconds before the beat asks once more for the same work


def ask_for_work(kind: str, pk: int) -> None:
    """Tell the workers of a run or a generation, on commit. A broker that is down costs the time until the beat."""
    send_quietly("training.run", kind, pk)


def ask_for_answer(pk: int) -> None:
    """Tell the workers of a question about the reward."""
    send_quietly("training.answer", pk)


@shared_task(name="training.run", acks_late=False)
def run(kind: str, pk: int) -> None:
    """See one run or generation through, for hours if need be.

    Acknowledged early: a message unacknowledged for hours would come again and again, and the heartbeat in the row
    already tells a dead worker.
    """
    from training.pipeline.supervision import supervise

    supervise(kind, pk)


@shared_task(name="training.answer", soft_time_limit=120, time_limit=150)
def answer(pk: int) -> None:
    """What does the reward say of these texts?"""
    from training.pipeline.asking import answer_question

    answer_question(pk)


@shared_task(name="training.freeze", soft_time_limit=1800, time_limit=1830)
def freeze_labels(request_id: int) -> None:
    """Freeze a campaign's current labels for whoever asked; the same labels give the same set."""
    from training.pipeline.freezing import freeze_requested

    freeze_requested(request_id)


@shared_task(name="training.reconcile", soft_time_limit=60, time_limit=90)
def reconcile() -> None:
    """What is owed: what waits or lost its worker, rules whose time has come, withdrawn labels to erase."""
    from training.pipeline.reconciling import settle
    from training.services.freezing import free_freezes

    settle()
    for kind, pk in _due():
        if cache.add(f"training:{kind}:{pk}", 1, timeout=AGAIN):
            run.apply_async((kind, pk), expires=AGAIN)
    for pk in RewardQuestion.objects.filter(state=RewardQuestion.State.WAITING).values_list("id", flat=True)[:20]:
        if cache.add(f"training:question:{pk}", 1, timeout=AGAIN):
            answer.apply_async((pk,), expires=AGAIN)
    for pk in free_freezes().values_list("id", flat=True)[:20]:
        if cache.add(f"training:freeze:{pk}", 1, timeout=AGAIN):
            freeze_labels.apply_async((pk,), expires=AGAIN)


def _due() -> list[tuple[str, int]]:
    from training.services.work import work_to_do

    return list(work_to_do())
