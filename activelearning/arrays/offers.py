"""Offers that take a place or close a pair."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from activelearning.algorithms.types import Bools, Ints
from activelearning.arrays.memory import memory_of
from activelearning.arrays.rows import PoolRows, find
from annotation.models import Campaign, Offer


@dataclass(frozen=True)
class OfferRows:
    """Offers that take a place (queued, held, answered) or close a pair (skipped); `row` numbers the pool's rows."""

    ids: Ints
    row: Ints
    teacher: Ints
    arm: NDArray[np.str_]
    b_first: Bools
    takes_slot: Bools
    is_queued: Bools
    is_live: Bools

    def __len__(self) -> int:
        return len(self.ids)


def load_offers(campaign: Campaign, pool: PoolRows) -> OfferRows:
    """Every offer that matters to a plan; the closed ones are remembered, since they only leave (an undo)."""
    kept = memory_of(campaign.pk)
    S = Offer.State
    offers = Offer.objects.filter(campaign=campaign)
    columns = ("id", "comparison_id", "teacher_id", "arm", "slot", "b_first")
    closed = np.array(
        list(offers.filter(state__in=(S.ANSWERED, S.SKIPPED)).order_by("id").values_list("id", "state")), dtype=object
    ).reshape(-1, 2)
    closed_ids = closed[:, 0].astype(np.int64)
    missing = closed_ids[find(kept.offers.ids, closed_ids) < 0]
    if len(missing):
        wanted = offers.filter(state__in=(S.ANSWERED, S.SKIPPED))
        wanted = wanted if len(missing) > 500 else offers.filter(id__in=missing.tolist())
        known = set(kept.offers.ids.tolist())
        kept.offers.add(
            [
                (pk, comparison, teacher, arm, -1 if slot is None else slot, b_first)
                for pk, comparison, teacher, arm, slot, b_first in wanted.values_list(*columns)
                if pk not in known
            ]
        )
    live = list(offers.filter(state__in=Offer.LIVE).order_by("id").values_list(*columns, "state"))
    live_ids = np.array([row[0] for row in live], dtype=np.int64)
    is_closed = ~np.isin(closed_ids, live_ids)
    closed_ids, states = closed_ids[is_closed], closed[is_closed, 1]
    found = kept.offers.pick(closed_ids)
    both = {
        name: np.concatenate([found[name].astype(kind), np.array([row[place] for row in live], dtype=kind)])
        for name, place, kind in (
            ("comparison", 1, np.int64),
            ("teacher", 2, np.int64),
            ("arm", 3, np.str_),
            ("b_first", 5, bool),
        )
    }
    old, new = len(closed_ids), len(live)
    return OfferRows(
        ids=np.concatenate([closed_ids, live_ids]),
        row=pool.rows_of(both["comparison"]),
        teacher=both["teacher"],
        arm=both["arm"].astype(np.str_),
        b_first=both["b_first"],
        takes_slot=np.concatenate([states != S.SKIPPED, np.ones(new, dtype=bool)]).astype(bool),
        is_queued=np.concatenate(
            [np.zeros(old, dtype=bool), np.array([row[6] == S.QUEUED for row in live], dtype=bool)]
        ),
        is_live=np.concatenate([np.zeros(old, dtype=bool), np.ones(new, dtype=bool)]),
    )
