"""Compiled inner loops of the lazy greedy choice: bring a row's q up to date, and settle which row is best.

Rows are float32, everything that decides is float64. All kernels release the interpreter lock and write only the rows
they are given, so `spread` may run them on several threads over disjoint slices.
"""

import contextlib
import functools
import itertools
import math
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple

import numba
import numpy as np
from numpy.typing import NDArray
from threadpoolctl import ThreadpoolController

from .choice_tables import FAST, GAIN_ROOF, PER_OCTAVE, TIE, Choice, bucket_of
from .teacher_choice import best_value
from .types import Bools, Floats, Ints, Singles

THREADS = len(os.sched_getaffinity(0))


class Rows(NamedTuple):
    """The pool and what is known of each row; 47 bytes a row beside the design."""

    design: Singles  # (m, d)
    category: Ints  # (m,)
    room: NDArray[np.int32]  # (m,)
    length: Singles  # (m,) ||z||, rounded up
    gap: Floats  # (m,) |theta'z|
    q: Floats  # (m,) z' H_s^{-1} z after s = stamp updates, or a bound above it
    value: Floats  # (m,) never below the row's best log(gain / cost) now
    stamp: NDArray[np.int32]  # (m,)
    exact: Bools  # (m,) q is float64 through, no bound
    flagged: Bools  # (m,) somebody has judged it


class Log(NamedTuple):
    """Rank-one updates H^{-1} <- H^{-1} - c v v' (M9) numbered from `base`; c < 0 takes an offer back."""

    v: Floats  # (capacity, d)
    c: Floats  # (capacity,)
    base: int
    now: int  # updates so far; entries base .. now are kept


class Factor(NamedTuple):
    """Cholesky factor of H as it was after `stamp` updates."""

    lower: Floats  # (d, d)
    stamp: int


