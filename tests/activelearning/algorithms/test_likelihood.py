"""The likelihood: by hand, by finite differences, and under the changes that must not matter."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import approx_fprime

from activelearning.algorithms import likelihood
from activelearning.algorithms.likelihood import curvature, evaluate, label_rationality, log_likelihood, utilities
from activelearning.algorithms.types import Labels
from tests.activelearning.algorithms.planted import plant_labels

THETA = np.array([0.8, -0.5, 0.3])
RHO = np.array([[1.0, 2.0], [0.5, -0.7]])
BIAS = np.array([0.4, -0.2])


def test_three_labels_worked_by_hand() -> None:
    # u = 2, -1, 0; y = 1, 0, tie: log s(2) + log s(1) + log(1/2)
    expected = -np.log1p(np.exp(-2.0)) - np.log1p(np.exp(-1.0)) - np.log(2.0)
    assert log_likelihood(np.array([2.0, -1.0, 0.0]), np.array([1.0, 0.0, 0.5])) == pytest.approx(expected, abs=1e-15)


def test_the_order_shown_turns_the_pull_around() -> None:
    labels = Labels(
        np.array([[1.0], [1.0]]), np.ones(2), np.zeros(2, int), np.zeros(2, int), np.array([1.0, -1.0]), np.ones(2)
    )
    utility = utilities(labels, np.array([2.0]), rho=np.array([0.5, 0.5]), bias=np.array([0.3]))
    np.testing.assert_allclose(utility, [1.3, 0.7])


@pytest.mark.parametrize("ties", [0.0, 0.3])
def test_the_gradient_is_that_of_finite_differences(ties: float) -> None:
    labels = plant_labels(60, theta=THETA, rationality=RHO, bias=BIAS, ties=ties)
    rho = label_rationality(labels, RHO)
    point = np.array([0.2, 0.1, -0.4, 0.3, -0.6])

    def value(x: np.ndarray) -> float:
        return evaluate(labels, x[:3], x[3:], rho=rho)[0]

    _, score, pull = evaluate(labels, point[:3], point[3:], rho=rho)
    np.testing.assert_allclose(np.r_[score, pull], approx_fprime(point, value, 1e-7), rtol=1e-5, atol=1e-5)


def test_the_curvature_is_minus_the_gradients_finite_differences() -> None:
    labels = plant_labels(60, theta=THETA, rationality=RHO, bias=BIAS, ties=0.2, orderless=0.3)
    labels = dataclasses.replace(labels, weight=np.linspace(0.2, 1.5, 60))
    rho, point, step = label_rationality(labels, RHO), np.array([0.2, 0.1, -0.4, 0.3, -0.6]), 1e-5

    def gradient(x: np.ndarray) -> np.ndarray:
        return np.concatenate(evaluate(labels, x[:3], x[3:], rho=rho)[1:])

    hessian = -np.array([(gradient(point + h) - gradient(point - h)) / (2 * step) for h in step * np.eye(5)])
    found = curvature(labels, point[:3], point[3:], rho=rho)
    np.testing.assert_allclose(found.reward, hessian[:3, :3], atol=1e-8)
    np.testing.assert_allclose(found.cross, hessian[:3, 3:], atol=1e-8)
    np.testing.assert_allclose(np.diag(found.pull), hessian[3:, 3:], atol=1e-8)


def test_swapping_a_pair_with_its_label_and_order_changes_nothing() -> None:
    labels = plant_labels(40, theta=THETA, rationality=RHO, bias=BIAS)
    swapped = dataclasses.replace(labels, design=-labels.design, outcome=1 - labels.outcome, side=-labels.side)
    rho = label_rationality(labels, RHO)
    for one, other in zip(evaluate(labels, THETA, BIAS, rho=rho), evaluate(swapped, THETA, BIAS, rho=rho), strict=True):
        np.testing.assert_allclose(one, other, atol=1e-12)


def test_doubling_rationality_and_halving_theta_changes_nothing() -> None:
    labels = plant_labels(40, theta=THETA, rationality=RHO)
    rho, none = label_rationality(labels, RHO), np.zeros(2)
    assert evaluate(labels, THETA, none, rho=rho)[0] == pytest.approx(evaluate(labels, THETA / 2, none, rho=2 * rho)[0])


def test_blocks_and_threads_do_not_change_the_sums(monkeypatch: pytest.MonkeyPatch) -> None:
    labels = plant_labels(500, theta=THETA, rationality=RHO, bias=BIAS)
    rho = label_rationality(labels, RHO)
    whole, whole_curve = evaluate(labels, THETA, BIAS, rho=rho), curvature(labels, THETA, BIAS, rho=rho)
    monkeypatch.setattr(likelihood, "BLOCK_NUMBERS", 1)  # 64 rows, the least
    monkeypatch.setattr(likelihood, "GRAM_NUMBERS", 1)
    monkeypatch.setattr(likelihood, "THREADED_NUMBERS", 1)  # every core
    monkeypatch.setattr(likelihood, "THREADS", 3)
    for one, other in zip(evaluate(labels, THETA, BIAS, rho=rho), whole, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-12)
    np.testing.assert_allclose(curvature(labels, THETA, BIAS, rho=rho).reward, whole_curve.reward, rtol=1e-12)


def test_a_utility_of_a_thousand_is_finite() -> None:
    assert log_likelihood(np.array([1000.0, -1000.0]), np.array([0.0, 0.0])) == pytest.approx(-1000.0)
    labels = plant_labels(10, theta=THETA, rationality=RHO)
    value, score, _ = evaluate(labels, 1e4 * THETA, np.zeros(2), rho=label_rationality(labels, RHO))
    assert np.isfinite(value)
    assert np.all(np.isfinite(score))
