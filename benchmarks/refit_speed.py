"""How fast the reward is fitted, cold and after 256 new labels, against scikit-learn to the same distance.

    python -m benchmarks.refit_speed --labels 100000 --dim 384

Distance is |theta - theta_opt| in the norm of H, where standard errors have length sqrt(d). scikit-learn's tolerance is
lowered until it is as near as asked, and only the run that gets there is timed. The last line of the output is JSON.
"""

import argparse
import json
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression

from activelearning.algorithms.estimation import Estimate, fit, take
from activelearning.algorithms.types import Floats, Labels

NEW = 256
TOLERANCES = (1e-4, 1e-5, 1e-6, 1e-7, 1e-8, 1e-9, 1e-10)
Result = TypeVar("Result")


def simulate(labels: int, dim: int, *, seed: int) -> tuple[Labels, Floats]:
    """Labels of ten teachers in four categories; sd(theta'z) is 2.

    The spread of coordinate j falls as j^(-1/2), as that of sentence embeddings' differences does.
    """
    generator = np.random.default_rng(seed)
    spread = np.arange(1, dim + 1) ** -0.5
    design = generator.standard_normal((labels, dim)) * spread
    theta = generator.standard_normal(dim)
    theta *= 2.0 / np.sqrt(np.sum((theta * spread) ** 2))
    rationality = np.exp(generator.normal(-0.3, 0.6, size=(10, 4)))
    teacher, category = generator.integers(10, size=labels), generator.integers(4, size=labels)
    utility = rationality[teacher, category] * (design @ theta)
    outcome = (generator.random(labels) < 1 / (1 + np.exp(-utility))).astype(np.float64)
    side, weight = generator.choice([-1.0, 1.0], size=labels), np.ones(labels)
    return Labels(design, outcome, teacher, category, side, weight), rationality


@dataclass(frozen=True)
class Seconds:
    """By the clock, and of all processors together; only the second is the same on a machine that others use."""

    clock: float
    processor: float


def timed(run: Callable[[], Result], *, repeats: int) -> tuple[Seconds, Result]:
    """Medians of a few runs, and the last result."""
    rows = []
    for _ in range(repeats):
        start = time.perf_counter(), time.process_time()
        result = run()
        rows.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    return Seconds(*np.median(rows, axis=0).tolist()), result


def distance(theta: Floats, optimum: Estimate) -> float:
    away = theta - optimum.theta
    return float(np.sqrt(away @ optimum.information @ away))


def time_sklearn(
    solver: str, rows: Floats, outcome: Floats, optimum: Estimate, *, asked: float, start: Floats | None = None
) -> tuple[Seconds, float, int]:
    """Seconds, distance and iterations of the first tolerance that comes as near as asked."""
    for tolerance in TOLERANCES:
        model = LogisticRegression(
            solver=solver, C=1 / optimum.ridge, fit_intercept=False, tol=tolerance, max_iter=1000, warm_start=True
        )
        if start is not None:
            model.coef_, model.intercept_, model.classes_ = start[None].copy(), np.zeros(1), np.array([0.0, 1.0])
        with warnings.catch_warnings():
            warnings.simplefilter("error", ConvergenceWarning)
            seconds, _ = timed(partial(model.fit, rows, outcome), repeats=1)
        reached = distance(model.coef_[0], optimum)
        if reached <= asked:
            return seconds, reached, int(model.n_iter_[0])
    raise SystemExit(f"scikit-learn's {solver} stays {reached:.3g} away.")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--labels", type=int, default=100_000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--asked", type=float, default=1e-3, help="distance from the optimum in the norm of H")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--quick", action="store_true", help="20,000 labels of 128 features")
    options = parser.parse_args()
    count, dim = (20_000, 128) if options.quick else (options.labels, options.dim)
    labels, rationality = simulate(count, dim, seed=options.seed)
    settings = {"rationality": rationality, "ridge": 1.0}
    optimum = fit(labels, **settings, tolerance=1e-8)  # type: ignore[arg-type]
    before = fit(take(labels, slice(0, count - NEW)), **settings, tolerance=1e-3)  # type: ignore[arg-type]

    cold_seconds, cold = timed(lambda: fit(labels, **settings, tolerance=options.asked), repeats=3)  # type: ignore[arg-type]
    warm_seconds, warm = timed(
        lambda: fit(labels, **settings, start=before, tolerance=options.asked, is_fresh=False),  # type: ignore[arg-type]
        repeats=5,
    )
    rows = rationality[labels.teacher, labels.category][:, None] * labels.design
    newton = time_sklearn("newton-cholesky", rows, labels.outcome, optimum, asked=options.asked)
    again = time_sklearn("newton-cholesky", rows, labels.outcome, optimum, asked=options.asked, start=before.theta)
    lbfgs = time_sklearn("lbfgs", rows, labels.outcome, optimum, asked=options.asked)

    print(f"{count:,} labels, {dim} features, to {options.asked:g} of the optimum in the norm of H\n")
    print(f"{'solver':40}{'seconds':>9}{'processor':>11}{'distance':>12}{'steps':>7}{'passes':>8}")
    for name, (seconds, reached, steps), passes in (
        ("cold", (cold_seconds, distance(cold.theta, optimum), cold.steps), str(cold.passes)),
        (f"warm, {NEW} new labels", (warm_seconds, distance(warm.theta, optimum), warm.steps), str(warm.passes)),
        ("scikit-learn newton-cholesky, cold", newton, ""),
        ("scikit-learn newton-cholesky, warm", again, ""),
        ("scikit-learn lbfgs, cold", lbfgs, ""),
    ):
        print(f"{name:40}{seconds.clock:9.3f}{seconds.processor:11.3f}{reached:12.1e}{steps:7d}{passes:>8}")
    figures: dict[str, float] = {"warm_passes": warm.passes}
    for unit, suffix in (("clock", ""), ("processor", "_by_processor")):
        cold_took, warm_took, newton_took, again_took, lbfgs_took = (
            float(getattr(seconds, unit)) for seconds in (cold_seconds, warm_seconds, newton[0], again[0], lbfgs[0])
        )
        figures |= {
            f"cold_speedup{suffix}": min(newton_took, lbfgs_took) / cold_took,
            f"cold_speedup_newton{suffix}": newton_took / cold_took,
            f"cold_speedup_lbfgs{suffix}": lbfgs_took / cold_took,
            f"warm_speedup{suffix}": newton_took / warm_took,
            f"warm_speedup_warm{suffix}": again_took / warm_took,
        }
    print(json.dumps({key: round(value, 2) for key, value in figures.items()}))


if __name__ == "__main__":
    main()
