"""The best teacher for a comparison without trying them all, under every restriction at once."""

import math

import numba
import numpy as np

from .breakpoints import best_of_one_cost, build_groups, build_roof, drop_from_group, winning_group
from .choice_tables import ARENA, GAIN_ROOF, LOWEST, PER_OCTAVE, Q_OCTAVES, UNBUILT, Choice, log_gain, log_w
from .information import log_value, log_weight
from .short_lists import best_of_list, drop_from_lists
from .types import Bools, Floats, Ints, Teachers


def build_choice(teachers: Teachers, *, able: Bools, judged: Ints, asked: Ints) -> Choice:
    """Tables over the teachers that `able` (k, c) allows and whose rationality is above 0."""
    k, c = teachers.rationality.shape
    alive = able & (teachers.rationality > 0.0)
    one_cost = len(np.unique(teachers.cost[alive.any(axis=1)])) <= 1
    octaves = LOWEST[1] - LOWEST[0]
    choice = Choice(
        one_cost=one_cost,
        rationality=np.ascontiguousarray(teachers.rationality),
        log_cost=np.log(teachers.cost),
        alive=alive,
        order=np.argsort(teachers.rationality.T, axis=1, kind="stable"),
        first=np.zeros((c, k), dtype=np.int64),
        last=np.zeros((c, k), dtype=np.int64),
        groups=np.zeros(c, dtype=np.int64),
        rho=np.zeros((c, k)),
        breaks=np.zeros((c, k)),
        bucket=np.zeros((c, (octaves << PER_OCTAVE[0]) + 2), dtype=np.int64),
        roof=np.zeros((c, len(GAIN_ROOF))),
        head=np.full(
            (1, 1, 1) if one_cost else (c, (octaves << PER_OCTAVE[1]) + 2, Q_OCTAVES[1] - Q_OCTAVES[0]), UNBUILT
        ),
        arena=np.ones(1 if one_cost else ARENA, dtype=np.int64),
        judged=judged,
        asked=asked,
    )
    for category in range(c):
        build_groups(choice, category)
        if one_cost:
            build_roof(choice, category)
    return choice


def drop_teacher(choice: Choice, teacher: int) -> None:
    """Take one teacher out of every table: no capacity left, too dear for the budget, or gone."""
    categories = np.flatnonzero(choice.alive[teacher])
    choice.alive[teacher] = False
    for category in categories:
        if choice.one_cost:
            drop_from_group(choice, int(category), teacher)
        else:
            drop_from_lists(choice, int(category), teacher)


@numba.njit(cache=True, nogil=True)
def best_teacher(choice: Choice, c: int, gap: float, q: float, row: int, flagged: bool) -> tuple[int, float]:
    """The eligible teacher with the largest gain per cost, and the log of it; (-1, -inf) when there is none."""
    if q <= 0.0:
        return -1, -np.inf
    log_q = math.log(q)
    if not choice.one_cost:
        return best_of_list(choice, c, gap, log_q, row, flagged)
    if choice.groups[c] == 0:
        return -1, -np.inf
    teacher, w = best_of_one_cost(choice, c, gap, row, flagged)
    return (teacher, log_gain(w + log_q) - choice.log_cost[teacher]) if teacher >= 0 else (-1, -np.inf)


@numba.njit(cache=True, nogil=True)
def best_value(choice: Choice, c: int, gap: float, q: float, row: int, flagged: bool) -> float:
    """The value that `best_teacher` gives, without looking who else ties."""
    if flagged or not choice.one_cost or choice.groups[c] == 0 or q <= 0.0:
        return best_teacher(choice, c, gap, q, row, flagged)[1]
    g = winning_group(choice, c, gap)
    rho = choice.rho[c, g]
    log_cost = float(choice.log_cost[choice.order[c, choice.first[c, g]]])
    e = math.exp(-rho * gap)
    wq = rho * rho * e / ((1.0 + e) * (1.0 + e)) * q
    if wq > 1e-280:
        return math.log(math.log1p(wq)) - log_cost
    return log_gain(log_w(rho, gap) + math.log(q)) - log_cost  # where sigma' underflows


def table_choice(teachers: Teachers, *, category: Ints, gap: Floats, q: Floats) -> Ints:
    """(m,) best teacher by the m x K table: the independent check, and what the rule is measured against."""
    rho = teachers.rationality[:, category].T  # (m, k)
    with np.errstate(divide="ignore"):
        values = log_value(log_weight(gap[:, None], rho), np.log(q)[:, None], np.log(teachers.cost))
    values[~teachers.may_judge[:, category].T] = -np.inf
    return np.asarray(values.argmax(axis=1))
