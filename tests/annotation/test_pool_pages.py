"""Pools and invitations through their pages: a stranger becomes a teacher by a link, and only by a link."""

import re
from typing import Any

import pytest
from django.core.cache import cache
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.urls import reverse

from annotation.models import Campaign, Invitation, InvitationLetter, Membership, Pool, Role, Teacher, User
from annotation.services.invitations import open_account
from annotation.services.panels import panel_key
from annotation.services.pools import change_terms

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin(client: Client, alice: User, campaign: Campaign) -> Client:
    client.force_login(alice)
    return client


def test_a_link_opens_an_account_joins_the_pool_and_agrees_to_its_terms(admin: Client, pool: Pool) -> None:
    admin.post(reverse("pool_invite", args=[pool.pk]), {"uses": 1})
    link = re.search(
        r'value="(http://testserver/join/[^"]+)"', admin.get(reverse("pool", args=[pool.pk])).content.decode()
    )
    assert link is not None

    stranger = Client()
    page = stranger.get(link[1]).content.decode()
    assert "Agree and join" in page
    assert 'name="version" value="1"' in page
    joined = stranger.post(link[1], {"username": "dora", "password": "a long quiet sentence", "version": 1})
    assert joined.headers["Location"] == reverse("home")
    member = Membership.objects.get(teacher__user__username="dora")
    assert (member.pool, member.accepted_terms) == (pool, pool.terms_version)

    assert Client().get(link[1]).status_code == 410


@pytest.mark.parametrize("version", ["1", "", "x"])
def test_terms_that_changed_since_the_page_was_shown_are_not_agreed_to(
    pool: Pool, alice: User, charlie: User, version: str
) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice)
    where = reverse("invitation", args=[invitation.token])
    visitor = Client()
    visitor.force_login(charlie)
    assert 'name="version" value="1"' in visitor.get(where).content.decode()
    change_terms(pool=pool, user=alice, terms="For nothing.")
    page = visitor.post(where, {"version": version}, follow=True).content.decode()
    member = Membership.objects.get(teacher__user=charlie)
    assert (member.status, member.accepted_terms) == ("active", 0)
    assert "changed while you read them" in page
    assert reverse("terms", args=[member.pk]) in page


def test_a_weak_password_opens_no_account_and_uses_no_invitation(admin: Client, pool: Pool, alice: User) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice)
    page = Client().post(reverse("invitation", args=[invitation.token]), {"username": "dora", "password": "short"})
    assert page.status_code == 200
    assert "too short" in page.content.decode()
    assert not User.objects.filter(username="dora").exists()
    invitation.refresh_from_db()
    assert invitation.uses_left == 1


@pytest.mark.parametrize("name", ["dora@example.org", "prolific-0123456789abcdef01234567"])
def test_a_name_that_claims_to_be_somebody_opens_no_account(pool: Pool, alice: User, name: str) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice)
    where = reverse("invitation", args=[invitation.token])
    page = Client().post(where, {"username": name, "password": "a long quiet sentence"})
    assert "could be taken for somebody else" in page.content.decode()
    assert not User.objects.filter(username=name).exists()


def test_whoever_loses_the_race_for_the_last_use_opens_no_account(
    pool: Pool, alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice)
    opened = open_account

    def be_slower(**given: Any) -> User:
        user = opened(**given)
        Invitation.objects.update(uses_left=0)
        return user

    monkeypatch.setattr("annotation.views.invitations.open_account", be_slower)
    visitor = Client()
    visitor.post(
        reverse("invitation", args=[invitation.token]), {"username": "dora", "password": "a long quiet sentence"}
    )
    assert not User.objects.filter(username="dora").exists()
    assert "_auth_user_id" not in visitor.session


def test_whoever_is_signed_in_joins_with_a_click_and_twice_is_once(pool: Pool, alice: User, charlie: User) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice, uses_left=2)
    visitor = Client()
    visitor.force_login(charlie)
    for _time in range(2):
        visitor.post(reverse("invitation", args=[invitation.token]))
    assert Membership.objects.filter(teacher__user=charlie, pool=pool).count() == 1
    invitation.refresh_from_db()
    assert invitation.uses_left == 1


def test_letters_go_to_addresses_and_bad_lines_are_named(admin: Client, pool: Pool) -> None:
    page = admin.post(
        reverse("pool_invite", args=[pool.pk]), {"uses": 1, "addresses": "ann@example.org\nnot an address"}, follow=True
    )
    assert [letter.invitation.email for letter in InvitationLetter.objects.all()] == ["ann@example.org"]
    assert "Line 2 is no address" in page.content.decode()


