"""Work by message: one id in, nothing out; a lost message is asked again by the beat, a doubled one does nothing."""

from celery import shared_task


@shared_task(name="training.run", acks_late=False)
def run(kind: str, pk: int) -> None:
    """See one run or generation through, for hours if need be.

    Acknowledged early: a message unacknowledged for hours would come again and again, and the heartbeat in the row
    already tells a dead worker.
    """
    from training.pipeline.supervision import supervise

    supervise(kind, pk)
