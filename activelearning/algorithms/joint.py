"""The penalised likelihood of the reward and its teachers together, in (theta; rho_{k,1..c}, b_k of each k)."""

from dataclasses import dataclass

import numpy as np
from numpy.linalg import LinAlgError
from scipy.sparse import csr_array
from scipy.special import expit

from activelearning.algorithms.arrow import Arrow, ArrowFactor
from activelearning.algorithms.likelihood import label_rationality, read_labels, sum_squares, utilities, weighted_gram
from activelearning.algorithms.types import Floats, Labels


@dataclass(frozen=True)
class RationalityPrior:
    """What is believed of a teacher before any label; the mean fixes the scale of theta."""

    mean: float = 1.0  # rationality of the pool's average teacher, > 0
    between: float = 0.7  # standard deviation of teachers around the pool, > 0
    within: float = 0.5  # standard deviation of a teacher's categories around the teacher, > 0
    pull: float | None = 0.5  # standard deviation of the pull to the first response, in log odds; None leaves it out

    def __post_init__(self) -> None:
        if not (self.mean > 0 and self.between > 0 and self.within > 0):
            raise ValueError("Mean and both spreads of rationality are above 0.")
        if self.pull is not None and not self.pull > 0:
            raise ValueError("The spread of the position bias is above 0, or None to leave it out.")

    def precision(self, categories: int) -> Floats:
        """Inverse covariance of one teacher's (rho_{k,1..c}, b_k), rho_k integrated out; (c + 1, c + 1)."""
        share = self.between**2 / (self.within**2 + categories * self.between**2)
        block = np.zeros((categories + 1, categories + 1))
        block[:-1, :-1] = (np.eye(categories) - share) / self.within**2
        block[-1, -1] = 1.0 if self.pull is None else self.pull**-2  # 1: a unit pivot for a parameter held at 0
        return block


@dataclass(frozen=True)
class JointProblem:
    """The penalised likelihood in (theta, teachers), teachers[:, :c] the rationalities and [:, c] the pull."""

    labels: Labels
    prior: RationalityPrior
    precision: Floats
    ridge: float

    def rho(self, teachers: Floats) -> Floats:
        return label_rationality(self.labels, teachers)  # the pull's column is never a category

    def value(self, theta: Floats, teachers: Floats) -> tuple[float, float, Floats, Floats]:
        """Objective, log-likelihood, gradients in theta (d,) and in the teachers (k, c+1)."""
        found = read_labels(self.labels, theta, teachers[:, -1], rho=self.rho(teachers))
        away = teachers - self._center(teachers)
        pulled = away @ self.precision
        objective = 0.5 * self.ridge * float(theta @ theta) + 0.5 * float(np.sum(away * pulled)) - found.loglik
        pulled[:, :-1] -= self._per_cell(found.gap * found.surprise, teachers)
        pulled[:, -1] = 0.0 if self.prior.pull is None else pulled[:, -1] - found.pull
        return objective, found.loglik, self.ridge * theta - found.score, pulled

    def arrow(self, theta: Floats, teachers: Floats, *, kind: str) -> Arrow:
        """The Hessian ("observed"), the Fisher information ("fisher"), or the score's square ("squared", for ties)."""
        labels, rho = self.labels, self.rho(teachers)
        gap = labels.design @ theta
        utility = utilities(labels, theta, rho=rho, bias=teachers[:, -1])
        surprise = labels.outcome - expit(utility)
        spread = labels.weight * (surprise**2 if kind == "squared" else expit(utility) * expit(-utility))
        k, c, d = teachers.shape[0], teachers.shape[1] - 1, theta.size
        cross = np.zeros((k, d, c + 1))
        mixed = spread * rho * gap - (labels.weight * surprise if kind == "observed" else 0.0)
        cross[:, :, :-1] = self._cell_designs(mixed, k, c)
        teacher = np.repeat(self.precision[None], k, axis=0)
        cell = np.arange(c)
        teacher[:, cell, cell] += self._per_cell(spread * gap * gap, teachers)
        if self.prior.pull is not None:
            pulls = sum_squares(labels, spread, rho=rho, teachers=k, with_reward=False)
            cross[:, :, -1] = pulls.cross.T
            both = self._per_cell(spread * gap * labels.side, teachers)
            teacher[:, -1, :-1] += both
            teacher[:, :-1, -1] += both
            teacher[:, -1, -1] += pulls.pull
        reward = weighted_gram(labels.design, rho * rho * spread) + self.ridge * np.eye(d)
        return Arrow(reward, cross, teacher)

    def factor(self, theta: Floats, teachers: Floats) -> ArrowFactor:
        """The Hessian where it is positive definite, else the Fisher information, which always is."""
        try:
            return ArrowFactor(self.arrow(theta, teachers, kind="observed"))
        except LinAlgError:
            return ArrowFactor(self.arrow(theta, teachers, kind="fisher"))

    def _center(self, teachers: Floats) -> Floats:
        center = np.full_like(teachers, self.prior.mean)
        center[:, -1] = 0.0
        return center

    def _per_cell(self, amount: Floats, teachers: Floats) -> Floats:
        """Sums over each teacher's labels of each category: (n,) to (k, c)."""
        k, c = teachers.shape[0], teachers.shape[1] - 1
        cell = self.labels.teacher * c + self.labels.category
        return np.bincount(cell, weights=amount, minlength=k * c).reshape(k, c).astype(np.float64)

    def _cell_designs(self, amount: Floats, k: int, c: int) -> Floats:
        """Weighted sums of design rows over each cell: (k, d, c)."""
        count = len(self.labels)
        owner = csr_array(
            (amount, (self.labels.teacher * c + self.labels.category, np.arange(count))), shape=(k * c, count)
        )
        return np.asarray(owner @ self.labels.design).reshape(k, c, self.labels.design.shape[1]).transpose(0, 2, 1)
