"""Features without a model: every text has a vector of its own, and a reward that is known."""

from collections.abc import Iterator
from datetime import timedelta

import numpy as np
import pytest
from django.core.cache import cache
from django.utils import timezone

from activelearning import arrays
from activelearning.algorithms.types import Singles
from activelearning.pipeline import embedding, known, replan
from annotation.models import Campaign, Comparison, Membership, Offer, Pool, Teacher
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer

WIDTH = 12


class FakeEncoder:
    """A vector per text, drawn from its digest; it counts what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def encode(self, texts: list[str]) -> Singles:
        self.asked += texts
        rows = [np.random.default_rng(list(text.encode())).standard_normal(WIDTH) for text in texts]
        return np.array(rows, dtype=np.float32).reshape(len(texts), WIDTH)


@pytest.fixture(autouse=True)
def encoder(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeEncoder]:
    fake = FakeEncoder()
    monkeypatch.setattr(embedding, "open_encoder", lambda name: fake)
    cache.clear()
    arrays.forget()
    known.forget()
    yield fake
    arrays.forget()
    known.forget()


def hire(pool: Pool, count: int, *, rationality: float = 1.0, **terms: object) -> list[Teacher]:
    """So many teachers of a pool, at work since a moment."""
    teachers = []
    for _ in range(count):
        teacher = Teacher.objects.create(last_seen=timezone.now() - timedelta(seconds=1))
        Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1, rationality={"": rationality}, **terms)
        teachers.append(teacher)
    return teachers


def see(*teachers: Teacher) -> None:
    Teacher.objects.filter(pk__in=[teacher.pk for teacher in teachers]).update(last_seen=timezone.now())


def work_through(campaign: Campaign, teacher: Teacher, *, plans: int) -> None:
    """So many plans, and an answer after each."""
    for _ in range(plans):
        replan(campaign.pk)
        answer(campaign, teacher)


def answer(campaign: Campaign, teacher: Teacher, choice: str = "first") -> Offer | None:
    """Claim what waits for the teacher and answer it."""
    offer = claim_offer(campaign=campaign, teacher=teacher)
    if offer is not None:
        record_label(offer=offer, choice=choice)
    return offer


def live_offers(campaign: Campaign, **which: object) -> list[Offer]:
    return list(Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE, **which).order_by("rank"))


def hold_out(comparisons: list[Comparison]) -> None:
    Comparison.objects.filter(pk__in=[row.pk for row in comparisons]).update(is_held_out=True)
