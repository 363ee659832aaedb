"""Labels to the estimate: score what the control arm says of the last one, then learn."""

import time
from dataclasses import fields

import numpy as np
import structlog
from django.db import transaction

from activelearning.algorithms.estimation import DidNotConverge, NotIdentified, covariance, fit
from activelearning.algorithms.estimation import Estimate as Fit
from activelearning.algorithms.rationality import JointEstimate, fit_jointly
from activelearning.algorithms.types import Ints, Labels
from activelearning.arrays import (
    LabelRows,
    PoolRows,
    fit_labels,
    load_labels,
    load_pool,
    stated_rationality,
    teacher_axis,
)
from activelearning.models import Estimate, Projection, TeacherRationality
from activelearning.pipeline.control import score_control
from activelearning.pipeline.embedding import current_projection
from activelearning.pipeline.known import Known, latest, remember, start_of
from activelearning.pipeline.measuring import measure
from activelearning.storage import Arrays, to_file
from annotation.models import Campaign

RIDGE = 1.0
RIDGE_RANGE = 0.1, 10.0
PULL = 0.5
"""Spread of the position bias, in log odds, where rationality is given."""

log = structlog.get_logger()


def refit(campaign_id: int) -> Estimate | None:
    """Score new control labels, then fit all labels; None while there are no features."""
    campaign = Campaign.objects.get(pk=campaign_id)
    projection = current_projection(campaign) or Projection.objects.filter(campaign=campaign).first()
    if projection is None:
        return None
    pool = load_pool(campaign, projection)
    labels = load_labels(campaign, pool)
    known = bring_up_to_date(campaign, projection, pool, labels)
    measure(campaign, pool, labels, known)
    return known.row


def bring_up_to_date(campaign: Campaign, projection: Projection, pool: PoolRows, labels: LabelRows) -> Known:
    """The estimate of these labels: the last one where nothing changed, else a new one.

    A fit that fails leaves the last estimate in place and says so in the log; the loop goes on with it.
    """
    last = latest(campaign)
    if last is not None and last.row.projection_id == projection.pk and not _is_stale(last, campaign, labels):
        return last
    score_control(campaign, projection, pool, labels, last)
    usable = last if last is not None and last.row.projection_id == projection.pk else None
    try:
        known = _fit(campaign, projection, pool, labels, usable)
    except (DidNotConverge, NotIdentified) as error:
        if usable is None:
            raise
        log.error("the estimate could not be renewed", campaign=campaign.pk, reason=str(error))
        return usable
    return remember(known)


def _is_stale(last: Known, campaign: Campaign, labels: LabelRows) -> bool:
    if last.row.is_joint != estimates_rationality(campaign):
        return True
    if campaign.ridge is not None and last.row.ridge != campaign.ridge:
        return True
    newest = int(labels.ids[-1]) if len(labels) else 0
    return last.row.label_version != campaign.label_version or last.row.last_label != newest


def next_ridge(campaign: Campaign, last: Known | None) -> float:
    """The campaign's ridge; where it leaves it open 1, then what the last estimate says of theta's size.

        ridge = d / (|theta_hat|^2 + tr H^-1)

    the maximum of the evidence at the last step: |theta_hat|^2 alone, which METHODS has, would shrink itself.
    """
    if campaign.ridge is not None:
        return campaign.ridge
    if last is None or last.row.label_count < 2 * last.theta.size:
        return RIDGE
    inverse = np.linalg.inv(last.information)
    size = float(last.theta @ last.theta + np.trace(inverse))
    return float(np.clip(last.theta.size / size, *RIDGE_RANGE))


def _fit(campaign: Campaign, projection: Projection, pool: PoolRows, labels: LabelRows, last: Known | None) -> Known:
    started = time.perf_counter()
    mask = labels.learned(pool)
    teachers = teacher_axis(labels, mask)
    data = fit_labels(labels, mask, pool, teachers=teachers)
    start = last.start if last is not None and _continues(last, teachers, pool.categories) else None
    ridge = next_ridge(campaign, last)
    arrays = fit_arrays(campaign, data, teachers, pool.categories, ridge=ridge, start=start)
    arrays |= {"teachers": teachers, "categories": np.array(pool.categories)}
    row = _describe(campaign, projection, arrays)
    row.is_joint, row.last_label = estimates_rationality(campaign), int(labels.ids[-1]) if len(labels) else 0
    row.label_count, row.seconds = int(mask.sum()), time.perf_counter() - started
    row.arrays.save(f"{row.code}.npz", to_file(arrays), save=False)
    with transaction.atomic():
        row.save()
        _store_rationalities(row, data, arrays)
    return Known(row, arrays, pool.categories, start_of(row, arrays))


