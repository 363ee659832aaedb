"""A copy of a campaign to rehearse in: the same conversations and features, no people, no labels."""

import hashlib
from collections.abc import Iterator
from typing import Any

import numpy as np
from django.db import transaction
from django.db.models import QuerySet

from activelearning.algorithms.types import Ints
from activelearning.models import Embedding
from activelearning.storage import read_arrays, to_file
from annotation.models import Campaign, Comparison, Conversation, GuidelineVersion, RecordedJudgement, Response, Role

CHUNK = 1000


@transaction.atomic
def copy_campaign(source: Campaign, *, name: str, **changes: Any) -> Campaign:
    """The campaign under another name, open, with `changes` to its settings, and with no pool, label or budget."""
    settings = {
        field.name: getattr(source, field.name)
        for field in Campaign._meta.concrete_fields
        if field.name not in ("id", "code", "created_at", "reserved", "spent", "label_count", "label_version", "budget")
    }
    campaign = Campaign.objects.create(**{**settings, "name": name, "state": Campaign.State.OPEN, **changes})
    guidelines = source.guidelines.first()
    text = guidelines.text if guidelines else "Choose the response that helps more."
    GuidelineVersion.objects.create(campaign=campaign, version=1, text=text)
    Role.objects.bulk_create(
        Role(campaign=campaign, user_id=role.user_id, name=role.name) for role in source.roles.all()
    )
    conversations = _copy(Conversation.objects.filter(campaign=source), campaign=campaign)
    responses = _copy(Response.objects.filter(conversation__campaign=source), conversation_id=conversations)
    comparisons = _copy(
        Comparison.objects.filter(campaign=source, is_active=True),
        campaign=campaign,
        conversation_id=conversations,
        a_id=responses,
        b_id=responses,
    )
    _copy(RecordedJudgement.objects.filter(comparison_id__in=comparisons), comparison_id=comparisons)
    _copy_features(source, campaign, responses)
    return campaign


def _copy(rows: QuerySet[Any], **changes: Any) -> dict[int, int]:
    """Copy rows in the order of their ids. A change is a value, or a map from old to new ids. Returns that map."""
    renamed: dict[int, int] = {}
    for batch in _batches(rows.order_by("pk")):
        old = [row.pk for row in batch]
        for row in batch:
            row.pk = None
            row._state.adding = True
            for name, change in changes.items():
                setattr(row, name, change[getattr(row, name)] if isinstance(change, dict) else change)
        rows.model._default_manager.bulk_create(batch)
        renamed.update(zip(old, (row.pk for row in batch), strict=True))
    return renamed


def _batches(rows: QuerySet[Any]) -> Iterator[list[Any]]:
    last = 0
    while batch := list(rows.filter(pk__gt=last)[:CHUNK]):
        last = batch[-1].pk
        yield batch


def _copy_features(source: Campaign, campaign: Campaign, responses: dict[int, int]) -> None:
    """The shards under the new ids, which lie in the same order. An unchanged text is never encoded again."""
    for shard in Embedding.objects.filter(campaign=source).order_by("last_response"):
        arrays = read_arrays(shard.file)
        is_kept = np.array([pk in responses for pk in arrays["response_ids"].tolist()], dtype=bool)
        if not is_kept.any():
            continue
        ids: Ints = np.array([responses[pk] for pk in arrays["response_ids"][is_kept].tolist()], dtype=np.int64)
        copy = Embedding(
            campaign=campaign,
            encoder=shard.encoder,
            rows=len(ids),
            dimensions=shard.dimensions,
            last_response=int(ids.max()),
            digest=hashlib.sha256(ids.tobytes()).hexdigest(),
        )
        copy.file.save(f"{campaign.code}.npz", to_file(response_ids=ids, features=arrays["features"][is_kept]))
