"""The desk through its pages: what a teacher sees and sends, and what is stored."""

import json
import re
from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from allauth.socialaccount.models import SocialAccount
from django.core.cache import cache
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries

from annotation.formats.limits import RESPONSES
from annotation.models import (
    Campaign,
    Comparison,
    Enrolment,
    GuidelineVersion,
    Label,
    Message,
    Offer,
    Response,
    Role,
    Teacher,
    User,
)
from annotation.services.notices import LONGEST_MESSAGE
from annotation.services.offers import claim_offer, withdraw_offers
from annotation.services.people import accept_warning, set_preferences
from annotation.services.queueing import queue_offers
from annotation.shortcuts import SHORTCUTS
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

HTMX = {"HTTP_HX_REQUEST": "true"}


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def enrolment(campaign: Campaign, teacher: Teacher) -> Enrolment:
    """Bob has read the guidelines and works."""
    return Enrolment.objects.create(
        campaign=campaign,
        teacher=teacher,
        stage=Enrolment.Stage.WORKING,
        read_version=campaign.guidelines.first(),
        working_since=timezone.now() - timedelta(days=1),
    )


@pytest.fixture
def desk(client: Client, bob: User, enrolment: Enrolment, queued: list[Offer]) -> Client:
    client.force_login(bob)
    return client


def url(name: str, campaign: Campaign, *more: Any) -> str:
    return reverse(name, args=[campaign.code, *more])


def held(campaign: Campaign) -> Offer:
    return Offer.objects.get(campaign=campaign, state=Offer.State.HELD)


def answer(client: Client, campaign: Campaign, offer: Offer, given: str = "first:2", **more: Any) -> Any:
    return client.post(url("desk_answer", campaign), {"offer": offer.code, "answer": given, **more}, **HTMX)


def test_what_was_answered_on_another_day_is_not_of_today(
    desk: Client, campaign: Campaign, enrolment: Enrolment
) -> None:
    day = timezone.now().date()
    for counted, shown in ((day, 7), (day - timedelta(days=1), 0), (None, 0)):
        Enrolment.objects.update(day=counted, day_count=7)
        assert f"<b>{shown}</b> today" in desk.get(url("desk", campaign)).content.decode()
    assert "<b>1</b> today" in answer(desk, campaign, held(campaign)).content.decode()


# Seeing ---------------------------------------------------------------------------------------------------------------


def test_the_desk_shows_and_holds_the_head_of_the_queue(desk: Client, campaign: Campaign, queued: list[Offer]) -> None:
    page = desk.get(url("desk", campaign))
    assert page.status_code == 200
    assert held(campaign) == queued[0]
    assert "How do I reverse list number 0" in page.content.decode()
    assert "<code>numbers[::-1]</code>" in page.content.decode()


def test_a_reload_shows_the_same_comparison(desk: Client, campaign: Campaign) -> None:
    first = desk.get(url("desk", campaign)).context["offer"]
    assert desk.get(url("desk", campaign)).context["offer"] == first


def test_responses_stand_in_the_order_that_was_drawn(desk: Client, campaign: Campaign, queued: list[Offer]) -> None:
    Offer.objects.filter(pk=queued[0].pk).update(b_first=True)
    shown = desk.get(url("desk", campaign)).context["shown"]
    comparison = queued[0].comparison
    assert [side.response_id for side in shown.sides] == [comparison.b_id, comparison.a_id]


def test_the_page_says_nothing_of_others_nor_of_the_model(
    desk: Client, campaign: Campaign, dora: Teacher, queued: list[Offer]
) -> None:
    Response.objects.update(author="gpt-secret-model")
    Comparison.objects.filter(pk=queued[0].comparison_id).update(gold_outcome=1.0, gold_feedback="secret-feedback")
    page = desk.get(url("desk", campaign)).content.decode()
    for secret in ("gpt-secret-model", "secret-feedback", "designed", "control", "gold", "propensity", "teacher-dora"):
        assert secret not in page.split("<main", 1)[1], secret


def test_differences_are_marked_on_request(desk: Client, campaign: Campaign) -> None:
    assert "<mark>" not in desk.get(url("desk", campaign)).content.decode()
    assert "<mark>" in desk.get(url("desk", campaign) + "?differences").content.decode()


def test_an_empty_queue_says_why(desk: Client, campaign: Campaign, queued: list[Offer]) -> None:
    Offer.objects.all().delete()
    page = desk.get(url("desk", campaign)).content.decode()
    assert "Nothing to compare right now" in page
    assert "every 10s" in page


