"""Calibration on control labels: planted calibration, planted overconfidence, hand-worked scores."""

from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from activelearning.algorithms.calibration import calibrate, equal_groups, error_by_chance, predict, resampled_sums
from activelearning.algorithms.estimation import fit, take
from activelearning.algorithms.types import Floats
from tests.activelearning.algorithms.planted import plant_labels


def plant_predictions(count: int, *, stretch: float, seed: int = 0) -> tuple[Floats, Floats]:
    """Answers drawn at log odds u; predictions made at stretch * u."""
    generator = np.random.default_rng(seed)
    u = generator.normal(0, 1.5, size=count)
    outcome = (generator.random(count) < 1 / (1 + np.exp(-u))).astype(float)
    return 1 / (1 + np.exp(-stretch * u)), outcome


def test_four_labels_worked_by_hand() -> None:
    found = calibrate(
        np.array([0.9, 0.2, 0.6, 0.7]), np.array([1.0, 0.0, 0.0, 0.5]), generator=np.random.default_rng(0)
    )
    assert found.accuracy.value == pytest.approx(2.5 / 4)  # right, right, wrong, a tie
    expected = -np.mean([np.log(0.9), np.log(0.8), np.log(0.4), 0.5 * (np.log(0.7) + np.log(0.3))])
    assert found.log_loss.value == pytest.approx(expected)
    assert found.ties == 1
    # one bin: predicted (0.9 + 0.8 + 0.6 + 0.7) / 4, observed 2.5 / 4
    assert found.error.value == pytest.approx(0.75 - 0.625)


def test_the_log_loss_is_scikit_learns() -> None:
    probability, outcome = plant_predictions(300, stretch=1.3)
    found = calibrate(probability, outcome, generator=np.random.default_rng(0))
    assert found.log_loss.value == pytest.approx(log_loss(outcome, probability))


def test_calibrated_predictions_err_as_noise_does() -> None:
    found = calibrate(*plant_predictions(4000, stretch=1.0), generator=np.random.default_rng(0))
    assert found.error.value is not None
    assert found.chance_error is not None
    assert found.error.value < 2 * found.chance_error
    hits = [b.observed.low <= b.predicted <= b.observed.high for b in found.curve]  # type: ignore[operator]
    assert sum(hits) >= 8


def test_planted_overconfidence_is_found_and_measured() -> None:
    probability, outcome = plant_predictions(20_000, stretch=3.0)
    found = calibrate(probability, outcome, generator=np.random.default_rng(0))
    u = np.random.default_rng(1).normal(0, 1.5, size=400_000)
    planted = np.mean(1 / (1 + np.exp(-3 * np.abs(u))) - 1 / (1 + np.exp(-np.abs(u))))
    assert found.error.low is not None
    assert found.error.high is not None
    assert found.error.low < planted < found.error.high
    assert all(b.predicted > b.observed.value for b in found.curve[1:])  # type: ignore[operator]


