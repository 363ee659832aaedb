"""The confidence set, its bounds, the certificate, and what they promise."""

import numpy as np
import pytest
from scipy.optimize import minimize
from scipy.stats import chi2

from activelearning.algorithms.pessimism import (
    ConfidenceSet,
    certify,
    choose,
    confidence_radius,
    pessimistic_regret,
    reference_feature,
)


def some_set(*, d: int = 4, radius: float = 1.3, seed: int = 0) -> ConfidenceSet:
    rng = np.random.default_rng(seed)
    root = rng.normal(size=(d, d))
    return ConfidenceSet(rng.normal(size=d), root @ root.T + np.eye(d), radius)


def test_a_case_worked_by_hand() -> None:
    confidence = ConfidenceSet(np.array([1.0, 0.0]), np.diag([4.0, 1.0]), 2.0)
    offsets = np.array([[2.0, 1.0], [0.0, 3.0]])
    assert confidence.means(offsets) == pytest.approx([2.0, 0.0])
    assert confidence.widths(offsets) == pytest.approx([np.sqrt(4 / 4 + 1), 3.0])
    assert confidence.lower(offsets) == pytest.approx([2 - 2 * np.sqrt(2), -6.0])
    assert confidence.upper(offsets) == pytest.approx([2 + 2 * np.sqrt(2), 6.0])


@pytest.mark.parametrize("seed", range(4))
def test_the_bounds_are_the_extremes_over_the_ellipsoid(seed: int) -> None:
    confidence = some_set(seed=seed)
    offset = np.random.default_rng(seed + 10).normal(size=4)
    inside = {
        "type": "ineq",
        "fun": lambda theta: (
            confidence.radius**2 - (theta - confidence.theta) @ confidence.information @ (theta - confidence.theta)
        ),
    }
    least = minimize(lambda theta: theta @ offset, confidence.theta, constraints=[inside], method="SLSQP", tol=1e-12)
    most = minimize(lambda theta: -theta @ offset, confidence.theta, constraints=[inside], method="SLSQP", tol=1e-12)
    assert confidence.lower(offset[None])[0] == pytest.approx(least.fun, abs=1e-5)
    assert confidence.upper(offset[None])[0] == pytest.approx(-most.fun, abs=1e-5)


def test_the_radius_is_the_chi_square_root_and_the_bias_of_the_ridge() -> None:
    # d = 2: the survival function of chi2 is exp(-x/2), so its 90 % quantile is -2 log 0.1
    assert confidence_radius(2, delta=0.1, ridge=0.0, theta_norm=5.0) == pytest.approx(np.sqrt(-2 * np.log(0.1)))
    whole = confidence_radius(7, delta=0.05, ridge=4.0, theta_norm=1.5)
    assert whole == pytest.approx(np.sqrt(chi2.ppf(0.95, 7)) + 2 * 1.5)


@pytest.mark.parametrize(
    ("dimensions", "delta", "ridge"), [(0, 0.1, 1.0), (3, 0.0, 1.0), (3, 1.0, 1.0), (3, 0.1, -1.0)]
)
def test_a_radius_out_of_range_is_refused(dimensions: int, delta: float, ridge: float) -> None:
    with pytest.raises(ValueError, match=r"radius|ridge"):
        confidence_radius(dimensions, delta=delta, ridge=ridge, theta_norm=1.0)


def test_a_direction_common_to_all_responses_is_not_charged() -> None:
    confidence = some_set()
    rng = np.random.default_rng(1)
    features, common = rng.normal(size=(5, 4)), 100 * rng.normal(size=4)
    plain = confidence.lower(features - reference_feature(features))
    shifted = confidence.lower(features + common - reference_feature(features + common))
    assert shifted == pytest.approx(plain, abs=1e-9)


def test_a_change_of_coordinates_changes_nothing() -> None:
    confidence = some_set()
    rng = np.random.default_rng(2)
    change, offsets = rng.normal(size=(4, 4)), rng.normal(size=(6, 4))
    moved = ConfidenceSet(  # z -> A z takes theta -> A^-T theta and H -> A H A'
        np.linalg.solve(change.T, confidence.theta), _symmetric(change @ confidence.information @ change.T), 1.3
    )
    assert moved.lower(offsets @ change.T) == pytest.approx(confidence.lower(offsets), abs=1e-8)


def test_radius_zero_chooses_as_the_mean_does() -> None:
    greedy = ConfidenceSet(some_set().theta, some_set().information, 0.0)
    rng = np.random.default_rng(3)
    for _ in range(20):
        features = rng.normal(size=(6, 4))
        assert choose(greedy, features, reference_feature(features)) == int(np.argmax(features @ greedy.theta))


