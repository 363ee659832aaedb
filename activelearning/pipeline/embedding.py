"""Texts to stored features, shard by shard, and the projection that a campaign of hundreds of labels can carry."""

import time
from functools import lru_cache

import numpy as np
import structlog
from django.db import IntegrityError, transaction
from django.db.models import Sum
from django.utils import timezone

from activelearning.algorithms.features import Encoder, render_text, text_digest
from activelearning.algorithms.features import Projection as Pca
from activelearning.algorithms.types import Ints, Singles
from activelearning.models import Embedding, EmbeddingProgress, Projection
from activelearning.services import claim_embedding
from activelearning.storage import read_arrays, to_file
from annotation.models import Campaign, Comparison, Response

SHARD = 256
GROWTH = 2
"""A projection is fitted again once the pool has grown so many fold."""

log = structlog.get_logger()


def embed(campaign_id: int, *, seconds: float | None = None) -> bool:
    """Compute the features that are missing; True when none is.

    Stops between two shards after so many `seconds`, to be asked again: what else its queue holds goes in between.
    Killed at any moment, at most one shard is computed again. Where another process is at it, it is left to that one.
    """
    campaign = Campaign.objects.get(pk=campaign_id)
    if not claim_embedding(campaign=campaign):
        return False
    progress = EmbeddingProgress.objects.filter(campaign=campaign)
    newest = newest_comparison(campaign)
    try:
        is_done = _fill_shards(campaign, seconds=seconds)
        if is_done:
            current_projection(campaign) or _project(campaign)
    except Exception as error:
        progress.update(state=EmbeddingProgress.State.FAILED, reason=f"{error}"[:2000], heartbeat=timezone.now())
        log.exception("embedding failed", campaign=campaign_id)
        raise
    if is_done:
        progress.update(
            state=EmbeddingProgress.State.DONE, last_comparison=newest, dimensions=campaign.dimensions, reason=""
        )
    else:
        progress.update(state=EmbeddingProgress.State.WAITING)
    return is_done


def newest_comparison(campaign: Campaign) -> int:
    ids = Comparison.objects.filter(campaign=campaign).order_by("-id").values_list("id", flat=True)
    return ids.first() or 0


@lru_cache(maxsize=1)
def open_encoder(name: str) -> Encoder:
    """The frozen encoder of that name, loaded once in a process."""
    return Encoder("" if name == "default" else name)


def _fill_shards(campaign: Campaign, *, seconds: float | None) -> bool:
    """Store shards in ascending response id until there is nothing left or the time is up."""
    shards = Embedding.objects.filter(campaign=campaign, encoder=campaign.encoder)
    last = shards.order_by("-last_response").values_list("last_response", flat=True).first() or 0
    responses = Response.objects.filter(conversation__campaign=campaign)
    pending = sorted(responses.filter(id__gt=last).values_list("id", flat=True))
    done = shards.aggregate(rows=Sum("rows", default=0))["rows"]
    progress = EmbeddingProgress.objects.filter(campaign=campaign)
    progress.update(done=done, total=done + len(pending), heartbeat=timezone.now())
    started = time.monotonic()
    for begin in range(0, len(pending), SHARD):
        if seconds is not None and time.monotonic() - started > seconds:
            return False
        ids = pending[begin : begin + SHARD]
        # By id alone: asked for the campaign too, SQLite walks through all of its conversations for every shard.
        rows = list(Response.objects.filter(id__in=ids).order_by("id").select_related("conversation"))
        texts = [render_text([*row.conversation.messages, *row.messages]) for row in rows]
        features = open_encoder(campaign.encoder).encode(texts)
        _store(campaign, np.array(ids, dtype=np.int64), features, texts)
        progress.update(done=done + begin + len(ids), heartbeat=timezone.now())
    return True


def _store(campaign: Campaign, ids: Ints, features: Singles, texts: list[str]) -> None:
    shard = Embedding(
        campaign=campaign,
        encoder=campaign.encoder,
        rows=len(ids),
        dimensions=features.shape[1],
        last_response=int(ids[-1]),
        digest=text_digest("\n".join(text_digest(text) for text in texts)),
    )
    stored = to_file({"response_ids": ids, "features": features}, is_compressed=False)
    shard.file.save(f"{campaign.code}-{shard.last_response}.npz", stored, save=False)
    try:
        with transaction.atomic():
            shard.save()
    except IntegrityError:  # another process, taken for dead, was quicker with the same shard
        shard.file.delete(save=False)


def current_projection(campaign: Campaign) -> Projection | None:
    """The newest projection for the campaign's encoder and dimensions, unless the pool has outgrown it."""
    found = Projection.objects.filter(
        campaign=campaign, encoder=campaign.encoder, requested=campaign.dimensions
    ).first()
    if found is None:
        return None
    shards = Embedding.objects.filter(campaign=campaign, encoder=campaign.encoder)
    return found if shards.aggregate(rows=Sum("rows", default=0))["rows"] < GROWTH * found.rows else None


def _project(campaign: Campaign) -> Projection | None:
    """Fit the principal directions within conversations; None while the campaign has fewer than two responses."""
    shards = [
        read_arrays(shard.file) for shard in Embedding.objects.filter(campaign=campaign, encoder=campaign.encoder)
    ]
    if sum(len(shard["response_ids"]) for shard in shards) < 2:
        return None
    ids = np.concatenate([shard["response_ids"] for shard in shards])
    features = np.concatenate([shard["features"] for shard in shards])
    owner = dict(Response.objects.filter(conversation__campaign=campaign).values_list("id", "conversation_id"))
    conversation = np.array([owner[pk] for pk in ids.tolist()], dtype=np.int64)
    pca = Pca.fit(features, campaign.dimensions, conversation=conversation)
    projection = Projection(
        campaign=campaign,
        encoder=campaign.encoder,
        requested=campaign.dimensions,
        dimensions=pca.dimensions,
        kept_variance=pca.kept,
        rows=len(ids),
    )
    projection.file.save(f"{campaign.code}-{len(ids)}.npz", to_file(pca.arrays()))
    return projection
