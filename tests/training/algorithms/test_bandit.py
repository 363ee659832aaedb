"""Where coverage is poor greed provably fails, and pessimism does not."""

import numpy as np
import pytest

from training.algorithms.bandit import FEW, GOOD, TRAPS, greedy_failure, play_linear, spring_trap


def test_the_proof_by_hand() -> None:
    # a bad response of reward -1 wins two labels out of two with probability (1 / (1 + e))^2 = 0.0723
    assert greedy_failure(traps=1, few=2, bad=-1.0) == pytest.approx((1 / (1 + np.e)) ** 2)
    assert greedy_failure() == pytest.approx(1 - (1 - 0.07232949) ** TRAPS, rel=1e-6)
    assert FEW == 2


def test_greed_falls_into_the_trap_however_many_labels_there_are_and_pessimism_does_not() -> None:
    for labels in (1000, 4000):
        outcomes = [spring_trap(labels, np.random.default_rng(seed)) for seed in range(60)]
        failed = np.mean([outcome.greedy > GOOD for outcome in outcomes])
        assert failed > greedy_failure() - 3 * np.sqrt(0.05 * 0.95 / 60)
        assert max(outcome.pessimistic for outcome in outcomes) == 0.0


def test_with_few_labels_pessimism_stays_with_the_reference() -> None:
    outcomes = [spring_trap(30, np.random.default_rng(seed)) for seed in range(20)]
    assert {outcome.pessimistic for outcome in outcomes} == {GOOD}


def test_labelling_the_bad_responses_frees_greed() -> None:
    outcomes = [spring_trap(1000, np.random.default_rng(seed), few=200) for seed in range(20)]
    assert max(outcome.greedy for outcome in outcomes) == 0.0


def test_without_traps_both_learn_and_greed_is_ahead() -> None:
    """The honest other half: rewards symmetric around the reference, so caution only costs."""
    found = {
        labels: [play_linear(labels, 1.0, np.random.default_rng(seed)) for seed in range(30)] for labels in (200, 3200)
    }
    greedy, careful = (
        {labels: np.mean([getattr(outcome, name) for outcome in outcomes]) for labels, outcomes in found.items()}
        for name in ("greedy", "pessimistic")
    )
    assert greedy[3200] < greedy[200] / 8  # about 1/T: second order in the error
    assert careful[3200] < careful[200] / 8
    assert greedy[200] < careful[200]
