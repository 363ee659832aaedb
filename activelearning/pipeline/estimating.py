"""Labels to the estimate: score what the control arm says of the last one, then learn."""

import time
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
import structlog
from django.db import transaction
from scipy.special import expit

from activelearning.algorithms.estimation import DidNotConverge, NotIdentified, covariance, fit
from activelearning.algorithms.estimation import Estimate as Fit
from activelearning.algorithms.figures import Figure
from activelearning.algorithms.forecast import design_saving
from activelearning.algorithms.information import certificate, label_weight
from activelearning.algorithms.rationality import JointEstimate, RationalityPrior, fit_jointly
from activelearning.algorithms.types import Bools, Floats, Ints, Labels, Singles
from activelearning.arrays import (
    LabelRows,
    PoolRows,
    fit_labels,
    load_labels,
    load_pool,
    stated_rationality,
    teacher_axis,
)
from activelearning.models import ControlScore, Estimate, Projection, TeacherRationality
from activelearning.pipeline.embedding import current_projection
from activelearning.storage import Arrays, read_arrays, to_file
from annotation.models import Campaign, Label, Offer

RIDGE = 1.0
RIDGE_RANGE = 0.1, 10.0
PULL = 0.5
"""Spread of the position bias, in log odds, where rationality is given."""
MEASURE_ROWS = 20_000
"""A pool up to this size has its certificate and worst error computed with every estimate; a larger one"""
MEASURE_EVERY = 1.05
"""when the labels have grown so much."""
BEST_UTILITY = 2.399357
"""u*, where a label of given gap tells most: root of u tanh(u / 2) = 2."""

log = structlog.get_logger()


@dataclass(frozen=True)
class Known:
    """An estimate in memory: its row, and the arrays of its file."""

    row: Estimate
    arrays: Arrays
    categories: tuple[str, ...]
    start: JointEstimate | Fit | None

    @property
    def theta(self) -> Floats:
        return self.arrays["theta"]

    @property
    def information(self) -> Floats:
        return self.arrays["information"]

    def rationality_of(self, teachers: Ints, categories: int, *, stated: Floats | None) -> Floats:
        """(k, c) rationality of any teachers: as stated, or estimated, the prior's mean for who has no label."""
        if stated is not None:
            return stated
        found = np.full((len(teachers), categories), RationalityPrior().mean)
        places, known = self._places(teachers)
        found[known, : self.arrays["rationality"].shape[1]] = self.arrays["rationality"][places]
        return found

    def draw_rationality(self, teachers: Ints, categories: int, rng: np.random.Generator) -> Floats:
        """(k, c) a draw of each from its posterior (Thompson); 0 where a whole interval lies below 0.

        Who is not known to invert is never drawn at 0 or below: nobody is left without work by one draw.
        """
        prior = RationalityPrior()
        shared = rng.standard_normal((len(teachers), 1))
        own = rng.standard_normal((len(teachers), categories))
        drawn = prior.mean + prior.between * shared + prior.within * own
        drawn = np.maximum(drawn, LEAST_DRAW)
        places, known = self._places(teachers)
        if isinstance(self.start, JointEstimate) and len(places):
            width = self.start.rationality.shape[1]
            learned = np.maximum(self.start.draw_rationality(rng), LEAST_DRAW)
            drawn[known, :width] = np.where(self.start.is_inverted(), 0.0, learned)[places]
        return drawn

    def bias_of(self, teachers: Ints) -> Floats:
        places, known = self._places(teachers)
        found = np.zeros(len(teachers))
        found[known] = self.arrays["bias"][places]
        return found

    def _places(self, teachers: Ints) -> tuple[Ints, Bools]:
        """Where these teachers stand in the estimate, and which of them do."""
        axis = self.arrays["teachers"]
        order = np.argsort(axis)
        if not len(axis):
            return np.empty(0, dtype=np.int64), np.zeros(len(teachers), dtype=bool)
        spots = np.minimum(np.searchsorted(axis[order], teachers), len(axis) - 1)
        known = axis[order][spots] == teachers
        return order[spots][known], known


LEAST_DRAW = 0.05
_latest: dict[int, Known] = {}


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
    _latest[campaign.pk] = known
    return known


