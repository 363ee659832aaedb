"""Letters with invitations: no request waits for a mail server, each is sent once, and what fails says why."""

import socket
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from smtplib import SMTPRecipientsRefused, SMTPServerDisconnected
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.core import mail
from django.core.mail import EmailMessage
from django.test import Client
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import get_language

from annotation.models import AuditEntry, Campaign, Invitation, InvitationLetter, Pool, User
from annotation.services.invitations import invite_by_email, revoke_invitation
from annotation.services.letters import ATTEMPTS, deliver_letter, due_letters
from annotation.tasks import reconcile, send_letter
from tests.annotation.test_concurrency import at_once, on_postgres

Sent = list[tuple[str, tuple[Any, ...]]]


def write(alice: User, pool: Pool, *addresses: str, language: str = "en") -> list[int]:
    return invite_by_email(
        user=alice, pool=pool, addresses=addresses, origin="https://label.example.org/", language=language
    )


def fail(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def send(self: EmailMessage, fail_silently: bool = False) -> int:
        raise error

    monkeypatch.setattr(EmailMessage, "send", send)


@pytest.fixture
def admin(alice: User, campaign: Campaign) -> Client:
    client = Client()
    client.force_login(alice)
    return client


def test_a_request_writes_rows_and_a_worker_sends(admin: Client, pool: Pool, sent_tasks: Sent) -> None:
    page = admin.post(
        reverse("pool_invite", args=[pool.pk]),
        {"uses": 1, "addresses": "ann@example.org\nbob@example.org"},
        follow=True,
    )
    assert "2 letters are on their way." in page.content.decode()
    assert "On its way" in page.content.decode()
    assert mail.outbox == []
    letters = list(InvitationLetter.objects.order_by("pk"))
    assert sent_tasks == [("annotation.send_letter", (letter.pk,)) for letter in letters]
    for _twice in range(2):
        send_letter(letters[0].pk)
    (letter,) = mail.outbox
    assert letter.to == ["ann@example.org"]
    link = reverse("invitation", args=[letters[0].invitation.token])
    assert f"http://testserver{link}" in letter.body
    assert letter.extra_headers["Message-ID"] == f"<invitation-{letters[0].pk}-{letters[0].invitation_id}@testserver>"
    letters[0].refresh_from_db()
    assert (letters[0].state, letters[0].attempts, letters[0].sent_at is None) == ("sent", 1, False)


def test_what_a_lost_message_left_the_beat_finds(alice: User, pool: Pool, sent_tasks: Sent) -> None:
    (letter,) = write(alice, pool, "ann@example.org")
    reconcile()
    assert ("annotation.send_letter", (letter,)) in sent_tasks


def test_an_address_is_invited_once(alice: User, pool: Pool) -> None:
    assert len(write(alice, pool, "a@example.org", "b@example.org")) == 2
    assert len(write(alice, pool, "b@example.org", "c@example.org")) == 1
    assert sorted(Invitation.objects.values_list("email", flat=True)) == [
        "a@example.org", "b@example.org", "c@example.org",
    ]  # fmt: skip
    assert AuditEntry.objects.filter(verb="invite").count() == 2


@on_postgres
def test_ten_thousand_addresses_are_a_handful_of_statements(
    alice: User, pool: Pool, django_assert_max_num_queries: Any
) -> None:
    with django_assert_max_num_queries(60):
        write(alice, pool, *(f"one{number}@example.org" for number in range(10_000)))
    assert InvitationLetter.objects.count() == 10_000
    assert len(due_letters()) == 100


def test_it_is_written_in_the_language_of_whoever_invited(
    alice: User, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("annotation.services.letters._", lambda text: f"[{get_language()}] {text}")
    (letter,) = write(alice, pool, "ann@example.org", language="de")
    deliver_letter(letter)
    assert mail.outbox[0].subject == "[de] You are invited to The first pool"
    assert "https://label.example.org/join/" in mail.outbox[0].body


def test_a_server_that_is_away_is_tried_again_and_given_up_with_its_reason(
    alice: User, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, SMTPServerDisconnected("Connection unexpectedly closed"))
    (pk,) = write(alice, pool, "ann@example.org")
    waits = []
    for _attempt in range(ATTEMPTS):
        InvitationLetter.objects.filter(pk=pk).update(next_attempt_at=timezone.now())
        assert not deliver_letter(pk)
        letter = InvitationLetter.objects.get(pk=pk)
        waits.append(round((letter.next_attempt_at - timezone.now()).total_seconds() / 30))
        assert letter.reason == "Connection unexpectedly closed"
    assert waits[:-1] == [1, 2, 4, 8, 16]
    assert letter.state == "given_up"
    assert due_letters(now=timezone.now() + timedelta(days=1)) == []


def test_before_its_time_it_is_not_tried(alice: User, pool: Pool, monkeypatch: pytest.MonkeyPatch) -> None:
    fail(monkeypatch, ConnectionRefusedError("refused"))
    (pk,) = write(alice, pool, "ann@example.org")
    deliver_letter(pk)
    monkeypatch.undo()
    assert not deliver_letter(pk)
    assert due_letters() == []
    assert InvitationLetter.objects.get(pk=pk).attempts == 1


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (SMTPRecipientsRefused({"a@b.c": (550, b"No such user here")}), "given_up", "550 No such user here"),
        (SMTPRecipientsRefused({"a@b.c": (451, b"Greylisted")}), "waiting", "451 Greylisted"),
        (ValueError("Invalid address"), "given_up", "Invalid address"),
        (TimeoutError(), "waiting", "TimeoutError"),
    ],
)
def test_a_no_for_good_ends_it_at_once(
    alice: User, pool: Pool, monkeypatch: pytest.MonkeyPatch, error: Exception, state: str, reason: str
) -> None:
    fail(monkeypatch, error)
    (pk,) = write(alice, pool, "ann@example.org")
    deliver_letter(pk)
    letter = InvitationLetter.objects.get(pk=pk)
    assert (letter.state, letter.reason) == (state, reason)


