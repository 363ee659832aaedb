"""The reward's maximum likelihood estimate (M5): penalised, within a ball, cold or warm.

The solver takes Newton steps with a factor that it keeps while the steps shrink fast (chord steps, one pass over the
labels each) and renews when they do not. Cold, the factor is renewed nearly every step: damped Newton. Warm, after a
few new labels, the old factor serves to the end, and the first step is taken on the new labels alone: at the earlier
estimate the gradient of the others is nought.
"""

from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve
from scipy.special import expit

from activelearning.algorithms.arrow import Arrow, ArrowFactor
from activelearning.algorithms.kernels import one_blas_thread
from activelearning.algorithms.likelihood import (
    THREADED_NUMBERS,
    Curvature,
    curvature,
    evaluate,
    label_rationality,
    sum_squares,
    utilities,
)
from activelearning.algorithms.newton import (
    CorrectedFactor,
    DidNotConverge,
    Factor,
    NotIdentified,
    Problem,
    descend,
)
from activelearning.algorithms.types import Bools, Floats, Ints, Labels

__all__ = ["DidNotConverge", "Estimate", "NotIdentified", "covariance", "fit", "take"]

SLOW = 0.25  # a chord step that leaves more than this share of the distance asks for a new factor
DOUBT = 30.0  # what a step may leave is this many times what the last two foretell, and at most its own length
SUBSAMPLE = 8  # a large cold fit starts from the fit of every eighth label, and from its factor
LARGE = 10**8  # n d^2 from which that pays


@dataclass(frozen=True)
class Estimate:
    """theta_hat and what is known about it.

    theta          (d,)   float64   the reward MLE
    information    (d, d) float64   H = ridge I + sum_t w_t rho_t^2 p_t (1-p_t) z_t z_t'   (M4)
    bias           (k,)   float64   pull b_k toward the response shown first, zeros where it is not fitted
    bias_error     (k,)   float64   its standard error, theta unknown; zeros where it is not fitted
    loglik         float            log-likelihood (M3) at the estimate, without priors
    ridge          float            the ridge of (M5)
    label_count    int              n
    steps          int              steps taken
    passes         int              passes over the labels, those of the curvature counted
    distance       float            how far the optimum can be in the norm of H, by the length of the last steps
    is_on_ball     bool             the ball constraint binds
    """

    theta: Floats
    information: Floats
    bias: Floats
    bias_error: Floats
    loglik: float
    ridge: float
    label_count: int
    steps: int
    passes: int
    distance: float
    is_on_ball: bool


def fit(
    labels: Labels,
    *,
    rationality: Floats,
    ridge: float,
    ball: float | None = None,
    bias_prior: float | None = None,
    start: Estimate | None = None,
    tolerance: float = 1e-6,
    max_steps: int = 200,
    is_fresh: bool = True,
) -> Estimate:
    """theta_hat = argmax loglik - ridge/2 |theta|^2 over |theta| <= ball, rationality known.            (M5)

    labels       n labels, d features; ties are the outcome 1/2, and every label counts by its weight
    rationality  (k, c) float64   rho of teacher and category, signed
    ridge        >= 0; 0 only where the labels identify theta by themselves
    ball         the largest length of theta, or None
    bias_prior   tau_b > 0 fits a position bias b_k ~ N(0, tau_b^2) per teacher beside theta; None leaves it out
    start        an earlier estimate whose labels are the first `start.label_count` of these: the warm refit
    tolerance    how far the optimum may be in the norm of H, in which standard errors have length sqrt(d)
    is_fresh     compute H at theta_hat. False after a warm start (same rationality, same ridge) keeps the old H plus
                 the new labels, much cheaper: its weights are those of the earlier theta, off by a factor
                 e^(change of utility)
    raises       ValueError for bad input, NotIdentified, DidNotConverge

    n = 0 gives theta = 0 and H = ridge I.
    """
    _check(labels, rationality, ridge, ball, bias_prior)
    teachers, width = rationality.shape[0], labels.design.shape[1]
    if len(labels) == 0:
        zeros = np.zeros(teachers)
        error = zeros if bias_prior is None else np.full(teachers, bias_prior)
        return Estimate(np.zeros(width), ridge * np.eye(width), zeros, error, 0.0, ridge, 0, 0, 0, 0.0, False)
    problem = Problem(labels, label_rationality(labels, rationality), ridge, ball, bias_prior, teachers)
    with one_blas_thread() if labels.design.size >= THREADED_NUMBERS else nullcontext():
        begin = _begin(problem, rationality, start, max_steps, is_fresh)
        return _solve(problem, begin, tolerance, max_steps, is_fresh)


@dataclass(frozen=True)
class _Beginning:
    """Where the solver begins: theta and b, a factor's Hessian or None, and the length of the step that led here."""

    theta: Floats
    bias: Floats
    hessian: Curvature | None = None
    moved: float = np.inf


