"""Fisher information of the reward's direction, and what one more label would add to it."""

import math

import numpy as np
from scipy.linalg import solve_triangular

from .types import Floats, Singles

BLOCK = 8192
"""Rows of a pool taken at a time, so that a memory map larger than memory is read in pieces."""


class NotPositiveDefinite(ValueError):
    """An information matrix that is not symmetric positive definite: raise the ridge, or mend the features."""


class NotFinite(ValueError):
    """A feature, an estimate or a price is NaN or infinite."""


def log_weight(gap: Floats | float, rationality: Floats | float) -> Floats:
    """Logarithm of the information weight of asking a teacher across a gap; arguments broadcast.

        log w = 2 log rho + log sigma'(rho m),   log sigma'(u) = -u - 2 log(1 + e^-u) for u >= 0     (M6)

    gap          (...) float64   m = |theta'z|
    rationality  (...) float64   rho; at or below 0 the result is -inf: such a teacher tells nothing
    returns      (...) float64   finite where sigma' itself would underflow
    """
    rho = np.maximum(rationality, 0.0)
    u = np.abs(rho * gap)
    with np.errstate(divide="ignore"):
        return np.asarray(2.0 * np.log(rho) - u - 2.0 * np.log1p(np.exp(-u)))


def label_weight(gap: Floats | float, rationality: Floats | float) -> Floats:
    """w = rho^2 sigma'(rho m), the information of one answer (M6); arguments broadcast, rho may be negative."""
    odds = np.exp(-np.abs(np.multiply(rationality, gap)))  # sigma'(u) = e^-u / (1 + e^-u)^2: one exponential
    return np.asarray(np.square(rationality) * odds / np.square(1.0 + odds))


def information_gain(weight: Floats | float, uncertainty: Floats | float) -> Floats:
    """log(1 + w q), the nats of log det that one answer adds (M8); arguments broadcast."""
    return np.asarray(np.log1p(np.multiply(weight, uncertainty)))


def log_value(log_weights: Floats, log_uncertainty: Floats | float, log_cost: Floats | float) -> Floats:
    """log(gain / cost), the criterion every exact choice maximises, without underflow; arguments broadcast.

    log log(1 + e^s) - log cost,   s = log w + log q,   and log log(1 + e^s) -> s below s = -30
    """
    s = log_weights + log_uncertainty
    with np.errstate(divide="ignore"):
        return np.asarray(np.where(s < -30.0, s, np.log(np.logaddexp(0.0, np.maximum(s, -30.0)))) - log_cost)


def fisher_information(
    design: Floats, *, theta: Floats, rationality: Floats, ridge: float, weight: Floats | None = None
) -> Floats:
    """Fisher information of theta under the Bradley-Terry model with teacher rationality.

        H = ridge I + sum_t c_t rho_t^2 p_t (1 - p_t) z_t z_t'                                    (M4)

    design       (n, d) float64   z_t
    theta        (d,)   float64
    rationality  (n,)   float64   rho_t of the teacher who answered, in the comparison's category
    ridge        >= 0; 0 gives the information of the labels alone, singular while n < d
    weight       (n,)   float64   c_t, observation weights (2/N for a ranking's implied comparisons); 1 when None
    returns      (d, d) float64   symmetric
    raises       ValueError       ridge < 0, shapes disagree; NotFinite
    """
    z = np.asarray(design, dtype=np.float64)
    if ridge < 0.0 or not math.isfinite(ridge):
        raise ValueError(f"the ridge must be a number at or above 0, not {ridge}")
    if z.ndim != 2 or theta.shape != z.shape[1:] or rationality.shape != z.shape[:1]:
        raise ValueError(f"shapes disagree: design {z.shape}, theta {theta.shape}, rationality {rationality.shape}")
    if not (np.isfinite(z).all() and np.isfinite(theta).all() and np.isfinite(rationality).all()):
        raise NotFinite("design, theta and rationality must be finite")
    w = label_weight(z @ theta, rationality)  # (n,)
    return planned_information(ridge * np.eye(z.shape[1]), design=z, weight=w if weight is None else w * weight)


def planned_information(earned: Floats, *, design: Floats, weight: Floats) -> Floats:
    """H_planned = H_earned + sum_i w_i z_i z_i' over the offers in flight: what choosing must look at.

    earned (d, d), design (f, d), weight (f,) -> (d, d) float64, symmetric
    """
    root = np.asarray(design, dtype=np.float64) * np.sqrt(weight)[:, None]
    total: Floats = earned + root.T @ root
    return (total + total.T) / 2.0


