"""Exact greedy batches: by hand, against slogdet over every pair, lazy against plain, and the invariances owed."""

import math
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from activelearning.algorithms.information import NotFinite, NotPositiveDefinite, planned_information
from activelearning.algorithms.lazy import LazyGreedy
from activelearning.algorithms.selection import select
from activelearning.algorithms.types import Pick, Pool, Teachers
from tests.activelearning.algorithms.worlds import World, eligible, log_gains, random_world, spend

ONE = Teachers(
    rationality=np.ones((1, 1)),
    cost=np.ones(1),
    capacity=np.array([99]),
    may_judge=np.ones((1, 1), dtype=np.bool_),
)


def pool_of(*rows: list[float], room: int = 1) -> Pool:
    design = np.array(rows, dtype=np.float32)
    return Pool(design, np.zeros(len(rows), dtype=np.int64), np.full(len(rows), room))


def plain(world: World, size: int = 8) -> list[Pick]:
    return select(
        world.pool,
        world.teachers,
        theta=world.theta,
        information=world.information,
        size=size,
        judged=world.judged,
        budget=world.budget,
        rng=np.random.default_rng(0),
    )


def lazy(world: World, size: int = 8) -> list[Pick]:
    return LazyGreedy(
        world.pool,
        world.teachers,
        theta=world.theta,
        information=world.information,
        judged=world.judged,
        budget=world.budget,
    ).picks(size)


def pairs(picks: list[Pick]) -> list[tuple[int, int]]:
    return [(pick.comparison, pick.teacher) for pick in picks]


def test_a_batch_worked_by_hand() -> None:
    """theta = 0, w = 1/4. z = (2, 0) has q = 4, gain log 2, and leaves q = 2 along itself; then (1.5, 0) has
    q = 1.125 against 1 for (0, 1), so it goes second, and (0, 1) last."""
    picks = select(
        pool_of([0, 1], [2, 0], [1.5, 0]),
        ONE,
        theta=np.zeros(2),
        information=np.eye(2),
        size=5,
        rng=np.random.default_rng(0),
    )
    assert [pick.comparison for pick in picks] == [1, 2, 0]
    assert picks[0].uncertainty == pytest.approx(4.0)
    assert picks[0].weight == pytest.approx(0.25)
    assert picks[0].gain == pytest.approx(math.log(2.0))
    assert picks[1].uncertainty == pytest.approx(1.125)
    assert picks[2].gain == pytest.approx(math.log(1.25))


@pytest.mark.parametrize("choose", [plain, lazy])
def test_every_pick_is_the_best_of_all_pairs_by_slogdet(choose: object) -> None:
    """Three hundred worlds; the pick's true gain per cost is the largest, and the batch ends only when none is left."""
    assert callable(choose)
    for seed in range(300):
        world = random_world(seed)
        for pick in choose(world):
            table = log_gains(world)
            assert eligible(world)[pick.comparison, pick.teacher], seed
            chosen = math.log(pick.gain / world.teachers.cost[pick.teacher]) if pick.gain > 0 else -math.inf
            if table.max() > -20.0:  # below, slogdet's own rounding decides
                assert table[pick.comparison, pick.teacher] >= table.max() - 1e-6, seed
                assert chosen == pytest.approx(table[pick.comparison, pick.teacher], abs=1e-6), seed
            world = spend(world, pick)
        if len(choose(random_world(seed))) < 8:
            assert log_gains(world).max() < -20.0, seed


def test_lazy_picks_are_the_plain_ones_pick_by_pick() -> None:
    for seed in range(300, 600):
        world = random_world(seed, candidates=60)
        expected, found = plain(world, 20), lazy(world, 20)
        assert pairs(found) == pairs(expected), seed
        np.testing.assert_allclose([p.gain for p in found], [p.gain for p in expected], rtol=1e-9)


def test_lazy_picks_are_the_plain_ones_in_a_pool_of_many_levels() -> None:
    rng = np.random.default_rng(5)
    m, d, k = 6000, 12, 9
    world = World(
        pool=Pool(rng.normal(size=(m, d)).astype(np.float32), rng.integers(0, 3, m), np.full(m, 2)),
        teachers=Teachers(
            np.exp(rng.normal(size=(k, 3))), rng.choice([1.0, 1.5], k), np.full(k, 25), np.ones((k, 3), dtype=np.bool_)
        ),
        theta=rng.normal(size=d),
        information=np.eye(d),
        judged=np.empty((0, 2), dtype=np.int64),
        budget=None,
    )
    expected = [replace(p) for p in plain_view(world, 225)]
    found = lazy(world, 300)
    assert pairs(found) == pairs(expected)
    assert len(found) == 225  # capacity is used up


