"""What an estimate is worth as a design: measured once the offers are made, so that no teacher waits for it."""

from itertools import combinations

import numpy as np
from django.db.models import QuerySet
from scipy.linalg import solve_triangular

from activelearning.algorithms.figures import Figure
from activelearning.algorithms.forecast import design_saving
from activelearning.algorithms.information import certificate, cholesky, label_weight, spans
from activelearning.algorithms.pessimism import ConfidenceSet, pessimistic_regret
from activelearning.algorithms.types import Floats, Ints, Singles
from activelearning.arrays import (
    LabelRows,
    PoolRows,
    stated_rationality,
)
from activelearning.learned import ranking_weight
from activelearning.models import Estimate
from activelearning.pipeline.known import Known
from annotation.models import Campaign, Offer

MEASURE_ROWS = 20_000
"""A pool up to this size has its certificate and worst error computed with every estimate; a larger one"""
MEASURE_EVERY = 1.05
"""when the labels have grown so much, or some were taken back."""
ANEW = 0.01
"""Nats of log det, between two fits of as many labels: what moved less, no figure on a page shows."""
BOUND_PROMPTS = 5_000
"""Prompts, evenly spaced, that the bound is a mean over."""
BEST_UTILITY = 2.399357
"""u*, where a label of given gap tells most: root of u tanh(u / 2) = 2."""


def measure(campaign: Campaign, pool: PoolRows, labels: LabelRows, known: Known) -> None:
    """Worst error, certificate, bound and saving of an estimate, stored with its row. No teacher waits for them."""
    row = known.row
    if row.worst_error is not None:
        return
    measured = Estimate.objects.filter(campaign=campaign, worst_error__isnull=False)
    if len(pool) > MEASURE_ROWS and not _is_due(row, measured):
        return
    row.worst_error, row.certificate = _measure_design(campaign, pool, labels, known)
    row.bound = measure_bound(pool, known)
    Estimate.objects.filter(pk=row.pk).update(worst_error=row.worst_error, certificate=row.certificate, bound=row.bound)
    measure_saving(campaign, pool, labels, known)


def worst_error(design: Singles, covariance: Floats) -> float:
    """Largest standard error of a reward difference over these comparisons."""
    root = np.linalg.cholesky(covariance).astype(np.float32)
    return float(np.sqrt(np.square(design @ root).sum(axis=1).max()))


def open_to_ask(pool: PoolRows) -> Ints:
    """Rows that a designed offer may ask of somebody, whoever was asked them before."""
    return np.flatnonzero(pool.has_features & pool.is_askable & ~pool.is_held_out)


def _measure_design(
    campaign: Campaign, pool: PoolRows, labels: LabelRows, known: Known
) -> tuple[float | None, float | None]:
    """Largest standard error of a reward difference, and g / d, over the comparisons that may be asked."""
    open_rows = open_to_ask(pool)
    if not len(open_rows):
        return None, None
    design, width = pool.design[open_rows], known.theta.size
    worst = worst_error(design, known.arrays["covariance"])
    earned = known.information - known.row.ridge * np.eye(width)
    if not known.row.label_count or not spans(earned):
        return worst, None
    if campaign.answer_mode == Campaign.AnswerMode.RANKING:
        return worst, known.row.label_count * _ranking_values(pool, open_rows, earned, known).max() / width
    gap = np.abs(design @ known.theta.astype(np.float32)).astype(np.float64)
    found = certificate(
        earned,
        labels=_pairs_learned(labels, pool),
        candidates=design,
        candidate_weight=_best_weights(gap, pool.category[open_rows], known),
    )
    return worst, found / width


def _pairs_learned(labels: LabelRows, pool: PoolRows) -> int:
    """The labels in the fit; a ranking of N, adopted from a file, as the N - 1 that its pairs of 2/N weigh together."""
    learned = labels.learned(pool)
    implied = np.isin(labels.implied.label, labels.ids[learned])
    return int((learned & ~labels.is_ranking).sum()) + round(float(labels.implied.weight[implied].sum()))


