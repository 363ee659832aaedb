"""The two-neighbour rule and the short lists, against the whole table of teachers."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import brentq

from activelearning.algorithms.breakpoints import break_between, winning_group
from activelearning.algorithms.choice_tables import log_gain, log_w
from activelearning.algorithms.information import log_weight
from activelearning.algorithms.short_lists import build_lists
from activelearning.algorithms.teacher_choice import best_teacher, build_choice, drop_teacher, table_choice
from activelearning.algorithms.types import Floats, Ints, Teachers

NONE = np.empty(0, dtype=np.int64)


def staff(rationality: Floats, cost: Floats | None = None) -> Teachers:
    k = len(rationality)
    everywhere = np.ones_like(rationality, dtype=np.bool_)
    return Teachers(rationality, np.ones(k) if cost is None else cost, np.full(k, 9), everywhere)


def values(teachers: Teachers, c: int, gap: float, q: float) -> Floats:
    with np.errstate(divide="ignore"):
        s = log_weight(gap, teachers.rationality[:, c]) + math.log(q)
    return np.array([log_gain(x) if x > -np.inf else -np.inf for x in s]) - np.log(teachers.cost)


def test_the_peak_of_f_is_where_the_method_says() -> None:
    """u* is the root of u tanh(u/2) = 2, f(u*) = (u*/2)^2 - 1, and P(right) there is 0.9168."""
    peak = brentq(lambda u: u * math.tanh(u / 2) - 2, 1.0, 4.0, xtol=1e-14)
    assert peak == pytest.approx(2.399357, abs=1e-6)
    assert math.exp(log_w(1.0, peak)) * peak**2 == pytest.approx((peak / 2) ** 2 - 1)
    assert 1 / (1 + math.exp(-peak)) == pytest.approx(0.9168, abs=1e-4)


def test_three_teachers_by_hand() -> None:
    """At m = 0 the most rational wins; at m = 10 with u* / m = 0.24 the least rational of 0.3, 1, 3 does."""
    choice = build_choice(staff(np.array([[3.0], [0.3], [1.0]])), able=np.ones((3, 1), bool), judged=NONE, asked=NONE)
    assert [best_teacher(choice, 0, gap, 1.0, 0, False)[0] for gap in (0.0, 0.5, 2.3, 10.0)] == [0, 0, 2, 1]


@settings(deadline=None, max_examples=200)
@given(st.floats(0.01, 20.0), st.floats(1.0001, 50.0))
def test_neighbours_are_worth_the_same_at_their_breakpoint(low: float, ratio: float) -> None:
    gap = break_between(low, low * ratio)
    assert log_w(low, gap) == pytest.approx(log_w(low * ratio, gap), abs=1e-9)


def test_the_rule_agrees_with_all_teachers_for_every_gap() -> None:
    rng = np.random.default_rng(0)
    for k in (1, 2, 17, 300):
        teachers = staff(np.exp(rng.normal(size=(k, 3))))
        choice = build_choice(teachers, able=teachers.may_judge, judged=NONE, asked=NONE)
        gap = np.concatenate([[0.0, 1e-9, 1e4], np.exp(rng.uniform(-12, 9, 500))])
        category = rng.integers(0, 3, len(gap))
        table = table_choice(teachers, category=category, gap=gap, q=np.ones(len(gap)))
        for i, c in enumerate(category):
            found, value = best_teacher(choice, c, gap[i], 1.0, 0, False)
            assert found == table[i]
            assert value == pytest.approx(values(teachers, c, gap[i], 1.0).max(), abs=1e-9)


def test_the_rule_agrees_while_teachers_leave_one_by_one() -> None:
    rng = np.random.default_rng(1)
    teachers = staff(rng.choice([0.5, 1.0, 1.3, 2.0, 4.0], (12, 2)) * rng.choice([1.0, 1.1], (12, 2)))
    choice = build_choice(teachers, able=teachers.may_judge, judged=NONE, asked=NONE)
    present = np.ones(12, dtype=bool)
    for leaver in rng.permutation(12)[:-1]:
        drop_teacher(choice, int(leaver))
        present[leaver] = False
        for gap in np.exp(rng.uniform(-5, 4, 60)):
            for c in (0, 1):
                all_values = np.where(present, values(teachers, c, gap, 0.7), -np.inf)
                expected = int(np.argmax(all_values >= all_values.max() - 1e-10))
                assert best_teacher(choice, c, gap, 0.7, 0, False)[0] == expected
    assert choice.groups.tolist() == [1, 1]


def test_who_has_judged_the_comparison_is_passed_over() -> None:
    rng = np.random.default_rng(2)
    teachers = staff(np.exp(rng.normal(size=(9, 1))))
    for trial in range(200):
        judged = np.sort(rng.choice(9, size=rng.integers(0, 9), replace=False)) + 9 * 4  # of comparison 4
        choice = build_choice(teachers, able=teachers.may_judge, judged=judged, asked=NONE)
        gap = float(np.exp(rng.uniform(-3, 3)))
        all_values = values(teachers, 0, gap, 1.0)
        all_values[judged - 36] = -np.inf
        assert best_teacher(choice, 0, gap, 1.0, 4, True)[0] == int(np.argmax(all_values)), trial
        assert best_teacher(choice, 0, gap, 1.0, 3, True)[0] == int(np.argmax(values(teachers, 0, gap, 1.0)))


@pytest.mark.parametrize("levels", [2, 10, 200])
def test_with_costs_the_short_lists_agree_with_all_teachers(levels: int) -> None:
    rng = np.random.default_rng(levels)
    prices = np.exp(rng.normal(size=levels))
    teachers = staff(np.exp(rng.normal(-0.3, 0.8, size=(200, 2))), rng.choice(prices, 200))
    choice = build_choice(teachers, able=teachers.may_judge, judged=NONE, asked=NONE)
    gap, q = np.exp(rng.uniform(-10, 3, 400)), np.exp(rng.uniform(-25, 9, 400))
    category: Ints = rng.integers(0, 2, 400)
    build_lists(choice, category, gap, q)
    assert (choice.head >= 0).sum() > 100
    for i, c in enumerate(category):
        expected = values(teachers, c, gap[i], q[i])
        found, value = best_teacher(choice, c, gap[i], q[i], 0, False)
        assert value == pytest.approx(expected.max(), abs=1e-9)
        assert expected[found] == pytest.approx(expected.max(), abs=1e-9)
    leaver = int(best_teacher(choice, category[0], gap[0], q[0], 0, False)[0])
    drop_teacher(choice, leaver)
    for i, c in enumerate(category):
        expected = values(teachers, c, gap[i], q[i])
        expected[leaver] = -np.inf
        assert best_teacher(choice, c, gap[i], q[i], 0, False)[1] == pytest.approx(expected.max(), abs=1e-9)


def test_the_short_lists_are_short() -> None:
    rng = np.random.default_rng(3)
    teachers = staff(np.exp(rng.normal(-0.3, 0.6, size=(1000, 1))), np.exp(rng.normal(0, 0.5, 1000)))
    choice = build_choice(teachers, able=teachers.may_judge, judged=NONE, asked=NONE)
    gap, q = np.exp(rng.uniform(-3, 2, 200)), np.exp(rng.uniform(-4, 4, 200))
    build_lists(choice, np.zeros(200, dtype=np.int64), gap, q)
    built = choice.head[choice.head >= 0]
    assert choice.arena[built].mean() < 20


@settings(deadline=None, max_examples=200)
@given(st.floats(0.02, 20), st.floats(1.0, 30), st.floats(-8, 12), st.floats(-4, 4))
def test_two_teachers_cross_at_most_once_in_the_gap(low: float, ratio: float, log_q: float, price: float) -> None:
    """The fact that the short lists stand on: for given q the log ratio of two gains only falls with the gap."""
    gaps = np.concatenate([[0.0], np.geomspace(1e-3, 60.0, 80)])
    ahead = [log_gain(log_w(low * ratio, m) + log_q) - log_gain(log_w(low, m) + log_q) - price for m in gaps]
    assert np.all(np.diff(ahead) < 1e-9)


def test_the_winning_group_needs_no_search_at_the_edges() -> None:
    teachers = staff(np.array([[0.5], [2.0]]))
    choice = build_choice(teachers, able=teachers.may_judge, judged=NONE, asked=NONE)
    middle = float(choice.breaks[0, 0])
    assert winning_group(choice, 0, 0.0) == 1
    assert winning_group(choice, 0, middle * (1 - 1e-12)) == 1
    assert winning_group(choice, 0, middle * (1 + 1e-12)) == 0
    assert winning_group(choice, 0, 1e300) == 0
