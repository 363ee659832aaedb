"""Models come into a pool, are stopped and go on through the pool's page; a key goes nowhere but to its own host."""

from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import AuditEntry, Campaign, Membership, Offer, Pool, Teacher, User
from annotation.services.queueing import queue_offers
from tests.annotation.conftest import draft_for
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db

HOST = "127.0.0.1:8099"
"""Nobody listens: an endpoint is asked by a worker, never by the page."""
FILLED = {
    "base_url": f"http://{HOST}/v1", "model": "judge-1", "key_name": "LOCAL", "cost_per_label": "0.002",
    "capacity": "40", "rate_per_minute": "60", "timeout_seconds": "20", "pseudonym": "the judge",
}  # fmt: skip


@pytest.fixture(autouse=True)
def deployment(settings: Any) -> None:
    settings.OUTBOUND_PRIVATE_HOSTS = [HOST]
    settings.MODEL_KEYS = {"LOCAL": "sk-local", "HOSTED": "sk-hosted", "NOWHERE": "sk-nowhere"}
    settings.MODEL_HOSTS = {"LOCAL": HOST, "HOSTED": "models.example.org:443"}


@pytest.fixture
def admin(client: Client, alice: User, campaign: Campaign) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def where(pool: Pool) -> str:
    return reverse("pool_models", args=[pool.pk])


def text_of(client: Client, address: str, data: dict[str, str] | None = None) -> str:
    found = client.get(address) if data is None else client.post(address, data, follow=True)
    return found.content.decode()


def test_an_admin_adds_a_model_by_its_endpoint(admin: Client, where: str, pool: Pool, alice: User) -> None:
    assert "It is asked as soon as" in text_of(admin, where, FILLED)
    member = Membership.objects.get(pool=pool)
    assert (member.teacher.kind, member.teacher.pseudonym) == (Teacher.Kind.MODEL, "the judge")
    assert member.teacher.endpoint == {
        "base_url": f"http://{HOST}/v1", "model": "judge-1", "key_name": "LOCAL", "rate_per_minute": 60,
        "timeout_seconds": 20,
    }  # fmt: skip
    assert (float(member.cost_per_label or 0), member.capacity) == (0.002, 40)
    assert AuditEntry.objects.filter(user=alice, verb="add model teacher").exists()
    page = text_of(admin, where)
    assert "judge-1" in page
    assert "sk-" not in page, "a key's words stay with the deployment"


def test_a_double_click_adds_one(admin: Client, where: str) -> None:
    text_of(admin, where, FILLED)
    assert "in the pool already" in text_of(admin, where, {**FILLED, "pseudonym": ""})
    assert Membership.objects.count() == 1


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"base_url": "ftp://models.example.org/v1"}, "must begin with https://"),
        ({"base_url": "https://127.0.0.1:6379/v1", "key_name": ""}, "leads to an address inside the network"),
        ({"base_url": "https://169.254.169.254/v1", "key_name": ""}, "leads to an address inside the network"),
        ({"base_url": "https://nowhere.invalid/v1", "key_name": ""}, "leads to no address"),
        ({"key_name": "SECRET_KEY"}, "has no key MODEL_KEY_SECRET_KEY"),
        ({"key_name": "NOWHERE"}, "has no key MODEL_KEY_NOWHERE"),
        ({"key_name": "HOSTED"}, f"The key HOSTED is not for {HOST}"),
        ({"rate_per_minute": "0"}, "greater than or equal to 1"),
        ({"model": ""}, "This field is required"),
    ],
)
def test_what_cannot_be_used_is_told(admin: Client, where: str, wrong: dict[str, str], told: str) -> None:
    page = text_of(admin, where, {**FILLED, **wrong})
    assert told in page
    assert "judge-1" in page or "model" in wrong, "what was typed stays"
    assert not Membership.objects.exists()


def test_a_name_that_is_taken_is_told(admin: Client, where: str, teacher: Teacher) -> None:
    assert "Choose another name" in text_of(admin, where, {**FILLED, "pseudonym": teacher.pseudonym})
    assert not Teacher.objects.filter(kind=Teacher.Kind.MODEL).exists()


def test_it_is_stopped_and_goes_on(
    admin: Client, where: str, pool: Pool, campaign: Campaign, sent_tasks: list[tuple[str, tuple[Any, ...]]]
) -> None:
    text_of(admin, where, FILLED)
    robot = Teacher.objects.get(kind=Teacher.Kind.MODEL)
    queue_offers(campaign=campaign, drafts=[draft_for(add_conversations(campaign, 1)[0], robot)])
    switch = reverse("pool_model", args=[pool.pk, robot.code])
    for _twice in range(2):
        assert "It is asked no more" in text_of(admin, switch, {"to": "off"})
        assert Membership.objects.get().status == Membership.Status.SUSPENDED
    assert Offer.objects.get().state == Offer.State.WITHDRAWN
    assert "It is asked again" in text_of(admin, switch, {"to": "on"})
    assert Membership.objects.get().status == Membership.Status.ACTIVE
    assert ("activelearning.replan", (campaign.pk,)) in sent_tasks


def test_people_are_not_stopped_here(admin: Client, pool: Pool, teacher: Teacher) -> None:
    assert admin.post(reverse("pool_model", args=[pool.pk, teacher.code]), {"to": "off"}).status_code == 404
    assert Membership.objects.get(teacher=teacher).status == Membership.Status.ACTIVE