def _is_stale(last: Known, campaign: Campaign, labels: LabelRows) -> bool:
    is_joint = campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED
    if last.row.is_joint != is_joint:
        return True
    if campaign.ridge is not None and last.row.ridge != campaign.ridge:
        return True
    newest = int(labels.ids[-1]) if len(labels) else 0
    return last.row.label_version != campaign.label_version or last.row.last_label != newest


def latest(campaign: Campaign) -> Known | None:
    """The newest estimate, from memory where this process made or read it."""
    row = Estimate.objects.filter(campaign=campaign).order_by("-id").first()
    if row is None:
        return None
    kept = _latest.get(campaign.pk)
    if kept is None or kept.row.pk != row.pk:
        kept = _latest[campaign.pk] = open_estimate(row)
    return kept


def open_estimate(row: Estimate) -> Known:
    arrays = read_arrays(row.arrays)
    return Known(row, arrays, tuple(arrays["categories"].tolist()), _start(row, arrays))


def _start(row: Estimate, arrays: Arrays) -> JointEstimate | Fit | None:
    """The algorithm's own estimate, to begin the next fit from; None where an older version stored other fields."""
    kind: type[JointEstimate] | type[Fit] = JointEstimate if row.is_joint else Fit
    try:
        values: dict[str, Any] = {
            name.name: arrays[name.name] if arrays[name.name].ndim else arrays[name.name].item()
            for name in fields(kind)
        }
    except KeyError:
        return None
    return kind(**values)


# Predict, then learn --------------------------------------------------------------------------------------------------


def score_control(
    campaign: Campaign, projection: Projection, pool: PoolRows, labels: LabelRows, last: Known | None
) -> int:
    """Score the control labels that no estimate has learned from by the last one; returns how many.

    An edited label keeps the prediction that was made for the first answer: the estimate has seen that one since.
    """
    if last is None or last.row.projection_id != projection.pk:
        return 0
    scored = np.array(
        sorted(ControlScore.objects.filter(campaign=campaign).values_list("label_id", flat=True)), dtype=np.int64
    )
    is_fresh = (labels.arm == Offer.Arm.CONTROL) & (labels.row >= 0) & (labels.ids > last.row.last_label)
    fresh = np.flatnonzero(is_fresh & ~np.isin(labels.ids, scored))
    fresh = fresh[pool.has_features[labels.row[fresh]]]
    if not len(fresh):
        return 0
    probability = predict(last, campaign, pool, labels, fresh)
    earlier = _earlier_predictions(labels.ids[fresh])
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


# The fit --------------------------------------------------------------------------------------------------------------


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
    is_joint = campaign.rationality_mode == Campaign.RationalityMode.ESTIMATED
    start = last.start if last is not None and _continues(last, teachers, pool.categories) else None
    ridge = next_ridge(campaign, last)
    arrays = (
        _fit_jointly(data, teachers, pool.categories, ridge=ridge, start=start)
        if is_joint
        else _fit_known(campaign, data, teachers, pool.categories, ridge=ridge, start=start)
    )
    arrays |= {"teachers": teachers, "categories": np.array(pool.categories)}
    row = _describe(campaign, projection, arrays)
    row.is_joint, row.last_label = is_joint, int(labels.ids[-1]) if len(labels) else 0
    row.label_count, row.seconds = int(mask.sum()), time.perf_counter() - started
    row.arrays.save(f"{row.code}.npz", to_file(arrays), save=False)
    with transaction.atomic():
        row.save()
        _store_rationalities(row, data, arrays)
    return Known(row, arrays, pool.categories, _start(row, arrays))


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
        "covariance": covariance(plain, data, rationality=stated),
    }


def _describe(campaign: Campaign, projection: Projection, arrays: Arrays) -> Estimate:
    """The estimate's row, with the numbers that the pages show."""
    information, ridge = arrays["information"], float(arrays["ridge"])
    width = information.shape[0]
    return Estimate(
        campaign=campaign,
        projection=projection,
        label_version=campaign.label_version,
        ridge=ridge,
        log_det=float(np.linalg.slogdet(information + (1.0 - ridge) * np.eye(width))[1]),
        smallest_eigenvalue=float(np.linalg.eigvalsh(information)[0]),
        cost=campaign.spent,
    )


# Measured after the offers are made -----------------------------------------------------------------------------------


