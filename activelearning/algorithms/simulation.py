"""Campaigns in a world with a planted truth: a runner for any strategy, and what is read off it."""

from dataclasses import dataclass, field, replace

import numpy as np

from activelearning.algorithms.estimation import Estimate, fit
from activelearning.algorithms.information import certificate, fisher_information, gram_matrix, label_weight, log_det
from activelearning.algorithms.likelihood import label_rationality
from activelearning.algorithms.rationality import JointEstimate, RationalityPrior, fit_jointly
from activelearning.algorithms.selection import select
from activelearning.algorithms.types import Floats, Labels, Teachers
from activelearning.algorithms.worlds import World


@dataclass(frozen=True)
class Plan:
    """How a campaign is run.

    strategy     a name of selection's STRATEGIES
    labels       T, how many to spend
    first        uniform labels before the strategy begins
    refit_every  labels between refits, after `frequent_until`
    frequent_until   refit after every label up to here
    ridge, ball  of (M5)
    rationality  "known"; or unknown: "plug_in" (rho_hat), "thompson" (a draw per batch), "forced" (two labels of each
                 teacher and category first, then rho_hat); "ignored" fits and selects as if all were 1
    is_blind_to_cost  choose as if every label cost the same
    prior        of unknown rationality
    measure_at   label counts at which the campaign is measured
    """

    strategy: str
    labels: int
    first: int
    ridge: float
    measure_at: tuple[int, ...]
    refit_every: int = 1
    frequent_until: int = 0
    ball: float | None = None
    rationality: str = "known"
    is_blind_to_cost: bool = False
    prior: RationalityPrior = field(default_factory=lambda: RationalityPrior(pull=None))


@dataclass(frozen=True)
class Measure:
    """What was true of the estimate after `labels` labels.

    regret       mean over prompts of the best reward less the reward of the response that theta_hat prefers
    angle        between theta_hat and theta, radians
    accuracy     share of held-out comparisons whose sign theta_hat gets right
    log_det      of H, nats
    certificate  g / d, without ridge; 1 is the D-optimal design
    cost         spent so far
    """

    labels: int
    regret: float
    angle: float
    accuracy: float
    log_det: float
    certificate: float
    cost: float


def run_campaign(world: World, plan: Plan, *, generator: np.random.Generator) -> list[Measure]:
    """Spend the plan's labels on the world and measure it on the way.

    Uniform labels first, then rounds of select, answer, refit. Pairs that were judged may be asked again as far as
    the pool's room allows. Stops early where nothing is left to ask.
    """
    return Campaign(world, plan, generator).run()


