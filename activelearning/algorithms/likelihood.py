"""The likelihood of heterogeneous teachers: value, gradient and curvature of (M3) at a point, one pass each.

A label in the comparison's own order has the utility

    u_t = rho_t theta' z_t + s_t b_k                                                (M2), with display order

where s_t is +1 if a was shown first, -1 if b was, and 0 where no order was shown (a comparison that a ranking implies);
b_k is the teacher's pull toward the response shown first. A tie is the outcome 1/2. Everything walks over the labels in
blocks that fit the cache, so one evaluation reads them once.
"""

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from scipy.sparse import csr_array
from scipy.special import expit

from activelearning.algorithms.kernels import THREADS, one_blas_thread, threads
from activelearning.algorithms.types import Floats, Labels

BLOCK_NUMBERS = 2**17  # float64 numbers of the design per block: 1 MB, within a core's L2
GRAM_NUMBERS = 2**20  # per block of a symmetric product, which wants long columns
THREADED_NUMBERS = 2**21  # from which a pass is shared out over the cores
Part = TypeVar("Part")


@dataclass(frozen=True)
class Curvature:
    """Minus the Hessian of the penalised log-likelihood in (theta, b), whose lower block is diagonal.

    reward  (d, d) float64  d^2 / d theta^2, (M4)
    cross   (d, k) float64  d^2 / d theta d b
    pull    (k,)   float64  d^2 / d b^2
    """

    reward: Floats
    cross: Floats
    pull: Floats


