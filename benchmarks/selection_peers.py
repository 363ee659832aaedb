"""The plain ways to select, as peers: the eager greedy by matrix-vector products, and slogdet of every pair."""

import time
from collections.abc import Callable

import numba
import numpy as np
import torch

from activelearning.algorithms.choice_tables import Choice, log_w
from activelearning.algorithms.eligibility import NO_PAIRS
from activelearning.algorithms.information import cholesky
from activelearning.algorithms.running_information import RunningInformation
from activelearning.algorithms.teacher_choice import best_teacher, build_choice, drop_teacher
from activelearning.algorithms.types import Bools, Floats, Ints, Pool, Singles, Teachers

Product = Callable[[Floats], Singles]


def numpy_product(design: Singles) -> Product:
    return lambda v: design @ v.astype(np.float32)


def torch_product(design: Singles) -> Product:
    tensor = torch.from_numpy(design)
    return lambda v: torch.mv(tensor, torch.from_numpy(v.astype(np.float32))).numpy()


def plain_scores(design: Singles, information: Floats) -> Floats:
    """q of every row by float32 matrix products, as a good plain implementation has it. (m,)"""
    whitener = np.linalg.inv(cholesky(information)).astype(np.float32)
    q = np.empty(len(design))
    for start in range(0, len(design), 8192):
        y = design[start : start + 8192] @ whitener.T
        q[start : start + 8192] = np.einsum("ij,ij->i", y, y)
    return q


@numba.njit(cache=True)
def assign(choice: Choice, category: Ints, gap: Floats, flagged: Bools, rows: Ints, who: Ints, weight: Floats) -> None:
    """who[i] and weight[i]: the best eligible teacher of these rows, all costs equal, and w (M6)."""
    for i in rows:
        who[i] = best_teacher(choice, category[i], gap[i], 1.0, i, flagged[i])[0]
        weight[i] = np.exp(log_w(choice.rationality[who[i], category[i]], gap[i])) if who[i] >= 0 else 0.0


def eager_picks(
    pool: Pool,
    teachers: Teachers,
    *,
    theta: Floats,
    information: Floats,
    q: Floats,
    size: int,
    product: Product,
    judged: Ints = NO_PAIRS,
) -> tuple[list[tuple[int, int]], float]:
    """The best of all rows, then (M9) over all rows; equal costs. Returns the pairs and the seconds of the loop.

    q (m,) is the first scores, overwritten. Teachers come from the same tables as ours, and only rows whose best
    teacher changed are looked at again, so what differs is the passes.
    """
    running, capacity, room = RunningInformation(information), teachers.capacity.copy(), pool.room.copy()
    flagged, asked = np.zeros(len(pool), dtype=np.bool_), np.sort(judged[:, 0] * len(teachers) + judged[:, 1])
    flagged[judged[:, 0]] = True
    choice = build_choice(teachers, able=teachers.may_judge, judged=asked[:0], asked=asked)
    gap = np.abs(product(theta).astype(np.float64))
    who, weight = np.empty(len(pool), dtype=np.int64), np.empty(len(pool))
    assign(choice, pool.category, gap, flagged, np.arange(len(pool)), who, weight)
    weight[room <= 0] = -1.0
    picks: list[tuple[int, int]] = []
    start = time.perf_counter()
    for _ in range(size):
        i = int(np.argmax(weight * q))
        teacher, w = int(who[i]), float(weight[i])
        if teacher < 0:
            break
        picks.append((i, teacher))
        before = running.update(pool.design[i].astype(np.float64), weight=w)
        v = running.log.v[running.log.now - 1 - running.log.base]
        q -= w / (1.0 + w * before) * np.square(product(v))
        capacity[teacher] -= 1
        room[i] -= 1
        flagged[i] = True
        asked = np.sort(np.append(asked, i * len(teachers) + teacher))
        choice = choice._replace(asked=asked)
        changed = np.array([i])
        if capacity[teacher] == 0:
            drop_teacher(choice, teacher)
            changed = np.append(np.flatnonzero(who == teacher), i)
        assign(choice, pool.category, gap, flagged, changed, who, weight)
        weight[changed[room[changed] <= 0]] = -1.0
    return picks, time.perf_counter() - start


def slogdet_seconds(design: Singles, information: Floats, *, sample: int) -> float:
    """Seconds of one slogdet of H + w z z', the plainest reading of (M7), on a sample of pairs."""
    start = time.perf_counter()
    for row in design[:sample].astype(np.float64):
        np.linalg.slogdet(information + 0.25 * np.outer(row, row))
    return (time.perf_counter() - start) / sample
