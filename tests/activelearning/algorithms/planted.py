"""Labels with a planted truth, for the tests of the estimation."""

import numpy as np

from activelearning.algorithms.types import Floats, Labels


def plant_labels(
    count: int,
    *,
    theta: Floats,
    rationality: Floats,
    bias: Floats | None = None,
    seed: int = 0,
    ties: float = 0.0,
    orderless: float = 0.0,
) -> Labels:
    """Labels drawn from (M2) with the order shown; a share made ties at random, a share without an order shown."""
    generator = np.random.default_rng(seed)
    teachers, categories = rationality.shape
    design = generator.standard_normal((count, theta.size))
    teacher = generator.integers(teachers, size=count)
    category = generator.integers(categories, size=count)
    side = generator.choice([-1.0, 1.0], size=count)
    if orderless:
        side[generator.random(count) < orderless] = 0.0
    pull = np.zeros(teachers) if bias is None else bias
    utility = rationality[teacher, category] * (design @ theta) + side * pull[teacher]
    outcome = (generator.random(count) < 1 / (1 + np.exp(-utility))).astype(np.float64)
    outcome[generator.random(count) < ties] = 0.5
    return Labels(design, outcome, teacher, category, side, np.ones(count))
