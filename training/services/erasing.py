"""Withdrawn labels in label sets: who may erase them from a file, and which policies learned from them."""

from datetime import timedelta

from django.db.models import Max, QuerySet
from django.utils import timezone

from annotation.services.claims import in_no_hands
from training.datasets.frozen import withdrawn_labels
from training.models import LabelSet, Policy

LONGEST = timedelta(minutes=31)
"""A worker is stopped after half an hour: what it took longer ago is free again, and so is what failed then."""


def free_label_sets() -> QuerySet[LabelSet]:
    """Label sets that are in no living worker's hands."""
    return LabelSet.objects.filter(in_no_hands("erasing_since", longest=LONGEST))


def is_anybody_erasing() -> bool:
    return LabelSet.objects.filter(erasing_since__gte=timezone.now() - LONGEST, erasing_error="").exists()


def claim_erasing(pk: int) -> LabelSet | None:
    """The label set, if it is this worker's now; None where another has it."""
    if not free_label_sets().filter(pk=pk).update(erasing_since=timezone.now(), erasing_error=""):
        return None
    return LabelSet.objects.select_related("campaign").get(pk=pk)


def end_erasing(label_set: LabelSet) -> None:
    LabelSet.objects.filter(pk=label_set.pk).update(erasing_since=None)


def fail_erasing(label_set: LabelSet, *, reason: str) -> None:
    """It is tried again when the claim has lapsed: what is broken now is broken in ten seconds."""
    LabelSet.objects.filter(pk=label_set.pk).update(erasing_error=reason)


def flag_policies(label_set: LabelSet) -> None:
    """Flag what was trained on the set before somebody withdrew from it; a run that began later was not given them.

    The caller has claimed the set after the withdrawal: a run that ends meanwhile sees the withdrawal, or is seen here.
    """
    gone = withdrawn_labels(label_set.campaign, label_set.last_label).aggregate(last=Max("changed_at"))["last"]
    if gone is not None:
        flag_with_heirs(Policy.objects.filter(run__label_set=label_set, run__started_at__lt=gone))


def flag_with_heirs(policies: QuerySet[Policy]) -> None:
    """Flag these, and whatever started from their weights: what they learned is in it too.

    Each is flagged before its heirs are looked for: one that is being stored holds its parent's row, and is found when
    it lets go, or sees the flag.
    """
    line = list(policies.values_list("pk", flat=True))
    while line:
        Policy.objects.filter(pk__in=line).update(is_flagged=True)
        line = list(Policy.objects.filter(run__parent__in=line).values_list("pk", flat=True))
