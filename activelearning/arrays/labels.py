"""Labels, from rows to the arrays of a fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activelearning.algorithms.types import Bools, Floats, Ints, Labels
from activelearning.arrays.memory import memory_of
from activelearning.arrays.rows import PoolRows, find
from activelearning.learned import LEARNED_ARMS, ranking_weight
from annotation.models import Campaign, Label
from annotation.models.offers import outcome_of


@dataclass(frozen=True)
class LabelRows:
    """The current labels of a campaign by ascending id; `row` numbers comparisons of the pool, -1 for one not there."""

    ids: Ints
    row: Ints
    teacher: Ints
    arm: NDArray[np.str_]
    outcome: Floats
    side: Floats
    rankings: dict[int, list[list[int]]]

    def __len__(self) -> int:
        return len(self.ids)

    def learned(self, pool: PoolRows) -> Bools:
        """(n,) which labels enter the fit: designed, control and gold, with features, and not held out."""
        known = self.row >= 0
        fits = np.isin(self.arm, LEARNED_ARMS) & known
        fits[known] &= pool.has_features[self.row[known]] & ~pool.is_held_out[self.row[known]]
        return np.asarray(fits)


def load_labels(campaign: Campaign, pool: PoolRows) -> LabelRows:
    """Current labels. A label never changes but in its state, so only those not yet seen are read in full."""
    kept = memory_of(campaign.pk)
    current = Label.objects.filter(campaign=campaign, state=Label.State.CURRENT).order_by("id")
    ids = np.fromiter(current.values_list("id", flat=True).iterator(chunk_size=10_000), dtype=np.int64)
    missing = ids[find(kept.labels.ids, ids) < 0]
    wanted = current if len(missing) > 500 else current.filter(id__in=missing.tolist())
    if len(missing):
        known = set(kept.labels.ids.tolist())
        fresh = []
        for pk, comparison, teacher, arm, choice, b_first, ranking in wanted.values_list(
            "id", "comparison_id", "teacher_id", "arm", "choice", "b_first", "ranking"
        ).iterator(chunk_size=10_000):
            if pk not in known:
                side = -1.0 if b_first else 1.0
                fresh.append((pk, comparison, teacher, arm, outcome_of(choice, b_first=b_first), side, bool(ranking)))
                if ranking:
                    kept.rankings[pk] = ranking
        kept.labels.add(fresh)
        ids = ids[find(kept.labels.ids, ids) >= 0]  # one may have been superseded between the two questions
    found = kept.labels.pick(ids)
    ranked = ids[found["is_ranking"].astype(bool)]
    return LabelRows(
        ids=ids,
        row=pool.rows_of(found["comparison"].astype(np.int64)),
        teacher=found["teacher"].astype(np.int64),
        arm=found["arm"].astype(np.str_),
        outcome=found["outcome"].astype(np.float64),
        side=found["side"].astype(np.float64),
        rankings={pk: kept.rankings[pk] for pk in ranked.tolist()},
    )


def teacher_axis(labels: LabelRows, mask: Bools) -> Ints:
    """(k,) the teachers behind the labels in the fit, by their first label: who comes later is appended."""
    teachers, first = np.unique(labels.teacher[mask], return_index=True)
    return np.asarray(teachers[np.argsort(first)], dtype=np.int64)


def fit_labels(labels: LabelRows, mask: Bools, pool: PoolRows, *, teachers: Ints) -> Labels:
    """The labels of the fit as arrays. A ranking of N responses becomes its implied comparisons, of weight 2/N each."""
    order = np.argsort(teachers)
    index = order[np.searchsorted(teachers[order], labels.teacher[mask])]
    row = labels.row[mask]
    pairs = Labels(
        design=pool.design[row].astype(np.float64),
        outcome=labels.outcome[mask],
        teacher=index,
        category=pool.category[row],
        side=labels.side[mask],
        weight=np.ones(len(row)),
    )
    if not labels.rankings:
        return pairs
    return _with_rankings(pairs, labels.ids[mask], labels.rankings, pool)


def _with_rankings(pairs: Labels, ids: Ints, rankings: dict[int, list[list[int]]], pool: PoolRows) -> Labels:
    """Replace each ranking's row by the comparisons that it implies; they have no order shown, hence side 0."""
    design, outcome, source, side, weight = [], [], [], [], []
    for number, pk in enumerate(ids.tolist()):
        tiers = rankings.get(pk)
        if tiers is None:
            design.append(pairs.design[number])
            outcome.append(pairs.outcome[number])
            source.append(number)
            side.append(pairs.side[number])
            weight.append(1.0)
            continue
        placed = [(tier, response) for tier, names in enumerate(tiers) for response in names]
        rows = find(pool.response_ids, np.array([response for _, response in placed], dtype=np.int64))
        for first in range(len(placed)):
            for second in range(first + 1, len(placed)):
                if rows[first] < 0 or rows[second] < 0:
                    continue
                design.append(pool.phi[rows[first]].astype(np.float64) - pool.phi[rows[second]])
                outcome.append(0.5 if placed[first][0] == placed[second][0] else 1.0)
                source.append(number)
                side.append(0.0)
                weight.append(ranking_weight(len(placed)))
    places = np.array(source, dtype=np.int64)
    return Labels(
        design=np.array(design).reshape(len(places), pairs.design.shape[1]),
        outcome=np.array(outcome),
        teacher=pairs.teacher[places],
        category=pairs.category[places],
        side=np.array(side),
        weight=np.array(weight),
    )
