"""A copy of a campaign to rehearse in: the same conversations, judgements and features; no people, no labels."""

import hashlib
from typing import Any

import numpy as np

from activelearning.algorithms.types import Ints, Singles
from activelearning.models import Embedding
from activelearning.pipeline.embedding import SHARD
from activelearning.storage import read_arrays, to_file
from annotation.models import Campaign, Comparison, RecordedJudgement, Response, User
from annotation.services.campaigns import publish_guidelines
from annotation.services.copies import clone_campaign

CHUNK = 1000


def copy_campaign(source: Campaign, *, name: str, **changes: Any) -> Campaign:
    """The campaign under another name, open, with `changes` to its settings, and with no pool, label or budget.

    Raises ValueError where the site has no user whose it could be.
    """
    owner = source.created_by or User.objects.filter(is_superuser=True).order_by("pk").first()
    if owner is None:
        raise ValueError("The copy needs an owner: make an account with manage.py createsuperuser.")
    campaign = clone_campaign(campaign=source, user=owner, name=name, with_conversations=True)
    campaign.pools.clear()
    if not campaign.guidelines.exists():
        publish_guidelines(campaign=campaign, text="Choose the response that helps more.", user=owner)
    responses = _renamed(source, campaign)
    _copy_judgements(source, campaign, responses)
    _copy_features(source, campaign, responses)
    # Open last: from then on the workers look after it, and would encode what is not there yet.
    Campaign.objects.filter(pk=campaign.pk).update(**changes, state=Campaign.State.OPEN, budget=None)
    campaign.refresh_from_db()
    return campaign


def _renamed(source: Campaign, copy: Campaign) -> dict[int, int]:
    """The copy's response for each of the source's: digests say which text is which."""
    of_copy, of_source = (
        {
            (conversation, digest): pk
            for pk, conversation, digest in Response.objects.filter(conversation__campaign=campaign)
            .values_list("pk", "conversation__digest", "digest")
            .iterator(chunk_size=10_000)
        }
        for campaign in (copy, source)
    )
    return {pk: of_copy[text] for text, pk in of_source.items() if text in of_copy}


def _copy_judgements(source: Campaign, copy: Campaign, responses: dict[int, int]) -> None:
    comparisons = {
        (a, b): pk for pk, a, b in Comparison.objects.filter(campaign=copy).values_list("pk", "a_id", "b_id")
    }
    judgements = RecordedJudgement.objects.filter(comparison__campaign=source).select_related("comparison")
    rows = []
    for judgement in judgements.iterator(chunk_size=CHUNK):
        a, b = responses.get(judgement.comparison.a_id), responses.get(judgement.comparison.b_id)
        if a is None or b is None or (a, b) not in comparisons:
            continue
        rows.append(
            RecordedJudgement(
                comparison_id=comparisons[a, b],
                judge=judgement.judge,
                outcome=judgement.outcome,
                margin=judgement.margin,
            )
        )
    RecordedJudgement.objects.bulk_create(rows, batch_size=CHUNK)


def _copy_features(source: Campaign, copy: Campaign, responses: dict[int, int]) -> None:
    """The features under the new ids, an encoder's all together: ids of the copy go by conversation, not by age.

    An unchanged text is never encoded again, but for what comes after one without features: features are complete up to
    the last that has any.
    """
    every = np.unique(np.array(list(responses.values()), dtype=np.int64))
    shards = Embedding.objects.filter(campaign=source)
    for encoder in sorted(set(shards.values_list("encoder", flat=True))):
        stored = [read_arrays(shard.file) for shard in shards.filter(encoder=encoder)]
        old, features = (np.concatenate([one[name] for one in stored]) for name in ("response_ids", "features"))
        known = np.flatnonzero([pk in responses for pk in old.tolist()])
        ids, first = np.unique([responses[pk] for pk in old[known].tolist()], return_index=True)
        features = features[known[first]]
        complete = int(np.argmin(np.r_[ids == every[: len(ids)], False]))
        for start in range(0, complete, SHARD):
            rows = slice(start, min(start + SHARD, complete))
            _keep_shard(copy, encoder, ids[rows], features[rows])


def _keep_shard(copy: Campaign, encoder: str, ids: Ints, features: Singles) -> None:
    made = Embedding(
        campaign=copy,
        encoder=encoder,
        rows=len(ids),
        dimensions=features.shape[1],
        last_response=int(ids[-1]),
        digest=hashlib.sha256(ids.tobytes()).hexdigest(),
    )
    made.file.save(f"{copy.code}.npz", to_file({"response_ids": ids, "features": features}, is_compressed=False))
