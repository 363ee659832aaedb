"""Small random selections with every constraint at once, and the choice by slogdet over every pair."""

from dataclasses import dataclass, replace

import numpy as np

from activelearning.algorithms.types import Bools, Floats, Ints, Pick, Pool, Teachers


@dataclass(frozen=True)
class World:
    pool: Pool
    teachers: Teachers
    theta: Floats
    information: Floats
    judged: Ints
    budget: float | None


def random_world(seed: int, *, candidates: int = 24, most_teachers: int = 6) -> World:
    """Duplicated and zero rows, idle and coin-flipping teachers, costs, capacities, overlap, judged pairs, a budget."""
    rng = np.random.default_rng(seed)
    m, d = int(rng.integers(1, candidates)), int(rng.integers(1, 6))
    k, c = int(rng.integers(1, most_teachers + 1)), int(rng.integers(1, 4))
    design = rng.normal(size=(m, d)).astype(np.float32)
    if seed % 3 == 0:
        design[rng.integers(0, m, m // 3)] = design[0]
    if seed % 5 == 0:
        design[0] = 0.0
    rationality = np.exp(rng.normal(size=(k, c))) * (rng.random((k, c)) < 0.9)
    if seed % 4 == 0:
        rationality = np.ones((k, c))
    if seed % 7 == 0:
        rationality[0] = -1.0
    return World(
        pool=Pool(design, rng.integers(0, c, m), rng.integers(0, 3, m)),
        teachers=Teachers(
            rationality=rationality,
            cost=np.ones(k) if seed % 2 else rng.choice([1.0, 2.0, 3.5], k),
            capacity=rng.integers(0, 4, k),
            may_judge=rng.random((k, c)) < 0.8,
        ),
        theta=rng.normal(size=d) * rng.choice([0.0, 0.1, 1.0, 30.0]),
        information=np.eye(d) * rng.choice([0.01, 1.0, 50.0]),
        judged=np.stack([rng.integers(0, m, 8), rng.integers(0, k, 8)], axis=1),
        budget=None if seed % 3 else float(rng.uniform(0, 15)),
    )


def eligible(world: World) -> Bools:
    """(m, k) by the words of the constraints, one pair at a time."""
    t = world.teachers
    left = np.inf if world.budget is None else world.budget
    judged = {(int(i), int(k)) for i, k in world.judged}
    return np.array(
        [
            [
                world.pool.room[i] > 0
                and t.capacity[k] > 0
                and t.cost[k] <= left
                and t.may_judge[k, world.pool.category[i]]
                and t.rationality[k, world.pool.category[i]] > 0
                and (i, k) not in judged
                for k in range(len(t))
            ]
            for i in range(len(world.pool))
        ]
    )


def log_gains(world: World) -> Floats:
    """(m, k) log of log det(H + w z z') - log det H over cost, each determinant taken afresh."""
    base = np.linalg.slogdet(world.information)[1]
    out = np.full((len(world.pool), len(world.teachers)), -np.inf)
    for i, k in zip(*np.nonzero(eligible(world)), strict=True):
        z = world.pool.design[i].astype(np.float64)
        rho = world.teachers.rationality[k, world.pool.category[i]]
        p = 1.0 / (1.0 + np.exp(min(abs(rho * (z @ world.theta)), 700.0)))
        gain = np.linalg.slogdet(world.information + rho**2 * p * (1.0 - p) * np.outer(z, z))[1] - base
        out[i, k] = np.log(gain / world.teachers.cost[k]) if gain > 0 else -np.inf
    return out


def spend(world: World, pick: Pick) -> World:
    """The world after a pick: H grown, one place taken everywhere."""
    z = world.pool.design[pick.comparison].astype(np.float64)
    room, capacity = world.pool.room.copy(), world.teachers.capacity.copy()
    room[pick.comparison] -= 1
    capacity[pick.teacher] -= 1
    return replace(
        world,
        pool=replace(world.pool, room=room),
        teachers=replace(world.teachers, capacity=capacity),
        information=world.information + pick.weight * np.outer(z, z),
        judged=np.vstack([world.judged, [[pick.comparison, pick.teacher]]]),
        budget=None if world.budget is None else world.budget - float(world.teachers.cost[pick.teacher]),
    )
