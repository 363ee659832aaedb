"""The reward MLE: against scipy and scikit-learn, by hand, on the ball, warm, and at every edge."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import brentq, minimize
from sklearn.linear_model import LogisticRegression

from activelearning.algorithms.estimation import DidNotConverge, NotIdentified, covariance, fit, take
from activelearning.algorithms.information import fisher_information
from activelearning.algorithms.likelihood import evaluate, label_rationality
from activelearning.algorithms.types import Labels
from tests.activelearning.algorithms.planted import plant_labels

THETA = np.array([1.0, -0.8, 0.5, 0.0, 0.3, -1.2])
RHO = np.array([[1.0, 2.0], [0.4, 0.7], [1.5, 0.2]])


def hand_labels(design: list[list[float]], outcome: list[float]) -> Labels:
    count = len(outcome)
    zeros, ones = np.zeros(count, dtype=np.int64), np.ones(count)
    return Labels(np.array(design).reshape(count, -1), np.array(outcome), zeros, zeros, ones, ones)


def test_one_label_worked_by_hand() -> None:
    # argmax log s(rho t) - ridge/2 t^2: rho (1 - s(rho t)) = ridge t
    root = brentq(lambda t: 2.0 / (1 + np.exp(2.0 * t)) - 0.5 * t, 0, 5)
    found = fit(hand_labels([[1.0]], [1.0]), rationality=np.array([[2.0]]), ridge=0.5)
    assert found.theta[0] == pytest.approx(root, abs=1e-9)
    p = 1 / (1 + np.exp(-2.0 * root))
    assert found.information[0, 0] == pytest.approx(0.5 + 4 * p * (1 - p), rel=1e-9)


def test_it_agrees_with_scikit_learn() -> None:
    labels = plant_labels(400, theta=THETA, rationality=RHO)
    rows = label_rationality(labels, RHO)[:, None] * labels.design
    model = LogisticRegression(solver="newton-cholesky", C=1 / 0.7, fit_intercept=False, tol=1e-12)
    model.fit(rows, labels.outcome)
    np.testing.assert_allclose(fit(labels, rationality=RHO, ridge=0.7).theta, model.coef_[0], atol=1e-7)


@pytest.mark.parametrize("ball", [None, 0.9])
@pytest.mark.parametrize("bias_prior", [None, 0.5])
def test_it_agrees_with_a_general_optimiser(ball: float | None, bias_prior: float | None) -> None:
    labels = plant_labels(150, theta=THETA, rationality=RHO, bias=np.array([0.5, -0.5, 0.0]), ties=0.1)
    labels = dataclasses.replace(labels, weight=np.linspace(0.1, 2, 150))
    rho = label_rationality(labels, RHO)
    unknowns, precision = (6, 0.0) if bias_prior is None else (9, bias_prior**-2)

    def objective(x: np.ndarray) -> tuple[float, np.ndarray]:
        bias = np.r_[x[6:], np.zeros(9 - unknowns)]
        value, score, pull = evaluate(labels, x[:6], bias, rho=rho)
        penalty = 0.2 * x[:6] @ x[:6] + 0.5 * precision * bias @ bias
        return -value + penalty, np.r_[0.4 * x[:6] - score, precision * bias - pull][:unknowns]

    inside = [] if ball is None else [{"type": "ineq", "fun": lambda x: ball**2 - x[:6] @ x[:6]}]
    reference = minimize(
        objective,
        np.zeros(unknowns),
        jac=True,
        method="SLSQP",
        constraints=inside,
        options={"ftol": 1e-14, "maxiter": 500},
    )
    found = fit(labels, rationality=RHO, ridge=0.4, ball=ball, bias_prior=bias_prior)
    np.testing.assert_allclose(np.r_[found.theta, found.bias][:unknowns], reference.x, atol=2e-5)
    assert found.is_on_ball == (ball is not None)


def test_on_the_ball_the_gradient_points_outward() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.1, ball=1.0, tolerance=1e-9)
    score = evaluate(labels, found.theta, np.zeros(3), rho=label_rationality(labels, RHO))[1] - 0.1 * found.theta
    assert np.linalg.norm(found.theta) == pytest.approx(1.0, abs=1e-12)
    multiplier = score @ found.theta
    assert multiplier > 0
    np.testing.assert_allclose(score, multiplier * found.theta, atol=1e-6)


@pytest.mark.parametrize("ball", [None, 1.0])
def test_its_log_likelihood_is_the_one_at_theta_hat(ball: float | None) -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.3, ball=ball, bias_prior=0.5, tolerance=1e-3)
    value = evaluate(labels, found.theta, found.bias, rho=label_rationality(labels, RHO))[0]
    assert found.loglik == pytest.approx(value, abs=1e-6)


def test_its_information_is_the_fisher_information_at_theta_hat() -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.3)
    expected = fisher_information(
        labels.design, theta=found.theta, rationality=label_rationality(labels, RHO), ridge=0.3
    )
    np.testing.assert_allclose(found.information, expected, rtol=1e-10)


def test_no_labels_give_theta_zero_and_the_ridge_alone() -> None:
    found = fit(take(plant_labels(5, theta=THETA, rationality=RHO), slice(0, 0)), rationality=RHO, ridge=0.3)
    np.testing.assert_array_equal(found.theta, np.zeros(6))
    np.testing.assert_array_equal(found.information, 0.3 * np.eye(6))
    assert found.label_count == 0


def test_separable_labels_without_a_ridge_are_refused_by_name() -> None:
    with pytest.raises(NotIdentified, match="separable"):
        fit(hand_labels([[1.0], [2.0], [-1.0]], [1, 1, 0]), rationality=np.ones((1, 1)), ridge=0.0)


def test_separable_labels_with_a_ridge_have_an_estimate() -> None:
    found = fit(hand_labels([[1.0], [2.0], [-1.0]], [1, 1, 0]), rationality=np.ones((1, 1)), ridge=0.5)
    assert 0 < found.theta[0] < 3


def test_fewer_labels_than_features_without_a_ridge_are_refused_by_name() -> None:
    with pytest.raises(NotIdentified, match="span"):
        fit(plant_labels(4, theta=THETA, rationality=RHO), rationality=RHO, ridge=0.0)


def test_labels_that_identify_theta_need_no_ridge() -> None:
    labels = plant_labels(500, theta=0.5 * THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.0, tolerance=1e-9)
    score = evaluate(labels, found.theta, np.zeros(3), rho=label_rationality(labels, RHO))[1]
    np.testing.assert_allclose(score, 0, atol=1e-6)


def test_more_features_than_labels_duplicates_and_zero_rows_stay_finite() -> None:
    labels = plant_labels(4, theta=THETA, rationality=RHO)
    labels.design[1], labels.design[2] = labels.design[0], 0.0
    found = fit(labels, rationality=RHO, ridge=0.5)
    assert np.all(np.isfinite(found.theta))
    without = fit(take(labels, np.array([0, 1, 3])), rationality=RHO, ridge=0.5)
    np.testing.assert_allclose(found.theta, without.theta, atol=1e-7)


def test_too_few_steps_are_an_error_and_not_an_answer() -> None:
    with pytest.raises(DidNotConverge, match="1 steps"):
        fit(plant_labels(100, theta=THETA, rationality=RHO), rationality=RHO, ridge=0.5, max_steps=1)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"design": np.full((5, 6), np.nan)}, "finite"),
        ({"outcome": np.full(5, 1.5)}, "Outcomes"),
        ({"weight": np.full(5, -1.0)}, "Weights"),
        ({"design": np.zeros((4, 6))}, "shape"),
    ],
)
def test_bad_labels_are_refused(change: dict[str, np.ndarray], message: str) -> None:
    labels = dataclasses.replace(plant_labels(5, theta=THETA, rationality=RHO), **change)
    with pytest.raises(ValueError, match=message):
        fit(labels, rationality=RHO, ridge=0.5)


@pytest.mark.parametrize("setting", [{"ridge": -1.0}, {"ridge": np.nan}, {"ball": 0.0}, {"bias_prior": 0.0}])
def test_bad_settings_are_refused(setting: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="ridge"):
        fit(plant_labels(5, theta=THETA, rationality=RHO), rationality=RHO, **{"ridge": 0.5, **setting})  # type: ignore[arg-type]


def test_the_order_of_labels_does_not_matter() -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO)
    shuffled = take(labels, np.random.default_rng(0).permutation(200))
    one, other = (fit(part, rationality=RHO, ridge=0.5, tolerance=1e-9) for part in (labels, shuffled))
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-9)


def test_a_label_of_weight_two_counts_as_two() -> None:
    labels = plant_labels(50, theta=THETA, rationality=RHO)
    heavy = dataclasses.replace(labels, weight=np.r_[2.0, np.ones(49)])
    twice = take(labels, np.r_[0, np.arange(50)])
    one, other = (fit(part, rationality=RHO, ridge=0.5, tolerance=1e-9) for part in (heavy, twice))
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-9)


def test_a_coin_flippers_labels_change_nothing() -> None:
    labels = plant_labels(100, theta=THETA, rationality=RHO)
    rho = np.array([[1.0, 2.0], [0.0, 0.0], [1.5, 0.2]])
    without = take(labels, labels.teacher != 1)
    one, other = (fit(part, rationality=rho, ridge=0.5, tolerance=1e-9) for part in (labels, without))
    np.testing.assert_allclose(one.theta, other.theta, atol=1e-9)


def test_a_warm_refit_lands_where_the_cold_one_does_in_few_passes() -> None:
    theta = np.random.default_rng(0).standard_normal(40) / 3
    labels = plant_labels(20_000, theta=theta, rationality=RHO)
    before = fit(take(labels, slice(0, 19_900)), rationality=RHO, ridge=1.0)
    cold = fit(labels, rationality=RHO, ridge=1.0, tolerance=1e-10)
    warm = fit(labels, rationality=RHO, ridge=1.0, start=before, is_fresh=False, tolerance=1e-4)
    away = warm.theta - cold.theta
    assert np.sqrt(away @ cold.information @ away) < 1e-4
    assert warm.passes == 1  # the new labels alone gave the first step
    spectrum = np.linalg.eigvals(np.linalg.solve(cold.information, warm.information))
    assert np.all(np.abs(spectrum - 1) < 0.05)  # H of the earlier theta plus the new labels


@pytest.mark.parametrize("bias_prior", [None, 0.5])
@pytest.mark.parametrize("ball", [None, 1.0])
def test_a_warm_refit_from_another_ridge_and_many_new_labels_is_the_optimum(
    ball: float | None, bias_prior: float | None
) -> None:
    """The first step takes for granted what does not hold here; those after it look at every label."""
    labels = plant_labels(900, theta=THETA, rationality=RHO)
    before = fit(take(labels, slice(0, 60)), rationality=RHO, ridge=20.0, ball=ball, bias_prior=bias_prior)
    settings = {"ridge": 0.5, "ball": ball, "bias_prior": bias_prior, "tolerance": 1e-9}
    cold = fit(labels, rationality=RHO, **settings)  # type: ignore[arg-type]
    warm = fit(labels, rationality=RHO, start=before, is_fresh=False, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(warm.theta, cold.theta, atol=1e-7)
    np.testing.assert_allclose(warm.bias, cold.bias, atol=1e-7)


def test_it_stops_no_farther_from_the_optimum_than_it_says() -> None:
    labels = plant_labels(2000, theta=THETA, rationality=RHO)
    optimum = fit(labels, rationality=RHO, ridge=0.5, tolerance=1e-12)
    for tolerance in (1e-1, 1e-2, 1e-3, 1e-5):
        found = fit(labels, rationality=RHO, ridge=0.5, tolerance=tolerance)
        away = found.theta - optimum.theta
        assert np.sqrt(away @ optimum.information @ away) <= found.distance <= tolerance


def test_a_warm_refit_takes_teachers_who_joined() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO)
    old = take(labels, labels.teacher < 2)
    joined = take(labels, np.argsort(labels.teacher == 2, kind="stable"))
    before = fit(old, rationality=RHO[:2], ridge=0.5, bias_prior=0.5)
    warm = fit(joined, rationality=RHO, ridge=0.5, bias_prior=0.5, start=before, is_fresh=False)
    cold = fit(joined, rationality=RHO, ridge=0.5, bias_prior=0.5)
    np.testing.assert_allclose(warm.theta, cold.theta, atol=1e-6)
    np.testing.assert_allclose(warm.bias, cold.bias, atol=1e-6)


def test_a_large_cold_fit_by_way_of_a_subsample_is_the_optimum() -> None:
    theta = np.random.default_rng(1).standard_normal(60) / 4
    labels = plant_labels(40_000, theta=theta, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=1.0)
    score = evaluate(labels, found.theta, np.zeros(3), rho=label_rationality(labels, RHO))[1] - found.theta
    assert np.sqrt(score @ np.linalg.solve(found.information, score)) < 1e-6


@pytest.mark.slow
def test_a_million_labels() -> None:
    labels = plant_labels(1_000_000, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.5)
    errors = np.sqrt(np.diag(np.linalg.inv(found.information)))
    assert np.all(np.abs(found.theta - THETA) < 4.5 * errors)
    assert np.max(errors) < 0.004


def test_the_planted_pull_is_found() -> None:
    planted = np.array([1.0, 0.0, -0.7])
    labels = plant_labels(6000, theta=THETA, rationality=RHO, bias=planted)
    found = fit(labels, rationality=RHO, ridge=0.5, bias_prior=1.0)
    assert np.all(np.abs(found.bias - planted) < 3.5 * found.bias_error)
    assert np.all(found.bias_error < 0.1)


def test_the_pulls_error_is_that_of_the_whole_inverse() -> None:
    labels = plant_labels(80, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.5, bias_prior=0.5, tolerance=1e-9)
    rho, step, point = label_rationality(labels, RHO), 1e-5, np.r_[found.theta, found.bias]

    def gradient(x: np.ndarray) -> np.ndarray:
        _, score, pull = evaluate(labels, x[:6], x[6:], rho=rho)
        return np.r_[0.5 * x[:6] - score, 4 * x[6:] - pull]

    hessian = np.array([(gradient(point + h) - gradient(point - h)) / (2 * step) for h in step * np.eye(9)])
    np.testing.assert_allclose(found.bias_error, np.sqrt(np.diag(np.linalg.inv(hessian)))[6:], rtol=1e-5)


def test_without_ties_the_covariance_is_the_inverse_information() -> None:
    labels = plant_labels(100, theta=THETA, rationality=RHO)
    found = fit(labels, rationality=RHO, ridge=0.5)
    np.testing.assert_allclose(covariance(found, labels, rationality=RHO) @ found.information, np.eye(6), atol=1e-9)


def test_not_knowing_the_pulls_is_counted_in_the_covariance() -> None:
    labels = plant_labels(80, theta=THETA, rationality=RHO, orderless=0.2)
    found = fit(labels, rationality=RHO, ridge=0.5, bias_prior=0.5, tolerance=1e-9)
    rho, step, point = label_rationality(labels, RHO), 1e-5, np.r_[found.theta, found.bias]

    def gradient(x: np.ndarray) -> np.ndarray:
        _, score, pull = evaluate(labels, x[:6], x[6:], rho=rho)
        return np.r_[0.5 * x[:6] - score, 4 * x[6:] - pull]

    hessian = np.array([(gradient(point + h) - gradient(point - h)) / (2 * step) for h in step * np.eye(9)])
    whole = np.linalg.inv(hessian)
    np.testing.assert_allclose(covariance(found, labels, rationality=RHO, bias_prior=0.5), whole[:6, :6], atol=1e-7)
    np.testing.assert_allclose(found.bias_error, np.sqrt(np.diag(whole))[6:], rtol=1e-5)


def test_a_teacher_who_was_shown_no_order_has_the_priors_pull() -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO, orderless=1.0)
    found = fit(labels, rationality=RHO, ridge=0.5, bias_prior=0.5)
    np.testing.assert_allclose(found.bias, 0.0, atol=1e-12)
    np.testing.assert_allclose(found.bias_error, 0.5)


def test_with_ties_the_sandwich_has_the_spread_of_repeated_campaigns() -> None:
    one = np.ones((1, 1))
    estimates, claimed, inverse = [], [], []
    for seed in range(200):
        labels = plant_labels(300, theta=np.array([0.8, -0.4]), rationality=one, ties=0.5, seed=seed)
        found = fit(labels, rationality=one, ridge=1e-3)
        estimates.append(found.theta)
        claimed.append(np.diag(covariance(found, labels, rationality=one)))
        inverse.append(np.diag(np.linalg.inv(found.information)))
    spread = np.var(estimates, axis=0, ddof=1)
    np.testing.assert_allclose(np.mean(claimed, axis=0) / spread, 1.0, atol=0.3)
    assert np.all(np.mean(inverse, axis=0) / spread > 1.5)  # a tie surprises less than a Bernoulli answer
