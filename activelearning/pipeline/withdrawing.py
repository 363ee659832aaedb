"""Offers that are taken back before new ones are made."""

import numpy as np

from activelearning.algorithms.types import Bools, Ints
from activelearning.arrays import (
    load_removable,
)
from activelearning.pipeline.scene import Scene, gather, open_rows, stated_of
from activelearning.weighing import still_pays
from annotation.models import Offer
from annotation.services.offers import withdraw_offers


def withdraw(scene: Scene) -> int:
    """Take back queued offers: of teachers who left, on comparisons taken out, and those that now tell too little."""
    offers, pool = scene.offers, scene.pool
    queued = np.flatnonzero(offers.is_queued)
    if not len(queued):
        return 0
    absent = load_removable(
        scene.campaign, set(offers.teacher[queued].tolist()) - set(scene.teacher_ids.tolist()), now=scene.now
    )
    known_row = offers.row[queued] >= 0
    designed = offers.arm[queued] == Offer.Arm.DESIGNED
    control = offers.arm[queued] == Offer.Arm.CONTROL
    leaves = np.isin(offers.teacher[queued], np.array(sorted(absent), dtype=np.int64))
    asked = np.maximum(offers.row[queued], 0)
    leaves |= known_row & (designed | control) & ~pool.is_askable[asked]
    leaves |= known_row & designed & pool.is_held_out[asked]
    candidates = np.flatnonzero(designed & known_row & ~leaves & np.isin(offers.teacher[queued], scene.teacher_ids))
    leaves[candidates[~_still_pays(scene, queued[candidates])]] = True
    taken_back = offers.ids[queued[leaves]].tolist()
    return withdraw_offers(offers=Offer.objects.filter(pk__in=taken_back)) if taken_back else 0


def _still_pays(scene: Scene, places: Ints) -> Bools:
    """Every offer pays until the estimate rests on more than its spanning start, and where gain did not choose it.

    An urgent one would be the first to be offered again; a rule of another name would draw from what is left.
    """
    known, offers, pool = scene.known, scene.offers, scene.pool
    is_by_gain = scene.campaign.strategy == "dual"
    if not is_by_gain or known is None or not len(places) or known.row.label_count < 2 * known.theta.size:
        return np.ones(len(places), dtype=bool)
    inputs = gather(scene, looking_at=np.unique(offers.teacher[places]))
    if inputs is None:
        return np.ones(len(places), dtype=bool)
    stated, width = stated_of(scene), len(pool.categories)
    counted = np.maximum(known.rationality_of(inputs.teacher, width, stated=stated), 0.0)
    hopeful = known.hopeful_rationality(inputs.teacher, width, stated=stated)
    ready = pool.has_features[offers.row[places]] & ~pool.is_urgent[offers.row[places]]
    pays = np.ones(len(places), dtype=bool)
    pays[ready] = still_pays(
        inputs,
        pool,
        rows=offers.row[places[ready]],
        teachers=np.searchsorted(inputs.teacher, offers.teacher[places[ready]]),
        counted=counted[:, pool.category_of_kind],
        rationality=hopeful[:, pool.category_of_kind],
        open_rows=open_rows(scene),
    )
    return pays
