"""Teachers of several costs: a short list per cell of (gap, q) of all who can win there."""

import math

import numba
import numpy as np

from .choice_tables import (
    PER_OCTAVE,
    Q_OCTAVES,
    TIE,
    UNBUILT,
    Choice,
    bucket_of,
    edge_of,
    is_judged,
    log_gain,
    log_w,
)
from .types import Floats, Ints


@numba.njit(cache=True, nogil=True)
def value_for(choice: Choice, teacher: int, c: int, gap: float, log_q: float) -> float:
    """log(gain / cost) of one teacher."""
    return log_gain(log_w(choice.rationality[teacher, c], gap) + log_q) - float(choice.log_cost[teacher])


@numba.njit(cache=True, nogil=True)
def best_by_trying(choice: Choice, c: int, gap: float, log_q: float, row: int, flagged: bool) -> tuple[int, float]:
    """Teacher and log(gain / cost) over all: where no short list is built, or the listed have judged this one."""
    best, value = -1, -np.inf
    for teacher in range(choice.alive.shape[0]):
        if choice.alive[teacher, c] and not (flagged and is_judged(choice, row, teacher)):
            other = value_for(choice, teacher, c, gap, log_q)
            if other > value + TIE:
                best = teacher
            value = max(value, other)
    return best, value


@numba.njit(cache=True, nogil=True)
def best_of_list(choice: Choice, c: int, gap: float, log_q: float, row: int, flagged: bool) -> tuple[int, float]:
    """Teacher and log(gain / cost) through the short list of this (gap, q)."""
    e = math.floor(log_q / math.log(2.0)) - Q_OCTAVES[0]
    b = bucket_of(gap, PER_OCTAVE[1])
    inside = 0 <= e < choice.head.shape[2] and b < choice.head.shape[1] - 1
    head = choice.head[c, b, e] if inside else UNBUILT
    if head == UNBUILT:
        return best_by_trying(choice, c, gap, log_q, row, flagged)
    best, value = -1, -np.inf
    for place in range(head + 1, head + 1 + choice.arena[head]):
        teacher = choice.arena[place]
        if flagged and is_judged(choice, row, teacher):
            return best_by_trying(choice, c, gap, log_q, row, flagged)
        other = value_for(choice, teacher, c, gap, log_q)
        if other > value + TIE:
            best = teacher
        value = max(value, other)
    return best, value


@numba.njit(cache=True, nogil=True)
def drop_from_lists(choice: Choice, c: int, teacher: int) -> None:
    """Forget every short list that names the teacher: whom only this one beat may win now."""
    for b in range(choice.head.shape[1]):
        for e in range(choice.head.shape[2]):
            head = choice.head[c, b, e]
            if head == UNBUILT:
                continue
            for place in range(head + 1, head + 1 + choice.arena[head]):
                if choice.arena[place] == teacher:
                    choice.head[c, b, e] = UNBUILT
                    break


@numba.njit(cache=True, nogil=True)
def build_lists(choice: Choice, category: Ints, gap: Floats, q: Floats) -> None:
    """Build the short lists that these rows fall into, where not yet built; one thread at a time.

    Two teachers cross at most once in the gap for given q, and at most once in q for given gap: so who is better at
    all four corners of a bucket is better all over it. A list keeps who is not beaten so by any corner's winner.
    """
    corner = np.empty((choice.alive.shape[0], 4))
    for i in range(gap.shape[0]):
        if not q[i] > 0.0:
            continue
        e = math.floor(math.log(q[i]) / math.log(2.0))
        b, c = bucket_of(gap[i], PER_OCTAVE[1]), category[i]
        if not (Q_OCTAVES[0] <= e < Q_OCTAVES[1] and b < choice.head.shape[1] - 1):
            continue
        if choice.head[c, b, e - Q_OCTAVES[0]] != UNBUILT:
            continue
        if choice.arena[0] + choice.alive.shape[0] + 1 > choice.arena.shape[0]:
            choice.head[:] = UNBUILT
            choice.arena[0] = 1
        for k in range(choice.alive.shape[0]):
            for j in range(4):
                m = edge_of(b + j // 2, PER_OCTAVE[1])
                value = -np.inf
                if choice.alive[k, c]:
                    value = value_for(choice, k, c, m, (e + j % 2) * math.log(2.0))
                corner[k, j] = value
        head, n = choice.arena[0], 0
        for k in range(choice.alive.shape[0]):
            if choice.alive[k, c] and not is_beaten(corner, k):
                n += 1
                choice.arena[head + n] = k
        choice.arena[head] = n
        choice.arena[0] += n + 1
        choice.head[c, b, e - Q_OCTAVES[0]] = head


@numba.njit(cache=True, nogil=True)
def is_beaten(corner: Floats, k: int) -> bool:
    """Whether the winner of some corner is better than k at all four, by more than a tie."""
    for j in range(4):
        winner = np.argmax(corner[:, j])
        beaten = True
        for i in range(4):
            beaten = beaten and corner[winner, i] > corner[k, i] + 2.0 * TIE
        if beaten:
            return True
    return False
