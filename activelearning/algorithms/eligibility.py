"""Who may still be asked what: overlap room, capacity, categories, judged pairs and the budget, in one ledger."""

import numpy as np

from .information import NotFinite
from .types import Bools, Ints, Pool, Teachers

NO_PAIRS: Ints = np.empty((0, 2), dtype=np.int64)


class Eligibility:
    """The constraints of one selection; `take` spends them pick by pick.

    A pair (i, k) is eligible when the comparison has room, the teacher takes its category, has capacity and reserves
    no more than what is left of the budget, and has not judged the comparison. `pool.room` and `teachers.capacity` are
    already net of offers in flight; `judged` (j, 2) lists (comparison, teacher) pairs, offers in flight included.
    """

    def __init__(self, pool: Pool, teachers: Teachers, *, judged: Ints = NO_PAIRS, budget: float | None = None) -> None:
        check_constraints(pool, teachers, judged=judged)
        self.category = pool.category
        self.price = teachers.price
        self.may_judge = teachers.may_judge
        self.room = pool.room.copy()  # (m,)
        self.capacity = teachers.capacity.copy()  # (k,)
        self.judged = np.unique(np.asarray(judged, dtype=np.int64).reshape(-1, 2), axis=0)  # (j, 2)
        self.left = np.inf if budget is None else float(budget)

    def open_teachers(self) -> Bools:
        """(k, c) which teachers could take one more label of which category."""
        present = (self.capacity > 0) & (self.price <= self.left)
        return np.asarray(self.may_judge & present[:, None])

    def teachers_for(self, comparison: int) -> Ints:
        """Indices of the teachers eligible for one comparison, ascending."""
        if self.room[comparison] <= 0:
            return np.empty(0, dtype=np.int64)
        mask = self.open_teachers()[:, self.category[comparison]].copy()
        mask[self.judged[self.judged[:, 0] == comparison, 1]] = False
        return np.flatnonzero(mask)

    def pair_counts(self) -> Ints:
        """(m,) how many teachers are eligible for each comparison."""
        mask = self.open_teachers()  # (k, c)
        counts: Ints = mask.sum(axis=0, dtype=np.int64)[self.category]
        rows, asked = self.judged[:, 0], self.judged[:, 1]
        closed = rows[mask[asked, self.category[rows]]]
        counts -= np.bincount(closed, minlength=len(counts))
        counts[self.room <= 0] = 0
        return counts

    def take(self, comparison: int, teacher: int) -> None:
        """Spend one pair."""
        self.room[comparison] -= 1
        self.capacity[teacher] -= 1
        self.left -= float(self.price[teacher])
        self.judged = np.vstack([self.judged, [[comparison, teacher]]])


def check_constraints(pool: Pool, teachers: Teachers, *, judged: Ints = NO_PAIRS) -> None:
    """Refuse arrays that cannot mean what the types say; raises ValueError, NotFinite."""
    k, c = teachers.rationality.shape
    if teachers.cost.shape != (k,) or teachers.capacity.shape != (k,) or teachers.may_judge.shape != (k, c):
        raise ValueError(f"teachers disagree: {k} x {c} rationalities, {teachers.cost.shape} costs")
    if pool.category.shape != (len(pool),) or pool.room.shape != (len(pool),):
        raise ValueError(f"the pool disagrees: {len(pool)} rows, {pool.category.shape} categories")
    if not (np.isfinite(teachers.rationality).all() and np.isfinite(teachers.cost).all()):
        raise NotFinite("rationalities and costs must be finite")
    if (teachers.cost <= 0).any():
        raise ValueError("a label's cost must be above 0")
    if teachers.price.shape != (k,) or not (teachers.price >= 0).all() or not np.isfinite(teachers.price).all():
        raise ValueError("what an offer reserves must be one finite amount a teacher, not below 0")
    if len(pool) and not 0 <= int(pool.category.min()) <= int(pool.category.max()) < c:
        raise ValueError(f"categories must lie in [0, {c})")
    pairs = np.asarray(judged).reshape(-1, 2)
    if len(pairs) and (pairs.min() < 0 or pairs[:, 0].max() >= len(pool) or pairs[:, 1].max() >= k):
        raise ValueError("a judged pair names a comparison or a teacher that is not there")
