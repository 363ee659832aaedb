"""The first page: for a teacher, for staff, for somebody new, and for a panel's participant at the end."""

import pytest
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Membership, Pool, Teacher, User

pytestmark = pytest.mark.django_db


def page_of(client: Client, user: User) -> str:
    client.force_login(user)
    return client.get(reverse("home")).content.decode()


def test_a_teacher_is_led_to_the_desk(client: Client, bob: User, campaign: Campaign, teacher: Teacher) -> None:
    page = page_of(client, bob)
    assert reverse("desk", args=[campaign.code]) in page
    assert reverse("campaign_create") not in page


def test_staff_see_their_campaigns(client: Client, alice: User, campaign: Campaign) -> None:
    page = page_of(client, alice)
    assert reverse("campaign", args=[campaign.code]) in page
    assert reverse("campaign_create") in page


def test_somebody_new_is_told_what_to_do(client: Client, charlie: User, campaign: Campaign) -> None:
    assert "Follow the invitation" in page_of(client, charlie)


def test_a_superuser_of_an_empty_site_is_offered_the_first_campaign(client: Client, charlie: User) -> None:
    User.objects.update(is_superuser=True)
    page = page_of(client, charlie)
    assert "No campaign yet" in page
    assert reverse("campaign_create") in page


def test_new_terms_are_put_before_a_member_until_agreed_to(
    client: Client, bob: User, pool: Pool, teacher: Teacher
) -> None:
    Pool.objects.update(terms="New words.", terms_version=2)
    member = Membership.objects.get()
    where = reverse("terms", args=[member.pk])
    assert where in page_of(client, bob)
    assert "New words." in client.get(where).content.decode()
    stale = client.post(where, {"version": "1"})
    assert "have changed while you read them" in stale.content.decode()
    client.post(where, {"version": "2"})
    assert where not in page_of(client, bob)


def test_a_panels_participant_goes_back_once_something_is_answered(
    client: Client, bob: User, pool: Pool, teacher: Teacher
) -> None:
    Pool.objects.update(completion_url="https://panel.example/done?cc=C1")
    Teacher.objects.update(external={"panel": "prolific", "session": "S7"})
    assert "panel.example" not in page_of(client, bob)
    Membership.objects.update(label_count=3)
    assert "https://panel.example/done?cc=C1&amp;SESSION_ID=S7" in page_of(client, bob)
    Teacher.objects.update(external={})  # came by an invitation
    assert "panel.example" not in page_of(client, bob)
