"""What a withdrawal takes from label sets, and from the runs and policies on them; one label set at a time."""

import structlog

from training.datasets.erasing import erase_withdrawn, is_left_behind
from training.datasets.frozen import campaigns_left
from training.models import Policy
from training.pipeline.forgetting import forget, runs_left_behind
from training.services.erasing import (
    claim_erasing,
    end_erasing,
    fail_erasing,
    flag_policies,
    flag_with_heirs,
    free_label_sets,
    is_anybody_erasing,
)

logger = structlog.get_logger()


def next_to_erase() -> int | None:
    """A label set that a withdrawal left behind, or a run on it; None while a worker is at another.

    One at a time: files of many labels take minutes each, and what is owed by the clock needs a process of that queue.
    """
    if is_anybody_erasing():
        return None
    campaigns = list(campaigns_left().filter(label_sets__isnull=False).distinct())
    label_sets = free_label_sets().filter(campaign__in=campaigns).select_related("campaign").defer("tombstones")
    return next((one.pk for one in label_sets if is_left_behind(one) or any(runs_left_behind(one))), None)


def erase_from(pk: int) -> None:
    """Erase what was withdrawn; asked twice, it does nothing the second time. Policies are flagged before the file."""
    label_set = claim_erasing(pk)
    if label_set is None:
        return
    try:
        flag_policies(label_set)
        for run in runs_left_behind(label_set):
            forget(run)
        if erase_withdrawn(label_set):
            flag_with_heirs(Policy.objects.filter(run__label_set=label_set))
    except Exception as error:
        logger.exception("erasing failed", label_set=pk)
        fail_erasing(label_set, reason=f"{type(error).__name__}: {error}"[:2000])
        return
    end_erasing(label_set)
