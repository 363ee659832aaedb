"""Reward and rationality together: against dense algebra, planted teachers, and intervals that cover."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import minimize

from activelearning.algorithms.arrow import Arrow
from activelearning.algorithms.estimation import take
from activelearning.algorithms.information import fisher_information
from activelearning.algorithms.joint import JointProblem
from activelearning.algorithms.likelihood import label_rationality
from activelearning.algorithms.rationality import JointEstimate, RationalityPrior, fit_jointly
from activelearning.algorithms.types import Floats, Labels
from tests.activelearning.algorithms.planted import plant_labels

THETA = np.array([1.5, -1.0, 0.5, 1.0])
RHO = np.array([[1.5, 1.2], [0.6, 1.0], [0.0, 0.0], [-0.9, -1.1], [1.3, 0.7]])
BIAS = np.array([0.4, 0.0, -0.3, 0.2, 0.0])
PRIOR = RationalityPrior(between=0.9, within=0.4, pull=0.5)


def dense(arrow: Arrow) -> Floats:
    """The whole matrix of an arrow."""
    d, (k, _, q) = arrow.reward.shape[0], arrow.cross.shape
    whole = np.zeros((d + k * q, d + k * q))
    whole[:d, :d] = arrow.reward
    for teacher in range(k):
        rows = slice(d + q * teacher, d + q * (teacher + 1))
        whole[:d, rows], whole[rows, :d] = arrow.cross[teacher], arrow.cross[teacher].T
        whole[rows, rows] = arrow.teacher[teacher]
    return whole


def problem(labels: Labels, prior: RationalityPrior = PRIOR, ridge: float = 0.7) -> JointProblem:
    return JointProblem(labels, prior, prior.precision(2), ridge)


def split(x: Floats) -> tuple[Floats, Floats]:
    return x[:4], x[4:].reshape(5, 3)


def test_its_gradient_and_hessian_are_those_of_finite_differences() -> None:
    labels = plant_labels(120, theta=THETA, rationality=RHO, bias=BIAS, ties=0.2, orderless=0.3)
    joint, point, step = problem(labels), np.random.default_rng(0).normal(0.3, 0.5, size=19), 1e-5

    def value(x: Floats) -> float:
        return joint.value(*split(x))[0]

    def gradient(x: Floats) -> Floats:
        _, _, reward, teachers = joint.value(*split(x))
        return np.r_[reward, teachers.ravel()]

    slopes = [(value(point + h) - value(point - h)) / (2 * step) for h in step * np.eye(19)]
    np.testing.assert_allclose(gradient(point), slopes, atol=1e-7)
    hessian = np.array([(gradient(point + h) - gradient(point - h)) / (2 * step) for h in step * np.eye(19)])
    np.testing.assert_allclose(dense(joint.arrow(*split(point), kind="observed")), hessian, atol=1e-7)


def test_the_hierarchy_is_the_joint_prior_with_rho_k_integrated_out() -> None:
    covariance = 0.4**2 * np.eye(3) + 0.9**2 * np.ones((3, 3))
    np.testing.assert_allclose(PRIOR.precision(3)[:3, :3], np.linalg.inv(covariance), rtol=1e-10)


def test_eliminating_the_teachers_is_the_schur_complement_of_the_whole() -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO, bias=BIAS)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    point = found.theta, np.c_[found.rationality, found.bias]
    whole = dense(problem(labels).arrow(*point, kind="observed"))
    schur = whole[:4, :4] - whole[:4, 4:] @ np.linalg.solve(whole[4:, 4:], whole[4:, :4])
    np.testing.assert_allclose(found.marginal_information, schur, rtol=1e-9)
    inverse = np.linalg.inv(whole)
    np.testing.assert_allclose(found.covariance, inverse[:4, :4], rtol=1e-8)
    np.testing.assert_allclose(found.rationality_covariance[3], inverse[13:16, 13:16], rtol=1e-8)


def test_with_ties_the_errors_are_the_sandwich_of_the_whole() -> None:
    labels = plant_labels(200, theta=THETA, rationality=RHO, bias=BIAS, ties=0.3)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    point = found.theta, np.c_[found.rationality, found.bias]
    inverse = np.linalg.inv(dense(problem(labels).arrow(*point, kind="observed")))
    sandwich = inverse @ dense(problem(labels).arrow(*point, kind="squared")) @ inverse
    np.testing.assert_allclose(found.covariance, sandwich[:4, :4], rtol=1e-8)
    np.testing.assert_allclose(found.rationality_covariance[1], sandwich[7:10, 7:10], rtol=1e-8)


def test_the_mode_is_that_of_a_general_optimiser() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO, bias=BIAS)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR, tolerance=1e-8)
    joint = dataclasses.replace(problem(labels), ridge=found.scale_ridge)

    def objective(x: Floats) -> tuple[float, Floats]:
        value, _, reward, teachers = joint.value(*split(x))
        return value, np.r_[reward, teachers.ravel()]

    start = np.r_[np.zeros(4), np.tile([1.0, 1.0, 0.0], 5)]
    reference = minimize(objective, start, jac=True, method="BFGS", options={"gtol": 1e-8})
    np.testing.assert_allclose(found.theta, reference.x[:4], atol=1e-5)
    np.testing.assert_allclose(np.c_[found.rationality, found.bias].ravel(), reference.x[4:], atol=1e-5)


def test_the_scale_is_where_its_marginal_posterior_has_its_mode() -> None:
    # One feature, one teacher, one category: integrate rho = product / theta over the product's sharp likelihood, and
    # the marginal of log theta is flat but for the priors: both have one parameter, so the volumes cancel.
    labels = plant_labels(20_000, theta=np.array([2.0]), rationality=np.ones((1, 1)))
    prior = RationalityPrior(between=0.5, within=0.3, pull=None)
    found = fit_jointly(labels, teachers=1, categories=1, ridge=0.25, prior=prior)
    product = float(found.theta[0] * found.rationality[0, 0])
    grid = np.linspace(0.3, 6, 20_000)
    posterior = -0.125 * grid**2 - 0.5 * (product / grid - 1) ** 2 / (0.5**2 + 0.3**2)
    assert found.theta[0] == pytest.approx(grid[np.argmax(posterior)], abs=0.02)


def test_an_adversary_is_seen_a_coin_flipper_is_near_zero_and_experts_are_found() -> None:
    labels = plant_labels(6000, theta=THETA, rationality=RHO, bias=BIAS)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    inverted, (low, high) = found.is_inverted(), found.interval()
    np.testing.assert_array_equal(inverted, RHO < -0.5)
    assert np.all((low[2] < 0) & (high[2] > 0) & (high[2] - low[2] < 0.4))
    assert np.all(low[[0, 1, 4]] > 0)


def test_the_planted_pull_is_found_beside_rationality() -> None:
    labels = plant_labels(6000, theta=THETA, rationality=RHO, bias=BIAS)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    assert np.all(np.abs(found.bias - BIAS) < 3.5 * found.bias_error)


def test_a_new_teacher_starts_at_the_prior_with_the_priors_spread() -> None:
    labels = plant_labels(400, theta=THETA, rationality=RHO[:4], bias=BIAS[:4])
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    np.testing.assert_allclose(found.rationality[4], 1.0, atol=1e-9)
    np.testing.assert_allclose(found.rationality_error[4], np.hypot(0.9, 0.4), rtol=1e-9)
    assert found.bias_error[4] == pytest.approx(0.5)


def test_a_category_without_labels_shrinks_to_its_teacher() -> None:
    rho = np.array([[2.5, 2.5], [0.3, 0.3], [1.0, 1.0]])
    labels = plant_labels(4000, theta=THETA, rationality=rho)
    seen = take(labels, ~((labels.teacher == 0) & (labels.category == 1)))
    found = fit_jointly(seen, teachers=3, categories=2, ridge=0.7, prior=PRIOR)
    share = 0.9**2 / (0.9**2 + 0.4**2)  # the regression of one category on the other in the prior
    assert found.rationality[0, 1] - 1 == pytest.approx(share * (found.rationality[0, 0] - 1), abs=1e-6)
    assert found.rationality_error[0, 1] > 1.15 * found.rationality_error[0, 0]  # the scale's error is in both


def test_no_labels_give_the_prior() -> None:
    labels = take(plant_labels(1, theta=THETA, rationality=RHO), slice(0, 0))
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    np.testing.assert_array_equal(found.theta, np.zeros(4))
    np.testing.assert_allclose(found.marginal_information, 0.7 * np.eye(4))
    np.testing.assert_allclose(found.rationality, 1.0)


def test_one_teacher_one_category_and_separable_labels_stay_finite() -> None:
    labels = plant_labels(30, theta=100 * THETA, rationality=np.ones((1, 1)))
    found = fit_jointly(labels, teachers=1, categories=1, ridge=0.7)
    assert np.all(np.isfinite(found.theta))
    assert np.isfinite(found.rationality_error[0, 0])
    agreement = np.mean((labels.design @ found.theta > 0) == (labels.outcome == 1))
    assert agreement > 0.9


def test_its_information_is_m4_at_rho_hat() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=dataclasses.replace(PRIOR, pull=None))
    expected = fisher_information(
        labels.design, theta=found.theta, rationality=label_rationality(labels, found.rationality), ridge=0.7
    )
    np.testing.assert_allclose(found.information, expected, rtol=1e-10)
    assert np.all(found.bias == 0)
    assert np.all(found.bias_error == 0)


def test_not_knowing_rationality_never_adds_information() -> None:
    labels = plant_labels(800, theta=THETA, rationality=RHO)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    assert np.linalg.eigvalsh(found.information - found.marginal_information)[0] > -1e-9


def test_a_warm_refit_is_the_cold_one() -> None:
    labels = plant_labels(1500, theta=THETA, rationality=RHO, bias=BIAS)
    before = fit_jointly(take(labels, slice(0, 1400)), teachers=5, categories=2, ridge=0.7, prior=PRIOR, tolerance=1e-6)
    warm = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR, start=before)
    cold = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    np.testing.assert_allclose(warm.theta, cold.theta, rtol=5e-3)  # the scale's ridge is settled to 1 %
    np.testing.assert_allclose(warm.rationality, cold.rationality, rtol=5e-3, atol=1e-3)
    assert warm.passes < cold.passes


def test_swapping_pairs_with_labels_and_permuting_rows_changes_nothing() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO, bias=BIAS)
    order = np.random.default_rng(1).permutation(300)
    other = take(
        dataclasses.replace(labels, design=-labels.design, outcome=1 - labels.outcome, side=-labels.side), order
    )
    one, two = (fit_jointly(part, teachers=5, categories=2, ridge=0.7, prior=PRIOR) for part in (labels, other))
    np.testing.assert_allclose(one.theta, two.theta, atol=1e-7)
    np.testing.assert_allclose(one.rationality, two.rationality, atol=1e-7)


def test_draws_have_the_posteriors_mean_and_spread() -> None:
    labels = plant_labels(300, theta=THETA, rationality=RHO)
    found = fit_jointly(labels, teachers=5, categories=2, ridge=0.7, prior=PRIOR)
    generator = np.random.default_rng(0)
    draws = np.array([found.draw_rationality(generator) for _ in range(4000)])
    assert np.all(np.abs(draws.mean(axis=0) - found.rationality) < 4 * found.rationality_error / np.sqrt(4000))
    np.testing.assert_allclose(draws.std(axis=0), found.rationality_error, rtol=0.06)


@pytest.mark.parametrize(
    ("change", "message"),
    [({"ridge": 0.0}, "ridge"), ({"teachers": 4}, "Teachers"), ({"categories": 1}, "Categories")],
)
def test_bad_input_is_refused(change: dict[str, float], message: str) -> None:
    labels = plant_labels(100, theta=THETA, rationality=RHO)
    with pytest.raises(ValueError, match=message):
        fit_jointly(labels, **{"teachers": 5, "categories": 2, "ridge": 0.7, **change})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["mean", "between", "within", "pull"])
def test_a_prior_without_spread_is_refused(field: str) -> None:
    with pytest.raises(ValueError, match="above 0"):
        RationalityPrior(**{field: 0.0})


@pytest.mark.slow
def test_intervals_cover_the_planted_truth_and_naive_ones_do_not() -> None:
    inside, naive, rho_inside = [], [], []
    for seed in range(150):
        generator = np.random.default_rng([seed, 3])
        theta = generator.standard_normal(6) * 0.8
        rho = 1 + generator.normal(0, 0.7, size=(5, 1)) + generator.normal(0, 0.5, size=(5, 2))
        labels = plant_labels(500, theta=theta, rationality=rho, seed=seed)
        prior = RationalityPrior(between=0.7, within=0.5, pull=None)
        found = fit_jointly(labels, teachers=5, categories=2, ridge=1 / 0.64, prior=prior, tolerance=1e-4)
        inside.append(covered(found.theta, theta, np.diag(found.covariance)))
        naive.append(covered(found.theta, theta, np.diag(np.linalg.inv(found.information))))
        rho_inside.append(np.mean(np.abs(found.rationality - rho) < 1.96 * found.rationality_error))
    assert 0.92 < np.mean(inside) < 0.98
    assert 0.92 < np.mean(rho_inside) < 0.98
    assert np.mean(naive) < np.mean(inside) - 0.05


def covered(value: Floats, truth: Floats, variance: Floats) -> float:
    return float(np.mean(np.abs(value - truth) < 1.96 * np.sqrt(variance)))


def test_a_hundred_teachers_with_ten_labels_each_converge() -> None:
    rho = np.exp(np.random.default_rng(0).normal(-0.3, 0.6, size=(100, 3)))
    labels = plant_labels(1000, theta=THETA, rationality=rho)
    found: JointEstimate = fit_jointly(labels, teachers=100, categories=3, ridge=0.7)
    angle = found.theta @ THETA / np.linalg.norm(found.theta) / np.linalg.norm(THETA)
    assert angle > 0.97
