"""Bandits with a known theta*, in which the price of greed and of caution can be counted.

Two of them. In the *trap*, the best response is well labelled and many bad ones hardly are: greed provably fails, and
pessimism does not. In the *linear* bandit nothing is bad for being unlabelled: rewards are symmetric around the
reference, the ridge puts the unknown where it is on average, and greed is the better policy at every coverage. What
pessimism buys is a promise for the worst theta in the set, not a better average over all of them.
"""

from dataclasses import dataclass

import numpy as np
from numpy.random import Generator
from scipy.special import expit

from activelearning.algorithms.estimation import fit
from activelearning.algorithms.pessimism import ConfidenceSet, confidence_radius
from activelearning.algorithms.types import Floats, Labels

GOOD, BAD, TRAPS, FEW = 1.0, -1.0, 40, 2


@dataclass(frozen=True)
class Outcome:
    """What each policy loses against the best one, per prompt, in units of the reward."""

    greedy: float
    pessimistic: float


def greedy_failure(*, traps: int = TRAPS, few: int = FEW, bad: float = BAD) -> float:
    """A lower bound on the chance that greed falls into the trap, however many labels the good response has.

    A trap is labelled `few` times against the plain response and wins all of them with probability sigma(bad)^few. Its
    estimate is then beyond any fixed reward once the ridge is small, and the traps are independent:

        P(greed fails) >= 1 - (1 - sigma(bad)^few)^traps
    """
    return float(1 - (1 - expit(bad) ** few) ** traps)


def spring_trap(labels: int, rng: Generator, *, few: int = FEW, ridge: float = 0.1, delta: float = 0.1) -> Outcome:
    """One prompt, responses with a coordinate each: a plain one (reward 0, the reference), a good one (GOOD, labelled
    `labels` times against the plain one), and TRAPS bad ones (BAD, labelled `few` times each: the dial of coverage).

    Regret of both policies. Greed takes a trap that was lucky, for every number of labels; pessimism sees how little
    is known of it. With few labels pessimism stays with the plain response, and its regret is GOOD.
    """
    truth = np.concatenate([[GOOD], np.full(TRAPS, BAD)])
    which = np.concatenate([np.zeros(labels, dtype=int), np.repeat(np.arange(1, TRAPS + 1), few)])
    design = np.eye(TRAPS + 1)[which]
    found = _fit(design, truth, rng, ridge=ridge)
    radius = confidence_radius(TRAPS + 1, delta=delta, ridge=ridge, theta_norm=float(np.linalg.norm(truth)))
    confidence = ConfidenceSet(found.theta, found.information, radius)
    offsets = np.concatenate([np.zeros((1, TRAPS + 1)), np.eye(TRAPS + 1)])
    rewards = np.concatenate([[0.0], truth])
    greedy, careful = int(np.argmax(confidence.means(offsets))), int(np.argmax(confidence.lower(offsets)))
    return Outcome(greedy=float(GOOD - rewards[greedy]), pessimistic=float(GOOD - rewards[careful]))


def play_linear(
    labels: int,
    coverage: float,
    rng: Generator,
    *,
    width: int = 8,
    prompts: int = 200,
    responses: int = 5,
    ridge: float = 0.5,
    delta: float = 0.1,
) -> Outcome:
    """Regret on fresh prompts after `labels` random comparisons.

    Responses are phi ~ N(0, 4/d I), ||theta*|| = 1. What is labelled is squeezed: half of its directions are scaled
    by `coverage` in (0, 1]. The prompts of the policy are not.
    """
    theta = rng.normal(size=width)
    theta /= np.linalg.norm(theta)
    squeeze = np.concatenate([np.ones(width - width // 2), np.full(width // 2, coverage)])
    spread = 2 / np.sqrt(width)
    design = (rng.normal(scale=spread, size=(labels, width)) - rng.normal(scale=spread, size=(labels, width))) * squeeze
    found = _fit(design, theta, rng, ridge=ridge)
    radius = confidence_radius(width, delta=delta, ridge=ridge, theta_norm=1.0)
    confidence = ConfidenceSet(found.theta, found.information, radius)
    features = rng.normal(scale=spread, size=(prompts, responses, width))
    offsets = features - features.mean(axis=1, keepdims=True)
    flat = offsets.reshape(-1, width)
    rewards = features @ theta
    best = rewards.max(axis=1)
    rows = np.arange(prompts)
    greedy = confidence.means(flat).reshape(prompts, responses).argmax(axis=1)
    careful = confidence.lower(flat).reshape(prompts, responses).argmax(axis=1)
    return Outcome(
        greedy=float((best - rewards[rows, greedy]).mean()),
        pessimistic=float((best - rewards[rows, careful]).mean()),
    )


@dataclass(frozen=True)
class _Fit:
    theta: Floats
    information: Floats


def _fit(design: Floats, theta: Floats, rng: Generator, *, ridge: float) -> _Fit:
    """Labels of one teacher of rationality 1, and the MLE on them (M5)."""
    n = design.shape[0]
    outcome = (rng.random(n) < expit(design @ theta)).astype(np.float64)
    zeros = np.zeros(n, dtype=np.int64)
    labels = Labels(design, outcome, zeros, zeros, np.ones(n), np.ones(n))
    estimate = fit(labels, rationality=np.ones((1, 1)), ridge=ridge)
    return _Fit(theta=estimate.theta, information=estimate.information)
