"""The benchmark's judge sees what is wrong: a judge that always acquits would prove nothing."""

import pytest

from annotation.models import Campaign, Label, LedgerEntry, Offer, Teacher
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer
from benchmarks.assignment import CHOICES, FAULTS, KINDS, judge

pytestmark = pytest.mark.django_db


@pytest.fixture
def label(campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Label:
    return record_label(offer=claim_offer(campaign=campaign, teacher=teacher), choice="tie")


def record_of(label: Label, *, choice: str = "tie", pk: int | None = None) -> tuple[int, int, float, int, int]:
    return KINDS.index("answer"), CHOICES.index(choice), 0.01, label.offer_id, pk or label.pk


def faults(campaign: Campaign, *records: tuple[int, int, float, int, int]) -> set[str]:
    return {name for name, count in judge(campaign.pk, list(records)).items() if name in FAULTS and count}


def test_it_finds_nothing_where_nothing_is_wrong(campaign: Campaign, label: Label) -> None:
    assert faults(campaign, record_of(label)) == set()


def test_it_finds_an_accepted_answer_that_is_not_there_or_says_another_thing(campaign: Campaign, label: Label) -> None:
    assert faults(campaign, record_of(label, pk=label.pk + 1)) == {"lost_answers"}
    assert faults(campaign, record_of(label, choice="first")) == {"lost_answers"}


def test_it_finds_an_answered_offer_without_a_label(campaign: Campaign, label: Label) -> None:
    Label.objects.update(state=Label.State.RETRACTED)
    assert {"doubled_labels", "wrong_counters"} <= faults(campaign)


@pytest.mark.parametrize("counter", [{"label_count": 2}, {"reserved": "0.1"}, {"spent": "0.2"}])
def test_it_finds_a_counter_that_went_wrong(campaign: Campaign, label: Label, counter: dict[str, object]) -> None:
    Campaign.objects.update(**counter)
    assert faults(campaign) == {"wrong_counters"}


def test_it_finds_half_a_movement(campaign: Campaign, label: Label) -> None:
    LedgerEntry.objects.filter(account="campaign").delete()
    assert faults(campaign) == {"unbalanced_movements"}