def test_a_server_that_says_nothing_holds_a_worker_for_its_time_out_only(
    alice: User, pool: Pool, settings: Any
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
        settings.EMAIL_HOST, settings.EMAIL_PORT = silent.getsockname()
        settings.EMAIL_TIMEOUT = 0.2
        (pk,) = write(alice, pool, "ann@example.org")
        started = timezone.now()
        assert not deliver_letter(pk)
        assert timezone.now() - started < timedelta(seconds=5)
    letter = InvitationLetter.objects.get(pk=pk)
    assert letter.state == "waiting"
    assert "timed out" in letter.reason


def test_a_server_that_outlasts_every_task_is_given_up(
    alice: User, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    fail(monkeypatch, SoftTimeLimitExceeded())
    (pk,) = write(alice, pool, "ann@example.org")
    for _attempt in range(ATTEMPTS + 1):
        InvitationLetter.objects.filter(pk=pk).update(next_attempt_at=timezone.now())
        with suppress(SoftTimeLimitExceeded):
            assert not deliver_letter(pk)
    letter = InvitationLetter.objects.get(pk=pk)
    assert (letter.state, letter.reason) == ("given_up", "The mail server took too long.")
    assert due_letters(now=timezone.now() + timedelta(days=1)) == []


def test_an_invitation_that_leads_nowhere_sends_no_letter(alice: User, pool: Pool) -> None:
    (pk,) = write(alice, pool, "ann@example.org")
    revoke_invitation(invitation=Invitation.objects.get(), user=alice)
    deliver_letter(pk)
    assert mail.outbox == []
    assert InvitationLetter.objects.get(pk=pk).state == "given_up"


class TestRetry:
    @pytest.fixture
    def failed(self, alice: User, pool: Pool) -> list[int]:
        letters = write(alice, pool, "ann@example.org", "ben@example.org")
        InvitationLetter.objects.update(state="given_up", attempts=6, reason="550 No such user here")
        return letters

    def test_the_page_says_why_and_tries_again(
        self, admin: Client, pool: Pool, failed: list[int], sent_tasks: Sent
    ) -> None:
        page = admin.get(reverse("pool", args=[pool.pk])).content.decode()
        assert page.count("550 No such user here") == 2
        admin.post(reverse("letters_retry", args=[pool.pk]), {"letter": failed[0]})
        assert sent_tasks == [("annotation.send_letter", (failed[0],))]
        first, second = InvitationLetter.objects.order_by("pk")
        assert (first.state, first.attempts, second.state) == ("waiting", 0, "given_up")
        assert deliver_letter(first.pk)
        assert AuditEntry.objects.get(verb="send letters again").details == {"letters": [failed[0]]}

    def test_all_of_them_at_once(self, admin: Client, pool: Pool, failed: list[int]) -> None:
        page = admin.post(reverse("letters_retry", args=[pool.pk]), follow=True).content.decode()
        assert "2 letters are on their way." in page
        assert due_letters() == failed

    def test_inviting_the_address_anew_tries_its_letter_again(self, alice: User, pool: Pool, failed: list[int]) -> None:
        assert write(alice, pool, "ben@example.org", "eve@example.org")[0] == failed[1]
        assert Invitation.objects.count() == 3

    @pytest.mark.parametrize("wrong", ["x", "-1", str(10**30)])
    def test_what_is_no_letter_is_none(self, admin: Client, pool: Pool, failed: list[int], wrong: str) -> None:
        admin.post(reverse("letters_retry", args=[pool.pk]), {"letter": wrong})
        assert due_letters() == []

    def test_the_letters_of_another_pool_stay_as_they_are(self, admin: Client, alice: User, failed: list[int]) -> None:
        other = Pool.objects.create(name="Another", created_by=alice)
        admin.post(reverse("letters_retry", args=[other.pk]), {"letter": failed[0]})
        admin.post(reverse("letters_retry", args=[other.pk]))
        assert due_letters() == []


@on_postgres
@pytest.mark.django_db(transaction=True)
def test_two_workers_and_two_clicks_send_one_letter(alice: User, pool: Pool) -> None:
    clicks: list[Callable[[], object]] = [lambda: write(alice, pool, "ann@example.org")] * 4
    at_once(*clicks)
    letter = InvitationLetter.objects.get()
    workers: list[Callable[[], object]] = [lambda: deliver_letter(letter.pk)] * 4
    assert sorted(map(bool, at_once(*workers))) == [False, False, False, True]
    assert len(mail.outbox) == 1
