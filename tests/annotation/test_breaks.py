"""A break is suggested after three quarters of an hour, with scripts and without, once."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.models import Campaign, Offer, Teacher, User
from annotation.services.enrolments import enrol, read_guidelines

pytestmark = pytest.mark.django_db
SENTENCE = "You have worked for three quarters of an hour."


@pytest.fixture
def desk(
    bob: User, campaign: Campaign, teacher: Teacher, queued: list[Offer], sign_in: Callable[[User], Client]
) -> Client:
    read_guidelines(enrolment=enrol(campaign=campaign, teacher=teacher), version=campaign.guidelines.get())
    return sign_in(bob)


def began(client: Client, teacher: Teacher, *, ago: timedelta) -> None:
    client.cookies["desk_since"] = f"{teacher.pk}.{int((timezone.now() - ago).timestamp())}"


def answer(client: Client, campaign: Campaign, **more: Any) -> str:
    """The page that follows an answer."""
    offer = Offer.objects.get(state=Offer.State.HELD)
    sent = {"offer": offer.code, "answer": "tie"}
    return client.post(reverse("desk_answer", args=[campaign.code]), sent, follow=True, **more).content.decode()


def show(client: Client, campaign: Campaign) -> str:
    return client.get(reverse("desk", args=[campaign.code])).content.decode()


@pytest.mark.parametrize("headers", [{}, {"HTTP_HX_REQUEST": "true"}], ids=["plain", "htmx"])
def test_it_comes_with_the_next_comparison_and_only_once(
    desk: Client, campaign: Campaign, teacher: Teacher, headers: dict[str, str]
) -> None:
    assert SENTENCE not in show(desk, campaign)
    began(desk, teacher, ago=timedelta(minutes=46))
    page = answer(desk, campaign, **headers)
    assert SENTENCE in page
    assert 'data-state="offer"' in page
    assert SENTENCE not in answer(desk, campaign, **headers)


def test_it_is_read_out_with_what_happened(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    show(desk, campaign)
    began(desk, teacher, ago=timedelta(minutes=46))
    assert f'data-said="Stored. {SENTENCE}' in answer(desk, campaign, HTTP_HX_REQUEST="true")


def test_less_work_or_a_pause_suggests_nothing(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    show(desk, campaign)
    began(desk, teacher, ago=timedelta(minutes=44))
    assert SENTENCE not in answer(desk, campaign)
    assert desk.cookies["desk_since"]["max-age"] == 300
    del desk.cookies["desk_since"]  # as a browser does after five minutes
    assert SENTENCE not in show(desk, campaign)


def test_nobody_works_where_nothing_waits(desk: Client, campaign: Campaign, teacher: Teacher) -> None:
    Offer.objects.all().delete()
    began(desk, teacher, ago=timedelta(minutes=46))
    assert SENTENCE not in show(desk, campaign)


@pytest.mark.parametrize("value", ["", "x", "999999.1", "{pk}.", "{pk}.-1", "{pk}.9999999999999999", "{pk}.²"])
def test_a_cookie_of_somebody_else_or_nonsense_begins_anew(
    desk: Client, campaign: Campaign, teacher: Teacher, value: str
) -> None:
    desk.cookies["desk_since"] = value.format(pk=teacher.pk)
    assert SENTENCE not in show(desk, campaign)
    assert desk.cookies["desk_since"].value.startswith(f"{teacher.pk}.")
