"""Queued offers are taken back where something better could be asked instead, and nowhere else."""

import numpy as np
import pytest

from activelearning.algorithms.types import Singles
from activelearning.models import Estimate, Plan
from activelearning.pipeline import embed, embedding, replan
from annotation.models import Campaign, Comparison, Label, Offer, Pool, RecordedJudgement, Teacher
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer, skip_offer
from tests.activelearning.conftest import FakeEncoder, answer, hire, live_offers
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


class OneTellsMost(FakeEncoder):
    """The answers to list number 0 lie ten times as far out as all others."""

    def encode(self, texts: list[str]) -> Singles:
        far = np.array([10.0 if "list number 0 " in text else 1.0 for text in texts], dtype=np.float32)
        return super().encode(texts) * far[:, None]


@pytest.fixture
def lopsided(campaign: Campaign, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> Campaign:
    """Twenty comparisons of four features, the first of which tells most by far; one teacher."""
    monkeypatch.setattr(embedding, "open_encoder", lambda name: OneTellsMost())
    Campaign.objects.filter(pk=campaign.pk).update(dimensions=4, control_share=0, overlap_limit=2)
    add_conversations(campaign, 20)
    hire(pool, 1)
    embed(campaign.pk)
    campaign.refresh_from_db()
    return campaign


def replan_twice(campaign: Campaign) -> tuple[set[int], set[int]]:
    """The offers that wait after one more plan and after yet another."""
    replan(campaign.pk)
    once = {offer.pk for offer in live_offers(campaign)}
    replan(campaign.pk)
    return once, {offer.pk for offer in live_offers(campaign)}


def test_no_offer_goes_for_the_sake_of_what_its_teacher_has_skipped(lopsided: Campaign) -> None:
    best, teacher = Comparison.objects.order_by("pk")[0], Teacher.objects.get()
    while Label.objects.count() < 10:
        replan(lopsided.pk)
        offer = claim_offer(campaign=lopsided, teacher=teacher)
        assert offer is not None
        if offer.comparison_id == best.pk:
            skip_offer(offer=offer)
        else:
            record_label(offer=offer, choice="first")
    assert Offer.objects.get(comparison=best).state == Offer.State.SKIPPED
    once, twice = replan_twice(lopsided)
    assert Estimate.objects.latest().label_count >= 2 * 4, "the spanning start is over"
    assert once == twice
    assert not Offer.objects.filter(state=Offer.State.WITHDRAWN).exists()
    assert not Plan.objects.filter(withdrawn__gt=0).exists()


def test_no_offer_of_a_recorded_judge_goes_for_the_sake_of_what_the_data_lacks(lopsided: Campaign, pool: Pool) -> None:
    somebody, judge = Teacher.objects.get(), hire(pool, 1)[0]
    Teacher.objects.filter(pk=judge.pk).update(kind=Teacher.Kind.RECORDED, external={"judge": "expert-7"})
    RecordedJudgement.objects.bulk_create(
        RecordedJudgement(comparison=comparison, judge="expert-7", outcome=1.0)
        for comparison in Comparison.objects.order_by("pk")[15:]
    )
    Comparison.objects.filter(pk=Comparison.objects.order_by("pk")[0].pk).update(is_active=False)
    while Label.objects.count() < 10:
        replan(lopsided.pk)
        answer(lopsided, somebody)
    replan(lopsided.pk)
    held = {offer.pk for offer in live_offers(lopsided, teacher=judge)}
    assert len(held) == 4
    Comparison.objects.filter(is_active=False).update(is_active=True)
    once, twice = replan_twice(lopsided)
    assert held <= once
    assert held <= twice


def test_an_offer_goes_where_its_teacher_could_be_asked_what_tells_more(lopsided: Campaign) -> None:
    teacher = Teacher.objects.get()
    best = Comparison.objects.order_by("pk")[0]
    Comparison.objects.filter(pk=best.pk).update(is_active=False)
    while Label.objects.count() < 10:
        replan(lopsided.pk)
        answer(lopsided, teacher)
    Comparison.objects.filter(pk=best.pk).update(is_active=True)
    replan(lopsided.pk)
    assert best.pk in {offer.comparison_id for offer in live_offers(lopsided)}
    assert Offer.objects.filter(state=Offer.State.WITHDRAWN).exists()


def test_no_offer_on_an_urgent_comparison_goes(lopsided: Campaign) -> None:
    """It would be the first to be offered again."""
    teacher, best = Teacher.objects.get(), Comparison.objects.order_by("pk")[0]
    Comparison.objects.filter(pk=best.pk).update(is_active=False)
    while Label.objects.count() < 10:
        replan(lopsided.pk)
        answer(lopsided, teacher)
    replan(lopsided.pk)
    held = {offer.pk: offer.comparison_id for offer in live_offers(lopsided)}
    Comparison.objects.filter(pk__in=held.values()).update(priority=1)
    Comparison.objects.filter(pk=best.pk).update(is_active=True)
    once, twice = replan_twice(lopsided)
    assert once == twice == set(held)


@pytest.mark.parametrize("strategy", ["uniform", "uncertainty", "drts"])
def test_no_offer_of_another_rule_goes_for_its_small_gain(lopsided: Campaign, strategy: str) -> None:
    """A uniform design without the pairs that tell little would be none."""
    teacher, best = Teacher.objects.get(), Comparison.objects.order_by("pk")[0]
    Campaign.objects.filter(pk=lopsided.pk).update(strategy=strategy)
    Comparison.objects.filter(pk=best.pk).update(is_active=False)
    while Label.objects.count() < 10:
        replan(lopsided.pk)
        answer(lopsided, teacher)
    replan(lopsided.pk)
    held = {offer.pk for offer in live_offers(lopsided)}
    Comparison.objects.filter(pk=best.pk).update(is_active=True)
    once, twice = replan_twice(lopsided)
    assert once == twice == held
