"""Webhooks: a notice carried to another program, signed, tried again until it is taken or given up."""

import hashlib
import hmac
import json
from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import F
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import Campaign, User, Webhook, WebhookDelivery
from annotation.outbound import OutboundFailed, OutboundRefused, post, split
from annotation.services.audit import record_audit
from annotation.services.refusals import Refusal

ATTEMPTS = 8
FIRST_WAIT = timedelta(seconds=30)
"""Doubled after each attempt: half a minute, a minute, … half an hour; given up after an hour in all."""
TIMEOUT = 10.0
CLAIM = timedelta(seconds=60)
LOST = "The worker of the last attempt was lost, or ran out of time."


@transaction.atomic
def add_webhook(*, campaign: Campaign, user: User | None, url: str, kinds: list[str]) -> Webhook:
    """Raises Refusal for what is no address. Where it leads is checked at each delivery, since names move."""
    try:
        split(url)
    except OutboundRefused as error:
        raise Refusal(_("Give an address that begins with https://.")) from error
    webhook = Webhook.objects.create(campaign=campaign, url=url, kinds=kinds)
    record_audit(user=user, verb="add webhook", object=url, campaign=campaign, details={"kinds": kinds})
    return webhook


@transaction.atomic
def switch_webhook(*, webhook: Webhook, user: User | None, is_active: bool) -> None:
    """On or off; what waits for one that is off is given up at its next attempt. Twice is once."""
    if Webhook.objects.filter(pk=webhook.pk, is_active=not is_active).update(is_active=is_active):
        verb = "switch webhook on" if is_active else "switch webhook off"
        record_audit(user=user, verb=verb, object=webhook.url, campaign=webhook.campaign)


def sign(body: bytes, *, secret: str, at: int) -> str:
    """`t=SECONDS,v1=HEX`: HMAC-SHA256 of "SECONDS.BODY", so that an old message cannot be sent again as new."""
    digest = hmac.new(secret.encode(), f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    return f"t={at},v1={digest}"


def due_deliveries(*, now: datetime | None = None) -> list[int]:
    waiting = WebhookDelivery.objects.filter(
        state=WebhookDelivery.State.WAITING, next_attempt_at__lte=now or timezone.now()
    )
    return list(waiting.order_by("next_attempt_at").values_list("pk", flat=True)[:100])


def deliver(delivery_id: int) -> bool:
    """One attempt. Claimed by conditional UPDATE for a minute, so that two workers do not both send it.

    The same delivery may still arrive twice, where an answer is lost: its id is in the header for the receiver to know.
    Returns whether it was taken.
    """
    now = timezone.now()
    claimed = WebhookDelivery.objects.filter(
        pk=delivery_id, state=WebhookDelivery.State.WAITING, next_attempt_at__lte=now
    ).update(attempts=F("attempts") + 1, next_attempt_at=now + CLAIM)
    if not claimed:
        return False
    delivery = WebhookDelivery.objects.select_related("webhook").get(pk=delivery_id)
    if delivery.attempts > ATTEMPTS:
        return _finish(delivery, state=WebhookDelivery.State.GIVEN_UP, status=LOST)
    if not delivery.webhook.is_active:
        return _finish(delivery, state=WebhookDelivery.State.GIVEN_UP, status="The webhook was switched off.")
    body = json.dumps(delivery.body, ensure_ascii=False, sort_keys=True).encode()
    headers = {
        "Content-Type": "application/json",
        "X-Tutelage-Delivery": str(delivery.pk),
        "X-Tutelage-Kind": delivery.kind,
        "X-Tutelage-Signature": sign(body, secret=delivery.webhook.secret, at=int(now.timestamp())),
    }
    try:
        answer = post(delivery.webhook.url, body=body, headers=headers, timeout=TIMEOUT)
    except OutboundRefused as error:
        return _finish(delivery, state=WebhookDelivery.State.GIVEN_UP, status=str(error))
    except OutboundFailed as error:
        return _try_again(delivery, status=str(error))
    if 200 <= answer.status < 300:
        return _finish(delivery, state=WebhookDelivery.State.DELIVERED, status=str(answer.status))
    if 300 <= answer.status < 400:
        return _try_again(delivery, status=f"{answer.status}: redirects are not followed. Give the final address.")
    if answer.status == 410:
        return _finish(delivery, state=WebhookDelivery.State.GIVEN_UP, status="410: the receiver wants no more.")
    return _try_again(delivery, status=str(answer.status))


def _finish(delivery: WebhookDelivery, *, state: WebhookDelivery.State, status: str) -> bool:
    WebhookDelivery.objects.filter(pk=delivery.pk).update(state=state, last_status=status[:200])
    return state == WebhookDelivery.State.DELIVERED


def _try_again(delivery: WebhookDelivery, *, status: str) -> bool:
    if delivery.attempts >= ATTEMPTS:
        return _finish(delivery, state=WebhookDelivery.State.GIVEN_UP, status=status)
    wait = FIRST_WAIT * 2 ** (delivery.attempts - 1)
    WebhookDelivery.objects.filter(pk=delivery.pk).update(
        next_attempt_at=timezone.now() + wait, last_status=status[:200]
    )
    return False
