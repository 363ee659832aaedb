"""The lazy greedy over a campaign's life: drift, additions, leavings, lapses, refits, and a pool larger than memory."""

import math
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from activelearning.algorithms.information import fisher_information, label_weight, planned_information, uncertainties
from activelearning.algorithms.kernels import bound_values, refine, revalue_all
from activelearning.algorithms.lazy import EVERY, LazyGreedy
from activelearning.algorithms.running_information import RunningInformation
from activelearning.algorithms.scoring import bound
from activelearning.algorithms.stale_scores import carry_over, catch_up
from activelearning.algorithms.types import Floats, Pick, Pool, Teachers
from tests.servers import PATIENCE

D, K = 6, 5


def campaign(
    seed: int, m: int = 400, *, capacity: int = 50, room: int = 2, d: int = D
) -> tuple[Pool, Teachers, Floats, Floats]:
    rng = np.random.default_rng(seed)
    pool = Pool(rng.normal(size=(m, d)).astype(np.float32), rng.integers(0, 2, m), np.full(m, room))
    teachers = Teachers(np.exp(rng.normal(size=(K, 2))), np.ones(K), np.full(K, capacity), np.ones((K, 2), np.bool_))
    return pool, teachers, rng.normal(size=d), np.eye(d)


def fresh(greedy: LazyGreedy, pool: Pool, picks: list[Pick], *, theta: Floats, information: Floats) -> LazyGreedy:
    """A greedy started from nothing in the state that `picks` have led to."""
    judged = np.array([[p.comparison, p.teacher] for p in picks], dtype=np.int64).reshape(-1, 2)
    return LazyGreedy(
        replace(pool, room=pool.room - np.bincount(judged[:, 0], minlength=len(pool))),
        replace(greedy.teachers, capacity=greedy.capacity.copy()),
        theta=theta,
        information=information,
        judged=judged,
    )


def assert_same(found: list[Pick], expected: list[Pick]) -> None:
    assert [(p.comparison, p.teacher) for p in found] == [(p.comparison, p.teacher) for p in expected]
    np.testing.assert_allclose([p.gain for p in found], [p.gain for p in expected], rtol=1e-9)


def counted(information: Floats, pool: Pool, picks: list[Pick]) -> Floats:
    design = pool.design[[p.comparison for p in picks]].astype(np.float64)
    return planned_information(information, design=design, weight=np.array([p.weight for p in picks]))


def test_q_drifts_by_less_than_a_ten_thousandth_over_ten_thousand_updates() -> None:
    rng = np.random.default_rng(0)
    d = 32
    scale = np.arange(1, d + 1) ** -1.0
    design = rng.normal(size=(10_000, d)) * scale
    weight = rng.uniform(0.0, 0.5, 10_000)
    running = RunningInformation(np.eye(d) * 0.01)
    for row, w in zip(design, weight, strict=True):
        running.update(row, weight=float(w))
    expected = planned_information(np.eye(d) * 0.01, design=design, weight=weight)
    probes = rng.normal(size=(50, d)) * scale
    found = np.array([running.update(row, weight=0.0) for row in probes])
    np.testing.assert_allclose(found, uncertainties(probes, expected), rtol=1e-8)
    np.testing.assert_allclose(running.matrix, expected, rtol=1e-10, atol=1e-10)
    assert len(running.log.c) < 4 * 128  # the log stays short however long the campaign


def test_ten_thousand_picks_leave_every_q_right_or_a_bound() -> None:
    pool, teachers, theta, h = campaign(1, m=3000, capacity=100_000, room=4)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(10_000)
    assert len(picks) == 10_000
    expected = fresh(greedy, pool, picks, theta=theta, information=counted(h, pool, picks)).picks(20)
    assert_same(greedy.picks(20), expected)


def test_every_row_keeps_a_bound_at_or_above_its_true_q() -> None:
    pool, teachers, theta, h = campaign(2)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    rows = greedy.rows
    for _ in range(60):
        greedy.pick()
        q = uncertainties(pool.design, greedy.running.matrix)
        assert np.all(rows.q >= q * (1 - 1e-10))
        now = rows.exact & (rows.stamp == greedy.running.log.now)
        np.testing.assert_allclose(rows.q[now], q[now], rtol=1e-9)


def test_values_from_the_tables_lie_at_or_just_above_the_true_ones() -> None:
    pool, teachers, theta, h = campaign(21, m=5000)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    greedy.picks(30)
    rows, choice = greedy.rows, greedy._choice
    bound_values(rows, choice, EVERY, 0, len(pool))
    high = rows.value.copy()
    revalue_all(rows, choice, 0, len(pool))
    told = np.isfinite(rows.value)
    assert told.sum() > 4000
    assert np.all(high[told] >= rows.value[told])
    free = told & ~rows.flagged  # where the best teacher has judged, the table is further off
    steepest = teachers.rationality.max() * rows.gap[free]
    assert np.all((high - rows.value)[free] <= (2.0 + steepest) / 256 + 1e-8)


