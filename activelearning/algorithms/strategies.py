"""The rules by which a campaign may choose its next question: ours, and the baselines it is measured against."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from .eligibility import Eligibility
from .information import cholesky, direction, gaps, log_value, log_weight, uncertainties
from .types import Bools, Floats, Ints, Pool, Responses, Teachers

TIE = 1e-10
"""Two log criteria closer than this are equal; then the smaller comparison wins, then the smaller teacher."""

Choice = tuple[int, int, float]
"""Comparison, teacher, propensity."""


@dataclass
class View:
    """What a strategy sees when it makes one pick; `advance` counts the pick into H and every q by (M9)."""

    pool: Pool
    teachers: Teachers
    theta: Floats
    information: Floats
    open: Eligibility
    rng: np.random.Generator
    gram: Floats | None
    responses: Responses | None

    def __post_init__(self) -> None:
        self.gap = gaps(self.pool.design, self.theta)  # (m,)
        self._scores: dict[str, Floats] = {}

    def q(self) -> Floats:
        """(m,) z' H^{-1} z of every row."""
        return self._score("information", self.information)

    def q_gram(self) -> Floats:
        """(m,) z' V^{-1} z of every row."""
        if self.gram is None:
            raise ValueError("APO needs the gram matrix of the labels so far: gram=gram_matrix(design, ridge=...)")
        return self._score("gram", self.gram)

    def _score(self, name: Literal["information", "gram"], matrix: Floats) -> Floats:
        if name not in self._scores:
            self._scores[name] = uncertainties(self.pool.design, matrix)
        return self._scores[name]

    def advance(self, comparison: int, *, weight: float) -> None:
        """H <- H + w z z' and V <- V + z z', with one pass over the pool for every score in use."""
        row = np.asarray(self.pool.design[comparison], dtype=np.float64)
        for name, matrix, w in (("information", self.information, weight), ("gram", self.gram, 1.0)):
            if matrix is None:
                continue
            if name in self._scores:
                v, q = direction(matrix, row)
                self._scores[name] -= w / (1.0 + w * q) * np.square(gaps(self.pool.design, v))
                np.maximum(self._scores[name], 0.0, out=self._scores[name])
            matrix += w * np.outer(row, row)


Strategy = Callable[[View], Choice | None]


def first_best(value: Floats) -> int | None:
    """Index of the largest value, the first among ties; None when nothing is above -inf."""
    best = float(value.max(initial=-np.inf))
    return int(np.argmax(value >= best - TIE)) if best > -np.inf else None


def best_values(view: View, *, of: Ints | None = None) -> Floats:
    """(m,) or (len(of),) log of the best eligible gain per cost at each comparison, by brute force over teachers."""
    rows = np.arange(len(view.pool)) if of is None else of
    category, value = view.pool.category[rows], np.full(len(rows), -np.inf)
    closed = ~view.open.open_teachers()  # (k, c)
    with np.errstate(divide="ignore"):
        log_q = np.log(view.q()[rows])
    judged = view.open.judged
    for k in range(len(view.teachers)):
        log_w = log_weight(view.gap[rows], view.teachers.rationality[k, category])
        candidate = log_value(log_w, log_q, np.log(view.teachers.cost[k]))
        candidate[closed[k, category]] = -np.inf
        candidate[np.isin(rows, judged[judged[:, 1] == k, 0])] = -np.inf
        np.maximum(value, candidate, out=value)
    value[view.open.room[rows] <= 0] = -np.inf
    return value


def best_teacher_for(view: View, comparison: int) -> int | None:
    """The eligible teacher with the largest gain per cost at one comparison, rationality above 0."""
    able = view.open.teachers_for(comparison)
    rho = view.teachers.rationality[able, view.pool.category[comparison]]
    log_w = log_weight(view.gap[comparison], rho)
    row = np.asarray(view.pool.design[comparison], dtype=np.float64)
    with np.errstate(divide="ignore"):
        log_q = np.log(max(direction(view.information, row)[1], 0.0))
    winner = first_best(log_value(log_w, log_q, np.log(view.teachers.cost[able])))
    return None if winner is None else int(able[winner])


def any_teacher(view: View, comparison: int | None, *, chance: float = 1.0) -> Choice | None:
    """A teacher drawn uniformly among those eligible for the comparison."""
    if comparison is None:
        return None
    able = view.open.teachers_for(comparison)
    return comparison, int(view.rng.choice(able)), chance / len(able)


def where(mask: Bools, value: Floats) -> Floats:
    return np.where(mask, value, -np.inf)


def dual(view: View) -> Choice | None:
    """The pair with the largest gain per cost (M7, M8)."""
    comparison = first_best(best_values(view))
    teacher = None if comparison is None else best_teacher_for(view, comparison)
    return None if comparison is None or teacher is None else (comparison, teacher, 1.0)


def uniform(view: View) -> Choice | None:
    """Any eligible pair, all alike, whatever the rationality: the control arm."""
    counts = view.open.pair_counts()
    total = int(counts.sum())
    if total == 0:
        return None
    draw = int(view.rng.integers(total))
    ends = np.cumsum(counts)
    comparison = int(np.searchsorted(ends, draw, side="right"))
    teacher = view.open.teachers_for(comparison)[draw - int(ends[comparison] - counts[comparison])]
    return comparison, int(teacher), 1.0 / total


def uncertainty(view: View) -> Choice | None:
    """The comparison whose answer is least sure, smallest |m|; any teacher."""
    return any_teacher(view, first_best(where(view.open.pair_counts() > 0, -view.gap)))


