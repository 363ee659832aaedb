"""Arrow-shaped matrices: one block for the reward, one small block per teacher, and nothing between two teachers."""

from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from activelearning.algorithms.types import Floats


@dataclass(frozen=True)
class Arrow:
    """A symmetric matrix over (theta, teachers' blocks) without entries between two teachers.

    reward (d, d);  cross (k, d, c+1);  teacher (k, c+1, c+1)
    """

    reward: Floats
    cross: Floats
    teacher: Floats


class ArrowFactor:
    """Elimination of the teachers' blocks; raises LinAlgError where the arrow is not positive definite."""

    def __init__(self, arrow: Arrow) -> None:
        self.arrow = arrow
        np.linalg.cholesky(arrow.teacher)
        self.link = np.linalg.solve(arrow.teacher, arrow.cross.transpose(0, 2, 1))  # (k, c+1, d)  A_k^-1 B_k'
        count, width = arrow.cross.shape[0] * arrow.cross.shape[2], arrow.reward.shape[0]
        flat = arrow.cross.transpose(0, 2, 1).reshape(count, width)
        self.schur = arrow.reward - flat.T @ self.link.reshape(count, width)
        self.schur = 0.5 * (self.schur + self.schur.T)
        self.factor = cho_factor(self.schur, lower=True)

    def step(self, gradient: Floats, teacher_gradient: Floats) -> tuple[Floats, Floats, float]:
        """Newton step in theta (d,) and the teachers (k, c+1), and its length in the norm of the arrow."""
        move = -np.asarray(cho_solve(self.factor, gradient - np.einsum("kid,ki->d", self.link, teacher_gradient)))
        own = np.linalg.solve(self.arrow.teacher, teacher_gradient[..., None])[..., 0]
        teacher_move = -own - self.link @ move
        decrement = -float(gradient @ move + np.sum(teacher_gradient * teacher_move))
        return move, teacher_move, float(np.sqrt(max(decrement, 0.0)))

    def covariance(self, meat: Arrow) -> tuple[Floats, Floats]:
        """Blocks of H^-1 M H^-1: theta's (d, d) and each teacher's (k, c+1, c+1). With M = H it is H^-1."""
        width = self.schur.shape[0]
        inverse = np.asarray(cho_solve(self.factor, np.eye(width)))
        reach = self.link @ inverse  # (k, c+1, d)   A_k^-1 B_k' S^-1
        mixed = inverse @ meat.cross - reach.transpose(0, 2, 1) @ meat.teacher  # (k, d, c+1)
        theta = inverse @ meat.reward @ inverse
        crossed = np.einsum("de,kei,kif->df", inverse, meat.cross, reach, optimize=True)
        theta = theta - crossed - crossed.T
        theta += np.einsum("kid,kij,kje->de", reach, meat.teacher, reach, optimize=True)
        pivot = np.linalg.inv(self.arrow.teacher)  # c+1 wide
        own = pivot @ meat.teacher @ pivot
        half = self.link @ mixed @ pivot
        teacher = self.link @ theta @ self.link.transpose(0, 2, 1) - half - half.transpose(0, 2, 1) + own
        return 0.5 * (theta + theta.T), 0.5 * (teacher + teacher.transpose(0, 2, 1))
