"""The choice of one plan from planted inputs, beside what the design picks: repeats, control, and what is counted."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from activelearning.arrays import PoolRows
from activelearning.planning import Chosen, Inputs, choose
from activelearning.weighing import WORTH, runners_up, still_pays

Z = np.array([[2.0, 0.0], [0.0, 1.0], [1.0, 1.0], [2.0, 0.1]])


def plant_pool(design: np.ndarray[Any, Any] = Z, *, held_out: tuple[int, ...] = ()) -> PoolRows:
    """Comparisons 10, 11, … of the responses 2i and 2i + 1, whose features differ by the rows of `design`."""
    size, width = design.shape
    phi = np.zeros((2 * size, width), dtype=np.float32)
    phi[0::2] = design
    return PoolRows(
        ids=np.arange(10, 10 + size),
        conversation=np.arange(size),
        category=np.zeros(size, dtype=np.int64),
        categories=("",),
        a=np.arange(0, 2 * size, 2),
        b=np.arange(1, 2 * size, 2),
        phi=phi,
        response_ids=np.arange(2 * size),
        design=phi[0::2].copy(),
        is_held_out=np.isin(np.arange(size), held_out),
        is_askable=np.ones(size, dtype=bool),
        is_urgent=np.zeros(size, dtype=bool),
        kind=np.zeros(size, dtype=np.int64),
        kinds=((0, ""),),
    )


def plant_inputs(pool: PoolRows, *, teachers: int = 1, capacity: int = 1, **given: Any) -> Inputs:
    """Everybody of rationality 1 and cost 1, nothing asked before, H the identity."""
    width, pairs = pool.design.shape[1], np.zeros((0, 2), dtype=np.int64)
    plain = Inputs(
        strategy="dual",
        seed=3,
        control_share=0.0,
        repeat_share=0.0,
        overlap_limit=5,
        spanning=0,
        redraw=0,
        limit=100,
        budget=None,
        is_choosy=False,
        has_estimate=True,
        last_comparison=int(pool.ids[-1]),
        last_response=int(pool.response_ids[-1]),
        theta=np.zeros(width),
        information=np.eye(width),
        gram=np.eye(width),
        closed=np.zeros(0, dtype=np.int64),
        urgent=np.zeros(0, dtype=np.int64),
        taken=pairs,
        controlled=np.zeros(0, dtype=np.int64),
        judged=pairs,
        repeatable=np.zeros((0, 3), dtype=np.int64),
        teacher=np.arange(100, 100 + teachers),
        cost=np.ones(teachers),
        price=np.ones(teachers),
        capacity=np.full(teachers, capacity, dtype=np.int64),
        may_judge=np.ones((teachers, 1), dtype=bool),
        rationality=np.ones((teachers, 1)),
    )
    return replace(plain, **given)


def of_arm(chosen: list[Chosen], arm: str) -> list[Chosen]:
    return [entry for entry in chosen if entry.arm == arm]


# What is counted into H before a designed pick ------------------------------------------------------------------------


def plan_with_a_repeat(pool: PoolRows) -> list[Chosen]:
    """The first of two teachers has judged comparison 10 and may be asked it again; 10 is open to the second."""
    inputs = plant_inputs(
        pool,
        teachers=2,
        repeat_share=0.5,
        repeatable=np.array([[10, 0, 0]]),
        judged=np.array([[10, 0]]),
        closed=pool.ids[1:],
    )
    for seed in range(100):
        chosen = choose(replace(inputs, seed=seed), pool)
        if {entry.arm for entry in chosen} == {"repeat", "designed"}:
            return chosen
    raise AssertionError("no seed drew one of each arm")


def test_a_repeat_of_the_same_plan_is_not_counted_into_the_information() -> None:
    pool = plant_pool()
    (designed,) = of_arm(plan_with_a_repeat(pool), "designed")
    assert designed.row == 0
    assert designed.pick is not None
    assert designed.pick.uncertainty == pytest.approx(4.0)  # z'z of (2, 0), as if nothing had been picked


def test_a_held_out_control_pick_of_the_same_plan_is_not_counted_into_the_information() -> None:
    pool = plant_pool(np.array([[2.0, 0.0], [2.0, 0.0]]), held_out=(0,))
    inputs = plant_inputs(pool, teachers=2, redraw=1, controlled=np.array([11]))
    chosen = choose(inputs, pool)
    (control,), (designed,) = of_arm(chosen, "control"), of_arm(chosen, "designed")
    assert (control.row, designed.row) == (0, 1)
    assert designed.pick is not None
    assert designed.pick.uncertainty == pytest.approx(4.0)


@pytest.mark.parametrize(("strategy", "uncertainty"), [("dual", 2.0), ("apo", 2.0)])
def test_a_control_pick_that_will_be_learned_is_counted(strategy: str, uncertainty: float) -> None:
    pool = plant_pool(np.array([[2.0, 0.0], [2.0, 0.0]]))
    inputs = plant_inputs(pool, teachers=2, redraw=1, controlled=np.array([11]), strategy=strategy)
    (designed,) = of_arm(choose(inputs, pool), "designed")
    assert designed.pick is not None
    assert designed.pick.uncertainty == pytest.approx(uncertainty)  # 4 / (1 + 4 / 4)


def test_apo_counts_what_was_picked_before() -> None:
    """After an urgent pick along the first axis, V is largest along the second."""
    pool = plant_pool(np.array([[2.0, 0.0], [2.0, 0.0], [0.0, 1.5]]))
    inputs = plant_inputs(pool, capacity=2, strategy="apo", urgent=np.array([10]))
    assert {entry.row for entry in choose(inputs, pool)} == {0, 2}


# What else could have been chosen -------------------------------------------------------------------------------------


def test_nobody_is_named_beside_a_choice_who_had_answered_it_or_had_no_room_and_nothing_they_had_answered() -> None:
    pool = plant_pool()
    inputs = plant_inputs(pool, teachers=4, judged=np.array([[13, 0], [10, 1]]), limit=1)
    rationality = np.array([[2.0], [1.0], [1.0], [1.0]])
    inputs = replace(inputs, rationality=rationality, capacity=np.array([1, 1, 1, 0]))
    chosen = choose(inputs, pool)
    assert [(entry.row, entry.teacher) for entry in chosen] == [(0, 0)]
    ((teachers, comparisons),) = runners_up(inputs, pool, chosen, open_rows=np.arange(4))
    assert [place for place, _ in teachers] == [2]
    assert [row for row, _ in comparisons] == [2, 1]


def test_a_queued_offer_is_taken_out_of_the_information_as_it_was_counted_in() -> None:
    """At rationality 1/2 it is in H with 1/16: without it q is 4. Hoped for at 3 it gains log 10, the other log 226."""
    pool = plant_pool(np.array([[2.0, 0.0], [0.0, 10.0]]))
    inputs = plant_inputs(pool, information=np.diag([1 + 4 / 16, 1.0]))
    one, counted, hopeful = np.array([0]), np.array([[0.5]]), np.array([[3.0]])

    def pays(pool: PoolRows) -> bool:
        found = still_pays(
            inputs, pool, rows=one, teachers=one, counted=counted, rationality=hopeful, open_rows=np.array([1])
        )
        return bool(found[0])

    assert math.log(10) < WORTH * math.log(226)
    assert not pays(pool)
    assert math.log(10) > WORTH * math.log(82)
    assert pays(plant_pool(np.array([[2.0, 0.0], [0.0, 6.0]])))


# By which rule --------------------------------------------------------------------------------------------------------


def test_a_choice_says_whether_it_spans_and_whether_it_was_urgent() -> None:
    pool = plant_pool()
    inputs = plant_inputs(pool, capacity=3, spanning=2, urgent=np.array([11]), closed=np.array([12]))
    chosen = choose(replace(inputs, theta=np.array([0.3, 0.2])), pool)
    told = {entry.row: (entry.is_spanning, entry.is_urgent) for entry in chosen}
    assert told.pop(1) == (True, True)
    assert sorted(told.values()) == [(False, False), (True, False)]
    assert all((entry.pick is not None and entry.pick.gap == 0) == entry.is_spanning for entry in chosen)


# Repeats --------------------------------------------------------------------------------------------------------------


def repeat(pool: PoolRows, able: list[list[int]], **given: Any) -> list[Chosen]:
    """The repeats of a plan in the order drawn, where all it makes are repeats."""
    inputs = plant_inputs(pool, repeat_share=1.0, repeatable=np.array(able), **given)
    return sorted(of_arm(choose(inputs, pool), "repeat"), key=lambda entry: entry.propensity)


def test_the_chance_of_a_repeat_is_that_among_what_was_left_to_repeat() -> None:
    chosen = repeat(plant_pool(), [[10, 0, 0], [11, 1, 0]], teachers=2)
    assert [entry.propensity for entry in chosen] == [0.5, 1.0]


def test_what_nobody_had_room_for_does_not_lower_the_chance_of_a_repeat() -> None:
    able = [[10, 0, 0], [11, 0, 0], [12, 1, 0], [13, 1, 0]]
    chosen = repeat(plant_pool(), able, teachers=2, capacity=1)
    assert [entry.propensity for entry in chosen] == [0.25, 0.5]


def test_what_the_budget_did_not_cover_does_not_lower_the_chance_of_a_repeat() -> None:
    chosen = repeat(plant_pool(), [[10, 0, 0], [11, 1, 0]], teachers=2, budget=3.0, price=np.array([1.0, 5.0]))
    assert [(entry.row, entry.propensity) for entry in chosen] == [(0, 1.0)]


def test_nothing_is_repeated_that_was_taken_out_or_that_its_teacher_no_longer_takes() -> None:
    pool = replace(plant_pool(), kind=np.array([0, 0, 1, 0]), kinds=((0, ""), (1, "")))
    inputs = plant_inputs(
        pool,
        capacity=4,
        repeat_share=1.0,
        repeatable=np.array([[10, 0, 0], [11, 0, 0], [12, 0, 0]]),
        closed=np.array([10, 13]),
        may_judge=np.array([[True, False]]),
        rationality=np.ones((1, 2)),
    )
    assert [(entry.row, entry.propensity) for entry in of_arm(choose(inputs, pool), "repeat")] == [(1, 1.0)]
