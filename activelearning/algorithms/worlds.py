"""Worlds with a planted truth, that answer like (M2): the reference simulation and the savings simulation.

A world may also be made from real features, or answer from a record of real votes: whatever answers (comparison,
teacher) pairs can be run by `simulation`.
"""

from dataclasses import dataclass

import numpy as np
from scipy.special import expit

from activelearning.algorithms.types import Bools, Floats, Ints, Pool, Responses, Teachers

MANY = 2**31
"""Room and capacity that never run out."""


@dataclass(frozen=True)
class World:
    """A truth, the comparisons that may be asked about it, and the prompts on which a policy is judged.

    theta      (d,)       float64
    pool       m comparisons
    teachers   k teachers with their true rationality
    bias       (k,)       float64   true pull toward the response shown first
    policy     (p, r, d)  float64   features of r responses to p prompts that are not in the pool
    held_out   (h, d)     float64   design rows for held-out accuracy
    responses  what the dueling strategies look at, or None
    may_ask    (k, m)     bool      which pairs can be answered at all, each once; None where every pair can, any time
    """

    theta: Floats
    pool: Pool
    teachers: Teachers
    bias: Floats
    policy: Floats
    held_out: Floats
    responses: Responses | None = None
    may_ask: Bools | None = None

    def answer(self, comparison: int, teacher: int, *, side: float, generator: np.random.Generator) -> float:
        """1 if a is preferred, drawn from (M2) with the order shown."""
        rho = self.teachers.rationality[teacher, self.pool.category[comparison]]
        utility = rho * float(self.pool.design[comparison] @ self.theta) + side * self.bias[teacher]
        return float(generator.random() < expit(utility))

    def accuracy(self, theta_hat: Floats) -> float:
        """Share of held-out comparisons whose sign theta_hat gets right."""
        return sign_accuracy(self.held_out, self.theta, theta_hat)


def reference_world(generator: np.random.Generator, *, costs: Floats | None = None) -> World:
    """The reference simulation: 8 features, 400 comparisons with replacement, 5 categories, one expert for each."""
    d, m, k = 8, 400, 5
    theta = generator.standard_normal(d)
    theta /= np.linalg.norm(theta)
    phi = generator.normal(0, np.sqrt(4 / d), size=(m, 2, d))
    rationality = np.where(np.eye(k, dtype=bool), 3.0, 0.3) * generator.uniform(0.8, 1.2, size=(k, k))
    return World(
        theta=theta,
        pool=_pool(phi, generator.integers(k, size=m), room=MANY),
        teachers=_teachers(rationality, costs),
        bias=np.zeros(k),
        policy=generator.normal(0, np.sqrt(4 / d), size=(200, 5, d)),
        held_out=generator.normal(0, np.sqrt(8 / d), size=(500, d)),
        responses=_responses(phi),
    )


def savings_world(
    generator: np.random.Generator,
    *,
    features: int = 10,
    categories: int = 1,
    teachers: int = 15,
    capacity: int = MANY,
    room: int = 1,
    costs: Floats | None = None,
) -> World:
    """The savings simulation: heavy-tailed responses of decaying spread, 3,000 comparisons, log-normal teachers."""
    spread = np.arange(1, features + 1) ** -0.25
    spread /= np.sqrt(np.sum(spread**2))

    def draw(*shape: int) -> Floats:
        size = np.exp(generator.normal(0, 0.3, size=shape))
        return np.asarray(generator.standard_normal((*shape, features)) * spread * size[..., None])

    phi = draw(3000, 2)
    theta = generator.standard_normal(features)
    theta *= 2.0 / np.std((phi[:, 0] - phi[:, 1]) @ theta)
    log_rho = generator.normal(-0.3, 0.6, size=(teachers, 1)) * np.ones(categories)
    if categories > 1:
        log_rho = log_rho + generator.normal(0, 0.6, size=(teachers, categories))
    held_out = draw(500, 2)
    return World(
        theta=theta,
        pool=_pool(phi, generator.integers(categories, size=3000), room=room),
        teachers=_teachers(np.exp(log_rho), costs, capacity=capacity),
        bias=np.zeros(teachers),
        policy=draw(300, 8),
        held_out=held_out[:, 0] - held_out[:, 1],
        responses=_responses(phi),
    )


def sign_accuracy(held_out: Floats, theta: Floats, theta_hat: Floats) -> float:
    """Share of rows on which both rewards prefer the same response; an estimate of 0 is right half the time."""
    agree = np.sign(held_out @ theta) * np.sign(held_out @ theta_hat)
    return float(np.mean(0.5 + 0.5 * agree))


def _pool(phi: Floats, category: Ints, *, room: int) -> Pool:
    design = (phi[:, 0] - phi[:, 1]).astype(np.float32)
    return Pool(design, category.astype(np.int64), np.full(len(phi), room, dtype=np.int64))


def _teachers(rationality: Floats, costs: Floats | None, *, capacity: int = MANY) -> Teachers:
    k, c = rationality.shape
    cost = np.ones(k) if costs is None else np.asarray(costs, dtype=np.float64)
    return Teachers(rationality, cost, np.full(k, capacity, dtype=np.int64), np.ones((k, c), dtype=bool))


def _responses(phi: Floats) -> Responses:
    """Every comparison a prompt of its own with two responses."""
    count, _, width = phi.shape
    rows = np.arange(count, dtype=np.int64)
    return Responses(phi.reshape(2 * count, width), rows, 2 * rows, 2 * rows + 1)
