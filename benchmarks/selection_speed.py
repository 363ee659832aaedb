"""How fast is exact selection, counted in passes over the pool?

Every time is given as a ratio to one pass: the bytes of the pool over this machine's read bandwidth, measured in the
same run. The peer is the eager greedy, one matrix-vector product over the pool per pick, in numpy and in torch, with
the same teachers; its picks and ours must be the same.

    python -m benchmarks.selection_speed --pairs 1000000 --teachers 1000 --dim 384 --batch 64
    python -m benchmarks.selection_speed --growth docs/pictures/selection_growth.png
"""

import argparse
import gc
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numba
import numpy as np

from activelearning.algorithms.breakpoints import winning_group
from activelearning.algorithms.choice_tables import Choice
from activelearning.algorithms.information import fisher_information, label_weight, planned_information
from activelearning.algorithms.kernels import measure_rows, spread
from activelearning.algorithms.lazy import LazyGreedy
from activelearning.algorithms.short_lists import build_lists
from activelearning.algorithms.teacher_choice import best_teacher, build_choice, table_choice
from activelearning.algorithms.types import Floats, Ints, Pick, Pool, Teachers
from benchmarks.selection_peers import (
    Product,
    eager_picks,
    numpy_product,
    plain_scores,
    slogdet_seconds,
    torch_product,
)

CATEGORIES = 4
LABELS_PER_FEATURE = 16
NEW_LABELS = 256
AFTER_REFIT = 64
NO_KEYS: Ints = np.empty(0, dtype=np.int64)


@dataclass(frozen=True)
class Setting:
    """A pool, teachers, and a campaign so far: `labelled` rows answered by teachers of these rationalities."""

    pool: Pool
    teachers: Teachers
    theta: Floats
    labelled: Ints
    rationality: Floats
    ridge: float

    def information(self, theta: Floats, *, picks: list[Pick] | None = None) -> Floats:
        """H at theta, with picks counted as labels."""
        design = self.pool.design[self.labelled].astype(np.float64)
        h = fisher_information(design, theta=theta, rationality=self.rationality, ridge=self.ridge)
        chosen = self.pool.design[[p.comparison for p in picks or []]].astype(np.float64)
        weight = label_weight(chosen @ theta, np.array([p.rationality for p in picks or []]))
        return planned_information(h, design=chosen, weight=weight)


def build_setting(options: argparse.Namespace) -> Setting:
    """Isotropic or power-law comparisons with sd(theta'z) = 2, after 16 d labels drawn uniformly."""
    rng = np.random.default_rng(options.seed)
    m, dim, k = options.pairs, options.dim, options.teachers
    scale = np.ones(dim) if options.spectrum == "isotropic" else np.arange(1, dim + 1) ** -0.5
    scale = (scale / np.linalg.norm(scale)).astype(np.float32)
    design = np.empty((m, dim), dtype=np.float32)
    for start in range(0, m, 65536):
        part = design[start : start + 65536]
        rng.standard_normal(out=part, dtype=np.float32)
        part *= scale
    theta = rng.normal(size=dim)
    theta *= 2.0 / np.linalg.norm(theta * scale)
    labelled = rng.integers(0, m, LABELS_PER_FEATURE * dim)
    return Setting(
        pool=Pool(design, rng.integers(0, CATEGORIES, m), np.full(m, 3)),
        teachers=Teachers(
            rationality=np.exp(rng.normal(-0.3, 0.6, size=(k, CATEGORIES))),
            cost=np.ones(k),
            capacity=np.full(k, options.capacity or options.batch + NEW_LABELS + AFTER_REFIT),
            may_judge=np.ones((k, CATEGORIES), dtype=np.bool_),
        ),
        theta=theta,
        labelled=labelled,
        rationality=np.exp(rng.normal(-0.3, 0.6, len(labelled))),
        ridge=dim / float(theta @ theta),
    )


