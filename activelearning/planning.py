"""A plan as a pure choice: from frozen inputs to the same offers, whenever it is asked again.

Nothing here reads a row or a clock. `pipeline.replan` gathers the inputs, stores them with the plan, and makes offers
of what comes out; `pipeline.replay` reads them back and looks whether the same comes out.
"""

import json
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from activelearning.algorithms.information import (
    gram_matrix,
    information_gain,
    label_weight,
    uncertainties,
)
from activelearning.algorithms.selection import select
from activelearning.algorithms.types import Bools, Floats, Ints, Pick, Pool, Teachers
from activelearning.arrays import PoolRows

DESIGNED, CONTROL, REPEAT = "designed", "control", "repeat"
DUELING = frozenset({"delta_ucb", "infomax", "double_thompson", "drts"})
CHOOSY = 0.2
"""Where labels are rationed: a pair pays from this share of what the best present teacher's answer to it would tell
for the same money."""


@dataclass(frozen=True)
class Inputs:
    """Everything that a choice depends on, besides the pool's immutable rows up to the ids named here.

    teachers are those present, ascending by id; `capacity` 0 is a full queue. Comparisons are named by their ids.
    """

    strategy: str
    seed: int
    control_share: float
    repeat_share: float
    overlap_limit: int
    spanning: int
    """Designed picks still owed to the spanning, randomly assigned start."""
    redraw: int
    """Control offers that lapsed and are drawn again, beside the share."""
    limit: int
    """Offers at most, all arms together."""
    budget: float | None
    is_choosy: bool
    has_estimate: bool
    """False while there are no features: every offer is drawn uniformly."""
    last_comparison: int
    last_response: int
    theta: Floats  # (d,)
    information: Floats  # (d, d)  earned, and live offers
    gram: Floats  # (d, d)  for `apo`, else (0, 0)
    closed: Ints  # comparisons that may not be asked
    urgent: Ints  # comparisons that go first
    taken: Ints  # (t, 2)  comparison, designed slots taken
    controlled: Ints  # comparisons whose control slot is taken
    judged: Ints  # (j, 2)  comparison, index of a teacher who is looked at
    repeatable: Ints  # (r, 3)  comparison, teacher index, 1 if b was shown first
    teacher: Ints  # (k,)
    cost: Floats  # (k,)  what a label is expected to cost
    price: Floats  # (k,)  what an offer reserves of the budget
    capacity: Ints  # (k,)
    may_judge: Bools  # (k, c)  c kinds: category and language
    rationality: Floats  # (k, c)  as used: stated, or drawn from the posterior

    def arrays(self) -> dict[str, NDArray[Any]]:
        """As arrays for an npz: the numbers in one JSON text, the arrays by name."""
        plain = {name: value for name, value in self.__dict__.items() if not isinstance(value, np.ndarray)}
        found = {name: value for name, value in self.__dict__.items() if isinstance(value, np.ndarray)}
        return {**found, "numbers": np.array(json.dumps(plain))}

    @classmethod
    def from_arrays(cls, arrays: dict[str, NDArray[Any]]) -> "Inputs":
        plain = json.loads(str(arrays["numbers"]))
        return cls(**{name.name: plain.get(name.name, arrays.get(name.name)) for name in fields(cls)})


@dataclass(frozen=True)
class Chosen:
    """One offer to make: row of the pool, index of the teacher, and why. Without an estimate there is no pick."""

    row: int
    teacher: int
    arm: str
    b_first: bool
    place: int
    """In the order of its teacher's new offers."""
    propensity: float
    pick: Pick | None
    is_spanning: bool = False
    """Designed, as one of the spanning start and not by the plan's strategy."""
    is_urgent: bool = False
    """Designed, among urgent comparisons alone."""


