"""Notices, and how other programs hear of them."""

import hashlib
import hmac
import json
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from datetime import timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.utils import timezone

from annotation.models import AuditEntry, Campaign, Message, Notice, Offer, Teacher, User, Webhook, WebhookDelivery
from annotation.outbound import OutboundFailed, OutboundRefused, is_public, post
from annotation.services.notices import post_notice, reply_to_message, send_message, watch_campaign
from annotation.services.refusals import NotAllowed, Refusal
from annotation.services.webhooks import ATTEMPTS, add_webhook, deliver, due_deliveries
from tests.servers import Answering, listen

pytestmark = pytest.mark.django_db


class Receiver:
    """A real server on this machine that answers as told and remembers what it was sent."""

    def __init__(self) -> None:
        self.status = 200
        self.location = ""
        self.received: list[tuple[dict[str, str], bytes]] = []
        self.paths: list[str] = []
        receiver = self

        class Handler(Answering):
            def do_POST(self) -> None:
                body = self.read_body()
                receiver.paths.append(self.path)
                receiver.received.append(({name.lower(): value for name, value in self.headers.items()}, body))
                self.answer(receiver.status, **({"Location": receiver.location} if receiver.location else {}))

        self.server, self.host = listen(Handler)
        self.url = f"http://{self.host}/hook?a=b"


@pytest.fixture
def receiver(settings: Any) -> Iterator[Receiver]:
    receiver = Receiver()
    settings.OUTBOUND_PRIVATE_HOSTS = [receiver.host]
    yield receiver
    receiver.server.shutdown()


@pytest.fixture
def webhook(alice: User, campaign: Campaign, receiver: Receiver) -> Webhook:
    return add_webhook(campaign=campaign, user=alice, url=receiver.url, kinds=[])


def try_now(delivery: WebhookDelivery) -> bool:
    WebhookDelivery.objects.filter(pk=delivery.pk).update(next_attempt_at=timezone.now())
    return deliver(delivery.pk)


