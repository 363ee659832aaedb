"""What people tell each other: messages, notices, the audit trail, and webhooks for other programs."""

import secrets

from django.conf import settings
from django.db import models
from django.utils import translation
from django.utils.translation import gettext_lazy as _

from annotation.models.campaigns import Campaign
from annotation.models.offers import Offer
from annotation.models.people import Teacher


class Message(models.Model):
    """A teacher's word to the admins, from any comparison, and the answer."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="messages")
    teacher = models.ForeignKey(Teacher, on_delete=models.CASCADE, related_name="messages")
    offer = models.ForeignKey(Offer, on_delete=models.SET_NULL, null=True, blank=True, related_name="messages")
    text = models.TextField()
    reply = models.TextField(blank=True)
    replied_by = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    replied_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]


class Notice(models.Model):
    """Something the campaign's staff should know: a run finished, the budget is near its end, a queue is dry."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="notices")
    kind = models.CharField(max_length=32)
    sentence = models.CharField(max_length=300)
    """In English, with places for the facts: whoever reads it has it in their own language."""
    facts = models.JSONField(default=dict, blank=True)
    key = models.CharField(max_length=120)
    """What makes the same notice come once."""
    created_at = models.DateTimeField(auto_now_add=True)
    read_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["-id"]
        constraints = [models.UniqueConstraint(fields=["campaign", "key"], name="notice_once")]

    @property
    def text(self) -> str:
        sentence = translation.gettext(self.sentence)
        return sentence % self.facts if self.facts else sentence


class AuditEntry(models.Model):
    """Who did what to what, for good; only somebody who withdrew is named no more."""

    campaign = models.ForeignKey(Campaign, on_delete=models.SET_NULL, null=True, related_name="audit")
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+")
    verb = models.CharField(max_length=64)
    object = models.CharField(max_length=200)
    details = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-id"]
        indexes = [models.Index(fields=["campaign", "-id"])]


def make_secret() -> str:
    return secrets.token_hex(32)


class Webhook(models.Model):
    """Where another program wants to be told. Bodies are signed with HMAC-SHA256 of the secret."""

    campaign = models.ForeignKey(Campaign, on_delete=models.CASCADE, related_name="webhooks")
    url = models.URLField()
    secret = models.CharField(max_length=64, default=make_secret)
    kinds = models.JSONField(default=list, blank=True)
    """Kinds of notice; empty means all."""
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)


class WebhookDelivery(models.Model):
    """One message to one webhook, tried until it is taken or given up."""

    class State(models.TextChoices):
        WAITING = "waiting", _("Waiting")
        DELIVERED = "delivered", _("Delivered")
        GIVEN_UP = "given_up", _("Given up")

    webhook = models.ForeignKey(Webhook, on_delete=models.CASCADE, related_name="deliveries")
    kind = models.CharField(max_length=32)
    body = models.JSONField()
    state = models.CharField(max_length=16, choices=State, default=State.WAITING)
    attempts = models.PositiveSmallIntegerField(default=0)
    next_attempt_at = models.DateTimeField()
    last_status = models.CharField(max_length=200, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        indexes = [
            models.Index(fields=["next_attempt_at"], condition=models.Q(state="waiting"), name="webhook_delivery_due")
        ]
