"""The teachers of a campaign through their pages: found, suspended, let back, given a bonus, withdrawn."""

import re
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from annotation.models import (
    AuditEntry,
    Campaign,
    Enrolment,
    Label,
    LedgerEntry,
    Membership,
    Offer,
    Pool,
    Role,
    Teacher,
    User,
)
from annotation.services.labels import record_label
from annotation.services.offers import claim_offer
from tests.conftest import add_conversations

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_asked_yet() -> None:
    """A campaign asks for a plan at most once a second, also across tests."""
    cache.clear()


@pytest.fixture
def admin(client: Client, alice: User) -> Client:
    client.force_login(alice)
    return client


@pytest.fixture
def answered(campaign: Campaign, teacher: Teacher, queued: list[Offer]) -> Label:
    """Bob has answered one of three, for ten cents."""
    Enrolment.objects.create(campaign=campaign, teacher=teacher, stage="working")
    offer = claim_offer(campaign=campaign, teacher=teacher)
    assert offer is not None
    return record_label(offer=offer, choice="first")


def test_the_list_shows_counters_and_who_is_there(
    admin: Client, campaign: Campaign, teacher: Teacher, dora: Teacher, answered: Label
) -> None:
    page = admin.get(reverse("campaign_teachers", args=[campaign.code]))
    places = {place.member.teacher: place for place in page.context["places"]}
    assert places[teacher].enrolment is not None
    assert places[teacher].enrolment.label_count == 1
    assert places[dora].enrolment is None
    assert "Not begun" in page.content.decode()


def test_the_beginning_of_a_name_finds_somebody(
    admin: Client, campaign: Campaign, teacher: Teacher, dora: Teacher
) -> None:
    where = reverse("campaign_teachers", args=[campaign.code])
    for text in ("TEACHER-DO", "dor"):
        assert [one.teacher for one in admin.get(where, {"q": text}).context["page"].rows] == [dora]
    Membership.objects.filter(teacher=dora).update(status="suspended")
    assert [one.teacher for one in admin.get(where, {"status": "suspended"}).context["page"].rows] == [dora]


def test_who_is_suspended_gets_nothing_more_and_may_be_let_back(
    admin: Client, campaign: Campaign, teacher: Teacher, queued: list[Offer]
) -> None:
    where = reverse("campaign_teachers", args=[campaign.code])
    member = Membership.objects.get(teacher=teacher)
    for _time in range(2):
        admin.post(where, {"verb": "suspend", "member": member.pk})
    member.refresh_from_db()
    assert member.status == "suspended"
    assert not Offer.objects.filter(state__in=Offer.LIVE).exists()
    admin.post(where, {"verb": "readmit", "member": member.pk})
    member.refresh_from_db()
    assert member.status == "active"


def test_members_of_other_pools_cannot_be_ticked(admin: Client, campaign: Campaign, charlie: User) -> None:
    elsewhere = Membership.objects.create(
        pool=Pool.objects.create(name="Elsewhere"), teacher=Teacher.objects.create(user=charlie)
    )
    page = admin.post(
        reverse("campaign_teachers", args=[campaign.code]), {"verb": "suspend", "member": elsewhere.pk}, follow=True
    )
    elsewhere.refresh_from_db()
    assert elsewhere.status == "active"
    assert "Tick the teachers first" in page.content.decode()


def movement_of(admin: Client, where: str) -> str:
    """Which movement the page that is open now will book."""
    found = re.search(r'name="movement" value="([^"]+)"', admin.get(where).content.decode())
    assert found is not None
    return found[1]


def test_a_double_click_gives_one_bonus(admin: Client, campaign: Campaign, teacher: Teacher) -> None:
    where = reverse("campaign_teacher", args=[campaign.code, teacher.code])
    given = {"amount": "4", "memo": "For patience", "movement": movement_of(admin, where)}
    for _time in range(2):
        assert admin.post(where, given).status_code == 302
    assert LedgerEntry.objects.filter(account="teacher").count() == 1
    assert AuditEntry.objects.filter(verb="bonus").count() == 1
    campaign.refresh_from_db()
    assert campaign.spent == 4
    other = admin.post(where, {**given, "amount": "5"})  # from the page that the back button shows
    assert "booked something else before" in other.content.decode()
    assert given["movement"] not in other.content.decode()
    admin.post(where, {"amount": "4", "memo": "For patience"})  # from no page
    admin.post(where, {**given, "movement": "x"})
    assert LedgerEntry.objects.filter(account="teacher").count() == 1
    admin.post(where, {**given, "movement": movement_of(admin, where)})
    assert LedgerEntry.objects.filter(account="teacher").count() == 2