def upload(admin: Client, pool: Pool, content: str, **also: str) -> str:
    sent = {"uses": 1, "file": SimpleUploadedFile("people.csv", content.encode()), **also}
    return admin.post(reverse("pool_invite", args=[pool.pk]), sent, follow=True).content.decode()


def test_a_file_is_read_by_its_header_beside_what_is_typed(admin: Client, pool: Pool) -> None:
    upload(admin, pool, "\ufeffname,email\nAnn,ann@example.org\nBob,bob@example.org\n")
    upload(admin, pool, "name,email\nEve,eve@example.org\n", addresses="dan@example.org\neve@example.org")
    assert sorted(Invitation.objects.values_list("email", flat=True)) == [
        "ann@example.org", "bob@example.org", "dan@example.org", "eve@example.org",
    ]  # fmt: skip


def test_a_file_that_is_too_large_invites_nobody_instead_of_some(admin: Client, pool: Pool) -> None:
    assert "at most 1 MB" in upload(admin, pool, "a@example.org\n" * 72_000)
    assert "at most 10000 lines" in upload(admin, pool, "a@example.org\n" * 10_002)
    assert not Invitation.objects.exists()


def test_a_revoked_link_leads_nowhere(admin: Client, pool: Pool, alice: User) -> None:
    invitation = Invitation.objects.create(pool=pool, created_by=alice)
    admin.post(reverse("invitation_revoke", args=[pool.pk, invitation.pk]))
    assert Client().get(reverse("invitation", args=[invitation.token])).status_code == 410


def test_members_are_suspended_and_let_back(admin: Client, pool: Pool, teacher: Teacher) -> None:
    member = Membership.objects.get(teacher=teacher)
    for verb, status in (("suspend", "suspended"), ("readmit", "active"), ("depart", "departed")):
        admin.post(reverse("pool_members", args=[pool.pk]), {"verb": verb, "member": member.pk})
        member.refresh_from_db()
        assert member.status == status


def test_a_member_has_terms_of_their_own(admin: Client, pool: Pool, teacher: Teacher) -> None:
    where = reverse("pool_member", args=[pool.pk, teacher.code])
    admin.post(where, {"cost_per_label": "0.25", "capacity": "40", "categories": "coding", "rationality": "1.5"})
    member = Membership.objects.get(teacher=teacher)
    assert (float(member.cost_per_label or 0), member.capacity, member.categories) == (0.25, 40, ["coding"])
    assert member.rationality == {"": 1.5}


def test_a_panels_link_opens_no_endless_number_of_accounts(pool: Pool, settings: Any) -> None:
    settings.ACCOUNT_RATE_LIMITS = {"panel": "2/m/ip"}
    cache.clear()
    where = reverse("panel", args=[panel_key(pool)])
    found = [
        Client().get(where, {"PROLIFIC_PID": f"p{place}", "STUDY_ID": "s1", "SESSION_ID": "x1"}).status_code
        for place in range(3)
    ]
    assert found == [302, 302, 429]
    assert Membership.objects.filter(pool=pool).count() == 2
    cache.clear()


def test_another_admins_pool_is_not_there(client: Client, campaign: Campaign, charlie: User) -> None:
    other = Pool.objects.create(name="Somebody else's")
    Role.objects.create(campaign=campaign, user=charlie, name=Role.Name.ADMIN)
    client.force_login(charlie)
    assert client.get(reverse("pool", args=[other.pk])).status_code == 404
    assert "Somebody else" not in client.get(reverse("campaign_settings", args=[campaign.code])).content.decode()


def test_a_panels_participant_comes_in_by_the_link_and_agrees(pool: Pool) -> None:
    where = reverse("panel", args=[panel_key(pool)])
    visitor = Client()
    came = visitor.get(where, {"PROLIFIC_PID": "abc", "STUDY_ID": "s1", "SESSION_ID": "x1"}, follow=True)
    assert "I agree" in came.content.decode()
    member = Membership.objects.get(pool=pool)
    visitor.post(reverse("terms", args=[member.pk]), {"version": pool.terms_version})
    member.refresh_from_db()
    assert member.accepted_terms == pool.terms_version
    assert Client().get(where).status_code == 410
