"""Predict, then learn: control labels are scored by the estimate that preceded them."""

import numpy as np
from scipy.special import expit

from activelearning.algorithms.types import Floats, Ints
from activelearning.arrays import (
    LabelRows,
    PoolRows,
    load_pool,
    stated_rationality,
)
from activelearning.models import ControlScore, Projection
from activelearning.pipeline.known import Known
from annotation.models import Campaign, Label, Offer


def score_control(
    campaign: Campaign, projection: Projection, pool: PoolRows, labels: LabelRows, last: Known | None
) -> int:
    """Score the control labels that no estimate has learned from by the last one; returns how many.

    An edited label keeps the prediction that was made for the first answer, since the estimate has seen that one. Where
    there was none, the edit is not scored at all: what has been learned cannot be predicted any more.
    """
    if last is None:
        return 0
    scored = np.array(
        sorted(ControlScore.objects.filter(campaign=campaign).values_list("label_id", flat=True)), dtype=np.int64
    )
    is_fresh = (labels.arm == Offer.Arm.CONTROL) & (labels.row >= 0) & (labels.ids > last.row.last_label)
    fresh = np.flatnonzero(is_fresh & ~np.isin(labels.ids, scored))
    earlier = _earlier_predictions(labels.ids[fresh])
    lost = _seen(labels.ids[fresh], last) - earlier.keys()
    fresh = fresh[~np.isin(labels.ids[fresh], list(lost))]
    if not len(fresh):
        return 0
    if last.row.projection_id != projection.pk:
        pool = load_pool(campaign, last.row.projection)  # the same rows, or more, with the features that it knows
    fresh = fresh[pool.has_features[labels.row[fresh]]]
    probability = predict(last, campaign, pool, labels, fresh)
    scores = [
        ControlScore(
            campaign=campaign,
            label_id=pk,
            comparison_id=int(pool.ids[labels.row[place]]),
            estimate_id=earlier[pk][1] if pk in earlier else last.row.pk,
            label_count=earlier[pk][2] if pk in earlier else last.row.label_count,
            probability=earlier[pk][0] if pk in earlier else float(chance),
            outcome=float(labels.outcome[place]),
        )
        for place, pk, chance in zip(fresh.tolist(), labels.ids[fresh].tolist(), probability.tolist(), strict=True)
    ]
    ControlScore.objects.bulk_create(scores, ignore_conflicts=True)
    return len(scores)


def predict(known: Known, campaign: Campaign, pool: PoolRows, labels: LabelRows, places: Ints) -> Floats:
    """P(a preferred) of these labels for the teacher who gave each, in the order it was shown."""
    teachers, category = labels.teacher[places], pool.category[labels.row[places]]
    stated = stated_rationality(campaign, teachers, pool.categories) if not known.row.is_joint else None
    rationality = known.rationality_of(teachers, len(pool.categories), stated=stated)
    rho = rationality[np.arange(len(places)), category]
    utility = rho * (pool.design[labels.row[places]].astype(np.float64) @ known.theta)
    return np.asarray(expit(utility + labels.side[places] * known.bias_of(teachers)))


def _earlier_predictions(ids: Ints) -> dict[int, tuple[float, int | None, int]]:
    """By label: what was predicted for the first answer to its offer, where that was edited or taken back."""
    score = "offer__labels__control_score"
    found = (
        Label.objects.filter(pk__in=ids.tolist(), **{f"{score}__isnull": False})
        .order_by(f"-{score}__id")
        .values_list("pk", f"{score}__probability", f"{score}__estimate_id", f"{score}__label_count")
    )
    return {pk: (probability, estimate, count) for pk, probability, estimate, count in found}


def _seen(ids: Ints, last: Known) -> set[int]:
    """Which of these labels have a predecessor, at the same offer, that the last estimate may have learned from."""
    before = Label.objects.filter(pk__in=ids.tolist(), offer__labels__id__lte=last.row.last_label)
    return set(before.values_list("pk", flat=True))