def gram_matrix(design: Floats, *, ridge: float) -> Floats:
    """V = ridge I + sum z z', the design matrix that APO looks at (2402.10500). (n, d) -> (d, d)"""
    return planned_information(
        ridge * np.eye(design.shape[1]), design=design, weight=np.ones(design.shape[0], dtype=np.float64)
    )


def cholesky(information: Floats) -> Floats:
    """Lower factor L of H = L L', in float64; raises NotPositiveDefinite, NotFinite."""
    if information.ndim != 2 or information.shape[0] != information.shape[1]:
        raise ValueError(f"the information must be square, not {information.shape}")
    if not np.isfinite(information).all():
        raise NotFinite("the information matrix holds NaN or infinity")
    if not np.allclose(information, information.T, rtol=1e-8, atol=1e-8 * float(np.abs(information).max(initial=0.0))):
        raise NotPositiveDefinite("the information matrix is not symmetric")
    try:
        factor = np.linalg.cholesky(information)
    except np.linalg.LinAlgError as error:
        raise NotPositiveDefinite("the information matrix is not positive definite: raise the ridge") from error
    return np.asarray(factor, dtype=np.float64)


def log_det(information: Floats) -> float:
    """log det H, in nats; raises NotPositiveDefinite."""
    return float(2.0 * np.log(np.diagonal(cholesky(information))).sum())


def uncertainties(design: Singles | Floats, information: Floats) -> Floats:
    """q_i = z_i' H^{-1} z_i of every row (M7), in float64, a block of rows at a time. (m, d), (d, d) -> (m,)"""
    factor = cholesky(information)
    q = np.empty(design.shape[0], dtype=np.float64)
    for start in range(0, design.shape[0], BLOCK):
        rows = np.asarray(design[start : start + BLOCK], dtype=np.float64)  # (<=BLOCK, d)
        q[start : start + BLOCK] = np.square(solve_triangular(factor, rows.T, lower=True)).sum(axis=0)
    return q


def gaps(design: Singles | Floats, theta: Floats) -> Floats:
    """m_i = |theta'z_i| of every row, in float64; raises NotFinite where a feature is. (m, d), (d,) -> (m,)"""
    gap = np.empty(design.shape[0], dtype=np.float64)
    for start in range(0, design.shape[0], BLOCK):
        gap[start : start + BLOCK] = np.abs(np.asarray(design[start : start + BLOCK], dtype=np.float64) @ theta)
    if not np.isfinite(gap).all():
        raise NotFinite(f"comparison {int(np.flatnonzero(~np.isfinite(gap))[0])} has NaN or infinite features")
    return gap


def certificate(information: Floats, *, labels: int, candidates: Singles | Floats, candidate_weight: Floats) -> float:
    """Kiefer-Wolfowitz certificate of the design so far; it falls to d exactly at the D-optimum (derived).

        g = max_i w_i z_i' (H / T)^{-1} z_i,   w_i = max_k w_ik,   H of the T labels without ridge

    information       (d, d) float64   earned, ridge 0
    labels            T
    candidates        (m, d)
    candidate_weight  (m,)   float64   best weight over the teachers who could be asked
    returns           float            in [d, inf); inf while the labels do not span the features
    raises            ValueError       no label or no candidate, or shapes disagree
    """
    if labels <= 0 or candidates.shape[0] == 0 or candidate_weight.shape != (candidates.shape[0],):
        raise ValueError("a certificate needs labels, candidates and one weight per candidate")
    if not spans(information):
        return math.inf
    return float(labels * np.max(candidate_weight * uncertainties(candidates, information)))


def spans(information: Floats) -> bool:
    """Whether the labels' information, without ridge, says something of every direction."""
    spectrum = np.linalg.eigvalsh(information)
    return bool(spectrum[0] > spectrum[-1] * information.shape[0] * np.finfo(np.float64).eps)


def direction(information: Floats, row: Floats) -> tuple[Floats, float]:
    """v = H^{-1} z and q = z'v of one row. (d, d), (d,) -> (d,), float"""
    v = np.asarray(np.linalg.solve(information, row), dtype=np.float64)
    return v, float(row @ v)
