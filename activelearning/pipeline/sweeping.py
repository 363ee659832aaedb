"""Files that nobody will read again: the inputs of old plans, and the arrays of old estimates. Their rows stay."""

from django.db import transaction
from django.db.models import Count, QuerySet

from activelearning.models import Estimate, Plan
from activelearning.services import PLANS_KEPT
from annotation.leftovers import forget

ESTIMATES_KEPT = 50
"""Of the newest: a plan, a run or a page reads the last one, and may have asked for it a moment ago."""
GROWTH = 1.05
"""Of older ones, one each time that the labels have grown so much: a rehearsal draws its curve from them."""
AT_ONCE = 500
"""Files of one campaign in one sweep; the beat comes again."""


def sweep() -> None:
    """Forget what is beyond the numbers kept, in every campaign."""
    for campaign in _with_more(Plan.objects.exclude(inputs=""), than=PLANS_KEPT):
        plans = Plan.objects.filter(campaign=campaign).exclude(inputs="").order_by("-id")
        _forget(Plan, "inputs", list(plans.values_list("pk", flat=True)[PLANS_KEPT : PLANS_KEPT + AT_ONCE]))
    for campaign in _with_more(Estimate.objects.exclude(arrays=""), than=ESTIMATES_KEPT):
        estimates = Estimate.objects.filter(campaign=campaign).exclude(arrays="").order_by("-id")
        older = list(estimates.values_list("pk", "label_count")[ESTIMATES_KEPT:])
        _forget(Estimate, "arrays", _passed_over(older[::-1])[:AT_ONCE])


def _with_more(rows: QuerySet[Plan] | QuerySet[Estimate], *, than: int) -> list[int]:
    """Campaigns with more of these rows than so many."""
    counted = rows.order_by().values("campaign").annotate(count=Count("id"))
    return list(counted.filter(count__gt=than).values_list("campaign", flat=True))


def _passed_over(older: list[tuple[int, int]]) -> list[int]:
    """Of (id, labels) by ascending id, the ids between two steps of growth. What a sweep keeps the next one keeps."""
    found, reached = list[int](), -1
    for pk, labels in older:
        if labels > reached and labels >= GROWTH * reached:
            reached = labels
        else:
            found.append(pk)
    return found


def _forget(model: type[Plan] | type[Estimate], field: str, ids: list[int]) -> None:
    """The rows first: whoever sees one that still names its file may read it until the commit."""
    with transaction.atomic():
        rows = list(model._default_manager.filter(pk__in=ids).exclude(**{field: ""}))
        model._default_manager.filter(pk__in=ids).update(**{field: ""})
        for row in rows:
            forget(getattr(row, field).name)
