"""The simulations: worlds as the methods describe them, campaigns that keep their limits, figures worked by hand."""

import dataclasses

import numpy as np
import pytest

from activelearning.algorithms.information import certificate, label_weight
from activelearning.algorithms.rationality import JointEstimate
from activelearning.algorithms.selection import select
from activelearning.algorithms.simulation import Campaign, Plan, angle_between, policy_regret, run_campaign
from activelearning.algorithms.worlds import reference_world, savings_world, sign_accuracy

PLAN = Plan(strategy="dual", labels=60, first=16, ridge=0.5, ball=2.0, refit_every=2, measure_at=(20, 40, 60))


def test_the_reference_world_is_the_one_described() -> None:
    worlds = [reference_world(np.random.default_rng(seed)) for seed in range(40)]
    assert all(np.linalg.norm(world.theta) == pytest.approx(1) for world in worlds)
    assert worlds[0].pool.design.shape == (400, 8)
    assert worlds[0].policy.shape == (200, 5, 8)
    spread = np.mean([np.var(world.pool.design) for world in worlds])
    assert spread == pytest.approx(2 * 4 / 8, rel=0.02)  # a difference of two responses
    for world in worlds:
        rho = world.teachers.rationality
        assert np.all((np.diag(rho) >= 2.4) & (np.diag(rho) <= 3.6))
        others = rho[~np.eye(5, dtype=bool)]
        assert np.all((others >= 0.24) & (others <= 0.36))


def test_the_savings_world_is_the_one_described() -> None:
    worlds = [savings_world(np.random.default_rng(seed), categories=4) for seed in range(20)]
    assert worlds[0].pool.design.shape == (3000, 10)
    assert np.all(worlds[0].pool.room == 1)
    for world in worlds:
        assert np.std(world.pool.design @ world.theta) == pytest.approx(2.0, rel=1e-4)
    spread = np.mean([np.var(world.pool.design, axis=0) for world in worlds], axis=0)
    np.testing.assert_allclose(spread / spread[0], np.arange(1, 11) ** -0.5, rtol=0.1)
    logs = np.log(np.concatenate([world.teachers.rationality for world in worlds]))
    assert logs.mean() == pytest.approx(-0.3, abs=0.12)
    assert logs.std() == pytest.approx(np.hypot(0.6, 0.6), rel=0.1)


def test_answers_have_the_probability_of_the_model() -> None:
    world = reference_world(np.random.default_rng(0))
    world = dataclasses.replace(world, bias=np.full(5, 0.7))
    generator = np.random.default_rng(1)
    answers = [world.answer(3, 2, side=-1.0, generator=generator) for _ in range(4000)]
    u = world.teachers.rationality[2, world.pool.category[3]] * (world.pool.design[3] @ world.theta) - 0.7
    p = 1 / (1 + np.exp(-u))
    assert np.mean(answers) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 4000))


def test_regret_angle_and_accuracy_worked_by_hand() -> None:
    # One prompt, three responses, rewards 1, 2, 0; the guess prefers the first: regret 1.
    policy = np.array([[[1.0, 0.0], [0.0, 2.0], [0.0, 0.0]]])
    assert policy_regret(policy, np.array([1.0, 1.0]), np.array([1.0, 0.1])) == 1.0
    assert policy_regret(policy, np.array([1.0, 1.0]), np.array([1.0, 1.0])) == 0.0
    assert angle_between(np.array([1.0, 0.0]), np.array([1.0, 1.0])) == pytest.approx(np.pi / 4)
    assert angle_between(np.array([1.0, 0.0]), np.zeros(2)) == pytest.approx(np.pi / 2)
    held_out = np.array([[1.0, 0.0], [0.0, 1.0], [-1.0, 0.5], [2.0, 2.0]])
    assert sign_accuracy(held_out, np.array([1.0, 0.2]), np.array([1.0, -0.1])) == 0.75
    assert sign_accuracy(held_out, np.array([1.0, 0.2]), np.zeros(2)) == 0.5


def test_the_same_seeds_give_the_same_campaign() -> None:
    runs = [
        run_campaign(reference_world(np.random.default_rng(0)), PLAN, generator=np.random.default_rng(1))
        for _ in range(2)
    ]
    assert runs[0] == runs[1]
    assert [measure.labels for measure in runs[0]] == [20, 40, 60]


