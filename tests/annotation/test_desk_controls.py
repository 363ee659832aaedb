"""The answer's controls are rendered once and filled in for each offer: nobody gets what belongs to another."""

import re

import pytest
from django.template import engines
from django.test import Client
from django.urls import reverse
from django.utils import translation

from annotation.models import Campaign, Comparison, Enrolment, Offer, Teacher, User

pytestmark = pytest.mark.django_db
HTMX = {"headers": {"hx-request": "true"}}
OFFER = re.compile(r'name="offer" value="([0-9a-f-]{36})"')
TOKEN = re.compile(r'(?:name="csrfmiddlewaretoken" value|data-token)="(\w{64})"')


@pytest.fixture
def desk(campaign: Campaign, teacher: Teacher, comparisons: list[Comparison]) -> str:
    """Two offers on Bob's queue, and the address where he sits."""
    Enrolment.objects.update_or_create(
        campaign=campaign, teacher=teacher, defaults={"stage": "working", "read_version": campaign.guidelines.first()}
    )
    for rank, comparison in enumerate(comparisons[:2]):
        Offer.objects.create(campaign=campaign, comparison=comparison, teacher=teacher, slot=1, rank=rank)
    return reverse("desk", args=[campaign.code])


def _page(client: Client, desk: str) -> str:
    return client.get(desk, **HTMX).content.decode()


def test_each_page_names_its_own_offer_and_its_own_token(
    client: Client, bob: User, teacher: Teacher, desk: str
) -> None:
    client.force_login(bob)
    first = _page(client, desk)
    held = Offer.objects.get(teacher=teacher, state="held")
    client.post(
        desk + "answer/", {"offer": held.code, "answer": "tie", "csrfmiddlewaretoken": TOKEN.search(first)[1]}, **HTMX
    )
    second = _page(client, desk)
    assert set(OFFER.findall(first)) == {str(held.code)}
    assert set(OFFER.findall(second)) == {str(Offer.objects.get(teacher=teacher, state="held").code)}
    assert len(OFFER.findall(first)) == len(OFFER.findall(second)) == 3
    tokens = set(TOKEN.findall(first)), set(TOKEN.findall(second))
    assert [len(each) for each in tokens] == [1, 1]
    assert tokens[0] != tokens[1]


def test_a_kept_page_is_the_page_as_it_would_be_rendered_anew(client: Client, bob: User, desk: str) -> None:
    client.force_login(bob)
    _page(client, desk)
    kept = _page(client, desk)
    for loader in engines["django"].engine.template_loaders:
        loader.reset()
    assert TOKEN.sub("", _page(client, desk)) == TOKEN.sub("", kept)


def test_language_keys_and_strength_have_their_own(client: Client, bob: User, campaign: Campaign, desk: str) -> None:
    client.force_login(bob)
    english = _page(client, desk)
    assert "Undo last" in english
    with translation.override("de"):
        word = translation.gettext("Undo last")
    client.cookies["django_language"] = "de"
    assert word != "Undo last"
    assert word in _page(client, desk)
    client.cookies["django_language"] = "en"
    User.objects.filter(pk=bob.pk).update(preferences={"shortcuts": {"undo": "q"}})
    assert 'data-shortcut="undo" data-key="q"' in _page(client, desk)
    User.objects.filter(pk=bob.pk).update(preferences={})
    assert _page(client, desk).count("answer-button") == english.count("answer-button")
    type(campaign).objects.filter(pk=campaign.pk).update(asks_strength=not campaign.asks_strength)
    assert _page(client, desk).count("answer-button") != english.count("answer-button")


def test_a_refused_answer_keeps_what_was_written_and_leaves_nothing_behind(
    client: Client, bob: User, teacher: Teacher, desk: str
) -> None:
    client.force_login(bob)
    _page(client, desk)
    held = Offer.objects.get(teacher=teacher, state="held")
    refused = client.post(desk + "answer/", {"offer": held.code, "answer": "", "reason": "Half a thought"}, **HTMX)
    assert "Half a thought" in refused.content.decode()
    assert "Half a thought" not in _page(client, desk)
