"""Selection: which comparisons to ask next, and which teacher to ask each of them."""

import numpy as np

from .eligibility import NO_PAIRS, Eligibility
from .information import (
    NotFinite,
    cholesky,
    direction,
    information_gain,
    label_weight,
    planned_information,
)
from .lazy import LazyGreedy
from .strategies import STRATEGIES, View
from .types import Floats, Ints, Pick, Pool, Responses, Teachers

PLAIN = 20_000
"""Pairs up to which `dual` scores everything anew for each pick: no compiling, and no slower."""


def select(
    pool: Pool,
    teachers: Teachers,
    *,
    theta: Floats,
    information: Floats,
    size: int,
    rng: np.random.Generator,
    strategy: str = "dual",
    judged: Ints = NO_PAIRS,
    in_flight: Ints = NO_PAIRS,
    budget: float | None = None,
    gram: Floats | None = None,
    responses: Responses | None = None,
) -> list[Pick]:
    """Choose up to `size` pairs, each counted into H before the next is chosen.

    pool.design may be a torch tensor, on any device: `dual` then makes its passes there.

    theta        (d,)   float64   the estimate, held fixed over the batch
    information  (d, d) float64   H of the labels; offers outside the pool counted in by `planned_information`
    size         >= 0             fewer picks come back when no eligible pair tells anything
    rng          draws what a strategy draws; `dual` draws nothing
    strategy     a name in STRATEGIES
    judged       (j, 2) int64     (comparison, teacher) pairs that are not to be asked again
    in_flight    (f, 2) int64     live offers on the pool's comparisons: counted into H (M6), not to be asked again;
                                  room and capacity are already net of them
    budget       what the picks may cost together; None is no limit
    gram         (d, d) float64   V, for `apo` alone
    responses    for the dueling strategies alone
    returns      picks in the order chosen; ties to the smaller comparison, then the smaller teacher
    raises       ValueError, NotFinite, NotPositiveDefinite
    """
    check_estimate(pool, theta=theta, information=information, size=size, strategy=strategy)
    pairs = np.concatenate([np.asarray(judged).reshape(-1, 2), np.asarray(in_flight).reshape(-1, 2)])
    h = planned(pool, teachers, theta=theta, information=information, in_flight=in_flight)
    design: object = pool.design
    if strategy == "dual" and not isinstance(design, np.ndarray):
        from .torch_greedy import TorchGreedy  # a pool in numpy must not cost the import of torch

        return TorchGreedy(pool, teachers, theta=theta, information=h, judged=pairs, budget=budget).picks(size)
    if strategy == "dual" and len(pool) * len(teachers) > PLAIN:
        return LazyGreedy(pool, teachers, theta=theta, information=h, judged=pairs, budget=budget).picks(size)
    ledger = Eligibility(pool, teachers, judged=pairs, budget=budget)
    view = View(
        pool=pool,
        teachers=teachers,
        theta=theta,
        information=h,
        open=ledger,
        rng=rng,
        gram=None if gram is None else gram.copy(),
        responses=responses,
    )
    picks: list[Pick] = []
    for _ in range(size):
        choice = STRATEGIES[strategy](view)
        if choice is None:
            break
        pick = describe(view, *choice)
        picks.append(pick)
        ledger.take(pick.comparison, pick.teacher)
        view.advance(pick.comparison, weight=pick.weight)
    return picks


def check_estimate(pool: Pool, *, theta: Floats, information: Floats, size: int, strategy: str) -> None:
    """Refuse an estimate that does not fit the pool; raises ValueError, NotFinite, NotPositiveDefinite."""
    if strategy not in STRATEGIES:
        raise ValueError(f"no strategy is called {strategy!r}; there are {', '.join(STRATEGIES)}")
    if size < 0:
        raise ValueError(f"the batch size must be at or above 0, not {size}")
    if theta.shape != pool.design.shape[1:] or information.shape != theta.shape * 2:
        raise ValueError(f"shapes disagree: design {pool.design.shape}, theta {theta.shape}, H {information.shape}")
    if not np.isfinite(theta).all():
        raise NotFinite("theta must be finite")
    cholesky(information)


def planned(pool: Pool, teachers: Teachers, *, theta: Floats, information: Floats, in_flight: Ints) -> Floats:
    """H with the live offers counted in, at the weights they have under this estimate."""
    rows, asked = np.asarray(in_flight, dtype=np.int64).reshape(-1, 2).T
    if len(rows) == 0:
        return information.copy()
    design = np.asarray([pool.design[row].tolist() for row in rows], dtype=np.float64)
    weight = label_weight(design @ theta, teachers.rationality[asked, pool.category[rows]])
    return planned_information(information, design=design, weight=weight)


def describe(view: View, comparison: int, teacher: int, propensity: float) -> Pick:
    """The pick with the figures that explain it."""
    row = np.asarray(view.pool.design[comparison], dtype=np.float64)
    q = direction(view.information, row)[1]
    rho = float(view.teachers.rationality[teacher, view.pool.category[comparison]])
    gap = float(view.gap[comparison])
    weight = float(label_weight(gap, rho))
    return Pick(
        comparison=comparison,
        teacher=teacher,
        uncertainty=q,
        gap=gap,
        rationality=rho,
        weight=weight,
        gain=float(information_gain(weight, q)),
        propensity=propensity,
    )
