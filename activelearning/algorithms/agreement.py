"""Do the teachers agree, with one another and with themselves: Krippendorff's alpha, raw agreement, repeats."""

from dataclasses import dataclass
from typing import Literal

import krippendorff
import numpy as np

from activelearning.algorithms.figures import RESAMPLES, Figure, percentile_interval, proportion
from activelearning.algorithms.types import Floats, Ints

Scale = Literal["nominal", "ordinal"]

VALUES = np.array([0.0, 0.5, 1.0])
"""b preferred, a tie or both bad, a preferred: every outcome there is."""


@dataclass(frozen=True)
class Agreement:
    """Agreement between teachers on comparisons that two or more of them judged.

    alpha        Krippendorff's alpha: 1 is perfect, 0 is chance, below 0 is worse than chance
    raw          share of pairs of teachers, on the same comparison, who gave the same answer
    comparisons  judged by two or more teachers
    """

    alpha: Figure
    raw: Figure
    comparisons: int


def measure_agreement(
    counts: Ints,
    *,
    generator: np.random.Generator,
    level_of_measurement: Scale = "nominal",
    level: float = 0.95,
) -> Agreement:
    """Agreement over one set of labels; one label a teacher and comparison (repeats are judged apart).

    counts                (u, 3) int64   how many teachers gave each of `VALUES` to each comparison
    level_of_measurement  "nominal": answers agree or not. "ordinal": a tie lies between the two preferences
    intervals             by resampling comparisons, which are the independent units. Those with the same counts are
                          alike, so that a resample is how often each distinct row is drawn: its cost does not grow
                          with the comparisons
    """
    shared = counts[counts.sum(axis=1) >= 2]
    if len(shared) == 0:
        reason = "No comparison has answers of two teachers; raise the overlap limit or the share of control offers."
        return Agreement(Figure.undefined(reason), Figure.undefined(reason), 0)
    alike, number = np.unique(shared, axis=0, return_counts=True)  # (g, 3), (g,)
    drawn = generator.multinomial(len(shared), number / len(shared), size=RESAMPLES)  # (r, g)
    alphas = resampled_alphas(alike, drawn, level_of_measurement=level_of_measurement)
    return Agreement(
        alpha=_alpha_figure(shared, alphas, level_of_measurement, level),
        raw=_raw_figure(shared, resampled_agreements(alike, drawn), level),
        comparisons=len(shared),
    )


def measure_consistency(teacher: Ints, first: Floats, again: Floats, *, teachers: int) -> list[Figure]:
    """Share of planned repeats, shown in mirrored order, that got the same answer: one figure for each teacher.

    teacher       (r,) int64     who answered twice
    first, again  (r,) float64   both outcomes in the comparison's own order, so that a mirrored order needs no undoing
    """
    reason = "This teacher has not answered a planned repeat yet."
    same = (first == again).astype(np.float64)
    counts = np.bincount(teacher, minlength=teachers)
    sums = np.bincount(teacher, weights=same, minlength=teachers)
    return [proportion(float(s), int(c), reason=reason) for s, c in zip(sums, counts, strict=True)]


def krippendorff_alpha(counts: Ints, *, level_of_measurement: Scale = "nominal") -> float | None:
    """Alpha of answer counts by the krippendorff library; None where all answers are the same: nothing to explain."""
    if np.count_nonzero(counts.sum(axis=0)) < 2:
        return None
    return float(
        krippendorff.alpha(value_counts=counts, value_domain=VALUES, level_of_measurement=level_of_measurement)
    )


def raw_agreement(counts: Ints) -> float:
    """Agreeing pairs of answers over all pairs of answers to the same comparison."""
    totals = counts.sum(axis=1)
    return float(np.sum(counts * (counts - 1)) / np.sum(totals * (totals - 1)))


def resampled_alphas(alike: Ints, drawn: Ints, *, level_of_measurement: Scale = "nominal") -> Floats:
    """`krippendorff_alpha` of each resample, NaN where all its answers are the same.

        alpha = 1 - sum_cv o_cv delta_cv / sum_cv e_cv delta_cv,   e_cv = n_c n_v / (n - 1),   n_c = sum_v o_cv

    Coincidences o add up over comparisons, those of one being (n_c n_v - [c = v] n_c) / (answers - 1). The library
    takes no weights: it would go through every comparison of every resample.

    alike (g, 3) int64   counts of each answer;  drawn (r, g) int64   how often each row was drawn;  returns (r,)
    """
    pairs = alike[:, :, None] * (alike[:, None, :] - np.eye(len(VALUES)))
    coincidences = np.tensordot(drawn, pairs / (alike.sum(axis=1) - 1)[:, None, None], axes=1)  # (r, 3, 3)
    answers = coincidences.sum(axis=2)  # (r, 3)
    by_chance = answers[:, :, None] * answers[:, None, :] / (answers.sum(axis=1) - 1)[:, None, None]
    apart = 1.0 - np.eye(len(VALUES))
    if level_of_measurement == "ordinal":
        middle = np.cumsum(answers, axis=1) - answers / 2
        apart = np.square(middle[:, :, None] - middle[:, None, :])
    observed, expected = (np.sum(table * apart, axis=(1, 2)) for table in (coincidences, by_chance))
    return np.asarray(1.0 - np.divide(observed, expected, out=np.full(len(drawn), np.nan), where=expected > 0))


def resampled_agreements(alike: Ints, drawn: Ints) -> Floats:
    """`raw_agreement` of each resample. alike (g, 3), drawn (r, g), returns (r,)"""
    totals = alike.sum(axis=1)
    return np.asarray(drawn @ np.sum(alike * (alike - 1), axis=1) / (drawn @ (totals * (totals - 1))))


def _alpha_figure(shared: Ints, resamples: Floats, measurement: Scale, level: float) -> Figure:
    value = krippendorff_alpha(shared, level_of_measurement=measurement)
    if value is None:
        reason = "Every shared answer is the same, so alpha has no chance agreement to compare with; see raw agreement."
        return Figure.undefined(reason, count=len(shared))
    spread = percentile_interval(resamples, level=level)
    if spread is None or len(shared) < 5:
        return Figure(value, None, None, len(shared), "Fewer than 5 shared comparisons give no interval.")
    return Figure(value, *spread, len(shared))


def _raw_figure(shared: Ints, resamples: Floats, level: float) -> Figure:
    value = raw_agreement(shared)
    if len(shared) < 5:
        return Figure(value, None, None, len(shared), "Fewer than 5 shared comparisons give no interval.")
    if value in (0.0, 1.0):  # every resample would say the same
        share = proportion(value * len(shared), len(shared), level=level)
        return Figure(value, share.low, share.high, len(shared))
    low, high = percentile_interval(resamples, level=level) or (None, None)
    return Figure(value, low, high, len(shared))
