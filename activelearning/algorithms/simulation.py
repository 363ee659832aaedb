"""Campaigns with a planted truth: worlds that answer like (M2), a runner for any strategy, and what is read off it.

Two worlds of the methods are here, the reference simulation and the savings simulation. A world may also be made from
real features, or answer from a record of real votes: whatever answers (comparison, teacher) pairs can be run.
"""

from dataclasses import dataclass, field, replace

import numpy as np
from scipy.special import expit

from activelearning.algorithms.estimation import Estimate, fit
from activelearning.algorithms.information import certificate, fisher_information, gram_matrix, label_weight, log_det
from activelearning.algorithms.likelihood import label_rationality
from activelearning.algorithms.rationality import JointEstimate, RationalityPrior, fit_jointly
from activelearning.algorithms.selection import select
from activelearning.algorithms.types import Bools, Floats, Ints, Labels, Pool, Responses, Teachers

MANY = 2**31
"""Room and capacity that never run out."""


@dataclass(frozen=True)
class World:
    """A truth, the comparisons that may be asked about it, and the prompts on which a policy is judged.

    theta      (d,)       float64
    pool       m comparisons
    teachers   k teachers with their true rationality
    bias       (k,)       float64   true pull toward the response shown first
    policy     (p, r, d)  float64   features of r responses to p prompts that are not in the pool
    held_out   (h, d)     float64   design rows for held-out accuracy
    responses  what the dueling strategies look at, or None
    may_ask    (k, m)     bool      which pairs can be answered at all, each once; None where every pair can, any time
    """

    theta: Floats
    pool: Pool
    teachers: Teachers
    bias: Floats
    policy: Floats
    held_out: Floats
    responses: Responses | None = None
    may_ask: Bools | None = None

    def answer(self, comparison: int, teacher: int, *, side: float, generator: np.random.Generator) -> float:
        """1 if a is preferred, drawn from (M2) with the order shown."""
        rho = self.teachers.rationality[teacher, self.pool.category[comparison]]
        utility = rho * float(self.pool.design[comparison] @ self.theta) + side * self.bias[teacher]
        return float(generator.random() < expit(utility))

    def accuracy(self, theta_hat: Floats) -> float:
        """Share of held-out comparisons whose sign theta_hat gets right."""
        return sign_accuracy(self.held_out, self.theta, theta_hat)


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


def reference_world(generator: np.random.Generator, *, costs: Floats | None = None) -> World:
    """The reference simulation: 8 features, 400 comparisons with replacement, 5 categories, one expert for each."""
    d, m, k = 8, 400, 5
    theta = generator.standard_normal(d)
    theta /= np.linalg.norm(theta)
    phi = generator.normal(0, np.sqrt(4 / d), size=(m, 2, d))
    rationality = np.where(np.eye(k, dtype=bool), 3.0, 0.3) * generator.uniform(0.8, 1.2, size=(k, k))
    return World(
        theta=theta,
        pool=_pool(phi, generator.integers(k, size=m), room=MANY),
        teachers=_teachers(rationality, costs),
        bias=np.zeros(k),
        policy=generator.normal(0, np.sqrt(4 / d), size=(200, 5, d)),
        held_out=generator.normal(0, np.sqrt(8 / d), size=(500, d)),
        responses=_responses(phi),
    )


def savings_world(
    generator: np.random.Generator,
    *,
    features: int = 10,
    categories: int = 1,
    teachers: int = 15,
    capacity: int = MANY,
    room: int = 1,
    costs: Floats | None = None,
) -> World:
    """The savings simulation: heavy-tailed responses of decaying spread, 3,000 comparisons, log-normal teachers."""
    spread = np.arange(1, features + 1) ** -0.25
    spread /= np.sqrt(np.sum(spread**2))

    def draw(*shape: int) -> Floats:
        size = np.exp(generator.normal(0, 0.3, size=shape))
        return np.asarray(generator.standard_normal((*shape, features)) * spread * size[..., None])

    phi = draw(3000, 2)
    theta = generator.standard_normal(features)
    theta *= 2.0 / np.std((phi[:, 0] - phi[:, 1]) @ theta)
    log_rho = generator.normal(-0.3, 0.6, size=(teachers, 1)) * np.ones(categories)
    if categories > 1:
        log_rho = log_rho + generator.normal(0, 0.6, size=(teachers, categories))
    held_out = draw(500, 2)
    return World(
        theta=theta,
        pool=_pool(phi, generator.integers(categories, size=3000), room=room),
        teachers=_teachers(np.exp(log_rho), costs, capacity=capacity),
        bias=np.zeros(teachers),
        policy=draw(300, 8),
        held_out=held_out[:, 0] - held_out[:, 1],
        responses=_responses(phi),
    )


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


def sign_accuracy(held_out: Floats, theta: Floats, theta_hat: Floats) -> float:
    """Share of rows on which both rewards prefer the same response; an estimate of 0 is right half the time."""
    agree = np.sign(held_out @ theta) * np.sign(held_out @ theta_hat)
    return float(np.mean(0.5 + 0.5 * agree))


def _pool(phi: Floats, category: Ints, *, room: int) -> Pool:
    design = (phi[:, 0] - phi[:, 1]).astype(np.float32)
    return Pool(design, category.astype(np.int64), np.full(len(phi), room, dtype=np.int64))


def _teachers(rationality: Floats, costs: Floats | None, *, capacity: int = MANY) -> Teachers:
    k, c = rationality.shape
    cost = np.ones(k) if costs is None else np.asarray(costs, dtype=np.float64)
    return Teachers(rationality, cost, np.full(k, capacity, dtype=np.int64), np.ones((k, c), dtype=bool))


def _responses(phi: Floats) -> Responses:
    """Every comparison a prompt of its own with two responses."""
    count, _, width = phi.shape
    rows = np.arange(count, dtype=np.int64)
    return Responses(phi.reshape(2 * count, width), rows, 2 * rows, 2 * rows + 1)