def blocks(piece: slice, width: int, *, numbers: int) -> Iterator[slice]:
    """Slices of a piece's rows, each of about `numbers` entries of the design."""
    step = max(64, numbers // max(1, width))
    return (slice(start, min(start + step, piece.stop)) for start in range(piece.start, piece.stop, step))


def side_by_side(work: Callable[[slice], Part], rows: int, width: int) -> list[Part]:
    """work(piece) for pieces of the rows, on all cores where there are many numbers; the parts in the rows' order.

    Our own threads and one BLAS thread in each: BLAS threads wait for one another after every block, which on shared
    cores took ten times as long.
    """
    if rows * width < THREADED_NUMBERS or THREADS == 1:
        return [work(slice(0, rows))]
    cuts = [rows * part // (2 * THREADS) for part in range(2 * THREADS + 1)]
    with one_blas_thread():
        return list(threads().map(work, [slice(*ends) for ends in itertools.pairwise(cuts)]))


def label_rationality(labels: Labels, rationality: Floats) -> Floats:
    """rho_t of every label: the entry of its teacher and category.

    rationality  (k, c) float64
    returns      (n,)   float64
    """
    return np.asarray(rationality[labels.teacher, labels.category], dtype=np.float64)


def utilities(labels: Labels, theta: Floats, *, rho: Floats, bias: Floats) -> Floats:
    """u_t = rho_t theta' z_t + s_t b_k: the log odds that a is preferred (M2).

    theta    (d,) float64
    rho      (n,) float64   per label, signed
    bias     (k,) float64   pull toward the response shown first
    returns  (n,) float64
    """
    return np.asarray(rho * (labels.design @ theta) + labels.side * bias[labels.teacher])


def log_likelihood(utility: Floats, outcome: Floats, weight: Floats | float = 1.0) -> float:
    """sum_t w_t [ y_t u_t - log(1 + e^{u_t}) ]                                      (M3)

    utility, outcome  (n,) float64   outcome 1/2 is a tie
    weight            (n,) float64   observation weights
    """
    return float(np.sum(weight * (outcome * utility - np.logaddexp(0.0, utility))))


@dataclass(frozen=True)
class Reading:
    """What one pass over the labels finds at a point, without priors.

    loglik    float            (M3)
    score     (d,) float64     sum_t w_t rho_t (y_t - p_t) z_t, the gradient in theta
    pull      (k,) float64     sum_{t of k} w_t s_t (y_t - p_t), the gradient in b
    gap       (n,) float64     theta' z_t
    surprise  (n,) float64     w_t (y_t - p_t)
    """

    loglik: float
    score: Floats
    pull: Floats
    gap: Floats
    surprise: Floats


def read_labels(labels: Labels, theta: Floats, bias: Floats, *, rho: Floats) -> Reading:
    """One pass at (theta, b).

    theta  (d,) float64;  bias (k,) float64;  rho (n,) float64
    """
    gap, surprise = np.empty(len(labels)), np.empty(len(labels))
    offset = labels.side * bias[labels.teacher]

    def read(piece: slice) -> tuple[float, Floats]:
        value, score = 0.0, np.zeros_like(theta)
        for rows in blocks(piece, theta.size, numbers=BLOCK_NUMBERS):
            design = labels.design[rows]  # (block, d)
            gap[rows] = design @ theta
            utility = rho[rows] * gap[rows] + offset[rows]
            value += log_likelihood(utility, labels.outcome[rows], labels.weight[rows])
            surprise[rows] = labels.weight[rows] * (labels.outcome[rows] - expit(utility))
            score += (rho[rows] * surprise[rows]) @ design
        return value, score

    parts = side_by_side(read, *labels.design.shape)
    value, score = sum(part[0] for part in parts), np.sum([part[1] for part in parts], axis=0)
    pull = per_teacher(labels, labels.side * surprise, teachers=bias.size)
    return Reading(value, score, pull, gap, surprise)


def evaluate(labels: Labels, theta: Floats, bias: Floats, *, rho: Floats) -> tuple[float, Floats, Floats]:
    """Log-likelihood (M3) and its gradient in theta (d,) and b (k,), as `read_labels` has them."""
    found = read_labels(labels, theta, bias, rho=rho)
    return found.loglik, found.score, found.pull


def curvature(
    labels: Labels, theta: Floats, bias: Floats, *, rho: Floats, with_pull: bool = True, with_reward: bool = True
) -> Curvature:
    """The curvature of the labels alone (no ridge, no prior) at (theta, b).

    theta        (d,) float64;  bias (k,) float64;  rho (n,) float64
    with_pull    False leaves the teachers' part at zero, where no position bias is fitted
    with_reward  False leaves the reward's part at zero, which is nearly all of the work
    returns      Curvature
    """
    utility = utilities(labels, theta, rho=rho, bias=bias)
    spread = labels.weight * expit(utility) * expit(-utility)  # (n,)  w p (1 - p), never 0 by cancellation
    return sum_squares(labels, spread, rho=rho, teachers=bias.size, with_pull=with_pull, with_reward=with_reward)


def sum_squares(
    labels: Labels, amount: Floats, *, rho: Floats, teachers: int, with_pull: bool = True, with_reward: bool = True
) -> Curvature:
    """sum_t a_t x_t x_t' over what a label turns: x_t = rho_t z_t for theta, and s_t for its teacher's pull.

    amount  (n,) float64  a_t >= 0;  a part that is not asked for is left at zero
    """
    width = labels.design.shape[1]
    reward = weighted_gram(labels.design, rho * rho * amount) if with_reward else np.zeros((width, width))
    if not with_pull:
        return Curvature(reward, np.zeros((width, teachers)), np.zeros(teachers))
    owner = csr_array(
        (rho * labels.side * amount, (labels.teacher, np.arange(len(labels)))), shape=(teachers, len(labels))
    )
    cross = np.asarray(owner @ labels.design).T  # (d, k)
    return Curvature(reward, cross, per_teacher(labels, labels.side**2 * amount, teachers=teachers))


def per_teacher(labels: Labels, amount: Floats, *, teachers: int) -> Floats:
    """Sums of a number per label over each teacher's labels: (n,) to (k,)."""
    return np.bincount(labels.teacher, weights=amount, minlength=teachers).astype(np.float64)


def weighted_gram(design: Floats, weight: Floats) -> Floats:
    """sum_t a_t z_t z_t' for weights a_t >= 0, by symmetric rank-k products of blocks.

    design (n, d) float64;  weight (n,) float64;  returns (d, d) float64, symmetric
    """
    root = np.sqrt(weight)

    def add_up(piece: slice) -> Floats:
        total = np.zeros((design.shape[1], design.shape[1]))
        for rows in blocks(piece, design.shape[1], numbers=GRAM_NUMBERS):
            scaled = design[rows] * root[rows, None]
            total += scaled.T @ scaled  # numpy sees A'A and calls syrk: half the work of a product
        return total

    return np.asarray(np.sum(side_by_side(add_up, *design.shape), axis=0))
