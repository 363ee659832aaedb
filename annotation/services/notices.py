"""Notices to a campaign's staff, and the words between teachers and admins."""

from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext as _
from django.utils.translation import gettext_noop

from annotation.models import Campaign, Message, Notice, Offer, Teacher, User, Webhook, WebhookDelivery
from annotation.services.audit import record_audit
from annotation.services.refusals import NotAllowed, Refusal

NEAR = 0.9
"""Share of the budget or of the label target at which the staff is told."""
LONGEST_MESSAGE = 4000
"""Characters of a message or a reply; forms refuse more."""


@transaction.atomic
def post_notice(
    *, campaign: Campaign, kind: str, sentence: str, key: str, facts: dict[str, Any] | None = None
) -> Notice | None:
    """Tell the staff, and every webhook that listens to the kind. None where the key was told before.

    sentence  marked by `gettext_noop`, with a place %(name)s for each of the facts that it tells
    """
    notice, is_new = Notice.objects.get_or_create(
        campaign=campaign, key=key[:120], defaults={"kind": kind, "sentence": sentence, "facts": facts or {}}
    )
    if not is_new:
        return None
    body = {
        "kind": kind,
        "campaign": str(campaign.code),
        "campaign_name": campaign.name,
        "text": notice.text,
        "at": notice.created_at.isoformat(),
        "facts": facts or {},
    }
    now = timezone.now()
    WebhookDelivery.objects.bulk_create(
        WebhookDelivery(webhook=webhook, kind=kind, body=body, next_attempt_at=now)
        for webhook in Webhook.objects.filter(campaign=campaign, is_active=True)
        if not webhook.kinds or kind in webhook.kinds
    )
    return notice


def read_notices(*, campaign: Campaign) -> int:
    return Notice.objects.filter(campaign=campaign, read_at__isnull=True).update(read_at=timezone.now())


def forget_notice(*, campaign: Campaign, key: str) -> None:
    """Let the same notice come again: what it told of is over."""
    Notice.objects.filter(campaign=campaign, key=key).delete()


def watch_campaign(campaign: Campaign) -> None:
    """Notices about money, target and queue: once for each budget and target, and once until a dry queue fills.

    The limit is part of the key, not how near it is: promises come and go, and would tell the same again all day.
    """
    is_near_budget = bool(campaign.budget) and campaign.spent + campaign.reserved >= float(campaign.budget or 0) * NEAR
    _tell(
        is_near_budget,
        campaign=campaign,
        kind="budget_near",
        key=f"budget_near {campaign.budget:.4f}" if campaign.budget else "",
        sentence=gettext_noop("%(spent)s of the budget of %(budget)s is spent or promised."),
        facts={"spent": str(campaign.spent + campaign.reserved), "budget": f"{campaign.budget} {campaign.currency}"},
    )
    is_near_target = bool(campaign.label_target) and campaign.label_count >= (campaign.label_target or 0) * NEAR
    _tell(
        is_near_target,
        campaign=campaign,
        kind="target_near",
        key=f"target_near {campaign.label_target}",
        sentence=gettext_noop("%(count)s of %(target)s labels are there."),
        facts={"count": campaign.label_count, "target": campaign.label_target},
    )
    has_queue = Offer.objects.filter(campaign=campaign, state__in=Offer.LIVE).exists()
    _tell(
        campaign.is_open and campaign.label_count > 0 and not has_queue,
        campaign=campaign,
        kind="queue_dry",
        key="queue_dry",
        sentence=gettext_noop(
            "No offers wait for anybody: the pool is exhausted, the budget is spent, or nobody is present."
        ),
    )


def _tell(
    is_so: bool, *, campaign: Campaign, kind: str, key: str, sentence: str, facts: dict[str, Any] | None = None
) -> None:
    if is_so:
        post_notice(campaign=campaign, kind=kind, sentence=sentence, key=key, facts=facts)
    elif kind == "queue_dry":
        forget_notice(campaign=campaign, key=key)


# Messages -------------------------------------------------------------------------------------------------------------


def send_message(*, campaign: Campaign, teacher: Teacher, text: str, offer: Offer | None = None) -> Message:
    """A teacher's word to the admins, from the comparison in front of them."""
    if not text.strip():
        raise Refusal(_("Write something before you send the message."))
    if offer is not None and (offer.teacher_id, offer.campaign_id) != (teacher.pk, campaign.pk):
        raise NotAllowed
    return Message.objects.create(campaign=campaign, teacher=teacher, offer=offer, text=text.strip()[:LONGEST_MESSAGE])


@transaction.atomic
def reply_to_message(*, message: Message, user: User, text: str) -> Message:
    """An admin's answer. One that came before is replaced, and the audit trail keeps both."""
    if not text.strip():
        raise Refusal(_("Write something before you send the reply."))
    message.reply, message.replied_by, message.replied_at = text.strip()[:LONGEST_MESSAGE], user, timezone.now()
    message.save(update_fields=["reply", "replied_by", "replied_at"])
    record_audit(
        user=user,
        verb="reply to message",
        object=f"message {message.pk}",
        campaign=message.campaign,
        details={"reply": message.reply},
    )
    return message