def test_no_comparison_is_asked_more_often_than_it_may_be() -> None:
    world = savings_world(np.random.default_rng(0), capacity=7)
    plan = Plan(strategy="dual", labels=1000, first=20, ridge=0.5, refit_every=10, measure_at=())
    campaign = Campaign(world, plan, np.random.default_rng(1))
    campaign.run()
    assert len(campaign.outcome) == 15 * 7  # every teacher's capacity, and then nothing is left
    assert np.bincount(campaign.comparison).max() == 1
    assert np.bincount(campaign.teacher).max() == 7


@pytest.mark.parametrize("strategy", ["uniform", "dual"])
def test_a_pair_that_was_not_recorded_is_never_asked(strategy: str) -> None:
    world = reference_world(np.random.default_rng(0))
    recorded = np.random.default_rng(5).random((5, 400)) < 0.04
    world = dataclasses.replace(world, may_ask=recorded)
    plan = dataclasses.replace(PLAN, strategy=strategy, labels=1000, refit_every=20, measure_at=())
    campaign = Campaign(world, plan, np.random.default_rng(1))
    campaign.run()
    pairs = list(zip(campaign.teacher, campaign.comparison, strict=True))
    assert all(recorded[pair] for pair in pairs)
    assert len(pairs) == len(set(pairs)) == recorded.sum()


def test_forced_labels_meet_every_teacher_and_category_twice() -> None:
    world = reference_world(np.random.default_rng(0))
    plan = dataclasses.replace(PLAN, rationality="forced", labels=80, ball=None)
    campaign = Campaign(world, plan, np.random.default_rng(1))
    pairs = campaign.opening()
    cells = np.zeros((5, 5), dtype=int)
    for comparison, teacher in pairs:
        cells[teacher, world.pool.category[comparison]] += 1
    assert np.all(cells == 2)


def test_unknown_rationality_is_estimated_and_drawn() -> None:
    world = reference_world(np.random.default_rng(0))
    plan = dataclasses.replace(PLAN, rationality="thompson", ball=None)
    campaign = Campaign(world, plan, np.random.default_rng(1))
    measures = campaign.run()
    assert isinstance(campaign.fit(), JointEstimate)
    assert all(np.isfinite(dataclasses.astuple(measure)).all() for measure in measures)


@pytest.mark.slow
def test_where_theta_is_known_the_certificate_of_dual_falls_to_one() -> None:
    """Pick by pick on the labels' own information; uniform pairs stay far from the best design."""
    world, rng = reference_world(np.random.default_rng(0)), np.random.default_rng(1)
    gap = np.abs(world.pool.design.astype(float) @ world.theta)
    best = label_weight(gap, world.teachers.rationality[:, world.pool.category]).max(axis=0)
    found = {}
    for strategy in ("dual", "uniform"):
        earned = np.zeros((8, 8))
        for _ in range(400):
            pick = select(
                world.pool,
                world.teachers,
                theta=world.theta,
                information=earned + 1e-3 * np.eye(8),
                size=1,
                rng=rng,
                strategy=strategy,
            )[0]
            row = world.pool.design[pick.comparison].astype(float)
            earned += pick.weight * np.outer(row, row)
        g = certificate(earned, labels=400, candidates=world.pool.design, candidate_weight=best)
        found[strategy] = g / 8
    assert 1.0 <= found["dual"] < 1.02
    assert found["uniform"] > 5


def test_dual_learns_more_than_uniform_from_the_same_labels() -> None:
    plan = dataclasses.replace(PLAN, labels=120, measure_at=(120,))
    finals = {
        strategy: [
            run_campaign(
                reference_world(np.random.default_rng(seed)),
                dataclasses.replace(plan, strategy=strategy),
                generator=np.random.default_rng([seed, 1]),
            )[-1]
            for seed in range(8)
        ]
        for strategy in ("dual", "uniform")
    }
    for figure in ("regret", "angle", "certificate"):
        dual, uniform = (np.mean([getattr(m, figure) for m in finals[s]]) for s in ("dual", "uniform"))
        assert dual < uniform / 2
    assert all(m.certificate >= 1 - 1e-9 for runs in finals.values() for m in runs)
    assert np.mean([m.log_det for m in finals["dual"]]) > np.mean([m.log_det for m in finals["uniform"]]) + 5
