"""A request for frozen labels, done: the label set in its row, or the reason why there is none."""

import structlog

from training.datasets.frozen import freeze
from training.models import FreezeRequest
from training.services.freezing import claim_freeze

log = structlog.get_logger()


def freeze_requested(pk: int) -> None:
    """Freeze what was asked for; asked twice, it does nothing the second time."""
    request = claim_freeze(pk)
    if request is None:
        return
    waiting = FreezeRequest.objects.filter(pk=pk, state=FreezeRequest.State.WAITING)
    try:
        label_set = freeze(request.campaign, user=request.asked_by)
    except Exception as error:
        log.exception("freezing failed", campaign=request.campaign_id)
        waiting.update(state=FreezeRequest.State.FAILED, reason=f"{type(error).__name__}: {error}"[:2000])
        return
    waiting.update(state=FreezeRequest.State.DONE, label_set=label_set)
