"""What the beat looks after: start rules, and labels that were withdrawn after they were frozen."""

import shutil
from pathlib import Path

import structlog
from django.conf import settings

from training.datasets.frozen import BrokenLabelSet, campaigns_left, erase_withdrawn, is_left_behind
from training.models import LabelSet, Policy, Run, Work
from training.services.rules import start_due_runs

logger = structlog.get_logger()


def settle() -> None:
    """Start the runs that rules ask for, and erase withdrawn labels from what was frozen."""
    start_due_runs()
    erase_everywhere()


def erase_everywhere() -> int:
    """Bring every label set in step with withdrawals, and flag the policies that learned from what was erased."""
    erased = 0
    for campaign in campaigns_left().filter(label_sets__isnull=False).distinct():
        for label_set in LabelSet.objects.filter(campaign=campaign):
            if not is_left_behind(label_set):
                continue
            try:
                count = erase_withdrawn(label_set)
            except BrokenLabelSet as error:
                logger.error("label set is broken", label_set=label_set.pk, reason=str(error))
                continue
            if count:
                forget_runs(label_set)
                Policy.objects.filter(run__label_set=label_set).update(is_flagged=True)
            erased += count
    return erased


def forget_runs(label_set: LabelSet) -> None:
    """Stopped runs on these labels lose what they had prepared: resumed, they begin anew on the labels that remain."""
    for run in Run.objects.filter(label_set=label_set, state__in=(Work.State.FAILED, Work.State.CANCELLED)):
        shutil.rmtree(Path(settings.MEDIA_ROOT) / run.folder, ignore_errors=True)
