"""The exact greedy choice without looking at most of the pool: stale scores bound fresh ones from above."""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from .choice_tables import TIE, Choice, log_w
from .eligibility import NO_PAIRS, check_constraints
from .kernels import Rows, bound_values, collect, contest, measure_lengths, refresh_rows, spread
from .running_information import RunningInformation
from .scoring import bound, measure, score
from .short_lists import build_lists
from .stale_scores import carry_over, catch_up
from .teacher_choice import best_teacher, build_choice, drop_teacher
from .types import Floats, Ints, Pick, Pool, Teachers

EMPTY = np.iinfo(np.int64).max
EVERY: Ints = np.empty(0, dtype=np.int64)
WIDTH = 2048
"""How many rows a level aims to bring in, at the least."""
WIDEST = 65536
"""And at the most, so that going through the active rows stays cheap."""
SAMPLE = 16384
"""Values looked at to place a level."""
MANY = 512
"""Rows from which matrix products beat one row at a time."""
LATE = 16
"""Missed updates from which they do."""


class LazyGreedy:
    """Greedy dual D-optimal picks (M7, M8) from a pool that lives on while the campaign runs.

    Every row keeps a value that is never below its log(gain / cost). Rows whose value reaches a level are active; a
    pick brings to date only the active rows that could still win, and is certain once the best of them reaches the
    level, since all others lie below it. Else the level is lowered.
    """

    def __init__(
        self,
        pool: Pool,
        teachers: Teachers,
        *,
        theta: Floats,
        information: Floats,
        judged: Ints = NO_PAIRS,
        budget: float | None = None,
    ) -> None:
        """Arguments as for `select`; `information` is H_planned. Three passes: lengths, gaps and bounds of q."""
        check_constraints(pool, teachers, judged=judged)
        self.theta, self.teachers = theta, teachers
        self.capacity = teachers.capacity.copy()
        self.left = math.inf if budget is None else float(budget)
        self.running = RunningInformation(information)
        self.rows = blank_rows(pool)
        self.rows.flagged[judged[:, 0]] = True
        self._judged = np.unique(judged[:, 0] * len(teachers) + judged[:, 1])
        self._asked, self._asks = np.full(128, EMPTY), 0  # this batch: sorted keys, then empty places
        self._choice: Choice
        self._level: float
        self._active: Ints
        self._width: int
        self._taken: int
        spread(measure_lengths, len(pool), self.rows.design, self.rows.length)
        measure(self.rows, theta)
        bound(self.rows, information)
        self._open_desks()

    def score_all(self) -> None:
        """Score every row, not just those that come up: m d^2 / 2 products, after which long batches are cheapest."""
        score(self.rows, self.running)
        self._value_all()

    # Picks.

    def pick(self, *, floor: float = -math.inf) -> Pick | None:
        """Choose the best eligible pair and count it into H.

        None when no pair is left that tells anything, or the best log(gain / cost) lies below the floor.
        """
        while True:
            row, value = contest(self.rows, self.running.log, self.running.factor, self._choice, self._active)
            if row >= 0 and value - TIE >= max(self._level, floor):
                return self._take(int(row))
            if self._level == -math.inf or self._level <= floor:
                return self._take(int(row)) if row >= 0 and value >= floor else None
            self._lower()

    def picks(self, size: int, *, floor: float = -math.inf) -> list[Pick]:
        """Up to `size` picks in the order chosen."""
        chosen: list[Pick] = []
        while len(chosen) < size and (pick := self.pick(floor=floor)) is not None:
            chosen.append(pick)
        return chosen

    def _lower(self) -> None:
        """Set the level so that about `width` rows reach it and bring those up to date; wider when levels wear out."""
        rows, m = self.rows, len(self.rows.q)
        if self._taken < 24:
            self._width = min(2 * self._width, WIDEST)
        elif self._taken > 96:
            self._width = max(WIDTH, self._width // 2)
        self._taken = 0
        width, level = max(self._width, 3 * len(self._active) // 2), self._level
        sample = rows.value[:: max(1, m // SAMPLE)]
        while level >= self._level and level > -math.inf:
            rank = width * len(sample) // max(m, 1)
            level = float(np.partition(sample, len(sample) - 1 - rank)[-1 - rank]) if rank < len(sample) else -math.inf
            width *= 2
        found = np.empty(2 * width, dtype=np.int64)
        n = collect(rows.value, level, found)
        if n > len(found):
            found = np.empty(n, dtype=np.int64)
            collect(rows.value, level, found)
        found = found[:n]
        self._refresh(found, level=level)
        self._level = level
        self._active = found[rows.value[found] >= level]

    def _refresh(self, wanted: Ints, *, level: float) -> None:
        """Bring rows to date that reach the level: in bulk from the factor or by what they missed, the rest singly."""
        rows, running, d = self.rows, self.running, len(self.theta)
        far = wanted[rows.stamp[wanted] < max(running.log.base, running.log.now - d)]
        if len(far) > MANY:
            if running.log.now - running.factor.stamp > 48:
                running.refactor()
            score(rows, running, far)
        stamp = rows.stamp[wanted]
        late = wanted[(stamp >= running.log.base) & (running.log.now - stamp > LATE)]
        if len(late) > MANY:
            catch_up(rows, running, self._choice, late, level=level)
            wanted = wanted[rows.value[wanted] >= level]
        spread(refresh_rows, len(wanted), rows, running.log, running.factor, self._choice, wanted)

    def _take(self, row: int) -> Pick:
        """Count the pair into H and the constraints."""
        rows = self.rows
        c, gap, q = int(rows.category[row]), float(rows.gap[row]), float(rows.q[row])
        teacher = int(best_teacher(self._choice, c, gap, q, row, bool(rows.flagged[row]))[0])
        rho = float(self.teachers.rationality[teacher, c])
        weight = math.exp(log_w(rho, gap))
        self.running.update(np.asarray(rows.design[row], dtype=np.float64), weight=weight)
        self._taken += 1
        rows.room[row] -= 1
        rows.flagged[row] = True
        self._ask(row * len(self.teachers) + teacher)
        self.capacity[teacher] -= 1
        self.left -= float(self.teachers.price[teacher])
        if self.capacity[teacher] <= 0:
            drop_teacher(self._choice, teacher)
        if self.left < math.inf:
            for dear in np.flatnonzero(self._choice.alive.any(axis=1) & (self.teachers.price > self.left)):
                drop_teacher(self._choice, int(dear))
        return Pick(row, teacher, uncertainty=q, gap=gap, rationality=rho, weight=weight, gain=math.log1p(weight * q))

    def _ask(self, key: int) -> None:
        """Remember a pair, keys kept sorted."""
        if self._asks == len(self._asked):
            self._asked = np.concatenate([self._asked, np.full(self._asks, EMPTY)])
            self._choice = self._choice._replace(asked=self._asked)
        place = int(np.searchsorted(self._asked, key))
        self._asked[place + 1 : self._asks + 1] = self._asked[place : self._asks]
        self._asked[place] = key
        self._asks += 1

    def _open_desks(self) -> None:
        """Tables of who may be asked, and every value by them."""
        present = (self.capacity > 0) & (self.teachers.price <= self.left)
        able = self.teachers.may_judge & present[:, None]
        self._choice = build_choice(self.teachers, able=able, judged=self._judged, asked=self._asked)
        self._value_all()

    def _value_all(self) -> None:
        """A value for every row, out of the q at hand; levels start over."""
        rows = self.rows
        if not self._choice.one_cost:
            build_lists(self._choice, rows.category, rows.gap, rows.q)
        spread(bound_values, len(rows.q), rows, self._choice, EVERY)
        if self.running.has_risen:  # log gain rises no faster than log q
            rows.value[:] += self.running.rise_since(rows.stamp)
        self._start_over()

    def _start_over(self) -> None:
        self._level, self._active = math.inf, np.empty(0, dtype=np.int64)
        self._width, self._taken = WIDTH // 2, 0

    # The campaign goes on.

    def add(self, pool: Pool) -> None:
        """Comparisons were added: `pool` holds the old rows first, then the new; only the new are scored."""
        old, known = self.rows, len(self.rows.q)
        self.rows = blank_rows(pool)
        for name in ("room", "length", "gap", "q", "value", "stamp", "exact", "flagged"):
            getattr(self.rows, name)[:known] = getattr(old, name)
        spread(measure_lengths, len(pool) - known, self.rows.design[known:], self.rows.length[known:])
        measure(self.rows, self.theta, first=known)
        bound(self.rows, self.running.matrix, first=known)
        self._open_desks()

    def withdraw(self, comparisons: Ints) -> None:
        """Comparisons leave the pool."""
        self.rows.room[comparisons] = 0
        self.rows.value[comparisons] = -math.inf

    def leave(self, teacher: int) -> None:
        """A teacher goes; rows that counted on them keep a value too high until they are next looked at."""
        self.capacity[teacher] = 0
        drop_teacher(self._choice, teacher)

    def staff(self, teachers: Teachers) -> None:
        """Rationalities, costs or capacities changed, or a teacher came back: every value is drawn up afresh."""
        self.teachers, self.capacity = teachers, teachers.capacity.copy()
        self._open_desks()

    def lapse(self, picks: Sequence[Pick]) -> None:
        """Offers lapsed: they leave H, each may raise any q up to 1 / (1 - w q) times; the pairs may be asked again."""
        keys = [pick.comparison * len(self.teachers) + pick.teacher for pick in picks]
        for pick in picks:
            self.running.update(np.asarray(self.rows.design[pick.comparison], dtype=np.float64), weight=-pick.weight)
            self.rows.room[pick.comparison] += 1
            self.capacity[pick.teacher] += 1
            self.left += float(self.teachers.price[pick.teacher])
        self._judged = np.setdiff1d(self._judged, keys)
        kept = np.setdiff1d(self._asked[: self._asks], keys)
        self._asked[: len(kept)], self._asked[len(kept) :], self._asks = kept, EMPTY, len(kept)
        self._open_desks()

    def learn(self, design: Floats, *, weight: Floats) -> None:
        """Labels came in that no pick of ours had counted: H grows by w z z' each, weights frozen. (n, d), (n,)"""
        for row, w in zip(design, weight, strict=True):
            self.running.update(row, weight=float(w))

    def move(self, theta: Floats) -> None:
        """A refit that keeps every label's weight in H as it was: one pass for the gaps, all old q still bounds."""
        self.theta = theta
        measure(self.rows, theta)
        self._value_all()

    def refit(self, theta: Floats, *, information: Floats) -> None:
        """A refit that also weighs the labels anew: old q become bounds under the new H, rows are scored as needed."""
        old, self.running = self.running, RunningInformation(information)
        carry_over(self.rows, old, information)
        self.move(theta)


def counts(room: Ints) -> NDArray[np.int32]:
    """Room in half the bytes; what would not fit is never used up."""
    return np.minimum(room, np.iinfo(np.int32).max).astype(np.int32)


def blank_rows(pool: Pool) -> Rows:
    """State of a pool that nothing is known of yet."""
    m = len(pool)
    design = np.ascontiguousarray(pool.design, dtype=np.float32).view(np.ndarray)
    design.flags.writeable = False
    return Rows(
        design=design,
        category=pool.category,
        room=counts(pool.room),
        length=np.zeros(m, dtype=np.float32),
        gap=np.zeros(m),
        q=np.zeros(m),
        value=np.full(m, np.inf),
        stamp=np.zeros(m, dtype=np.int32),
        exact=np.zeros(m, dtype=np.bool_),
        flagged=np.zeros(m, dtype=np.bool_),
    )
