"""Conversations through their pages: found by their words, read, taken out, put back, made gold, asked sooner."""

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotation.models import Campaign, Comparison, Conversation, Offer, Role, User
from annotation.views.keyset import PAGE
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


def test_words_of_the_prompt_find_it(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    where = reverse("campaign_conversations", args=[campaign.code])
    page = admin.get(where, {"q": "REVERSE number 2"})
    assert [reading.conversation.pk for reading in page.context["readings"]] == [comparisons[2].conversation_id]
    assert "Nothing is found" in admin.get(where, {"q": "zebra"}).content.decode()


def test_a_category_narrows_it(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    add_conversations(campaign, 1, category="writing")
    page = admin.get(reverse("campaign_conversations", args=[campaign.code]), {"category": "writing"})
    assert len(page.context["readings"]) == 1


def test_pages_by_key_show_each_conversation_once(admin: Client, campaign: Campaign) -> None:
    add_conversations(campaign, PAGE + 3)
    where, seen, after = reverse("campaign_conversations", args=[campaign.code]), [], ""
    for _page in range(2):
        page = admin.get(where, {"after": after}).context["page"]
        seen += [one.pk for one in page.rows]
        after = page.next_key
    assert after is None
    assert seen == list(Conversation.objects.order_by("pk").values_list("pk", flat=True))


def test_a_page_costs_the_same_however_many_there_are(
    admin: Client, campaign: Campaign, django_assert_max_num_queries: DjangoAssertNumQueries
) -> None:
    add_conversations(campaign, PAGE + 10)
    with django_assert_max_num_queries(8):
        admin.get(reverse("campaign_conversations", args=[campaign.code]))


def test_the_ticked_are_taken_out_with_what_waits_of_them_and_put_back(
    admin: Client, campaign: Campaign, comparisons: list[Comparison], queued: list[Offer]
) -> None:
    where = reverse("conversations_change", args=[campaign.code])
    ticked = {"conversation": [comparisons[0].conversation_id, "x", "9" * 30]}
    admin.post(where, {"verb": "out", **ticked})
    assert not Comparison.objects.get(pk=comparisons[0].pk).is_active
    assert Comparison.objects.filter(is_active=True).count() == 2
    assert Offer.objects.get(comparison=comparisons[0]).state == Offer.State.WITHDRAWN
    page = admin.get(reverse("campaign_conversations", args=[campaign.code])).content.decode()
    assert "taken out" in page
    admin.post(where, {"verb": "back", **ticked})
    assert Comparison.objects.filter(is_active=True).count() == 3


def test_a_priority_and_a_day_are_stored(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    where = reverse("conversation_change", args=[campaign.code, comparisons[1].conversation_id])
    admin.post(where, {"verb": "priority", "priority": "7", "due_on": "2030-02-01"})
    changed = Comparison.objects.get(pk=comparisons[1].pk)
    assert changed.priority == 7
    assert changed.due_at is not None
    assert (changed.due_at.year, changed.due_at.month, changed.due_at.day) == (2030, 2, 1)
    assert Comparison.objects.filter(priority=0).count() == 2


def test_a_day_stays_until_it_is_taken_away(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    where = reverse("conversation_change", args=[campaign.code, comparisons[1].conversation_id])
    admin.post(where, {"verb": "priority", "priority": "7", "due_on": "2030-02-01"})
    admin.post(where, {"verb": "priority", "priority": "3"})
    assert Comparison.objects.get(priority=3).due_at is not None
    both = admin.post(
        where, {"verb": "priority", "priority": "2", "due_on": "2030-02-02", "clears_due": "on"}, follow=True
    )
    assert "Give a date, or tick that there is none." in both.content.decode()
    page = admin.get(reverse("campaign_conversation", args=[campaign.code, comparisons[1].conversation_id]))
    assert page.content.decode().count('name="clears_due"') == 1
    admin.post(where, {"verb": "priority", "priority": "3", "clears_due": "on"})
    assert Comparison.objects.get(priority=3).due_at is None


def test_the_list_clears_days_in_bulk(admin: Client, campaign: Campaign, comparisons: list[Comparison]) -> None:
    Comparison.objects.update(due_at=timezone.now())
    page = admin.get(reverse("campaign_conversations", args=[campaign.code])).content.decode()
    assert page.count('name="clears_due"') == 1
    ticked = {"conversation": [one.conversation_id for one in comparisons[:2]]}
    admin.post(
        reverse("conversations_change", args=[campaign.code]),
        {"verb": "priority", "priority": "0", "clears_due": "on", **ticked},
    )
    assert Comparison.objects.filter(due_at=None).count() == 2


def test_a_priority_out_of_bounds_changes_nothing(
    admin: Client, campaign: Campaign, comparisons: list[Comparison]
) -> None:
    where = reverse("conversation_change", args=[campaign.code, comparisons[1].conversation_id])
    admin.post(where, {"verb": "priority", "priority": "70000"})
    assert not Comparison.objects.exclude(priority=0).exists()


def test_a_known_answer_is_stored_and_taken_back(
    admin: Client, campaign: Campaign, comparisons: list[Comparison]
) -> None:
    where = reverse("comparison_gold", args=[campaign.code, comparisons[0].pk])
    admin.post(where, {"outcome": "0", "feedback": "b is right.", "is_tutorial": "on"})
    gold = Comparison.objects.get(pk=comparisons[0].pk)
    assert (gold.gold_outcome, gold.gold_feedback, gold.is_tutorial) == (0.0, "b is right.", True)
    admin.post(where, {"outcome": ""})
    gold.refresh_from_db()
    assert (gold.gold_outcome, gold.is_tutorial) == (None, False)
    admin.post(where, {"outcome": "", "is_tutorial": "on"})  # what would a learner be told?
    gold.refresh_from_db()
    assert not gold.is_tutorial


def test_the_page_of_one_shows_its_texts_as_text(admin: Client, campaign: Campaign) -> None:
    comparison = add_conversations(campaign, 1)[0]
    response = comparison.a
    response.messages = [{"role": "assistant", "content": "<script>alert(1)</script> **bold**"}]
    response.save()
    page = admin.get(reverse("campaign_conversation", args=[campaign.code, comparison.conversation_id]))
    assert "<strong>bold</strong>" in page.content.decode()
    assert "<script>alert" not in page.content.decode()


def test_a_reviewer_reads_and_changes_nothing(
    client: Client, campaign: Campaign, charlie: User, comparisons: list[Comparison]
) -> None:
    Role.objects.create(campaign=campaign, user=charlie, name="reviewer")
    client.force_login(charlie)
    page = client.get(reverse("campaign_conversation", args=[campaign.code, comparisons[0].conversation_id]))
    assert "Take out" not in page.content.decode()
    assert client.post(reverse("conversations_change", args=[campaign.code]), {"verb": "out"}).status_code == 404
