"""Every baseline chooses what its one line says, with the propensity it claims."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

from activelearning.algorithms.information import gram_matrix, uncertainties
from activelearning.algorithms.selection import select
from activelearning.algorithms.strategies import STRATEGIES
from activelearning.algorithms.types import Floats, Pick, Pool, Responses, Teachers

D, M, K = 3, 30, 4
RNG = np.random.default_rng(0)
PHI = RNG.normal(size=(15, D))  # five prompts of three responses, every pair a comparison
PAIRS = np.array([[3 * p + a, 3 * p + b] for p in range(5) for a, b in ((0, 1), (0, 2), (1, 2))] * 2)
POOL = Pool((PHI[PAIRS[:, 0]] - PHI[PAIRS[:, 1]]).astype(np.float32), RNG.integers(0, 2, M), np.ones(M, dtype=np.int64))
RESPONSES = Responses(PHI, PAIRS[:, 0] // 3, PAIRS[:, 0], PAIRS[:, 1], radius=1.5)
TEACHERS = Teachers(
    np.exp(RNG.normal(size=(K, 2))), np.ones(K), np.full(K, 50), np.array([[1, 1], [1, 0], [0, 1], [1, 1]], dtype=bool)
)
THETA: Floats = RNG.normal(size=D)
H = np.eye(D) * 2.0
LABELS = RNG.normal(size=(20, D)) * np.array([3.0, 1.0, 0.2])
ABLE = TEACHERS.may_judge[:, POOL.category].sum(axis=0)  # (m,) eligible teachers


def run(strategy: str, *, size: int = 1, seed: int = 0, pool: Pool = POOL) -> list[Pick]:
    return select(
        pool,
        TEACHERS,
        theta=THETA,
        information=H,
        size=size,
        strategy=strategy,
        rng=np.random.default_rng(seed),
        gram=gram_matrix(LABELS, ridge=0.1),
        responses=RESPONSES,
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_every_strategy_keeps_the_constraints_to_the_last_pick(strategy: str) -> None:
    picks = run(strategy, size=200)
    assert sorted(p.comparison for p in picks) == list(range(M))
    for p in picks:
        assert TEACHERS.may_judge[p.teacher, POOL.category[p.comparison]]
        assert 0.0 < p.propensity <= 1.0
        assert p.gain == pytest.approx(np.log1p(p.weight * p.uncertainty))


def test_uniform_draws_every_pair_alike_and_says_so() -> None:
    total = int(ABLE.sum())
    drawn = Counter((p.comparison, p.teacher) for seed in range(6000) for p in run("uniform", seed=seed))
    assert len(drawn) == total
    assert run("uniform")[0].propensity == 1.0 / total
    expected = 6000 / total
    chi2 = sum((n - expected) ** 2 / expected for n in drawn.values())
    assert chi2 < total + 5 * np.sqrt(2 * total)


def test_uniform_asks_a_coin_flipper_too() -> None:
    """The control arm measures everybody; leaving out whom the estimate thinks poor would bias it."""
    flippers = replace(TEACHERS, rationality=np.zeros((K, 2)))
    pick = select(POOL, flippers, theta=THETA, information=H, size=1, strategy="uniform", rng=np.random.default_rng(0))
    assert len(pick) == 1


def test_uncertainty_takes_the_smallest_gap() -> None:
    pick = run("uncertainty")[0]
    assert pick.gap == pytest.approx(np.abs(POOL.design.astype(float) @ THETA).min())
    assert pick.propensity == 1.0 / ABLE[pick.comparison]


def test_conversation_only_is_d_optimal_for_a_teacher_of_rationality_one() -> None:
    gap, q = np.abs(POOL.design.astype(float) @ THETA), uncertainties(POOL.design, H)
    value = q * np.exp(-gap) / np.square(1 + np.exp(-gap))
    assert value[run("conversation_only")[0].comparison] == pytest.approx(value.max())
    assert len({run("conversation_only", seed=s)[0].teacher for s in range(30)}) > 1


def test_teacher_only_draws_the_comparison_and_takes_the_best_teacher() -> None:
    picks = [run("teacher_only", seed=s)[0] for s in range(60)]
    assert len({p.comparison for p in picks}) > 15
    for p in picks:
        rho = TEACHERS.rationality[:, POOL.category[p.comparison]]
        weight = rho**2 * np.exp(-rho * p.gap) / np.square(1 + np.exp(-rho * p.gap))
        weight[~TEACHERS.may_judge[:, POOL.category[p.comparison]]] = 0.0
        assert p.teacher == int(weight.argmax())
        assert p.propensity == 1.0 / M


def test_apo_looks_at_the_gram_matrix_alone() -> None:
    q = uncertainties(POOL.design, gram_matrix(LABELS, ridge=0.1))
    pick = run("apo")[0]
    assert q[pick.comparison] == pytest.approx(q.max())
    with pytest.raises(ValueError, match="gram"):
        select(POOL, TEACHERS, theta=THETA, information=H, size=1, strategy="apo", rng=np.random.default_rng(0))


def test_best_teacher_asks_the_most_rational_one() -> None:
    pick = run("best_teacher")[0]
    rho = np.where(TEACHERS.may_judge, TEACHERS.rationality, -1)[:, POOL.category[pick.comparison]]
    assert pick.teacher == int(rho.argmax())
    assert pick.comparison == run("conversation_only")[0].comparison


@pytest.mark.parametrize("strategy", ["delta_ucb", "infomax"])
def test_interval_strategies_choose_within_the_prompt(strategy: str) -> None:
    for seed in range(20):
        pick = run(strategy, seed=seed)[0]
        prompt = int(RESPONSES.prompt[pick.comparison])
        phi = PHI[3 * prompt : 3 * prompt + 3]
        phi = phi - phi.mean(axis=0)
        width = 1.5 * np.sqrt(np.einsum("ij,jk,ik->i", phi, np.linalg.inv(H), phi))
        score = phi @ THETA

        def value(i: int, j: int, score: Floats = score, width: Floats = width) -> float:
            if strategy == "infomax":
                return float(width[i] + width[j])
            return float(max(score[i] - score[j], score[j] - score[i]) + width[i] + width[j])

        a, b = PAIRS[pick.comparison] - 3 * prompt
        assert value(a, b) == pytest.approx(max(value(0, 1), value(0, 2), value(1, 2)))
        assert pick.propensity == pytest.approx(1 / 5 / ABLE[pick.comparison])


def test_reverse_thompson_prefers_wide_gaps_and_double_thompson_the_top() -> None:
    """With H large both draws are theta itself: the two best of a prompt, or the best against the worst."""
    order = {p: np.argsort(PHI[3 * p : 3 * p + 3] @ THETA) for p in range(5)}
    for name, second in (("double_thompson", 1), ("drts", 0)):
        for seed in range(10):
            pick = select(
                POOL,
                TEACHERS,
                theta=THETA,
                information=1e12 * np.eye(D),
                size=1,
                strategy=name,
                rng=np.random.default_rng(seed),
                responses=RESPONSES,
            )[0]
            prompt = int(RESPONSES.prompt[pick.comparison])
            assert set(PAIRS[pick.comparison] - 3 * prompt) == {int(order[prompt][2]), int(order[prompt][second])}


def test_a_dueling_strategy_without_responses_is_refused() -> None:
    with pytest.raises(ValueError, match="responses"):
        select(POOL, TEACHERS, theta=THETA, information=H, size=1, strategy="drts", rng=np.random.default_rng(0))
