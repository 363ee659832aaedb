"""Comparisons and their features, from rows and shards."""

import time
from dataclasses import replace

import numpy as np
from django.db.models import Q
from django.utils import timezone

from activelearning.algorithms.features import Projection as Pca
from activelearning.arrays.memory import Kept, memory_of
from activelearning.arrays.rows import PoolRows, find
from activelearning.models import Embedding, Projection
from activelearning.storage import read_arrays
from annotation.models import Campaign, Comparison
from annotation.services.urgency import DUE_SOON, urgency_of

LARGE = 20_000
FLAGS_KEPT = 5.0
"""Seconds for which a larger pool's flags are not asked anew: what an admin takes out is gone within them."""


def load_pool(campaign: Campaign, projection: Projection | None) -> PoolRows:
    """Every comparison of the campaign, with the features of `projection`; without one, a single feature of zeros."""
    kept = memory_of(campaign.pk)
    has_news = _read_features(kept, campaign, projection)
    has_news |= _read_comparisons(kept, campaign)
    if kept.pool is None or has_news:
        kept.pool = _assemble(kept)
    is_fresh = time.monotonic() < kept.flagged_at + FLAGS_KEPT
    if kept.flagged is None or has_news or not (is_fresh and len(kept.pool) > LARGE):
        kept.flagged, kept.flagged_at = _flagged(kept.pool, campaign), time.monotonic()
    return kept.flagged


def _read_features(kept: Kept, campaign: Campaign, projection: Projection | None) -> bool:
    """Take in the shards that are new; all of them when the projection changed."""
    wanted = projection.pk if projection is not None else 0
    is_new = kept.projection != wanted
    if is_new:
        kept.projection, kept.last_response, kept.pca = wanted, 0, None
        kept.response_ids = np.empty(0, dtype=np.int64)
        kept.phi = np.empty((0, projection.dimensions if projection is not None else 1), dtype=np.float32)
    if projection is None:
        return is_new
    if kept.pca is None:
        kept.pca = Pca(**read_arrays(projection.file))
    shards = Embedding.objects.filter(
        campaign=campaign, encoder=projection.encoder, last_response__gt=kept.last_response
    ).order_by("last_response")
    ids, rows = [kept.response_ids], [kept.phi]
    for shard in shards:
        stored = read_arrays(shard.file)
        ids.append(stored["response_ids"].astype(np.int64))
        rows.append(kept.pca(stored["features"]))
        kept.last_response = shard.last_response
    if len(ids) > 1:
        kept.response_ids, kept.phi = np.concatenate(ids), np.concatenate(rows)
    return is_new or len(ids) > 1


def _read_comparisons(kept: Kept, campaign: Campaign) -> bool:
    if campaign.comparison_count < len(kept.comparisons.ids):  # some were deleted
        kept.comparisons, kept.categories, kept.kinds = Kept().comparisons, [], []
    last = int(kept.comparisons.ids[-1]) if len(kept.comparisons.ids) else 0
    fresh = list(
        Comparison.objects.filter(campaign=campaign, id__gt=last)
        .order_by("id")
        .values_list("id", "conversation_id", "a_id", "b_id", "category", "is_held_out", "conversation__language")
    )
    numbers = {name: number for number, name in enumerate(kept.categories)}
    kinds = {kind: number for number, kind in enumerate(kept.kinds)}
    rows = []
    for row in fresh:
        category = numbers.setdefault(row[4], len(numbers))
        rows.append((*row[:4], category, row[5], kinds.setdefault((category, row[6]), len(kinds))))
    kept.categories, kept.kinds = list(numbers), list(kinds)
    kept.comparisons.add(rows)
    return bool(rows)


def _assemble(kept: Kept) -> PoolRows:
    ids, data = kept.comparisons.ids, kept.comparisons.data
    empty = np.empty(0, dtype=np.int64)
    a = find(kept.response_ids, data["a"]) if len(ids) else empty
    b = find(kept.response_ids, data["b"]) if len(ids) else empty
    design = np.zeros((len(ids), kept.phi.shape[1]), dtype=np.float32)
    ready = (a >= 0) & (b >= 0)
    design[ready] = kept.phi[a[ready]] - kept.phi[b[ready]]
    return PoolRows(
        ids=ids,
        conversation=data["conversation"] if len(ids) else empty,
        category=data["category"].astype(np.int64) if len(ids) else empty,
        categories=tuple(kept.categories) or ("",),
        a=a,
        b=b,
        phi=kept.phi,
        response_ids=kept.response_ids,
        design=design,
        is_held_out=data["is_held_out"].astype(bool) if len(ids) else empty.astype(bool),
        is_askable=np.ones(len(ids), dtype=bool),
        is_urgent=np.zeros(len(ids), dtype=bool),
        kind=data["kind"].astype(np.int64) if len(ids) else empty,
        kinds=tuple(kept.kinds) or ((0, ""),),
    )


def _flagged(pool: PoolRows, campaign: Campaign) -> PoolRows:
    """What an admin may change while the campaign runs, asked anew each time."""
    now = timezone.now()
    special = Comparison.objects.filter(campaign=campaign).filter(
        Q(is_active=False)
        | Q(gold_outcome__isnull=False)
        | Q(is_tutorial=True)
        | Q(priority__gt=0)
        | Q(due_at__lte=now + DUE_SOON)
    )
    askable, urgent = np.ones(len(pool), dtype=bool), np.zeros(len(pool), dtype=bool)
    rows = list(special.values_list("id", "is_active", "gold_outcome", "is_tutorial", "priority", "due_at"))
    places = pool.rows_of(np.array([row[0] for row in rows], dtype=np.int64))
    for place, (_id, is_active, gold, is_tutorial, priority, due_at) in zip(places, rows, strict=True):
        if place >= 0:
            askable[place] = is_active and gold is None and not is_tutorial
            urgent[place] = urgency_of(priority=priority, due_at=due_at, now=now) > 0
    if campaign.answer_mode == Campaign.AnswerMode.RANKING and len(pool):
        open_rows = np.flatnonzero(askable)
        askable = np.zeros(len(pool), dtype=bool)
        askable[open_rows[np.unique(pool.conversation[open_rows], return_index=True)[1]]] = True
    return replace(pool, is_askable=askable, is_urgent=urgent)
