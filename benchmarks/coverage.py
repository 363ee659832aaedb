"""Do the 95 % intervals of the reward and of rationality cover the truth in 95 of 100 campaigns?

    python -m benchmarks.coverage                 1,000 campaigns for each strategy
    python -m benchmarks.coverage --quick         100 of each

Every campaign draws its own truth from the priors: theta ~ N(0, I / ridge) with sd(theta'z) near 2, rationality
N(rho_k, 0.5^2) around rho_k ~ N(1, 0.7^2), pull N(0, 0.5^2). Coordinates of all campaigns are pooled; the Monte Carlo
interval counts a campaign as one draw. Under "dual" the design depends on the answers and on rationality as it is
estimated, with a draw from its posterior for every batch. The last line of the output is JSON.
"""

import argparse
import json
import time
from dataclasses import dataclass

import numpy as np

from activelearning.algorithms.rationality import RationalityPrior, fit_jointly
from activelearning.algorithms.simulation import Campaign, Plan
from activelearning.algorithms.types import Floats, Pool, Teachers
from activelearning.algorithms.worlds import MANY, World

FEATURES, TEACHERS, CATEGORIES, LABELS = 8, 6, 3, 600
PRIOR = RationalityPrior(mean=1.0, between=0.7, within=0.5, pull=0.5)
REACH = 1.959964


@dataclass(frozen=True)
class Covered:
    """One campaign: the share of coordinates inside their interval, and the errors in units of the truth."""

    theta: float
    rationality: float
    bias: float
    length: float  # |theta_hat| / |theta| - 1
    rationality_bias: float  # mean of rho_hat - rho
    naive_theta: float  # as theta, were rationality known to be what it is estimated at


def draw_world(generator: np.random.Generator) -> tuple[World, float]:
    """A world from the priors, and the ridge that is theta's prior precision."""
    ridge = FEATURES / 4.0
    rho = PRIOR.mean + generator.normal(0, PRIOR.between, size=(TEACHERS, 1))
    rho = rho + generator.normal(0, PRIOR.within, size=(TEACHERS, CATEGORIES))
    assert PRIOR.pull is not None
    world = World(
        theta=generator.standard_normal(FEATURES) / np.sqrt(ridge),
        pool=Pool(
            generator.standard_normal((400, FEATURES)).astype(np.float32),
            generator.integers(CATEGORIES, size=400).astype(np.int64),
            np.full(400, MANY, dtype=np.int64),
        ),
        teachers=Teachers(
            rho,
            np.ones(TEACHERS),
            np.full(TEACHERS, MANY, dtype=np.int64),
            np.ones((TEACHERS, CATEGORIES), dtype=bool),
        ),
        bias=generator.normal(0, PRIOR.pull, size=TEACHERS),
        policy=np.zeros((1, 2, FEATURES)),
        held_out=np.zeros((1, FEATURES)),
    )
    return world, ridge


def run_one(strategy: str, seed: int) -> Covered:
    """One campaign to its last label, and what its intervals covered."""
    generator = np.random.default_rng([seed, 7])
    world, ridge = draw_world(generator)
    plan = Plan(
        strategy=strategy,
        labels=LABELS,
        first=2 * FEATURES * 3,
        ridge=ridge,
        refit_every=40,
        measure_at=(),
        rationality="thompson",
        prior=PRIOR,
    )
    campaign = Campaign(world, plan, generator)
    campaign.run()
    estimate = fit_jointly(
        campaign.labels(), teachers=TEACHERS, categories=CATEGORIES, ridge=ridge, prior=PRIOR, tolerance=1e-4
    )
    truth = world.teachers.rationality
    naive = np.sqrt(np.diag(np.linalg.inv(estimate.information)))
    return Covered(
        theta=_share(estimate.theta, world.theta, np.sqrt(np.diag(estimate.covariance))),
        rationality=_share(estimate.rationality, truth, estimate.rationality_error),
        bias=_share(estimate.bias, world.bias, estimate.bias_error),
        length=float(np.linalg.norm(estimate.theta) / np.linalg.norm(world.theta) - 1),
        rationality_bias=float(np.mean(estimate.rationality - truth)),
        naive_theta=_share(estimate.theta, world.theta, naive),
    )


def _share(value: Floats, truth: Floats, error: Floats) -> float:
    return float(np.mean(np.abs(value - truth) <= REACH * error))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--campaigns", type=int, default=1000)
    parser.add_argument("--quick", action="store_true", help="100 campaigns of each strategy")
    parser.add_argument("--strategies", nargs="+", default=["uniform", "dual"])
    parser.add_argument("--minutes", type=float, default=600.0, help="start no campaign after this long")
    options = parser.parse_args()
    campaigns = 100 if options.quick else options.campaigns
    deadline = time.monotonic() + 60 * options.minutes
    output: dict[str, dict[str, list[float]]] = {}
    print(
        f"{LABELS} labels, {FEATURES} features, {TEACHERS} teachers, {CATEGORIES} categories; mean ± 1.96 Monte Carlo\n"
    )
    for strategy in options.strategies:
        rows: list[Covered] = []
        for seed in range(campaigns):
            if time.monotonic() > deadline:
                break
            rows.append(run_one(strategy, seed))
        print(f"{strategy}: {len(rows)} campaigns")
        for name in ("theta", "rationality", "bias", "naive_theta", "length", "rationality_bias"):
            values = np.array([getattr(row, name) for row in rows])
            reach = float(REACH * values.std(ddof=1) / np.sqrt(len(values)))
            mean = float(values.mean())
            print(f"  {name:18}{mean:8.4f} ± {reach:.4f}")
            key = f"{name}_coverage" if name in ("theta", "rationality", "bias", "naive_theta") else name
            output.setdefault(key, {})[strategy] = [round(x, 4) for x in (mean, mean - reach, mean + reach)]
    print(json.dumps(output))


if __name__ == "__main__":
    main()
