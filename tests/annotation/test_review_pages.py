"""The reviewers' pages: the queue, one comparison with its labels, a decision, and the second of two reviewers."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Adjudication, Campaign, Comparison, Label, Offer, Review, Role, Teacher, User
from tests.annotation.test_campaign_pages import settings_of
from tests.conftest import add_conversations


@pytest.fixture
def carol(campaign: Campaign) -> User:
    user = User.objects.create_user("carol")
    Role.objects.create(campaign=campaign, user=user, name=Role.Name.REVIEWER)
    return user


@pytest.fixture
def reviewer(carol: User) -> Client:
    client = Client()
    client.force_login(carol)
    return client


@pytest.fixture
def admin(alice: User) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def label(comparison: Comparison, teacher: Teacher, choice: str, **said: Any) -> Label:
    offer = Offer.objects.create(
        campaign=comparison.campaign, comparison=comparison, teacher=teacher, state="answered", slot=teacher.pk % 30000
    )
    values = {"arm": "designed", "b_first": False, **said}
    return Label.objects.create(
        campaign=comparison.campaign, offer=offer, comparison=comparison, teacher=teacher, choice=choice, **values
    )


@pytest.fixture
def reviews(campaign: Campaign, comparisons: list[Comparison], teacher: Teacher, dora: Teacher) -> list[Review]:
    """Three that wait."""
    Campaign.objects.update(reviews_disagreements=True, reviews_flags=True)
    campaign.refresh_from_db()
    found = []
    for comparison in comparisons:
        label(comparison, teacher, "first", reason="It is <b>shorter</b>.", strength=3, is_flagged=True)
        label(comparison, dora, "first", b_first=True, criteria={"helpful": "second"})
        found.append(Review.objects.create(campaign=campaign, comparison=comparison, disagrees=True, is_flagged=True))
    return found


def page_of(client: Client, campaign: Campaign, review: Review, **data: Any) -> str:
    return client.get(reverse("campaign_review", args=[campaign.code, review.pk]), data).content.decode()


def decide(client: Client, campaign: Campaign, review: Review, verdict: str, **said: Any) -> Any:
    where = reverse("campaign_review", args=[campaign.code, review.pk])
    return client.post(where, {"verdict": verdict, "seen": "", **said})


def test_the_queue_lists_what_waits_a_page_at_a_time(
    reviewer: Client, campaign: Campaign, reviews: list[Review], monkeypatch: pytest.MonkeyPatch
) -> None:
    Review.objects.filter(pk=reviews[1].pk).update(is_waiting=False)
    where = reverse("campaign_reviews", args=[campaign.code])
    page = reviewer.get(where).content.decode()
    for review, is_there in zip(reviews, (True, False, True), strict=True):
        assert (reverse("campaign_review", args=[campaign.code, review.pk]) in page) == is_there
    assert "teachers disagree" in page
    assert "list number 0" in page
    after = reviewer.get(where, {"after": reviews[0].pk}).content.decode()
    assert "list number 0" not in after
    assert "list number 2" in after


def test_a_page_costs_the_same_number_of_queries_however_many_wait(
    reviewer: Client, campaign: Campaign, reviews: list[Review], django_assert_max_num_queries: Any
) -> None:
    for comparison in add_conversations(campaign, 60):
        Review.objects.create(campaign=campaign, comparison=comparison, is_flagged=True)
    with django_assert_max_num_queries(6):
        page = reviewer.get(reverse("campaign_reviews", args=[campaign.code])).content.decode()
    assert page.count("list number") == 50
    assert f"?after={reviews[0].pk + 49}" in page


def test_where_it_is_off_the_page_says_so_and_no_tab_leads_there(
    admin: Client, campaign: Campaign, reviews: list[Review]
) -> None:
    where = reverse("campaign_reviews", args=[campaign.code])
    overview = reverse("campaign", args=[campaign.code])
    assert where in admin.get(overview).content.decode()
    Campaign.objects.update(reviews_disagreements=False, reviews_flags=False)
    assert "Reviews are off" in admin.get(where).content.decode()
    assert where not in admin.get(overview).content.decode()


def test_an_admin_switches_it_on(admin: Client, campaign: Campaign) -> None:
    sent = settings_of(admin, campaign)
    assert "reviews_disagreements" not in sent
    stored = admin.post(reverse("campaign_settings", args=[campaign.code]), sent | {"reviews_disagreements": "on"})
    assert stored.status_code == 302, stored.context["form"].errors
    campaign.refresh_from_db()
    assert campaign.reviews_disagreements
    assert not campaign.reviews_flags
    assert campaign.reviews_due_at is not None


def test_labels_are_shown_on_the_pair_under_pseudonyms(
    reviewer: Client, campaign: Campaign, reviews: list[Review], bob: User
) -> None:
    page = page_of(reviewer, campaign, reviews[0])
    assert "teacher-bob" in page
    assert ">bob<" not in page
    assert "It is &lt;b&gt;shorter&lt;/b&gt;." in page
    rows = page.split("<tbody>")[1].split("</tr>")
    assert "A is better (3/3)" in rows[0]
    assert "flagged" in rows[0]
    assert "B is better" in rows[1]  # chosen first, where b stood first
    assert "helpful: A is better" in rows[1]
    assert 'id="prompt"' in page
    assert "numbers[::-1]" in page


def test_a_decision_leads_on_and_may_be_taken_back_there(
    reviewer: Client, campaign: Campaign, reviews: list[Review], carol: User
) -> None:
    answer = decide(reviewer, campaign, reviews[0], "a", note="Correct.")
    decided = Adjudication.objects.get()
    assert (decided.verdict, decided.note, decided.reviewer) == ("a", "Correct.", carol)
    following = reverse("campaign_review", args=[campaign.code, reviews[1].pk])
    assert answer["Location"] == f"{following}?decided={decided.pk}"
    page = reviewer.get(answer["Location"]).content.decode()
    assert f"Stored for comparison {reviews[0].comparison_id}: A is better." in page
    undo = reverse("review_undo", args=[campaign.code, reviews[0].pk])
    assert undo in page
    told = reviewer.post(undo, {"adjudication": decided.pk}, follow=True).content.decode()
    assert "The decision is taken back." in told
    reviews[0].refresh_from_db()
    assert reviews[0].is_waiting
    again = reviewer.post(undo, {"adjudication": decided.pk}, follow=True).content.decode()
    assert "no longer stands" in again


def test_sent_twice_it_is_stored_once(reviewer: Client, campaign: Campaign, reviews: list[Review]) -> None:
    for _time in range(2):
        assert decide(reviewer, campaign, reviews[0], "tie").status_code == 302
    assert Adjudication.objects.count() == 1


def test_the_second_reviewer_is_told_and_nothing_is_lost(
    reviewer: Client, admin: Client, campaign: Campaign, reviews: list[Review]
) -> None:
    page_of(reviewer, campaign, reviews[0])
    assert "carol has this comparison open as well" in page_of(admin, campaign, reviews[0])
    decide(reviewer, campaign, reviews[0], "a")
    first = Adjudication.objects.get()
    answer = decide(admin, campaign, reviews[0], "b", note="A long reason of mine.")
    assert answer.status_code == 409
    page = answer.content.decode()
    assert "carol decided meanwhile: A is better" in page
    assert "A long reason of mine." in page
    assert "(your choice)" in page
    assert f'name="seen" value="{first.pk}"' in page
    assert Adjudication.objects.get() == first
    assert decide(admin, campaign, reviews[0], "b", note="A long reason of mine.", seen=first.pk).status_code == 302
    assert Adjudication.objects.get(state="current").verdict == "b"


def test_without_a_choice_the_reason_is_kept(reviewer: Client, campaign: Campaign, reviews: list[Review]) -> None:
    page = decide(reviewer, campaign, reviews[0], "", note="My thoughts.").content.decode()
    assert "Choose one of the decisions." in page
    assert "My thoughts." in page
    assert not Adjudication.objects.exists()


@pytest.mark.parametrize("wrong", ["-1", "x", str(10**30)])
def test_a_number_that_is_none_breaks_nothing(
    reviewer: Client, campaign: Campaign, reviews: list[Review], wrong: str
) -> None:
    assert decide(reviewer, campaign, reviews[0], "a", seen=wrong).status_code == 200
    assert "decided" not in page_of(reviewer, campaign, reviews[0], decided=wrong)
    undo = reverse("review_undo", args=[campaign.code, reviews[0].pk])
    assert reviewer.post(undo, {"adjudication": wrong}).status_code == 302


def test_after_the_last_one_the_page_says_so(reviewer: Client, campaign: Campaign, reviews: list[Review]) -> None:
    for review in reviews[1:]:
        Review.objects.filter(pk=review.pk).update(is_waiting=False)
    where = reverse("campaign_review", args=[campaign.code, reviews[0].pk])
    page = reviewer.post(where, {"verdict": "left", "seen": ""}, follow=True).content.decode()
    assert "Nothing else waits for a review." in page
    assert "No decision" in page


def test_a_warning_covers_the_texts(reviewer: Client, campaign: Campaign, reviews: list[Review]) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    page = page_of(reviewer, campaign, reviews[0])
    assert "Contains bad code." in page
    assert 'class="veil"' in page


def test_decisions_are_listed_and_stand_in_the_comparisons_history(
    reviewer: Client, campaign: Campaign, reviews: list[Review], carol: User
) -> None:
    decide(reviewer, campaign, reviews[0], "both_bad", note="Neither runs.")
    listed = reviewer.get(reverse("campaign_reviews", args=[campaign.code]), {"show": "decided"}).content.decode()
    where = reverse("comparison_history", args=[campaign.code, reviews[0].comparison_id])
    history = reviewer.get(where).content.decode()
    for page in (listed, history):
        assert "Both bad" in page
        assert "Neither runs." in page
        assert "carol" in page


def test_a_teacher_and_a_researcher_have_no_business_there(
    client: Client, campaign: Campaign, reviews: list[Review], bob: User, sign_in: Callable[[User], Client]
) -> None:
    Role.objects.create(campaign=campaign, user=bob, name=Role.Name.RESEARCHER)
    assert sign_in(bob).get(reverse("campaign_reviews", args=[campaign.code])).status_code == 404


def test_a_reviewer_takes_their_own_decisions_away(
    reviewer: Client, admin: Client, campaign: Campaign, reviews: list[Review]
) -> None:
    decide(reviewer, campaign, reviews[0], "b", note="Runs.")
    decide(admin, campaign, reviews[1], "a")
    answer = reviewer.get(reverse("account_data"))
    (own,) = json.loads(b"".join(answer.streaming_content))["decisions"]
    assert (own["verdict"], own["note"], own["comparison_id"]) == ("b", "Runs.", reviews[0].comparison_id)