def test_the_errors_interval_is_that_of_drawing_labels_anew() -> None:
    for count, stretch in ((60, 1.0), (400, 3.0)):
        probability, outcome = plant_predictions(count, stretch=stretch)
        sure = np.maximum(probability, 1 - probability)
        surprise = np.where(probability > 0.5, outcome, 1 - outcome) - sure
        groups = equal_groups(sure, min(10, count // 10))
        rng = np.random.default_rng(1)
        drawn = []
        for _ in range(4000):
            rows = rng.integers(count, size=count)
            drawn.append([surprise[rows[np.isin(rows, group)]].sum() for group in groups])
        expected = np.abs(np.array(drawn)).sum(axis=1) / count
        found = np.abs(resampled_sums(surprise, groups, generator=rng)).sum(axis=1) / count
        for share in (2.5, 50, 97.5):
            assert np.percentile(found, share) == pytest.approx(np.percentile(expected, share), rel=0.12)


def test_the_error_by_chance_is_that_of_answers_drawn_from_their_predictions() -> None:
    for count in (30, 600):
        probability, _ = plant_predictions(count, stretch=1.0)
        sure = np.maximum(probability, 1 - probability)
        groups, rng = equal_groups(sure, min(10, count // 10)), np.random.default_rng(1)
        answers = rng.random((4000, count)) < sure
        noise = [np.abs([np.sum(row[group] - sure[group]) for group in groups]).sum() / count for row in answers]
        assert error_by_chance(sure, groups) == pytest.approx(np.mean(noise), rel=0.05)


class Counting(np.random.Generator):
    """It knows how many numbers were drawn from it."""

    drawn = 0

    def integers(self, *args: Any, **rest: Any) -> Any:
        return self._count(super().integers(*args, **rest))

    def random(self, *args: Any, **rest: Any) -> Any:
        return self._count(super().random(*args, **rest))

    def multivariate_normal(self, *args: Any, **rest: Any) -> Any:
        return self._count(super().multivariate_normal(*args, **rest))

    def _count(self, found: Any) -> Any:
        self.drawn += np.size(found)
        return found


def test_twenty_times_the_labels_take_no_more_numbers_drawn() -> None:
    drawn = []
    for count in (1_000, 20_000):
        generator = Counting(np.random.PCG64(0))
        calibrate(*plant_predictions(count, stretch=1.0), generator=generator)
        drawn.append(generator.drawn)
    assert drawn[0] == drawn[1] > 0


def test_turning_every_comparison_around_changes_no_score() -> None:
    probability, outcome = plant_predictions(500, stretch=1.5)
    one, other = (
        calibrate(p, y, generator=np.random.default_rng(0))
        for p, y in ((probability, outcome), (1 - probability, 1 - outcome))
    )
    assert one.accuracy == other.accuracy
    assert one.log_loss.value == pytest.approx(other.log_loss.value)
    assert one.error.value == pytest.approx(other.error.value)


def test_an_even_prediction_is_half_right() -> None:
    found = calibrate(np.full(20, 0.5), np.ones(20), generator=np.random.default_rng(0))
    assert found.accuracy.value == 0.5


def test_a_sure_and_wrong_prediction_has_a_finite_loss() -> None:
    found = calibrate(np.array([1.0, 0.0]), np.array([0.0, 1.0]), generator=np.random.default_rng(0))
    assert found.log_loss.value == pytest.approx(-np.log(1e-12), rel=1e-3)


def test_no_control_labels_are_explained() -> None:
    found = calibrate(np.array([]), np.array([]), generator=np.random.default_rng(0))
    assert found.accuracy.value is None
    assert "control" in found.accuracy.reason
    assert found.curve == []


def test_probabilities_outside_zero_and_one_are_refused() -> None:
    with pytest.raises(ValueError, match="between 0 and 1"):
        calibrate(np.array([1.2]), np.array([1.0]), generator=np.random.default_rng(0))


def test_bins_have_equal_sizes_and_hold_everyone() -> None:
    groups = equal_groups(np.random.default_rng(0).random(103), 10)
    assert {len(g) for g in groups} == {10, 11}
    assert sorted(np.concatenate(groups).tolist()) == list(range(103))


def test_predictions_of_the_preceding_estimate_count_the_order_shown() -> None:
    rho, theta, bias = np.array([[1.0, 2.0]]), np.array([1.0, -1.0]), np.array([0.8])
    labels = plant_labels(3000, theta=theta, rationality=rho, bias=bias)
    before = fit(take(labels, slice(0, 2000)), rationality=rho, ridge=0.5, bias_prior=1.0)
    control = take(labels, slice(2000, None))
    with_order = predict(control, theta=before.theta, rationality=rho, bias=before.bias)
    without = predict(control, theta=before.theta, rationality=rho)
    generator = np.random.default_rng(0)
    known, blind = (calibrate(p, control.outcome, generator=generator) for p in (with_order, without))
    assert known.log_loss.value < blind.log_loss.value  # type: ignore[operator]
    u = rho[0, control.category] * (control.design @ theta) + control.side * 0.8
    np.testing.assert_allclose(with_order, 1 / (1 + np.exp(-u)), atol=0.1)
