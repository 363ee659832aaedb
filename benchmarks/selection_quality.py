"""How good is greedy? log det reached against the continuous D-optimal bound, with and without capacities.

The bound relaxes whole picks to shares of the n labels: maximise log det(H0 + n sum x_p w_p z_p z_p') over shares x_p
of pairs p with sum x = 1, and with capacities also sum of a teacher's shares <= capacity / n. Frank-Wolfe climbs, and
its linear step gives a certified upper bound (the objective is concave): value + n (largest slope - slope at x).
No batch of n picks, greedy or not, can pass it.

    python -m benchmarks.selection_quality
"""

import argparse
import json

import numpy as np

from activelearning.algorithms.information import label_weight, log_det, planned_information
from activelearning.algorithms.lazy import LazyGreedy
from activelearning.algorithms.types import Floats, Ints, Pool, Teachers


def best_vertex(slope: Floats, *, teacher: Ints, capacity: Ints, n: int, room: int) -> Floats:
    """The shares that a linear objective likes best: the largest slopes first, as room and capacities allow."""
    shares, left, total = np.zeros(len(slope)), capacity.astype(float).copy(), float(n)
    for p in np.argsort(-slope):
        take = min(total, left[teacher[p]], float(room))
        shares[p] = take
        total -= take
        left[teacher[p]] -= take
        if total <= 0:
            break
    return shares


def continuous_bound(
    start: Floats, design: Floats, weight: Floats, *, teacher: Ints, capacity: Ints, n: int, room: int, rounds: int
) -> float:
    """Certified upper bound of log det by Frank-Wolfe; design (p, d) and weight (p,) by pair, shares sum to n."""
    rows = design * np.sqrt(weight)[:, None]
    shares = best_vertex(np.square(rows).sum(axis=1), teacher=teacher, capacity=capacity, n=n, room=room)
    bound = np.inf
    for _ in range(rounds):
        h = start + (rows * shares[:, None]).T @ rows
        slope = np.einsum("ij,ij->i", rows @ np.linalg.inv(h), rows)
        vertex = best_vertex(slope, teacher=teacher, capacity=capacity, n=n, room=room)
        bound = min(bound, log_det(h) + float(slope @ (vertex - shares)))
        step = line_search(h, (rows * (vertex - shares)[:, None]).T @ rows)
        shares = shares + step * (vertex - shares)
    return bound


def line_search(h: Floats, toward: Floats) -> float:
    """argmax over [0, 1] of log det(h + s toward), by bisection on its falling slope."""
    low, high = 0.0, 1.0
    for _ in range(25):
        middle = 0.5 * (low + high)
        if np.trace(np.linalg.solve(h + middle * toward, toward)) > 0.0:
            low = middle
        else:
            high = middle
    return 0.5 * (low + high)


def compare(
    seed: int, *, candidates: int, dim: int, teachers: int, n: int, capacity: int, rounds: int
) -> dict[str, float]:
    """One small pool: nats gained by greedy and by uniform pairs, over the bound; each pair at most once."""
    rng = np.random.default_rng(seed)
    pool = Pool(
        rng.normal(size=(candidates, dim)).astype(np.float32),
        np.zeros(candidates, dtype=np.int64),
        np.full(candidates, teachers),
    )
    staff = Teachers(
        np.exp(rng.normal(-0.3, 0.6, size=(teachers, 1))),
        np.ones(teachers),
        np.full(teachers, capacity),
        np.ones((teachers, 1), dtype=np.bool_),
    )
    theta = rng.normal(size=dim) / np.sqrt(dim)
    h = 0.5 * np.eye(dim)
    design = pool.design.astype(np.float64)
    picks = LazyGreedy(pool, staff, theta=theta, information=h).picks(n)
    weight = label_weight(np.abs(design @ theta)[:, None], staff.rationality[:, 0])  # (m, k)
    who = np.tile(np.arange(teachers), candidates)
    bound = continuous_bound(
        h,
        np.repeat(design, teachers, axis=0),
        weight.ravel(),
        teacher=who,
        capacity=staff.capacity,
        n=n,
        room=1,
        rounds=rounds,
    )

    def reached(rows: Ints, asked: Ints) -> float:
        return log_det(planned_information(h, design=design[rows], weight=weight[rows, asked])) - log_det(h)

    greedy = reached(np.array([p.comparison for p in picks]), np.array([p.teacher for p in picks]))
    free = [(i, k) for i in range(candidates) for k in range(teachers)]
    chosen: list[tuple[int, int]] = []
    order, left = rng.permutation(len(free)), staff.capacity.copy()
    for place in order:
        i, k = free[place]
        if len(chosen) < n and left[k] > 0:
            left[k] -= 1
            chosen.append((i, k))
    rows, asked = np.array(chosen).T
    return {
        "greedy_nats": greedy,
        "bound_nats": bound - log_det(h),
        "greedy_over_bound": greedy / (bound - log_det(h)),
        "uniform_over_bound": reached(rows, asked) / (bound - log_det(h)),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--candidates", type=int, default=120)
    parser.add_argument("--dim", type=int, default=8)
    parser.add_argument("--teachers", type=int, default=6)
    parser.add_argument("--labels", type=int, default=60)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--rounds", type=int, default=300)
    options = parser.parse_args()
    result: dict[str, float] = {}
    for name, capacity in (("free", options.labels), ("capacity", -(-options.labels // options.teachers))):
        runs = [
            compare(
                seed,
                candidates=options.candidates,
                dim=options.dim,
                teachers=options.teachers,
                n=options.labels,
                capacity=capacity,
                rounds=options.rounds,
            )
            for seed in range(options.runs)
        ]
        for key in runs[0]:
            values = np.array([run[key] for run in runs])
            result[f"{name}_{key}"] = float(values.mean())
            print(f"{name:9s} {key:20s} mean {values.mean():.4f}  least {values.min():.4f}")
        result[f"{name}_least_greedy_over_bound"] = min(run["greedy_over_bound"] for run in runs)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
