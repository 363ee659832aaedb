"""Beside a plan's choice: what else could have been chosen, and which queued offers are still worth their place."""

import numpy as np

from activelearning.algorithms.information import information_gain, label_weight, planned_information, uncertainties
from activelearning.algorithms.types import Bools, Floats, Ints
from activelearning.arrays import PoolRows
from activelearning.planning import Chosen, Inputs

WORTH = 0.5
"""A queued offer pays while it gains, per cost, this share of what its teacher's best open comparison would."""
RUNNERS_UP = 3
SAMPLE = 20_000
"""Rows looked at for runners-up and for what still pays; in a larger pool a sample drawn by the plan's seed."""


def count_in(information: Floats, *, design: Floats, theta: Floats, rationality: Floats) -> Floats:
    """H_planned: H_earned with live offers counted at the weights they have under this estimate."""
    return planned_information(information, design=design, weight=label_weight(design @ theta, rationality))


def sample_rows(open_rows: Ints, *, seed: int) -> Ints:
    """All of a small pool; of a large one as many as are looked at, drawn by the seed, ascending."""
    if len(open_rows) <= SAMPLE:
        return open_rows
    return np.sort(np.random.default_rng(seed).choice(open_rows, SAMPLE, replace=False))


def _measured(inputs: Inputs, pool: PoolRows, rows: Ints) -> tuple[Floats, Floats]:
    """q and |theta'z| of rows. 2 (r,)"""
    design = pool.design[rows]
    return uncertainties(design, inputs.information), np.abs(design.astype(np.float64) @ inputs.theta)


def _closed_rows(inputs: Inputs, pool: PoolRows) -> list[Ints]:
    """Of each teacher whose pairs were gathered, the rows that may not be asked of them."""
    judged = inputs.judged[np.argsort(inputs.judged[:, 1], kind="stable")]
    return np.split(pool.rows_of(judged[:, 0]), np.searchsorted(judged[:, 1], np.arange(1, len(inputs.teacher))))


def still_pays(
    inputs: Inputs,
    pool: PoolRows,
    *,
    rows: Ints,
    teachers: Ints,
    counted: Floats,
    rationality: Floats,
    open_rows: Ints,
) -> Bools:
    """(f,) which queued offers still gain, per cost, half of what their teacher's best open comparison would.

    inputs           `judged` holds the pairs closed to the teachers of these offers: what may not be asked of a teacher
                     could not be offered instead
    rows, teachers   (f,)    row of the pool and index of the teacher, of each queued offer
    counted          (k, c)  by kind, >= 0: at which H holds the offers
    rationality      (k, c)  by kind, at which gains are compared; not a draw: an offer is not withdrawn by chance
    open_rows        rows with room
    H holds the offers themselves, so theirs is taken out first: q / (1 - w q) is what it would be without them, w the
    weight that H has of them.
    """
    if not len(rows):
        return np.zeros(0, dtype=bool)
    looked = sample_rows(open_rows, seed=inputs.seed)
    q, gap = _measured(inputs, pool, looked)
    own_q, own_gap = _measured(inputs, pool, rows)
    own_rho = rationality[teachers, pool.kind[rows]]
    held = label_weight(own_gap, counted[teachers, pool.kind[rows]])
    without = own_q / np.maximum(1.0 - held * own_q, 1e-12)
    gain = information_gain(label_weight(own_gap, own_rho), without)
    best = np.zeros(len(inputs.teacher))
    closed = _closed_rows(inputs, pool)
    for teacher in np.unique(teachers).tolist():
        able = inputs.may_judge[teacher, pool.kind[looked]]
        able &= ~np.isin(looked, closed[teacher])
        weight = label_weight(gap[able], rationality[teacher, pool.kind[looked[able]]])
        best[teacher] = float(information_gain(weight, q[able]).max(initial=0.0))
    return np.asarray((gain >= WORTH * best[teachers]) & (own_rho > 0))


def runners_up(
    inputs: Inputs, pool: PoolRows, chosen: list[Chosen], *, open_rows: Ints
) -> list[tuple[list[tuple[int, float]], list[tuple[int, float]]]]:
    """For each choice the next best teachers (index, gain) and comparisons (row, gain), before this plan's picks.

    Of who had room, and of what they had not been asked: nothing else could have been chosen instead.
    """
    if not inputs.has_estimate or not chosen:
        return [([], []) for _ in chosen]
    pool = pool.until(inputs.last_comparison, inputs.last_response)
    looked = sample_rows(open_rows, seed=inputs.seed)
    q, gap = _measured(inputs, pool, looked)
    closed = _closed_rows(inputs, pool)
    best: dict[int, list[tuple[int, float]]] = {}
    found = []
    for entry in chosen:
        if entry.pick is None:
            found.append((list[tuple[int, float]](), list[tuple[int, float]]()))
            continue
        if entry.teacher not in best:
            category = pool.kind[looked]
            weight = label_weight(gap, np.maximum(inputs.rationality[entry.teacher, category], 0.0))
            able = inputs.may_judge[entry.teacher, category] & ~np.isin(looked, closed[entry.teacher])
            gain = np.where(able, information_gain(weight, q), 0.0)
            top = np.argsort(-gain, kind="stable")[: RUNNERS_UP + inputs.overlap_limit]
            best[entry.teacher] = [(int(looked[place]), float(gain[place])) for place in top if gain[place] > 0]
        category = pool.kind[entry.row]
        weight = label_weight(entry.pick.gap, np.maximum(inputs.rationality[:, category], 0.0))
        able = inputs.may_judge[:, category] & (inputs.capacity > 0)
        able[inputs.judged[inputs.judged[:, 0] == pool.ids[entry.row], 1]] = False
        gains = np.where(able, information_gain(weight, entry.pick.uncertainty), 0.0)
        order = np.argsort(-gains, kind="stable").tolist()
        others = [place for place in order if place != entry.teacher and gains[place] > 0]
        found.append(
            (
                [(place, float(gains[place])) for place in others[:RUNNERS_UP]],
                [pair for pair in best[entry.teacher] if pair[0] != entry.row][:RUNNERS_UP],
            )
        )
    return found