def _ranking_values(pool: PoolRows, open_rows: Ints, earned: Floats, known: Known) -> Floats:
    """(c,) tr(H^-1 M) of each conversation that may be ranked, M the information of one ranking of its responses.

    M is the sum of 2/N w z z' over all its pairs, the best teacher's w taken pair by pair.
    """
    rows = np.flatnonzero(pool.has_features)
    responses, conversation = _responses_of(pool, rows)
    order = np.argsort(conversation, kind="stable")
    _, start, count = np.unique(conversation[order], return_index=True, return_counts=True)
    asked, one = np.unique(pool.conversation[open_rows], return_index=True)
    category = pool.category[open_rows[one]]
    which = np.searchsorted(conversation[order][start], asked)
    start, count, values = start[which], count[which], np.zeros(len(asked))
    root = solve_triangular(cholesky(earned), np.eye(len(earned)), lower=True).T  # |z'root|^2 = z'H^-1 z
    root = root.astype(np.float32)
    for size in np.unique(count).tolist():
        same = np.flatnonzero(count == size)
        phi = pool.phi[responses[order[start[same][:, None] + np.arange(size)]]]  # (s, N, d)
        reward, white = phi @ known.theta.astype(np.float32), phi @ root
        for first, second in combinations(range(size), 2):
            gap = np.abs(reward[:, first] - reward[:, second]).astype(np.float64)
            told = np.square(white[:, first] - white[:, second]).sum(axis=1)
            values[same] += ranking_weight(size) * _best_weights(gap, category[same], known) * told
    return values


def measure_bound(pool: PoolRows, known: Known) -> float | None:
    """What the pessimistic choice among the given responses may lose (M13), over at most `BOUND_PROMPTS` prompts."""
    rows = np.flatnonzero(pool.has_features)
    prompts = np.unique(pool.conversation[rows])
    if not len(prompts):
        return None
    if len(prompts) > BOUND_PROMPTS:
        prompts = prompts[np.linspace(0, len(prompts) - 1, BOUND_PROMPTS).astype(int)]
        rows = rows[np.isin(pool.conversation[rows], prompts)]
    responses, conversation = _responses_of(pool, rows)
    information = known.arrays.get("marginal_information", known.information)  # (M10) where rationality is estimated
    confidence = ConfidenceSet.at_level(known.theta, information, ridge=known.row.ridge)
    return pessimistic_regret(confidence, pool.phi[responses], conversation)


def _responses_of(pool: PoolRows, rows: Ints) -> tuple[Ints, Ints]:
    """The responses that these rows compare, each once, and the conversation of each. 2 (r,)"""
    responses, place = np.unique(np.r_[pool.a[rows], pool.b[rows]], return_index=True)
    return responses, np.tile(pool.conversation[rows], 2)[place]


def _best_weights(gap: Floats, category: Ints, known: Known) -> Floats:
    """(m,) the weight of the best teacher on record across each gap, and of one of rationality 1 beside them."""
    rationality = np.vstack([known.arrays["rationality"], np.ones(known.arrays["rationality"].shape[1])])
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
    measured = Estimate.objects.filter(campaign=campaign, saving__isnull=False)
    if min(len(part) for part in parts) < 2 * width or not _is_due(known.row, measured):
        return None
    rows = []
    for part in parts:
        teachers, row = labels.teacher[part], labels.row[part]
        stated = None if known.row.is_joint else stated_rationality(campaign, teachers, pool.categories)
        rationality = known.rationality_of(teachers, len(pool.categories), stated=stated)
        rho = rationality[np.arange(len(part)), pool.category[row]]
        design = pool.design[row].astype(np.float64)
        rows.append(design * np.sqrt(label_weight(design @ known.theta, rho))[:, None])
    figure = design_saving(*rows)
    Estimate.objects.filter(pk=known.row.pk).update(saving=figure.value, saving_low=figure.low, saving_high=figure.high)
    return figure


def _is_due(row: Estimate, measured: QuerySet[Estimate]) -> bool:
    """Whether to measure this estimate: the labels have grown enough since the last that was, or its figures are void.

    They are where the features or the model of the teachers are others, where labels were taken back since, and where
    as many labels tell something else: another answer is among them, or the settings are others. A repeat, which no fit
    holds, leaves the count as it was, and nothing to measure.
    """
    last = measured.order_by("-id").first()
    if last is None or (last.projection_id, last.is_joint) != (row.projection_id, row.is_joint):
        return True
    before = Estimate.objects.filter(campaign=row.campaign_id, id__lt=row.pk).latest()  # `last`, or one after it
    fewest = max(last.label_count + 1, before.label_count)
    has_grown = row.label_count >= MEASURE_EVERY * last.label_count
    is_other = row.label_count == before.label_count and _tells_else(row, before)
    return row.label_count < fewest or has_grown or is_other


def _tells_else(row: Estimate, before: Estimate) -> bool:
    ridges = row.ridge, before.ridge
    return abs(row.log_det - before.log_det) > ANEW or max(ridges) >= MEASURE_EVERY * min(ridges)
