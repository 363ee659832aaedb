"""Labels, from rows to the arrays of a fit."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activelearning.algorithms.types import Bools, Floats, Ints, Labels, Singles
from activelearning.arrays.memory import memory_of
from activelearning.arrays.rankings import Implied, Tiers, imply
from activelearning.arrays.rows import PoolRows, find
from activelearning.learned import LEARNED_ARMS
from annotation.models import Campaign, Label
from annotation.models.offers import outcome_of

CHUNK = 4096


@dataclass(frozen=True)
class LabelRows:
    """The current labels of a campaign by ascending id; `row` numbers comparisons of the pool, -1 for one not there.

    implied  what the rankings among them say of every two responses; labels that are no longer current may be in it
    """

    ids: Ints
    row: Ints
    teacher: Ints
    arm: NDArray[np.str_]
    outcome: Floats
    side: Floats
    is_ranking: Bools
    implied: Implied

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
        fresh: list[tuple[int, int, int, str, float, float, bool]] = []
        rankings: dict[int, Tiers] = {}
        for pk, comparison, teacher, arm, choice, b_first, ranking in wanted.values_list(
            "id", "comparison_id", "teacher_id", "arm", "choice", "b_first", "ranking"
        ).iterator(chunk_size=10_000):
            if pk not in known:
                side = -1.0 if b_first else 1.0
                fresh.append((pk, comparison, teacher, arm, outcome_of(choice, b_first=b_first), side, bool(ranking)))
                if ranking:
                    rankings[pk] = ranking
        kept.labels.add(fresh)
        if rankings:
            kept.implied = kept.implied.followed_by(imply(rankings))
        ids = ids[find(kept.labels.ids, ids) >= 0]  # one may have been superseded between the two questions
    found = kept.labels.pick(ids)
    return LabelRows(
        ids=ids,
        row=pool.rows_of(found["comparison"].astype(np.int64)),
        teacher=found["teacher"].astype(np.int64),
        arm=found["arm"].astype(np.str_),
        outcome=found["outcome"].astype(np.float64),
        side=found["side"].astype(np.float64),
        is_ranking=found["is_ranking"].astype(bool),
        implied=kept.implied,
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
    if labels.is_ranking[mask].any():
        return _with_rankings(labels, mask, pool, teacher=index)
    return Labels(
        design=pool.design[row].astype(np.float64),
        outcome=labels.outcome[mask],
        teacher=index,
        category=pool.category[row],
        side=labels.side[mask],
        weight=np.ones(len(row)),
    )


def _with_rankings(labels: LabelRows, mask: Bools, pool: PoolRows, *, teacher: Ints) -> Labels:
    """Pairs and the comparisons that rankings imply, by label; these have no order shown, hence side 0.

    A label that came later stays behind those before it: a warm fit goes on from the rows that it has seen.
    """
    row, implied = labels.row[mask], labels.implied
    pairs = np.flatnonzero(~labels.is_ranking[mask])
    place = find(labels.ids[mask], implied.label)
    first, second = (find(pool.response_ids, responses) for responses in (implied.first, implied.second))
    known = np.flatnonzero((place >= 0) & (first >= 0) & (second >= 0))
    source = np.concatenate([pairs, place[known]])
    order = np.argsort(source, kind="stable")
    source = source[order]
    a = np.concatenate([pool.a[row[pairs]], first[known]])[order]
    b = np.concatenate([pool.b[row[pairs]], second[known]])[order]
    return Labels(
        design=_differences(pool.phi, a, b),
        outcome=np.concatenate([labels.outcome[mask][pairs], implied.outcome[known]])[order],
        teacher=teacher[source],
        category=pool.category[row[source]],
        side=np.concatenate([labels.side[mask][pairs], np.zeros(len(known))])[order],
        weight=np.concatenate([np.ones(len(pairs)), implied.weight[known]])[order],
    )


def _differences(features: Singles, first: Ints, second: Ints) -> Floats:
    """(p, d) features of the first less those of the second, some rows at a time: gathered whole they take as much
    memory again."""
    found = np.empty((len(first), features.shape[1]))
    for start in range(0, len(first), CHUNK):
        rows = slice(start, start + CHUNK)
        np.subtract(features[first[rows]], features[second[rows]], out=found[rows], dtype=np.float64)
    return found
