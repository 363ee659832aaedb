"""What Newton steps are made of: the reward's objective, its factor, a factor that learns, and the descent."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

import numpy as np
from scipy.linalg import LinAlgError, cho_factor, cho_solve, eigh
from scipy.optimize import brentq

from activelearning.algorithms.likelihood import Curvature, curvature, evaluate
from activelearning.algorithms.types import Floats, Labels

MEMORY = 10  # pairs of steps and changes of the gradient by which a kept factor is corrected


class DidNotConverge(ArithmeticError):
    """The solver used up its steps; the message holds the distance that remained."""


class NotIdentified(ArithmeticError):
    """The labels do not determine the estimate: separable or too few, and no ridge to hold it."""


Value = TypeVar("Value", bound=tuple[Any, ...])
Point = tuple[Floats, Floats]


@dataclass(frozen=True)
class Descent(Generic[Value]):
    """Where a line search ended: the share of the move that was taken, what was found there, looks at the labels."""

    point: Point
    share: float
    value: Value
    looks: int


def descend(
    value: Callable[[Floats, Floats], Value], at: Point, move: Point, objective: float, *, slope: float
) -> Descent[Value]:
    """The longest of the steps 1, 1/2, 1/4 … that lowers the objective by a share of what the slope promises (Armijo).

    value   what is found at a point, the objective first
    raises  DidNotConverge where no step does
    """
    share, looks = 1.0, 0
    while share >= 1e-10:
        point = at[0] + share * move[0], at[1] + share * move[1]
        found, looks = value(*point), looks + 1
        if found[0] <= objective + 1e-4 * share * slope + 1e-12 * max(1.0, abs(objective)):  # and roundoff
            return Descent(point, share, found, looks)
        share /= 2
    raise DidNotConverge(f"No descent along the step; {abs(slope) ** 0.5:.3g} from the optimum in the norm of H.")


@dataclass(frozen=True)
class Problem:
    """What the solver minimises: minus (M3) plus ridge/2 |theta|^2 plus |b|^2 / (2 tau_b^2), with |theta| <= ball."""

    labels: Labels
    rho: Floats  # (n,)
    ridge: float
    ball: float | None
    bias_prior: float | None
    teachers: int

    def value(self, theta: Floats, bias: Floats) -> tuple[float, Floats, Floats]:
        """Objective and its gradient in theta and in b; one pass over the labels."""
        loglik, score, pull = evaluate(self.labels, theta, bias, rho=self.rho)
        objective = self.penalty(theta, bias) - loglik
        if self.bias_prior is None:
            return objective, self.ridge * theta - score, np.zeros_like(bias)
        return objective, self.ridge * theta - score, self.bias_prior**-2 * bias - pull

    def penalty(self, theta: Floats, bias: Floats) -> float:
        """ridge/2 |theta|^2 + |b|^2 / (2 tau_b^2)"""
        pull = 0.0 if self.bias_prior is None else 0.5 * self.bias_prior**-2 * float(bias @ bias)
        return 0.5 * self.ridge * float(theta @ theta) + pull

    def curvature(self, theta: Floats, bias: Floats) -> Curvature:
        """Hessian of the objective; one pass."""
        with_pull = self.bias_prior is not None
        raw = curvature(self.labels, theta, bias, rho=self.rho, with_pull=with_pull)
        reward = raw.reward + self.ridge * np.eye(theta.size)
        pull = raw.pull + self.bias_prior**-2 if self.bias_prior is not None else np.ones(bias.size)
        return Curvature(reward, raw.cross, pull)


class Factor:
    """Cholesky factor of the Schur complement S = H_tt - H_tb H_bb^-1 H_bt; solves for Newton steps."""

    def __init__(self, hessian: Curvature) -> None:
        self.hessian = hessian
        self.schur = hessian.reward
        if hessian.cross.any():
            self.schur = hessian.reward - (hessian.cross / hessian.pull) @ hessian.cross.T
        try:
            self.factor = cho_factor(self.schur, lower=True)
        except LinAlgError as error:
            raise NotIdentified(
                "The labels do not span every direction of the features; set a ridge above 0."
            ) from error

    def step(
        self, theta: Floats, gradient: Floats, bias_gradient: Floats, ball: float | None
    ) -> tuple[Floats, Floats, float, bool]:
        """The Newton step from theta, its length in the norm of H, and whether the ball holds it back."""
        hessian = self.hessian
        reduced = gradient - hessian.cross @ (bias_gradient / hessian.pull)
        move = -cho_solve(self.factor, reduced)
        is_held = ball is not None and float(np.linalg.norm(theta + move)) > ball
        if is_held:
            assert ball is not None
            move = self._within_ball(theta, reduced, ball) - theta
        bias_move = -(bias_gradient + hessian.cross.T @ move) / hessian.pull
        length = move @ (hessian.reward @ move) + 2 * move @ (hessian.cross @ bias_move)
        length += bias_move @ (hessian.pull * bias_move)
        return move, bias_move, float(np.sqrt(max(length, 0.0))), is_held

    def _within_ball(self, theta: Floats, reduced: Floats, ball: float) -> Floats:
        """Minimiser of the quadratic model over |x| <= ball: (S + mu I) x = S theta - g with |x| = ball."""
        values, vectors = eigh(self.schur)
        target = vectors.T @ (self.schur @ theta - reduced)

        def excess(mu: float) -> float:
            return 1.0 / ball - 1.0 / float(np.linalg.norm(target / (values + mu)))

        most = float(np.linalg.norm(target)) / ball  # |x(mu)| <= |target| / mu
        mu = float(brentq(excess, 0.0, most, xtol=1e-15 * max(1.0, most), rtol=1e-15, maxiter=500))
        point = vectors @ (target / (values + mu))
        return np.asarray(point * min(1.0, ball / float(np.linalg.norm(point))))


class CorrectedFactor:
    """A kept factor, corrected by what the last steps showed of the true curvature (limited-memory BFGS)."""

    def __init__(self, base: Factor) -> None:
        self.base = base
        self.pairs: list[tuple[Floats, Floats]] = []  # step and change of the gradient, in (theta, b)

    def learn(self, move: Floats, bias_move: Floats, change: Floats, bias_change: Floats) -> None:
        step, bend = np.concatenate([move, bias_move]), np.concatenate([change, bias_change])
        if step @ bend > 1e-10 * np.linalg.norm(step) * np.linalg.norm(bend):
            self.pairs = [*self.pairs[1 - MEMORY :], (step, bend)]

    def step(
        self, theta: Floats, gradient: Floats, bias_gradient: Floats, ball: float | None
    ) -> tuple[Floats, Floats, float, bool]:
        """As the factor's step; near the ball the factor alone, which knows how to stay within."""
        width = theta.size
        shares: list[float] = []
        rest = np.concatenate([gradient, bias_gradient])
        for step, bend in reversed(self.pairs):
            shares.append(float(step @ rest) / float(step @ bend))
            rest = rest - shares[-1] * bend
        move, bias_move, length, _ = self.base.step(theta, rest[:width], rest[width:], None)
        joined = np.concatenate([move, bias_move])
        for (step, bend), share in zip(self.pairs, reversed(shares), strict=True):
            joined = joined - (share + float(bend @ joined) / float(step @ bend)) * step
        move, bias_move = joined[:width], joined[width:]
        if ball is not None and float(np.linalg.norm(theta + move)) > ball:
            return self.base.step(theta, gradient, bias_gradient, ball)
        if self.pairs:
            length = max(0.0, -float(gradient @ move) - float(bias_gradient @ bias_move)) ** 0.5
        return move, bias_move, length, False
