"""The site against whoever means it harm: sign-in, what a request may carry, and names that claim to be somebody."""

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client
from django.urls import reverse

from annotation.models import User

pytestmark = pytest.mark.django_db


# Signing in -----------------------------------------------------------------------------------------------------------


def test_the_back_room_has_no_sign_in_of_its_own(client: Client, alice: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_staff=True, is_superuser=True)
    where = reverse("admin:login")
    page = client.post(where, {"username": "alice", "password": "correct horse"})
    assert page.status_code == 302 and page["Location"].startswith(reverse(settings.LOGIN_URL))
    assert "_auth_user_id" not in client.session


def test_somebody_who_guesses_passwords_is_slowed_down(client: Client, alice: User) -> None:
    cache.clear()
    for guess in range(11):
        client.post(reverse("account_login"), {"login": "alice", "password": f"guess {guess}"})
    client.post(reverse("account_login"), {"login": "alice", "password": "correct horse"})
    assert "_auth_user_id" not in client.session
    cache.clear()