def test_added_comparisons_are_chosen_among_at_once() -> None:
    pool, teachers, theta, h = campaign(3)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(10)
    rng = np.random.default_rng(4)
    grown = Pool(
        np.vstack([pool.design, 1.5 * rng.normal(size=(100, D)).astype(np.float32)]),
        np.concatenate([pool.category, rng.integers(0, 2, 100)]),
        np.concatenate([pool.room, np.full(100, 2)]),
    )
    greedy.add(grown)
    expected = fresh(greedy, grown, picks, theta=theta, information=counted(h, grown, picks))
    found = greedy.picks(30)
    assert_same(found, expected.picks(30))
    assert max(p.comparison for p in found) >= 400


def test_comparisons_and_teachers_that_left_are_not_chosen() -> None:
    pool, teachers, theta, h = campaign(5)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(10)
    gone, leaver = picks[0].comparison, picks[0].teacher
    greedy.withdraw(np.array([gone]))
    greedy.leave(leaver)
    asked = sum(p.comparison == gone for p in picks)
    closed = replace(pool, room=np.where(np.arange(len(pool)) == gone, asked, pool.room))
    expected = fresh(greedy, closed, picks, theta=theta, information=counted(h, pool, picks)).picks(30)
    found = greedy.picks(30)
    assert_same(found, expected)
    assert all(p.teacher != leaver and p.comparison != gone for p in found)


def test_a_lapsed_offer_leaves_h_and_may_be_asked_again() -> None:
    pool, teachers, theta, h = campaign(6, capacity=4)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(16)
    greedy.lapse(picks[2:9])
    kept = picks[:2] + picks[9:]
    np.testing.assert_allclose(greedy.running.matrix, counted(h, pool, kept), rtol=1e-9)
    expected = fresh(greedy, pool, kept, theta=theta, information=counted(h, pool, kept)).picks(11)
    assert_same(greedy.picks(11), expected)


def test_every_lapse_at_once_is_as_if_nothing_had_been_asked() -> None:
    pool, teachers, theta, h = campaign(7)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(40)
    greedy.lapse(picks)
    assert_same(greedy.picks(40), picks)


def test_an_offer_that_was_never_made_cannot_lapse() -> None:
    pool, teachers, theta, h = campaign(8)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    with pytest.raises(ValueError, match="never counted"):
        greedy.lapse([Pick(0, 0, 1.0, 0.0, 9.0, weight=50.0, gain=1.0)])


def test_a_refit_with_frozen_weights_is_exact_for_the_h_in_use() -> None:
    pool, teachers, theta, h = campaign(9)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(20)
    rng = np.random.default_rng(10)
    labels = rng.normal(size=(300, D))  # answers from elsewhere: control offers, say
    weight = label_weight(np.abs(labels @ theta), np.ones(300))
    moved = theta + 0.3 * rng.normal(size=D)
    greedy.learn(labels, weight=weight)
    greedy.move(moved)
    now = planned_information(counted(h, pool, picks), design=labels, weight=weight)
    expected = fresh(greedy, pool, picks, theta=moved, information=now).picks(40)
    assert_same(greedy.picks(40), expected)


def test_rows_that_missed_many_updates_and_lapses_catch_up_exactly() -> None:
    pool, teachers, theta, _ = campaign(15, 8000, d=48, capacity=99)
    h = 50.0 * np.eye(48)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    greedy.score_all()
    picks = greedy.picks(100)
    greedy.lapse(picks[40:50])
    picks = picks[:40] + picks[50:]
    greedy.move(theta)
    level = float(np.sort(greedy.rows.value)[-3000])
    late = np.flatnonzero((greedy.rows.value >= level) & (greedy.rows.stamp == 0))
    catch_up(greedy.rows, greedy.running, greedy._choice, late, level=level)
    now = counted(h, pool, picks)
    true = uncertainties(pool.design.astype(np.float64), now)
    caught = greedy.rows.stamp == greedy.running.log.now
    assert 0 < caught[late].sum() < len(late)
    assert (greedy.rows.q[caught] >= true[caught] * (1 - 1e-12)).all()
    np.testing.assert_allclose(greedy.rows.q[caught], true[caught], rtol=1e-4)
    expected = fresh(greedy, pool, picks, theta=theta, information=now)
    assert (greedy.rows.value >= [expected_value(expected, i) - 1e-12 for i in range(len(pool))]).all()
    assert_same(greedy.picks(60), expected.picks(60))


def expected_value(greedy: LazyGreedy, i: int) -> float:
    """The true log gain of a row's best teacher, scored from the factor."""
    if greedy.rows.room[i] <= 0:
        return -math.inf
    refine(greedy.rows, greedy.running.log, greedy.running.factor, i)
    revalue_all(greedy.rows, greedy._choice, i, i + 1)
    return float(greedy.rows.value[i])