def estimates_rationality(campaign: Campaign) -> bool:
    return campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED


def fit_arrays(
    campaign: Campaign,
    data: Labels,
    teachers: Ints,
    categories: tuple[str, ...],
    *,
    ridge: float,
    start: JointEstimate | Fit | None = None,
) -> Arrays:
    """The campaign's fit of these labels: rationality with the reward, or as the campaign states it."""
    if estimates_rationality(campaign):
        return _fit_jointly(data, teachers, categories, ridge=ridge, start=start)
    return _fit_known(campaign, data, teachers, categories, ridge=ridge, start=start)


def log_det_of(arrays: Arrays) -> float:
    """log det (I + sum w z z') of a fit, in nats: against 1, not the ridge, so that fits compare."""
    information = arrays["information"]
    return float(np.linalg.slogdet(information + (1.0 - float(arrays["ridge"])) * np.eye(len(information)))[1])


def _continues(last: Known, teachers: Ints, categories: tuple[str, ...]) -> bool:
    """Whether the last estimate's teachers come first among these, and the categories are the same."""
    before = last.arrays["teachers"]
    return last.categories == categories and np.array_equal(before, teachers[: len(before)])


def _fit_jointly(
    data: Labels, teachers: Ints, categories: tuple[str, ...], *, ridge: float, start: JointEstimate | Fit | None
) -> Arrays:
    joint = fit_jointly(
        data,
        teachers=len(teachers),
        categories=len(categories),
        ridge=ridge,
        start=start if isinstance(start, JointEstimate) else None,
    )
    return {name.name: np.asarray(getattr(joint, name.name)) for name in fields(joint)}


def _fit_known(
    campaign: Campaign,
    data: Labels,
    teachers: Ints,
    categories: tuple[str, ...],
    *,
    ridge: float,
    start: JointEstimate | Fit | None,
) -> Arrays:
    stated = stated_rationality(campaign, teachers, categories)
    is_warm = isinstance(start, Fit) and start.label_count <= len(data)
    plain = fit(
        data,
        rationality=stated,
        ridge=ridge,
        bias_prior=PULL,
        start=start if is_warm and isinstance(start, Fit) else None,
    )
    return {
        **{name.name: np.asarray(getattr(plain, name.name)) for name in fields(plain)},
        "rationality": stated,
        "rationality_error": np.zeros_like(stated),
        "covariance": covariance(plain, data, rationality=stated, bias_prior=PULL),
    }


def _describe(campaign: Campaign, projection: Projection, arrays: Arrays) -> Estimate:
    """The estimate's row, with the numbers that the pages show."""
    return Estimate(
        campaign=campaign,
        projection=projection,
        label_version=campaign.label_version,
        ridge=float(arrays["ridge"]),
        log_det=log_det_of(arrays),
        smallest_eigenvalue=float(np.linalg.eigvalsh(arrays["information"])[0]),
        cost=campaign.spent,
    )


def _store_rationalities(row: Estimate, data: Labels, arrays: Arrays) -> None:
    """Rows for the pages: every teacher and category with a label in the fit, and no others."""
    teachers, names = arrays["teachers"], arrays["categories"].tolist()
    counts = np.zeros((len(teachers), len(names)), dtype=np.int64)
    np.add.at(counts, (data.teacher, data.category), 1)
    rows = [
        TeacherRationality(
            campaign=row.campaign,
            teacher_id=int(teachers[k]),
            category=names[c],
            value=float(arrays["rationality"][k, c]),
            error=float(arrays["rationality_error"][k, c]),
            bias=float(arrays["bias"][k]),
            bias_error=float(arrays["bias_error"][k]),
            label_count=int(counts[k, c]),
            estimate=row,
        )
        for k, c in np.argwhere(counts > 0).tolist()
    ]
    TeacherRationality.objects.bulk_create(
        rows,
        update_conflicts=True,
        unique_fields=["campaign", "teacher", "category"],
        update_fields=["value", "error", "bias", "bias_error", "label_count", "estimate"],
        batch_size=500,
    )
    TeacherRationality.objects.filter(campaign=row.campaign).exclude(estimate=row).delete()  # undone, or withdrawn
