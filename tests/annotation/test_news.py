"""Letters to teachers who went without work: when there is some again, once an absence, once a day."""

from collections.abc import Callable
from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.core import mail
from django.core.cache import cache
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Campaign, Comparison, Offer, Pool, Teacher, User
from annotation.services import news
from annotation.services.news import news_token, teacher_of_token, tell_waiting_teachers, want_news
from annotation.tasks import reconcile, tell_waiting
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def empty_cache() -> None:
    cache.clear()


@pytest.fixture
def waiting(campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]) -> Teacher:
    """Bob asked to be told, answered everything, and left an hour ago."""
    for comparison in comparisons:
        Offer.objects.create(
            campaign=campaign, comparison=comparison, teacher=teacher, slot=1, state=Offer.State.ANSWERED
        )
    want_news(teacher=teacher, origin="https://labels.example.org/")
    leave(teacher)
    assert tell_waiting_teachers() == 0
    teacher.refresh_from_db()
    assert teacher.waiting_since is not None
    return teacher


def leave(teacher: Teacher, *, ago: timedelta = timedelta(hours=1)) -> None:
    Teacher.objects.filter(pk=teacher.pk).update(last_seen=timezone.now() - ago)


def go_without(teacher: Teacher) -> None:
    Teacher.objects.filter(pk=teacher.pk).update(waiting_since=timezone.now() - timedelta(minutes=30))


def test_new_comparisons_are_told_of_once(campaign: Campaign, waiting: Teacher) -> None:
    add_conversations(campaign, 1)
    assert [tell_waiting_teachers() for _look in range(3)] == [1, 0, 0]
    (letter,) = mail.outbox
    assert letter.to == ["bob@example.org"]
    assert "Helpful answers" in letter.subject
    assert f"https://labels.example.org{reverse('desk', args=[campaign.code])}" in str(letter.body)
    stop = letter.extra_headers["List-Unsubscribe"].strip("<>")
    assert stop in str(letter.body)
    assert stop.startswith("https://labels.example.org/news/")
    assert teacher_of_token(stop.split("/")[-2]) == waiting
    waiting.refresh_from_db()
    assert waiting.waiting_since is None
    assert waiting.told_at is not None


@pytest.mark.parametrize(("language", "word"), [("en", "You asked"), ("de", "Sie wollten"), ("es", "Pidió")])
def test_a_letter_speaks_the_language_in_which_it_was_asked_for(
    campaign: Campaign, waiting: Teacher, bob: User, sign_in: Callable[[User], Client], language: str, word: str
) -> None:
    client = sign_in(bob)
    client.cookies["django_language"] = language
    client.post(reverse("account_news"), {"news": "on"})
    go_without(waiting)
    add_conversations(campaign, 1)
    assert tell_waiting_teachers() == 1
    assert word in str(mail.outbox[0].body)


def test_who_left_while_there_was_work_hears_nothing(
    campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]
) -> None:
    want_news(teacher=teacher, origin="https://labels.example.org/")
    leave(teacher)
    add_conversations(campaign, 1)
    assert tell_waiting_teachers() == 0
    assert mail.outbox == []


def test_one_absence_has_one_letter_however_often_work_comes_and_goes(campaign: Campaign, waiting: Teacher) -> None:
    add_conversations(campaign, 1)
    tell_waiting_teachers()
    go_without(waiting)
    assert tell_waiting_teachers(now=timezone.now() + timedelta(days=3)) == 0
    assert len(mail.outbox) == 1


def test_a_second_absence_of_the_same_day_waits_for_its_end(campaign: Campaign, waiting: Teacher) -> None:
    add_conversations(campaign, 1)
    tell_waiting_teachers()
    Teacher.objects.update(last_seen=timezone.now() + timedelta(hours=1))
    go_without(waiting)
    assert tell_waiting_teachers(now=timezone.now() + timedelta(hours=8)) == 0
    assert tell_waiting_teachers(now=timezone.now() + timedelta(hours=25)) == 1


def test_who_is_present_sees_it_by_themselves(campaign: Campaign, waiting: Teacher) -> None:
    leave(waiting, ago=timedelta(seconds=20))
    (fresh,) = add_conversations(campaign, 1)
    assert tell_waiting_teachers() == 0
    draft = draft_for(fresh, waiting)
    Offer.objects.create(campaign=campaign, comparison_id=draft.comparison_id, teacher=waiting, slot=1)
    assert tell_waiting_teachers() == 0
    assert mail.outbox == []


@pytest.mark.parametrize(
    "change",
    [
        {"news_origin": ""},
        {"kind": Teacher.Kind.SIMULATED},
        {"kind": Teacher.Kind.MODEL},
        {"away_until": timezone.now() + timedelta(days=400)},
        {"declined_warnings": ["coding"]},
        {"withdrawn_at": timezone.now()},
    ],
    ids=lambda change: next(iter(change)) + str(change.get("kind", "")),
)
def test_who_wants_none_or_could_not_work_gets_none(
    campaign: Campaign, waiting: Teacher, change: dict[str, Any]
) -> None:
    Campaign.objects.update(content_warnings={"coding": "Code."})
    Teacher.objects.filter(pk=waiting.pk).update(**change)
    add_conversations(campaign, 1)
    assert tell_waiting_teachers() == 0
    assert mail.outbox == []