def test_old_scores_are_carried_over_a_refit_as_bounds() -> None:
    pool, teachers, theta, h = campaign(16, 3000, d=48)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    greedy.score_all()
    greedy.picks(30)
    moved = theta + 0.2 * np.random.default_rng(17).normal(size=48)
    now = fisher_information(pool.design[:400].astype(np.float64), theta=moved, rationality=np.ones(400), ridge=1.0)
    kept = (greedy.rows.stamp == 0).copy()
    carry_over(greedy.rows, greedy.running, now)
    true = uncertainties(pool.design.astype(np.float64), now)
    carried = greedy.rows.q.copy()
    assert (carried >= true).all()
    bound(greedy.rows, now)
    assert kept.sum() > 1000
    assert np.median(carried[kept] / true[kept]) < 1.2 < np.median(greedy.rows.q[kept] / true[kept])


@pytest.mark.parametrize("scored", [True, False])
@pytest.mark.parametrize("step", [0.02, 3.0])
def test_a_refit_with_recomputed_weights_is_exact(step: float, scored: bool) -> None:
    pool, teachers, theta, _ = campaign(11)
    rng = np.random.default_rng(12)
    labels, rho = rng.normal(size=(500, D)), np.ones(500)
    h = fisher_information(labels, theta=theta, rationality=rho, ridge=1.0)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    if scored:
        greedy.score_all()
    picks = greedy.picks(20)
    greedy.lapse(picks[:3])
    picks = picks[3:]
    moved = theta + step * rng.normal(size=D)
    design = pool.design[[p.comparison for p in picks]].astype(np.float64)
    gap = np.abs(design @ moved)
    flight = label_weight(gap, np.array([p.rationality for p in picks]))
    now = planned_information(
        fisher_information(labels, theta=moved, rationality=rho, ridge=1.0), design=design, weight=flight
    )
    greedy.refit(moved, information=now)
    expected = fresh(greedy, pool, picks, theta=moved, information=now).picks(40)
    assert_same(greedy.picks(40), expected)


def test_changed_rationalities_and_capacities_are_taken_up() -> None:
    pool, teachers, theta, h = campaign(13)
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    picks = greedy.picks(10)
    changed = replace(teachers, rationality=teachers.rationality[::-1].copy(), capacity=np.array([0, 9, 9, 9, 9]))
    greedy.staff(changed)
    expected = fresh(greedy, pool, picks, theta=theta, information=counted(h, pool, picks)).picks(36)
    assert_same(greedy.picks(40), expected)


def test_a_floor_stops_before_a_poorer_pick() -> None:
    pool, teachers, theta, h = campaign(14)
    gains = [p.gain for p in LazyGreedy(pool, teachers, theta=theta, information=h).picks(30)]
    greedy = LazyGreedy(pool, teachers, theta=theta, information=h)
    floor = math.log((gains[9] + gains[10]) / 2)
    assert len(greedy.picks(30, floor=floor)) == 10
    assert [p.gain for p in greedy.picks(20)] == pytest.approx(gains[10:])


MEMORY = """
    import resource, sys
    import numpy as np
    from activelearning.algorithms.lazy import LazyGreedy
    from activelearning.algorithms.types import Pool, Teachers

    m, d = 200_000, 256
    k = 3
    teachers = Teachers(np.ones((k, 1)), np.ones(k), np.full(k, 99), np.ones((k, 1), dtype=np.bool_))
    small = Pool(np.ones((3, d), dtype=np.float32), np.zeros(3, dtype=np.int64), np.ones(3, dtype=np.int64))
    LazyGreedy(small, teachers, theta=np.zeros(d), information=np.eye(d)).picks(2)  # compiled code is loaded

    def heap():
        return next(int(s.split()[1]) for s in open("/proc/self/status") if s.startswith("VmData"))

    limit = heap() * 1024 + 100_000_000
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))  # private memory: maps of files do not count
    design = np.memmap(sys.argv[1], dtype=np.float32, mode="r", shape=(m, d))
    pool = Pool(design, np.zeros(m, dtype=np.int64), np.ones(m, dtype=np.int64))
    try:
        np.array(design)
        sys.exit("the limit does not bite")
    except MemoryError:
        pass
    greedy = LazyGreedy(pool, teachers, theta=np.zeros(d), information=np.eye(d))
    print([p.comparison for p in greedy.picks(5)])
"""


def test_a_pool_larger_than_the_memory_limit_is_chosen_from(tmp_path: Path) -> None:
    """205 MB of features under a limit of 100 MB above what the process holds when it starts."""
    m, d = 200_000, 256
    design = np.memmap(tmp_path / "pool.f32", dtype=np.float32, mode="w+", shape=(m, d))
    rng = np.random.default_rng(15)
    for start in range(0, m, 20_000):
        design[start : start + 20_000] = rng.normal(size=(20_000, d))
    lengths = np.square(design).sum(axis=1)
    for rank, row in enumerate((150_000, 3, 77_777)):
        design[row] *= (4.0 - rank) * np.sqrt(lengths.max() / lengths[row])
    design.flush()
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(MEMORY), str(tmp_path / "pool.f32")],
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.startswith("[150000, 3, 77777")