def test_waiting_leaves_the_page_alone_until_there_is_something(
    desk: Client, campaign: Campaign, queued: list[Offer]
) -> None:
    Offer.objects.filter(campaign=campaign).update(state=Offer.State.WITHDRAWN)
    asks = polled_by(desk.get(url("desk", campaign)))
    assert desk.get(asks, **HTMX).status_code == 204
    Offer.objects.filter(pk=queued[0].pk).update(state=Offer.State.QUEUED)
    assert desk.get(asks, **HTMX).context["state"] == "offer"


def test_a_pause_is_waited_out(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(state=Campaign.State.PAUSED)
    asks = polled_by(desk.get(url("desk", campaign)))
    assert desk.get(asks, **HTMX).status_code == 204
    Campaign.objects.update(state=Campaign.State.OPEN)
    assert desk.get(asks, **HTMX).context["state"] == "offer"


def test_a_pause_that_is_waited_out_asks_for_no_plan(
    desk: Client, campaign: Campaign, sent_tasks: list[Any], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    Campaign.objects.update(state=Campaign.State.PAUSED)
    with django_capture_on_commit_callbacks(execute=True):
        desk.get(url("desk", campaign))
    assert sent_tasks == []


def polled_by(page: Any) -> str:
    """What a page of rest asks for every ten seconds."""
    found = re.search(r'hx-get="([^"]+)" hx-trigger="every 10s"', page.content.decode())
    assert found
    return found[1]


def test_waiting_says_when_the_reason_is_another(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    Offer.objects.filter(campaign=campaign).update(state=Offer.State.WITHDRAWN)
    asks = polled_by(desk.get(url("desk", campaign)))
    Teacher.objects.filter(pk=teacher.pk).update(away_until=timezone.now() + timedelta(days=1))
    away = desk.get(asks, **HTMX)
    assert "You are on time off" in away.content.decode()
    assert desk.get(polled_by(away), **HTMX).status_code == 204
    Campaign.objects.update(state=Campaign.State.CLOSED)
    assert "This campaign is closed" in desk.get(asks, **HTMX).content.decode()


def test_a_paused_campaign_offers_nothing_and_says_so(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(state=Campaign.State.PAUSED)
    assert "This campaign is paused" in desk.get(url("desk", campaign)).content.decode()


# Who may --------------------------------------------------------------------------------------------------------------

PAGES = ("desk", "desk_next", "desk_messages", "desk_guidelines", "desk_shortcuts", "desk_history", "desk_summary")
VERBS = ("desk_answer", "desk_skip", "desk_undo", "desk_read", "desk_warning", "desk_hide")


@pytest.mark.parametrize("name", PAGES + VERBS)
def test_strangers_find_nothing_and_the_anonymous_sign_in(
    client: Client, campaign: Campaign, charlie: User, name: str
) -> None:
    method = client.post if name in VERBS else client.get
    assert method(url(name, campaign)).status_code == 302
    client.force_login(charlie)
    assert client.get(url(name, campaign)).status_code == 404
    assert client.post(url(name, campaign)).status_code == 404


@pytest.mark.parametrize("name", VERBS)
def test_verbs_are_posted(desk: Client, campaign: Campaign, name: str) -> None:
    assert desk.get(url(name, campaign)).status_code == 405


def test_an_expired_session_leads_a_fragment_to_the_sign_in(client: Client, campaign: Campaign) -> None:
    response = client.post(url("desk_answer", campaign), {"answer": "tie"}, **HTMX)
    assert response["HX-Redirect"] == f"{reverse('account_login')}?next={url('desk', campaign)}"


@pytest.mark.parametrize("name", VERBS)
def test_a_plain_post_without_a_session_leads_by_the_sign_in_to_the_desk(
    client: Client, campaign: Campaign, name: str
) -> None:
    """The verb's own address would be empty after the sign-in: it takes posts only."""
    assert client.post(url(name, campaign))["Location"] == f"{reverse('account_login')}?next={url('desk', campaign)}"


def test_nobody_answers_an_offer_of_somebody_else(
    desk: Client, campaign: Campaign, dora: Teacher, queued: list[Offer]
) -> None:
    Offer.objects.filter(pk=queued[0].pk).update(teacher=dora)
    assert answer(desk, campaign, queued[0]).status_code == 404
    assert not Label.objects.exists()


# Answering ------------------------------------------------------------------------------------------------------------


def test_an_answer_is_stored_as_shown_and_the_next_comparison_comes_with_it(
    desk: Client, campaign: Campaign, queued: list[Offer], enrolment: Enrolment
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = answer(desk, campaign, offer, "second:3", reason="clearer", is_flagged="on")
    label = Label.objects.get()
    assert (label.choice, label.strength, label.reason, label.is_flagged) == ("second", 3, "clearer", True)
    assert (label.offer, label.guidelines_id) == (offer, enrolment.read_version_id)
    assert response.context["offer"] == queued[1]
    assert response["X-Settled"] == str(offer.code)
    assert "<html" not in response.content.decode()
    assert "<b>1</b> today" in response.content.decode()


@pytest.mark.parametrize(
    ("given", "choice", "strength"),
    [("first", "first", None), ("tie", "tie", None), ("both_bad", "both_bad", None), ("first:1", "first", 1)],
)
def test_every_button_is_a_choice(
    desk: Client, campaign: Campaign, given: str, choice: str, strength: int | None
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, given)
    label = Label.objects.get()
    assert (label.choice, label.strength) == (choice, strength)


def test_choice_and_strength_may_come_apart(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    desk.post(url("desk_answer", campaign), {"offer": offer.code, "choice": "first", "strength": "1"})
    assert Label.objects.get().strength == 1


def test_a_plain_post_leads_back_to_the_desk(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = desk.post(url("desk_answer", campaign), {"offer": offer.code, "answer": "tie"})
    assert response.status_code == 302
    assert response["Location"] == url("desk", campaign)


def test_the_same_answer_twice_is_one_label(desk: Client, campaign: Campaign, queued: list[Offer]) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer)
    again = answer(desk, campaign, offer)
    assert Label.objects.count() == 1
    assert again["X-Settled"] == str(offer.code)
    assert again.context["offer"] == queued[1]


def test_another_answer_to_an_answered_offer_is_refused_with_a_sentence(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first")
    again = answer(desk, campaign, offer, "second")
    assert Label.objects.get().choice == "first"
    assert "already answered this comparison differently" in again.content.decode()


def test_nonsense_is_refused_and_the_comparison_stays(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = answer(desk, campaign, offer, "third", reason="my reason")
    assert not Label.objects.exists()
    assert response.context["offer"] == offer
    assert "my reason" in response.content.decode()
    assert "X-Settled" not in response
    assert response["X-Refused"] == str(offer.code)


def test_a_lapsed_offer_whose_answer_is_refused_is_explained(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(late_policy=Campaign.LatePolicy.REFUSE)
    offer = desk.get(url("desk", campaign)).context["offer"]
    Offer.objects.filter(pk=offer.pk).update(held_until=timezone.now() - timedelta(seconds=1))
    Campaign.objects.update(reserved="0.3")
    response = answer(desk, campaign, offer)
    assert not Label.objects.exists()
    page = response.content.decode()
    assert "The time for this comparison was over, so your answer was not taken." in page
    assert "somebody else" not in page, "nobody knows that yet"
    assert response["X-Refused"] == str(offer.code)
    assert "X-Settled" not in response, "the browser would throw away what was typed"
    offer.refresh_from_db()
    campaign.refresh_from_db()
    assert (offer.state, campaign.reserved) == (Offer.State.LAPSED, Decimal("0.2"))
    assert response.context["offer"].pk not in (None, offer.pk)


def test_a_late_answer_counts_where_its_place_is_free(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    Offer.objects.filter(pk=offer.pk).update(held_until=timezone.now() - timedelta(hours=9))
    answer(desk, campaign, offer)
    assert Label.objects.get().offer == offer


def test_criteria_are_stored_under_their_names(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(criteria=["helpful", "honest"])
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first", **{field_of(desk, campaign, "helpful"): "second"})
    assert Label.objects.get().criteria == {"helpful": "second"}


def field_of(client: Client, campaign: Campaign, criterion: str) -> str:
    """The name of a criterion's field on the page."""
    fields = client.get(url("desk", campaign)).context["form"].criteria_fields
    return next(field.html_name for field in fields if field.label == criterion)


def test_a_page_opened_before_the_criteria_changed_answers_the_ones_it_showed(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(criteria=["helpful", "harmless", "short"])
    offer = desk.get(url("desk", campaign)).context["offer"]
    helpful, harmless, short = (field_of(desk, campaign, name) for name in ("helpful", "harmless", "short"))
    Campaign.objects.update(criteria=["honest", "harmless", "helpful"])
    given = {helpful: "first", harmless: "second", short: "tie", "criterion-0": "second"}
    answer(desk, campaign, offer, "first", **given)
    assert Label.objects.get().criteria == {"helpful": "first", "harmless": "second"}


def test_strength_is_dropped_where_it_is_not_asked(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(asks_strength=False)
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first:3")
    assert Label.objects.get().strength is None


def test_an_answer_asks_for_a_new_plan(
    desk: Client, campaign: Campaign, sent_tasks: list[Any], django_capture_on_commit_callbacks: Callable[..., Any]
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    with django_capture_on_commit_callbacks(execute=True):
        answer(desk, campaign, offer)
    assert sent_tasks == [("activelearning.replan", (campaign.pk,))]


def test_an_answer_costs_the_same_queries_however_long_the_queue(
    desk: Client,
    campaign: Campaign,
    queued: list[Offer],
    teacher: Teacher,
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer)
    offer = held(campaign)
    with django_assert_max_num_queries(24):
        answer(desk, campaign, offer)


# Ranking --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def ranked(campaign: Campaign, teacher: Teacher, enrolment: Enrolment, client: Client, bob: User) -> Offer:
    """A conversation with four responses, one offer of it, on Bob's queue."""
    campaign.answer_mode = Campaign.AnswerMode.RANKING
    campaign.save()
    comparison = add_conversations(campaign, 1, responses=4)[0]
    offer = queue_offers(campaign=campaign, drafts=[draft_for(comparison, teacher)])[0]
    assert offer is not None
    client.force_login(bob)
    return offer


def test_a_ranking_shows_all_responses_in_an_order_of_the_offer(
    client: Client, campaign: Campaign, ranked: Offer
) -> None:
    first = [side.response_id for side in client.get(url("desk", campaign)).context["shown"].sides]
    again = [side.response_id for side in client.get(url("desk", campaign)).context["shown"].sides]
    assert first == again
    assert sorted(first) == sorted(Response.objects.values_list("pk", flat=True))


def test_a_ranking_is_stored_in_tiers_best_first(client: Client, campaign: Campaign, ranked: Offer) -> None:
    sides = client.get(url("desk", campaign)).context["shown"].sides
    ids = [side.response_id for side in sides]
    places = {f"place-{ids[0]}": 3, f"place-{ids[1]}": 1, f"place-{ids[2]}": 1, f"place-{ids[3]}": 4}
    answer(client, campaign, ranked, "ranking", **places)
    label = Label.objects.get()
    assert [sorted(tier) for tier in label.ranking] == [sorted(ids[1:3]), [ids[0]], [ids[3]]]


def test_as_many_responses_are_ranked_as_an_import_takes(
    client: Client, campaign: Campaign, teacher: Teacher, ranked: Offer
) -> None:
    Offer.objects.all().delete()
    comparison = add_conversations(campaign, 1, responses=RESPONSES)[0]
    (offer,) = queue_offers(campaign=campaign, drafts=[draft_for(comparison, teacher)])
    assert offer is not None
    page = client.get(url("desk", campaign))
    fields = re.findall(r'name="(place-\d+)" value="32"', page.content.decode())
    answer(client, campaign, offer, "ranking", **{field: place for place, field in enumerate(fields, start=1)})
    assert len(Label.objects.get().ranking) == RESPONSES


def test_an_incomplete_ranking_is_sent_back(client: Client, campaign: Campaign, ranked: Offer) -> None:
    sides = client.get(url("desk", campaign)).context["shown"].sides
    response = answer(client, campaign, ranked, "ranking", **{f"place-{sides[0].response_id}": 1})
    assert not Label.objects.exists()
    assert "Give every response a place." in response.content.decode()


def test_a_ranking_takes_no_criteria(client: Client, campaign: Campaign, ranked: Offer) -> None:
    """A and B on the page are two of the letters, and which of them the label calls first is not to be seen."""
    Campaign.objects.update(criteria=["helpful"], answer_mode=Campaign.AnswerMode.PAIR)
    field = field_of(client, campaign, "helpful")
    Campaign.objects.update(answer_mode=Campaign.AnswerMode.RANKING)
    page = client.get(url("desk", campaign))
    assert "helpful" not in page.content.decode().split('id="desk"')[1]
    places = {f"place-{side.response_id}": place for place, side in enumerate(page.context["shown"].sides, start=1)}
    answer(client, campaign, ranked, "ranking", **places, **{field: "first"})
    assert Label.objects.get().criteria == {}


# Skipping, undoing, changing ------------------------------------------------------------------------------------------


def test_a_skip_keeps_its_reason_and_brings_the_next(desk: Client, campaign: Campaign, queued: list[Offer]) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = desk.post(url("desk_skip", campaign), {"offer": offer.code, "reason": "broken"}, **HTMX)
    offer.refresh_from_db()
    assert (offer.state, offer.skip_reason) == (Offer.State.SKIPPED, "broken")
    assert response.context["offer"] == queued[1]


def test_a_lesson_has_no_skip_and_a_posted_one_says_why(
    desk: Client, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    assert url("desk_skip", campaign) in desk.get(url("desk", campaign)).content.decode()
    Offer.objects.all().delete()
    Comparison.objects.update(is_tutorial=True)
    Enrolment.objects.update(stage=Enrolment.Stage.TUTORIAL)
    page = desk.get(url("desk", campaign))
    offer = page.context["offer"]
    assert (offer.arm, url("desk_skip", campaign) in page.content.decode()) == (Offer.Arm.TUTORIAL, False)
    response = desk.post(url("desk_skip", campaign), {"offer": offer.code}, **HTMX)
    assert "Lessons are not skipped." in response.content.decode()
    response = desk.post(url("desk_warning", campaign), {"offer": offer.code, "wish": "decline"}, **HTMX)
    assert response.context["offer"] == offer, "a category without a warning"


def test_undo_brings_the_last_comparison_back_with_what_was_written(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first:3", reason="because")
    response = desk.post(url("desk_undo", campaign), **HTMX)
    assert Label.objects.get().state == Label.State.RETRACTED
    assert response.context["offer"] == offer
    assert "because" in response.content.decode()


def test_what_was_written_stays_with_what_was_taken_back(desk: Client, campaign: Campaign) -> None:
    """Reloaded, without scripts, with differences, after a message, and put back by one more undo."""
    Campaign.objects.update(criteria=["helpful"])
    where, field = url("desk", campaign), field_of(desk, campaign, "helpful")
    earlier = held(campaign)
    answer(desk, campaign, earlier, reason="earlier")
    offer = held(campaign)
    answer(desk, campaign, offer, reason="my reason", is_flagged="on", **{field: "second"})
    expected = {"reason": "my reason", "is_flagged": True, field: "second"}

    def written(page: Any) -> dict[str, Any]:
        assert page.context["offer"] == offer
        return {name: page.context["form"][name].value() for name in expected}

    assert written(desk.post(url("desk_undo", campaign), follow=True)) == expected
    assert written(desk.get(where)) == expected
    assert written(desk.get(f"{where}?differences", **HTMX)) == expected
    told = {"text": "It is cut off.", "offer": offer.code}
    assert written(desk.post(url("desk_messages", campaign), told, **HTMX)) == expected
    assert desk.post(url("desk_undo", campaign), **HTMX).context["form"]["reason"].value() == "earlier"
    assert written(answer(desk, campaign, earlier)) == expected
    assert answer(desk, campaign, offer).context["form"]["reason"].value() is None


def test_a_ranking_that_was_taken_back_has_its_places(client: Client, campaign: Campaign, ranked: Offer) -> None:
    sides = client.get(url("desk", campaign)).context["shown"].sides
    given = {side.response_id: place for side, place in zip(sides, ("3", "1", "1", "2"), strict=True)}
    answer(client, campaign, ranked, "ranking", **{f"place-{key}": place for key, place in given.items()})
    undone = client.post(url("desk_undo", campaign), **HTMX).content.decode()
    checked = re.findall(r'name="place-(\d+)" value="(\d)" required checked', undone)
    assert {int(key): place for key, place in checked} == given


def test_an_incomplete_ranking_keeps_the_places_it_has(client: Client, campaign: Campaign, ranked: Offer) -> None:
    sides = client.get(url("desk", campaign)).context["shown"].sides
    refused = answer(client, campaign, ranked, "ranking", **{f"place-{sides[2].response_id}": 4})
    assert re.findall(r'name="place-(\d+)" value="4" required checked', refused.content.decode()) == [
        str(sides[2].response_id)
    ]


def test_undo_with_nothing_to_undo_says_so(desk: Client, campaign: Campaign) -> None:
    assert "no answer of yours to take back" in desk.post(url("desk_undo", campaign), **HTMX).content.decode()


def test_an_earlier_answer_is_changed_by_a_new_one(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first:3")
    label = Label.objects.get()
    page = desk.get(url("desk_label", campaign, label.pk)).content.decode()
    assert 'value="first:3"' in page
    assert "A is much better" in page
    response = desk.post(url("desk_label", campaign, label.pk), {"answer": "second:1", "reason": "on reflection"})
    assert response.status_code == 302
    label.refresh_from_db()
    current = Label.objects.get(state=Label.State.CURRENT)
    assert label.state == Label.State.SUPERSEDED
    assert (current.choice, current.strength, current.supersedes) == ("second", 1, label)


def test_a_change_sent_twice_is_one_change(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first")
    where = url("desk_label", campaign, Label.objects.get().pk)
    assert [desk.post(where, {"answer": "second"}).status_code for _click in range(2)] == [302, 302]
    assert Label.objects.count() == 2
    refused = desk.post(where, {"answer": "tie"})
    assert (refused.status_code, bool(refused.context["refused"])) == (200, True)
    assert Label.objects.get(state=Label.State.CURRENT).choice == "second"
    assert desk.get(where).status_code == 404


def test_a_change_is_given_under_the_guidelines_that_were_read(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first")
    GuidelineVersion.objects.create(campaign=campaign, version=2, text="Prefer the **shorter** one.")
    desk.post(url("desk_label", campaign, Label.objects.get().pk), {"answer": "second"})
    assert Label.objects.get(state=Label.State.CURRENT).guidelines.version == 1


@pytest.mark.parametrize(
    ("preferences", "warnings", "is_covered"),
    [
        ({}, {}, False),
        ({"hides_texts": True}, {}, True),
        ({}, {"coding": "Contains bad code."}, True),
        ({"accepted_warnings": ["coding"]}, {"coding": "Contains bad code."}, False),
    ],
)
def test_an_earlier_answer_stays_covered(
    desk: Client, campaign: Campaign, preferences: dict[str, Any], warnings: dict[str, str], is_covered: bool
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first")
    Campaign.objects.update(content_warnings=warnings)
    User.objects.filter(username="bob").update(preferences=preferences)
    page = desk.get(url("desk_label", campaign, Label.objects.get().pk)).content.decode()
    assert ("Show the text of A" in page) is is_covered


def test_nobody_changes_the_answer_of_somebody_else(desk: Client, campaign: Campaign, dora: Teacher) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer)
    Label.objects.update(teacher=dora)
    assert desk.get(url("desk_label", campaign, Label.objects.get().pk)).status_code == 404


def test_the_history_goes_back_page_by_page(desk: Client, campaign: Campaign, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotation.views.history.PAGE", 2)
    for _turn in range(3):
        offer = desk.get(url("desk", campaign)).context["offer"]
        answer(desk, campaign, offer, "tie")
    first = desk.get(url("desk_history", campaign))
    older = desk.get(url("desk_history", campaign), {"before": first.context["next_before"]})
    assert [len(first.context["labels"]), len(older.context["labels"])] == [2, 1]
    assert older.context["next_before"] is None


# Before the work ------------------------------------------------------------------------------------------------------


def test_a_newcomer_reads_the_guidelines_first(
    client: Client, bob: User, campaign: Campaign, queued: list[Offer]
) -> None:
    client.force_login(bob)
    page = client.get(url("desk", campaign)).content.decode()
    assert "Prefer the response that <strong>helps</strong> more." in page
    assert not Offer.objects.filter(state=Offer.State.HELD).exists()
    after = client.post(url("desk_read", campaign), {"version": 1}, **HTMX)
    assert after.context["offer"] == queued[0]
    assert Enrolment.objects.get().stage == Enrolment.Stage.WORKING


def test_a_new_version_of_the_guidelines_is_read_again(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    newer = GuidelineVersion.objects.create(campaign=campaign, version=2, text="Prefer the **shorter** one.")
    response = answer(desk, campaign, offer)
    assert "The guidelines have changed" in response.content.decode()
    assert Label.objects.get().guidelines is not None
    assert Label.objects.get().guidelines.version == 1
    response = desk.post(url("desk_read", campaign), {"version": 2}, **HTMX)
    answer(desk, campaign, response.context["offer"])
    assert Label.objects.order_by("-pk")[0].guidelines == newer


def test_tutorial_answers_get_feedback_and_work_begins_after_the_last(
    client: Client, bob: User, campaign: Campaign, queued: list[Offer]
) -> None:
    lesson = add_conversations(campaign, 1)[0]
    Comparison.objects.filter(pk=lesson.pk).update(is_tutorial=True, gold_outcome=1.0, gold_feedback="A is right.")
    client.force_login(bob)
    shown = client.post(url("desk_read", campaign), {"version": 1}, **HTMX).context["offer"]
    assert shown.comparison == lesson
    response = answer(client, campaign, shown, "tie")
    page = response.content.decode()
    assert "Another answer was expected. A is right." in page
    assert "From now on every answer counts." in page
    assert response.context["offer"] == queued[0]


def test_a_failed_qualification_ends_at_the_door(
    client: Client, bob: User, campaign: Campaign, queued: list[Offer]
) -> None:
    exam = add_conversations(campaign, 1)[0]
    Comparison.objects.filter(pk=exam.pk).update(gold_outcome=1.0)
    Campaign.objects.update(qualification_size=1, qualification_pass=1.0)
    client.force_login(bob)
    shown = client.post(url("desk_read", campaign), {"version": 1}, **HTMX).context["offer"]
    wrong = "first" if shown.b_first else "second"
    page = answer(client, campaign, shown, wrong).content.decode()
    assert "did not agree well enough" in page
    assert Enrolment.objects.get().stage == Enrolment.Stage.FAILED


# Care -----------------------------------------------------------------------------------------------------------------


def test_a_warning_stands_before_its_category(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    page = desk.get(url("desk", campaign))
    assert "Contains bad code." in page.content.decode()
    assert "reverse list" not in page.content.decode()
    shown = desk.get(url("desk", campaign), {"shown": page.context["offer"].code})
    assert "reverse list" in shown.content.decode()


def test_what_was_shown_behind_its_warning_stays_in_view(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(content_warnings={"coding": "There is code ahead."})
    where = url("desk", campaign)
    offer = desk.get(where).context["offer"]
    assert desk.get(f"{where}?shown={offer.code}", **HTMX).context["state"] == "offer"
    differences = desk.get(f"{where}?differences", **HTMX)
    assert (differences.context["state"], "<mark>" in differences.content.decode()) == ("offer", True)
    told = desk.post(url("desk_messages", campaign), {"text": "It is cut off.", "offer": offer.code}, **HTMX)
    assert told.context["state"] == "offer"
    assert answer(desk, campaign, offer, "third").context["state"] == "offer"
    assert answer(desk, campaign, offer, reason="my reason").context["state"] == "warning"
    undone = desk.post(url("desk_undo", campaign), **HTMX)
    assert (undone.context["state"], undone.context["offer"]) == ("offer", offer)
    assert "my reason" in undone.content.decode()


def test_an_answer_taken_back_in_another_browser_needs_no_warning_again(
    desk: Client, campaign: Campaign, bob: User
) -> None:
    Campaign.objects.update(content_warnings={"coding": "There is code ahead."})
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, reason="my reason")
    elsewhere = Client()
    elsewhere.force_login(bob)
    assert "my reason" in elsewhere.post(url("desk_undo", campaign), **HTMX).content.decode()
    assert elsewhere.get(url("desk", campaign)).context["state"] == "offer"


def test_a_category_can_be_shown_always(desk: Client, campaign: Campaign, bob: User) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = desk.post(url("desk_warning", campaign), {"offer": offer.code, "wish": "always"}, **HTMX)
    assert "reverse list" in response.content.decode()
    bob.refresh_from_db()
    assert bob.preferences["accepted_warnings"] == ["coding"]


def test_a_declined_category_is_not_shown_again(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    offer = desk.get(url("desk", campaign)).context["offer"]
    response = desk.post(url("desk_warning", campaign), {"offer": offer.code, "wish": "decline"}, **HTMX)
    assert response.context["state"] == "rest"
    assert Offer.objects.get(state=Offer.State.SKIPPED) == offer
    assert Offer.objects.filter(state=Offer.State.WITHDRAWN).count() == 2  # at once, for others
    teacher.refresh_from_db()
    assert teacher.declined_warnings == ["coding"]
    desk.post(reverse("account_warnings"), {"category": "coding"})
    teacher.refresh_from_db()
    assert teacher.declined_warnings == []


def test_one_of_a_declined_category_may_go_in_the_moment_in_which_it_is_passed_over(
    desk: Client, campaign: Campaign, monkeypatch: pytest.MonkeyPatch
) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    Teacher.objects.update(declined_warnings=["coding"])

    def claim_and_lose(**asked: Any) -> Offer | None:
        offer = claim_offer(**asked)
        withdraw_offers(offers=Offer.objects.filter(pk=offer.pk) if offer else [], also_held=True)
        return offer

    monkeypatch.setattr("annotation.views.desk_page.claim_offer", claim_and_lose)
    assert desk.get(url("desk", campaign)).context["state"] == "rest"


def test_responses_can_be_covered_until_asked_for(desk: Client, campaign: Campaign) -> None:
    response = desk.post(url("desk_hide", campaign), {"hide": "on"}, **HTMX)
    assert response.content.decode().count('<details class="veil">') == 2


def test_a_message_reaches_the_admins_with_its_comparison(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    desk.post(url("desk_messages", campaign), {"offer": offer.code, "text": "B is cut off."}, **HTMX)
    message = Message.objects.get()
    assert (message.text, message.offer, message.teacher) == ("B is cut off.", offer, teacher)
    Message.objects.update(reply="Thank you.")
    assert "Thank you." in desk.get(url("desk_messages", campaign)).content.decode()


def test_an_empty_message_is_explained_beside_it(desk: Client, campaign: Campaign) -> None:
    told = desk.post(url("desk_messages", campaign), {"text": "  "}, **HTMX)
    assert (told["HX-Retarget"], told["HX-Reswap"]) == ("#message-notice", "innerHTML")
    assert told.content.decode() == '<p class="notice notice-warn">This field is required.</p>'
    assert not Message.objects.exists()


def test_a_message_is_as_long_as_the_service_takes_it(desk: Client, campaign: Campaign) -> None:
    page = desk.get(url("desk", campaign)).content.decode()
    assert f'name="text" rows="3" maxlength="{LONGEST_MESSAGE}"' in page
    too_long = desk.post(url("desk_messages", campaign), {"text": "x" * (LONGEST_MESSAGE + 1)})
    assert too_long.status_code == 200
    assert too_long.context["form"].errors["text"]
    assert not Message.objects.exists()
    desk.post(url("desk_messages", campaign), {"text": "x" * LONGEST_MESSAGE})
    assert len(Message.objects.get().text) == LONGEST_MESSAGE


def test_choices_of_two_tabs_both_count(bob: User) -> None:
    """The second tab read its user before the first one chose."""
    first, second = (User.objects.get(pk=bob.pk) for _tab in range(2))
    accept_warning(user=first, category="coding")
    set_preferences(user=second, hides_texts=True)
    accept_warning(user=first, category="gore")
    bob.refresh_from_db()
    assert bob.preferences == {"accepted_warnings": ["coding", "gore"], "hides_texts": True}


def test_keys_are_chosen_and_may_not_clash(desk: Client, campaign: Campaign, bob: User) -> None:
    keys = {shortcut.name: shortcut.key for shortcut in SHORTCUTS}
    clash = desk.post(url("desk_shortcuts", campaign), {**keys, "tie": "x"})
    assert "already taken" in clash.content.decode()
    clash = desk.post(url("desk_shortcuts", campaign), {**keys, "skip": "T"})
    assert clash.context["form"].errors.keys() == {"skip"}, "the page hears no difference between t and T"
    desk.post(url("desk_shortcuts", campaign), {**keys, "tie": "e", "skip": ""})
    bob.refresh_from_db()
    page = desk.get(url("desk", campaign)).content.decode()
    assert 'data-shortcut="tie" data-key="e"' in page
    assert 'data-shortcut="skip" data-key=""' in page


# Around the work ------------------------------------------------------------------------------------------------------


def test_the_next_comparison_can_be_peeked_at_without_holding_it(
    desk: Client, campaign: Campaign, queued: list[Offer]
) -> None:
    desk.get(url("desk", campaign))
    page = desk.get(url("desk_next", campaign), **HTMX).content.decode()
    assert f'data-of="{queued[1].code}"' in page
    assert Offer.objects.filter(state=Offer.State.HELD).count() == 1
    assert 'name="answer"' not in page


def test_there_is_nothing_to_peek_at_behind_a_warning(desk: Client, campaign: Campaign) -> None:
    Campaign.objects.update(content_warnings={"coding": "Contains bad code."})
    assert desk.get(url("desk_next", campaign), **HTMX).status_code == 204


def test_the_summary_counts_the_session_and_agreement_with_oneself(
    desk: Client, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first:1")
    Offer.objects.filter(state=Offer.State.HELD).update(state=Offer.State.QUEUED, held_until=None)
    mirrored = Offer.objects.create(
        campaign=campaign,
        comparison=offer.comparison,
        teacher=teacher,
        membership=offer.membership,
        arm=Offer.Arm.REPEAT,
        b_first=not offer.b_first,
        rank=-1,
    )
    assert desk.get(url("desk", campaign)).context["offer"] == mirrored
    answer(desk, campaign, mirrored, "second:1")
    page = desk.get(url("desk_summary", campaign))
    assert page.context["session"]["labels"] == 2
    assert page.context["agreement"] == {"asked": 1, "same": 1}
    assert "1 of 1 comparisons" in page.content.decode()


def test_ones_own_data_come_as_a_file_without_the_arms(desk: Client, campaign: Campaign) -> None:
    offer = desk.get(url("desk", campaign)).context["offer"]
    answer(desk, campaign, offer, "first:3", reason="because")
    Teacher.objects.update(external={"PROLIFIC_PID": "p-7"})
    user = User.objects.get(username="bob")
    EmailAddress.objects.create(user=user, email="bob@home.example.org", verified=True)
    SocialAccount.objects.create(user=user, provider="university", uid="b-1", extra_data={"name": "Bob"})
    Role.objects.create(campaign=campaign, user=user, name=Role.Name.REVIEWER)
    response = desk.get(reverse("account_data"))
    data = json.loads(b"".join(response.streaming_content))
    assert data["account"]["username"] == "bob"
    assert data["labels"][0]["reason"] == "because"
    assert data["ledger"][0]["amount"] == "0.1000"
    assert data["teacher"]["external"] == {"PROLIFIC_PID": "p-7"}
    assert data["memberships"][0]["label_count"] == 1
    assert data["audit"] == []
    assert data["addresses"] == [{"email": "bob@home.example.org", "verified": True, "primary": False}]
    assert [(one["uid"], one["extra_data"]) for one in data["connected_accounts"]] == [("b-1", {"name": "Bob"})]
    assert data["roles"] == [{"campaign__name": campaign.name, "name": "reviewer"}]
    assert "arm" not in data["labels"][0]


def test_the_colours_are_kept_in_a_cookie(client: Client, db: None) -> None:
    response = client.post(reverse("theme"), {"theme": "dark", "next": "/account/login/"})
    assert response["Location"] == "/account/login/"
    assert 'data-theme="dark"' in client.get("/account/login/").content.decode()
    assert client.post(reverse("theme"), {"theme": "dark", "next": "https://evil.example/"})["Location"] == "/"
