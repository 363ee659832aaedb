"""How many labels each strategy needs: simulated truths, MT-Bench votes replayed, and HH pairs with simulated teachers.

    python -m benchmarks.label_efficiency --quick                      half a minute, a few repetitions, no encoder
    python -m benchmarks.label_efficiency --scratch DIR --pictures docs/pictures/study

Every repetition is kept in the scratch folder as it ends, so an interrupted study goes on where it stood and a longer
one adds to it. Repetition r of every strategy has the same world. The last line of the output is JSON.
"""

import argparse
import json
import os
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np

from activelearning.algorithms.simulation import Measure, run_campaign
from activelearning.algorithms.types import Floats
from benchmarks.curves import mean_with_error, savings, slope
from benchmarks.study_sections import Arm, Section, sections


def run_arm(
    name: str, section: Section, arm: Arm, *, repetitions: int, scratch: Path, labels: int | None, deadline: float
) -> list[list[Measure]]:
    """The repetitions of one arm: those on file, then the missing ones while there is time."""
    path = scratch / f"{name}--{arm.name}.jsonl".replace(" ", "_").replace(",", "")
    done = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() and labels is None else []
    for repetition in range(len(done), repetitions):
        if time.monotonic() > deadline:
            break
        world = section.world(np.random.default_rng([repetition, 1]))
        plan = section.plan(world, arm) if labels is None else section.plan(world, arm, labels=labels)
        measures = run_campaign(world, plan, generator=np.random.default_rng([repetition, 2, *arm.name.encode()]))
        done.append([asdict(measure) for measure in measures])
        if labels is None:  # a short campaign of --quick is not part of the study
            with path.open("a") as file:
                file.write(json.dumps(done[-1]) + "\n")
    return [[Measure(**measure) for measure in run] for run in done[:repetitions]]


def metric(runs: list[list[Measure]], name: str, *, length: int) -> Floats:
    """(r, length) of a falling figure; a run that had nothing left to ask keeps its last value."""
    values = [[1 - m.accuracy if name == "error" else getattr(m, name) for m in run] for run in runs]
    return np.array([row + [row[-1]] * (length - len(row)) for row in values])


def labels_of(results: dict[str, list[list[Measure]]]) -> Floats:
    """The label counts at which the section was measured, (t,)."""
    longest = max((run for runs in results.values() for run in runs), key=len)
    return np.array([m.labels for m in longest], dtype=np.float64)


def report(name: str, section: Section, results: dict[str, list[list[Measure]]]) -> dict[str, dict[str, list[float]]]:
    """Print a section's table; return the savings of every arm by name."""
    generator = np.random.default_rng(0)
    base, output, x = results[section.against], {}, labels_of(results)
    counts = sorted({len(runs) for runs in results.values()})
    print(f"\n## {name}   ({counts[0]} to {counts[-1]} repetitions, to {section.against}'s final {section.metric})")
    print(
        f"{'arm':28}{'labels, times fewer':>26}{'final regret':>20}{'angle':>8}{'accuracy':>10}{'g/d':>8}{'slope':>24}"
    )
    for arm, runs in results.items():
        if len(runs) < 2:
            continue
        y, regrets = metric(runs, section.metric, length=len(x)), metric(runs, "regret", length=len(x))
        times = savings(x, metric(base, section.metric, length=len(x)), y, generator=generator)
        regret, error = mean_with_error(regrets[:, -1])
        last = [run[-1] for run in runs]
        angle, right, design = (
            float(np.mean([getattr(m, f) for m in last])) for f in ("angle", "accuracy", "certificate")
        )
        steep = slope(x, regrets, after=x[-1] / 8, generator=generator)
        print(
            f"{arm:28}{times!s:>26}{f'{regret:.5f} ± {error:.5f}':>20}{angle:8.3f}{right:10.4f}{design:8.2f}"
            f"{steep!s:>24}"
        )
        output[arm] = {f"savings_{'accuracy' if section.metric == 'error' else 'regret'}": times.row()}
        if section.metric == "error":  # accuracy is soon at its ceiling; the distance to what all votes say goes on
            base_regret = metric(base, "regret", length=len(x))
            by_regret = savings(x, base_regret, regrets, generator=generator)
            output[arm]["savings_regret"] = by_regret.row()
            print(f"{'':28}{by_regret!s:>26}   times fewer for the same regret")
    if name == "costs":
        report_money(results)
    return output