def plain_view(world: World, size: int) -> list[Pick]:
    """The eager greedy of the test's own: best value of every row from fresh q after each pick."""
    picks: list[Pick] = []
    q = np.einsum("ij,jk,ik->i", world.pool.design.astype(float), np.linalg.inv(world.information), world.pool.design)
    gap = np.abs(world.pool.design.astype(float) @ world.theta)
    rho = world.teachers.rationality[:, world.pool.category].T
    u = rho * gap[:, None]
    w = rho**2 * np.exp(-u) / np.square(1 + np.exp(-u))  # (m, k)
    h, capacity, room = world.information.copy(), world.teachers.capacity.copy(), world.pool.room.copy()
    asked = np.zeros_like(w, dtype=bool)
    for _ in range(size):
        value = np.log1p(w * q[:, None]) / world.teachers.cost
        value[asked | (room <= 0)[:, None] | (capacity <= 0)[None, :]] = -1.0
        i, t = np.unravel_index(np.argmax(value), value.shape)
        z = world.pool.design[i].astype(float)
        picks.append(Pick(int(i), int(t), float(q[i]), float(gap[i]), float(rho[i, t]), float(w[i, t]), 0.0))
        h += w[i, t] * np.outer(z, z)
        q = np.einsum("ij,ij->i", world.pool.design.astype(float) @ np.linalg.inv(h), world.pool.design)
        capacity[t] -= 1
        room[i] -= 1
        asked[i, t] = True
    return picks


def test_offers_in_flight_count_and_are_not_asked_again() -> None:
    pool = pool_of([2, 0], [0, 1.9], room=3)
    arguments = {"theta": np.zeros(2), "size": 1, "rng": np.random.default_rng(0)}
    free = select(pool, ONE, information=np.eye(2), **arguments)  # type: ignore[arg-type]
    assert free[0].comparison == 0
    busy = select(pool, ONE, information=np.eye(2), in_flight=np.array([[0, 0]]), **arguments)  # type: ignore[arg-type]
    assert busy[0].comparison == 1
    h = planned_information(np.eye(2), design=pool.design[:1].astype(float), weight=np.array([0.25]))
    same = select(pool, ONE, information=h, judged=np.array([[0, 0]]), **arguments)  # type: ignore[arg-type]
    assert asdict(busy[0]) == asdict(same[0])


def test_a_cheap_teacher_beats_a_better_one_when_the_gain_per_cost_says_so() -> None:
    teachers = Teachers(np.array([[3.0], [1.0]]), np.array([20.0, 1.0]), np.array([9, 9]), np.ones((2, 1), np.bool_))
    for choose in (plain, lazy):
        world = World(
            pool_of([1.0, 0]), teachers, np.zeros(2), np.eye(2), np.empty((0, 2), dtype=np.int64), budget=None
        )
        assert choose(world, 1)[0].teacher == 1
        assert choose(replace(world, teachers=replace(teachers, cost=np.ones(2))), 1)[0].teacher == 0


def test_the_budget_is_never_passed() -> None:
    for seed in range(0, 60, 3):
        world = random_world(seed)
        spent = sum(world.teachers.cost[p.teacher] for p in lazy(world, 30))
        assert world.budget is not None
        assert spent <= world.budget


def test_ties_go_to_the_smaller_comparison_then_the_smaller_teacher() -> None:
    teachers = Teachers(np.ones((3, 1)), np.ones(3), np.array([1, 1, 1]), np.ones((3, 1), dtype=np.bool_))
    world = World(
        pool_of([1, 0], [-1, 0], [1, 0], room=2),
        teachers,
        np.array([0.3, 0.0]),
        np.eye(2),
        np.empty((0, 2), dtype=np.int64),
        budget=None,
    )
    for choose in (plain, lazy):
        assert pairs(choose(world, 3)) == [(0, 0), (0, 1), (1, 2)]


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000), st.integers(0, 10_000))
def test_permuting_rows_permutes_the_picks(seed: int, shuffle: int) -> None:
    world = without_ties(random_world(seed * 3 + 1))
    order = np.random.default_rng(shuffle).permutation(len(world.pool))
    place = np.argsort(order)
    pool = Pool(world.pool.design[order], world.pool.category[order], world.pool.room[order])
    judged = np.stack([place[world.judged[:, 0]], world.judged[:, 1]], axis=1)
    shuffled = [(int(order[i]), k) for i, k in pairs(lazy(replace(world, pool=pool, judged=judged)))]
    assert shuffled == pairs(lazy(world))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_swapping_the_two_responses_of_a_pair_changes_nothing(seed: int) -> None:
    world = random_world(seed)
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(world.pool)).astype(np.float32)
    swapped = replace(world, pool=replace(world.pool, design=world.pool.design * signs[:, None]))
    assert pairs(lazy(swapped)) == pairs(lazy(world))


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10_000))
def test_doubling_rationality_and_halving_theta_and_quadrupling_h_changes_nothing(seed: int) -> None:
    """Only rho theta is seen: w grows fourfold and q falls fourfold."""
    world = random_world(seed)
    teachers = replace(world.teachers, rationality=2.0 * world.teachers.rationality)
    doubled = replace(world, teachers=teachers, theta=world.theta / 2.0, information=4.0 * world.information)
    expected, found = lazy(world), lazy(doubled)
    assert pairs(found) == pairs(expected)
    np.testing.assert_allclose([p.gain for p in found], [p.gain for p in expected], rtol=1e-9)


