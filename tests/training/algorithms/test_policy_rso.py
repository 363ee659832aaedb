"""Rejection sampling gives the Gibbs policy."""

import numpy as np
import pytest

from training.algorithms.policy_rso import accept, pair


def test_accepted_samples_follow_the_gibbs_policy() -> None:
    rng = np.random.default_rng(0)
    reward, reference, kl_weight = np.array([0.0, 0.5, 1.0]), np.array([0.5, 0.3, 0.2]), 0.7
    counts = np.zeros(3)
    for _ in range(3000):
        draws = np.append(rng.choice(3, size=8, p=reference), 2)  # the maximum is among the scores, as the bound asks
        kept = accept(reward[draws], kl_weight=kl_weight, rng=rng)[:-1]
        counts += np.bincount(draws[:-1][kept], minlength=3)
    gibbs = reference * np.exp(reward / kl_weight)
    gibbs /= gibbs.sum()
    shares = counts / counts.sum()
    error = np.sqrt(gibbs * (1 - gibbs) / counts.sum())
    assert np.abs(shares - gibbs).max() < 4 * error.max()
    assert np.abs(reference - gibbs).max() > 20 * error.max()  # the reference itself would not pass


def test_the_best_is_always_kept_and_a_tiny_weight_keeps_nothing_else() -> None:
    scores = np.array([0.0, 3.0, 2.9])
    kept = accept(scores, kl_weight=1e-4, rng=np.random.default_rng(1))
    assert kept.tolist() == [False, True, False]
    assert accept(scores, kl_weight=1e9, rng=np.random.default_rng(1)).all()


def test_a_shift_of_all_scores_changes_nothing() -> None:
    scores = np.random.default_rng(2).normal(size=50)
    plain = accept(scores, kl_weight=0.3, rng=np.random.default_rng(3))
    shifted = accept(scores + 1000.0, kl_weight=0.3, rng=np.random.default_rng(3))
    assert (plain == shifted).all()


@pytest.mark.parametrize(
    ("scores", "kept", "pairs"),
    [
        ([1.0, 0.0, 2.0], [True, False, True], [(0, 1), (2, 1)]),
        ([1.0, 1.0], [True, True], []),
        ([3.0, 1.0], [True, True], [(0, 1)]),
    ],
)
def test_pairs_set_each_kept_sample_against_the_worst(
    scores: list[float], kept: list[bool], pairs: list[tuple[int, int]]
) -> None:
    assert pair(np.array(scores), np.array(kept)) == pairs