def _begin(problem: Problem, rationality: Floats, start: Estimate | None, max_steps: int, is_fresh: bool) -> _Beginning:
    """The earlier estimate, with the new labels learned where it can; the fit of a part of many labels; or zero."""
    labels, teachers, width = problem.labels, problem.teachers, problem.labels.design.shape[1]
    if start is not None:
        theta, bias = start.theta.copy(), _grown(start.bias, teachers)
        return _Beginning(theta, bias) if is_fresh else _learn_new(problem, start, theta, bias)
    if len(labels) <= 4 * SUBSAMPLE * width or len(labels) * width**2 <= LARGE:
        return _Beginning(np.zeros(width), np.zeros(teachers))
    prior = problem.bias_prior
    part = fit(
        take(labels, slice(None, None, SUBSAMPLE)),
        rationality=rationality,
        ridge=problem.ridge / SUBSAMPLE,
        ball=problem.ball,
        bias_prior=None if prior is None else prior * SUBSAMPLE**0.5,
        tolerance=1.0,
        max_steps=max_steps,
    )
    whole = Curvature(SUBSAMPLE * part.information, np.zeros((width, teachers)), np.ones(teachers))
    return _Beginning(part.theta.copy(), part.bias.copy(), whole if prior is None else None)


def _learn_new(problem: Problem, start: Estimate, theta: Floats, bias: Floats) -> _Beginning:
    """One step on the new labels alone with the start's H and theirs; the pull's part of H is computed anew.

    At the start's theta the gradient of the labels it had is nought, so that they need no look. Where the ball held
    the start it is not, and the step is left to the solver.
    """
    new, rho = take(problem.labels, slice(start.label_count, None)), problem.rho[start.label_count :]
    added = curvature(new, theta, bias, rho=rho, with_pull=False)
    hessian = Curvature(start.information + added.reward, added.cross, np.ones(bias.size))
    if problem.bias_prior is not None:
        pulls = curvature(problem.labels, theta, bias, rho=problem.rho, with_reward=False)
        hessian = Curvature(hessian.reward, pulls.cross, pulls.pull + problem.bias_prior**-2)
    if start.is_on_ball:
        return _Beginning(theta, bias, hessian)
    _, score, pull = evaluate(new, theta, bias, rho=rho)
    pull = np.zeros_like(bias) if problem.bias_prior is None else pull
    move, bias_move, moved, _ = Factor(hessian).step(theta, -score, -pull, problem.ball)
    return _Beginning(theta + move, bias + bias_move, hessian, moved)


def _solve(problem: Problem, begin: _Beginning, tolerance: float, max_steps: int, is_fresh: bool) -> Estimate:
    """Chord and Newton steps from where it begins; a Hessian of None asks for a new one at once."""
    theta, bias, hessian, previous = begin.theta, begin.bias, begin.hessian, begin.moved
    passes = 1
    with np.errstate(invalid="ignore"):  # a row that is not finite is refused by name, two lines below
        objective, gradient, bias_gradient = problem.value(theta, bias)
    if not np.isfinite(objective):
        raise ValueError("The design has entries that are not finite.")
    is_current = hessian is None
    if hessian is None:
        hessian, passes = problem.curvature(theta, bias), passes + 1
    factor = CorrectedFactor(Factor(hessian))
    for steps in range(1, max_steps + 1):
        move, bias_move, distance, is_held = factor.step(theta, gradient, bias_gradient, problem.ball)
        if not is_current and distance > max(SLOW * previous, tolerance):
            factor, passes, is_current = CorrectedFactor(Factor(problem.curvature(theta, bias))), passes + 1, True
            move, bias_move, distance, is_held = factor.step(theta, gradient, bias_gradient, problem.ball)
        slope = float(gradient @ move) + float(bias_gradient @ bias_move)
        left = distance if np.isinf(previous) else distance * min(1.0, DOUBT * distance / previous)
        if left <= tolerance:  # the last step needs no look at the labels: the quadratic model is exact enough
            theta, bias = theta + move, bias + bias_move
            loglik = problem.penalty(theta, bias) - (objective + slope + 0.5 * distance**2)
            return _result(problem, theta, bias, factor.base, loglik, steps, passes, left, is_held, is_fresh)
        found = descend(problem.value, (theta, bias), (move, bias_move), objective, slope=slope)
        theta, bias = found.point
        change = found.value[1] - gradient, found.value[2] - bias_gradient
        objective, gradient, bias_gradient = found.value
        factor.learn(found.share * move, found.share * bias_move, *change)
        passes += found.looks
        if problem.ridge == 0 and problem.ball is None:
            _refuse_separable(problem, theta, bias)
        previous, is_current = distance, False
    raise DidNotConverge(f"{max_steps} steps left the optimum {distance:.3g} away in the norm of H.")