def choose(inputs: Inputs, pool: PoolRows) -> list[Chosen]:
    """The offers of one plan: control and repeats at their shares, then the strategy, in an order drawn by the seed."""
    draw = _Draw(inputs, pool.until(inputs.last_comparison, inputs.last_response))
    rng = draw.rng
    total = min(int(inputs.capacity.sum()), inputs.limit)
    arms = rng.multinomial(
        total, [inputs.control_share, inputs.repeat_share, max(0.0, 1.0 - inputs.control_share - inputs.repeat_share)]
    )
    control = draw.control(min(total, int(arms[0]) + inputs.redraw))
    repeats = draw.repeats(min(total - len(control), int(arms[1])))
    designed = draw.designed(total - len(control) - len(repeats))
    found = [(CONTROL, *entry) for entry in control] + [(REPEAT, *entry) for entry in repeats]
    found += [(DESIGNED, *entry) for entry in designed]
    order = rng.permutation(len(found))
    shown_first = rng.integers(0, 2, size=len(found))
    chosen, places = [], dict.fromkeys(range(len(inputs.teacher)), 0)
    for number in order.tolist():
        arm, row, teacher, propensity, pick, mirrored = found[number]
        b_first = bool(shown_first[number]) if mirrored is None else mirrored
        is_spanning = arm == DESIGNED and (row, teacher) in draw.spanning
        is_urgent = arm == DESIGNED and bool(draw.is_urgent[row]) and inputs.has_estimate
        place = places[teacher]
        chosen.append(Chosen(row, teacher, arm, b_first, place, propensity, pick, is_spanning, is_urgent))
        places[teacher] += 1
    return chosen


Entry = tuple[int, int, float, Pick | None, bool | None]
"""Row, teacher, propensity, pick, and the order shown where it is not to be drawn."""


