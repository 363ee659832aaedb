"""The questions of the study of label efficiency: worlds, plans and the arms that are compared."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path

import numpy as np

from activelearning.algorithms.rationality import RationalityPrior
from activelearning.algorithms.simulation import Plan
from activelearning.algorithms.types import Floats
from activelearning.algorithms.worlds import MANY, World, reference_world, savings_world
from benchmarks.real_worlds import MTBench, hh_world, mtbench_world, read_hh, read_mtbench

KNOWN = ("dual", "best_teacher", "teacher_only", "conversation_only", "apo", "uncertainty", "uniform")
DUELING = ("delta_ucb", "infomax", "double_thompson", "drts")
TABLE = ("dual", "conversation_only", "teacher_only", "apo", "uniform")
VOTE_RIDGE = 2.0
STEPS = (20, 30, 40, 50, 60, 80, 100, 130, 160, 200, 250, 320, 400, 500, 640, 800, 1000)
VOTE_PRIOR = RationalityPrior(between=0.5, within=0.3, pull=None)
TEACHER_PRIOR = RationalityPrior(between=0.7, within=0.7, pull=None)


@dataclass(frozen=True)
class Arm:
    """One line of a picture: a strategy and how it treats what it does not know."""

    strategy: str
    rationality: str = "known"
    is_blind_to_cost: bool = False
    called: str = ""

    @property
    def name(self) -> str:
        if self.called:
            return self.called
        parts = [self.strategy] + [self.rationality] * (self.rationality != "known")
        return " ".join(parts + ["cost-blind"] * self.is_blind_to_cost)


@dataclass(frozen=True)
class Section:
    """One question of the study.

    world        makes the world of a repetition from its generator
    plan         fills in everything but the arm
    against      the arm whose final figure the others are timed to
    metric       "regret", or "error" (1 - accuracy)
    repetitions  of the full study
    """

    world: Callable[[np.random.Generator], World]
    plan: Callable[..., Plan]
    arms: tuple[Arm, ...]
    against: str = "uniform"
    metric: str = "regret"
    repetitions: int = 50


def reference_plan(world: World, arm: Arm, *, labels: int = 200) -> Plan:
    return Plan(
        strategy=arm.strategy,
        labels=labels,
        first=16,
        ridge=0.5,
        ball=2.0 if arm.rationality in ("known", "ignored") else None,
        refit_every=2,
        measure_at=tuple(range(20, labels + 1, 20)),
        rationality=arm.rationality,
        prior=RationalityPrior(mean=1.0, between=0.7, within=1.2, pull=None),
    )


def savings_plan(world: World, arm: Arm, *, labels: int = 1000) -> Plan:
    width = world.theta.size
    return Plan(
        strategy=arm.strategy,
        labels=labels,
        first=2 * width,
        ridge=width / float(world.theta @ world.theta),
        refit_every=5,
        frequent_until=100,
        measure_at=tuple(step for step in STEPS if 2 * width <= step <= labels),
        rationality=arm.rationality,
        is_blind_to_cost=arm.is_blind_to_cost,
        prior=TEACHER_PRIOR,
    )


def vote_plan(world: World, arm: Arm, *, labels: int = 800) -> Plan:
    return Plan(
        strategy=arm.strategy,
        labels=labels,
        first=50,
        ridge=VOTE_RIDGE,
        refit_every=20,
        measure_at=tuple(step for step in (50, 80, 110, 150, 210, 290, 410, 570, 690, 800) if step <= labels),
        rationality=arm.rationality,
        prior=VOTE_PRIOR,
    )


def priced_world(generator: np.random.Generator) -> World:
    """The savings simulation where a label costs between 0.3 and 3, the better teachers more as a rule."""
    plain = savings_world(generator, categories=4)
    log_rho = np.log(plain.teachers.rationality).mean(axis=1)
    costs = np.exp(0.7 * (log_rho - log_rho.mean()) + generator.normal(0, 0.5, size=log_rho.size))
    return replace(plain, teachers=replace(plain.teachers, cost=costs))


def known(*strategies: str) -> tuple[Arm, ...]:
    return tuple(Arm(strategy) for strategy in strategies)


def unknown() -> tuple[Arm, ...]:
    variants = tuple(Arm("dual", how) for how in ("thompson", "forced", "plug_in", "ignored"))
    return (*known("uniform", "dual"), *variants, Arm("uniform", "plug_in"))


def sections(data: Path, scratch: Path, *, dimensions: int) -> dict[str, Section]:
    """Every question of the study by name; the features of real text are computed when first asked for."""

    @cache
    def votes() -> MTBench:
        return read_mtbench(data, scratch, dimensions=dimensions)

    @cache
    def pairs() -> Floats:
        return read_hh(data, scratch, dimensions=dimensions)

    def replay(generator: np.random.Generator) -> World:
        return mtbench_world(votes(), generator, ridge=VOTE_RIDGE, prior=VOTE_PRIOR)

    def redrawn(generator: np.random.Generator) -> World:
        """The replay's items and judges, with answers drawn from the model that was fitted to all of its votes."""
        real = vars(replay(generator))
        return World(**{name: real[name] for name in World.__dataclass_fields__})

    table = {
        f"savings d={d}": Section(partial(savings_world, features=d), savings_plan, known(*TABLE)) for d in (5, 10, 20)
    }
    replayed = tuple(Arm(strategy, "plug_in", called=strategy) for strategy in (*KNOWN, *DUELING))
    return {
        "reference": Section(reference_world, reference_plan, known(*KNOWN, *DUELING)),
        "reference, unknown rationality": Section(reference_world, reference_plan, unknown()),
        "simulation": Section(partial(savings_world, categories=4), savings_plan, known(*KNOWN, *DUELING)),
        "unknown rationality": Section(partial(savings_world, categories=4), savings_plan, unknown()),
        "hh": Section(partial(_hh, pairs), partial(savings_plan, labels=500), known(*KNOWN, *DUELING), repetitions=20),
        "mtbench": Section(
            replay,
            vote_plan,
            (*replayed, Arm("dual", "thompson"), Arm("dual", "ignored")),
            metric="error",
            repetitions=20,
        ),
        "mtbench, answers from its model": Section(
            redrawn,
            vote_plan,
            (*(arm for arm in replayed if arm.name in TABLE), Arm("dual", "thompson")),
            metric="error",
            repetitions=20,
        ),
        "repeats allowed": Section(
            partial(savings_world, categories=4, room=MANY), savings_plan, known("uniform", "dual")
        ),
        "reference, repeats forbidden": Section(_once, reference_plan, known("uniform", "dual")),
        "costs": Section(
            priced_world,
            savings_plan,
            (*known("uniform", "dual", "best_teacher"), Arm("dual", is_blind_to_cost=True)),
        ),
        **table,
        "at most 100 labels a teacher": Section(partial(savings_world, capacity=100), savings_plan, known(*TABLE)),
    }


def _hh(pairs: Callable[[], Floats], generator: np.random.Generator) -> World:
    return hh_world(pairs(), generator)


def _once(generator: np.random.Generator) -> World:
    plain = reference_world(generator)
    return replace(plain, pool=replace(plain.pool, room=np.ones_like(plain.pool.room)))
