"""Pessimism: the confidence set around the reward estimate, its bounds on a response, and the certificate.

Everything speaks of offsets phi(x,a) - v(x), never of phi alone: a direction that all responses of a prompt share
cannot be learned from comparisons and must not be charged.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import solve_triangular
from scipy.special import chdtri

from activelearning.algorithms.information import cholesky
from activelearning.algorithms.types import Floats, Ints

Matrix = NDArray[np.floating[Any]]
DELTA = 0.1
"""The confidence set misses theta with this chance, where nobody says otherwise."""


def confidence_radius(dimensions: int, *, delta: float, ridge: float, theta_norm: float) -> float:
    """Radius of the confidence set at level 1 - delta.

        radius = sqrt(chi2_{d, 1-delta}) + sqrt(ridge) ||theta||                              (after M11)

    The first term is asymptotic in the labels, the second is the ridge's bias. Adaptive selection is not covered.
    raises  ValueError  dimensions < 1, delta outside (0, 1), ridge or norm negative or not finite
    """
    if dimensions < 1 or not 0 < delta < 1:
        raise ValueError("a radius needs a dimension and a delta strictly between 0 and 1")
    if not (ridge >= 0 and theta_norm >= 0 and math.isfinite(ridge) and math.isfinite(theta_norm)):
        raise ValueError("ridge and the norm of theta are finite and at least 0")
    return float(math.sqrt(float(chdtri(dimensions, delta))) + math.sqrt(ridge) * theta_norm)


@dataclass(frozen=True)
class ConfidenceSet:
    """C(radius) = { theta : (theta - theta_hat)' H (theta - theta_hat) <= radius^2 }        (M11)

    theta        (d,)   float64  theta_hat, the reward MLE
    information  (d, d) float64  H of the labels alone (never with offers in flight), symmetric positive definite
    radius       float           >= 0; 0 holds theta_hat alone
    raises       ValueError      shapes disagree, not finite, H not positive definite, radius < 0
    """

    theta: Floats
    information: Floats
    radius: float

    @classmethod
    def at_level(cls, theta: Floats, information: Floats, *, ridge: float, delta: float = DELTA) -> "ConfidenceSet":
        """The set at level 1 - delta, its radius from `confidence_radius`."""
        norm = float(np.linalg.norm(theta))
        return cls(theta, information, confidence_radius(len(theta), delta=delta, ridge=ridge, theta_norm=norm))

    def __post_init__(self) -> None:
        d = self.theta.shape[0]
        if self.theta.shape != (d,) or self.information.shape != (d, d):
            raise ValueError(f"theta {self.theta.shape} and information {self.information.shape} disagree")
        if not np.isfinite(self.theta).all():
            raise ValueError("theta must be finite")
        if not 0 <= self.radius < math.inf:
            raise ValueError("the radius is finite and at least 0")
        _ = self.factor

    @cached_property
    def factor(self) -> Floats:
        """(d, d) L, lower triangular, with H = L L'."""
        return cholesky(self.information)

    def means(self, offsets: Matrix) -> Floats:
        """theta_hat'(phi - v).  offsets (m, d) -> (m,) float64"""
        return np.asarray(np.asarray(offsets, dtype=np.float64) @ self.theta)

    def widths(self, offsets: Matrix) -> Floats:
        """||phi - v||_{H^{-1}}, to be multiplied by the radius.  offsets (m, d) -> (m,) float64"""
        solved = solve_triangular(self.factor, np.asarray(offsets, dtype=np.float64).T, lower=True)
        return np.asarray(np.sqrt(np.square(solved).sum(axis=0)))

    def penalties(self, offsets: Matrix) -> Floats:
        """Gamma = radius ||phi - v||_{H^{-1}} of (M14).  offsets (m, d) -> (m,) float64, >= 0"""
        return self.radius * self.widths(offsets)

    def lower(self, offsets: Matrix) -> Floats:
        """lcb of (M12): the least reward that any theta in the set gives.  offsets (m, d) -> (m,)"""
        return np.asarray(self.means(offsets) - self.penalties(offsets))

    def upper(self, offsets: Matrix) -> Floats:
        """ucb of (M12): the greatest reward that any theta in the set gives.  offsets (m, d) -> (m,)"""
        return np.asarray(self.means(offsets) + self.penalties(offsets))


def reference_feature(features: Matrix) -> Floats:
    """v of one prompt: the mean feature of responses that stand for the reference policy.

    With exactly two responses v is their midpoint, both lie equally far from it, and pessimism cannot tell them apart:
    widths then differ only if v comes from samples of the reference policy.
    features  (k, d), k >= 1  ->  (d,) float64
    """
    if features.shape[0] == 0:
        raise ValueError("a reference feature needs at least one response")
    return np.asarray(np.asarray(features, dtype=np.float64).mean(axis=0))


def choose(confidence: ConfidenceSet, features: Matrix, reference: Floats) -> int:
    """The pointwise pessimistic policy argmax_a lcb(x,a) on one prompt; the first wins a tie.  features (k, d)"""
    return int(np.argmax(confidence.lower(np.asarray(features, dtype=np.float64) - reference)))


@dataclass(frozen=True)
class Certificate:
    """What (M13) promises of a policy, on the event that theta* lies in the confidence set.

    regret     float   E_x[ max_a ucb(x,a) - lcb(x, pi_hat(x)) ] over the prompts given
    error      float   standard error of that mean over prompts, 0 for a single prompt
    rate       float   2 radius E_x ||phi(x,a_hat) - v||_{H^{-1}}, a_hat the best response by the mean: the second line
                       of (M13) with theta_hat in the place of the unknown theta*
    radius     float
    prompts    int
    responses  float   mean number of responses over which the maximum runs: it bounds regret against these alone
    sampled    bool    True if the responses are samples of a policy and not a closed list
    """

    regret: float
    error: float
    rate: float
    radius: float
    prompts: int
    responses: float
    sampled: bool


def certify(
    confidence: ConfidenceSet,
    prompts: Iterable[tuple[Matrix, Floats]],
    *,
    chosen: Sequence[Sequence[int]],
    sampled: bool = False,
) -> Certificate:
    """The certificate (M13) of a policy that answers prompt i with a uniform draw from the responses chosen[i].

    prompts  of (k_i, d) features and the (d,) reference feature, one pair per prompt
    chosen   the policy's answers to every prompt: one of a policy that chooses, its samples of one that generates.
             Any policy may be certified; the pessimistic one has the least value
    raises   ValueError   no prompts, or a choice too many or too few
    """
    gaps: list[float] = []
    rates: list[float] = []
    counts: list[int] = []
    for (features, reference), answers in zip(prompts, chosen, strict=True):
        offsets = np.asarray(features, dtype=np.float64) - reference
        means, penalties = confidence.means(offsets), confidence.penalties(offsets)
        gaps.append(float((means + penalties).max() - (means - penalties)[list(answers)].mean()))
        rates.append(float(2 * penalties[int(means.argmax())]))
        counts.append(offsets.shape[0])
    if not gaps:
        raise ValueError("a certificate needs at least one prompt")
    error = float(np.std(gaps, ddof=1) / math.sqrt(len(gaps))) if len(gaps) > 1 else 0.0
    return Certificate(
        regret=float(np.mean(gaps)),
        error=error,
        rate=float(np.mean(rates)),
        radius=confidence.radius,
        prompts=len(gaps),
        responses=float(np.mean(counts)),
        sampled=sampled,
    )


def pessimistic_regret(confidence: ConfidenceSet, features: Matrix, prompt: Ints) -> float | None:
    """(M13) of the pointwise pessimistic policy over given responses, v their mean; None without two for any prompt.

        E_x[ max_a ucb(x,a) - max_a lcb(x,a) ]

    what `certify` says of `choose`, for all prompts at once and without the error.

    features  (r, d)       of the responses
    prompt    (r,) int64   which prompt each answers; prompts with one response are left out
    """
    order = np.argsort(prompt, kind="stable")
    _, starts, counts = np.unique(prompt[order], return_index=True, return_counts=True)
    if not (counts >= 2).any():
        return None
    rows = np.asarray(features, dtype=np.float64)[order]
    offsets = rows - np.repeat(np.add.reduceat(rows, starts) / counts[:, None], counts, axis=0)  # (r, d)
    means, penalties = confidence.means(offsets), confidence.penalties(offsets)
    gaps = np.maximum.reduceat(means + penalties, starts) - np.maximum.reduceat(means - penalties, starts)
    return float(gaps[counts >= 2].mean())