def _result(
    problem: Problem,
    theta: Floats,
    bias: Floats,
    factor: Factor,
    loglik: float,
    steps: int,
    passes: int,
    distance: float,
    is_held: bool,
    is_fresh: bool,
) -> Estimate:
    if is_fresh:
        factor, passes = Factor(problem.curvature(theta, bias)), passes + 1
    hessian, bias_error = factor.hessian, np.zeros_like(bias)
    if problem.bias_prior is not None:
        scaled = hessian.cross / hessian.pull  # (d, k)
        variance = 1.0 / hessian.pull + np.sum(scaled * cho_solve(factor.factor, scaled), axis=0)
        bias_error = np.sqrt(variance)
    return Estimate(
        theta,
        hessian.reward,
        bias,
        bias_error,
        loglik,
        problem.ridge,
        len(problem.labels),
        steps,
        passes,
        distance,
        is_held,
    )


def covariance(estimate: Estimate, labels: Labels, *, rationality: Floats, bias_prior: float | None = None) -> Floats:
    """Covariance of theta_hat at known rationality: the inverse information, or the sandwich where labels hold ties.

        V = J^-1 M J^-1,   theta's block,   J over (theta, b) where a pull was fitted, else over theta alone
        M = priors + sum_t w_t (y_t - p_t)^2 x_t x_t',   x_t = (rho_t z_t, s_t)

    A tie scored as 1/2 is not a Bernoulli outcome, so its squared surprise stands in place of p (1-p). The ridge keeps
    its part (theta ~ N(0, I/ridge) in the prior), so both forms agree in expectation where no label is a tie.

    bias_prior  as it was fitted: not knowing the pulls takes up to one label's information for every teacher
    returns     (d, d) float64, symmetric
    """
    rho, teachers = label_rationality(labels, rationality), rationality.shape[0]
    bias, has_pull = _grown(estimate.bias, teachers), bias_prior is not None
    pulls = curvature(labels, estimate.theta, bias, rho=rho, with_pull=has_pull, with_reward=False)
    own = np.ones(teachers) if bias_prior is None else np.full(teachers, bias_prior**-2)
    bread = meat = _as_arrow(Curvature(estimate.information, pulls.cross, pulls.pull + own))
    if np.any(labels.outcome == 0.5):
        utility = utilities(labels, estimate.theta, rho=rho, bias=bias)
        square = labels.weight * (labels.outcome - expit(utility)) ** 2
        found = sum_squares(labels, square, rho=rho, teachers=teachers, with_pull=has_pull)
        ridge = estimate.ridge * np.eye(estimate.theta.size)
        meat = _as_arrow(Curvature(found.reward + ridge, found.cross, found.pull + own))
    return ArrowFactor(bread).covariance(meat)[0]


def _as_arrow(matrix: Curvature) -> Arrow:
    return Arrow(matrix.reward, matrix.cross.T[:, :, None], matrix.pull[:, None, None])


def take(labels: Labels, rows: slice | Ints | Bools) -> Labels:
    """The labels of these rows."""
    return Labels(
        labels.design[rows],
        labels.outcome[rows],
        labels.teacher[rows],
        labels.category[rows],
        labels.side[rows],
        labels.weight[rows],
    )


def _refuse_separable(problem: Problem, theta: Floats, bias: Floats) -> None:
    """Every label strictly on its right side: the likelihood grows without end along theta."""
    utility = utilities(problem.labels, theta, rho=problem.rho, bias=bias)
    counts = (problem.labels.weight > 0) & (problem.rho != 0) & problem.labels.design.any(axis=1)
    if problem.bias_prior is None and np.all((utility * (problem.labels.outcome - 0.5) > 0)[counts]):
        raise NotIdentified("The labels are separable: every one agrees with a reward. Set a ridge above 0 or a ball.")


def _grown(bias: Floats, teachers: int) -> Floats:
    """The biases with zeros for teachers who joined since."""
    return np.concatenate([bias, np.zeros(teachers - bias.size)])


def _check(labels: Labels, rationality: Floats, ridge: float, ball: float | None, bias_prior: float | None) -> None:
    count = len(labels)
    if labels.design.ndim != 2 or labels.design.shape[0] != count:
        raise ValueError(f"The design has shape {labels.design.shape} for {count} labels.")
    if rationality.ndim != 2 or not np.all(np.isfinite(rationality)):
        raise ValueError("Rationality is a finite (teachers, categories) array.")
    if not ridge >= 0 or (ball is not None and not ball > 0) or (bias_prior is not None and not bias_prior > 0):
        raise ValueError("The ridge is at least 0; ball and bias prior are above 0 or None.")
    if count and not np.all((labels.outcome >= 0) & (labels.outcome <= 1)):
        raise ValueError("Outcomes lie between 0 and 1.")
    if count and not (np.all(labels.weight >= 0) and np.all(np.isfinite(labels.weight))):
        raise ValueError("Weights are finite and at least 0.")