def without_ties(world: World) -> World:
    """The same world with rows and rationalities moved a little, so that no two values are equal."""
    rng = np.random.default_rng(7)
    design = world.pool.design + rng.normal(size=world.pool.design.shape).astype(np.float32)
    rationality = world.teachers.rationality * rng.uniform(0.5, 1.5, world.teachers.rationality.shape)
    return replace(
        world,
        pool=replace(world.pool, design=design),
        teachers=replace(world.teachers, rationality=rationality),
        theta=np.clip(world.theta, -3, 3),
    )


def test_a_coin_flipper_and_an_inverter_are_never_chosen() -> None:
    teachers = Teachers(np.array([[0.0], [-5.0]]), np.ones(2), np.array([5, 5]), np.ones((2, 1), dtype=np.bool_))
    world = World(pool_of([1, 0]), teachers, np.zeros(2), np.eye(2), np.empty((0, 2), dtype=np.int64), None)
    assert plain(world) == []
    assert lazy(world) == []


def test_a_plan_replays_from_its_stored_inputs(tmp_path: Path) -> None:
    world = random_world(601, candidates=60)
    arrays = {
        "design": world.pool.design,
        "category": world.pool.category,
        "room": world.pool.room,
        "rationality": world.teachers.rationality,
        "cost": world.teachers.cost,
        "capacity": world.teachers.capacity,
        "may_judge": world.teachers.may_judge,
        "theta": world.theta,
        "information": world.information,
        "judged": world.judged,
    }
    np.savez(tmp_path / "plan.npz", **arrays)  # type: ignore[arg-type]
    stored = np.load(tmp_path / "plan.npz")
    again = World(
        Pool(stored["design"], stored["category"], stored["room"]),
        Teachers(stored["rationality"], stored["cost"], stored["capacity"], stored["may_judge"]),
        stored["theta"],
        stored["information"],
        stored["judged"],
        world.budget,
    )
    assert [asdict(p) for p in lazy(again)] == [asdict(p) for p in lazy(world)]
    for name in ("dual", "uniform", "conversation_only", "teacher_only"):
        runs = [
            select(
                w.pool,
                w.teachers,
                theta=w.theta,
                information=w.information,
                size=5,
                strategy=name,
                rng=np.random.default_rng(9),
            )
            for w in (world, again)
        ]
        assert [asdict(p) for p in runs[0]] == [asdict(p) for p in runs[1]]


def test_nothing_to_choose_from_gives_no_pick() -> None:
    none = np.empty((0, 2), dtype=np.int64)
    empty = Pool(np.empty((0, 2), dtype=np.float32), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64))
    away = replace(ONE, capacity=np.array([0]))
    nobody = Teachers(np.empty((0, 1)), np.empty(0), np.empty(0, np.int64), np.empty((0, 1), np.bool_))
    for choose in (plain, lazy):
        assert choose(World(empty, ONE, np.zeros(2), np.eye(2), none, None)) == []
        assert choose(World(pool_of([1, 0]), away, np.zeros(2), np.eye(2), none, None)) == []
        assert choose(World(pool_of([1, 0]), nobody, np.zeros(2), np.eye(2), none, None)) == []
        assert choose(World(pool_of([0, 0], [0, 0]), ONE, np.ones(2), np.eye(2), none, None)) == []


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_features_that_are_not_finite_are_refused_by_row(bad: float) -> None:
    world = World(
        pool_of([1, 0], [0, bad]), ONE, np.array([1.0, 1.0]), np.eye(2), np.empty((0, 2), dtype=np.int64), None
    )
    for choose in (plain, lazy):
        with pytest.raises(NotFinite, match="comparison 1"):
            choose(world)


def test_an_information_that_is_not_positive_definite_is_refused() -> None:
    world = World(pool_of([1, 0]), ONE, np.zeros(2), np.zeros((2, 2)), np.empty((0, 2), dtype=np.int64), None)
    for choose in (plain, lazy):
        with pytest.raises(NotPositiveDefinite):
            choose(world)


def test_more_features_than_labels_is_no_trouble_with_a_ridge() -> None:
    rng = np.random.default_rng(3)
    world = World(
        Pool(rng.normal(size=(30, 80)).astype(np.float32), np.zeros(30, dtype=np.int64), np.ones(30, dtype=np.int64)),
        ONE,
        rng.normal(size=80) / 9,
        0.1 * np.eye(80),
        np.empty((0, 2), dtype=np.int64),
        None,
    )
    assert pairs(lazy(world, 30)) == pairs(plain(world, 30))


def test_a_strategy_nobody_knows_is_refused_with_the_names() -> None:
    with pytest.raises(ValueError, match="conversation_only"):
        select(
            pool_of([1, 0]),
            ONE,
            theta=np.zeros(2),
            information=np.eye(2),
            size=1,
            strategy="best",
            rng=np.random.default_rng(0),
        )
