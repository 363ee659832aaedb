"""The information matrix, what an answer adds to it, and the certificate of a design."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from activelearning.algorithms.information import (
    NotFinite,
    NotPositiveDefinite,
    certificate,
    cholesky,
    fisher_information,
    gram_matrix,
    information_gain,
    label_weight,
    log_det,
    log_value,
    log_weight,
    planned_information,
    uncertainties,
)


def test_one_label_of_a_sure_teacher_by_hand() -> None:
    """theta = 0 gives p = 1/2, so a label of rationality 2 adds 4 * 1/4 = 1 along z."""
    h = fisher_information(
        np.array([[1.0, 0.0]]), theta=np.zeros(2), rationality=np.array([2.0]), ridge=0.5, weight=np.array([1.0])
    )
    np.testing.assert_allclose(h, [[1.5, 0.0], [0.0, 0.5]])


def test_the_information_is_the_hessian_of_the_negative_log_likelihood() -> None:
    rng = np.random.default_rng(1)
    z, rho, y, theta = rng.normal(size=(20, 3)), rng.uniform(0, 2, 20), rng.integers(0, 2, 20), rng.normal(size=3)

    def score(at: np.ndarray) -> np.ndarray:
        u = rho * (z @ at)
        return z.T @ (rho * (y - 1 / (1 + np.exp(-u)))) - 0.3 * at

    step = 1e-6
    hessian = np.stack([(score(theta - step * e) - score(theta + step * e)) / (2 * step) for e in np.eye(3)])
    np.testing.assert_allclose(fisher_information(z, theta=theta, rationality=rho, ridge=0.3), hessian, rtol=1e-6)


def test_the_gain_is_the_rise_of_log_det() -> None:
    rng = np.random.default_rng(2)
    z, h = rng.normal(size=4), gram_matrix(rng.normal(size=(9, 4)), ridge=0.2)
    q = uncertainties(z[None, :], h)[0]
    after = planned_information(h, design=z[None, :], weight=np.array([0.37]))
    assert information_gain(0.37, q) == pytest.approx(log_det(after) - log_det(h), rel=1e-10)


def test_the_log_weight_is_finite_where_the_weight_underflows() -> None:
    assert label_weight(1000.0, 2.0) == 0.0
    assert log_weight(1000.0, 2.0) == pytest.approx(2 * math.log(2) - 2000.0)
    assert log_weight(1.0, 0.0) == -math.inf
    assert log_weight(1.0, -3.0) == -math.inf


@given(st.floats(-60, 60), st.floats(-5, 5))
def test_the_log_value_is_the_log_of_gain_over_cost(s: float, log_cost: float) -> None:
    expected = math.log(math.log1p(math.exp(s))) - log_cost
    assert float(log_value(np.array(s), 0.0, log_cost)) == pytest.approx(expected, rel=1e-9, abs=1e-9)


def test_offers_in_flight_are_counted_into_the_planned_information() -> None:
    earned = np.eye(2)
    planned = planned_information(earned, design=np.array([[2.0, 0.0]]), weight=np.array([0.25]))
    np.testing.assert_allclose(planned, [[2.0, 0.0], [0.0, 1.0]])
    np.testing.assert_allclose(earned, np.eye(2))


def test_the_certificate_falls_to_d_at_the_optimum() -> None:
    """Equal shares over the axes are D-optimal for the axes; any other shares are not."""
    d, labels = 3, 300
    axes = np.eye(d)
    optimal = labels / d * 0.25 * axes
    weight = np.full(d, 0.25)
    assert certificate(optimal, labels=labels, candidates=axes, candidate_weight=weight) == pytest.approx(d)
    skewed = np.diag([200.0, 50.0, 50.0]) * 0.25
    assert certificate(skewed, labels=labels, candidates=axes, candidate_weight=weight) == pytest.approx(6.0)


def test_the_certificate_is_infinite_while_labels_do_not_span_the_features() -> None:
    h = np.diag([1.0, 1.0, 0.0])
    assert certificate(h, labels=2, candidates=np.eye(3), candidate_weight=np.ones(3)) == math.inf


def test_bad_input_is_named() -> None:
    with pytest.raises(NotPositiveDefinite):
        cholesky(np.array([[1.0, 2.0], [2.0, 1.0]]))
    with pytest.raises(NotPositiveDefinite):
        cholesky(np.array([[1.0, 0.5], [0.0, 1.0]]))
    with pytest.raises(NotFinite):
        cholesky(np.array([[np.nan, 0.0], [0.0, 1.0]]))
    with pytest.raises(NotFinite):
        fisher_information(np.array([[np.inf]]), theta=np.zeros(1), rationality=np.ones(1), ridge=1.0)
    with pytest.raises(ValueError, match="ridge"):
        fisher_information(np.ones((1, 1)), theta=np.zeros(1), rationality=np.ones(1), ridge=-1.0)
    with pytest.raises(ValueError, match="shapes"):
        fisher_information(np.ones((2, 1)), theta=np.zeros(1), rationality=np.ones(1), ridge=1.0)


def test_no_label_leaves_the_ridge() -> None:
    h = fisher_information(np.empty((0, 2)), theta=np.zeros(2), rationality=np.empty(0), ridge=0.5)
    np.testing.assert_allclose(h, 0.5 * np.eye(2))