def measure(campaign: Campaign, pool: PoolRows, labels: LabelRows, known: Known) -> None:
    """Worst error, certificate and saving of an estimate, stored with its row. No teacher waits for them."""
    row = known.row
    if row.worst_error is not None:
        return
    measured = Estimate.objects.filter(campaign=campaign, worst_error__isnull=False).order_by("-id").first()
    is_large = len(pool) > MEASURE_ROWS
    if is_large and measured is not None and row.label_count < MEASURE_EVERY * measured.label_count:
        return
    row.worst_error, row.certificate = _measure_design(pool, known)
    Estimate.objects.filter(pk=row.pk).update(worst_error=row.worst_error, certificate=row.certificate)
    measure_saving(campaign, pool, labels, known)


def _measure_design(pool: PoolRows, known: Known) -> tuple[float | None, float | None]:
    """Largest standard error of a reward difference, and g / d, over the comparisons that may be asked."""
    open_rows = np.flatnonzero(pool.has_features & pool.is_askable & ~pool.is_held_out)
    if not len(open_rows):
        return None, None
    design, width = pool.design[open_rows], known.theta.size
    root = np.linalg.cholesky(known.arrays["covariance"]).astype(np.float32)
    worst = float(np.sqrt(np.square(design @ root).sum(axis=1).max()))
    if not known.row.label_count:
        return worst, None
    best = _best_weights(design, pool.category[open_rows], known)
    found = certificate(
        known.information - known.row.ridge * np.eye(width),
        labels=known.row.label_count,
        candidates=design,
        candidate_weight=best,
    )
    return worst, found / width if np.isfinite(found) else None


def _best_weights(design: Singles, category: Ints, known: Known) -> Floats:
    """(m,) the weight of the best teacher on record at each comparison, and of one of rationality 1 beside them."""
    rationality = np.vstack([known.arrays["rationality"], np.ones(known.arrays["rationality"].shape[1])])
    gap = np.abs(design @ known.theta.astype(np.float32)).astype(np.float64)
    best = np.zeros(len(gap))
    for number in np.unique(category).tolist():
        rows = np.flatnonzero(category == number)
        able = np.unique(np.maximum(rationality[:, number], 0.0))
        # Only the two neighbours of u* / m can win (METHODS, section 2).
        place = np.searchsorted(able, BEST_UTILITY / np.maximum(gap[rows], 1e-12))
        for near in (np.maximum(place - 1, 0), np.minimum(place, len(able) - 1)):
            best[rows] = np.maximum(best[rows], label_weight(gap[rows], able[near]))
    return best


def measure_saving(campaign: Campaign, pool: PoolRows, labels: LabelRows, known: Known) -> Figure | None:
    """What a designed label is worth in control labels, stored with the estimate; now and then, after the offers.

    Both arms are weighed by one and the same estimate. None while an arm is too small, or where little has changed.
    """
    learned, width = labels.learned(pool), known.theta.size
    parts = [np.flatnonzero(learned & (labels.arm == arm)) for arm in (Offer.Arm.DESIGNED, Offer.Arm.CONTROL)]
    if min(len(part) for part in parts) < 2 * width or not _saving_is_due(campaign, known.row):
        return None
    rows = []
    for part in parts:
        teachers, row = labels.teacher[part], labels.row[part]
        stated = None if known.row.is_joint else stated_rationality(campaign, teachers, pool.categories)
        rationality = known.rationality_of(teachers, len(pool.categories), stated=stated)
        rho = rationality[np.arange(len(part)), pool.category[row]]
        design = pool.design[row].astype(np.float64)
        rows.append(design * np.sqrt(label_weight(design @ known.theta, rho))[:, None])
    figure = design_saving(*rows, generator=np.random.default_rng(campaign.seed))
    Estimate.objects.filter(pk=known.row.pk).update(saving=figure.value, saving_low=figure.low, saving_high=figure.high)
    return figure


def _saving_is_due(campaign: Campaign, row: Estimate) -> bool:
    measured = Estimate.objects.filter(campaign=campaign, saving__isnull=False).order_by("-id").first()
    return measured is None or row.label_count >= MEASURE_EVERY * measured.label_count


def _store_rationalities(row: Estimate, data: Labels, arrays: Arrays) -> None:
    """Rows for the pages: every teacher and category with a label in the fit."""
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
