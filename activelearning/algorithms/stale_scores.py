"""Old scores of many rows brought nearer to now, by matrix products in float32 and always as bounds."""

import numpy as np
from scipy.linalg import eigh, eigvalsh, solve_triangular

from .choice_tables import Choice
from .information import cholesky
from .kernels import Rows, bound_values, one_blas_thread, spread, take_squares
from .running_information import RunningInformation
from .scoring import bound, rounding_slack
from .types import Floats, Ints, Singles

TILE = 1024
"""Rows brought up at a time by one thread."""
UPDATES = 64
"""Missed updates applied at a time."""
DIRECTIONS = 32
"""Directions of each row looked at after a refit."""


def catch_up(rows: Rows, running: RunningInformation, choice: Choice, wanted: Ints, *, level: float) -> None:
    """Apply the updates that rows missed (M9), oldest first, each row until its value falls below the level.

    Rows that stay above come up to now; the others keep a later stamp and a lower bound than they had. No row may be
    older than the log.
    """
    log = running.log
    wanted = wanted[np.argsort(rows.stamp[wanted], kind="stable")]  # a tile has one age, as a rule
    v = log.v[: log.now - log.base].astype(np.float32)
    slack = rounding(v, log.c[: len(v)])

    def catch_up_rows(first: int, last: int) -> None:
        fetched = np.empty((TILE, rows.design.shape[1]), dtype=np.float32)
        for begin in range(first, last, TILE):
            tile = wanted[begin : min(begin + TILE, last)]
            z = rows.design.take(tile, axis=0, out=fetched[: len(tile)], mode="clip")
            for start in range(int(rows.stamp[tile[0]]), log.now, UPDATES):
                stop, stamp = min(start + UPDATES, log.now), rows.stamp[tile]
                block = slice(start - log.base, stop - log.base)
                skip = np.maximum(stamp - np.int32(start), np.int32(0))
                take_squares(rows.q, log.c[block], z @ v[block].T, slack[block], rows.length, skip, tile)
                rows.stamp[tile], rows.exact[tile] = np.maximum(stamp, stop), rows.exact[tile] & (stamp >= stop)
                bound_values(rows, choice, tile, 0, len(tile))
                if running.has_risen:
                    rows.value[tile] += running.rise_since(rows.stamp[tile])
                above = rows.value[tile] >= level
                if 4 * np.count_nonzero(above) < 3 * len(tile):
                    tile, z = tile[above], z[above]
                if len(tile) == 0:
                    break

    with one_blas_thread():
        spread(catch_up_rows, len(wanted))


def rounding(v: Singles, c: Floats) -> Floats:
    """By how much products v'z in float32 may be wrong, in units of ||z||, with the sign of c. (b, d), (b,) -> (b,)"""
    slack: Floats = np.copysign(rounding_slack(v.shape[1]) * np.linalg.norm(v.astype(np.float64), axis=1), c)
    return slack


def carry_over(rows: Rows, old: RunningInformation, information: Floats) -> None:
    """q under a new H from q under an old one, as a bound, by a few directions of each row.

    Rows most of which were scored at one moment, when H was H_s. With L L' = H, L' H_s^{-1} L = sum_i alpha_i a_i a_i'
    and s_i = alpha_i (a_i' L^{-1} z)^2: q_s = sum_i s_i and q = sum_i s_i / alpha_i. So for any set D of directions and
    mu the largest 1 / alpha_i outside it

        q <= mu q_s - sum_{i in D} (mu - 1 / alpha_i) s_i                                           (derived)

    D holds the DIRECTIONS that tighten this most for a row of no special direction. All other rows are bounded afresh.
    """
    stamps, counts = np.unique(rows.stamp[rows.stamp >= old.log.base], return_counts=True)
    moment = int(stamps[np.argmax(counts)]) if len(stamps) else -1
    scored = (rows.stamp == moment) & (moment >= 0)
    q = rows.q[scored]
    bound(rows, information)
    if len(q) == 0:
        return
    mu, c, u = tightest(old.inverse_at(moment), information)
    v = u.astype(np.float32)
    slack = rounding(v, c)
    carried = np.full(len(rows.q), np.inf)
    carried[scored] = mu * q

    def carry_rows(first: int, last: int) -> None:
        skip = np.zeros(TILE, dtype=np.int32)
        for begin in range(first, last, TILE):
            span = slice(begin, min(begin + TILE, last))
            along = (rows.design[span] @ v.T)[scored[span]]
            take_squares(carried, c, along, slack, rows.length, skip, begin + np.flatnonzero(scored[span]))

    with one_blas_thread():
        spread(carry_rows, len(carried))
    np.minimum(rows.q, carried, out=rows.q)


def tightest(inverse: Floats, information: Floats) -> tuple[float, Floats, Floats]:
    """mu, c (r,) and u (r, d) with H^{-1} <= mu H_s^{-1} - sum_i c_i u_i u_i', r = DIRECTIONS at most.

    inverse      (d, d)  H_s^{-1}
    information  (d, d)  H
    """
    lower = cholesky(information)
    with one_blas_thread():
        ratio, axes = eigh(lower.T @ inverse @ lower)  # alpha ascending: mu_i = 1 / alpha_i falls
        d, r = len(ratio), min(DIRECTIONS, len(ratio) - 1)
        least = 1.0 / ratio
        # `head` of the directions are those whose q rose most, the rest those whose q fell most.
        excess = [least[head] * (d - r) + least[:head].sum() + least[d - r + head :].sum() for head in range(r + 1)]
        head = int(np.argmin(excess))
        kept = np.r_[0:head, d - r + head : d]
        u = (solve_triangular(lower, axes[:, kept], lower=True, trans="T") * np.sqrt(ratio[kept])).T
        mu, c = float(least[head]), least[head] - least[kept]
        # The eigenvectors are rounded; what the bound makes of H^{-1} says by how much it must be raised to hold.
        bounded = mu * inverse - (u * c[:, None]).T @ u
        slack = float(eigvalsh(lower.T @ bounded @ lower, subset_by_index=[0, 0])[0]) - 1e-9
    return mu / slack, c / slack, u