class Campaign:
    """The state of one simulated campaign: what was asked, what was answered, and the estimate from it."""

    def __init__(self, world: World, plan: Plan, generator: np.random.Generator) -> None:
        self.world, self.plan, self.generator = world, plan, generator
        self.comparison: list[int] = []
        self.teacher: list[int] = []
        self.side: list[float] = []
        self.outcome: list[float] = []
        self.room, self.capacity = world.pool.room.copy(), world.teachers.capacity.copy()
        self.open = world.teachers.may_judge[:, world.pool.category] if world.may_ask is None else world.may_ask.copy()
        self.estimate: Estimate | JointEstimate | None = None
        self.fitted = -1

    def run(self) -> list[Measure]:
        """To the plan's last label, or to the last pair that may be asked."""
        plan = self.plan
        measures: list[Measure] = []
        for pair in self.opening():
            self.ask([pair])
            if len(self.outcome) in plan.measure_at:
                measures.append(self.measure())
        while len(self.outcome) < plan.labels:
            count = len(self.outcome)
            size = 1 if count < plan.frequent_until else plan.refit_every
            pairs = self.choose(min(size, plan.labels - count))
            if not pairs:
                break
            self.ask(pairs)
            if any(count < at <= len(self.outcome) for at in plan.measure_at):
                measures.append(self.measure())
        return measures

    def opening(self) -> list[tuple[int, int]]:
        """The uniform labels first; under "forced", two of each teacher and category before them."""
        pool, pairs = self.world.pool, []
        if self.plan.rationality == "forced":
            k, c = self.world.teachers.rationality.shape
            for category in range(c):
                rows = self.generator.permutation(np.flatnonzero(pool.category == category))
                pairs += [(int(rows[(2 * t + j) % len(rows)]), t) for t in range(k) for j in range(2)]
        pairs += self._uniform(self.plan.first - len(pairs))
        return [pairs[i] for i in self.generator.permutation(len(pairs))][: self.plan.labels]

    def ask(self, pairs: list[tuple[int, int]]) -> None:
        for comparison, teacher in pairs:
            side = float(self.generator.choice([-1.0, 1.0]))
            answer = self.world.answer(comparison, teacher, side=side, generator=self.generator)
            self.comparison.append(comparison)
            self.teacher.append(teacher)
            self.side.append(side)
            self.outcome.append(answer)
            self.room[comparison] -= 1
            self.capacity[teacher] -= 1
            if self.world.may_ask is not None:
                self.open[teacher, comparison] = False

    def labels(self) -> Labels:
        rows = np.array(self.comparison, dtype=np.int64)
        return Labels(
            design=self.world.pool.design[rows].astype(np.float64),
            outcome=np.array(self.outcome),
            teacher=np.array(self.teacher, dtype=np.int64),
            category=self.world.pool.category[rows],
            side=np.array(self.side),
            weight=np.ones(rows.size),
        )

    def fit(self) -> Estimate | JointEstimate:
        """The estimate of all labels so far."""
        if self.estimate is not None and self.fitted == len(self.outcome):
            return self.estimate
        labels, plan, (k, c) = self.labels(), self.plan, self.world.teachers.rationality.shape
        if plan.rationality in ("known", "ignored"):
            rho = self.world.teachers.rationality if plan.rationality == "known" else np.ones((k, c))
            start = self.estimate if isinstance(self.estimate, Estimate) else None
            self.estimate = fit(labels, rationality=rho, ridge=plan.ridge, ball=plan.ball, start=start, tolerance=1e-3)
        else:
            begin = self.estimate if isinstance(self.estimate, JointEstimate) else None
            self.estimate = fit_jointly(
                labels, teachers=k, categories=c, ridge=plan.ridge, prior=plan.prior, start=begin, tolerance=1e-3
            )
        self.fitted = len(self.outcome)
        return self.estimate

    def choose(self, size: int) -> list[tuple[int, int]]:
        """The strategy's next pairs, under what the campaign believes of the teachers."""
        if self.plan.strategy == "uniform":
            return self._uniform(size)
        estimate, labels, pool = self.fit(), self.labels(), self.world.pool
        rationality, may_judge = self._believed(estimate), self.world.teachers.may_judge
        if self.world.may_ask is not None:  # every comparison its own category, so that pairs can be closed one by one
            rationality, may_judge = rationality[:, pool.category], self.open
            pool = replace(pool, category=np.arange(len(pool)))
        cost = np.ones(len(self.capacity)) if self.plan.is_blind_to_cost else self.world.teachers.cost
        picks = select(
            replace(pool, room=self.room),
            Teachers(rationality, cost, self.capacity, may_judge),
            theta=estimate.theta,
            information=estimate.information,
            size=size,
            rng=self.generator,
            strategy=self.plan.strategy,
            gram=gram_matrix(labels.design, ridge=self.plan.ridge) if self.plan.strategy == "apo" else None,
            responses=self.world.responses,
        )
        return [(pick.comparison, pick.teacher) for pick in picks]

    def _uniform(self, size: int) -> list[tuple[int, int]]:
        """Uniform over the pairs that can be asked; no estimate is needed for it."""
        pairs: list[tuple[int, int]] = []
        room, capacity, free = self.room.copy(), self.capacity.copy(), self.open.copy()
        for _ in range(size):
            able = np.flatnonzero(free & (room > 0) & (capacity > 0)[:, None])
            if able.size == 0:
                break
            teacher, row = divmod(int(self.generator.choice(able)), len(room))
            pairs.append((row, teacher))
            room[row] -= 1
            capacity[teacher] -= 1
            free[teacher, row] = self.world.may_ask is None
        return pairs

    def _believed(self, estimate: Estimate | JointEstimate) -> Floats:
        if isinstance(estimate, JointEstimate):
            if self.plan.rationality == "thompson":
                return estimate.draw_rationality(self.generator)
            return estimate.rationality
        return (
            self.world.teachers.rationality
            if self.plan.rationality == "known"
            else np.ones_like(self.world.teachers.rationality)
        )

    def measure(self) -> Measure:
        world, labels, estimate = self.world, self.labels(), self.fit()
        earned = fisher_information(
            labels.design,
            theta=world.theta,
            rationality=label_rationality(labels, world.teachers.rationality),
            ridge=0.0,
        )
        gap = np.abs(world.pool.design.astype(np.float64) @ world.theta)
        rho = world.teachers.rationality[:, world.pool.category]  # (k, m)
        return Measure(
            labels=len(labels),
            regret=policy_regret(world.policy, world.theta, estimate.theta),
            angle=angle_between(world.theta, estimate.theta),
            accuracy=world.accuracy(estimate.theta),
            log_det=log_det(earned + self.plan.ridge * np.eye(world.theta.size)),
            certificate=certificate(
                earned,
                labels=len(labels),
                candidates=world.pool.design,
                candidate_weight=label_weight(gap, rho).max(axis=0),
            )
            / world.theta.size,
            cost=float(world.teachers.cost[np.array(self.teacher)].sum()),
        )


def policy_regret(policy: Floats, theta: Floats, theta_hat: Floats) -> float:
    """E_x[ max_a theta'phi - theta'phi(x, argmax_a theta_hat'phi) ] over p prompts of r responses.

    policy (p, r, d) float64
    """
    reward, guess = policy @ theta, policy @ theta_hat  # (p, r)
    chosen = np.take_along_axis(reward, guess.argmax(axis=1)[:, None], axis=1)[:, 0]
    return float(np.mean(reward.max(axis=1) - chosen))


def angle_between(theta: Floats, theta_hat: Floats) -> float:
    """Angle in radians; a quarter turn where the estimate is 0."""
    length = float(np.linalg.norm(theta) * np.linalg.norm(theta_hat))
    return float(np.arccos(np.clip(theta @ theta_hat / length, -1.0, 1.0))) if length > 0 else float(np.pi / 2)