def seconds(work: Callable[[], object], *, repeat: int = 1) -> float:
    """Least wall-clock time of a few runs."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return min(times)


def pass_seconds(setting: Setting) -> float:
    """Seconds to read the pool once on all cores: the best of three ways to read it."""
    design, gap = setting.pool.design, np.empty(len(setting.pool))
    vector = setting.theta
    return min(
        seconds(lambda: spread(measure_rows, len(gap), design, vector, gap), repeat=4),
        seconds(lambda: numpy_product(design)(vector), repeat=2),
        seconds(lambda: torch_product(design)(vector), repeat=2),
    )


def start(setting: Setting, *, information: Floats) -> LazyGreedy:
    return LazyGreedy(setting.pool, setting.teachers, theta=setting.theta, information=information)


def pairs(picks: list[Pick]) -> list[tuple[int, int]]:
    return [(pick.comparison, pick.teacher) for pick in picks]


def measure_batch(setting: Setting, *, batch: int) -> dict[str, object]:
    """First scores and a batch, ours and the eager peers'."""
    unit, h = pass_seconds(setting), setting.information(setting.theta)
    held = reset_peak()
    begin = time.perf_counter()
    greedy = start(setting, information=h)
    cold_picks = greedy.picks(batch)
    cold = time.perf_counter() - begin
    del greedy
    greedy = start(setting, information=h)
    begin = time.perf_counter()
    greedy.score_all()
    first = time.perf_counter() - begin
    begin = time.perf_counter()
    picks = greedy.picks(batch)
    ours = time.perf_counter() - begin
    grown = memory("VmHWM") - held
    del greedy
    unit = min(unit, pass_seconds(setting))
    peers: dict[str, float] = {}
    equal = pairs(cold_picks) == pairs(picks)
    makers: dict[str, Callable[[np.ndarray], Product]] = {"numpy": numpy_product, "torch": torch_product}
    for name, make in makers.items():
        found, taken = eager_picks(
            setting.pool,
            setting.teachers,
            theta=setting.theta,
            information=h,
            q=plain_scores(setting.pool.design, h),
            size=batch,
            product=make(setting.pool.design),
        )
        peers[name] = taken / batch / unit
        equal = equal and found == pairs(picks)
    naive = slogdet_seconds(setting.pool.design, h, sample=50) * len(setting.pool) * len(setting.teachers)
    return {
        "pass_ms": 1e3 * unit,
        "bandwidth_gb_s": setting.pool.design.nbytes / unit / 1e9,
        "cold_batch_passes": cold / unit,
        "first_scoring_passes": first / unit,
        "passes_per_pick": ours / batch / unit,
        "picks_per_second": batch / ours,
        "eager_passes_per_pick": min(peers.values()),
        "eager_numpy_passes_per_pick": peers["numpy"],
        "eager_torch_passes_per_pick": peers["torch"],
        "picks_equal": equal,
        "naive_speedup": naive / (ours / batch),
        "peak_memory_over_pool": (pool_bytes(setting) + grown) / setting.pool.design.nbytes,
        "bytes_per_comparison_beyond_pool": (pool_bytes(setting) - setting.pool.design.nbytes + grown)
        / len(setting.pool),
    }


def measure_refit(setting: Setting, *, unit: float, frozen: bool) -> dict[str, object]:
    """A round after 256 planned labels were answered: gaps, q and a batch of 64, against a fresh eager start.

    theta moves as a maximum likelihood estimate would: by a draw from N(0, H_old^{-1} - H_new^{-1}).
    """
    old = setting.information(setting.theta)
    greedy = start(setting, information=old)
    greedy.score_all()
    labels = greedy.picks(NEW_LABELS)
    spread_of = np.linalg.inv(old) - np.linalg.inv(greedy.running.matrix)
    theta = setting.theta + np.random.default_rng(1).multivariate_normal(np.zeros(len(old)), spread_of)
    h = greedy.running.matrix if frozen else setting.information(theta, picks=labels)
    capacity, room, judged = greedy.capacity.copy(), greedy.rows.room.astype(np.int64), pairs(labels)
    begin = time.perf_counter()
    if frozen:
        greedy.move(theta)
    else:
        greedy.refit(theta, information=h)
    picks = greedy.picks(AFTER_REFIT)
    taken = time.perf_counter() - begin
    unit = min(unit, pass_seconds(setting))
    pool = Pool(setting.pool.design, setting.pool.category, room)
    t = setting.teachers
    teachers = Teachers(t.rationality, t.cost, capacity, t.may_judge & (capacity > 0)[:, None])
    expected, _ = eager_picks(
        pool,
        teachers,
        theta=theta,
        information=h,
        q=plain_scores(pool.design, h),
        size=AFTER_REFIT,
        product=numpy_product(pool.design),
        judged=np.array(judged),
    )
    name = "after_refit_frozen" if frozen else "after_refit"
    return {f"{name}_passes": taken / unit, f"{name}_equal": expected == pairs(picks)}


@numba.njit(cache=True, nogil=True)
def choose_all(choice: Choice, category: Ints, gap: Floats, q: Floats, who: Ints, first: int, last: int) -> None:
    for i in range(first, last):
        c = category[i]
        if choice.one_cost:
            who[i] = choice.order[c, choice.first[c, winning_group(choice, c, gap[i])]]
        else:
            who[i] = best_teacher(choice, c, gap[i], q[i], i, False)[0]


def table_all(teachers: Teachers, *, category: Ints, gap: Floats, q: Floats) -> Ints:
    """The m x K table as plainly as numpy has it: weights, gains where costs differ, argmax."""
    rho = teachers.rationality[:, category].T
    p = 1.0 / (1.0 + np.exp(-rho * gap[:, None]))
    weight = rho * rho * p * (1.0 - p)
    if len(np.unique(teachers.cost)) > 1:
        weight = np.log1p(weight * q[:, None]) / teachers.cost
    return np.asarray(weight.argmax(axis=1))


