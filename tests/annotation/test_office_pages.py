"""Queue, messages, notices, roles, webhooks and the audit trail of a campaign, through their pages."""

import re
from typing import Any

import pytest
from allauth.account.models import EmailAddress
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from annotation.models import AuditEntry, Campaign, Invitation, Message, Notice, Offer, Role, Teacher, User, Webhook
from annotation.services.audit import record_audit
from annotation.services.notices import post_notice
from annotation.services.offers import claim_offer
from annotation.views.keyset import PAGE

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_asked_yet() -> None:
    """A campaign asks for a plan at most once a second, also across tests."""
    cache.clear()


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


# The queue ------------------------------------------------------------------------------------------------------------


def test_the_queue_shows_what_waits_and_what_is_on_a_desk(
    admin: Client, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    claim_offer(campaign=campaign, teacher=teacher)
    where = reverse("campaign_queue", args=[campaign.code])
    assert [offer.pk for offer in admin.get(where).context["page"].rows] == [offer.pk for offer in queued]
    assert [one.pk for one in admin.get(where, {"state": "held"}).context["page"].rows] == [queued[0].pk]
    assert not admin.get(where, {"teacher": "nobody"}).context["page"].rows
    after = admin.get(where, {"after": queued[1].pk}).context["page"].rows
    assert [offer.pk for offer in after] == [queued[2].pk]


def test_htmx_gets_the_rows_alone(admin: Client, campaign: Campaign, queued: list[Offer]) -> None:
    page = admin.get(reverse("campaign_queue", args=[campaign.code]), headers={"hx-request": "true"}).content.decode()
    assert page.strip().startswith('<div id="queue"')
    assert "<html" not in page


def test_ticked_offers_are_taken_back_and_other_work_is_asked_for(
    admin: Client, campaign: Campaign, queued: list[Offer], sent_tasks: list[Any]
) -> None:
    where = reverse("queue_withdraw", args=[campaign.code])
    for _time in range(2):
        admin.post(where, {"offer": [queued[0].pk, queued[1].pk]})
    states = list(Offer.objects.order_by("pk").values_list("state", flat=True))
    assert states == ["withdrawn", "withdrawn", "queued"]
    assert ("activelearning.replan", (campaign.pk,)) in sent_tasks


# Messages and notices -------------------------------------------------------------------------------------------------


def test_an_answer_reaches_the_teachers_page(admin: Client, campaign: Campaign, bob: User, teacher: Teacher) -> None:
    message = Message.objects.create(campaign=campaign, teacher=teacher, text="Is b a <joke>?")
    where = reverse("campaign_messages", args=[campaign.code])
    assert "Is b a &lt;joke&gt;?" in admin.get(where, {"show": "waiting"}).content.decode()
    reply = reverse("message_reply", args=[campaign.code, message.pk])
    admin.post(reply, {"text": "   "})
    assert Message.objects.get().reply == ""
    admin.post(reply, {"text": "It is."})
    assert "Everything is answered" in admin.get(where, {"show": "waiting"}).content.decode()
    teachers = Client()
    teachers.force_login(bob)
    assert "It is." in teachers.get(reverse("desk_messages", args=[campaign.code])).content.decode()


def test_notices_are_read_once_for_all(admin: Client, campaign: Campaign) -> None:
    post_notice(campaign=campaign, kind="queue_dry", sentence="Nothing waits.", key="one")
    where = reverse("campaign_notices", args=[campaign.code])
    assert "Nothing waits." in admin.get(where).content.decode()
    for _time in range(2):
        admin.post(where)
    assert Notice.objects.get().read_at is not None
    assert "Mark all as read" not in admin.get(where).content.decode()


# Roles ----------------------------------------------------------------------------------------------------------------


def test_a_role_is_given_by_name_or_address_and_taken_back(admin: Client, campaign: Campaign, charlie: User) -> None:
    where = reverse("campaign_roles", args=[campaign.code])
    EmailAddress.objects.create(user=charlie, email="charlie@example.org", verified=True)
    for who in ("charlie", "Charlie@example.org"):
        admin.post(where, {"who": who, "role": "researcher"})
    role = Role.objects.get(user=charlie)
    assert role.name == "researcher"
    admin.post(reverse("role_revoke", args=[campaign.code, role.pk]))
    assert not Role.objects.filter(user=charlie).exists()


def test_an_address_that_nobody_confirmed_gives_no_role(admin: Client, campaign: Campaign, charlie: User) -> None:
    EmailAddress.objects.create(user=charlie, email="dora@example.org", verified=False)
    User.objects.filter(pk=charlie.pk).update(email="dora@example.org")
    page = admin.post(reverse("campaign_roles", args=[campaign.code]), {"who": "dora@example.org", "role": "admin"})
    assert "Nobody signs in with this" in page.content.decode()
    assert not Role.objects.filter(user=charlie).exists()


@pytest.mark.parametrize(("who", "role"), [("nobody", "admin"), ("charlie", "emperor"), ("", "admin")])
def test_a_role_that_makes_no_sense_is_refused(
    admin: Client, campaign: Campaign, charlie: User, who: str, role: str
) -> None:
    page = admin.post(reverse("campaign_roles", args=[campaign.code]), {"who": who, "role": role})
    assert page.status_code == 200
    assert Role.objects.count() == 1


def test_the_last_admin_stays(admin: Client, campaign: Campaign, alice: User) -> None:
    mine = Role.objects.get(user=alice)
    page = admin.post(reverse("role_revoke", args=[campaign.code, mine.pk]), follow=True).content.decode()
    assert "needs an admin" in page
    assert Role.objects.filter(pk=mine.pk).exists()


def test_a_link_gives_its_role_to_one_person(admin: Client, campaign: Campaign, charlie: User) -> None:
    where = reverse("campaign_roles", args=[campaign.code])
    admin.post(reverse("role_link", args=[campaign.code]), {"role": "reviewer"})
    link = re.search(r'value="(http://testserver/join/[^"]+)"', admin.get(where).content.decode())
    assert link is not None
    visitor = Client()
    visitor.force_login(charlie)
    visitor.post(link[1])
    assert Role.objects.get(user=charlie).name == "reviewer"
    assert link[1] not in admin.get(where).content.decode()


def test_a_revoked_link_leads_nowhere(admin: Client, campaign: Campaign) -> None:
    admin.post(reverse("role_link", args=[campaign.code]), {"role": "admin"})
    made = Invitation.objects.get()
    admin.post(reverse("role_link_revoke", args=[campaign.code, made.pk]))
    assert Client().get(reverse("invitation", args=[made.token])).status_code == 410


# Webhooks -------------------------------------------------------------------------------------------------------------


def test_a_webhook_is_added_with_its_secret_and_switched_off(admin: Client, campaign: Campaign) -> None:
    where = reverse("campaign_webhooks", args=[campaign.code])
    admin.post(where, {"url": "https://example.org/hook", "kinds": ["queue_dry"]})
    webhook = Webhook.objects.get()
    assert webhook.kinds == ["queue_dry"]
    assert webhook.secret in admin.get(where).content.decode()
    switch = reverse("webhook_switch", args=[campaign.code, webhook.pk])
    for _time in range(2):
        admin.post(switch, {"to": "off"})
    webhook.refresh_from_db()
    assert not webhook.is_active
    assert AuditEntry.objects.filter(verb="switch webhook off").count() == 1


@pytest.mark.parametrize("url", ["ftp://example.org/", "javascript:alert(1)", "not an address", "https://"])
def test_what_is_no_address_is_refused(admin: Client, campaign: Campaign, url: str) -> None:
    assert admin.post(reverse("campaign_webhooks", args=[campaign.code]), {"url": url}).status_code == 200
    assert not Webhook.objects.exists()


# The audit trail ------------------------------------------------------------------------------------------------------


def test_the_trail_pages_by_key_newest_first(admin: Client, campaign: Campaign, alice: User, charlie: User) -> None:
    for number in range(PAGE + 2):
        record_audit(user=alice, verb="tried", object=f"number {number}", campaign=campaign, details={"n": number})
    record_audit(user=charlie, verb="looked", object="<b>it</b>", campaign=campaign)
    where = reverse("campaign_audit", args=[campaign.code])
    first = admin.get(where).context["page"]
    second = admin.get(where, {"before": first.next_key}).context["page"]
    numbers = [entry.pk for entry in [*first.rows, *second.rows]]
    assert numbers == sorted(numbers, reverse=True)
    assert len(numbers) == PAGE + 3
    only = admin.get(where, {"user": "charlie"})
    assert [entry.verb for entry in only.context["page"].rows] == ["looked"]
    assert "&lt;b&gt;it" in only.content.decode()


@pytest.mark.parametrize("key", ["-1", "9" * 40, "²", "1; drop", ""])
def test_a_key_that_is_none_shows_the_first_page(admin: Client, campaign: Campaign, key: str) -> None:
    for name, parameter in [
        ("campaign_audit", "before"),
        ("campaign_conversations", "after"),
        ("campaign_queue", "after"),
    ]:
        assert admin.get(reverse(name, args=[campaign.code]), {parameter: key}).status_code == 200
