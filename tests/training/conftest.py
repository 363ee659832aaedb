"""A campaign whose responses have features and whose teacher has answered: enough to train on, without an encoder."""

import io
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
from django.core.files.base import ContentFile

from activelearning.models import Embedding, Projection
from annotation.models import Campaign, Comparison, Conversation, Label, Offer, Response, Role, Teacher, User
from tests.conftest import add_conversations

WIDTH = 6
ENCODED = 384  # the bundled encoder's width, so that generated texts can be scored as well
THETA = np.array([2.0, -1.5, 1.0, 0.5, -0.5, 0.0])


def stored(**arrays: Any) -> ContentFile:
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)
    return ContentFile(buffer.getvalue(), name="arrays.npz")


def embed(campaign: Campaign, *, seed: int = 0) -> dict[int, np.ndarray]:
    """Features of the campaign's encoder, drawn for every response; a projection keeps the first few coordinates."""
    ids = np.array(
        sorted(Response.objects.filter(conversation__campaign=campaign).values_list("id", flat=True)), dtype=np.int64
    )
    features = np.random.default_rng(seed).normal(size=(len(ids), ENCODED)).astype(np.float32)
    Embedding.objects.filter(campaign=campaign, encoder=campaign.encoder).delete()
    Embedding.objects.create(
        campaign=campaign,
        encoder=campaign.encoder,
        file=stored(response_ids=ids, features=features),
        rows=len(ids),
        dimensions=ENCODED,
        last_response=int(ids[-1]),
        digest="0" * 64,
    )
    Projection.objects.create(
        campaign=campaign,
        encoder=campaign.encoder,
        dimensions=WIDTH,
        requested=WIDTH,
        kept_variance=1.0,
        file=stored(mean=np.zeros(ENCODED), components=np.eye(WIDTH, ENCODED), explained=np.full(WIDTH, 1 / WIDTH)),
        rows=len(ids),
    )
    return dict(zip(ids.tolist(), features[:, :WIDTH], strict=True))


def answer(
    comparison: Comparison, teacher: Teacher, *, choice: str, arm: str = "designed", b_first: bool = False, **more: Any
) -> Label:
    """An answered offer and its label, as the desk would leave them."""
    offer = Offer.objects.create(
        campaign=comparison.campaign,
        comparison=comparison,
        teacher=teacher,
        arm=arm,
        slot={"designed": 1, "control": 0}.get(arm),
        b_first=b_first,
        state=Offer.State.ANSWERED,
    )
    return Label.objects.create(
        campaign=comparison.campaign,
        offer=offer,
        comparison=comparison,
        teacher=teacher,
        arm=arm,
        b_first=b_first,
        choice=choice,
        seconds=3.5,
        **more,
    )


def answer_all(
    comparisons: Sequence[Comparison], teacher: Teacher, features: dict[int, np.ndarray], *, seed: int = 1
) -> list[Label]:
    """One answer to each comparison by a teacher of rationality 1 whose reward is THETA."""
    generator = np.random.default_rng(seed)
    labels = []
    for comparison in comparisons:
        gap = float((features[comparison.a_id] - features[comparison.b_id]) @ THETA)
        prefers_a = generator.random() < 1 / (1 + np.exp(-gap))
        b_first = bool(generator.random() < 0.5)
        choice = "first" if prefers_a != b_first else "second"
        labels.append(
            answer(comparison, teacher, choice=choice, b_first=b_first, strength=int(generator.integers(1, 4)))
        )
    return labels


@pytest.fixture
def labelled(campaign: Campaign, teacher: Teacher) -> Campaign:
    """40 conversations of 3 responses, every comparison answered; every eighth conversation is held out."""
    comparisons = add_conversations(campaign, 40, responses=3)
    held_out = list(Conversation.objects.filter(campaign=campaign).order_by("id").values_list("id", flat=True))[::8]
    Conversation.objects.filter(id__in=held_out).update(is_held_out=True)
    Comparison.objects.filter(conversation_id__in=held_out).update(is_held_out=True)
    features = embed(campaign)
    answer_all(Comparison.objects.filter(id__in=[one.pk for one in comparisons]).order_by("id"), teacher, features)
    return campaign


@pytest.fixture
def researcher(labelled: Campaign, django_user_model: type[User]) -> User:
    """Rosa, who researches and does not administer."""
    rosa = User.objects.create_user("rosa", "rosa@example.org", "correct horse")
    Role.objects.create(campaign=labelled, user=rosa, name=Role.Name.RESEARCHER)
    return rosa


@pytest.fixture
def rosa_signed_in(researcher: User, sign_in: Callable[[User], Any]) -> Any:
    return sign_in(researcher)