def spread(kernel: Callable[..., None], size: int, *arguments: object) -> None:
    """Run kernel(*arguments, start, stop) over [0, size) on all cores."""
    if size < 256 or THREADS == 1:
        kernel(*arguments, 0, size)
        return
    cuts = [size * part // (4 * THREADS) for part in range(4 * THREADS + 1)]
    list(threads().map(lambda ends: kernel(*arguments, *ends), itertools.pairwise(cuts)))


@functools.cache
def threads() -> ThreadPoolExecutor:
    """One set of threads per process; a forked worker starts its own."""
    return ThreadPoolExecutor(THREADS)


@functools.cache
def blas() -> ThreadpoolController:
    """The BLAS libraries of this process, looked up once."""
    return ThreadpoolController()


def one_blas_thread() -> contextlib.AbstractContextManager[object]:
    """Our own threads share the work out; BLAS must not start more inside them, nor wait for a core that is busy."""
    limit: contextlib.AbstractContextManager[object] = blas().limit(limits=1, user_api="blas")
    return limit


os.register_at_fork(after_in_child=threads.cache_clear)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def measure_rows(design: Singles, theta: Floats, gap: Floats, first: int, last: int) -> None:
    """gap[i] = |theta'z_i|, in float64."""
    for i in range(first, last):
        total = 0.0
        for j in range(theta.shape[0]):
            total += design[i, j] * theta[j]
        gap[i] = abs(total)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def measure_lengths(design: Singles, length: Singles, first: int, last: int) -> None:
    """length[i] = ||z_i||, rounded up."""
    for i in range(first, last):
        total = 0.0
        for j in range(design.shape[1]):
            x = np.float64(design[i, j])
            total += x * x
        length[i] = np.float32(math.sqrt(total) * (1.0 + 2.0**-22))


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def add_squares(block: Singles, scale: Floats, total: Floats, first: int, last: int) -> None:
    """total[i] += sum over j of (scale[j] block[i, j])^2, in float64."""
    for i in range(first, last):
        added = 0.0
        for j in range(block.shape[1]):
            x = scale[j] * np.float64(block[i, j])
            added += x * x
        total[i] += added


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def replay(rows: Rows, log: Log, i: int) -> None:
    """Apply the updates a row has missed (M9), four at a time."""
    z = rows.design[i]
    d, p, last = z.shape[0], rows.stamp[i] - log.base, log.now - log.base
    taken = 0.0
    while p + 4 <= last:
        a, b, e, f = 0.0, 0.0, 0.0, 0.0
        for j in range(d):
            x = np.float64(z[j])
            a += log.v[p, j] * x
            b += log.v[p + 1, j] * x
            e += log.v[p + 2, j] * x
            f += log.v[p + 3, j] * x
        taken += log.c[p] * a * a + log.c[p + 1] * b * b + log.c[p + 2] * e * e + log.c[p + 3] * f * f
        p += 4
    while p < last:
        a = 0.0
        for j in range(d):
            a += log.v[p, j] * z[j]
        taken += log.c[p] * a * a
        p += 1
    rows.q[i] = max(rows.q[i] - taken, 0.0)
    rows.stamp[i] = log.now


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def refine(rows: Rows, log: Log, factor: Factor, i: int) -> None:
    """q of one row in float64: ||L^{-1} z||^2 by forward substitution, then the updates since the factor."""
    z, d = rows.design[i], rows.design.shape[1]
    y = np.empty(d)
    total = 0.0
    for row in range(d):
        left = np.float64(z[row])
        for j in range(row):
            left -= factor.lower[row, j] * y[j]
        y[row] = left / factor.lower[row, row]
        total += y[row] * y[row]
    rows.q[i], rows.stamp[i], rows.exact[i] = total, factor.stamp, True
    replay(rows, log, i)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def solve_row(log: Log, factor: Factor, z: Floats) -> Floats:
    """v = H^{-1} z now: two triangular solves and the updates since the factor. (d,) -> (d,)"""
    d = z.shape[0]
    y, v = np.empty(d), np.empty(d)
    for row in range(d):
        left = z[row]
        for j in range(row):
            left -= factor.lower[row, j] * y[j]
        y[row] = left / factor.lower[row, row]
    for row in range(d - 1, -1, -1):
        v[row] = y[row] / factor.lower[row, row]
        for j in range(row):
            y[j] -= factor.lower[row, j] * v[row]
    for p in range(factor.stamp - log.base, log.now - log.base):
        along = 0.0
        for j in range(d):
            along += log.v[p, j] * z[j]
        for j in range(d):
            v[j] -= log.c[p] * along * log.v[p, j]
    return v


@numba.njit(cache=True, nogil=True)
def revalue(rows: Rows, choice: Choice, i: int) -> None:
    """value[i] from q[i] and the best eligible teacher."""
    if rows.room[i] <= 0:
        rows.value[i] = -np.inf
    else:
        rows.value[i] = best_value(choice, rows.category[i], rows.gap[i], rows.q[i], i, rows.flagged[i])


@numba.njit(cache=True, nogil=True)
def revalue_all(rows: Rows, choice: Choice, first: int, last: int) -> None:
    for i in range(first, last):
        revalue(rows, choice, i)


@numba.njit(cache=True, nogil=True)
def gain_roof(roof: Floats, c: int, gap: float, q: float) -> float:
    """Log gain at or above the best teacher's, by two tables: no exponential, no logarithm; infinity outside them.

    Above by (2 + u tanh(u/2)) / 256 at most, u = rho m of the best teacher, some 1 % for rows worth asking; levels
    sort out which rows need the true value.
    """
    bucket = bucket_of(roof[c, bucket_of(gap, PER_OCTAVE[2])] * q, PER_OCTAVE[2])
    return float(GAIN_ROOF[bucket]) if 0 < bucket < GAIN_ROOF.shape[0] - 1 else np.inf


@numba.njit(cache=True, nogil=True)
def bound_values(rows: Rows, choice: Choice, wanted: Ints, first: int, last: int) -> None:
    """value[i] from q[i], at or above the true one; with teachers of several costs every value is the true one.

    Of rows first .. last, or of those places of `wanted` where it names any.
    """
    # Taken out of the tuples once: inside the loop each would count a reference, atomically, between the threads.
    category, gap, q, value, roof = rows.category, rows.gap, rows.q, rows.value, choice.roof
    room, one_cost, order, lead, log_cost = rows.room, choice.one_cost, choice.order, choice.first, choice.log_cost
    for place in range(first, last):
        i = wanted[place] if wanted.shape[0] > 0 else place
        c, bound = category[i], np.inf
        if one_cost and room[i] > 0:
            bound = gain_roof(roof, c, gap[i], q[i])
        if bound < np.inf:
            value[i] = bound - log_cost[order[c, lead[c, 0]]]
        else:
            revalue(rows, choice, i)


@numba.njit(cache=True, nogil=True, fastmath=FAST)
def take_squares(
    q: Floats, c: Floats, along: Singles, slack: Floats, length: Singles, skip: NDArray[np.int32], wanted: Ints
) -> None:
    """q[i] -= sum over p >= skip of c[p] x^2, rounded up: x = v_p'z_i is wrong by |slack[p]| length[i] at most.

    q, length (m,); c, slack (b,) of one sign, for what is taken away counts at its least, what is added at its most;
    of the n wanted rows i: along (n, b) the products in float32, skip (n,)
    """
    for place in range(wanted.shape[0]):
        taken, long = 0.0, np.float64(length[wanted[place]])
        for p in range(skip[place], c.shape[0]):
            x = max(abs(np.float64(along[place, p])) - slack[p] * long, 0.0)
            taken += c[p] * x * x
        q[wanted[place]] = max(q[wanted[place]] - taken, 0.0)


@numba.njit(cache=True, nogil=True)
def refresh_rows(rows: Rows, log: Log, factor: Factor, choice: Choice, wanted: Ints, first: int, last: int) -> None:
    """Bring the q and value of these rows to now, as bounds where they were bounds."""
    stamp = rows.stamp
    for place in range(first, last):
        i = wanted[place]
        if stamp[i] < log.base:
            refine(rows, log, factor, i)
        elif stamp[i] < log.now:
            replay(rows, log, i)
        revalue(rows, choice, i)


@numba.njit(cache=True, nogil=True)
def settle(rows: Rows, log: Log, factor: Factor, choice: Choice, i: int, best: float) -> float:
    """Make one row's value exact, as far as it takes to see that it is below the best; the better of the two."""
    if rows.stamp[i] < log.base:
        refine(rows, log, factor, i)
    elif rows.stamp[i] < log.now:
        replay(rows, log, i)
    revalue(rows, choice, i)
    if not rows.exact[i] and rows.value[i] >= best - TIE:
        refine(rows, log, factor, i)
        revalue(rows, choice, i)
    return max(best, float(rows.value[i]))


@numba.njit(cache=True, nogil=True)
def contest(rows: Rows, log: Log, factor: Factor, choice: Choice, active: Ints) -> tuple[int, float]:
    """The best of the active rows, exactly: only rows whose bound reaches the best so far are brought up to date.

    Returns the smallest index among ties and its value; (-1, -inf) when no row tells anything.
    """
    value, leader, best = rows.value, -1, -np.inf
    for i in active:
        if value[i] > best:
            leader, best = i, value[i]
    if leader < 0:
        return -1, -np.inf
    best = settle(rows, log, factor, choice, leader, -np.inf)
    for i in active:
        if value[i] >= best - TIE:
            best = settle(rows, log, factor, choice, i, best)
    winner = -1
    if best > -np.inf:
        for i in active:
            if value[i] >= best - TIE and (winner < 0 or i < winner):
                winner = i
    return winner, best


@numba.njit(cache=True, nogil=True)
def collect(value: Floats, level: float, found: Ints) -> int:
    """Indices of the values at or above the level, -inf never; returns how many there are, written or not."""
    n = 0
    for i in range(value.shape[0]):
        if value[i] >= level and value[i] > -np.inf:
            if n < found.shape[0]:
                found[n] = i
            n += 1
    return n