def conversation_only(view: View) -> Choice | None:
    """The D-optimal comparison for a teacher of rationality 1; any teacher."""
    return any_teacher(view, first_best(where(view.open.pair_counts() > 0, unit_values(view))))


def unit_values(view: View) -> Floats:
    """(m,) log w q at rationality 1."""
    with np.errstate(divide="ignore"):
        return log_weight(view.gap, 1.0) + np.log(view.q())


def teacher_only(view: View) -> Choice | None:
    """Any comparison that a teacher of positive rationality may judge; the best teacher for it."""
    counts = view.open.pair_counts()
    able = np.flatnonzero(counts > 0)
    for draw in view.rng.permutation(able):
        teacher = best_teacher_for(view, int(draw))
        if teacher is not None:
            return int(draw), teacher, 1.0 / len(able)
    return None


def apo(view: View) -> Choice | None:
    """argmax ||z||_{V^{-1}}, blind to gap and teacher (2402.10500); any teacher."""
    with np.errstate(divide="ignore"):
        return any_teacher(view, first_best(where(view.open.pair_counts() > 0, np.log(view.q_gram()))))


def best_teacher(view: View) -> Choice | None:
    """The D-optimal comparison for rationality 1; the most rational eligible teacher."""
    comparison = first_best(where(view.open.pair_counts() > 0, unit_values(view)))
    if comparison is None:
        return None
    able = view.open.teachers_for(comparison)
    return comparison, int(able[np.argmax(view.teachers.rationality[able, view.pool.category[comparison]])]), 1.0


def any_prompt(view: View) -> tuple[Ints, Responses, float] | None:
    """The eligible comparisons of a prompt drawn uniformly, and the chance of that prompt."""
    if view.responses is None:
        raise ValueError("a dueling strategy needs the responses behind the pool: responses=Responses(...)")
    able = np.flatnonzero(view.open.pair_counts() > 0)
    if len(able) == 0:
        return None
    prompts = np.unique(view.responses.prompt[able])
    prompt = view.rng.choice(prompts)
    return able[view.responses.prompt[able] == prompt], view.responses, 1.0 / len(prompts)


def intervals(view: View, responses: Responses, of: Ints) -> tuple[Floats, Floats]:
    """Reward and half-width of the responses named, phi taken against the prompt's mean response (M12)."""
    phi = responses.features[of]
    phi = phi - phi.mean(axis=0)
    return phi @ view.theta, responses.radius * np.sqrt(uncertainties(phi, view.information))


def delta_ucb(view: View) -> Choice | None:
    """Within a prompt drawn uniformly, argmax up_i - low_j (2603.09692); any teacher."""
    drawn = any_prompt(view)
    if drawn is None:
        return None
    rows, responses, chance = drawn
    names, places = np.unique(np.stack([responses.first[rows], responses.second[rows]]), return_inverse=True)
    score, width = intervals(view, responses, names)
    a, b = places.reshape(2, -1)
    return any_teacher(view, int(rows[np.argmax(np.abs(score[a] - score[b]) + width[a] + width[b])]), chance=chance)


def infomax(view: View) -> Choice | None:
    """Within a prompt drawn uniformly, the pair of the two widest intervals (2603.09692); any teacher."""
    drawn = any_prompt(view)
    if drawn is None:
        return None
    rows, responses, chance = drawn
    names, places = np.unique(np.stack([responses.first[rows], responses.second[rows]]), return_inverse=True)
    _, width = intervals(view, responses, names)
    a, b = places.reshape(2, -1)
    return any_teacher(view, int(rows[np.argmax(width[a] + width[b])]), chance=chance)


def double_thompson(view: View) -> Choice | None:
    """The best response under one posterior draw against the best other one under a second draw; any teacher."""
    return thompson_pair(view, sign=1.0)


def drts(view: View) -> Choice | None:
    """Double reverse Thompson sampling: the best under one draw against the worst under a second (2603.09692)."""
    return thompson_pair(view, sign=-1.0)


def thompson_pair(view: View, *, sign: float) -> Choice | None:
    """The propensity counts the prompt and the teacher; the chance of the pair given the prompt has no closed form."""
    drawn = any_prompt(view)
    if drawn is None:
        return None
    rows, responses, chance = drawn
    noise = view.rng.standard_normal((len(view.theta), 2))
    draws = view.theta[:, None] + np.linalg.solve(cholesky(view.information).T, noise)  # (d, 2) ~ N(theta, H^-1)
    a, b = responses.first[rows], responses.second[rows]
    first = responses.features[np.concatenate([a, b])] @ draws[:, 0]  # reward of each seat under draw one
    second = sign * responses.features[np.concatenate([b, a])] @ draws[:, 1]  # of its partner under draw two
    best = np.flatnonzero(np.concatenate([a, b]) == np.concatenate([a, b])[np.argmax(first)])
    return any_teacher(view, int(rows[best[np.argmax(second[best])] % len(rows)]), chance=chance)


STRATEGIES: dict[str, Strategy] = {
    "dual": dual,
    "uniform": uniform,
    "uncertainty": uncertainty,
    "conversation_only": conversation_only,
    "teacher_only": teacher_only,
    "apo": apo,
    "best_teacher": best_teacher,
    "delta_ucb": delta_ucb,
    "infomax": infomax,
    "double_thompson": double_thompson,
    "drts": drts,
}
