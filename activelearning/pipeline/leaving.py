"""The estimate with and without one teacher's labels: what a withdrawal would cost, before it is done."""

from typing import Any

import numpy as np
import structlog

from activelearning.algorithms.estimation import DidNotConverge, NotIdentified
from activelearning.algorithms.types import Bools, Floats, Ints
from activelearning.arrays import LabelRows, PoolRows, fit_labels, load_labels, load_pool, teacher_axis
from activelearning.models import Projection, WithdrawalEffect
from activelearning.pipeline.embedding import current_projection
from activelearning.pipeline.estimating import fit_arrays, log_det_of, next_ridge
from activelearning.pipeline.known import latest
from activelearning.pipeline.measuring import open_to_ask, worst_error
from activelearning.services import claim_effect, settle_effect
from activelearning.storage import Arrays
from annotation.models import Campaign

log = structlog.get_logger()


def weigh_withdrawal(effect_id: int) -> None:
    """Fill in what was asked for; asked twice, it does nothing the second time.

    It may take longer than the broker waits for a message's receipt, and the beat asks again: the row's claim keeps
    other workers out. One that was killed is followed by another when its time is over.
    """
    effect = claim_effect(effect_id)
    if effect is None:
        return
    try:
        found = compare_fits(effect.campaign, leaver=effect.teacher_id)
    except (DidNotConverge, NotIdentified, NoFeatures) as error:
        log.warning("the effect of a withdrawal could not be worked out", effect=effect_id, reason=str(error))
        found = {"state": WithdrawalEffect.State.FAILED, "reason": str(error)}
    except Exception as error:
        log.exception("working out the effect of a withdrawal failed", effect=effect_id)
        found = {"state": WithdrawalEffect.State.FAILED, "reason": f"{type(error).__name__}: {error}"[:2000]}
    settle_effect(effect, **found)


class NoFeatures(Exception):
    """There is nothing to fit on."""


def compare_fits(campaign: Campaign, *, leaver: int) -> dict[str, Any]:
    """Both fits from scratch with one ridge, so that nothing but the labels tells them apart."""
    projection = current_projection(campaign) or Projection.objects.filter(campaign=campaign).first()
    if projection is None:
        raise NoFeatures("The campaign's texts have no features yet.")
    pool = load_pool(campaign, projection)
    labels = load_labels(campaign, pool)
    mask, goes = labels.learned(pool), labels.teacher == leaver
    ridge = next_ridge(campaign, latest(campaign))
    before = _fit(campaign, pool, labels, mask, ridge=ridge)
    after = _fit(campaign, pool, labels, mask & ~goes, ridge=ridge)
    judged = held_out(labels, pool) & ~goes
    asked = open_to_ask(pool)
    return {
        "state": WithdrawalEffect.State.DONE,
        "labels_lost": int((mask & goes).sum()),
        "labels_left": int((mask & ~goes).sum()),
        "log_det_before": log_det_of(before),
        "log_det_after": log_det_of(after),
        "worst_error_before": worst_error(pool.design[asked], before["covariance"]) if len(asked) else None,
        "worst_error_after": worst_error(pool.design[asked], after["covariance"]) if len(asked) else None,
        "held_out_count": int(judged.sum()),
        "accuracy_before": accuracy(before["theta"], pool, labels, judged),
        "accuracy_after": accuracy(after["theta"], pool, labels, judged),
        "angle": angle(before["theta"], after["theta"]),
    }


def _fit(campaign: Campaign, pool: PoolRows, labels: LabelRows, mask: Bools, *, ridge: float) -> Arrays:
    teachers: Ints = teacher_axis(labels, mask)
    data = fit_labels(labels, mask, pool, teachers=teachers)
    return fit_arrays(campaign, data, teachers, pool.categories, ridge=ridge)


def held_out(labels: LabelRows, pool: PoolRows) -> Bools:
    """(n,) answers that no fit learns from, and that prefer one response."""
    known = labels.row >= 0
    found = known & (labels.outcome != 0.5)
    found[known] &= pool.has_features[labels.row[known]] & pool.is_held_out[labels.row[known]]
    return np.asarray(found)


def accuracy(theta: Floats, pool: PoolRows, labels: LabelRows, judged: Bools) -> float | None:
    """Share of these answers whose response the reward prefers too."""
    if not judged.any():
        return None
    prefers_a = pool.design[labels.row[judged]].astype(np.float64) @ theta > 0
    return float(np.mean(prefers_a == (labels.outcome[judged] > 0.5)))


def angle(one: Floats, other: Floats) -> float | None:
    """In degrees."""
    size = float(np.linalg.norm(one) * np.linalg.norm(other))
    return float(np.degrees(np.arccos(np.clip(one @ other / size, -1.0, 1.0)))) if size > 0 else None
