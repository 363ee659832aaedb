"""Whoever runs campaigns or pools changes nothing without a second factor, where the deployment wants one."""

from typing import Any

import pytest
from allauth.mfa.models import Authenticator
from allauth.mfa.recovery_codes.internal.auth import RecoveryCodes
from allauth.mfa.totp.internal.auth import TOTP, generate_totp_secret, hotp_value, yield_hotp_counters_from_time
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Membership, Pool, Role, Teacher, User

pytestmark = pytest.mark.django_db

SET_UP = "/account/2fa/totp/activate/"
PASSWORD_AGAIN = "/account/reauthenticate/?next=%2Faccount%2F2fa%2Ftotp%2Factivate%2F"


@pytest.fixture(autouse=True)
def required(settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = True


@pytest.fixture
def admin(client: Client, alice: User, campaign: Campaign) -> Client:
    client.force_login(alice)
    return client


def set_up(user: User) -> str:
    """An app on a phone. Returns its secret."""
    secret = str(generate_totp_secret())
    TOTP.activate(user, secret)
    RecoveryCodes.activate(user)
    return secret


def test_an_admin_without_one_looks_but_changes_nothing(admin: Client, campaign: Campaign, pool: Pool) -> None:
    assert admin.get(reverse("campaign", args=[campaign.code])).status_code == 200
    assert admin.get(reverse("campaigns")).status_code == 200
    for name, arguments in (("campaign_settings", [campaign.code]), ("campaign_create", []), ("pool", [pool.pk])):
        assert admin.get(reverse(name, args=arguments)).headers["Location"] == SET_UP
    done = admin.post(reverse("campaign_state", args=[campaign.code]), {"verb": "pause"})
    assert done.headers["Location"] == SET_UP
    campaign.refresh_from_db()
    assert campaign.state == Campaign.State.OPEN


def test_they_are_told_why_and_set_it_up_there(client: Client, alice: User, campaign: Campaign) -> None:
    client.post(reverse("account_login"), {"login": "alice", "password": "correct horse"})
    page = client.get(reverse("campaign_settings", args=[campaign.code]), follow=True)
    assert [address for address, _status in page.redirect_chain] == [SET_UP, PASSWORD_AGAIN]
    assert "Set it up, then go on" in page.content.decode()
    page = client.post(PASSWORD_AGAIN, {"password": "correct horse"}, follow=True)
    assert page.redirect_chain[-1][0] == SET_UP
    secret = page.context["form"].secret
    code = f"{hotp_value(secret, next(iter(yield_hotp_counters_from_time()))):06}"
    client.post(SET_UP, {"code": code})
    assert Authenticator.objects.filter(user=alice, type="totp").exists()
    assert client.get(reverse("campaign_settings", args=[campaign.code])).status_code == 200


def test_with_one_they_change_what_they_like_and_without_it_again_nothing(
    admin: Client, alice: User, campaign: Campaign
) -> None:
    set_up(alice)
    assert admin.get(reverse("campaign_settings", args=[campaign.code])).status_code == 200
    admin.post(reverse("campaign_state", args=[campaign.code]), {"verb": "pause"})
    campaign.refresh_from_db()
    assert campaign.state == Campaign.State.PAUSED
    Authenticator.objects.filter(user=alice, type="totp").delete()
    assert admin.get(reverse("campaign_settings", args=[campaign.code])).headers["Location"] == SET_UP


def test_a_password_alone_is_no_sign_in_then(client: Client, alice: User, campaign: Campaign) -> None:
    set_up(alice)
    found = client.post(reverse("account_login"), {"login": "alice", "password": "correct horse"})
    assert found.headers["Location"].startswith(reverse("mfa_authenticate"))
    assert client.get(reverse("campaign", args=[campaign.code])).status_code == 302


def test_whoever_made_a_pool_and_a_superuser_need_one_too(client: Client, charlie: User, pool: Pool) -> None:
    client.force_login(charlie)
    assert client.get(reverse("pool", args=[pool.pk])).status_code == 404, "a stranger learns nothing"
    Pool.objects.update(created_by=charlie)
    assert client.get(reverse("pool", args=[pool.pk])).headers["Location"] == SET_UP
    Pool.objects.update(created_by=None)
    User.objects.filter(pk=charlie.pk).update(is_superuser=True)
    assert client.get(reverse("pool", args=[pool.pk])).headers["Location"] == SET_UP


def test_the_back_room_is_shut_without_one(client: Client, charlie: User) -> None:
    User.objects.filter(pk=charlie.pk).update(is_superuser=True, is_staff=True)
    client.force_login(charlie)
    found = client.get("/site-admin/annotation/user/", follow=True)
    assert SET_UP in [address for address, _status in found.redirect_chain]
    assert client.get("/site-admin/login/").headers["Location"] == SET_UP, "no other sign-in stands there"
    set_up(charlie)
    assert client.get("/site-admin/annotation/user/").status_code == 200


def test_teachers_and_researchers_work_without_one(
    client: Client, bob: User, campaign: Campaign, teacher: Teacher
) -> None:
    client.force_login(bob)
    member = Membership.objects.get(teacher=teacher)
    for name, arguments in (("desk", [campaign.code]), ("terms", [member.pk]), ("account_withdraw", [])):
        assert client.get(reverse(name, args=arguments)).status_code == 200
    Role.objects.create(campaign=campaign, user=bob, name=Role.Name.RESEARCHER)
    assert client.get(reverse("exports", args=[campaign.code])).status_code == 200


def test_an_admin_who_teaches_reads_the_terms_without_one(
    admin: Client, alice: User, campaign: Campaign, pool: Pool
) -> None:
    member = Membership.objects.create(pool=pool, teacher=Teacher.objects.create(user=alice))
    assert admin.get(reverse("terms", args=[member.pk])).status_code == 200


def test_a_fragment_that_asks_leads_the_whole_page_there(admin: Client, campaign: Campaign) -> None:
    found = admin.get(reverse("campaign_settings", args=[campaign.code]), headers={"HX-Request": "true"})
    assert found.headers["HX-Redirect"] == SET_UP


def test_a_demo_asks_for_none(admin: Client, campaign: Campaign, settings: Any) -> None:
    settings.REQUIRE_SECOND_FACTOR = False
    assert admin.get(reverse("campaign_settings", args=[campaign.code])).status_code == 200