class TestWebhooks:
    def test_a_notice_arrives_signed(self, campaign: Campaign, webhook: Webhook, receiver: Receiver) -> None:
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7", facts={"run": 7})
        assert [deliver(delivery) for delivery in due_deliveries()] == [True]
        headers, body = receiver.received[0]
        at, signature = (part.split("=")[1] for part in headers["x-tutelage-signature"].split(","))
        expected = hmac.new(webhook.secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
        assert hmac.compare_digest(signature, expected)
        assert json.loads(body)["facts"] == {"run": 7}
        assert due_deliveries() == []

    def test_the_same_notice_is_told_once(self, campaign: Campaign, webhook: Webhook) -> None:
        for _again in range(2):
            post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        assert (Notice.objects.count(), WebhookDelivery.objects.count()) == (1, 1)

    def test_a_webhook_hears_its_kinds_only(self, alice: User, campaign: Campaign, receiver: Receiver) -> None:
        add_webhook(campaign=campaign, user=alice, url=receiver.url, kinds=["budget_near"])
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        assert not WebhookDelivery.objects.exists()

    def test_it_is_tried_again_later_and_later_and_then_given_up(
        self, campaign: Campaign, webhook: Webhook, receiver: Receiver
    ) -> None:
        receiver.status = 503
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        delivery = WebhookDelivery.objects.get()
        waits = []
        for _attempt in range(ATTEMPTS):
            assert not try_now(delivery)
            delivery.refresh_from_db()
            waits.append(delivery.next_attempt_at - timezone.now())
        assert all(later > 1.9 * sooner for sooner, later in pairwise(waits[:-1]))
        assert (delivery.state, delivery.last_status) == (WebhookDelivery.State.GIVEN_UP, "503")
        assert len(receiver.received) == ATTEMPTS

    def test_it_recovers(self, campaign: Campaign, webhook: Webhook, receiver: Receiver) -> None:
        receiver.status = 500
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        delivery = WebhookDelivery.objects.get()
        assert not try_now(delivery)
        assert not deliver(delivery.pk)  # not due yet
        receiver.status = 204
        assert try_now(delivery)

    def test_a_redirect_is_not_followed(self, campaign: Campaign, webhook: Webhook, receiver: Receiver) -> None:
        inside = Receiver()
        receiver.status, receiver.location = 307, inside.url
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        assert not try_now(WebhookDelivery.objects.get())
        inside.server.shutdown()
        assert inside.received == []
        assert "redirects are not followed" in WebhookDelivery.objects.get().last_status

    def test_an_address_inside_the_network_is_refused(
        self, campaign: Campaign, webhook: Webhook, settings: Any
    ) -> None:
        settings.OUTBOUND_PRIVATE_HOSTS = []
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        assert not try_now(WebhookDelivery.objects.get())
        assert WebhookDelivery.objects.get().state == WebhookDelivery.State.GIVEN_UP

    @pytest.mark.parametrize(
        "url",
        [
            "ftp://example.org/",
            "https://user@example.org/",
            "file:///etc/passwd",
            "example.org",
            "http://example.org/",
            "https://[::1/",
            "https://a..b/",
            "https://example.org:0x50/",
            "https://:443/",
        ],
    )
    def test_it_takes_web_addresses_only(self, alice: User, campaign: Campaign, url: str) -> None:
        with pytest.raises(Refusal):
            add_webhook(campaign=campaign, user=alice, url=url, kinds=[])

    def test_an_address_that_cannot_be_sent_to_is_given_up_in_the_end(
        self, campaign: Campaign, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_args: Any, **_named: Any) -> None:
            raise UnicodeEncodeError("latin-1", "例え", 0, 2, "ordinal not in range(256)")

        monkeypatch.setattr("annotation.outbound.HTTPConnection.request", fail)
        post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
        delivery = WebhookDelivery.objects.get()
        for _attempt in range(ATTEMPTS):
            assert not try_now(delivery)
        delivery.refresh_from_db()
        assert delivery.state == WebhookDelivery.State.GIVEN_UP
        assert "UnicodeEncodeError" in delivery.last_status


class TestOutbound:
    def test_a_name_in_any_script_is_asked_as_the_network_writes_it(
        self, receiver: Receiver, settings: Any, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        port = receiver.server.server_port
        settings.OUTBOUND_PRIVATE_HOSTS = [f"xn--r8jz45g.jp:{port}"]
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]
        monkeypatch.setattr("annotation.outbound.socket.getaddrinfo", lambda *_args, **_named: found)
        assert post(f"http://例え.jp:{port}/", body=b"", headers={}, timeout=5).status == 200
        assert receiver.received[0][0]["host"] == f"xn--r8jz45g.jp:{port}"

    def test_a_query_without_a_path_arrives(self, receiver: Receiver) -> None:
        assert post(f"http://{receiver.host}?x=1", body=b"", headers={}, timeout=5).status == 200
        assert receiver.paths == ["/?x=1"]

    @pytest.mark.parametrize(
        "address",
        ["127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
         "::1", "fe80::1", "fc00::1", "::ffff:127.0.0.1", "64:ff9b::7f00:1", "2002:7f00:1::", "::ffff:169.254.169.254",
         "fec0::1", "::ffff:0:8.8.8.8", "::ffff:0:127.0.0.1", "64:ff9b:1::a00:1", "::8.8.8.8"],
    )  # fmt: skip
    def test_these_are_inside(self, address: str) -> None:
        assert not is_public(address)

    @pytest.mark.parametrize("address", ["93.184.216.34", "2606:4700::1111", "::ffff:93.184.216.34"])
    def test_these_are_outside(self, address: str) -> None:
        assert is_public(address)

    def test_one_inside_address_of_a_name_is_enough_to_refuse(self, monkeypatch: pytest.MonkeyPatch) -> None:
        def two_addresses(host: str, port: int, **_options: Any) -> list[Any]:
            return [(2, 1, 6, "", ("93.184.216.34", port)), (2, 1, 6, "", ("10.0.0.1", port))]

        monkeypatch.setattr("socket.getaddrinfo", two_addresses)
        with pytest.raises(OutboundRefused):
            post("https://example.org/", body=b"", headers={}, timeout=1)

    @pytest.mark.parametrize("url", ["http://localhost:1/", "http://127.0.0.1/", "http://[::1]/", "http://0x7f000001/"])
    def test_other_spellings_of_this_machine_are_refused(self, url: str) -> None:
        with pytest.raises((OutboundRefused, OutboundFailed)):
            post(url, body=b"", headers={}, timeout=1)

    def test_the_host_and_the_query_go_along(self, receiver: Receiver) -> None:
        assert post(receiver.url, body=b"{}", headers={}, timeout=5).status == 200
        assert receiver.received[0][0]["host"] == receiver.host


class Dripping:
    """A server that begins to speak and then says one byte now and then, for half a minute or until it is cut off."""

    MOST = 600

    def __init__(self, *, first: bytes) -> None:
        self.first, self.sent = first, 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.host = f"127.0.0.1:{self.listener.getsockname()[1]}"
        self.thread = threading.Thread(target=self.drip, daemon=True)
        self.thread.start()

    def drip(self) -> None:
        taken, _address = self.listener.accept()
        with self.listener, taken, suppress(OSError):
            taken.recv(65536)
            taken.sendall(self.first)
            while self.sent < self.MOST:
                taken.sendall(b"0")
                self.sent += 1
                time.sleep(0.05)


@pytest.mark.parametrize(
    ("scheme", "first"),
    [
        ("http", b"HTTP/1.1 200 OK\r\nX: "),
        ("http", b"HTTP/1.1 200 OK\r\nContent-Length: 600\r\n\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("https", b"\x16\x03\x03\x20\x00"),
    ],
    ids=["head", "body", "endless body", "handshake"],
)
def test_a_server_that_drips_is_cut_off(scheme: str, first: bytes, settings: Any) -> None:
    server = Dripping(first=first)
    settings.OUTBOUND_PRIVATE_HOSTS = [server.host]
    with pytest.raises(OutboundFailed, match="too slow"):
        post(f"{scheme}://{server.host}/", body=b"{}", headers={}, timeout=0.5)
    server.thread.join()
    assert server.sent < Dripping.MOST


class TestNotices:
    def test_the_staff_is_told_once_that_the_budget_is_near_its_end(self, campaign: Campaign) -> None:
        Campaign.objects.update(budget=10, spent=Decimal("8.9"))
        campaign.refresh_from_db()
        watch_campaign(campaign)
        assert not Notice.objects.exists()
        campaign.reserved = Decimal("0.1")
        for _again in range(2):
            watch_campaign(campaign)
        assert [notice.kind for notice in Notice.objects.all()] == ["budget_near"]

    def test_a_raised_limit_is_told_of_when_it_is_near_too(self, campaign: Campaign) -> None:
        told = []
        for budget, spent, target, labels in [
            (10, 9, 100, 90), (100, 9, 1000, 90), (100, 89, 1000, 899), (100, 91, 1000, 900), (100, 99, 1000, 999),
        ]:  # fmt: skip
            campaign.budget, campaign.spent = Decimal(budget), Decimal(spent)
            campaign.label_target, campaign.label_count = target, labels
            watch_campaign(campaign)
            told.append(Notice.objects.exclude(kind="queue_dry").count())
        assert told == [2, 2, 2, 4, 4]

    def test_promises_that_come_and_go_tell_nothing_anew(self, campaign: Campaign) -> None:
        campaign.budget = Decimal(10)
        for reserved in ("9", "8", "9", "8", "9"):
            campaign.reserved = Decimal(reserved)
            watch_campaign(campaign)
        assert Notice.objects.count() == 1

    def test_a_dry_queue_is_told_again_after_it_was_full(self, campaign: Campaign, queued: list[Offer]) -> None:
        campaign.label_count = 1
        watch_campaign(campaign)
        assert not Notice.objects.exists()
        Offer.objects.update(state="withdrawn")
        watch_campaign(campaign)
        first = Notice.objects.get(kind="queue_dry")
        Offer.objects.update(state="queued")
        watch_campaign(campaign)
        Offer.objects.update(state="withdrawn")
        watch_campaign(campaign)
        assert Notice.objects.get(kind="queue_dry") != first


class TestMessages:
    def test_a_teacher_writes_and_an_admin_replies(
        self, alice: User, campaign: Campaign, teacher: Teacher, queued: list[Offer]
    ) -> None:
        message = send_message(campaign=campaign, teacher=teacher, text=" Both are the same. ", offer=queued[0])
        reply_to_message(message=message, user=alice, text="Then choose a tie.")
        stored = Message.objects.get()
        assert (stored.text, stored.reply, stored.replied_by) == ("Both are the same.", "Then choose a tie.", alice)
        assert AuditEntry.objects.filter(verb="reply to message").exists()

    def test_not_empty_and_not_about_somebody_elses_offer(
        self, campaign: Campaign, dora: Teacher, queued: list[Offer]
    ) -> None:
        with pytest.raises(Refusal):
            send_message(campaign=campaign, teacher=dora, text="  ")
        with pytest.raises(NotAllowed):
            send_message(campaign=campaign, teacher=dora, text="What is this?", offer=queued[0])


def test_a_delivery_whose_workers_are_lost_each_time_is_given_up(
    campaign: Campaign, webhook: Webhook, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def lose_the_worker(url: str, **_named: Any) -> None:
        asked.append(url)
        raise SoftTimeLimitExceeded

    monkeypatch.setattr("annotation.services.webhooks.post", lose_the_worker)
    post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
    delivery = WebhookDelivery.objects.get()
    for _attempt in range(ATTEMPTS + 2):
        with suppress(SoftTimeLimitExceeded):
            try_now(delivery)
    delivery.refresh_from_db()
    assert (delivery.state, len(asked)) == (WebhookDelivery.State.GIVEN_UP, ATTEMPTS)
    assert "worker" in delivery.last_status


def test_old_deliveries_of_a_switched_off_webhook_are_given_up(
    campaign: Campaign, webhook: Webhook, receiver: Receiver
) -> None:
    post_notice(campaign=campaign, kind="run_finished", sentence="Run 7 is done.", key="run-7")
    Webhook.objects.update(is_active=False)
    assert due_deliveries(now=timezone.now() + timedelta(seconds=1))
    assert not try_now(WebhookDelivery.objects.get())
    assert WebhookDelivery.objects.get().state == WebhookDelivery.State.GIVEN_UP
    assert receiver.received == []
