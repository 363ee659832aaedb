"""Another teacher, and something on a queue."""

from decimal import Decimal
from typing import Any

import pytest

from annotation.models import Campaign, Comparison, Membership, Offer, Pool, Teacher, User
from annotation.services.queueing import OfferDraft, queue_offers


def draft_for(comparison: Comparison, teacher: Teacher, **changes: Any) -> OfferDraft:
    values: dict[str, Any] = {
        "comparison_id": comparison.pk,
        "teacher_id": teacher.pk,
        "membership_id": Membership.objects.filter(teacher=teacher).order_by("pk")[0].pk,
        "arm": Offer.Arm.DESIGNED,
        "rank": 0.0,
        "cost": Decimal("0.10"),
        "b_first": False,
    }
    return OfferDraft(**{**values, **changes})


@pytest.fixture
def dora(pool: Pool) -> Teacher:
    """Another teacher of the pool."""
    teacher = Teacher.objects.create(user=User.objects.create_user("dora"), pseudonym="teacher-dora")
    Membership.objects.create(pool=pool, teacher=teacher, accepted_terms=1)
    return teacher


@pytest.fixture
def queued(campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]) -> list[Offer]:
    """Three offers on Bob's queue."""
    drafts = [draft_for(comparison, teacher, rank=float(place)) for place, comparison in enumerate(comparisons)]
    return [offer for offer in queue_offers(campaign=campaign, drafts=drafts) if offer is not None]