def report_money(results: dict[str, list[list[Measure]]]) -> None:
    """The same labels by what they cost: money each arm needs for the regret that uniform buys with all of its own."""
    grid = np.geomspace(30, min(np.mean([run[-1].cost for run in runs]) for runs in results.values()), 30)

    def by_money(runs: list[list[Measure]]) -> Floats:
        return np.array(
            [
                np.exp(np.interp(np.log(grid), np.log([m.cost for m in r]), np.log([max(m.regret, 1e-9) for m in r])))
                for r in runs
            ]
        )

    for arm, runs in results.items():
        if len(runs) > 1:
            times = savings(grid, by_money(results["uniform"]), by_money(runs), generator=np.random.default_rng(0))
            spent = np.mean([run[-1].cost / run[-1].labels for run in runs])
            print(f"  money: {arm:28}{times!s:>26} times less for the same regret; {spent:.2f} a label")


def draw_pictures(folder: Path, chosen: dict[str, Section], results: dict[str, dict[str, list[list[Measure]]]]) -> None:
    """One picture per section: the mean curve of every arm with a band of two standard errors."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    folder.mkdir(parents=True, exist_ok=True)
    for name, section in chosen.items():
        if not any(len(runs) > 1 for runs in results[name].values()):
            continue
        figure, axis = plt.subplots(figsize=(7.2, 4.6))
        for index, (arm, runs) in enumerate(results[name].items()):
            if len(runs) < 2:
                continue
            x = labels_of(results[name])
            y = metric(runs, section.metric, length=len(x))
            mean, error = y.mean(axis=0), y.std(axis=0, ddof=1) / np.sqrt(len(y))
            color, line = plt.get_cmap("tab20")(index), "-" if arm.startswith("dual") else "--"
            axis.plot(x, mean, line, label=arm.replace("_", " "), linewidth=2.0 if arm == "dual" else 1.2, color=color)
            axis.fill_between(x, np.maximum(mean - 2 * error, 1e-5), mean + 2 * error, alpha=0.12, color=color)
        axis.set_xscale("log")
        if section.metric == "regret":
            axis.set_yscale("log")
        axis.set_xlabel("labels")
        axis.set_ylabel("policy regret" if section.metric == "regret" else "held-out votes predicted wrongly")
        axis.set_title(name)
        axis.legend(fontsize=7, ncol=2)
        axis.grid(alpha=0.25, which="both")
        figure.tight_layout()
        figure.savefig(folder / f"{name.replace(',', '').replace(' ', '_').replace('=', '')}.png", dpi=110)
        plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--quick", action="store_true", help="a few repetitions, short campaigns, surface features only"
    )
    parser.add_argument("--data", type=Path, default=Path(os.environ.get("TUTELAGE_DATA", "../shared/data")))
    parser.add_argument("--scratch", type=Path, default=Path("var/label_efficiency"), help="features and finished runs")
    parser.add_argument("--pictures", type=Path, default=None, help="folder for the curves")
    parser.add_argument(
        "--sections", default="", help="semicolon-separated beginnings of section names; all when empty"
    )
    parser.add_argument("--repetitions", type=int, default=None, help="per arm, instead of each section's own")
    parser.add_argument("--dimensions", type=int, default=16, help="of the projected encoder vectors")
    parser.add_argument("--minutes", type=float, default=600.0, help="start no repetition after this long")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True, exist_ok=True)
    chosen = sections(options.data, options.scratch, dimensions=0 if options.quick else options.dimensions)
    wanted = [part.strip() for part in options.sections.split(";") if part.strip()]
    if options.quick:
        wanted = wanted or ["reference", "simulation", "mtbench", "hh"]
        chosen = {name: chosen[name] for name in chosen if name in wanted}
    elif wanted:
        chosen = {name: chosen[name] for name in chosen if any(name.startswith(part) for part in wanted)}
    deadline = time.monotonic() + 60 * options.minutes
    results: dict[str, dict[str, list[list[Measure]]]] = {name: {} for name in chosen}
    output: dict[str, dict[str, dict[str, list[float]]]] = {}
    for name, section in chosen.items():
        arms = section.arms if not options.quick else _few(section)
        for arm in arms:
            results[name][arm.name] = run_arm(
                name,
                section,
                arm,
                repetitions=options.repetitions or (QUICK[name][0] if options.quick else section.repetitions),
                scratch=options.scratch,
                labels=QUICK[name][1] if options.quick else None,
                deadline=deadline,
            )
        if len(results[name].get(section.against, [])) > 1:
            output[name] = report(name, section, results[name])
    if options.pictures is not None:
        draw_pictures(options.pictures, chosen, results)
    print(json.dumps(output))


QUICK = {"reference": (8, 200), "simulation": (4, 250), "mtbench": (3, 280), "hh": (3, 200)}


def _few(section: Section) -> tuple[Arm, ...]:
    names = {
        "dual",
        "teacher_only",
        "conversation_only",
        "apo",
        "uniform",
        "dual plug_in",
        "uniform plug_in",
        "apo plug_in",
    }
    return tuple(arm for arm in section.arms if arm.name in names)


if __name__ == "__main__":
    main()