def measure_teachers(setting: Setting) -> dict[str, object]:
    """Nanoseconds to choose a comparison's teacher, by number of teachers and of distinct costs, against m x K."""
    rng = np.random.default_rng(2)
    n, table_rows = min(len(setting.pool), 200_000), 1000
    gap, q = np.abs(rng.normal(0.0, 2.0, n)), rng.uniform(0.05, 0.5, n)
    category = rng.integers(0, CATEGORIES, n)
    out: dict[str, object] = {}
    for k, levels in ((100, 1), (1000, 1), (1000, 10), (1000, 1000)):
        prices = np.exp(rng.normal(0.0, 0.5, levels)) if levels > 1 else np.ones(1)
        teachers = Teachers(
            np.exp(rng.normal(-0.3, 0.6, size=(k, CATEGORIES))),
            prices[np.arange(k) % levels],
            np.ones(k, dtype=np.int64),
            np.ones((k, CATEGORIES), dtype=np.bool_),
        )
        choice = build_choice(teachers, able=teachers.may_judge, judged=NO_KEYS, asked=NO_KEYS)
        if not choice.one_cost:
            build_lists(choice, category, gap, q)
        who = np.empty(n, dtype=np.int64)
        ours = seconds(lambda: spread(choose_all, n, choice, category, gap, q, who), repeat=5)  # noqa: B023
        few = slice(0, table_rows)
        table = seconds(
            lambda: table_all(teachers, category=category[few], gap=gap[few], q=q[few]),  # noqa: B023
            repeat=2,
        )
        agree = bool((table_choice(teachers, category=category[few], gap=gap[few], q=q[few]) == who[few]).all())
        ratio = table / table_rows / (ours / n)
        name = f"{k}_teachers_{levels}_costs"
        out[f"choice_ns_{name}"] = 1e9 * ours / n
        out[f"choice_speedup_{name}"] = ratio
        out[f"choice_agrees_{name}"] = agree
    return {"teacher_choice_speedup": out["choice_speedup_1000_teachers_1_costs"], **out}


def memory(name: str) -> int:
    """Bytes of a line of /proc/self/status: VmRSS is now, VmHWM the peak."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(1024 * int(line.split()[1]) for line in lines if line.startswith(name))


def reset_peak() -> int:
    """Start the peak over; returns bytes held now."""
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def pool_bytes(setting: Setting) -> int:
    return setting.pool.design.nbytes + setting.pool.category.nbytes + setting.pool.room.nbytes


def warm_up() -> None:
    """Load compiled code, BLAS and torch, so that neither time nor memory of ours holds them."""
    small = argparse.Namespace(pairs=4000, dim=32, teachers=20, batch=4, capacity=1, spectrum="isotropic", seed=9)
    setting = build_setting(small)
    measure_batch(setting, batch=4)
    measure_refit(setting, unit=1.0, frozen=False)


def run(options: argparse.Namespace) -> dict[str, object]:
    setting = build_setting(options)
    result = measure_batch(setting, batch=options.batch)
    unit = float(str(result["pass_ms"])) / 1e3
    if not options.capacity:
        result |= measure_refit(setting, unit=unit, frozen=False)
        result |= measure_refit(setting, unit=unit, frozen=True)
    result |= measure_teachers(setting)
    return result


def growth(options: argparse.Namespace, picture: Path) -> list[dict[str, object]]:
    """m = 1e4, 1e5, 1e6 in one table and one plot."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = []
    for m in (10_000, 100_000, 1_000_000):
        setting = build_setting(argparse.Namespace(**{**vars(options), "pairs": m}))
        rows.append({"pairs": m, **measure_batch(setting, batch=options.batch)})
    figure, axis = pyplot.subplots(figsize=(6, 4), layout="constrained")
    sizes = [row["pairs"] for row in rows]
    eager = [1e3 / (float(str(r["eager_passes_per_pick"])) * float(str(r["pass_ms"]))) for r in rows]
    axis.loglog(sizes, [row["picks_per_second"] for row in rows], "o-", label="lazy, exact")
    axis.loglog(sizes, eager, "s--", label="eager, one pass a pick")
    axis.set(
        xlabel="comparisons in the pool",
        ylabel="picks per second",
        title=f"d = {options.dim}, {options.teachers} teachers",
    )
    axis.grid(visible=True, which="both", alpha=0.3)
    axis.legend()
    picture.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(picture, dpi=120)
    return rows


def show(result: dict[str, object]) -> None:
    for name, value in result.items():
        print(f"{name:45s} {value:.4g}" if isinstance(value, float) else f"{name:45s} {value}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pairs", type=int, default=1_000_000)
    parser.add_argument("--teachers", type=int, default=1000)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--capacity", type=int, default=0, help="picks a teacher takes; 0 for no limit")
    parser.add_argument("--spectrum", choices=["isotropic", "power"], default="isotropic")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--growth", type=Path, default=None, help="where to draw picks per second against the pool")
    options = parser.parse_args()
    warm_up()
    if options.growth is not None:
        rows = growth(options, options.growth)
        for row in rows:
            show(row)
        print(json.dumps({"growth": rows}))
        return
    result = {"pairs": options.pairs, "dim": options.dim, "batch": options.batch, **run(options)}
    show(result)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
