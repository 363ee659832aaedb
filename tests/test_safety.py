"""The site against whoever means it harm: sign-in, what a request may carry, and names that claim to be somebody."""

import os
import subprocess
import sys
from io import BytesIO
from typing import Any

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Membership, Teacher, User

pytestmark = pytest.mark.django_db


# Signing in -----------------------------------------------------------------------------------------------------------


def test_the_back_room_has_no_sign_in_of_its_own(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True, is_superuser=True)
    where = reverse("admin:login")
    page = client.post(where, {"username": "alice", "password": "correct horse"})
    assert page.status_code == 302
    assert page["Location"].startswith(reverse(settings.LOGIN_URL))
    assert "_auth_user_id" not in client.session


def test_somebody_who_guesses_passwords_is_slowed_down(client: Client, alice: User) -> None:
    cache.clear()
    for guess in range(11):
        client.post(reverse("account_login"), {"login": "alice", "password": f"guess {guess}"})
    client.post(reverse("account_login"), {"login": "alice", "password": "correct horse"})
    assert "_auth_user_id" not in client.session
    cache.clear()


def test_addresses_and_redirects_are_taken_from_whom_the_deployment_names() -> None:
    """Sign-ins are counted by address, and a browser lets the form go on to the identity provider."""
    code = (
        "from config import settings as s;"
        "print(s.ALLAUTH_TRUSTED_PROXY_COUNT, *s.CONTENT_SECURITY_POLICY['DIRECTIVES']['form-action'])"
    )
    given = {"TRUSTED_PROXIES": "1", "OIDC_SERVER_URL": "https://id.example.org/realms/one"}
    told = [
        subprocess.run(
            [sys.executable, "-c", code], cwd=settings.ROOT, env={**os.environ, **more}, capture_output=True, text=True
        ).stdout.split()
        for more in ({}, given)
    ]
    assert told == [["0", "'self'"], ["1", "'self'", "https://id.example.org/"]]


# What a request may carry ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["/campaigns/?q=%00", "/join/a%00b/", "/panel/%00/?PROLIFIC_PID=a"])
def test_a_nul_character_in_the_address_is_refused(client: Client, where: str) -> None:
    assert client.get(where).status_code == 400


def test_a_nul_character_in_a_field_is_refused(client: Client, alice: User, campaign: Campaign) -> None:
    client.force_login(alice)
    answer = client.post(reverse("campaign_delete", args=[campaign.code]), {"confirmed_name": f"{campaign.name}\0"})
    assert answer.status_code == 400
    assert Campaign.objects.filter(pk=campaign.pk).exists()


def test_only_an_admin_sends_more_than_a_form_holds(
    client: Client, alice: User, bob: User, campaign: Campaign, settings: Any
) -> None:
    settings.DATA_UPLOAD_MAX_MEMORY_SIZE, settings.LARGEST_UPLOAD = 1000, 5000
    where, answers = reverse("campaign_imports", args=[campaign.code]), []
    for user, size in ((None, 2000), (bob, 2000), (alice, 2000), (alice, 6000)):
        client.logout()
        if user is not None:
            client.force_login(user)
        answers.append(client.post(where, {"file": BytesIO(b"x" * size)}).status_code)
    assert answers == [413, 413, 302, 413]


def test_a_number_of_five_thousand_digits_is_no_key(
    client: Client, bob: User, campaign: Campaign, teacher: Teacher
) -> None:
    client.force_login(bob)
    endless, member = "9" * 5000, Membership.objects.get(teacher=teacher)
    assert client.get(reverse("campaigns"), {"before": endless}).status_code == 200
    assert client.get(reverse("desk_history", args=[campaign.code]), {"before": endless}).status_code == 200
    assert client.post(reverse("terms", args=[member.pk]), {"version": endless}).status_code in (200, 302)
    assert client.post(reverse("desk_read", args=[campaign.code]), {"version": endless}).status_code in (200, 302)
