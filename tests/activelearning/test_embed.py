"""Features: computed once, resumed where they stopped, the same for the same text."""

import numpy as np
import pytest

from activelearning.algorithms.features import render_text
from activelearning.arrays import load_pool
from activelearning.models import Embedding, EmbeddingProgress, Projection
from activelearning.pipeline import embed
from activelearning.pipeline import embedding as module
from activelearning.pipeline.embedding import current_projection
from activelearning.rehearsal.cloning import copy_campaign
from activelearning.storage import read_arrays
from annotation.models import Campaign, Conversation, Response
from annotation.services import copies
from tests.activelearning.conftest import FakeEncoder
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def filled(campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    monkeypatch.setattr(module, "SHARD", 16)
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=4)
    add_conversations(campaign, 20)
    campaign.refresh_from_db()
    return campaign


def test_every_response_gets_a_row_in_the_order_of_its_id(filled: Campaign) -> None:
    assert embed(filled.pk)
    ids = np.concatenate([read_arrays(shard.file)["response_ids"] for shard in Embedding.objects.all()])
    assert ids.tolist() == list(Response.objects.order_by("id").values_list("id", flat=True))
    progress = EmbeddingProgress.objects.get()
    assert (progress.state, progress.done, progress.total) == ("done", 40, 40)


def test_it_resumes_where_it_stopped_and_computes_nothing_twice(filled: Campaign, encoder: FakeEncoder) -> None:
    real, calls = encoder.encode, 0

    def stop_at_the_second(texts: list[str]) -> object:
        nonlocal calls
        calls += 1
        if calls == 2:
            raise KeyboardInterrupt
        return real(texts)

    encoder.encode = stop_at_the_second  # type: ignore[assignment, method-assign]
    with pytest.raises(KeyboardInterrupt):
        embed(filled.pk)
    assert Embedding.objects.count() == 1
    EmbeddingProgress.objects.update(heartbeat="2020-01-01T00:00Z")  # the killed process falls silent
    assert embed(filled.pk)
    assert len(encoder.asked) == len(set(encoder.asked)) == 40
    assert embed(filled.pk)
    assert len(encoder.asked) == 40


def test_nobody_else_starts_while_one_is_at_work(filled: Campaign, encoder: FakeEncoder) -> None:
    from activelearning.services import claim_embedding

    assert claim_embedding(campaign=filled)
    assert not embed(filled.pk)
    assert not encoder.asked


def test_the_encoder_reads_prompt_and_response(filled: Campaign, encoder: FakeEncoder) -> None:
    embed(filled.pk)
    assert encoder.asked[0].startswith("Human: How do I reverse list number 0")
    assert "Assistant: Answer 0" in encoder.asked[0]


def test_a_design_row_is_the_difference_of_two_projected_responses(filled: Campaign) -> None:
    embed(filled.pk)
    projection = Projection.objects.get()
    pool = load_pool(filled, projection)
    stored = [read_arrays(shard.file) for shard in Embedding.objects.all()]
    raw = dict(
        zip(
            np.concatenate([shard["response_ids"] for shard in stored]).tolist(),
            np.concatenate([shard["features"] for shard in stored]),
            strict=True,
        )
    )
    basis = read_arrays(projection.file)
    comparison = filled.comparisons.order_by("id")[7]
    expected = (raw[comparison.a_id].astype(np.float64) - raw[comparison.b_id]) @ basis["components"].T
    assert pool.ids[7] == comparison.pk
    np.testing.assert_allclose(pool.design[7], expected, atol=1e-5)


def test_what_comes_later_is_added_under_the_same_projection(filled: Campaign) -> None:
    embed(filled.pk)
    first = current_projection(filled)
    before = load_pool(filled, first)
    add_conversations(filled, 5, category="later")
    filled.refresh_from_db()
    assert load_pool(filled, first).has_features.sum() == 20
    embed(filled.pk)
    assert current_projection(filled) == first
    after = load_pool(filled, first)
    assert after.has_features.sum() == 25
    np.testing.assert_array_equal(after.design[:20], before.design)
    assert after.categories == ("coding", "later")


def test_a_pool_that_doubled_gets_a_projection_of_its_own(filled: Campaign) -> None:
    embed(filled.pk)
    add_conversations(filled, 20)
    embed(filled.pk)
    assert list(Projection.objects.values_list("rows", flat=True)) == [80, 40]


def test_a_small_pool_has_fewer_dimensions_to_give(campaign: Campaign) -> None:
    add_conversations(campaign, 3)
    embed(campaign.pk)
    projection = Projection.objects.get()
    assert (projection.requested, projection.dimensions) == (32, 3)
    assert projection.kept_variance == pytest.approx(1.0)


def test_responses_that_are_all_alike_are_a_stated_failure(campaign: Campaign, encoder: FakeEncoder) -> None:
    add_conversations(campaign, 3)
    encoder.encode = lambda texts: np.ones((len(texts), 4), dtype=np.float32)  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="nothing to compare"):
        embed(campaign.pk)
    assert "nothing to compare" in EmbeddingProgress.objects.get().reason


def test_an_empty_campaign_is_done_at_once(campaign: Campaign) -> None:
    assert embed(campaign.pk)
    assert not Projection.objects.exists()
    assert not Conversation.objects.exists()


def test_a_copy_has_the_features_of_responses_that_came_later_to_early_conversations(
    filled: Campaign, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its ids are given by conversation, a chunk at a time; a response that has none yet is encoded in the copy."""
    monkeypatch.setattr(copies, "CHUNK", 5)
    embed(filled.pk)
    early = list(Conversation.objects.filter(campaign=filled).order_by("id")[:8])
    for number, conversation in enumerate(early):
        text = [{"role": "assistant", "content": f"A policy says {number}."}]
        Response.objects.create(conversation=conversation, digest=f"p{number:063x}", messages=text, origin="policy")
        if number == 6:
            embed(filled.pk)
    asked = len(encoder.asked)
    copy = copy_campaign(filled, name="a copy")
    embed(copy.pk)
    shards = [read_arrays(shard.file) for shard in Embedding.objects.filter(campaign=copy)]
    ids, features = (np.concatenate([shard[name] for shard in shards]) for name in ("response_ids", "features"))
    rows = Response.objects.filter(conversation__campaign=copy).select_related("conversation").order_by("id")
    assert ids.tolist() == [row.pk for row in rows]
    texts = [render_text([*row.conversation.messages, *row.messages]) for row in rows]
    assert len(encoder.asked) - asked == len(rows) - [text.endswith("A policy says 7.") for text in texts].index(True)
    np.testing.assert_array_equal(features, FakeEncoder().encode(texts))