def test_a_wide_radius_prefers_what_was_labelled() -> None:
    information = np.diag([100.0, 0.1])
    features = np.array([[1.0, 0.0], [0.0, 1.2], [0.0, 0.0]])
    theta, reference = np.ones(2), np.zeros(2)
    assert choose(ConfidenceSet(theta, information, 0.0), features, reference) == 1
    assert choose(ConfidenceSet(theta, information, 2.0), features, reference) == 0


def test_two_responses_lie_equally_far_from_their_midpoint() -> None:
    """The documented limit: with v the mean of two responses, pessimism cannot tell them apart."""
    confidence = some_set(radius=50.0)
    features = np.random.default_rng(4).normal(size=(2, 4))
    offsets = features - reference_feature(features)
    assert confidence.widths(offsets)[0] == pytest.approx(confidence.widths(offsets)[1])
    assert choose(confidence, features, reference_feature(features)) == int(np.argmax(features @ confidence.theta))


def test_the_certificate_bounds_the_regret_of_every_theta_in_the_set() -> None:
    confidence = some_set(radius=2.0)
    rng = np.random.default_rng(5)
    prompts = []
    for _ in range(30):
        features = rng.normal(size=(5, 4))
        prompts.append((features, reference_feature(features)))
    picks = [choose(confidence, features, v) for features, v in prompts]
    certificate = certify(confidence, prompts, chosen=[[pick] for pick in picks])
    worst = 0.0
    for _ in range(2000):
        direction = rng.normal(size=4)
        direction /= np.linalg.norm(direction)
        truth = confidence.theta + np.linalg.solve(confidence.factor.T, 2.0 * direction)  # on the boundary
        worst = max(
            worst,
            float(np.mean([(f @ truth).max() - f[pick] @ truth for (f, _), pick in zip(prompts, picks, strict=True)])),
        )
    assert 0 < worst <= certificate.regret
    assert certificate.prompts == 30
    assert certificate.responses == 5


def test_the_pessimistic_choice_has_the_least_certificate() -> None:
    confidence = some_set(radius=2.0)
    features = np.random.default_rng(6).normal(size=(5, 4))
    prompts = [(features, reference_feature(features))]
    values = [certify(confidence, prompts, chosen=[[index]]).regret for index in range(5)]
    assert int(np.argmin(values)) == choose(confidence, *prompts[0])


def test_a_policy_that_samples_is_certified_for_the_mean_of_its_samples() -> None:
    confidence = some_set()
    features = np.random.default_rng(7).normal(size=(4, 4))
    prompts = [(features, reference_feature(features))]
    single = [certify(confidence, prompts, chosen=[[index]]).regret for index in (0, 2)]
    both = certify(confidence, prompts, chosen=[[0, 2]], sampled=True)
    assert both.regret == pytest.approx(np.mean(single))
    assert both.error == 0.0


def test_labels_without_end_shrink_the_certificate() -> None:
    rng = np.random.default_rng(8)
    features = rng.normal(size=(5, 4))
    prompts = [(features, reference_feature(features))]
    base = some_set()
    found = []
    for scale in (1.0, 100.0):
        confidence = ConfidenceSet(base.theta, scale * base.information, base.radius)
        found.append(certify(confidence, prompts, chosen=[[choose(confidence, *prompts[0])]]))
    assert found[1].rate == pytest.approx(found[0].rate / 10)
    assert found[1].regret < found[0].regret


@pytest.mark.parametrize(
    "information",
    [np.diag([1.0, 0.0]), np.array([[1.0, 0.5], [0.0, 1.0]]), np.full((2, 2), np.nan), np.eye(3)],
    ids=["singular", "not symmetric", "not finite", "wrong shape"],
)
def test_an_impossible_information_matrix_is_refused(information: np.ndarray) -> None:
    with pytest.raises(ValueError, match="information"):
        ConfidenceSet(np.zeros(2), information, 1.0)


def _symmetric(matrix: np.ndarray) -> np.ndarray:
    return (matrix + matrix.T) / 2


def test_the_regret_of_the_pessimistic_choice_is_what_the_certificate_says_of_it() -> None:
    rng = np.random.default_rng(3)
    root = rng.normal(size=(4, 4))
    confidence = ConfidenceSet(theta=rng.normal(size=4), information=root @ root.T + np.eye(4), radius=1.7)
    prompt = np.array([3, 1, 3, 2, 1, 3, 7])
    features = rng.normal(size=(7, 4))
    pairs = [(features[prompt == one], reference_feature(features[prompt == one])) for one in (1, 3)]
    chosen = [[choose(confidence, rows, v)] for rows, v in pairs]
    expected = certify(confidence, pairs, chosen=chosen).regret
    assert pessimistic_regret(confidence, features, prompt) == pytest.approx(expected)
    assert pessimistic_regret(confidence, features[:2], prompt[:2]) is None