def test_a_bonus_is_owed_and_spent_and_never_beyond_the_budget(
    admin: Client, campaign: Campaign, teacher: Teacher
) -> None:
    Campaign.objects.filter(pk=campaign.pk).update(budget="5")
    where = reverse("campaign_teacher", args=[campaign.code, teacher.code])
    given = {"amount": "4", "memo": "For patience"}
    admin.post(where, {**given, "movement": movement_of(admin, where)})
    entry = LedgerEntry.objects.get(account="teacher")
    assert (entry.amount, entry.currency, entry.memo) == (4, "EUR", "For patience")
    refused = admin.post(where, {"amount": "4", "memo": "Again", "movement": movement_of(admin, where)})
    assert "budget does not cover" in refused.content.decode()
    assert LedgerEntry.objects.filter(account="teacher").count() == 1
    campaign.refresh_from_db()
    assert campaign.spent == 4


def test_a_withdrawal_is_shown_before_it_is_done(
    admin: Client, campaign: Campaign, teacher: Teacher, answered: Label
) -> None:
    where = reverse("teacher_withdraw", args=[campaign.code, teacher.code])
    entry = {"campaign": campaign, "teacher": teacher, "account": "teacher"}
    LedgerEntry.objects.create(movement=uuid4(), amount=3, currency="USD", **entry)
    page = admin.get(where)
    effect = page.context["effect"]
    assert (effect.labels, effect.live_offers) == (1, 2)
    assert effect.owed == {"EUR": answered.cost, "USD": 3}
    assert (
        "<dd>0.10 EUR, 3.00 USD</dd>" in page.content.decode() or "<dd>3.00 USD, 0.10 EUR</dd>" in page.content.decode()
    )
    admin.post(where)  # no way was chosen
    teacher.refresh_from_db()
    assert teacher.withdrawn_at is None
    admin.post(where, {"how": "remove"})
    teacher.refresh_from_db()
    assert teacher.withdrawn_at is not None
    assert Label.objects.get().state == Label.State.WITHDRAWN
    campaign.refresh_from_db()
    assert campaign.label_count == 0
    assert admin.get(where).status_code == 404  # twice is once


def test_an_admin_of_one_campaign_does_not_withdraw_from_anothers(
    admin: Client, campaign: Campaign, teacher: Teacher, charlie: User
) -> None:
    other = Campaign.objects.create(name="Another", created_by=charlie)
    Role.objects.create(campaign=other, user=charlie, name="admin")
    Enrolment.objects.create(campaign=other, teacher=teacher)
    where = reverse("teacher_withdraw", args=[campaign.code, teacher.code])
    assert admin.get(where).status_code == 404
    assert admin.post(where, {"how": "remove"}).status_code == 404
    page = admin.get(reverse("campaign_teacher", args=[campaign.code, teacher.code])).content.decode()
    assert where not in page


def test_an_admin_does_not_withdraw_a_member_of_anothers_pool(
    admin: Client, campaign: Campaign, teacher: Teacher, charlie: User
) -> None:
    where = reverse("teacher_withdraw", args=[campaign.code, teacher.code])
    assert admin.get(where).status_code == 200
    theirs = Pool.objects.create(name="Of Charlie", created_by=charlie)
    Membership.objects.create(pool=theirs, teacher=teacher)
    assert admin.get(where).status_code == 404
    assert admin.post(where, {"how": "remove"}).status_code == 404


def test_a_teacher_withdraws_and_keeps_no_account(
    client: Client, campaign: Campaign, bob: User, teacher: Teacher, answered: Label, sent_tasks: list[Any]
) -> None:
    client.force_login(bob)
    where = reverse("account_withdraw")
    assert where in client.get(reverse("account")).content.decode()
    assert "Withdraw for good" in client.get(where).content.decode()
    client.post(where, {"how": "anonymise"})
    assert not User.objects.filter(username="bob").exists()
    label = Label.objects.get()
    assert (label.state, label.teacher.pseudonym != "teacher-bob") == (Label.State.CURRENT, True)
    assert client.get(where).status_code == 302  # signed out
    assert ("activelearning.replan", (campaign.pk,)) in sent_tasks


def test_ten_thousand_teachers_are_shown_a_page_at_a_time(
    admin: Client, campaign: Campaign, pool: Pool, django_assert_max_num_queries: Any
) -> None:
    teachers = Teacher.objects.bulk_create([Teacher(pseudonym=f"many-{place:05d}") for place in range(120)])
    Membership.objects.bulk_create([Membership(pool=pool, teacher=teacher) for teacher in teachers])
    where, seen, after = reverse("campaign_teachers", args=[campaign.code]), 0, ""
    while after is not None:
        with django_assert_max_num_queries(9):
            page = admin.get(where, {"after": after}).context["page"]
        seen, after = seen + len(page.rows), page.next_key
    assert seen == 120


def test_one_teachers_page_shows_the_latest_answers(
    admin: Client, campaign: Campaign, teacher: Teacher, answered: Label
) -> None:
    add_conversations(campaign, 1)
    page = admin.get(reverse("campaign_teacher", args=[campaign.code, teacher.code]))
    assert list(page.context["labels"]) == [answered]
    assert page.context["owed"] == {"EUR": answered.cost}