class _Draw:
    """The state of one choice: what is left of rooms and capacities while the arms are filled."""

    def __init__(self, inputs: Inputs, pool: PoolRows) -> None:
        self.inputs, self.pool = inputs, pool
        self.rng = np.random.default_rng(inputs.seed)
        self.capacity = inputs.capacity.copy()
        self.left = inputs.budget
        self.is_open = np.ones(len(pool), dtype=bool)
        self.is_open[_present(pool.rows_of(inputs.closed))] = False
        rows = pool.rows_of(inputs.judged[:, 0])
        self.judged = np.column_stack([rows, inputs.judged[:, 1]])[rows >= 0]
        self.picked: list[tuple[int, int]] = []
        self.to_learn: list[tuple[int, int]] = []
        """Of those picked, what will enter the fit: no repeats, nothing held out."""
        self.is_urgent = np.zeros(len(pool), dtype=bool)
        self.is_urgent[_present(self.pool.rows_of(inputs.urgent))] = True
        self.spanning: set[tuple[int, int]] = set()

    def control(self, count: int) -> list[Entry]:
        """Uniform over all eligible pairs, held-out conversations included: they are scored, and not learned from."""
        room = self.is_open.astype(np.int64)
        room[_present(self.pool.rows_of(self.inputs.controlled))] = 0
        return [
            (pick.comparison, pick.teacher, pick.propensity, self.explain(pick.comparison, pick.teacher), None)
            for pick in self._uniform(room, count)
        ]

    def repeats(self, count: int) -> list[Entry]:
        """The same person again, the order mirrored: drawn uniformly among what may be repeated at that moment."""
        found: list[Entry] = []
        able = self.inputs.repeatable
        rows, teachers = self.pool.rows_of(able[:, 0]), able[:, 1]
        may_be = (rows >= 0) & self.is_open[rows] & self.inputs.may_judge[teachers, self.pool.kind[rows]]
        left = self.rng.permutation(len(able))
        left = left[may_be[left]]
        while len(found) < count:
            has_room = (self.capacity > 0) & self._affordable()
            left = left[has_room[teachers[left]]]  # who has no room now will have none later
            if not len(left):
                break
            number, chance = int(left[0]), 1.0 / len(left)
            row, teacher = int(rows[number]), int(teachers[number])
            self._take(row, teacher, is_learned=False)
            found.append((row, teacher, chance, self.explain(row, teacher), not able[number, 2]))
            left = left[1:]
        return found

    def designed(self, count: int) -> list[Entry]:
        inputs, pool = self.inputs, self.pool
        room = np.where(self.is_open & ~pool.is_held_out, inputs.overlap_limit, 0).astype(np.int64)
        rows = pool.rows_of(inputs.taken[:, 0])
        room[_present(rows)] -= inputs.taken[rows >= 0, 1]
        np.maximum(room, 0, out=room)
        if not inputs.has_estimate:
            return [(pick.comparison, pick.teacher, pick.propensity, None, None) for pick in self._uniform(room, count)]
        room[~pool.has_features] = 0
        picks: list[Pick] = []
        for first in (self.is_urgent, ~self.is_urgent):
            spanning = min(max(0, inputs.spanning - len(picks)), count - len(picks))
            if inputs.strategy != "uniform" and spanning:
                start = np.zeros_like(inputs.theta)
                spanned = self._select(room, first, spanning, theta=start, strategy="conversation_only")
                self.spanning.update((pick.comparison, pick.teacher) for pick in spanned)
                picks += spanned
            picks += self._select(room, first, count - len(picks), theta=inputs.theta, strategy=inputs.strategy)
        if inputs.is_choosy and inputs.strategy == "dual":
            picks = [pick for pick in picks if self._pays(pick)]
        return [(pick.comparison, pick.teacher, pick.propensity, pick, None) for pick in picks]

    def explain(self, row: int, teacher: int) -> Pick | None:
        """What the design thinks of a pair that it did not choose."""
        inputs, pool = self.inputs, self.pool
        if not inputs.has_estimate or not pool.has_features[row]:
            return None
        design = pool.design[row : row + 1]
        gap = float(np.abs(design[0].astype(np.float64) @ inputs.theta))
        q = float(uncertainties(design, inputs.information)[0])
        rho = float(inputs.rationality[teacher, pool.kind[row]])
        weight = float(label_weight(gap, rho))
        return Pick(row, teacher, q, gap, rho, weight, float(information_gain(weight, q)))

    def _uniform(self, room: Ints, count: int) -> list[Pick]:
        size = len(self.pool)
        flat = Pool(design=np.zeros((size, 1), dtype=np.float32), category=self.pool.kind, room=room)
        picks = select(
            flat,
            self._teachers(),
            theta=np.zeros(1),
            information=np.eye(1),
            size=count,
            rng=self.rng,
            strategy="uniform",
            judged=self._asked(),
            budget=self.left,
        )
        for pick in picks:
            self._take(pick.comparison, pick.teacher)
        return picks

    def _select(self, room: Ints, rows: Bools, count: int, *, theta: Floats, strategy: str) -> list[Pick]:
        """By strategy within these rows; what was picked before and will be learned is counted into H, and into V."""
        if count <= 0 or not (room[rows] > 0).any():
            return []
        pool, inputs = self.pool, self.inputs
        in_flight = _pairs(self.to_learn)
        in_flight = in_flight[pool.has_features[in_flight[:, 0]]]
        picks = select(
            Pool(design=pool.design, category=pool.kind, room=np.where(rows, room, 0)),
            self._teachers(),
            theta=theta,
            information=inputs.information,
            size=count,
            rng=self.rng,
            strategy=strategy,
            judged=self._asked(),
            in_flight=in_flight,
            budget=self.left,
            gram=inputs.gram + gram_matrix(pool.design[in_flight[:, 0]].astype(np.float64), ridge=0.0)
            if strategy == "apo"
            else None,
            responses=pool.responses() if strategy in DUELING else None,
        )
        for pick in picks:
            room[pick.comparison] -= 1
            self._take(pick.comparison, pick.teacher)
        return picks

    def _pays(self, pick: Pick) -> bool:
        """Whether the teacher tells, per cost, a fair share of what the best present one would on this comparison."""
        inputs, category = self.inputs, self.pool.kind[pick.comparison]
        worth = label_weight(np.float64(pick.gap), inputs.rationality[:, category]) / inputs.cost
        best = float(worth[inputs.may_judge[:, category]].max(initial=0.0))
        return float(worth[pick.teacher]) >= CHOOSY * best

    def _teachers(self) -> Teachers:
        inputs = self.inputs
        return Teachers(
            rationality=inputs.rationality,
            cost=inputs.cost,
            capacity=self.capacity,
            may_judge=inputs.may_judge,
            reserved=inputs.price,
        )

    def _asked(self) -> Ints:
        return np.concatenate([self.judged, _pairs(self.picked)])

    def _affordable(self) -> Bools:
        """(k,) whose price fits what is left of the budget."""
        return np.asarray(self.inputs.price <= (np.inf if self.left is None else self.left))

    def _take(self, row: int, teacher: int, *, is_learned: bool = True) -> None:
        self.capacity[teacher] -= 1
        self.picked.append((row, teacher))
        if is_learned and not self.pool.is_held_out[row]:
            self.to_learn.append((row, teacher))
        if self.left is not None:
            self.left -= float(self.inputs.price[teacher])


def _present(rows: Ints) -> Ints:
    return rows[rows >= 0]


def _pairs(pairs: list[tuple[int, int]]) -> Ints:
    return np.array(pairs, dtype=np.int64).reshape(-1, 2)
