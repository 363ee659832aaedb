"""First scores of many rows: gaps in float64, and q in float32 rounded up to a bound that is certain to hold."""

import math

import numpy as np
from scipy.linalg import eigvalsh

from .information import NotFinite
from .kernels import Rows, add_squares, measure_rows, one_blas_thread, spread
from .running_information import RunningInformation
from .types import Floats, Ints, Singles

BLOCK = 1024
"""Rows scored at a time by one thread."""
STRIPS = 8
"""The triangular product is taken in so many strips, which skips nearly half of it."""


def measure(rows: Rows, theta: Floats, *, first: int = 0) -> None:
    """Gaps of rows first ..: one pass; raises NotFinite where a feature is."""
    gap = rows.gap[first:]
    spread(measure_rows, len(gap), rows.design[first:], theta, gap)
    if not np.isfinite(gap).all():
        raise NotFinite(f"comparison {first + int(np.flatnonzero(~np.isfinite(gap))[0])} has NaN or infinite features")


def bound(rows: Rows, information: Floats, *, first: int = 0) -> None:
    """q of rows first .. from above, by one pass: with S = diag(H)^{1/2} and H = S C S,

        q = z' S^{-1} C^{-1} S^{-1} z <= ||S^{-1} z||^2 / lambda_min(C)                           (derived)

    Rows whose weight w is small never need more. Marked as of before every update.
    """
    root = np.sqrt(np.diagonal(information))
    with one_blas_thread():
        least = float(eigvalsh(information / np.outer(root, root), subset_by_index=[0, 0])[0])
    least = max(least - 1e-12 * len(root), 1e-3 * np.finfo(np.float64).eps)  # the rounding of eigvalsh itself
    q = rows.q[first:]
    q[:] = 0.0
    spread(add_squares, len(q), rows.design[first:], 1.0 / root, q)
    q /= least
    rows.stamp[first:], rows.exact[first:] = -1, False


def rounding_slack(d: int) -> float:
    """How far float32 may move y = L^{-1} z, in units of ||L^{-1} diag(z)||_F: 2 sqrt(d) u, u = 2^-24.

    Probabilistic rounding analysis (Higham and Mary 2019); in practice the error is a hundredth of it.
    """
    return 2.0 * math.sqrt(d) * 2.0**-24


def score(rows: Rows, running: RunningInformation, wanted: Ints | None = None) -> None:
    """q of rows (all when None) as ||L^{-1} z||^2 at the factor, as an upper bound; d^2 / 2 products a row."""
    whitener, lengths, scale = running.whitener()
    slack = rounding_slack(rows.design.shape[1])

    def score_rows(first: int, last: int) -> None:
        for start in range(first, last, BLOCK):
            span = slice(start, min(start + BLOCK, last))
            place = span if wanted is None else wanted[span]
            rounding, root = whitened_norms(rows.design[place], whitener, lengths)
            rows.q[place] = np.square(scale * (root + slack * rounding))
            rows.stamp[place] = running.factor.stamp
            rows.exact[place] = False

    with one_blas_thread():
        spread(score_rows, len(rows.q) if wanted is None else len(wanted))


def whitened_norms(design: Singles, whitener: Singles, lengths: Floats) -> tuple[Floats, Floats]:
    """||W diag(z)||_F and ||W z|| of every row z; W lower triangular with columns of these lengths. (n, d) -> 2 (n,)"""
    n, d = design.shape
    step = -(-d // STRIPS)
    rounding, root, ones = np.zeros(n), np.zeros(n), np.ones(step)
    add_squares(design, lengths, rounding, 0, n)
    strip = np.empty((n, step), dtype=np.float32)
    for low in range(0, d, step):
        high = min(low + step, d)
        y = strip if high - low == step else np.empty((n, high - low), dtype=np.float32)
        np.matmul(design[:, :high], whitener[low:high, :high].T, out=y)
        add_squares(y, ones, root, 0, n)
    return np.sqrt(rounding), np.sqrt(root)
