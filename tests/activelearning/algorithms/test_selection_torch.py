"""Where the pool is a torch tensor the picks are the same; on a GPU too, where there is one."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from activelearning.algorithms.lazy import LazyGreedy
from activelearning.algorithms.selection import select
from activelearning.algorithms.torch_greedy import TorchGreedy
from activelearning.algorithms.types import Pool, Teachers
from tests.activelearning.algorithms.worlds import World, random_world

HERE = [
    "cpu",
    pytest.param(
        "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")]
    ),
]


def on(device: str, pool: Pool) -> Pool:
    tensor: Any = torch.from_numpy(pool.design).to(device)
    return replace(pool, design=tensor)


def arguments(world: World) -> dict[str, Any]:
    return {
        "theta": world.theta,
        "information": world.information,
        "judged": world.judged,
        "budget": world.budget,
    }


@pytest.mark.parametrize("device", HERE)
def test_picks_from_a_tensor_are_those_from_an_array(device: str) -> None:
    for seed in range(900, 960):
        world = random_world(seed)
        expected = LazyGreedy(world.pool, world.teachers, **arguments(world)).picks(12)
        found = TorchGreedy(on(device, world.pool), world.teachers, **arguments(world)).picks(12)
        assert [(p.comparison, p.teacher) for p in found] == [(p.comparison, p.teacher) for p in expected], seed
        np.testing.assert_allclose([p.gain for p in found], [p.gain for p in expected], rtol=1e-9)


@pytest.mark.parametrize("device", HERE)
def test_select_goes_where_the_pool_lies_and_through_many_levels(device: str) -> None:
    rng = np.random.default_rng(0)
    m, d, k = 30_000, 10, 8
    pool = Pool(rng.normal(size=(m, d)).astype(np.float32), rng.integers(0, 2, m), np.full(m, 2))
    teachers = Teachers(
        np.exp(rng.normal(size=(k, 2))), rng.choice([1.0, 1.2], k), np.full(k, 30), np.ones((k, 2), np.bool_)
    )
    settings: dict[str, Any] = {"theta": rng.normal(size=d), "information": np.eye(d), "size": 200, "rng": rng}
    expected = select(pool, teachers, **settings)
    found = select(on(device, pool), teachers, **settings)
    assert [(p.comparison, p.teacher) for p in found] == [(p.comparison, p.teacher) for p in expected]
    assert len(found) == 200