@pytest.mark.parametrize(
    "change", [{"state": "paused"}, {"budget": "0"}, {"label_target": 0}], ids=lambda change: next(iter(change))
)
def test_a_campaign_that_gives_nothing_out_is_no_news(
    campaign: Campaign, waiting: Teacher, change: dict[str, Any]
) -> None:
    add_conversations(campaign, 1)
    Campaign.objects.update(**change)
    assert tell_waiting_teachers() == 0


@pytest.mark.parametrize(("price", "rest"), [("0.10", "0.05"), ("0.10", "0"), ("0", "0")])
def test_a_budget_that_pays_for_no_label_more_is_waited_for(
    campaign: Campaign, teacher: Teacher, comparisons: list[Comparison], price: str, rest: str
) -> None:
    Pool.objects.update(pay_per_label=price)
    Campaign.objects.update(budget=Decimal("1") + Decimal(rest), spent=1)
    want_news(teacher=teacher, origin="https://labels.example.org/")
    leave(teacher)
    assert tell_waiting_teachers() == 0
    teacher.refresh_from_db()
    assert (teacher.waiting_since is not None) is (price != "0")
    Campaign.objects.update(budget=2)
    assert tell_waiting_teachers() == (price != "0")


def test_comparisons_that_others_filled_are_no_work(campaign: Campaign, waiting: Teacher, dora: Teacher) -> None:
    Campaign.objects.update(overlap_limit=1)
    (fresh,) = add_conversations(campaign, 1)
    Offer.objects.create(campaign=campaign, comparison=fresh, teacher=dora, slot=1)
    assert tell_waiting_teachers() == 0


def test_a_letter_that_cannot_be_sent_is_tried_again(
    campaign: Campaign, waiting: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_conversations(campaign, 1)
    send = EmailMessage.send

    def refuse(*_arguments: Any, **_options: Any) -> int:
        raise ConnectionRefusedError("Connection refused")

    monkeypatch.setattr(EmailMessage, "send", refuse)
    assert tell_waiting_teachers() == 0
    monkeypatch.setattr(EmailMessage, "send", send)
    assert tell_waiting_teachers() == 1


def test_a_look_that_is_cut_off_is_carried_on(
    campaign: Campaign, waiting: Teacher, dora: Teacher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With more teachers than one look can hold, the last are told too."""
    assert waiting.pk < dora.pk
    User.objects.filter(pk=dora.user_id).update(email="dora@example.org")
    want_news(teacher=dora, origin="https://labels.example.org/")
    leave(dora)
    go_without(dora)
    add_conversations(campaign, 1)
    assert tell_waiting_teachers(seconds=0) == 1
    assert tell_waiting_teachers(seconds=0) == 1
    assert [letter.to for letter in mail.outbox] == [["bob@example.org"], ["dora@example.org"]]
    assert tell_waiting_teachers() == 0

    def die(*_arguments: Any, **_named: Any) -> bool:
        raise SoftTimeLimitExceeded

    met = []
    with monkeypatch.context() as patched:
        patched.setattr(news, "has_work", die)
        with pytest.raises(SoftTimeLimitExceeded):
            tell_waiting_teachers()
    monkeypatch.setattr(news, "has_work", lambda _campaign, *, teacher, now: met.append(teacher))
    tell_waiting_teachers()
    tell_waiting_teachers()
    assert met == [dora, waiting, dora]


def test_the_beat_looks_every_five_minutes(
    campaign: Campaign, waiting: Teacher, sent_tasks: list[tuple[str, tuple[Any, ...]]]
) -> None:
    cache.clear()
    reconcile()
    reconcile()
    assert [name for name, _arguments in sent_tasks].count("annotation.tell_waiting") == 1
    add_conversations(campaign, 1)
    tell_waiting()
    tell_waiting()
    assert len(mail.outbox) == 1


def test_the_switch_is_on_ones_own_page(teacher: Teacher, bob: User, sign_in: Callable[[User], Client]) -> None:
    client = sign_in(bob)
    assert "Tell me when there is work" in client.get(reverse("account")).content.decode()
    for _twice in range(2):
        assert client.post(reverse("account_news"), {"news": "on"}).status_code == 302
        teacher.refresh_from_db()
        assert teacher.news_origin == "http://testserver/"
    assert "Send me no more letters" in client.get(reverse("account")).content.decode()
    client.post(reverse("account_news"), {"news": "off"})
    teacher.refresh_from_db()
    assert teacher.news_origin == ""


def test_a_stranger_switches_nobody(
    teacher: Teacher, charlie: User, sign_in: Callable[[User], Client], client: Client
) -> None:
    assert client.post(reverse("account_news"), {"news": "on"})["Location"].startswith(reverse("account_login"))
    assert sign_in(charlie).post(reverse("account_news"), {"news": "on"}).status_code == 302
    assert not Teacher.objects.exclude(news_origin="").exists()


def test_the_link_of_a_letter_stops_them_without_signing_in(waiting: Teacher) -> None:
    client = Client(enforce_csrf_checks=True)  # as a mail program posts
    address = reverse("news_stop", args=[news_token(waiting)])
    assert client.get(address).status_code == 200
    waiting.refresh_from_db()
    assert waiting.news_origin != ""
    for _twice in range(2):
        assert client.post(address, {"List-Unsubscribe": "One-Click"}).status_code == 200
        waiting.refresh_from_db()
        assert waiting.news_origin == ""


def test_a_forged_link_stops_nothing(waiting: Teacher, client: Client) -> None:
    assert client.post(reverse("news_stop", args=[f"{waiting.pk}:forged"])).status_code == 410
    waiting.refresh_from_db()
    assert waiting.news_origin != ""
