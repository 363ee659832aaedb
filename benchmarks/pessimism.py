"""What do greed and pessimism cost, against the number of labels and against coverage?

    python -m benchmarks.pessimism [--quick] [--runs N] [--picture docs/pictures/pessimism.png]

Two bandits with a known answer (training/algorithms/bandit.py): the trap, where greed provably fails, and the linear
one, where it does not. Regrets with 95 % intervals over runs; slopes of log regret against log T by least squares,
with intervals from resampling the runs. The last line is JSON.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.random import Generator, SeedSequence, default_rng
from numpy.typing import NDArray

from training.algorithms.bandit import FEW, GOOD, Outcome, greedy_failure, play_linear, spring_trap

POLICIES = ("greedy", "pessimistic")
Table = dict[str, dict[float, NDArray[np.float64]]]  # policy -> x -> regrets of the runs


def play(game: Callable[[int, Generator], Outcome], xs: Sequence[int], *, runs: int, seed: int) -> Table:
    """Regrets of both policies for every x; the runs of every x have streams of their own."""
    table: Table = {policy: {} for policy in POLICIES}
    for x, source in zip(xs, SeedSequence(seed).spawn(len(xs)), strict=True):
        outcomes = [game(x, default_rng(stream)) for stream in source.spawn(runs)]
        table["greedy"][x] = np.array([outcome.greedy for outcome in outcomes])
        table["pessimistic"][x] = np.array([outcome.pessimistic for outcome in outcomes])
    return table


def mean_and_half(regrets: NDArray[np.float64]) -> tuple[float, float]:
    """Mean and half the width of its 95 % interval."""
    return float(regrets.mean()), float(1.96 * regrets.std(ddof=1) / np.sqrt(regrets.shape[0]))


def slope(regrets: dict[float, NDArray[np.float64]], rng: Generator, *, draws: int = 500) -> tuple[float, float, float]:
    """Least-squares slope of log mean regret on log T, and its 95 % interval by resampling runs."""
    logs = np.log(np.array(list(regrets)))

    def of(means: NDArray[np.float64]) -> float:
        return float(np.polyfit(logs, np.log(np.maximum(means, 1e-12)), 1)[0])

    resampled = [
        of(np.array([rng.choice(runs, size=runs.shape[0]).mean() for runs in regrets.values()])) for _ in range(draws)
    ]
    low, high = np.quantile(resampled, [0.025, 0.975])
    return of(np.array([runs.mean() for runs in regrets.values()])), float(low), float(high)


def show(title: str, column: str, table: Table) -> None:
    print(f"\n{title}")
    print(f"{column:>16} {'greedy':>22} {'pessimistic':>22}")
    for x in table["greedy"]:
        cells = [f"{mean:10.4f} ± {half:.4f}" for mean, half in (mean_and_half(table[name][x]) for name in POLICIES)]
        print(f"{x:>16g} {cells[0]:>22} {cells[1]:>22}")


def draw(path: Path, trap: Table, dial: Table, linear: dict[float, Table]) -> None:
    """Three panels: the trap against T, the trap against coverage, the linear bandit against T."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (left, middle, right) = plt.subplots(1, 3, figsize=(13, 4), constrained_layout=True)
    colours = {"greedy": "#c2410c", "pessimistic": "#1d4ed8"}
    for axis, table, label in ((left, trap, "labels of the good response"), (middle, dial, "labels of each bad one")):
        for name in POLICIES:
            points = np.array([mean_and_half(runs) for runs in table[name].values()])
            axis.errorbar(list(table[name]), points[:, 0], points[:, 1], color=colours[name], marker="o", label=name)
        axis.set(xscale="log", xlabel=label, ylabel="regret", ylim=(-0.1, 2.2))
    left.axhline(GOOD * 2 * greedy_failure(), color=colours["greedy"], linestyle=":", label="proved for greed, T large")
    left.set_title("The trap: greed never learns")
    middle.set_title("… until the bad ones are labelled too")
    for coverage, style in zip(linear, ("-", "--", ":"), strict=False):
        for name in POLICIES:
            points = np.array([mean_and_half(runs) for runs in linear[coverage][name].values()])
            right.errorbar(
                list(linear[coverage][name]),
                points[:, 0],
                points[:, 1],
                color=colours[name],
                linestyle=style,
                label=f"{name}, coverage {coverage:g}",
            )
    right.set(xscale="log", yscale="log", xlabel="labels", ylabel="regret", title="Linear, symmetric: caution costs")
    for axis in (left, middle, right):
        axis.grid(alpha=0.3)
        axis.legend(fontsize=8)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)


def _linear(coverage: float, labels: int, rng: Generator) -> Outcome:
    return play_linear(labels, coverage, rng)


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="fewer runs, within 50 s")
    parser.add_argument("--runs", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path)
    given = parser.parse_args(arguments)
    runs = given.runs or (30 if given.quick else 200)
    started = time.monotonic()

    sizes = [100, 1000, 4000] if given.quick else [30, 100, 300, 1000, 3000, 10000]
    trap = play(lambda x, rng: spring_trap(x, rng), sizes, runs=runs, seed=given.seed)
    show(f"The trap: each bad response labelled {FEW} times. Proved: greed fails with probability at least "
         f"{greedy_failure():.3f}", "good labels", trap)  # fmt: skip
    fews = [2, 16, 128] if given.quick else [1, 2, 4, 8, 16, 32, 64, 128]
    dial = play(lambda x, rng: spring_trap(2000, rng, few=x), fews, runs=runs, seed=given.seed + 1)
    show("The trap with 2000 labels of the good response", "bad labels", dial)
    counts = [100, 400, 1600] if given.quick else [100, 200, 400, 800, 1600, 3200, 6400]
    linear: dict[float, Table] = {}
    slopes: dict[str, dict[str, tuple[float, float, float]]] = {}
    for coverage in (1.0, 0.3, 0.1):
        linear[coverage] = play(partial(_linear, coverage), counts, runs=runs, seed=given.seed + 2)
        show(f"Linear, coverage {coverage:g}", "labels", linear[coverage])
        slopes[f"{coverage:g}"] = {name: slope(linear[coverage][name], default_rng(given.seed)) for name in POLICIES}
        for name, (value, low, high) in slopes[f"{coverage:g}"].items():
            print(f"  slope of log regret on log T, {name}: {value:.2f} [{low:.2f}, {high:.2f}]")
    if given.picture:
        draw(given.picture, trap, dial, linear)
    last = sizes[-1]
    print(
        json.dumps(
            {
                "trap_regret": {name: mean_and_half(trap[name][last]) for name in POLICIES},
                "trap_greedy_failure": float((trap["greedy"][last] > GOOD).mean()),
                "trap_greedy_failure_proved": greedy_failure(),
                "linear_regret": {
                    f"{c:g}": {n: mean_and_half(t[n][counts[-1]]) for n in POLICIES} for c, t in linear.items()
                },
                "slope": slopes,
                "runs": runs,
                "seconds": time.monotonic() - started,
            }
        )
    )


if __name__ == "__main__":
    main()
