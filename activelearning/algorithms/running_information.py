"""The information matrix while picks, labels and lapses come in: a factor, and a log of the rank-one updates since."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_solve
from scipy.linalg.lapack import dtrtri

from .information import cholesky
from .kernels import Factor, Log, one_blas_thread, solve_row
from .types import Floats, Ints, Singles

REFACTOR = 128
"""Updates between two factorisations of H; bounds the drift of q."""


class RunningInformation:
    """H in float64, its Cholesky factor as of some update, and every update's v and c of (M9) since the log's base.

    v is solved from the factor and the at most REFACTOR updates after it, never from other updates' rounding, so
    errors do not pile up however long the campaign.
    """

    def __init__(self, information: Floats) -> None:
        """(d, d) symmetric; raises NotPositiveDefinite, NotFinite."""
        self._base = information.copy()
        self.log = Log(np.empty((REFACTOR, len(information))), np.empty(REFACTOR), 0, 0)
        self.factor = Factor(cholesky(self._base), 0)
        self._rise = [0.0]  # log of how far lapses may have raised any q, after each update
        self._pending: list[tuple[float, Floats]] = []
        self._whitener: tuple[Singles, Floats, float] | None = None

    @property
    def matrix(self) -> Floats:
        """H now. (d, d)"""
        if not self._pending:
            return self._base
        weight = np.array([w for w, _ in self._pending])
        design = np.stack([z for _, z in self._pending])
        total: Floats = self._base + (design * weight[:, None]).T @ design
        return (total + total.T) / 2.0

    def inverse_at(self, stamp: int) -> Floats:
        """H^{-1} as it was after `stamp` updates, at or after the log's base. (d, d)"""
        log, factor = self.log, self.factor
        first, last = sorted((stamp, factor.stamp))
        span = slice(first - log.base, last - log.base)
        sign = 1.0 if stamp < factor.stamp else -1.0
        with one_blas_thread():
            since = (log.v[span] * (sign * log.c[span])[:, None]).T @ log.v[span]
            inverse: Floats = cho_solve((factor.lower, True), np.eye(len(since))) + since
        return (inverse + inverse.T) / 2.0

    def refactor(self) -> None:
        """Factor H afresh; updates more than d old are forgotten: a row so old costs less from the factor."""
        with one_blas_thread():
            self._base = self.matrix
            self.factor = Factor(cholesky(self._base), self.log.now)
        self._pending, self._whitener = [], None
        base = max(self.log.base, self.log.now - max(len(self._base), REFACTOR))
        kept = slice(base - self.log.base, self.log.now - self.log.base)
        self.log = Log(self.log.v[kept].copy(), self.log.c[kept].copy(), base, self.log.now)

    def update(self, row: Floats, *, weight: float) -> float:
        """H <- H + w z z'; w < 0 takes an offer back, w = 0 marks a moment. Returns q before; touches no row."""
        if self.log.now - self.factor.stamp >= REFACTOR:
            self.refactor()
        v = solve_row(self.log, self.factor, row)
        q = float(row @ v)
        if 1.0 + weight * q <= 0.0:
            raise ValueError("an offer that was never counted into H cannot be taken out of it")
        place, log_v, log_c = self.log.now - self.log.base, self.log.v, self.log.c
        if place == len(log_c):
            log_v = np.concatenate([log_v, np.empty((max(REFACTOR, place), len(row)))])
            log_c = np.concatenate([log_c, np.empty(max(REFACTOR, place))])
        log_v[place], log_c[place] = v, weight / (1.0 + weight * q)
        self.log = Log(log_v, log_c, self.log.base, self.log.now + 1)
        self._rise.append(self._rise[-1] + max(0.0, -math.log1p(weight * q)))
        self._pending.append((weight, row))
        return q

    @property
    def has_risen(self) -> bool:
        """Whether any offer was taken back."""
        return self._rise[-1] > 0.0

    def rise_since(self, stamp: Ints | NDArray[np.int32]) -> Floats:
        """Log of how far lapses after each stamp may have raised a q: log prod 1 / (1 - w q). (m,) -> (m,)"""
        rise = np.array(self._rise)
        return np.asarray(rise[-1] - rise[np.maximum(stamp, 0)])

    def whitener(self) -> tuple[Singles, Floats, float]:
        """L^{-1} / ||L^{-1}||_F in float32, its columns' lengths, and the scale ||L^{-1}||_F taken out."""
        if self._whitener is None:
            with one_blas_thread():
                inverse, _ = dtrtri(self.factor.lower, lower=1)
            scale = float(np.linalg.norm(inverse))
            inverse /= scale
            self._whitener = np.ascontiguousarray(inverse, dtype=np.float32), np.linalg.norm(inverse, axis=0), scale
        return self._whitener
