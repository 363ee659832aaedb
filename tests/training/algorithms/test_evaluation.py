"""Figures about a policy, against planted truths."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest

from activelearning.algorithms.pessimism import ConfidenceSet
from training.algorithms.data import Preference, TrainingData
from training.algorithms.evaluation import best_of_n_curve, compare_choices, coverage, judge_reward, win_rate
from training.algorithms.policy import Choice

UNIT = ConfidenceSet(np.array([1.0]), np.array([[1.0]]), 2.0)


def label(gap: float, *, target: float = 1.0, rationality: float = 1.0) -> Preference:
    return Preference("c", [], [], [], np.array([gap]), np.array([0.0]), rationality=rationality, target=target)


def test_held_out_figures_worked_by_hand() -> None:
    figures = judge_reward(UNIT, [label(2.0), label(-1.0), label(0.5, rationality=2.0), label(1.0, target=0.5)])
    losses = [math.log(1 + math.exp(-u)) for u in (2.0, -1.0, 1.0)]
    tie = 0.5 * math.log(1 + math.exp(-1.0)) + 0.5 * math.log(1 + math.exp(1.0))
    assert figures["labels"] == 4
    assert figures["accuracy"] == pytest.approx(2 / 3)
    assert figures["log_loss"] == pytest.approx((sum(losses) + tie) / 4)


def test_swapping_pairs_and_their_labels_changes_no_figure() -> None:
    rows = [label(gap) for gap in (2.0, -0.3, 1.4, -2.2)]
    swapped = [
        replace(row, chosen_features=row.rejected_features, rejected_features=row.chosen_features, target=0.0)
        for row in rows
    ]
    assert judge_reward(UNIT, rows) == judge_reward(UNIT, swapped)


def test_a_reward_that_generated_the_labels_is_calibrated() -> None:
    rng = np.random.default_rng(0)
    gaps = rng.normal(scale=1.5, size=20_000)
    wins = rng.random(20_000) < 1 / (1 + np.exp(-gaps))
    rows = [label(gap if win else -gap) for gap, win in zip(gaps, wins, strict=True)]
    assert judge_reward(UNIT, rows)["calibration"] < 0.015
    overconfident = ConfidenceSet(np.array([5.0]), np.array([[1.0]]), 1.0)
    assert judge_reward(overconfident, rows)["calibration"] > 0.1
    assert judge_reward(overconfident, rows)["accuracy"] == judge_reward(UNIT, rows)["accuracy"]


def test_what_a_ranking_implies_counts_as_one_label_and_errs_together() -> None:
    """Of a ranking of three two pairs are foretold, weighing 2/3 each, and one is not; of two plain labels both."""
    ranking = [replace(label(gap), weight=2 / 3, label="7", conversation="r") for gap in (2.0, 1.0, -1.0)]
    plain = [replace(label(3.0), conversation=name) for name in "ab"]
    figures = judge_reward(UNIT, [*ranking, *plain])
    accuracy = (2 * 2 / 3 + 2) / 4
    assert figures["labels"] == 3
    assert figures["accuracy"] == pytest.approx(accuracy)
    of_ranking = 2 / 3 * (2 * (1 - accuracy) - accuracy)
    assert figures["accuracy_error"] == pytest.approx(math.sqrt(of_ranking**2 + 2 * (1 - accuracy) ** 2) / 4)
    losses = [math.log(1 + math.exp(-gap)) for gap in (2.0, 1.0, -1.0)]
    assert figures["log_loss"] == pytest.approx((2 / 3 * sum(losses) + 2 * math.log(1 + math.exp(-3))) / 4)
    assert sum(held for _, _, held in figures["reliability"]) == pytest.approx(4)


def test_labels_of_many_conversations_have_the_error_of_a_share() -> None:
    rows = [replace(label(gap), conversation=str(number)) for number, gap in enumerate((2.0, -1.0, 1.0, 0.5, -2.0))]
    assert judge_reward(UNIT, rows)["accuracy_error"] == pytest.approx(math.sqrt(0.6 * 0.4 / 5))


def test_no_held_out_labels_is_said() -> None:
    assert judge_reward(UNIT, []) == {"labels": 0}


def test_a_win_rate_counts_ties_half() -> None:
    assert win_rate(np.array([[1.0, 3.0]]), np.array([[1.0, 2.0]])) == pytest.approx((0.5 + 0 + 1 + 1) / 4)
    scores = np.random.default_rng(1).normal(size=(5, 7))
    assert win_rate(scores, scores) == pytest.approx(0.5)
    assert win_rate(scores, scores - 100) == 1.0


def test_best_of_n_is_the_expected_maximum_over_all_subsets() -> None:
    rng = np.random.default_rng(2)
    means, lowers = rng.normal(size=(3, 5)), rng.normal(size=(3, 5))
    points = {point["n"]: point for point in best_of_n_curve(means, lowers)}
    assert set(points) == {1, 2, 4, 5}
    for n in (2, 4):
        subsets = list(itertools.combinations(range(5), n))
        picks = [[max(subset, key=lambda a, row=row: means[row, a]) for subset in subsets] for row in range(3)]
        assert points[n]["greedy_mean"] == pytest.approx(np.mean([means[row, picks[row]] for row in range(3)]))
        assert points[n]["greedy_lower"] == pytest.approx(np.mean([lowers[row, picks[row]] for row in range(3)]))
        assert points[n]["kl"] == pytest.approx(math.log(n) - (n - 1) / n)
    assert points[1]["greedy_mean"] == pytest.approx(means.mean())
    assert points[5]["pessimistic_lower"] == pytest.approx(lowers.max(axis=1).mean())


def test_coverage_points_at_the_answer_nobody_labelled() -> None:
    confidence = ConfidenceSet(np.zeros(2), np.diag([100.0, 1.0]), 3.0)
    labelled = np.array([[1.0, 0.0], [-1.0, 0.0], [0.5, 0.0]])
    answers = np.array([[0.9, 0.0], [0.0, 1.0]])
    report = coverage(confidence, answers, conversations=["known", "new"], labelled=labelled)
    assert report["outside"] == 0.5
    assert report["beyond"] == 0.5
    assert report["worst"][0][0] == "new"
    assert report["worst"][0][1] == pytest.approx(1.0 / 0.1)
    assert report["penalty"] == pytest.approx(3.0 * (0.09 + 1.0) / 2)


def test_a_choice_against_a_uniform_draw_by_hand(data: TrainingData) -> None:
    choice = Choice(
        conversation="c",
        names=["a", "b"],
        responses=[[{"role": "assistant", "content": "four"}], [{"role": "assistant", "content": "eightish"}]],
        offsets=np.array([[1.0], [-1.0]]),
        index=0,
    )
    figures = compare_choices(UNIT, [choice])
    assert figures["reward_gain"] == pytest.approx(1.0)
    assert figures["win_rate"] == pytest.approx(0.75)
    assert figures["win_rate_lower"] == pytest.approx(0.75)
    assert figures["kl"] == pytest.approx(math.log(2))
    assert (figures["characters"], figures["reference_characters"]) == (4, 6)
