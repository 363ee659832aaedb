"""Work by message: a row's id in, nothing out; the beat asks again for what is lost, and doubled work does nothing."""

from celery import Task, shared_task
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


@shared_task(name="training.erase", soft_time_limit=1800, time_limit=1830)
def erase(label_set_id: int) -> None:
    """Erase withdrawn labels from what was frozen, and go on with the next label set."""
    from training.pipeline.erasing import erase_from

    erase_from(label_set_id)
    _send_next_erasing()


@shared_task(name="training.reconcile", soft_time_limit=60, time_limit=90)
def reconcile() -> None:
    """What is owed: what waits or lost its worker, rules whose time has come, withdrawn labels to erase."""
    from training.services.freezing import free_freezes
    from training.services.rules import start_due_runs
    from training.services.work import work_to_do

    for kind, pk in work_to_do():
        _send_once(run, kind, pk)
    for pk in RewardQuestion.objects.filter(state=RewardQuestion.State.WAITING).values_list("id", flat=True)[:20]:
        _send_once(answer, pk)
    for pk in free_freezes().values_list("id", flat=True)[:20]:
        _send_once(freeze_labels, pk)
    for started in start_due_runs():
        _send_once(run, "run", started.pk)
    _send_next_erasing()


def _send_next_erasing() -> None:
    from training.pipeline.erasing import next_to_erase

    pk = next_to_erase()
    if pk is not None:
        _send_once(erase, pk)


def _send_once(task: Task, *arguments: str | int) -> None:
    if cache.add(":".join(map(str, (task.name, *arguments))), 1, timeout=AGAIN):
        task.apply_async(arguments, expires=AGAIN)
